//! The two modes at one subtask: who waits for whom, and how many checkpoints are under way.

use alluvium_actors::drive::control::Control;
use alluvium_actors::protocol::align::CheckpointMode::{AtLeastOnce, ExactlyOnce};

use crate::chain::Part;
use crate::rig::operator;

#[test]
fn exactly_once_a_channel_waits_behind_its_barrier() {
    let mut rig = operator(ExactlyOnce, 2);
    rig.send(0, "B1 5 6");
    assert_eq!(rig.chain.take_log(), Vec::<String>::new());
    rig.send(1, "7 B1");
    assert_eq!(rig.chain.take_log(), ["record 7", "cut 1", "record 5", "record 6"]);
}

#[test]
fn at_least_once_a_slow_channel_does_not_hold_back_the_other() {
    let mut rig = operator(AtLeastOnce, 2);
    rig.send(0, "B1 5 6");
    assert_eq!(rig.chain.take_log(), ["record 5", "record 6"]);
    rig.send(1, "7 B1");
    assert_eq!(rig.chain.take_log(), ["record 7", "cut 1"], "they are in the cut");
    assert_eq!((rig.sent(), rig.out()), (vec!["acknowledge 1".to_owned()], "B1".to_owned()));
}

#[test]
fn at_least_once_several_checkpoints_are_under_way_at_one_subtask() {
    let mut rig = operator(AtLeastOnce, 2);
    rig.send(0, "B1 5 B2 6 B3 7");
    for checkpoint in [1, 2, 3] {
        rig.chain.part(checkpoint, Part::Hangs);
    }
    rig.abort(2);
    rig.send(1, "8 B1 9 B2 10 B3");
    assert_eq!(rig.out(), "B1 X2 B3");
    let log = ["record 5", "record 6", "record 7", "aborted 2", "record 8", "cut 1", "record 9", "record 10", "cut 3"];
    assert_eq!(rig.chain.take_log(), log);
    // The snapshots are under way together, and come in their order.
    assert_eq!(rig.sent(), Vec::<String>::new());
    rig.chain.part_is_ready(1);
    rig.run();
    assert_eq!(rig.sent(), ["acknowledge 1"]);
    rig.chain.part_is_ready(3);
    rig.run();
    assert_eq!(rig.sent(), ["acknowledge 3"]);
}

#[test]
fn at_least_once_the_end_of_a_channel_completes_what_waited_for_it() {
    let mut rig = operator(AtLeastOnce, 2);
    rig.send(0, "B1 B2");
    rig.send(1, "end close");
    assert_eq!(rig.out(), "X1 B2");
    assert_eq!(rig.sent(), ["decline 1 Subsumed: subsumed by a newer checkpoint", "acknowledge 2"]);
    assert!(rig.tell(Control::Cancel));
}
