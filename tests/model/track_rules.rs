//! Rules of tracked barriers (at least once) that have no case of that name elsewhere: the order of resolutions, bounds, messages, sources.

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::protocol::align::CancelReason::{AbortedByCoordinator, CancelledUpstream, CutFailed, Subsumed};
use alluvium_actors::protocol::align::{Event, REMEMBERED_IDS, TRACKED_CHECKPOINTS};

use crate::align_notation::track;

#[test]
fn what_is_given_up_waits_for_the_older_ones_so_that_resolutions_ascend() {
    // The consumer behind this subtask takes a cancel marker of 2 for the word that 1 does not come.
    let mut gate = track(2, "B1@0 B2@0 N2 X3@0");
    assert_eq!((gate.out(), gate.pending()), (String::new(), vec![1]));
    gate.play("B1@1");
    assert_eq!(gate.out(), "B1 X2 X3");
    assert_eq!(gate.cancelled, [(2, AbortedByCoordinator), (3, CancelledUpstream)]);
}

#[test]
fn a_channel_that_passes_a_checkpoint_ends_it_at_once() {
    // Nobody has to wait for the timeout to hear that 1 cannot be complete.
    let gate = track(3, "B1@0 D@2 B2@1");
    assert_eq!((gate.out(), gate.pending()), ("D0 X1".to_owned(), vec![2]));
    assert_eq!(gate.cancelled, [(1, Subsumed)]);
}

#[test]
fn a_barrier_that_another_channel_has_passed_is_given_up_where_it_comes() {
    let mut gate = track(2, "B5@0 B3@1 D@1");
    assert_eq!((gate.out(), gate.pending()), ("X3 D0".to_owned(), vec![5]));
    gate.play("B5@1");
    assert_eq!((gate.triggered, gate.cancelled), (vec![5], vec![(3, Subsumed)]));
}

#[test]
fn a_late_barrier_of_a_resolved_checkpoint_is_ignored() {
    let gate = track(2, "B1@0 N1 B1@1 X1@1 B2@0 B2@1 B2@1 E@0 B2@1");
    assert_eq!((gate.out(), gate.pending()), ("X1 B2".to_owned(), vec![]));
}

#[test]
fn an_abort_that_runs_ahead_of_the_barriers_is_remembered_for_its_id_alone() {
    let gate = track(2, "N2 N2 B1@0 B1@1 B2@0 B2@1 B3@0 B3@1");
    assert_eq!((gate.out(), gate.cancelled), ("B1 X2 B3".to_owned(), vec![(2, AbortedByCoordinator)]));
}

#[test]
fn a_cancel_marker_of_an_aborted_checkpoint_is_not_declined_again() {
    let gate = track(2, "N1 X1@0 X1@1 B2@0 N2 X2@1");
    assert_eq!(gate.cancelled, [(1, AbortedByCoordinator), (2, AbortedByCoordinator)]);
}

#[test]
fn the_end_of_the_last_channel_resolves_everything() {
    let gate = track(2, "B1@0 B2@0 B3@0 N3 E@0 M4 E@1 M5 N6 M6");
    assert_eq!((gate.out(), gate.pending()), ("X1 B2 X3 B4 B5 X6".to_owned(), vec![]));
}

#[test]
fn an_announcement_opens_nothing_and_says_when_the_checkpoint_was_first_heard_of() {
    let mut gate = track(2, "t1 +2 A1 A1");
    assert_eq!(gate.pending(), []);
    gate.play("+3 B1@0 A1 +4 B1@1 A1");
    let timing = gate.timings[0];
    assert_eq!([timing.notice_delay, timing.start_delay, timing.alignment].map(|time| time.as_millis()), [2, 5, 4]);
    // Announced, and passed by: nobody waits for it.
    gate.play("A2 B3@0 A2 B3@1");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 3], vec![(2, Subsumed)]));
}

#[test]
fn a_failed_cut_sends_the_cancel_marker_instead_of_the_barrier() {
    let mut gate = track(2, "R1 B1@0 D@0 B1@1 B1@1 B2@0 B2@1");
    assert_eq!((gate.out(), &gate.cancelled[..]), ("D0 X1 B2".to_owned(), &[(1, CutFailed)][..]));
    gate.handle(Event::CutFailed { checkpoint: CheckpointId(1) });
    assert_eq!(gate.cancelled.len(), 1, "it counts once");
}

#[test]
fn a_source_cuts_when_it_is_triggered() {
    let gate = track(0, "M1 M1 M3 M2 N3 N5 M4 M5 M6");
    assert_eq!((gate.out(), gate.triggered), ("B1 B3 B4 X5 B6".to_owned(), vec![1, 3, 4, 6]));
}

#[test]
fn a_trigger_by_message_waits_for_what_the_open_channels_still_hold() {
    let gate = track(2, "E@0 M1 D@1 M2 B1@1 E@1");
    assert_eq!((gate.out(), gate.triggered), ("D0 B1 B2".to_owned(), vec![1, 2]));
}

#[test]
fn the_checkpoints_under_way_stay_bounded() {
    let mut gate = track(2, "");
    let many = 4 * TRACKED_CHECKPOINTS as u64;
    for id in 1..=many {
        gate.play(&format!("B{id}@0 D@0"));
    }
    assert_eq!(gate.pending().len(), TRACKED_CHECKPOINTS);
    assert_eq!(gate.cancelled.len(), 3 * TRACKED_CHECKPOINTS);
    // The newest are still alive.
    gate.play(&format!("B{many}@1"));
    assert_eq!((&gate.triggered[..], gate.pending()), (&[many][..], vec![]));
}

#[test]
fn remembered_ids_stay_bounded() {
    let mut gate = track(2, "");
    let many = 10 * REMEMBERED_IDS as u64;
    for id in (1..=many).map(CheckpointId) {
        gate.handle(Event::AbortNotice { checkpoint: id });
        gate.handle(Event::Announcement { checkpoint: id });
        gate.handle(Event::Trigger { checkpoint: id, triggered: Moment(0) });
    }
    gate.play(&format!("B{many}@0 B{many}@1"));
    assert_eq!(gate.cancelled.len(), REMEMBERED_IDS);
    assert!(gate.cancelled.iter().all(|&(_, reason)| reason == AbortedByCoordinator));
}
