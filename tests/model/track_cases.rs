//! The cases of Apache Flink's own tests for tracked barriers (at least once), as event sequences; `docs/conformance.md` maps the names.
//!
//! No channel is ever blocked: the notation fails a case in which one is.

use std::time::Duration;

use alluvium_actors::protocol::align::CancelReason::{AbortedByCoordinator, CancelledUpstream, Subsumed};
use alluvium_actors::protocol::align::Timing;

use crate::align_notation::track;

const NONE: [u64; 0] = [];

fn milliseconds(notice_delay: u64, start_delay: u64, alignment: u64) -> Timing {
    Timing {
        notice_delay: Duration::from_millis(notice_delay),
        start_delay: Duration::from_millis(start_delay),
        alignment: Duration::from_millis(alignment),
    }
}

#[test]
fn single_channel_with_barriers() {
    let gate = track(1, "D@0 D@0 B1@0 D@0 B2@0 B3@0 B4@0 D@0 B5@0 D@0 E@0");
    assert_eq!(gate.out(), "D0 D1 B1 D2 B2 B3 B4 D3 B5 D4");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 2, 3, 4, 5], vec![]));
}

#[test]
fn single_channel_with_skipped_barriers() {
    let gate = track(1, "D@0 B1@0 D@0 B3@0 D@0 B4@0 B6@0 B7@0 D@0 B10@0 D@0");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 3, 4, 6, 7, 10], vec![]));
}

#[test]
fn multi_channel_with_barriers() {
    let mut gate = track(3, "D@0 D@2 D@0 B1@1 B1@2 D@2 D@1 [] B1@0");
    // The records 3 and 4 came behind a barrier and are in the cut all the same.
    assert_eq!(gate.out(), "D0 D1 D2 D3 D4 B1");
    gate.play("D@0 D@1 B2@0 D@0 B2@1 B2@2 D@2 B3@2 D@2 D@2 B3@0 B3@1 D@0 E@0 E@1 E@2 []");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 2, 3], vec![]));
}

#[test]
fn multi_channel_skipping_checkpoints() {
    let mut gate = track(3, "B1@1 B1@2 D@2 B1@0 D@0 B2@1 B2@2 D@1 B2@0 D@2");
    gate.play("B3@2 D@1 D@2 B4@0 D@0 B4@1 D@2 B4@2 D@0");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 2, 4], vec![(3, Subsumed)]));
}

#[test]
fn complete_checkpoints_on_late_barriers() {
    let mut gate = track(3, "D@1 D@0 B2@1 D@1 B2@0 B2@2 D@0");
    gate.play("B3@1 B3@2 D@1 B4@2 D@2 B4@1");
    assert_eq!(gate.pending(), [3, 4]);
    // The last barrier of 3 comes late, and completes it; 4 goes on.
    gate.play("D@0 B3@0 D@0");
    assert_eq!((&gate.triggered[..], gate.pending()), (&[2, 3][..], vec![4]));
    gate.play("D@2 B4@0 D@1");
    // 5 is complete in the middle of 6, and 6 never: a channel goes on to 7 without it.
    gate.play("B5@1 B6@1 B5@0 B5@2 D@0 B6@0 B7@2 B7@1 D@1 B7@0");
    assert_eq!(gate.triggered, [2, 3, 4, 5, 7]);
    gate.play("B8@0 B9@0 B10@0 D@0 B8@2 B8@1 B9@1 B10@1 D@1 B9@2 D@2 B10@2");
    assert_eq!((gate.triggered, gate.cancelled), (vec![2, 3, 4, 5, 7, 8, 9, 10], vec![(6, Subsumed)]));
}

#[test]
fn single_channel_abort_checkpoint() {
    let gate = track(1, "D@0 B1@0 D@0 B2@0 X4@0 D@0 B5@0 D@0 X6@0 X6@0 B6@0 D@0");
    assert_eq!(gate.out(), "D0 B1 D1 B2 X4 D2 B5 D3 X6 D4");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 2, 5], vec![(4, CancelledUpstream), (6, CancelledUpstream)]));
}

#[test]
fn multi_channel_abort_checkpoint() {
    let mut gate = track(3, "D@0 D@2 D@0 B1@1 B1@2 D@2 D@1 B1@0");
    // On the last barrier.
    gate.play("D@0 B2@0 B2@2 D@0 D@2 X2@1");
    gate.play("D@2 B3@1 B3@2 B3@0");
    // As the first event, with barriers of the same checkpoint behind it.
    gate.play("D@0 X4@1 B4@2 D@0 B4@0");
    gate.play("D@0 B5@2 B5@1 B5@0");
    // Repeated, after a barrier.
    gate.play("D@0 B6@1 X6@0 D@0 X6@2 D@0 X6@0");
    assert_eq!((&gate.triggered[..], gate.pending()), (&[1, 3, 5][..], vec![]));
    let cancelled = [2, 4, 6].map(|id| (id, CancelledUpstream));
    assert_eq!(gate.cancelled, cancelled);
}

#[test]
fn interleaved_cancellation_barriers() {
    let gate = track(3, "B1@0 X2@0 X1@1 X2@1 X1@2 X2@2");
    assert_eq!((&gate.triggered[..], gate.out()), (&NONE[..], "X1 X2".to_owned()));
    assert_eq!(gate.cancelled, [(1, CancelledUpstream), (2, CancelledUpstream)]);
}

#[test]
fn metrics() {
    let gate = track(3, "+10 t1 +5 B1@0 D@1 +7 B1@2 D@1 +2 B1@1 +10 t2 +1 B2@0 B2@2 B2@1");
    assert_eq!(gate.timings, [milliseconds(5, 5, 9), milliseconds(1, 1, 0)]);
}

#[test]
fn single_channel_metrics() {
    let gate = track(1, "+10 t1 +5 D@0 +3 B1@0 +6 t2 +1 D@0 +2 B2@0");
    assert_eq!(gate.timings, [milliseconds(8, 8, 0), milliseconds(3, 3, 0)]);
}

#[test]
fn trigger_checkpoints_with_end_of_partition() {
    let mut gate = track(3, "B1@0 B2@0 B2@1 B3@0 B4@0 B4@1 B5@1");
    assert_eq!(gate.triggered, NONE);
    gate.play("E@2");
    // 2 would be the same cut as 4, which is worth more.
    assert_eq!((&gate.triggered[..], gate.pending()), (&[4][..], vec![5]));
    assert_eq!(gate.aborted(), [1, 2, 3]);
    gate.play("B5@0");
    assert_eq!(gate.triggered, [4, 5]);
}

#[test]
fn deduplicate_channels_with_both_barrier_and_end_of_partition() {
    let mut gate = track(3, "B2@0 B2@1 E@1");
    assert_eq!((&gate.triggered[..], gate.pending()), (&NONE[..], vec![2]));
    gate.play("B2@2");
    assert_eq!((gate.triggered, gate.cancelled), (vec![2], vec![]));
}

#[test]
fn no_fast_path_with_channel_finished_during_checkpoints() {
    let gate = track(2, "B1@0 E@0 B1@1");
    assert_eq!((&gate.triggered[..], gate.pending(), gate.cancelled.len()), (&[1][..], vec![], 0));
}

#[test]
fn no_fast_path_with_channel_finished_during_checkpoints_cancel() {
    let gate = track(2, "B1@0 E@0 X1@1");
    assert_eq!((&gate.triggered[..], gate.pending()), (&NONE[..], vec![]));
    assert_eq!(gate.cancelled, [(1, CancelledUpstream)]);
}

#[test]
fn complete_and_remove_aborted_checkpoint_with_end_of_partition() {
    let gate = track(3, "X4@0 B4@1 B5@1 E@2");
    assert_eq!((&gate.triggered[..], gate.pending()), (&NONE[..], vec![5]));
    assert_eq!(gate.cancelled, [(4, CancelledUpstream)]);
}

#[test]
fn abort_checkpoints_after_end_of_partition_received() {
    let gate = track(3, "E@2 B5@0 B6@0 X6@1 E@1 X7@0");
    assert_eq!((&gate.triggered[..], gate.pending()), (&NONE[..], vec![]));
    assert_eq!(gate.cancelled, [(5, Subsumed), (6, CancelledUpstream), (7, CancelledUpstream)]);
}

#[test]
fn two_last_barriers_one_by_one() {
    let gate = track(2, "t1 +1 B1@0 +2 t2 +1 B2@0 +4 B1@1 +8 B2@1");
    assert_eq!(gate.triggered, [1, 2]);
    assert_eq!(gate.timings, [milliseconds(1, 1, 7), milliseconds(1, 1, 12)]);
}

#[test]
fn trigger_checkpoints_after_received_end_of_partition() {
    let gate = track(3, "E@2 B5@0 B6@0 B5@1 B6@1 E@1 B7@0 D@0 B8@0 E@0");
    assert_eq!((gate.triggered, gate.cancelled), (vec![5, 6, 7, 8], vec![]));
}

#[test]
fn next_first_checkpoint_barrier_overtakes_cancellation_barrier() {
    // The alignment of 2 is counted from its own first barrier.
    let gate = track(2, "t1 +1 B1@0 +2 t2 B2@0 +5 X1@1 +3 B2@1");
    assert_eq!((gate.triggered, gate.cancelled), (vec![2], vec![(1, CancelledUpstream)]));
    assert_eq!(gate.timings, [milliseconds(0, 0, 8)]);
}

#[test]
fn an_abort_notice_for_one_of_several_leaves_the_others_alive() {
    let gate = track(2, "B1@0 B2@0 B3@0 N2 B1@1 B2@1 B3@1");
    assert_eq!((gate.out(), gate.triggered), ("B1 X2 B3".to_owned(), vec![1, 3]));
    assert_eq!(gate.cancelled, [(2, AbortedByCoordinator)]);
}
