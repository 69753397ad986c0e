//! A subtask whose barrier overtakes: it cuts on the message, and what waits in front of the markers is captured where it is.

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::subtask::Restored;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::store::CheckpointKind;
use alluvium_actors::protocol::align::CheckpointMode;

use crate::rig::{Rig, barrier, operator, overtaking, restored_operator, source};

fn announce(rig: &mut Rig, checkpoint: u64) {
    rig.receive(Control::BarrierAnnounced { channel: 0, barrier: overtaking(checkpoint, 0) });
}

/// The lines of the log that are of this kind.
fn only(log: &[String], kind: &str) -> Vec<String> {
    log.iter().filter(|line| line.contains(kind)).cloned().collect()
}

#[test]
fn it_cuts_before_any_record_and_captures_each_in_the_order_of_its_channel() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    rig.put(0, "1 2 U1 3");
    rig.put(1, "4");
    announce(&mut rig, 1);
    rig.run();
    let log = rig.chain.take_log();
    assert_eq!(log[..2], ["cut 1", "capture 1"]);
    assert_eq!(only(&log, "channel 0 into"), ["1 of channel 0 into 1", "2 of channel 0 into 1"]);
    assert_eq!(only(&log, "channel 1 into"), ["4 of channel 1 into 1"]);
    let mut records = only(&log, "record");
    records.sort();
    assert_eq!(records, ["record 1", "record 2", "record 3", "record 4"], "all of them are processed, too");
    assert_eq!((rig.out(), rig.sent()), ("B1".to_owned(), vec![]), "one channel has not brought its marker");
    rig.send(1, "5 U1 6");
    let log = rig.chain.take_log();
    assert_eq!(only(&log, "into"), ["5 of channel 1 into 1"]);
    assert_eq!(only(&log, "captured"), ["captured 1"]);
    assert_eq!(rig.sent(), ["acknowledge 1"]);
}

#[test]
fn a_subtask_that_can_do_nothing_cuts_and_captures_all_the_same() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 1);
    rig.chain.hold();
    rig.put(0, "1 2 3 U1 4");
    announce(&mut rig, 1);
    rig.run();
    assert_eq!(
        rig.chain.take_log(),
        ["cut 1", "capture 1", "1 of channel 0 into 1", "2 of channel 0 into 1", "3 of channel 0 into 1", "captured 1"]
    );
    assert_eq!((rig.out(), rig.sent()), ("B1".to_owned(), vec!["acknowledge 1".to_owned()]));
}

#[test]
fn an_abort_ends_the_capture_and_the_next_checkpoint_begins_anew() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    rig.chain.hold();
    rig.put(0, "1 U1 2");
    rig.put(1, "3");
    announce(&mut rig, 1);
    rig.run();
    rig.abort(1);
    rig.chain.take_log();
    rig.put(1, "4 U1 5");
    rig.run();
    assert_eq!(rig.chain.take_log(), [""; 0]);
    announce(&mut rig, 2);
    rig.put(0, "U2");
    rig.put(1, "U2");
    rig.run();
    // A few batches at a time: it wakes itself for the rest.
    rig.run();
    let log = rig.chain.take_log();
    assert_eq!(
        only(&log, "into"),
        ["1", "2"]
            .map(|number| format!("{number} of channel 0 into 2"))
            .into_iter()
            .chain(["3", "4", "5"].map(|number| format!("{number} of channel 1 into 2")))
            .collect::<Vec<_>>()
    );
    assert_eq!(rig.sent(), ["acknowledge 2"]);
}

#[test]
fn a_producer_that_gives_the_checkpoint_up_behind_the_cut_makes_it_declined() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    rig.send(0, "U1");
    rig.send(1, "1 X1 2");
    assert_eq!(rig.sent(), ["decline 1 CancelledUpstream: cancelled by a producer"]);
    let log = rig.chain.take_log();
    assert_eq!(only(&log, "aborted"), ["aborted 1"]);
    rig.send(0, "U2");
    rig.send(1, "U2");
    assert_eq!(rig.sent(), ["acknowledge 2"]);
}

#[test]
fn the_end_of_a_channel_ends_its_capture() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    rig.send(0, "U1");
    rig.send(1, "1 end close");
    assert_eq!(only(&rig.chain.take_log(), "into"), ["1 of channel 1 into 1"]);
    assert_eq!(rig.sent(), ["acknowledge 1"]);
}

#[test]
fn a_deadline_makes_the_switch_in_the_middle_of_the_alignment() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 2);
    let late = overtaking(1, 1_000_000);
    rig.put_barrier(0, late);
    rig.put(0, "1");
    rig.put(1, "2");
    rig.receive(Control::BarrierAnnounced { channel: 0, barrier: late });
    rig.run();
    let log = rig.chain.take_log();
    assert_eq!((only(&log, "record"), only(&log, "cut")), (vec!["record 2".to_owned()], vec![]), "aligned");
    rig.put(1, "3");
    rig.pass_to(1_000_000);
    rig.run();
    let log = rig.chain.take_log();
    assert_eq!(log[..2], ["cut 1", "capture 1"]);
    assert_eq!(only(&log, "into"), ["3 of channel 1 into 1"]);
    rig.put_barrier(1, late);
    rig.run();
    assert_eq!(rig.sent(), ["acknowledge 1"]);
}

#[test]
fn what_was_in_flight_is_processed_before_anything_new_and_captured_again_until_then() {
    let restored = Restored { checkpoint: Some(CheckpointId(1)), finished: false };
    let mut rig = restored_operator(CheckpointMode::ExactlyOnce, 1, restored);
    rig.chain.restore(10);
    rig.chain.restore(11);
    rig.put(0, "1");
    // Its producers run already, and have sent a barrier: nothing can be cut before it runs itself.
    announce(&mut rig, 2);
    rig.run();
    assert_eq!(rig.chain.take_log(), [""; 0]);
    rig.tell(Control::Start);
    rig.put(0, "U2");
    rig.run();
    let log = rig.chain.take_log();
    assert_eq!(log[..2], ["cut 2", "capture 2"], "the chain stores what it has not been asked for");
    assert_eq!(only(&log, "record"), ["record 10", "record 11", "record 1"]);
    assert_eq!(rig.sent(), ["acknowledge 2"]);
    rig.complete(2, CheckpointKind::Periodic);
}

/// A source whose chain was two when the restored checkpoint was taken, with records in flight between them; it has heard that it may begin.
fn fused_source() -> Rig {
    let mut rig = source(Restored { checkpoint: Some(CheckpointId(1)), finished: false });
    rig.run();
    rig.chain.restore(10);
    rig.chain.restore(11);
    rig.receive(Control::Start);
    rig
}

#[test]
fn a_source_processes_what_was_in_flight_inside_of_its_chain_before_it_reads() {
    let mut rig = fused_source();
    rig.run();
    assert_eq!(rig.chain.take_log(), ["record 10", "record 11", "read"]);
}

#[test]
fn a_source_that_is_told_of_a_barrier_that_overtakes_captures_what_is_left_inside_of_its_chain() {
    let mut rig = fused_source();
    rig.receive(Control::Trigger(overtaking(2, 0)));
    rig.run();
    assert_eq!(
        rig.chain.take_log(),
        ["cut 2", "capture 2", "captured 2", "record 10", "record 11", "read"],
        "the cut does not wait for any of it"
    );
    assert_eq!(rig.sent(), ["acknowledge 2"]);
}

#[test]
fn an_aligned_checkpoint_waits_at_a_source_for_what_was_in_flight_and_so_does_what_was_assigned_behind_it() {
    let mut rig = fused_source();
    rig.receive(Control::Trigger(barrier(2)));
    rig.receive(Control::AddSplits(vec![vec![1]]));
    rig.run();
    assert_eq!(rig.chain.take_log(), ["record 10", "record 11", "cut 2", "splits 1", "read"]);
    assert_eq!(rig.sent(), ["acknowledge 2"]);
}

#[test]
fn a_trigger_that_waits_for_what_was_in_flight_is_taken_up_at_its_deadline() {
    let mut rig = fused_source();
    rig.chain.hold();
    rig.receive(Control::Trigger(overtaking(2, 1_000_000)));
    rig.run();
    assert_eq!(rig.chain.take_log(), [""; 0]);
    rig.pass_to(1_000_000);
    rig.run();
    assert_eq!(rig.chain.take_log(), ["cut 2", "capture 2", "captured 2"]);
}

#[test]
fn a_trigger_that_waits_for_what_was_in_flight_can_be_called_off() {
    let mut rig = fused_source();
    rig.chain.hold();
    rig.receive(Control::Trigger(barrier(2)));
    rig.receive(Control::AddSplits(vec![vec![1]]));
    rig.run();
    rig.abort(2);
    assert_eq!(only(&rig.chain.take_log(), "cut"), [""; 0]);
    rig.receive(Control::Trigger(overtaking(3, 0)));
    rig.run();
    assert_eq!(rig.sent(), ["acknowledge 3"]);
}

#[test]
fn what_was_assigned_behind_a_trigger_that_is_called_off_comes_before_the_cut_of_the_next_one() {
    let mut rig = fused_source();
    rig.receive(Control::Trigger(barrier(2)));
    rig.receive(Control::AddSplits(vec![vec![1]]));
    // The enumerator gave the split away before its snapshot for 3.
    rig.receive(Control::Aborted { checkpoint: CheckpointId(2), last_completed: None });
    rig.receive(Control::Trigger(barrier(3)));
    rig.receive(Control::AddSplits(vec![vec![2], vec![3]]));
    rig.run();
    assert_eq!(rig.chain.take_log(), ["aborted 2", "splits 1", "record 10", "record 11", "cut 3", "splits 2", "read"]);
    assert_eq!(rig.sent(), ["acknowledge 3"]);
}

#[test]
fn what_was_assigned_between_two_triggers_that_wait_comes_between_their_cuts() {
    let mut rig = fused_source();
    rig.receive(Control::Trigger(barrier(2)));
    rig.receive(Control::AddSplits(vec![vec![1]]));
    rig.receive(Control::Trigger(barrier(3)));
    rig.receive(Control::NoMoreSplits);
    rig.run();
    assert_eq!(
        rig.chain.take_log(),
        ["record 10", "record 11", "cut 2", "splits 1", "cut 3", "no more splits", "read"]
    );
    assert_eq!(rig.sent(), ["acknowledge 2", "acknowledge 3"]);
}

#[test]
fn a_later_one_of_two_triggers_that_wait_can_be_called_off_and_what_came_around_it_waits_for_the_other() {
    let mut rig = fused_source();
    rig.receive(Control::Trigger(barrier(2)));
    rig.receive(Control::AddSplits(vec![vec![1]]));
    rig.receive(Control::Trigger(barrier(3)));
    rig.receive(Control::AddSplits(vec![vec![2], vec![3]]));
    rig.receive(Control::Aborted { checkpoint: CheckpointId(3), last_completed: None });
    rig.run();
    assert_eq!(rig.chain.take_log(), ["aborted 3", "record 10", "record 11", "cut 2", "splits 1", "splits 2", "read"]);
    assert_eq!(rig.sent(), ["acknowledge 2"]);
}

#[test]
fn each_trigger_that_waits_is_taken_up_at_its_own_deadline_with_what_was_assigned_before_it() {
    let mut rig = fused_source();
    rig.chain.hold();
    rig.receive(Control::Trigger(overtaking(2, 1_000_000)));
    rig.receive(Control::AddSplits(vec![vec![1]]));
    rig.receive(Control::Trigger(overtaking(3, 2_000_000)));
    rig.run();
    assert_eq!(rig.chain.take_log(), [""; 0]);
    rig.pass_to(1_000_000);
    rig.run();
    assert_eq!(rig.chain.take_log(), ["cut 2", "capture 2", "captured 2", "splits 1"]);
    rig.pass_to(2_000_000);
    rig.run();
    assert_eq!(rig.chain.take_log(), ["cut 3", "capture 3", "captured 3"]);
    assert_eq!(rig.sent(), ["acknowledge 2", "acknowledge 3"]);
}
