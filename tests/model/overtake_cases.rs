//! The cases of Apache Flink's own tests for unaligned barriers, and for those that align until a timeout, as event sequences; `docs/conformance.md` maps the names.

use std::time::Duration;

use alluvium_actors::protocol::align::CancelReason::{AbortedByCoordinator, CancelledUpstream, Subsumed};
use alluvium_actors::protocol::align::{Aligner, Channel};

use crate::align_notation::{Gate, run};

const NONE: [u64; 0] = [];

/// What a checkpoint captured.
fn captured(gate: &Gate, id: u64) -> Vec<usize> {
    gate.captured.get(&id).cloned().unwrap_or_default()
}

// Unaligned from the beginning.

#[test]
fn single_channel_with_barriers() {
    let gate = run(1, "U1 U2 D@0 D@0 B1@0 [] D@0 B2@0 D@0 E@0");
    assert_eq!(gate.out(), "D0 D1 B1 D2 B2 D3");
    assert_eq!((gate.triggered, gate.captured.len()), (vec![1, 2], 0));
}

#[test]
fn multi_channel_with_barriers() {
    let gate = run(
        3,
        "U1 U2 U3 D@0 D@2 D@0 B1@1 B1@2 [] D@2 D@1 D@0 B1@0 [] D@0 D@1 D@1 B2@0 B2@1 B2@2 D@2 B3@2 D@2 D@2 B3@0 B3@1 D@0 E@0 E@1 E@2",
    );
    // The first marker cuts; what comes on the others in front of theirs is captured, and goes on as well.
    assert_eq!(gate.out(), "D0 D1 D2 B1 D3 D4 D5 D6 D7 D8 B2 D9 B3 D10 D11 D12");
    assert_eq!((gate.triggered.clone(), gate.complete.clone()), (vec![1, 2, 3], vec![1, 2, 3]));
    assert_eq!([captured(&gate, 1), captured(&gate, 2), captured(&gate, 3)], [vec![5], vec![], vec![]]);
}

#[test]
fn a_message_alone_cuts_and_what_waits_in_front_of_the_markers_is_captured() {
    let gate = run(2, "U1 S D@0 D@1 D@0 B1@0 D@0 A1 [] D@1 B1@1 D@1 G");
    assert_eq!((gate.triggered.clone(), gate.complete.clone()), (vec![1], vec![1]));
    assert_eq!(captured(&gate, 1), [0, 2, 1, 4]);
    assert_eq!(gate.out(), "B1 D0 D1 D2 D3 D4 D5", "all of them are processed all the same, each once");
}

#[test]
fn metrics() {
    let gate = run(2, "+10 t1 U1 S D@0 +15 A1 +20 B1@0 B1@1 +5 G");
    assert_eq!(gate.timings[0].notice_delay, Duration::from_millis(15));
    assert_eq!(gate.timings[0].start_delay, Duration::from_millis(15));
    assert_eq!(gate.timings[0].alignment, Duration::ZERO);
}

#[test]
fn multi_channel_trailing_inflight_data() {
    let gate = run(3, "U1 B1@0 D@1 D@2 D@0 E@1 D@2 B1@2 D@2 E@2 E@0");
    assert_eq!((captured(&gate, 1), gate.complete), (vec![0, 1, 3], vec![1]));
}

#[test]
fn missing_cancellation_barriers() {
    let gate = run(1, "U1 U2 U3 B1@0 X2@0 X3@0 X3@0");
    assert_eq!((gate.triggered.clone(), gate.aborted(), gate.captured.len()), (vec![1], vec![2, 3], 0));
}

#[test]
fn start_alignment_with_closed_channels() {
    let gate = run(4, "U2 U3 U4 U5 E@1 E@2 B2@0 B2@3 B3@3 D@0 B3@0 E@0 B4@3 D@3 B5@3");
    assert_eq!((gate.triggered.clone(), gate.complete.clone()), (vec![2, 3, 4, 5], vec![2, 3]));
    assert_eq!(captured(&gate, 3), [0]);
    assert_eq!(captured(&gate, 4), NONE.map(|id| id as usize));
}

#[test]
fn end_of_stream_while_checkpoint() {
    let gate = run(2, "U1 B1@0 D@1 D@1 E@0 E@1");
    assert_eq!((captured(&gate, 1), gate.complete), (vec![0, 1], vec![1]));
}

#[test]
fn single_channel_abort_checkpoint() {
    let gate = run(1, "U1 U2 U4 U5 U6 D@0 D@0 B1@0 D@0 B2@0 D@0 D@0 X4@0 B5@0 D@0 D@0 X6@0 D@0 E@0");
    assert_eq!((gate.triggered.clone(), gate.aborted()), (vec![1, 2, 5], vec![4, 6]));
}

#[test]
fn multi_channel_abort_checkpoint() {
    // Before the barriers, between them and behind them.
    let gate = run(3, "U1 U2 U3 U4 X1@0 B1@1 B1@2 B2@0 X2@1 D@2 B2@2 B3@0 B3@1 B3@2 X4@1 B4@0 B4@2");
    assert_eq!((gate.triggered.clone(), gate.aborted()), (vec![2, 3], vec![1, 4]));
    assert_eq!(gate.given_up, [(2, CancelledUpstream)], "its capture ends with the cancel marker");
    assert_eq!(gate.complete, [3]);
}

#[test]
fn process_cancellation_barrier_after_process_barrier() {
    let gate = run(2, "U1 U2 B1@0 D@1 X1@1 D@1 B2@1 B2@0");
    assert_eq!((gate.triggered.clone(), gate.given_up.clone()), (vec![1, 2], vec![(1, CancelledUpstream)]));
    assert_eq!(gate.complete, [2]);
}

#[test]
fn trigger_checkpoints_with_end_of_partition() {
    let gate = run(3, "U1 B1@0 D@1 E@1 D@2 B1@2");
    assert_eq!((gate.triggered.clone(), captured(&gate, 1), gate.complete), (vec![1], vec![0, 1], vec![1]));
}

#[test]
fn trigger_checkpoints_after_received_end_of_partition() {
    let gate = run(3, "U1 U2 U3 U4 E@0 B3@1 D@2 E@2 B4@1");
    assert_eq!((gate.triggered.clone(), gate.complete.clone()), (vec![3, 4], vec![3]));
    assert_eq!(captured(&gate, 3), [0]);
}

#[test]
fn orders_of_barriers_and_cancel_markers() {
    // Same, older and newer ids on the other channel.
    for (events, triggered, aborted, given_up) in [
        ("U1 B1@0 B1@1", &[1][..], &[][..], vec![]),
        ("U1 B1@0 X1@1", &[1], &[], vec![(1, CancelledUpstream)]),
        ("U1 X1@0 B1@1", &[], &[1], vec![]),
        ("U1 U2 B1@0 X2@1", &[1], &[2], vec![(1, Subsumed)]),
        ("U1 U2 X2@0 B1@1 B2@1", &[], &[2], vec![]),
        ("U1 U2 B2@0 X1@1 B2@1", &[2], &[], vec![]),
        ("U1 U2 B2@0 B1@1 B2@1", &[2], &[], vec![]),
        ("U1 U2 B1@0 B2@1 B1@1", &[1, 2], &[], vec![(1, Subsumed)]),
    ] {
        let gate = run(2, events);
        assert_eq!((gate.triggered.as_slice(), gate.aborted().as_slice()), (triggered, aborted), "{events}");
        assert_eq!(gate.given_up, given_up, "{events}");
    }
}

#[test]
fn an_abort_that_runs_ahead_of_an_overtaking_barrier_keeps_it_from_cutting() {
    let gate = run(2, "U1 N1 A1 B1@0 B1@1 U2 A2");
    assert_eq!((gate.triggered.clone(), gate.cancelled.clone()), (vec![2], vec![(1, AbortedByCoordinator)]));
}

#[test]
fn an_edge_that_keeps_its_order_is_never_overtaken() {
    let mut gate = Gate::new(Aligner::new(3).keeping_order([Channel(1)]), 3);
    gate.play("U1 S D@0 D@1 B1@0 A1 +100 [] G [0] D@0 D@2 S D@2 B1@1");
    assert_eq!(gate.triggered, NONE, "its marker has not come");
    gate.play("G");
    assert_eq!((gate.triggered.as_slice(), gate.blocked()), (&[1][..], vec![]));
    assert_eq!(gate.out(), "D0 D1 D3 D4 B1 D2", "what came behind a marker waited");
    gate.play("D@2 B1@2");
    assert_eq!((captured(&gate, 1), gate.complete), (vec![5], vec![1]));
}

#[test]
fn a_subtask_whose_edges_all_keep_their_order_aligns() {
    let mut gate = Gate::new(Aligner::new(2).keeping_order([Channel(0), Channel(1)]), 2);
    gate.play("U1 A1 B1@0 [0] +1000 D@1 B1@1 []");
    assert_eq!((gate.triggered.as_slice(), gate.captured.len()), (&[1][..], 0));
    gate.play("E@0 U2 B2@1 E@1 U3 M3");
    assert_eq!(gate.triggered, [1, 2, 3]);
}

// Aligned first.

#[test]
fn aligned_never_timeoutable_checkpoint() {
    let gate = run(2, "U1:1000000000 B1@0 [0] +1000000 D@0 D@1 [0] B1@1 []");
    assert_eq!((gate.out(), gate.captured.len()), ("D1 B1 D0".to_owned(), 0));
}

#[test]
fn channel_reset_on_new_barrier() {
    // 1 is aligned (a savepoint), 2 overtakes: the blocked channel is reset, so that its records are captured.
    let gate = run(2, "U2 B1@0 [0] D@0 D@1 A2 [] B2@0 B2@1");
    assert_eq!((gate.triggered.clone(), gate.cancelled.clone()), (vec![2], vec![(1, Subsumed)]));
    assert_eq!(captured(&gate, 2), [0], "the other had been taken");
}

#[test]
fn checkpoint_handling_and_savepoint_handling() {
    let gate = run(2, "U1 S D@0 A1 B1@0 B1@1 G B2@0 [0] D@0 D@1 B2@1 []");
    assert_eq!((gate.triggered.clone(), captured(&gate, 1), captured(&gate, 2)), (vec![1, 2], vec![0], vec![]));
    assert_eq!(gate.out(), "B1 D0 D2 B2 D1");
}

#[test]
fn alternation() {
    let mut gate = Gate::new(Aligner::new(2), 2);
    for id in 1..=40 {
        let overtakes = if id % 2 == 0 { format!("U{id} A{id}") } else { format!("A{id}") };
        gate.play(&format!("S D@0 D@1 {overtakes} B{id}@1 D@1 B{id}@0 D@0 G"));
    }
    assert_eq!(gate.triggered, (1..=40).collect::<Vec<_>>());
    assert_eq!(gate.complete, (1..=20).map(|half| 2 * half).collect::<Vec<_>>());
    assert!(gate.captured.iter().all(|(id, records)| id % 2 == 0 && records.len() == 2), "{:?}", gate.captured);
}

#[test]
fn aligned_after_timed_out() {
    let gate = run(2, "t1 U1:10 B1@0 [0] +20 [] B1@1 t2 U2:10 B2@0 [0] D@0 D@1 +5 B2@1 []");
    assert_eq!((gate.triggered.clone(), gate.complete.clone()), (vec![1, 2], vec![1]));
    assert_eq!(gate.captured.len(), 0);
}

#[test]
fn timeout_alignment() {
    // Nothing rings: the next event makes the switch.
    let gate = run(2, "t1 U1:10 B1@0 [0] D@1 ~20 [0] A1 [] D@1 B1@1");
    assert_eq!((gate.triggered.clone(), captured(&gate, 1), gate.complete), (vec![1], vec![1], vec![1]));
}

#[test]
fn timeout_alignment_on_first_barrier_and_before_it() {
    for events in ["t1 U1:10 S A1 ~20 B1@0 D@1 G B1@1", "t1 U1:10 ~20 S B1@0 D@1 G B1@1"] {
        let gate = run(2, events);
        assert_eq!(
            (gate.triggered.clone(), captured(&gate, 1), gate.complete),
            (vec![1], vec![0], vec![1]),
            "{events}"
        );
    }
}

#[test]
fn active_timeout_alignment_on_first_barrier() {
    let gate = run(2, "t1 U1:10 S D@1 B1@0 A1 +9 D@1 +1 [] D@1 B1@1 G");
    assert_eq!((gate.triggered.clone(), captured(&gate, 1), gate.complete.clone()), (vec![1], vec![0, 1, 2], vec![1]));
    assert_eq!(gate.out(), "B1 D0 D1 D2");
}

#[test]
fn the_deadline_is_armed_by_the_message_not_by_the_first_marker() {
    // Under back-pressure the marker is what does not come.
    let gate = run(2, "t1 U1:10 S D@0 D@1 A1 +10");
    assert_eq!((gate.triggered.clone(), captured(&gate, 1)), (vec![1], vec![0, 1]));
    assert_eq!(gate.timings[0].start_delay, Duration::from_millis(10), "of the trigger: the time in a mailbox counts");
}

#[test]
fn active_and_passive_timeouts_race_and_there_is_one_cut() {
    for events in [
        "t1 U1:10 A1 ~20 B1@0 +20 B1@1",
        "t1 U1:10 ~20 A1 B1@0 +20 B1@1",
        "t1 U1:10 B1@0 ~20 A1 +20 B1@1",
        "t1 U1:10 B1@0 +20 A1 ~20 B1@1",
    ] {
        let gate = run(2, events);
        assert_eq!((gate.triggered.clone(), gate.cancelled.len()), (vec![1], 0), "{events}");
    }
}

#[test]
fn timeout_alignment_on_announcement_for_second_checkpoint() {
    let gate = run(2, "t1 U1:10 B1@0 B1@1 t2 U2:10 S D@0 D@1 +20 A2 B2@0 B2@1 G");
    assert_eq!((gate.triggered.clone(), captured(&gate, 2), gate.complete.clone()), (vec![1, 2], vec![0, 1], vec![2]));
    assert_eq!(gate.out(), "B1 B2 D0 D1");
}

#[test]
fn all_channels_unblocked_after_the_timeout() {
    let gate = run(3, "t1 U1:10 B1@0 B1@1 [0,1] +10 [] D@0 D@1 D@2 B1@2");
    assert_eq!((gate.out(), captured(&gate, 1)), ("B1 D0 D1 D2".to_owned(), vec![2]));
}

#[test]
fn no_active_timeout_after_the_last_barrier_after_an_abort_and_after_the_ends() {
    for (events, triggered) in [
        ("t1 U1:10 B1@0 B1@1 +20", &[1][..]),
        ("t1 U1:10 B1@0 N1 +20 []", &[]),
        ("t1 U1:10 A1 N1 +20 []", &[]),
        ("t1 U1:10 B1@0 E@1 E@0 +20", &[1]),
    ] {
        let gate = run(2, events);
        assert_eq!((gate.triggered.as_slice(), gate.captured.len()), (triggered, 0), "{events}");
    }
}

#[test]
fn timeout_alignment_after_received_end_of_partition() {
    // The deadline has passed and did not ring: the end of a channel makes the switch.
    let gate = run(3, "t1 U1:10 B1@0 [0] ~20 E@1 [] D@2 B1@2");
    assert_eq!((gate.triggered.clone(), captured(&gate, 1), gate.complete), (vec![1], vec![0], vec![1]));
}

#[test]
fn out_of_order_barrier() {
    let gate = run(2, "U10 B10@0 B5@1 [] D@1 B10@1");
    assert_eq!((gate.triggered.clone(), gate.aborted(), captured(&gate, 10)), (vec![10], vec![], vec![0]));
}

#[test]
fn a_subtask_whose_producers_are_leaving_captures_up_to_their_ends() {
    let gate = run(2, "t1 U1:10 E@0 S D@1 D@1 M1 +10 E@1 G");
    assert_eq!((gate.triggered.clone(), captured(&gate, 1), gate.complete.clone()), (vec![1], vec![0, 1], vec![1]));
    assert_eq!(gate.out(), "B1 D0 D1");
}
