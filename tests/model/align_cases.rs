//! The cases of Apache Flink's own tests for aligned barriers, as event sequences; `docs/conformance.md` maps the names.
//!
//! What needs a task around the aligner is not here but with the subtask: errors of an alignment timer (an aligned
//! checkpoint has no timer of its own), the snapshots of a chain's members and their restore, and the
//! numbering of several inputs' channels.

use std::time::Duration;

use alluvium_actors::protocol::align::CancelReason::{self, CancelledUpstream, Subsumed};
use alluvium_actors::protocol::align::Timing;

use crate::align_notation::run;

const NONE: [u64; 0] = [];

fn reasons(cancelled: &[(u64, CancelReason)]) -> Vec<CancelReason> {
    cancelled.iter().map(|&(_, reason)| reason).collect()
}

fn milliseconds(notice_delay: u64, start_delay: u64, alignment: u64) -> Timing {
    Timing {
        notice_delay: Duration::from_millis(notice_delay),
        start_delay: Duration::from_millis(start_delay),
        alignment: Duration::from_millis(alignment),
    }
}

#[test]
fn single_channel_no_barriers() {
    let gate = run(1, "D@0 D@0 D@0 E@0");
    assert_eq!(gate.out(), "D0 D1 D2");
    assert_eq!(gate.triggered, NONE);
}

#[test]
fn multi_channel_no_barriers() {
    let gate = run(4, "D@2 D@2 D@0 [] D@1 D@0 E@0 [] D@3 D@1 E@3 D@1 E@1 [] D@2 E@2 []");
    assert_eq!(gate.out(), "D0 D1 D2 D3 D4 D5 D6 D7 D8");
    assert_eq!((gate.triggered, gate.cancelled), (vec![], vec![]));
}

#[test]
fn single_channel_with_barriers() {
    let gate = run(1, "D@0 D@0 D@0 +1 B1@0 [] D@0 D@0 +1 B2@0 +1 B3@0 [] D@0 +1 B4@0 B5@0 D@0 E@0");
    assert_eq!(gate.out(), "D0 D1 D2 B1 D3 D4 B2 B3 D5 B4 B5 D6");
    assert_eq!(gate.triggered, [1, 2, 3, 4, 5]);
    assert!(gate.timings.iter().all(|timing| timing.alignment.is_zero()));
}

#[test]
fn multi_channel_with_barriers() {
    let gate = run(
        3,
        "D@0 D@2 D@0 B1@1 B1@2 [1,2] D@2 D@1 D@0 B1@0 [] D@0 D@1 D@1 B2@0 [0] B2@1 B2@2 [] \
         D@2 B3@2 [2] D@2 D@2 B3@0 B3@1 [] D@0 E@0 E@1 E@2",
    );
    // The records 3 and 4 wait behind barrier 1, and the records 9 and 10 behind barrier 3.
    assert_eq!(gate.out(), "D0 D1 D2 D5 B1 D3 D4 D6 D7 D8 B2 D9 B3 D10 D11 D12");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 2, 3], vec![]));
}

#[test]
fn multi_channel_jumping_over_checkpoint() {
    let mut gate = run(3, "D@0 D@2 B1@1 B1@2 [1,2] B1@0 [] D@2 D@1");
    gate.play("B2@1 [1] D@2 B2@0 [0,1] D@2");
    gate.play("B3@2 [2] D@1 D@0 B3@0 [0,2] D@1 B4@1 [1] D@0 D@2");
    assert_eq!((&gate.triggered[..], gate.aborted()), (&[1][..], vec![2, 3]));
    assert_eq!(reasons(&gate.cancelled), [Subsumed, Subsumed]);
    // An ended channel counts as delivered; with the last one 4 is complete.
    gate.play("E@0 [1] B4@2 []");
    assert_eq!((&gate.triggered[..], gate.aborted()), (&[1, 4][..], vec![2, 3]));
}

#[test]
fn metrics() {
    let gate = run(3, "+10 t1 +5 B1@0 D@1 +7 B1@2 D@1 +2 B1@1 +10 t2 +1 B2@0 B2@2 B2@1");
    assert_eq!(gate.timings, [milliseconds(5, 5, 9), milliseconds(1, 1, 0)]);
}

#[test]
fn missing_cancellation_barriers() {
    let gate = run(2, "B1@0 [0] X3@1 [] X2@0 [] X3@0 [] D@0 []");
    assert_eq!((gate.triggered, gate.out.join(" ")), (vec![], "X1 X3 D0".to_owned()));
    assert_eq!(gate.cancelled, [(1, Subsumed), (3, CancelledUpstream)]);
}

#[test]
fn start_alignment_with_closed_channels() {
    let mut gate = run(4, "E@2 E@1 B2@3 [3] D@0 B2@0 []");
    assert_eq!(gate.triggered, [2]);
    gate.play("B3@3 [3] D@0 D@3 B3@0 [] E@0 D@3 B4@3 []");
    assert_eq!((gate.triggered, gate.cancelled), (vec![2, 3, 4], vec![]));
}

#[test]
fn end_of_stream_while_checkpoint() {
    let mut gate = run(3, "B1@0 B1@1 B1@2 [] B2@2 B2@0 [0,2] D@0 D@1 E@1 []");
    assert_eq!((&gate.triggered[..], gate.out()), (&[1, 2][..], "B1 D1 B2 D0".to_owned()));
    gate.play("D@2 E@2 D@0 E@0");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1, 2], vec![]));
}

#[test]
fn multi_channel_abort_checkpoint() {
    let mut gate = run(3, "D@0 B1@1 B1@2 B1@0 []");
    gate.play("D@1 B2@0 B2@2 [0,2] D@0 X2@1 []");
    gate.play("B3@2 [2] B3@1 B3@0 [] X4@1 [] B4@2 [] B4@0 [] D@1");
    gate.play("B5@2 B5@1 B5@0 [] B6@1 [1] X6@0 [] X6@2 B6@0 [] D@2");
    assert_eq!(gate.triggered, [1, 3, 5]);
    assert_eq!(gate.cancelled, [(2, CancelledUpstream), (4, CancelledUpstream), (6, CancelledUpstream)]);
}

#[test]
fn single_channel_abort_checkpoint() {
    let gate = run(1, "D@0 B1@0 D@0 B2@0 X4@0 D@0 B5@0 D@0 X6@0 D@0");
    assert_eq!((gate.out(), gate.triggered), ("D0 B1 D1 B2 X4 D2 B5 D3 X6 D4".to_owned(), vec![1, 2, 5]));
}

#[test]
fn abort_on_canceled_barriers() {
    let gate = run(3, "B1@1 [1] X1@0 [] B2@1 [1] B1@2 [1] B2@0 [0,1] B2@2 []");
    assert_eq!((gate.triggered, gate.cancelled), (vec![2], vec![(1, CancelledUpstream)]));
}

#[test]
fn ignore_cancel_barrier_if_checkpoint_subsumed() {
    let gate = run(3, "B3@1 B3@0 [0,1] B5@2 [2] X3@0 [2] B5@0 [0,2] B5@1 []");
    assert_eq!((gate.triggered, gate.cancelled), (vec![5], vec![(3, Subsumed)]));
}

#[test]
fn trigger_checkpoints_with_end_of_partition() {
    let gate = run(3, "B1@0 B1@1 [0,1] E@2 []");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1], vec![]));
}

#[test]
fn deduplicate_channels_with_both_barrier_and_end_of_partition() {
    let mut gate = run(3, "B2@0 B2@1 [0,1] E@1 [0,1]");
    assert_eq!(gate.triggered, NONE);
    gate.play("B2@2 []");
    assert_eq!((gate.triggered, gate.cancelled), (vec![2], vec![]));
}

#[test]
fn barriers_hold_back_the_records_behind_them() {
    // OneInputStreamTaskTest.testCheckpointBarriers: the barrier leaves before the records that were held.
    let gate = run(4, "D@0 B1@0 D@0 D@0 D@1 [0] B1@1 D@1 B1@2 [0,1,2] D@3 B1@3 []");
    assert_eq!(gate.out(), "D0 D3 D5 B1 D1 D2 D4");
}

#[test]
fn overtaking_checkpoint_barriers() {
    // OneInputStreamTaskTest.testOvertakingCheckpointBarriers: the cancel marker of the old one leaves at once.
    let mut gate = run(4, "B1@0 [0] D@0 D@1 B2@1 [1] D@0 B2@0 B2@2 [0,1,2]");
    assert_eq!(gate.out(), "D1 X1 D0 D2");
    gate.play("B2@3 []");
    assert_eq!((gate.out(), gate.cancelled), ("D1 X1 D0 D2 B2".to_owned(), vec![(1, Subsumed)]));
}

#[test]
fn barriers_are_aligned_over_the_channels_of_all_inputs() {
    // MultipleInputStreamTaskTest.testCheckpointBarriers: the inputs have the channels 0 to 1, 2, and 3 to 4.
    let gate = run(5, "B1@0 B1@1 [0,1] D@2 D@0 B1@2 [0,1,2] D@4 B1@3 B1@4 []");
    assert_eq!(gate.out(), "D0 D2 B1 D1");
}

#[test]
fn overtaking_barriers_on_another_input() {
    // MultipleInputStreamTaskTest.testOvertakingCheckpointBarriers.
    let gate = run(5, "B1@0 D@0 B2@3 [3] B2@0 B2@1 B2@4 [0,1,3,4] B2@2 []");
    assert_eq!((gate.out(), gate.triggered), ("X1 D0 B2".to_owned(), vec![2]));
}

#[test]
fn alignment_time_covers_all_inputs() {
    // MultipleInputStreamTaskTest.testCheckpointBarrierMetrics: from the first marker of any to the last of any.
    let gate = run(4, "t1 +3 B1@2 +4 B1@0 +5 B1@1 +6 B1@3");
    assert_eq!(gate.timings, [milliseconds(3, 3, 15)]);
}

#[test]
fn a_trigger_by_message_cuts_when_all_channels_have_ended() {
    // MultipleInputStreamTaskTest.testTriggeringAlignedNoTimeoutCheckpointWithFinishedChannels, all ended.
    let gate = run(3, "E@0 E@1 E@2 t1 +2 M1 M2");
    assert_eq!((gate.triggered, gate.out.join(" ")), (vec![1, 2], "B1 B2".to_owned()));
    assert_eq!(gate.timings[0], milliseconds(2, 2, 0));
}

#[test]
fn a_trigger_by_message_waits_for_what_the_open_channels_still_hold() {
    // The same with some ended: the ends (and the records before them) of the others are still on their way.
    let mut gate = run(3, "E@0 t1 +1 M1 [] D@1 E@1");
    assert_eq!(gate.triggered, NONE);
    gate.play("D@2 +4 E@2");
    assert_eq!((gate.out(), gate.timings), ("D0 D1 B1".to_owned(), vec![milliseconds(1, 5, 0)]));
}

#[test]
fn a_trigger_by_message_and_the_markers_are_one_checkpoint() {
    let gate = run(3, "E@0 M1 B1@1 [1] M1 E@2 [] M1 E@1 M1");
    assert_eq!((gate.triggered, gate.cancelled), (vec![1], vec![]));
}

#[test]
fn an_aligned_checkpoint_never_times_out() {
    // AlternatingCheckpointsTest.testAlignedNeverTimeoutableCheckpoint.
    let gate = run(2, "A1 B1@0 [0] +1000000000 D@0 [0] B1@1 []");
    assert_eq!((gate.out(), gate.triggered), ("B1 D0".to_owned(), vec![1]));
}

#[test]
fn out_of_order_barrier() {
    // AlternatingCheckpointsTest.testOutOfOrderBarrier.
    let gate = run(2, "B10@0 [0] B5@1 [0] D@1");
    assert_eq!((gate.out(), gate.pending()), ("D0".to_owned(), vec![10]));
    assert_eq!((gate.triggered, gate.cancelled), (vec![], vec![]));
}

#[test]
fn next_first_checkpoint_barrier_overtakes_cancellation_barrier() {
    // AlternatingCheckpointsTest: the alignment of 2 is counted from its own first barrier, which waited behind 1.
    let gate = run(2, "t1 +1 B1@0 +2 t2 B2@0 [0] +5 X1@1 [0] +3 B2@1 []");
    assert_eq!((gate.triggered, gate.cancelled), (vec![2], vec![(1, CancelledUpstream)]));
    assert_eq!(gate.timings, [milliseconds(5, 5, 3)]);
}
