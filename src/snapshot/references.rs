//! Who refers to which blob: manifests, and those who say that one of them will.
//!
//! Incremental checkpoints share blobs. A blob may be deleted when nobody refers to it any more, and never before: not a manifest, complete or of unknown outcome;
//! not a pending checkpoint whose base it belongs to; not the subtask that has folded a chain into it and waits for the checkpoint that will name it. What
//! nobody refers to can never be referred to again, so it may be deleted without a look back.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::store::{BlobHandle, Manifest};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::names;

/// A checkpoint by its run and its number.
type Found = (RunNumber, CheckpointId);

/// The references to the blobs of one store. In memory only: made again from the manifests at each start.
#[derive(Default)]
pub(super) struct References {
    manifests: BTreeMap<Found, Vec<String>>,
    /// Manifests that cannot be read: each may name any blob that is not newer than itself.
    unreadable: BTreeSet<Found>,
    holds: Vec<Hold>,
    /// How many of the manifests and holds refer to a blob.
    counts: BTreeMap<String, usize>,
    /// Blobs of checkpoints that are gone or were given up, which somebody held then, which a manifest that cannot be read may name, or which could not be deleted.
    left_over: BTreeSet<String>,
}

/// Blobs that somebody will refer to.
struct Hold {
    /// Who says so may no longer act when it has ended.
    fence: Fence,
    /// The pending checkpoint that does; nothing for a blob that waits for one.
    checkpoint: Option<CheckpointId>,
    blobs: Vec<String>,
}

impl References {
    /// A manifest exists, or may: false if that was known.
    pub(super) fn named_by(&mut self, manifest: &Manifest) -> bool {
        let found = (manifest.run, manifest.checkpoint);
        if self.manifests.contains_key(&found) {
            return false;
        }
        let blobs: BTreeSet<String> = manifest.blobs().map(|blob| blob.name.clone()).collect();
        for blob in &blobs {
            *self.counts.entry(blob.clone()).or_default() += 1;
        }
        self.manifests.insert(found, blobs.into_iter().collect());
        self.unreadable.remove(&found);
        true
    }

    /// Whether the blobs that a manifest names are known.
    pub(super) fn knows(&self, found: Found) -> bool {
        self.manifests.contains_key(&found)
    }

    /// A manifest is there that cannot be read.
    pub(super) fn unreadable(&mut self, found: Found) {
        self.unreadable.insert(found);
    }

    /// A manifest is gone, or never was: answers its blobs.
    pub(super) fn gone(&mut self, found: Found) -> Vec<String> {
        self.unreadable.remove(&found);
        let blobs = self.manifests.remove(&found).unwrap_or_default();
        self.less(&blobs);
        blobs
    }

    /// Of the manifests that were known, only these are there.
    pub(super) fn only(&mut self, there: impl Fn(&Found) -> bool) {
        let gone: Vec<Found> =
            self.manifests.keys().chain(&self.unreadable).filter(|found| !there(found)).copied().collect();
        for found in gone {
            let blobs = self.gone(found);
            self.left_over.extend(blobs);
        }
    }

    /// See [`CheckpointStore::share`](alluvium_actors::ports::store::CheckpointStore::share).
    pub(super) fn share(&mut self, fence: &Fence, checkpoint: CheckpointId, blobs: &[BlobHandle]) -> bool {
        if !blobs.iter().all(|blob| self.counts.contains_key(&blob.name)) {
            return false;
        }
        self.hold(fence, Some(checkpoint), blobs.iter().map(|blob| blob.name.clone()).collect());
        true
    }

    /// See [`CheckpointStore::keep`](alluvium_actors::ports::store::CheckpointStore::keep).
    pub(super) fn keep(&mut self, fence: &Fence, name: String) {
        self.hold(fence, None, vec![name]);
    }

    /// See [`CheckpointStore::let_go`](alluvium_actors::ports::store::CheckpointStore::let_go).
    pub(super) fn let_go(&mut self, name: &str) {
        self.release(|hold| hold.checkpoint.is_none() && hold.blobs.iter().any(|held| held == name));
    }

    /// A checkpoint is complete: no older one will be.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId) {
        self.release(|hold| hold.checkpoint.is_some_and(|pending| pending <= checkpoint));
    }

    /// Whoever may no longer act holds nothing.
    pub(super) fn release_ended(&mut self) {
        self.release(|hold| hold.fence.check().is_err());
    }

    /// Takes from `blobs`, and from what was left over before, what may be deleted now; what may not is left over.
    pub(super) fn deletable(&mut self, blobs: Vec<String>) -> Vec<String> {
        self.release_ended();
        let shared = is_active(Mutation::DeleteASharedBlob);
        let candidates = std::mem::take(&mut self.left_over).into_iter().chain(blobs);
        let (deletable, kept): (BTreeSet<String>, BTreeSet<String>) =
            candidates.partition(|name| shared || !self.is_wanted(name));
        // One that a manifest names goes with that manifest.
        let held = |name: &String| self.manifests.values().flatten().all(|named| named != name);
        self.left_over = kept.into_iter().filter(held).collect();
        deletable.into_iter().collect()
    }

    /// What could not be deleted is tried again.
    pub(super) fn not_deleted(&mut self, blobs: Vec<String>) {
        self.left_over.extend(blobs);
    }

    /// Whether somebody refers to a blob, or may.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.counts.contains_key(name) || self.may_be_named(name)
    }

    fn may_be_named(&self, name: &str) -> bool {
        let Some((written, _)) = names::checkpoint_of_blob(name) else { return !self.unreadable.is_empty() };
        self.unreadable.iter().any(|(_, checkpoint)| *checkpoint >= written)
    }

    fn hold(&mut self, fence: &Fence, checkpoint: Option<CheckpointId>, blobs: Vec<String>) {
        for blob in &blobs {
            *self.counts.entry(blob.clone()).or_default() += 1;
        }
        self.holds.push(Hold { fence: fence.clone(), checkpoint, blobs });
    }

    fn release(&mut self, over: impl Fn(&Hold) -> bool) {
        let (over, holds) = std::mem::take(&mut self.holds).into_iter().partition(over);
        self.holds = holds;
        for hold in over {
            self.less(&hold.blobs);
        }
    }

    fn less(&mut self, blobs: &[String]) {
        for blob in blobs {
            if let Some(count) = self.counts.get_mut(blob) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(blob);
                }
            }
        }
    }
}
