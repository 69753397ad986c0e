//! The checkpoint store with its fault points: around the calls whose failure the protocol answers.
//!
//! Listing, verifying, keeping a history and removing what is of no use any more have none: the protocol does not depend on what becomes of them, and the simulated disk lets every file
//! operation of theirs fail.

use std::sync::Arc;

use crate::ids::{CheckpointId, RunNumber, WallTime};
use crate::ports::fence::Fence;
use crate::ports::history::CheckpointRecord;
use crate::ports::points::{Hit, Point, Points, Who};
use crate::ports::store::{
    BlobHandle, BlobWriter, ChainLimits, CheckpointStore, CheckpointSummary, Manifest, PublishOutcome, RunRecord,
    StoreError, parse_blob_name,
};

/// A store whose calls pass fault points.
pub(super) struct PointedStore {
    store: Arc<dyn CheckpointStore>,
    points: Points,
}

impl PointedStore {
    /// The store itself where no faults are armed.
    pub(super) fn around(store: Arc<dyn CheckpointStore>, points: &Points) -> Arc<dyn CheckpointStore> {
        if !points.are_armed() {
            return store;
        }
        Arc::new(PointedStore { store, points: points.clone() })
    }

    fn pass(&self, point: Point, checkpoint: Option<CheckpointId>, file: &str) -> Result<(), StoreError> {
        pass(&self.points, &Hit { checkpoint, ..Hit::work(point, Who::Job) }, file)
    }
}

fn pass(points: &Points, hit: &Hit<'_>, file: &str) -> Result<(), StoreError> {
    points.pass(hit, |reason| StoreError::Failed { file: file.to_owned(), reason })
}

/// Who a blob belongs to: its name says it.
fn at_blob(point: Point, name: &str) -> Hit<'_> {
    match parse_blob_name(name) {
        Some(parts) => Hit {
            checkpoint: Some(parts.checkpoint),
            ..Hit::work(point, Who::Instance { operator: parts.operator, subtask: parts.subtask })
        },
        None => Hit::work(point, Who::Job),
    }
}

impl CheckpointStore for PointedStore {
    fn recover(&self) -> Result<Option<Manifest>, StoreError> {
        self.pass(Point::RestoreManifest, None, "manifests")?;
        self.store.recover()
    }

    fn begin_run(
        &self,
        fence: &Fence,
        restored_from: Option<CheckpointId>,
        started: WallTime,
    ) -> Result<RunRecord, StoreError> {
        self.pass(Point::RunBegins, restored_from, "runs")?;
        let record = self.store.begin_run(fence, restored_from, started)?;
        self.pass(Point::RunBegan, restored_from, "runs")?;
        Ok(record)
    }

    fn reserve_ids(&self, fence: &Fence, run: RunNumber, below: CheckpointId) -> Result<(), StoreError> {
        self.pass(Point::IdsReserved, Some(below), "runs")?;
        self.store.reserve_ids(fence, run, below)
    }

    fn create_blob(&self, fence: &Fence, name: &str) -> Result<Box<dyn BlobWriter>, StoreError> {
        let writer = self.store.create_blob(fence, name)?;
        Ok(Box::new(PointedWriter { writer, name: name.to_owned(), points: self.points.clone() }))
    }

    fn read_blob(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        pass(&self.points, &at_blob(Point::RestoreBlob, &handle.name), &handle.name)?;
        self.store.read_blob(handle, offset, length)
    }

    fn verify_blob(&self, handle: &BlobHandle) -> Result<(), StoreError> {
        self.store.verify_blob(handle)
    }

    fn publish(&self, fence: &Fence, manifest: &Manifest) -> PublishOutcome {
        let checkpoint = Some(manifest.checkpoint);
        if let Err(error) = self.pass(Point::ManifestWrite, checkpoint, "manifests") {
            return PublishOutcome::Failed(error);
        }
        let outcome = self.store.publish(fence, manifest);
        if outcome == PublishOutcome::Done
            && let Err(error) = self.pass(Point::ManifestWritten, checkpoint, "manifests")
        {
            return PublishOutcome::Unknown(error);
        }
        outcome
    }

    fn read_back(&self, run: RunNumber, checkpoint: CheckpointId) -> Result<bool, StoreError> {
        self.pass(Point::ManifestReadBack, Some(checkpoint), "manifests")?;
        self.store.read_back(run, checkpoint)
    }

    fn list(&self) -> Result<Vec<CheckpointSummary>, StoreError> {
        self.store.list()
    }

    fn delete_checkpoint(&self, fence: &Fence, checkpoint: CheckpointId) -> Result<(), StoreError> {
        self.pass(Point::CheckpointDelete, Some(checkpoint), "manifests")?;
        self.store.delete_checkpoint(fence, checkpoint)
    }

    fn delete_blobs(&self, fence: &Fence, blobs: &[BlobHandle]) -> Result<(), StoreError> {
        let first = blobs.first().map_or("blobs", |blob| blob.name.as_str());
        pass(&self.points, &at_blob(Point::BlobsDelete, first), first)?;
        self.store.delete_blobs(fence, blobs)
    }

    fn remove_orphans(&self, fence: &Fence) -> Result<(), StoreError> {
        self.store.remove_orphans(fence)
    }

    fn discard_all(&self, fence: &Fence, now: WallTime) -> Result<(), StoreError> {
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
        self.store.keep(fence, name);
    }

    fn let_go(&self, name: &str) {
        self.store.let_go(name);
    }
}

/// A blob that is being written.
struct PointedWriter {
    writer: Box<dyn BlobWriter>,
    name: String,
    points: Points,
}

impl BlobWriter for PointedWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        pass(&self.points, &at_blob(Point::BlobWrite, &self.name), &self.name)?;
        self.writer.write(bytes)
    }

    fn written(&self) -> u64 {
        self.writer.written()
    }

    fn finish(self: Box<Self>) -> Result<BlobHandle, StoreError> {
        let PointedWriter { writer, name, points } = *self;
        pass(&points, &at_blob(Point::BlobSync, &name), &name)?;
        let handle = writer.finish()?;
        pass(&points, &at_blob(Point::BlobWritten, &name), &name)?;
        Ok(handle)
    }

    fn abandon(self: Box<Self>) {
        self.writer.abandon();
    }
}
