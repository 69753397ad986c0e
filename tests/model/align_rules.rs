//! Rules of the alignment that have no case of that name elsewhere: aborts, announcements, failed cuts, sources, bounds.

use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::protocol::align::CancelReason::{
    self, AbortedByCoordinator, CancelledUpstream, CutFailed, Subsumed,
};
use alluvium_actors::protocol::align::{Aligner, Channel, Effect, Event, REMEMBERED_IDS};
use alluvium_actors::protocol::coordinator::DeclineReason;
use alluvium_actors::protocol::machine::Machine;

use crate::align_notation::{Gate, run};

#[test]
fn an_abort_notice_unblocks_the_pending_checkpoint_at_once() {
    // SubtaskCheckpointCoordinatorTest.testBroadcastCancelCheckpointMarkerOnAbortingFromCoordinator.
    let gate = run(3, "B1@0 D@0 B1@1 [0,1] N1 []");
    assert_eq!((gate.out(), gate.cancelled), ("X1 D0".to_owned(), vec![(1, AbortedByCoordinator)]));
}

#[test]
fn a_late_barrier_of_an_aborted_checkpoint_is_ignored() {
    let gate = run(2, "B1@0 N1 B1@1 [] B2@0 B2@1 []");
    assert_eq!((gate.aborted(), gate.triggered), (vec![1], vec![2]));
}

#[test]
fn barriers_of_a_checkpoint_that_was_aborted_before_them_do_not_block() {
    // SubtaskCheckpointCoordinatorTest.testNotifyCheckpointAbortedBeforeAsyncPhase: skipped, cancelled once, forgotten.
    let gate = run(2, "N1 N1 B1@0 [] D@0 B1@1 [] B2@0 B2@1");
    assert_eq!((gate.out(), gate.cancelled), ("X1 D0 B2".to_owned(), vec![(1, AbortedByCoordinator)]));
}

#[test]
fn the_abort_of_a_newer_checkpoint_leaves_the_older_ones_alive() {
    let gate = run(2, "N2 B1@0 [0] N3 B1@1 [] B2@1 [] B2@0 B3@0 [] B3@1");
    assert_eq!((gate.out(), gate.triggered), ("B1 X2 X3".to_owned(), vec![1]));
}

#[test]
fn an_abort_notice_of_a_resolved_checkpoint_does_nothing() {
    let gate = run(2, "B1@0 B1@1 B2@0 X2@1 B3@0 N1 N2 [0] B3@1");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 3], vec![(2, CancelledUpstream)]));
}

#[test]
fn a_cancel_marker_of_an_aborted_checkpoint_is_not_declined_again() {
    let gate = run(2, "N1 X1@0 X1@1");
    assert_eq!(gate.cancelled, [(1, AbortedByCoordinator)]);
}

#[test]
fn a_barrier_of_an_aborted_checkpoint_still_subsumes_an_older_one() {
    // Channel 1 is past 1: its barrier will not come any more.
    let gate = run(2, "B1@0 N2 [0] B2@1 [] D@0");
    assert_eq!((gate.out(), gate.cancelled), ("X1 X2 D0".to_owned(), vec![(1, Subsumed), (2, AbortedByCoordinator)]));
}

#[test]
fn checkpoints_that_were_only_announced_are_declined_when_a_newer_one_passes_them() {
    let gate = run(2, "A1 A2 N3 B4@0 [0] B4@1");
    assert_eq!(gate.cancelled, [(1, Subsumed), (2, Subsumed), (3, AbortedByCoordinator)]);
    assert_eq!(gate.out(), "X1 X2 X3 B4");
}

#[test]
fn an_announcement_neither_blocks_nor_subsumes() {
    let gate = run(2, "A1 [] B1@0 [0] A2 [0] A1 [0] B1@1 [] A1 B2@0 B2@1");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 2], vec![]));
}

#[test]
fn the_message_and_the_marker_of_a_barrier_are_one_event_whichever_is_first() {
    let milliseconds = Duration::from_millis;
    let first = run(2, "t1 +2 A1 +3 B1@0 +4 B1@1").timings[0];
    assert_eq!(
        (first.notice_delay, first.start_delay, first.alignment),
        (milliseconds(2), milliseconds(5), milliseconds(4))
    );
    let second = run(2, "t1 +5 B1@0 +1 A1 +3 B1@1 A1").timings[0];
    assert_eq!(
        (second.notice_delay, second.start_delay, second.alignment),
        (milliseconds(5), milliseconds(5), milliseconds(4))
    );
}

#[test]
fn a_failed_cut_sends_the_cancel_marker_instead_of_the_barrier() {
    let gate = run(2, "R1 B1@0 D@0 B1@1 [] B1@1 B2@0 B2@1");
    assert_eq!((gate.out(), gate.cancelled), ("X1 D0 B2".to_owned(), vec![(1, CutFailed)]));
}

#[test]
fn the_report_of_a_failed_cut_counts_once_and_only_for_the_last_cut() {
    let mut gate = run(2, "B1@0 B1@1");
    for id in [1, 1, 7] {
        gate.handle(Event::CutFailed { checkpoint: CheckpointId(id) });
    }
    assert_eq!(gate.cancelled, [(1, CutFailed)]);
    gate.play("B2@0 B2@1 B3@0 B3@1");
    gate.handle(Event::CutFailed { checkpoint: CheckpointId(2) });
    assert_eq!(gate.out(), "B1 X1 B2 B3");
}

#[test]
fn only_what_the_coordinator_does_not_know_is_declined() {
    let reasons = [Subsumed, CancelledUpstream, AbortedByCoordinator, CutFailed];
    let declined = [Some(DeclineReason::Subsumed), Some(DeclineReason::CancelledUpstream), None, None];
    assert_eq!(reasons.map(CancelReason::decline), declined);
}

#[test]
fn a_source_cuts_when_it_is_triggered() {
    let gate = run(0, "M1 M1 M3 M2 N3 N5 M4 M5 M6");
    assert_eq!((gate.out(), gate.triggered), ("B1 B3 B4 X5 B6".to_owned(), vec![1, 3, 4, 6]));
}

#[test]
fn several_triggers_that_waited_for_the_last_end_are_cut_in_order() {
    let gate = run(2, "M2 M1 M3 M4 N2 N4 E@1 D@0 E@0");
    assert_eq!((gate.out(), gate.triggered), ("D0 B1 X2 B3 X4".to_owned(), vec![1, 3]));
}

#[test]
fn a_repeated_marker_counts_once() {
    // A blocked channel is not read, so this cannot come through a gate; the machine is total all the same.
    let mut aligner = Aligner::new(3);
    let marker = |channel, checkpoint| Event::Marker {
        channel: Channel(channel),
        checkpoint: CheckpointId(checkpoint),
        triggered: Moment(0),
    };
    let mut handle = |event| {
        let mut effects = Vec::new();
        aligner.handle(Moment(0), event, &mut effects);
        aligner.check().expect("every invariant holds");
        effects
    };
    assert_eq!(handle(marker(0, 1)), [Effect::Block(Channel(0))]);
    assert_eq!(handle(marker(0, 1)), []);
    assert_eq!(handle(marker(1, 1)), [Effect::Block(Channel(1))]);
    assert_eq!(handle(Event::ChannelEnded { channel: Channel(1) }), [Effect::Unblock(Channel(1))]);
    assert_eq!(handle(Event::ChannelEnded { channel: Channel(1) }), []);
    assert_eq!(handle(marker(1, 1)), []);
    assert_eq!(handle(marker(2, 1)).len(), 2, "the cut, and channel 0 goes on");
}

#[test]
fn remembered_ids_stay_bounded() {
    // SubtaskCheckpointCoordinatorTest.testNotifyCheckpointAbortedManyTimes.
    let mut gate = run(2, "");
    let many = 10 * REMEMBERED_IDS as u64;
    for id in (1..=many).map(CheckpointId) {
        gate.handle(Event::AbortNotice { checkpoint: id });
        gate.handle(Event::Announcement { checkpoint: id });
        gate.handle(Event::Trigger { checkpoint: id, triggered: Moment(0) });
    }
    // `check` saw the bound after each event. The newest are still known.
    gate.play(&format!("B{many}@0 [] B{many}@1 []"));
    assert_eq!(gate.cancelled.len(), REMEMBERED_IDS);
    assert!(gate.cancelled.iter().all(|&(_, reason)| reason == AbortedByCoordinator));
}

#[test]
fn without_blocking_the_records_behind_a_barrier_slip_into_the_cut() {
    let events = "D@0 B1@0 D@0 D@1 B1@1";
    assert_eq!(run(2, events).out(), "D0 D2 B1 D1");
    let mut gate = Gate::new(Aligner::without_blocking(2), 2);
    gate.play(events);
    assert_eq!(gate.out(), "D0 D1 D2 B1");
}
