//! A store with local copies in front of it: what is restored comes from the copies, what is wrong with them is read from the store, and none is kept that is of no use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium::snapshot::Store;
use alluvium::storage::{FileStorage, LocalStorage};
use alluvium::testing::disk::{DiskFault, DiskRule, SimulatedDisk};
use alluvium_actors::drive::local_first::LocalFirst;
use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber, WallTime};
use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::files::FileOperation;
use alluvium_actors::ports::local::LocalCopies;
use alluvium_actors::ports::points::Points;
use alluvium_actors::ports::store::{
    BlobHandle, CheckpointStore, Manifest, Piece, PieceContent, PublishOutcome, blob_name, increment_name,
};

use crate::common::{ROOT, blob, content, fence, manifest, options};

const LOCAL: &str = "/local";

struct Rig {
    disk: SimulatedDisk,
    store: Arc<dyn CheckpointStore>,
    copies: Arc<LocalStorage>,
    run: RunNumber,
}

/// Local copies in files, so that they can be seen and damaged.
fn rig() -> Rig {
    let disk = SimulatedDisk::new();
    let storage = FileStorage::open(Arc::new(disk.clone()), Path::new(ROOT)).unwrap();
    let store = Arc::new(Store::new(Arc::new(storage), None, options()).unwrap());
    let copies = LocalStorage::open(Arc::new(disk.clone()), 0, &[PathBuf::from(LOCAL)], "flights").unwrap();
    let copies = Arc::new(copies);
    let local = Some(Arc::clone(&copies) as Arc<dyn LocalCopies>);
    let store = LocalFirst::around(store, local, Points::default());
    let run = store.begin_run(&fence(), None, WallTime(1)).unwrap().run;
    Rig { disk, store, copies, run }
}

impl Rig {
    fn write(&self, checkpoint: u64) -> BlobHandle {
        blob(&*self.store, &fence(), self.run, CheckpointId(checkpoint), &content(checkpoint)).unwrap()
    }

    fn manifest(&self, checkpoint: u64, blob: &BlobHandle) -> Manifest {
        manifest(self.run, CheckpointId(checkpoint), Some(blob.clone()), false)
    }

    fn complete(&self, checkpoint: u64) -> BlobHandle {
        let blob = self.write(checkpoint);
        assert_eq!(self.store.publish(&fence(), &self.manifest(checkpoint, &blob)), PublishOutcome::Done);
        blob
    }

    /// Whether the blob comes from its copy; what comes is right in any case.
    #[track_caller]
    fn is_local(&self, blob: &BlobHandle, checkpoint: u64) -> bool {
        let opened = |rig: &Rig| rig.disk.count(FileOperation::Open);
        let local = self.copies.len();
        let before = opened(self);
        assert_eq!(self.store.read_blob(blob, 300, 900).unwrap(), content(checkpoint)[300..1200]);
        assert!(opened(self) > before);
        // A copy that was used is still there, and then no file of the store was opened.
        local == self.copies.len() && opened(self) == before + 1 && self.copies.read(blob, 0, 1) != Ok(None)
    }
}

#[test]
fn a_blob_that_this_process_wrote_is_read_from_its_copy_whatever_becomes_of_the_store_s_file() {
    let rig = rig();
    let blob = rig.complete(1);
    assert!(rig.is_local(&blob, 1));
    rig.disk.arm([DiskRule::new(DiskFault::Error).operation(FileOperation::Read).path("blobs/*").always()]);
    assert!(rig.is_local(&blob, 1));
}

#[test]
fn a_damaged_copy_is_ignored_and_freed_and_the_store_is_read() {
    let rig = rig();
    let blob = rig.complete(1);
    let copy = rig.disk.files().into_iter().find(|path| path.starts_with(LOCAL)).unwrap();
    rig.disk.flip_bit(&copy, 8 * 500);
    assert!(!rig.is_local(&blob, 1));
    assert!(rig.copies.is_empty(), "nothing is read from it again");
    assert!(!rig.is_local(&blob, 1));
}

#[test]
fn a_copy_that_cannot_be_read_is_ignored() {
    let rig = rig();
    let blob = rig.complete(1);
    rig.disk.arm([DiskRule::new(DiskFault::Error).operation(FileOperation::Read).path("local/flights/*")]);
    assert!(!rig.is_local(&blob, 1));
}

#[test]
fn a_copy_that_cannot_be_written_costs_nothing_but_the_copy() {
    let rig = rig();
    rig.disk.arm([DiskRule::new(DiskFault::FullDisk).operation(FileOperation::Append).path("local/flights/*")]);
    let blob = rig.complete(1);
    assert!(rig.copies.is_empty());
    assert!(!rig.is_local(&blob, 1));
    let blob = rig.complete(2);
    assert!(rig.is_local(&blob, 2));
}

#[test]
fn only_the_copies_of_the_newest_complete_checkpoint_and_of_later_ones_are_kept() {
    let rig = rig();
    let (first, second, third) = (rig.complete(1), rig.write(2), rig.write(3));
    assert_eq!(rig.copies.len(), 3);
    assert_eq!(rig.store.publish(&fence(), &rig.manifest(2, &second)), PublishOutcome::Done);
    assert_eq!(rig.copies.len(), 2);
    assert!(!rig.is_local(&first, 1) && rig.is_local(&second, 2) && rig.is_local(&third, 3));
}

#[test]
fn a_blob_that_comes_too_late_for_its_checkpoint_is_not_kept() {
    let rig = rig();
    rig.complete(2);
    let late = rig.write(1);
    assert_eq!(rig.copies.len(), 1);
    assert!(!rig.is_local(&late, 1));
}

#[test]
fn the_copy_of_an_aborted_checkpoint_is_freed_also_when_the_attempt_is_over() {
    let rig = rig();
    let (first, second) = (rig.complete(1), rig.write(2));
    let fences = FenceSource::new();
    let over = fences.advance();
    let _ = fences.advance();
    rig.store.delete_blobs(&over, std::slice::from_ref(&second)).expect_err("the attempt is over");
    assert_eq!(rig.copies.len(), 1);
    rig.store.delete_blobs(&fence(), std::slice::from_ref(&first)).unwrap();
    assert!(rig.is_local(&first, 1), "the newest complete checkpoint names it");
}

#[test]
fn a_restore_frees_what_its_checkpoint_does_not_name() {
    let rig = rig();
    let (first, _) = (rig.complete(1), rig.write(2));
    rig.store.recover().unwrap();
    assert_eq!(rig.copies.len(), 1);
    assert!(rig.is_local(&first, 1));
    rig.store.discard_all(&fence(), WallTime(2)).unwrap();
    assert!(rig.copies.is_empty());
}

#[test]
fn a_checkpoint_of_unknown_outcome_frees_nothing_until_it_is_read_back() {
    for published in [true, false] {
        let rig = rig();
        let (first, second) = (rig.complete(1), rig.write(2));
        let fault = if published { DiskFault::ErrorAfterwards } else { DiskFault::Error };
        rig.disk.arm([DiskRule::new(fault).operation(FileOperation::Rename).path("manifests/*")]);
        let outcome = rig.store.publish(&fence(), &rig.manifest(2, &second));
        assert!(matches!(outcome, PublishOutcome::Unknown(_)), "{outcome:?}");
        assert_eq!(rig.copies.len(), 2);
        assert_eq!(rig.store.read_back(rig.run, CheckpointId(2)).unwrap(), published);
        assert_eq!(rig.is_local(&first, 1), !published);
        assert!(rig.is_local(&second, 2));
    }
}

#[test]
fn what_an_increment_shares_stays_and_what_was_folded_waits_for_its_checkpoint() {
    let rig = rig();
    let base = rig.complete(1);
    let own = rig.write(2);
    let mut second = rig.manifest(2, &base);
    let chained = second.subtasks[0].operators.iter_mut().find(|operator| operator.uid.as_str() == "total-delay");
    let name = increment_name("keyed", CheckpointId(2));
    chained.unwrap().pieces.push(Piece { name, content: PieceContent::Blob(own.clone()) });
    assert_eq!(rig.store.publish(&fence(), &second), PublishOutcome::Done);
    assert!(rig.is_local(&base, 1) && rig.is_local(&own, 2));

    let name = blob_name(rig.run, CheckpointId(2), &OperatorUid::new("total-delay"), 0, "keyed-fold-1");
    rig.store.keep(&fence(), &name);
    let mut writer = rig.store.create_blob(&fence(), &name).unwrap();
    writer.write(&content(9)).unwrap();
    let folded = writer.finish().unwrap();
    rig.complete(3);
    assert!(rig.is_local(&folded, 9), "the next checkpoint may name it");
    assert_eq!(rig.copies.len(), 2);
    rig.store.let_go(&name);
    rig.complete(4);
    assert_eq!(rig.copies.len(), 1);
}
