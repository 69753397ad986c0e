//! Which notices of the coordinator a subtask passes on to its operators.
//!
//! An operator hears of a completed checkpoint at most once and in ascending order, and of an aborted one exactly once, whoever said it first: the
//! coordinator, or the subtask itself, whose part of the snapshot had failed.

use std::collections::BTreeSet;

use crate::ids::CheckpointId;

/// How many aborted checkpoints are remembered. Two words about the same one are never so far apart: the subtask's own and the answer to it.
pub const REMEMBERED_ABORTS: usize = 64;

/// What the operators of a subtask have heard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notices {
    completed: Option<CheckpointId>,
    aborted: BTreeSet<CheckpointId>,
}

impl Notices {
    /// The notices of a subtask that was restored from a checkpoint, or from none.
    #[must_use]
    pub fn new(restored: Option<CheckpointId>) -> Notices {
        Notices { completed: restored, aborted: BTreeSet::new() }
    }

    /// Whether a completion is news: it is newer than every one before, and than what was restored. An older one needs no word: what it would
    /// commit, the newer one has committed.
    pub fn completed(&mut self, checkpoint: CheckpointId) -> bool {
        let is_news = self.completed.is_none_or(|completed| completed < checkpoint);
        if is_news {
            self.completed = Some(checkpoint);
        }
        is_news
    }

    /// Whether an abort is news.
    pub fn aborted(&mut self, checkpoint: CheckpointId) -> bool {
        let is_news = self.aborted.insert(checkpoint);
        if self.aborted.len() > REMEMBERED_ABORTS {
            self.aborted.pop_first();
        }
        is_news
    }

    /// How many aborted checkpoints are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.aborted.len()
    }
}
