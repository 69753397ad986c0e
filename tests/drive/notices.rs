//! What a subtask passes on of what the coordinator says, and what follows when user code fails in it.

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::subtask::Restored;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::store::CheckpointKind;
use alluvium_actors::protocol::align::CheckpointMode;

use crate::rig::{operator, restored_operator, source};

const PERIODIC: CheckpointKind = CheckpointKind::Periodic;

#[test]
fn repeated_and_older_completions_are_dropped() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 1);
    for checkpoint in [2, 2, 1, 3] {
        rig.complete(checkpoint, PERIODIC);
    }
    assert_eq!(rig.chain.take_log(), ["completed 2", "completed 3"]);
}

#[test]
fn completions_before_the_start_and_of_what_was_restored_are_dropped() {
    let restored = Restored { checkpoint: Some(CheckpointId(5)), finished: false };
    let mut rig = restored_operator(CheckpointMode::ExactlyOnce, 1, restored);
    rig.complete(7, PERIODIC);
    rig.tell(Control::Start);
    rig.complete(5, PERIODIC);
    rig.complete(8, PERIODIC);
    assert_eq!(rig.chain.take_log(), ["completed 8"]);
}

#[test]
fn a_completion_also_reaches_a_chain_whose_data_has_ended() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 1);
    rig.send(0, "end B1");
    rig.complete(1, PERIODIC);
    assert_eq!(rig.sent(), ["end of data", "acknowledge 1, finished"]);
    assert_eq!(rig.chain.take_log(), ["finish", "cut 1", "completed 1"]);
}

#[test]
fn an_error_in_a_notice_fails_the_subtask() {
    for (call, checkpoint_is_complete) in [("completed", true), ("aborted", false)] {
        let mut rig = operator(CheckpointMode::ExactlyOnce, 1);
        rig.chain.panic_in(call);
        let ended = if checkpoint_is_complete { rig.complete(1, PERIODIC) } else { rig.abort(1) };
        assert!(ended, "{call}");
        assert_eq!(
            rig.sent(),
            [format!("failed the user's operator: panicked: the user's {call}"), "ended".to_owned()]
        );
    }
}

#[test]
fn a_subtask_that_has_ended_hears_nothing() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 1);
    rig.send(0, "end B1");
    assert!(rig.complete(1, CheckpointKind::Final), "it ends with its last checkpoint");
    assert_eq!(rig.out(), "end B1 close");
    rig.chain.take_log();
    rig.sent();
    for message in [
        Control::Completed { checkpoint: CheckpointId(2), kind: PERIODIC },
        Control::Aborted { checkpoint: CheckpointId(3), last_completed: None },
        Control::Cancel,
    ] {
        assert!(rig.tell(message));
    }
    assert_eq!((rig.sent(), rig.chain.take_log()), (vec![], vec![]));
}

#[test]
fn operators_in_every_place_hear_an_abort_once() {
    let mut head = source(Restored::default());
    head.tell(Control::Start);
    let mut middle = operator(CheckpointMode::ExactlyOnce, 2);
    let mut end = operator(CheckpointMode::AtLeastOnce, 1);
    head.trigger(1);
    middle.send(0, "B1");
    end.send(0, "X1");
    for rig in [&mut head, &mut middle, &mut end] {
        rig.abort(1);
        rig.abort(1);
        let log: Vec<String> = rig.chain.take_log().into_iter().filter(|line| line != "read").collect();
        assert_eq!(log.iter().filter(|line| *line == "aborted 1").count(), 1, "{log:?}");
    }
}

#[test]
fn a_hundred_aborts_ahead_of_their_barriers_leave_the_next_checkpoint_alive() {
    let mut rig = operator(CheckpointMode::ExactlyOnce, 1);
    for checkpoint in 1..=100 {
        rig.abort(checkpoint);
    }
    rig.send(0, "B101");
    assert_eq!(rig.sent(), ["acknowledge 101"]);
    assert_eq!(rig.chain.take_log().len(), 101, "a hundred aborts and a cut");
}
