//! The checkpoint store: publishing, reading, deleting, over any [`CheckpointStorage`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ids::{CheckpointId, RunNumber, WallTime};
use alluvium_actors::ports::catalogue::Catalogue;
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::files::Files;
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::store::{
    BlobHandle, BlobWriter, ChainLimits, CheckpointStore, CheckpointSummary, Manifest, PublishOutcome, RunRecord,
    StoreError,
};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::envelope::damaged;
use super::history::History;
use super::index::{self, Index};
use super::options::{LARGEST_INLINE_LIMIT, StoreOptions};
use super::recovery::Listing;
use super::references::References;
use super::{names, objects};
use crate::storage::{CheckpointStorage, FileStorage, ObjectWriter, PutOutcome, SledCatalogue};

/// Where the catalogue of a store in a directory lies. Not a group of objects, for its dot.
const CATALOGUE: &str = "catalogue.sled";

/// How many ids the record of a run reserves by itself.
const RESERVED_WITH_RUN: u64 = 16;

/// The unit in which blobs are read to be verified, in bytes.
const VERIFIED_AT_ONCE: u64 = 1024 * 1024;

/// The run that this handle has begun, and what it knows of it.
#[derive(Default)]
struct Current {
    record: Option<RunRecord>,
    /// The first run that it has begun. What a restart left running writes blobs under the run in which it was built; fences end its right to.
    first: RunNumber,
    /// Ids below this one may be handed out.
    below: CheckpointId,
}

/// The checkpoints of one job. See [`CheckpointStore`].
pub struct Store {
    // Before the storage, whose lock guards the catalogue's directory too: fields are dropped in this order.
    pub(super) index: Index,
    history: History,
    pub(super) storage: Arc<dyn CheckpointStorage>,
    pub(super) options: StoreOptions,
    hash_seed: u64,
    current: Mutex<Current>,
    /// Never locked while anything is read or written.
    references: Mutex<References>,
}

impl Store {
    /// Opens the store of a job. Without a catalogue some answers take longer, nothing else.
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherJob`] if the store belongs to another job, [`StoreError::Damaged`] if the newest run record
    /// is, [`StoreError::Refused`] for an inline limit above [`LARGEST_INLINE_LIMIT`].
    pub fn new(
        storage: Arc<dyn CheckpointStorage>,
        catalogue: Option<Arc<dyn Catalogue>>,
        options: StoreOptions,
    ) -> Result<Store, StoreError> {
        if options.inline_limit > LARGEST_INLINE_LIMIT {
            let given = options.inline_limit;
            let reason = format!("an inline limit of {given} bytes is above {LARGEST_INLINE_LIMIT}: lower it");
            return Err(StoreError::Refused { reason });
        }
        let mut store = Store {
            index: Index::new(catalogue.clone()),
            history: History::new(catalogue),
            hash_seed: options.new_hash_seed,
            storage,
            options,
            current: Mutex::default(),
            references: Mutex::default(),
        };
        if let Some(stored) = store.stored_hash_seed()? {
            store.hash_seed = stored;
        }
        Ok(store)
    }

    /// Opens the store of a job in a directory behind `files`, with files for everything that counts and a catalogue in sled. The
    /// directory is created if missing, and locked as long as the store lives.
    ///
    /// # Errors
    ///
    /// As [`Store::new`] and [`FileStorage::open`].
    pub fn open_directory(files: Arc<dyn Files>, directory: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        let storage = FileStorage::open(files, directory)?;
        let catalogue: Option<Arc<dyn Catalogue>> = match SledCatalogue::open(&directory.join(CATALOGUE)) {
            Ok((catalogue, _)) => Some(Arc::new(catalogue)),
            Err(error) => {
                tracing::warn!(%error, "the store works without a catalogue");
                None
            }
        };
        Store::new(Arc::new(storage), catalogue, options)
    }

    /// The seed of the job's key hash: the stored one, or that of the options if the store is new.
    #[must_use]
    pub fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    pub(super) fn references(&self) -> MutexGuard<'_, References> {
        self.references.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the job of a stored file is the one that was opened.
    pub(super) fn check_job(&self, stored: &str, file: &str) -> Result<(), StoreError> {
        if stored == self.options.job {
            return Ok(());
        }
        Err(StoreError::OtherJob {
            file: file.to_owned(),
            stored: stored.to_owned(),
            requested: self.options.job.clone(),
        })
    }

    /// Puts an object of which this handle knows that nobody else writes it.
    fn put(&self, fence: &Fence, name: &str, content: &[u8]) -> Result<(), StoreError> {
        match self.storage.publish(fence, name, content) {
            PutOutcome::Done => Ok(()),
            PutOutcome::Taken => {
                let file = self.storage.locate(name);
                Err(StoreError::Refused { reason: format!("{file} exists already: is another handle at work?") })
            }
            PutOutcome::Failed(error) => Err(error),
            PutOutcome::Unknown(error) => match self.storage.is_published(name) {
                Ok(true) => Ok(()),
                Ok(false) => Err(error),
                Err(later) => Err(later),
            },
        }
    }

    fn check_run(&self, run: RunNumber) -> Result<(), StoreError> {
        match self.current().record.as_ref().map(|record| record.run) {
            Some(current) if current == run => Ok(()),
            Some(current) => {
                Err(StoreError::Refused { reason: format!("run {run} is not the current one, which is {current}") })
            }
            None => Err(StoreError::Refused { reason: format!("run {run} was not begun with this handle") }),
        }
    }

    /// Whether a run is one that was begun with this handle.
    fn check_begun(&self, run: RunNumber) -> Result<(), StoreError> {
        let current = self.current();
        match &current.record {
            Some(record) if (current.first..=record.run).contains(&run) => Ok(()),
            Some(_) | None => Err(StoreError::Refused { reason: format!("run {run} was not begun with this handle") }),
        }
    }

    fn check_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        self.check_run(manifest.run)?;
        self.check_job(&manifest.job, "the manifest to publish")?;
        let current = self.current();
        let first = current.record.as_ref().map(|record| record.first_checkpoint).unwrap_or_default();
        if manifest.checkpoint < first || manifest.checkpoint >= current.below {
            let reason = format!(
                "checkpoint {} is outside of the ids that are reserved for run {}, from {first} below {}",
                manifest.checkpoint, manifest.run, current.below
            );
            return Err(StoreError::Refused { reason });
        }
        if manifest.hash_seed != self.hash_seed {
            let reason = format!("the manifest has hash seed {}, the job {}", manifest.hash_seed, self.hash_seed);
            return Err(StoreError::Refused { reason });
        }
        Ok(())
    }

    /// Learns what the manifests name that are there.
    fn count_references(&self, listing: &Listing) {
        self.references().only(|found| listing.manifests.contains_key(found));
        let unknown: Vec<_> = listing.manifests.keys().filter(|found| !self.references().knows(**found)).collect();
        for found in unknown {
            match objects::read_manifest(&*self.storage, found.0, found.1) {
                Ok(manifest) => _ = self.references().named_by(&manifest),
                Err(error) => {
                    tracing::warn!(%error, "no blobs that it may name are deleted");
                    self.references().unreadable(*found);
                }
            }
        }
    }

    /// The name was taken: by this very manifest, whose first outcome was unknown, or by another one.
    fn settle_taken(&self, name: &str, bytes: &[u8]) -> PublishOutcome {
        let settled = self.storage.length(name).and_then(|length| {
            let same = length == Some(bytes.len() as u64) && self.storage.read(name, 0, bytes.len())? == bytes;
            Ok(same && self.storage.is_published(name)?)
        });
        match settled {
            Ok(true) => PublishOutcome::Done,
            Ok(false) => {
                let file = self.storage.locate(name);
                PublishOutcome::Failed(StoreError::Refused { reason: format!("{file} holds another manifest") })
            }
            Err(error) => PublishOutcome::Unknown(error),
        }
    }
}

impl CheckpointStore for Store {
    fn recover(&self) -> Result<Option<Manifest>, StoreError> {
        self.recovered()
    }

    fn begin_run(
        &self,
        fence: &Fence,
        restored_from: Option<CheckpointId>,
        started: WallTime,
    ) -> Result<RunRecord, StoreError> {
        let listing = Listing::read(&*self.storage)?;
        if let Some(checkpoint) = restored_from
            && listing.find(checkpoint).is_none()
        {
            let reason = format!("checkpoint {checkpoint} is not in the store, so no run can begin from it");
            return Err(StoreError::Refused { reason });
        }
        let used_up = || StoreError::Refused { reason: "the numbers of runs or checkpoints are used up".to_owned() };
        let run = RunNumber(listing.newest_run().0.checked_add(1).ok_or_else(used_up)?);
        let reused = restored_from.filter(|_| is_active(Mutation::ReuseAnId)).map(CheckpointId::next);
        let first_checkpoint = reused.or_else(|| listing.unused_id()).ok_or_else(used_up)?;
        let below = CheckpointId(first_checkpoint.0.checked_add(RESERVED_WITH_RUN).ok_or_else(used_up)?);
        let record = RunRecord {
            run,
            restored_from,
            first_checkpoint,
            reserved_below: below,
            started,
            job: self.options.job.clone(),
            hash_seed: self.hash_seed,
        };
        self.put(fence, &names::run(run, below), &objects::encode_run(&record)?)?;
        {
            let mut current = self.current();
            if current.record.is_none() {
                current.first = run;
            }
            current.record = Some(record.clone());
            current.below = below;
        }
        self.count_references(&listing);
        if let Err(error) = self.collect(fence, &record, &listing) {
            tracing::warn!(%error, "files that nobody refers to stay until the next start");
        }
        Ok(record)
    }

    fn reserve_ids(&self, fence: &Fence, run: RunNumber, below: CheckpointId) -> Result<(), StoreError> {
        self.check_run(run)?;
        if below <= self.current().below {
            return Ok(());
        }
        if !is_active(Mutation::ReservationNotStored) {
            self.put(fence, &names::reservation(below), &objects::encode_reservation())?;
        }
        self.current().below = below;
        if let Err(error) = self.remove_reservations(fence, below) {
            tracing::debug!(%error, "older reservations stay until the next start");
        }
        Ok(())
    }

    fn create_blob(&self, fence: &Fence, name: &str) -> Result<Box<dyn BlobWriter>, StoreError> {
        let name = format!("{}{name}", names::BLOBS);
        let Some(run) = names::run_of_blob(&name) else {
            let reason = format!("`{}` is not the name of a blob: `blob_name` makes them", name.escape_debug());
            return Err(StoreError::Refused { reason });
        };
        self.check_begun(run)?;
        let writer = self.storage.create(fence, &name)?;
        Ok(Box::new(BlobStream { writer, name, length: 0, checksum: 0 }))
    }

    fn read_blob(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        objects::check_blob_name(&handle.name).map_err(|reason| StoreError::Refused { reason })?;
        if offset.checked_add(length as u64).is_none_or(|end| end > handle.length) {
            let file = self.storage.locate(&handle.name);
            let reason = format!("{length} bytes from {offset} lie outside of its {} bytes", handle.length);
            return Err(damaged(&file, reason));
        }
        self.storage.read(&handle.name, offset, length)
    }

    fn verify_blob(&self, handle: &BlobHandle) -> Result<(), StoreError> {
        self.check_blob_length(handle)?;
        let mut checksum = 0;
        let mut offset = 0;
        while offset < handle.length {
            let length = (handle.length - offset).min(VERIFIED_AT_ONCE);
            let bytes = self.read_blob(handle, offset, usize::try_from(length).unwrap_or(usize::MAX))?;
            checksum = crc32c::crc32c_append(checksum, &bytes);
            offset += length;
        }
        if checksum == handle.checksum {
            return Ok(());
        }
        Err(damaged(&self.storage.locate(&handle.name), "its checksum is wrong"))
    }

    fn publish(&self, fence: &Fence, manifest: &Manifest) -> PublishOutcome {
        let bytes = match self.check_manifest(manifest).and_then(|()| objects::encode_manifest(manifest)) {
            Ok(bytes) => bytes,
            Err(error) => return PublishOutcome::Failed(error),
        };
        // Before the outcome is known: what may be named must not be deleted.
        let newly_named = self.references().named_by(manifest);
        let name = names::manifest(manifest.run, manifest.checkpoint);
        let outcome = match self.storage.publish(fence, &name, &bytes) {
            PutOutcome::Done => PublishOutcome::Done,
            PutOutcome::Taken => self.settle_taken(&name, &bytes),
            PutOutcome::Unknown(error) => PublishOutcome::Unknown(error),
            PutOutcome::Failed(error) => {
                if newly_named {
                    self.references().gone((manifest.run, manifest.checkpoint));
                }
                PublishOutcome::Failed(error)
            }
        };
        if outcome == PublishOutcome::Done {
            self.references().completed(manifest.checkpoint);
            self.index.put(&[index::summary(manifest, bytes.len() as u64)]);
        }
        outcome
    }

    fn read_back(&self, run: RunNumber, checkpoint: CheckpointId) -> Result<bool, StoreError> {
        let there = self.storage.is_published(&names::manifest(run, checkpoint))?;
        if !there {
            self.references().gone((run, checkpoint));
        }
        Ok(there)
    }

    fn list(&self) -> Result<Vec<CheckpointSummary>, StoreError> {
        let listing = Listing::read(&*self.storage)?;
        let line = listing.line(&*self.storage)?;
        let mut indexed = self.index.all();
        let mut unknown = Vec::new();
        let mut summaries = Vec::new();
        for (&(run, checkpoint), &length) in &listing.manifests {
            let known = indexed.remove(&(run, checkpoint)).filter(|summary| summary.manifest_bytes == length);
            let mut summary = match known {
                Some(summary) => summary,
                None => {
                    let manifest = match objects::read_manifest(&*self.storage, run, checkpoint) {
                        Ok(manifest) => manifest,
                        // Whether a damaged checkpoint stops a start is for recovery to say; a list names what can be used.
                        Err(error @ (StoreError::Damaged { .. } | StoreError::Missing { .. })) => {
                            tracing::warn!(%error, "a damaged checkpoint is left out of the list");
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    let summary = index::summary(&manifest, length);
                    // Only what survives a crash: the catalogue must not miss a manifest that never was.
                    if self.storage.is_published(&names::manifest(run, checkpoint)).unwrap_or(false) {
                        unknown.push(summary.clone());
                    }
                    summary
                }
            };
            summary.abandoned = !line.contains(&(run, checkpoint));
            summaries.push(summary);
        }
        self.index.put(&unknown);
        summaries.sort_by_key(|summary| (summary.checkpoint, summary.run));
        Ok(summaries)
    }

    fn delete_checkpoint(&self, fence: &Fence, checkpoint: CheckpointId) -> Result<(), StoreError> {
        let listing = Listing::read(&*self.storage)?;
        let Some(found) = listing.find(checkpoint) else { return self.delete_unwanted(fence, Vec::new()) };
        if listing.recovery_point(&*self.storage)? == Some(found) {
            let reason = format!("checkpoint {checkpoint} is the one that recovery would begin from");
            return Err(StoreError::Refused { reason });
        }
        self.delete_found(fence, found)
    }

    fn delete_blobs(&self, fence: &Fence, blobs: &[BlobHandle]) -> Result<(), StoreError> {
        for blob in blobs {
            objects::check_blob_name(&blob.name).map_err(|reason| StoreError::Refused { reason })?;
        }
        self.delete_unwanted(fence, blobs.iter().map(|blob| blob.name.clone()).collect())
    }

    fn remove_orphans(&self, fence: &Fence) -> Result<(), StoreError> {
        self.remove_orphans_of(fence, &Listing::read(&*self.storage)?, |_| true, true)
    }

    fn discard_all(&self, fence: &Fence, now: WallTime) -> Result<(), StoreError> {
        // The record of a run that began anew comes first: whatever a crash leaves of the rest is then abandoned.
        let record = self.begin_run(fence, None, now)?;
        let listing = Listing::read(&*self.storage)?;
        for found in listing.manifests.keys() {
            self.delete_found(fence, *found)?;
        }
        self.history.clear();
        let listing = Listing { manifests: BTreeMap::new(), ..listing };
        self.collect(fence, &record, &listing)
    }

    fn inline_limit(&self) -> usize {
        self.options.inline_limit
    }

    fn remembers(&self) -> bool {
        self.history.is_kept()
    }

    fn remember(&self, record: &CheckpointRecord, limit: usize) {
        self.history.add(record, limit);
    }

    fn remembered(&self) -> Vec<CheckpointRecord> {
        self.history.all()
    }

    fn chains(&self) -> Option<ChainLimits> {
        self.options.chains
    }

    fn share(&self, fence: &Fence, checkpoint: CheckpointId, blobs: &[BlobHandle]) -> bool {
        self.references().share(fence, checkpoint, blobs)
    }

    fn keep(&self, fence: &Fence, name: &str) {
        self.references().keep(fence, format!("{}{name}", names::BLOBS));
    }

    fn let_go(&self, name: &str) {
        self.references().let_go(&format!("{}{name}", names::BLOBS));
    }
}

impl Store {
    fn delete_found(&self, fence: &Fence, found: (RunNumber, CheckpointId)) -> Result<(), StoreError> {
        let listing = Listing::read(&*self.storage)?;
        match objects::read_manifest(&*self.storage, found.0, found.1) {
            Ok(manifest) => _ = self.references().named_by(&manifest),
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "deleted all the same; its blobs are removed at the next start");
            }
            Err(error) => return Err(error),
        }
        // A handle that began no run has not learnt it.
        self.count_references(&listing);
        if is_active(Mutation::DeleteBlobsFirst) {
            let mut references = self.references();
            let blobs = references.gone(found);
            let blobs = references.deletable(blobs);
            drop(references);
            self.storage.delete(fence, &blobs)?;
        }
        self.storage.delete(fence, &[names::manifest(found.0, found.1)])?;
        self.index.remove(&[found]);
        let blobs = self.references().gone(found);
        self.delete_unwanted(fence, blobs)
    }

    /// Deletes those of the blobs to which nobody refers, and what was left over before.
    fn delete_unwanted(&self, fence: &Fence, blobs: Vec<String>) -> Result<(), StoreError> {
        let blobs = self.references().deletable(blobs);
        if blobs.is_empty() {
            return Ok(());
        }
        let deleted = self.storage.delete(fence, &blobs);
        if deleted.is_err() {
            self.references().not_deleted(blobs);
        }
        deleted
    }

    /// Whether a blob is there, with the length that its handle tells.
    pub(super) fn check_blob_length(&self, handle: &BlobHandle) -> Result<(), StoreError> {
        objects::check_blob_name(&handle.name).map_err(|reason| StoreError::Refused { reason })?;
        let file = self.storage.locate(&handle.name);
        match self.storage.length(&handle.name)? {
            None => Err(StoreError::Missing { file, reason: "a checkpoint names it".to_owned() }),
            Some(length) if length == handle.length => Ok(()),
            Some(length) => Err(damaged(&file, format!("it has {length} bytes instead of {}", handle.length))),
        }
    }
}

/// Whether an error tells that a stored file is not what it was.
pub(super) fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged { .. } | StoreError::Missing { .. } | StoreError::Alien { .. })
}

struct BlobStream {
    writer: Box<dyn ObjectWriter>,
    name: String,
    length: u64,
    checksum: u32,
}

impl BlobWriter for BlobStream {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.writer.write(bytes)?;
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn written(&self) -> u64 {
        self.length
    }

    fn finish(self: Box<Self>) -> Result<BlobHandle, StoreError> {
        self.writer.finish()?;
        Ok(BlobHandle { name: self.name, length: self.length, checksum: self.checksum })
    }

    fn abandon(self: Box<Self>) {}
}
