//! A decline after which no further checkpoint can be stored fails whoever declined, and nobody else.

use alluvium_actors::drive::control::Control;
use alluvium_actors::ids::{Attempt, CheckpointId, SubtaskId};
use alluvium_actors::ports::task::Failure;
use alluvium_actors::protocol::coordinator::DeclineReason;

use crate::assignments::{Rig, running};

fn decline(rig: &mut Rig, attempt: u32, reason: DeclineReason, failure: Failure) -> Vec<String> {
    rig.tell(Control::Decline {
        attempt: Attempt(attempt),
        checkpoint: CheckpointId(1),
        subtask: SubtaskId::new(0, 1),
        reason,
        failure,
    });
    let mut sent = rig.sent();
    sent.retain(|line| line.contains("failed"));
    sent
}

#[test]
fn a_store_that_takes_nothing_more_fails_the_attempt_and_the_subtask_that_met_it() {
    let poisoned = || Failure::unrecoverable("counts", "the store is poisoned");
    for attempt in [0, 1] {
        let mut rig = running(1);
        rig.take_checkpoint();
        rig.sent();
        let failed = decline(&mut rig, attempt, DeclineReason::Storage, poisoned());
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].starts_with(&format!("attempt {attempt} of Subtask(")), "{failed:?}");
        assert!(failed[0].contains("counts: the store is poisoned"), "{failed:?}");
    }
}

#[test]
fn a_decline_that_the_next_checkpoint_may_not_meet_fails_nobody() {
    for (reason, failure) in [
        (DeclineReason::Storage, Failure::retryable("counts", "no space is left")),
        (DeclineReason::AsynchronousPart, Failure::unrecoverable("counts", "it cannot be encoded")),
    ] {
        let mut rig = running(1);
        rig.take_checkpoint();
        rig.sent();
        assert_eq!(decline(&mut rig, 1, reason, failure), [""; 0]);
    }
}
