//! The completed checkpoints that the storage holds, and which of them goes next.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::CheckpointId;

/// The completed checkpoints. The newest is never deleted; deletions go one at a time, the lowest id first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Retained {
    /// What a restore would take.
    newest: Option<CheckpointId>,
    /// What is kept beside it.
    older: BTreeSet<CheckpointId>,
    /// What is to be deleted, in this order.
    backlog: VecDeque<CheckpointId>,
    /// What is being deleted.
    deleting: Option<CheckpointId>,
    /// What could not be deleted; the next completion tries again.
    failed: BTreeSet<CheckpointId>,
}

impl Retained {
    /// Begins with what the storage holds; the one that was restored counts as the newest. Nothing is deleted before
    /// the next completion: until then a broken start must be able to go back.
    pub(super) fn start(&mut self, restored: Option<CheckpointId>, held: &[CheckpointId]) {
        *self = Retained { newest: restored, older: held.iter().copied().collect(), ..Retained::default() };
        if let Some(newest) = restored {
            self.older.remove(&newest);
        }
    }

    /// Adds a completed one and queues what is kept beyond `keep`.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId, keep: usize) {
        self.older.extend(self.newest.replace(checkpoint));
        self.backlog.extend(std::mem::take(&mut self.failed));
        while self.older.len() + 1 > keep.max(1) {
            self.backlog.extend(self.older.pop_first());
        }
    }

    /// The next one to delete, if none is being deleted.
    pub(super) fn next_deletion(&mut self) -> Option<CheckpointId> {
        if self.deleting.is_some() {
            return None;
        }
        self.deleting = self.backlog.pop_front();
        self.deleting
    }

    /// Takes the answer to a deletion; one that nobody waits for changes nothing.
    pub(super) fn deleted(&mut self, checkpoint: CheckpointId, done: bool) {
        if self.deleting.take_if(|deleting| *deleting == checkpoint).is_some() && !done {
            self.failed.insert(checkpoint);
        }
    }

    /// Begins no deletion any more; the next start is told again of what is left.
    pub(super) fn hold_deletions(&mut self) {
        self.failed.extend(self.backlog.drain(..));
    }

    /// How many wait to be deleted or are being deleted.
    pub(super) fn cleaning(&self) -> usize {
        self.backlog.len() + usize::from(self.deleting.is_some())
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.deleting.is_some()
    }

    /// Whether the checkpoint is complete and its manifest may exist: then its blobs are in use, also while it waits to
    /// be deleted. They go after the manifest, never before it.
    pub(super) fn may_exist(&self, checkpoint: CheckpointId) -> bool {
        self.is_kept(checkpoint) || self.leaving().any(|leaving| leaving == checkpoint)
    }

    fn is_kept(&self, checkpoint: CheckpointId) -> bool {
        self.newest == Some(checkpoint) || self.older.contains(&checkpoint)
    }

    fn leaving(&self) -> impl Iterator<Item = CheckpointId> + '_ {
        self.backlog.iter().chain(&self.deleting).chain(&self.failed).copied()
    }

    pub(super) fn newest(&self) -> Option<CheckpointId> {
        self.newest
    }

    /// All that are kept, ascending by id.
    pub(super) fn kept(&self) -> BTreeSet<CheckpointId> {
        self.older.iter().copied().chain(self.newest).collect()
    }

    /// Whether what is to be deleted is apart from what is kept.
    pub(super) fn is_consistent(&self) -> bool {
        !self.leaving().any(|leaving| self.is_kept(leaving))
            && self.newest.is_none_or(|newest| !self.older.contains(&newest))
    }
}
