//! What can be seen of one checkpoint.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::{CheckpointId, Moment, SubtaskId};

use super::message::CheckpointKind;
use super::reason::FailureReason;

/// How far a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointStatus {
    /// Acknowledgements are missing.
    InProgress,
    /// All acknowledgements came; the manifest is being written, or its write is being settled.
    Finalizing,
    /// Its manifest exists.
    Completed,
    /// It was aborted.
    Failed(FailureReason),
}

/// The figures of one checkpoint, pending or ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointStatistics {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// How far it is.
    pub status: CheckpointStatus,
    /// When it was triggered.
    pub triggered: Moment,
    /// When the latest acknowledgement came.
    pub latest_acknowledgement: Option<Moment>,
    /// How many subtasks take part; zero before they were told.
    pub subtasks: usize,
    /// How many of them acknowledged. A subtask that had ended before the trigger counts as having done so.
    pub acknowledged: usize,
    /// Those whose acknowledgement is missing, ascending.
    pub missing: Vec<SubtaskId>,
    /// How many acknowledgements came after it was aborted.
    pub late: usize,
    /// When it was completed or aborted.
    pub ended: Option<Moment>,
}

impl CheckpointStatistics {
    /// The time from the trigger to the end, or to `now` while it is pending.
    #[must_use]
    pub fn duration(&self, now: Moment) -> Duration {
        self.ended.unwrap_or(now).since(self.triggered)
    }
}

/// The last checkpoints that ended, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    ended: VecDeque<CheckpointStatistics>,
}

impl History {
    pub(super) fn push(&mut self, statistics: CheckpointStatistics, size: usize) {
        self.ended.push_back(statistics);
        while self.ended.len() > size {
            self.ended.pop_front();
        }
    }

    pub(super) fn late(&mut self, checkpoint: CheckpointId, now: Moment) {
        if let Some(statistics) = self.ended.iter_mut().find(|statistics| statistics.checkpoint == checkpoint) {
            statistics.late += 1;
            statistics.latest_acknowledgement = Some(now);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CheckpointStatistics> {
        self.ended.iter()
    }
}
