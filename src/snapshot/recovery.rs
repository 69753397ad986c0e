//! Which checkpoint a start begins from.
//!
//! The newest run decides: its newest manifest, or the checkpoint that it began from itself. So a line of checkpoints
//! from which an earlier start went back never comes back, however high its ids are.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::store::{CheckpointStore, Manifest, RunRecord, StoreError};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::store::{Store, is_damage};
use super::{names, objects};
use crate::storage::CheckpointStorage;

/// What the names in a store tell.
pub(crate) struct Listing {
    /// Every run with a record, and the id below which its record reserves.
    pub(crate) runs: BTreeMap<RunNumber, CheckpointId>,
    /// Every manifest with its length in bytes.
    pub(crate) manifests: BTreeMap<(RunNumber, CheckpointId), u64>,
    /// Every reservation.
    pub(crate) reservations: BTreeSet<CheckpointId>,
}

/// A checkpoint by its run and its number.
type Found = (RunNumber, CheckpointId);

impl Listing {
    pub(crate) fn read(storage: &dyn CheckpointStorage) -> Result<Listing, StoreError> {
        let mut listing = Listing { runs: BTreeMap::new(), manifests: BTreeMap::new(), reservations: BTreeSet::new() };
        for object in storage.list(names::RUNS)? {
            if let Some((run, below)) = names::parse_run(&object.name) {
                listing.runs.insert(run, below);
            }
        }
        for object in storage.list(names::MANIFESTS)? {
            if let Some(found) = names::parse_manifest(&object.name) {
                listing.manifests.insert(found, object.length);
            }
        }
        for object in storage.list(names::RESERVATIONS)? {
            listing.reservations.extend(names::parse_reservation(&object.name));
        }
        let newest = listing.runs.keys().next_back().copied().unwrap_or_default();
        if let Some(((run, checkpoint), _)) = listing.manifests.iter().next_back()
            && *run > newest
        {
            return Err(StoreError::Missing {
                file: storage.locate(&format!("{}r{:010}-*", names::RUNS, run.0)),
                reason: format!("checkpoint {checkpoint} of run {run} is there, the record of the run is not"),
            });
        }
        Ok(listing)
    }

    /// The number of the newest run, zero if there was none.
    pub(crate) fn newest_run(&self) -> RunNumber {
        self.runs.keys().next_back().copied().unwrap_or_default()
    }

    /// The lowest id above all that may have been handed out. `None` if they are used up.
    pub(crate) fn unused_id(&self) -> Option<CheckpointId> {
        let reserved = self.runs.values().chain(&self.reservations).map(|below| below.0).max().unwrap_or(1);
        let highest = self.manifests.keys().map(|(_, checkpoint)| checkpoint.0).max().unwrap_or(0);
        Some(CheckpointId(reserved.max(highest.checked_add(1)?).max(1)))
    }

    /// The checkpoint with this number; ids are unique over all runs.
    pub(crate) fn find(&self, checkpoint: CheckpointId) -> Option<Found> {
        self.manifests.keys().rev().find(|found| found.1 == checkpoint).copied()
    }

    /// The checkpoints of a run up to `limit`, the newest first.
    fn of_run(&self, run: RunNumber, limit: CheckpointId) -> impl Iterator<Item = Found> + '_ {
        self.manifests.range((run, CheckpointId(0))..=(run, limit)).rev().map(|(found, _)| *found)
    }

    fn record(&self, storage: &dyn CheckpointStorage, run: RunNumber) -> Result<Option<RunRecord>, StoreError> {
        self.runs.get(&run).map(|below| objects::read_run(storage, run, *below)).transpose()
    }

    /// The run before `run` that took `checkpoint`, also if its manifest is gone: the records tell.
    fn owner(
        &self,
        storage: &dyn CheckpointStorage,
        checkpoint: CheckpointId,
        run: RunNumber,
    ) -> Result<Option<RunNumber>, StoreError> {
        if let Some((owner, _)) = self.find(checkpoint) {
            return Ok(Some(owner).filter(|owner| *owner < run));
        }
        for (earlier, _) in self.runs.range(..run).rev() {
            let record = self.record(storage, *earlier)?;
            if record.is_some_and(|record| record.first_checkpoint <= checkpoint) {
                return Ok(Some(*earlier));
            }
        }
        Ok(None)
    }

    /// The checkpoint that recovery takes if nothing is damaged.
    pub(crate) fn recovery_point(&self, storage: &dyn CheckpointStorage) -> Result<Option<Found>, StoreError> {
        let newest = self.newest_run();
        if let Some(found) = self.of_run(newest, CheckpointId(u64::MAX)).next() {
            return Ok(Some(found));
        }
        let record = self.record(storage, newest)?;
        Ok(record.and_then(|record| record.restored_from).and_then(|checkpoint| self.find(checkpoint)))
    }

    /// Every checkpoint on the line of the newest run: its own, and those of the runs that it goes back to.
    pub(crate) fn line(&self, storage: &dyn CheckpointStorage) -> Result<BTreeSet<Found>, StoreError> {
        let mut line = BTreeSet::new();
        let mut run = self.newest_run();
        let mut limit = CheckpointId(u64::MAX);
        loop {
            line.extend(self.of_run(run, limit));
            let record = self.record(storage, run)?;
            let Some(checkpoint) = record.and_then(|record| record.restored_from) else { return Ok(line) };
            let Some(owner) = self.owner(storage, checkpoint, run)? else { return Ok(line) };
            (run, limit) = (owner, checkpoint);
        }
    }
}

/// A checkpoint that cannot be taken, and whether a sink had anything to commit in it, as far as is known.
struct Unfit {
    error: StoreError,
    has_committables: Option<bool>,
}

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Unfit {
        Unfit { error, has_committables: None }
    }
}

impl Store {
    /// The hash seed that the store holds; checks on the way that the store belongs to this job.
    pub(super) fn stored_hash_seed(&self) -> Result<Option<u64>, StoreError> {
        let listing = Listing::read(&*self.storage)?;
        let mut first_error = None;
        for (run, below) in listing.runs.iter().rev() {
            match objects::read_run(&*self.storage, *run, *below) {
                Ok(record) => {
                    self.check_job(&record.job, &self.storage.locate(&names::run(*run, *below)))?;
                    return Ok(Some(record.hash_seed));
                }
                Err(error) if self.options.fall_back_to_older && is_damage(&error) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        for (run, checkpoint) in listing.manifests.keys().rev() {
            if let Ok(manifest) = objects::read_manifest(&*self.storage, *run, *checkpoint) {
                self.check_job(&manifest.job, &self.storage.locate(&names::manifest(*run, *checkpoint)))?;
                return Ok(Some(manifest.hash_seed));
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    pub(super) fn recovered(&self) -> Result<Option<Manifest>, StoreError> {
        let listing = Listing::read(&*self.storage)?;
        let mut passed = self.reconcile(&listing)?;
        let mut run = listing.newest_run();
        let mut limit = CheckpointId(u64::MAX);
        loop {
            let of_run = listing.of_run(run, limit);
            let oldest = listing.manifests.keys().next().copied().filter(|_| is_active(Mutation::RestoreAnOlder));
            for found in oldest.into_iter().chain(of_run) {
                match self.load(found) {
                    Ok(manifest) => {
                        self.references().named_by(&manifest);
                        return Ok(Some(manifest));
                    }
                    Err(unfit) => self.pass_over(found.1, unfit, &mut passed)?,
                }
            }
            let record = listing.record(&*self.storage, run)?;
            let Some(checkpoint) = record.and_then(|record| record.restored_from) else {
                // Never in silence: without a checkpoint to fall back to, the damage is the answer.
                return passed.map_or(Ok(None), Err);
            };
            let owner = listing.owner(&*self.storage, checkpoint, run)?;
            if listing.find(checkpoint).is_none() {
                let file = self.storage.locate(&names::manifest(owner.unwrap_or_default(), checkpoint));
                let reason = format!("run {run} began from it");
                self.pass_over(checkpoint, StoreError::Missing { file, reason }.into(), &mut passed)?;
            }
            match (owner, passed.clone()) {
                (Some(owner), _) => (run, limit) = (owner, checkpoint),
                (None, Some(error)) => return Err(error),
                (None, None) => return Ok(None),
            }
        }
    }

    /// Drops what the catalogue knows and the manifests do not. If it knows a checkpoint of the newest run above all
    /// that are there, then somebody else removed that one: the store itself never deletes the newest.
    fn reconcile(&self, listing: &Listing) -> Result<Option<StoreError>, StoreError> {
        let newest = listing.newest_run();
        let highest = listing.of_run(newest, CheckpointId(u64::MAX)).next().map(|found| found.1).unwrap_or_default();
        let mut passed = None;
        let mut stale = Vec::new();
        for (found, summary) in self.index.all() {
            if listing.manifests.contains_key(&found) {
                continue;
            }
            if found.0 == newest && found.1 > highest {
                let file = self.storage.locate(&names::manifest(found.0, found.1));
                let error = StoreError::Missing { file, reason: "the catalogue knows it as completed".to_owned() };
                let unfit = Unfit { error, has_committables: Some(summary.has_committables) };
                self.pass_over(found.1, unfit, &mut passed)?;
            } else {
                stale.push(found);
            }
        }
        self.index.remove(&stale);
        Ok(passed)
    }

    fn load(&self, found: Found) -> Result<Manifest, Unfit> {
        let name = names::manifest(found.0, found.1);
        // Its outcome may have been unknown. What a restore begins from must survive a crash, or the sinks would
        // commit a checkpoint that is then not there.
        if !self.storage.is_published(&name)? {
            let file = self.storage.locate(&name);
            return Err(StoreError::Missing { file, reason: "it was there a moment ago".to_owned() }.into());
        }
        let manifest = objects::read_manifest(&*self.storage, found.0, found.1).map_err(|error| Unfit {
            error,
            has_committables: self.index.all().get(&found).map(|summary| summary.has_committables),
        })?;
        self.check_job(&manifest.job, &self.storage.locate(&name))?;
        for blob in manifest.blobs() {
            let sound = self.check_blob_length(blob).and_then(|()| {
                // The cost of a second reading is the price of being able to choose.
                if self.options.fall_back_to_older { self.verify_blob(blob) } else { Ok(()) }
            });
            sound.map_err(|error| Unfit { error, has_committables: Some(manifest.has_committables()) })?;
        }
        Ok(manifest)
    }

    /// Decides whether recovery may go on to an older checkpoint.
    fn pass_over(
        &self,
        checkpoint: CheckpointId,
        unfit: Unfit,
        passed: &mut Option<StoreError>,
    ) -> Result<(), StoreError> {
        if !self.options.fall_back_to_older || !is_damage(&unfit.error) {
            return Err(unfit.error);
        }
        if unfit.has_committables != Some(false) && !self.options.accept_repeats {
            let reason = format!(
                "falling back behind checkpoint {checkpoint} may repeat output that a sink has committed ({}); accept \
                 repeats by name, or restore the file",
                unfit.error
            );
            return Err(StoreError::Refused { reason });
        }
        tracing::warn!(%checkpoint, error = %unfit.error, "passed over, recovery falls back to an older checkpoint");
        passed.get_or_insert(unfit.error);
        Ok(())
    }
}
