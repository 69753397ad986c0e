//! What the coordinator's driver keeps in words: why checkpoints were declined, and what those that ended said of themselves.

use std::collections::BTreeMap;

use crate::ids::CheckpointId;
use crate::protocol::coordinator::FailureReason;
use crate::protocol::story::Declined;

/// Of how many checkpoints something is kept.
const KEPT: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Stories {
    /// The first word of refusal.
    declined: BTreeMap<CheckpointId, Declined>,
    ended: BTreeMap<CheckpointId, (Option<FailureReason>, String)>,
}

impl Stories {
    /// A subtask refused a checkpoint. The first one is the cause, what follows are its consequences.
    pub(super) fn declined(&mut self, checkpoint: CheckpointId, declined: Declined) {
        self.declined.entry(checkpoint).or_insert(declined);
        while self.declined.len() > KEPT {
            self.declined.pop_first();
        }
    }

    pub(super) fn take_declined(&mut self, checkpoint: CheckpointId) -> Option<Declined> {
        self.declined.remove(&checkpoint)
    }

    /// A checkpoint ended, and said this.
    pub(super) fn tell(&mut self, checkpoint: CheckpointId, failure: Option<FailureReason>, story: String) {
        self.ended.insert(checkpoint, (failure, story));
        while self.ended.len() > KEPT {
            self.ended.pop_first();
        }
    }

    /// What a checkpoint said when it ended.
    pub(super) fn of(&self, checkpoint: CheckpointId) -> &str {
        self.ended.get(&checkpoint).map_or("", |(_, story)| story)
    }

    /// A reason together with what the last checkpoint said that failed for it.
    pub(super) fn explain(&self, reason: FailureReason) -> String {
        // Who is refused because everything ends had perhaps no checkpoint under way.
        if matches!(reason, FailureReason::CheckpointCoordinatorSuspend | FailureReason::CheckpointCoordinatorShutdown)
        {
            return reason.to_string();
        }
        let last = self.ended.values().rev().find(|(failure, story)| *failure == Some(reason) && !story.is_empty());
        match last {
            Some((_, story)) => format!("{reason}: {story}"),
            None => reason.to_string(),
        }
    }
}
