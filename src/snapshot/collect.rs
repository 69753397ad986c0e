//! Removing what nobody refers to any more: orphaned blobs, and records that no checkpoint needs.

use std::collections::BTreeSet;

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::store::{RunRecord, StoreError};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::recovery::Listing;
use super::store::{Store, is_damage};
use super::{names, objects};

impl Store {
    /// Removes blobs of runs before `record` that no manifest names, the reservations that the record covers, and the
    /// records of runs before the oldest one that has a checkpoint. Files that are not of a store are left alone.
    ///
    /// Regions that run on during the restart of another are of an older run. What they have written by now and no manifest names goes too, and may:
    /// a run begins only after the coordinator was suspended, which leaves no checkpoint pending (the invariant
    /// `coordinator.quiet-when-suspended`, and an assertion where the coordinator takes up the run), and no new one begins before the run is there.
    pub(super) fn collect(&self, fence: &Fence, record: &RunRecord, listing: &Listing) -> Result<(), StoreError> {
        self.remove_reservations(fence, record.first_checkpoint)?;
        // The chain of records must reach down to every checkpoint: recovery follows it.
        let needed = listing.manifests.keys().map(|(run, _)| *run).min().unwrap_or(record.run);
        let unneeded = listing.runs.range(..needed).map(|(run, below)| names::run(*run, *below)).collect::<Vec<_>>();
        if !unneeded.is_empty() {
            self.storage.delete(fence, &unneeded)?;
        }
        self.remove_orphans_of(fence, listing, |run| run < record.run, false)
    }

    /// Removes the blobs that no manifest names and that a run wrote of which nothing is under way. What somebody holds stays, unless the job is over: regions
    /// that run on may have folded a chain into a blob that no checkpoint names yet.
    pub(super) fn remove_orphans_of(
        &self,
        fence: &Fence,
        listing: &Listing,
        is_over: impl Fn(RunNumber) -> bool,
        job_is_over: bool,
    ) -> Result<(), StoreError> {
        let blobs = self.storage.list(names::BLOBS)?;
        let old = |name: &str| names::run_of_blob(name).is_some_and(&is_over);
        let mut orphans: BTreeSet<String> =
            blobs.into_iter().map(|object| object.name).filter(|name| old(name)).collect();
        if orphans.is_empty() {
            return Ok(());
        }
        for (run, checkpoint) in listing.manifests.keys() {
            match objects::read_manifest(&*self.storage, *run, *checkpoint) {
                Ok(_) if is_active(Mutation::DeleteANamedBlob) => {}
                Ok(manifest) => manifest.blobs().for_each(|blob| {
                    orphans.remove(&blob.name);
                }),
                Err(error) if is_damage(&error) => {
                    // It may name any of them, and somebody may mend it.
                    tracing::warn!(%error, "no blobs are removed while a manifest cannot be read");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if !job_is_over {
            let mut references = self.references();
            // The word of an attempt that is over may be all that holds the blob of a fold, and nobody else would come back to it.
            references.release_ended();
            orphans.retain(|name| !references.is_wanted(name));
        }
        self.storage.delete(fence, &orphans.into_iter().collect::<Vec<_>>())
    }

    /// Removes the reservations below `below`, which another object covers.
    pub(super) fn remove_reservations(&self, fence: &Fence, below: CheckpointId) -> Result<(), StoreError> {
        let covered = |name: &str| names::parse_reservation(name).is_some_and(|reserved| reserved < below);
        let found = self.storage.list(names::RESERVATIONS)?;
        let covered: Vec<String> = found.into_iter().map(|object| object.name).filter(|name| covered(name)).collect();
        if covered.is_empty() { Ok(()) } else { self.storage.delete(fence, &covered) }
    }
}
