//! The checkpoint store with local copies in front of it: what this process writes is copied, what it restores is read from the copies first.
//!
//! The store stays the only one that decides: a copy is found by the name of a blob in a manifest, and counts only if it is exactly what the handle there says. Whatever is wrong
//! with a copy is a warning, and the blob is read from the store. Which copies are worth their room, [`Copies`] knows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::{CheckpointId, RunNumber, WallTime};
use crate::ports::fence::Fence;
use crate::ports::history::CheckpointRecord;
use crate::ports::local::{CopyError, CopyWriter, LocalCopies};
use crate::ports::points::{Hit, Point, Points, Who};
use crate::ports::store::{
    BlobHandle, BlobWriter, ChainLimits, CheckpointStore, CheckpointSummary, Manifest, PublishOutcome, RunRecord,
    StoreError, parse_blob_name,
};
use crate::protocol::copies::Copies;
use crate::protocol::mutation::{Mutation, is_active};

/// A store behind local copies.
pub struct LocalFirst {
    store: Arc<dyn CheckpointStore>,
    shared: Arc<Shared>,
}

struct Shared {
    copies: Arc<dyn LocalCopies>,
    /// Never locked while anything is read or written.
    books: Mutex<Copies>,
    points: Points,
}

impl LocalFirst {
    /// The store itself where nothing is copied.
    #[must_use]
    pub fn around(
        store: Arc<dyn CheckpointStore>,
        copies: Option<Arc<dyn LocalCopies>>,
        points: Points,
    ) -> Arc<dyn CheckpointStore> {
        let Some(copies) = copies else { return store };
        Arc::new(LocalFirst { store, shared: Arc::new(Shared { copies, books: Mutex::default(), points }) })
    }

    /// Changes the books, and frees what is of no use any more.
    fn note(&self, change: impl FnOnce(&mut Copies) -> Vec<String>) {
        let unworthy = change(&mut self.shared.books());
        if !unworthy.is_empty() {
            self.shared.copies.free(&unworthy);
        }
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Copies> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, point: Point, name: &str) -> Result<(), CopyError> {
        let hit = match parse_blob_name(name) {
            Some(parts) => {
                let who = Who::Instance { operator: parts.operator, subtask: parts.subtask };
                Hit { checkpoint: Some(parts.checkpoint), ..Hit::work(point, who) }
            }
            None => Hit::work(point, Who::Job),
        };
        self.points.pass(&hit, |reason| CopyError::Failed { copy: name.to_owned(), reason })
    }

    fn read(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Option<Vec<u8>>, CopyError> {
        if is_active(Mutation::StaleLocalCopy)
            && let Some(newer) = self.newest_of_the_same(handle)
        {
            return self.copies.read(&newer, offset, length);
        }
        let there = self.books().copy_of(&handle.name) == Some(handle);
        if !there {
            return Ok(None);
        }
        self.pass(Point::LocalRead, &handle.name)?;
        self.copies.read(handle, offset, length)
    }

    /// The newest copy that the same instance made of the same piece, if it is as long: what a lookup by anything but the whole name would find.
    fn newest_of_the_same(&self, handle: &BlobHandle) -> Option<BlobHandle> {
        let writer = |name: &str| name.splitn(3, '-').nth(2).map(str::to_owned);
        let books = self.books();
        let same =
            |copied: &&BlobHandle| copied.length == handle.length && writer(&copied.name) == writer(&handle.name);
        books.copied().filter(same).last().cloned()
    }
}

impl CheckpointStore for LocalFirst {
    fn recover(&self) -> Result<Option<Manifest>, StoreError> {
        let manifest = self.store.recover()?;
        self.note(|books| books.restored(manifest.as_ref()));
        Ok(manifest)
    }

    fn begin_run(
        &self,
        fence: &Fence,
        restored_from: Option<CheckpointId>,
        started: WallTime,
    ) -> Result<RunRecord, StoreError> {
        self.store.begin_run(fence, restored_from, started)
    }

    fn reserve_ids(&self, fence: &Fence, run: RunNumber, below: CheckpointId) -> Result<(), StoreError> {
        self.store.reserve_ids(fence, run, below)
    }

    fn create_blob(&self, fence: &Fence, name: &str) -> Result<Box<dyn BlobWriter>, StoreError> {
        let writer = self.store.create_blob(fence, name)?;
        let copy = self.shared.pass(Point::LocalWrite, name).and_then(|()| self.shared.copies.begin(name));
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        let mut writer = CopiedWriter { writer, copy: None, name, shared };
        writer.copy = writer.or_warn(copy);
        Ok(Box::new(writer))
    }

    fn read_blob(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        match self.shared.read(handle, offset, length) {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(blob = handle.name, %error, "the checkpoint store is read instead");
                self.note(|books| {
                    books.useless(&handle.name);
                    vec![handle.name.clone()]
                });
            }
        }
        self.store.read_blob(handle, offset, length)
    }

    /// Of what is in the store.
    fn verify_blob(&self, handle: &BlobHandle) -> Result<(), StoreError> {
        self.store.verify_blob(handle)
    }

    fn publish(&self, fence: &Fence, manifest: &Manifest) -> PublishOutcome {
        let outcome = self.store.publish(fence, manifest);
        match &outcome {
            PublishOutcome::Done => self.note(|books| books.completed(manifest)),
            PublishOutcome::Unknown(_) => self.shared.books().doubtful(manifest),
            // Its blobs are given up one by one.
            PublishOutcome::Failed(_) => {}
        }
        outcome
    }

    fn read_back(&self, run: RunNumber, checkpoint: CheckpointId) -> Result<bool, StoreError> {
        let published = self.store.read_back(run, checkpoint)?;
        self.note(|books| books.settled(run, checkpoint, published));
        Ok(published)
    }

    fn list(&self) -> Result<Vec<CheckpointSummary>, StoreError> {
        self.store.list()
    }

    /// The newest one, whose copies are kept, is never deleted by this.
    fn delete_checkpoint(&self, fence: &Fence, checkpoint: CheckpointId) -> Result<(), StoreError> {
        self.store.delete_checkpoint(fence, checkpoint)
    }

    fn delete_blobs(&self, fence: &Fence, blobs: &[BlobHandle]) -> Result<(), StoreError> {
        // Whether or not the store can delete them: it may be refused to an attempt that is over.
        self.note(|books| books.given_up(blobs));
        self.store.delete_blobs(fence, blobs)
    }

    fn remove_orphans(&self, fence: &Fence) -> Result<(), StoreError> {
        self.note(Copies::over);
        self.store.remove_orphans(fence)
    }

    fn discard_all(&self, fence: &Fence, now: WallTime) -> Result<(), StoreError> {
        self.note(Copies::over);
        self.store.discard_all(fence, now)
    }

    fn inline_limit(&self) -> usize {
        self.store.inline_limit()
    }

    fn remembers(&self) -> bool {
        self.store.remembers()
    }

    fn remember(&self, record: &CheckpointRecord, limit: usize) {
        self.store.remember(record, limit);
    }

    fn remembered(&self) -> Vec<CheckpointRecord> {
        self.store.remembered()
    }

    fn chains(&self) -> Option<ChainLimits> {
        self.store.chains()
    }

    fn share(&self, fence: &Fence, checkpoint: CheckpointId, blobs: &[BlobHandle]) -> bool {
        self.store.share(fence, checkpoint, blobs)
    }

    fn keep(&self, fence: &Fence, name: &str) {
        self.shared.books().keep(name);
        self.store.keep(fence, name);
    }

    fn let_go(&self, name: &str) {
        self.shared.books().let_go(name);
        self.store.let_go(name);
    }
}

/// A blob that is being written, with its copy.
struct CopiedWriter {
    writer: Box<dyn BlobWriter>,
    /// Nothing once the copy was given up.
    copy: Option<Box<dyn CopyWriter>>,
    name: String,
    shared: Arc<Shared>,
}

impl CopiedWriter {
    /// What was answered for the copy; with a warning if it fails, for the blob itself is as good as ever.
    fn or_warn<T>(&self, answer: Result<T, CopyError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            // As it was asked for.
            Err(error @ CopyError::NoRoom { .. }) => {
                tracing::debug!(blob = self.name, %error, "it is not copied");
                None
            }
            Err(error) => {
                tracing::warn!(blob = self.name, %error, "a restore will read the checkpoint store instead");
                None
            }
        }
    }
}

impl BlobWriter for CopiedWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.writer.write(bytes)?;
        if let Some(mut copy) = self.copy.take() {
            let written = self.shared.pass(Point::LocalWrite, &self.name).and_then(|()| copy.write(bytes));
            self.copy = self.or_warn(written).map(|()| copy);
        }
        Ok(())
    }

    fn written(&self) -> u64 {
        self.writer.written()
    }

    fn finish(mut self: Box<Self>) -> Result<BlobHandle, StoreError> {
        let copy = self.copy.take();
        let CopiedWriter { writer, name, shared, .. } = *self;
        let handle = writer.finish()?;
        let Some(copy) = copy else { return Ok(handle) };
        match copy.finish(&handle) {
            Ok(()) => {
                let worth = shared.books().written(&handle);
                if !worth {
                    shared.copies.free(std::slice::from_ref(&handle.name));
                }
            }
            Err(error) => tracing::warn!(blob = name, %error, "a restore will read the checkpoint store instead"),
        }
        Ok(handle)
    }

    fn abandon(self: Box<Self>) {
        let CopiedWriter { writer, copy, .. } = *self;
        drop(copy);
        writer.abandon();
    }
}
