//! Which local copies of blobs are worth their room.
//!
//! Those of the newest completed checkpoint, since a restore in this process begins there; those of checkpoints that may still complete; and those of blobs that were folded from a
//! chain and wait for the checkpoint that will name them. Every other copy is freed, whatever becomes of the blob itself: a copy that is gone costs a read from the
//! store, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{CheckpointId, RunNumber};
use crate::ports::store::{BlobHandle, Manifest, parse_blob_name};
use crate::protocol::mutation::{Mutation, is_active};

/// The books on the local copies of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// What there is a copy of, by the blob's name.
    copied: BTreeMap<String, BlobHandle>,
    /// The newest completed checkpoint, with its blobs.
    newest: Option<CheckpointId>,
    named: BTreeSet<String>,
    /// Blobs, by the last part of their names, that wait for the checkpoint which will name them.
    kept: BTreeSet<String>,
    /// The blobs of manifests whose outcome is unknown.
    doubtful: BTreeMap<(RunNumber, CheckpointId), BTreeSet<String>>,
}

impl Copies {
    /// A blob was written, and there is a copy. False when it is not worth its room: no checkpoint will name it.
    #[must_use]
    pub fn written(&mut self, handle: &BlobHandle) -> bool {
        let worth = self.may_be_named(&handle.name);
        if worth {
            self.copied.insert(handle.name.clone(), handle.clone());
        }
        worth
    }

    /// A copy is of no use.
    pub fn useless(&mut self, name: &str) {
        self.copied.remove(name);
    }

    /// A fold announces the blob of this name, and keeps it until it is let go.
    pub fn keep(&mut self, name: &str) {
        self.kept.insert(name.to_owned());
    }

    /// The end of [`Copies::keep`].
    pub fn let_go(&mut self, name: &str) {
        self.kept.remove(name);
    }

    /// It is not known whether this manifest was published.
    pub fn doubtful(&mut self, manifest: &Manifest) {
        self.doubtful.insert((manifest.run, manifest.checkpoint), names(manifest));
    }

    /// What was doubtful was published, or not. Answers what to free.
    #[must_use]
    pub fn settled(&mut self, run: RunNumber, checkpoint: CheckpointId, published: bool) -> Vec<String> {
        match self.doubtful.remove(&(run, checkpoint)) {
            Some(named) if published => self.newly_named(checkpoint, named),
            Some(_) | None => Vec::new(),
        }
    }

    /// A checkpoint is complete. Answers what to free.
    #[must_use]
    pub fn completed(&mut self, manifest: &Manifest) -> Vec<String> {
        self.newly_named(manifest.checkpoint, names(manifest))
    }

    fn newly_named(&mut self, checkpoint: CheckpointId, named: BTreeSet<String>) -> Vec<String> {
        if self.newest.is_some_and(|newest| newest > checkpoint) {
            return Vec::new();
        }
        self.newest = Some(checkpoint);
        self.named = named;
        self.unworthy(Copies::may_be_named)
    }

    /// The job goes back to this checkpoint, or begins anew: nothing that was pending will complete. Answers what to free.
    #[must_use]
    pub fn restored(&mut self, manifest: Option<&Manifest>) -> Vec<String> {
        self.doubtful.clear();
        self.newest = manifest.map(|manifest| manifest.checkpoint);
        self.named = manifest.map(names).unwrap_or_default();
        if is_active(Mutation::StaleLocalCopy) {
            return Vec::new();
        }
        self.unworthy(Copies::is_wanted)
    }

    /// Nobody will name these blobs, unless the newest complete checkpoint does. Answers what to free.
    #[must_use]
    pub fn given_up(&mut self, blobs: &[BlobHandle]) -> Vec<String> {
        if is_active(Mutation::StaleLocalCopy) {
            return Vec::new();
        }
        let unwanted = blobs.iter().map(|blob| &blob.name).filter(|name| !self.is_wanted(name));
        let unwanted: Vec<String> = unwanted.filter(|name| self.copied.contains_key(*name)).cloned().collect();
        for name in &unwanted {
            self.copied.remove(name);
        }
        unwanted
    }

    /// Nothing will ever be restored again. Answers what to free.
    #[must_use]
    pub fn over(&mut self) -> Vec<String> {
        let all = std::mem::take(self);
        all.copied.into_keys().collect()
    }

    /// The blob of this name, if there is a copy of it.
    #[must_use]
    pub fn copy_of(&self, name: &str) -> Option<&BlobHandle> {
        self.copied.get(name)
    }

    /// The blobs that there are copies of.
    pub fn copied(&self) -> impl Iterator<Item = &BlobHandle> {
        self.copied.values()
    }

    fn unworthy(&mut self, worth: impl Fn(&Copies, &str) -> bool) -> Vec<String> {
        let unworthy: Vec<String> = self.copied.keys().filter(|name| !worth(self, name)).cloned().collect();
        for name in &unworthy {
            self.copied.remove(name);
        }
        unworthy
    }

    /// Whether the newest complete checkpoint names a blob, or whoever folded it waits for one that will.
    fn is_wanted(&self, name: &str) -> bool {
        self.named.contains(name) || self.kept.contains(name.rsplit('/').next().unwrap_or_default())
    }

    /// Whether that is so, or it was written for a checkpoint that may still complete.
    fn may_be_named(&self, name: &str) -> bool {
        let written_for = parse_blob_name(name).map(|parts| parts.checkpoint);
        self.is_wanted(name)
            || written_for.is_some_and(|checkpoint| self.newest.is_none_or(|newest| newest < checkpoint))
    }
}

fn names(manifest: &Manifest) -> BTreeSet<String> {
    manifest.blobs().map(|blob| blob.name.clone()).collect()
}
