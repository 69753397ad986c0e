//! A source subtask: cuts between its slices, goes on taking part behind the end of its data, and is not asked again when it was restored behind it.

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::subtask::Restored;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::source::ReaderEvent;
use alluvium_actors::ports::store::CheckpointKind;
use alluvium_actors::ports::task::SourceStep;

use crate::rig::{Rig, barrier, source};

fn started() -> Rig {
    let mut rig = source(Restored::default());
    rig.tell(Control::Start);
    rig.chain.take_log();
    rig
}

#[test]
fn a_source_cuts_between_two_slices_in_the_order_of_its_mailbox() {
    let mut rig = started();
    rig.receive(Control::AddSplits(vec![vec![1]]));
    rig.receive(Control::Trigger(barrier(1)));
    rig.receive(Control::AddSplits(vec![vec![2], vec![3]]));
    rig.chain.read(SourceStep::Emitted);
    rig.run();
    // What was assigned behind the enumerator's snapshot comes behind the trigger, and so behind the cut.
    assert_eq!(rig.chain.take_log(), ["splits 1", "cut 1", "splits 2", "read", "read"]);
    assert_eq!((rig.sent(), rig.out()), (vec!["acknowledge 1".to_owned()], "B1".to_owned()));
}

#[test]
fn a_source_whose_data_has_ended_still_takes_part() {
    let mut rig = started();
    rig.chain.read(SourceStep::Ended);
    rig.run();
    rig.trigger(1);
    assert_eq!(rig.sent(), ["end of data", "acknowledge 1, finished"]);
    assert_eq!(rig.out(), "end B1");
    assert_eq!(rig.chain.take_log(), ["read", "finish", "cut 1"], "it is not read again");
}

#[test]
fn a_source_that_was_restored_as_finished_is_neither_read_nor_finished_again() {
    let mut rig = source(Restored { checkpoint: Some(CheckpointId(3)), finished: true });
    rig.chain.say(ReaderEvent::Registered { splits: Vec::new() });
    rig.chain.say(ReaderEvent::SplitRequested);
    rig.tell(Control::Start);
    rig.tell(Control::NoMoreSplits);
    rig.trigger(4);
    assert_eq!(rig.sent(), ["end of data", "Registered { splits: [] }", "acknowledge 4, finished"]);
    assert_eq!(rig.out(), "end B4");
    assert_eq!(rig.chain.take_log(), ["no more splits", "cut 4"]);
}

#[test]
fn splits_for_a_reader_that_was_restored_as_finished_are_an_error_and_not_lost() {
    let mut rig = source(Restored { checkpoint: Some(CheckpointId(3)), finished: true });
    rig.tell(Control::Start);
    rig.sent();
    assert!(rig.tell(Control::AddSplits(vec![vec![1]])));
    let sent = rig.sent();
    assert!(sent[0].starts_with("failed numbers[0]: its enumerator assigns splits"), "{sent:?}");
}

#[test]
fn a_stopping_source_stands_still_until_the_stop_is_called_off() {
    let mut rig = started();
    let mut stop = barrier(1);
    stop.kind = CheckpointKind::Stopping;
    rig.chain.read(SourceStep::Emitted);
    rig.tell(Control::Trigger(stop));
    assert_eq!(rig.chain.take_log(), ["cut 1"]);
    rig.tell(Control::GoOn);
    assert_eq!(rig.chain.take_log(), ["read", "read"]);
}
