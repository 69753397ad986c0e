//! Blobs that several checkpoints share: never gone while somebody refers to them, and gone when nobody does.

use std::path::Path;

use alluvium::snapshot::{Store, StoreOptions};
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber};
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::store::{
    BlobHandle, CheckpointStore, Manifest, Piece, PieceContent, PublishOutcome, StoreError, blob_name, increment_name,
};

use crate::common::{
    ROOT, begin, blob, checkpoint, content, fence, manifest, manifest_file, open, open_with, options, recovered,
};

/// A manifest whose keyed state is a chain of these blobs.
fn incremental(run: RunNumber, checkpoint: u64, chain: &[BlobHandle]) -> Manifest {
    let mut manifest = manifest(run, CheckpointId(checkpoint), Some(chain[0].clone()), false);
    let keyed = manifest.subtasks[0].operators.iter_mut().find(|operator| operator.uid.as_str() == "total-delay");
    let pieces = &mut keyed.expect("the operator with keyed state").pieces;
    for (number, handle) in chain.iter().enumerate().skip(1) {
        let name = increment_name("keyed", CheckpointId(number as u64));
        pieces.push(Piece { name, content: PieceContent::Blob(handle.clone()) });
    }
    manifest
}

/// Writes an increment over a chain and publishes a checkpoint with both.
fn increment(
    store: &Store,
    run: RunNumber,
    checkpoint: u64,
    base: &[BlobHandle],
) -> Result<Vec<BlobHandle>, StoreError> {
    let own = blob(store, &fence(), run, CheckpointId(checkpoint), &content(checkpoint))?;
    let chain = [base, &[own]].concat();
    match store.publish(&fence(), &incremental(run, checkpoint, &chain)) {
        PublishOutcome::Done => Ok(chain),
        PublishOutcome::Failed(error) | PublishOutcome::Unknown(error) => Err(error),
    }
}

/// Writes what a chain of a checkpoint was folded into, and keeps it.
fn fold(store: &Store, fence: &Fence, run: RunNumber, checkpoint: u64) -> (String, BlobHandle) {
    let name = blob_name(run, CheckpointId(checkpoint), &OperatorUid::new("total-delay"), 0, "keyed-fold-1");
    store.keep(fence, &name);
    let mut writer = store.create_blob(fence, &name).unwrap();
    writer.write(b"folded").unwrap();
    (name, writer.finish().unwrap())
}

/// A store that goes back to an older checkpoint when the newest one is damaged.
fn open_falling_back(disk: &SimulatedDisk) -> Store {
    let options = StoreOptions { fall_back_to_older: true, accept_repeats: true, ..options() };
    open_with(disk, None, options).unwrap()
}

/// The checkpoints whose blobs are on the disk.
fn blobs(disk: &SimulatedDisk) -> Vec<u64> {
    let blobs = Path::new(ROOT).join("blobs");
    let names = disk.files().into_iter().filter(|path| path.starts_with(&blobs));
    let mut ids: Vec<u64> = names
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            alluvium_actors::ports::store::parse_blob_name(&name).map(|parts| parts.checkpoint.0)
        })
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_shared_blob_goes_with_the_last_checkpoint_that_names_it() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let first: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    let second = increment(&store, run, 2, &first).unwrap();
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    assert_eq!(blobs(&disk), [1, 2], "checkpoint 2 names the blob of checkpoint 1");
    second.iter().for_each(|handle| store.verify_blob(handle).unwrap());
    checkpoint(&store, run, 3, false);
    store.delete_checkpoint(&fence(), CheckpointId(2)).unwrap();
    assert_eq!(blobs(&disk), [3]);
}

#[test]
fn the_references_are_known_again_after_a_start() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let first: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    let second = increment(&store, run, 2, &first).unwrap();
    increment(&store, run, 3, &second).unwrap();
    drop(store);
    let store = open(&disk.crash(0));
    assert_eq!(recovered(&store), Some(3));
    begin(&store, Some(3));
    for older in [1, 2] {
        store.delete_checkpoint(&fence(), CheckpointId(older)).unwrap();
    }
    drop(store);
    assert_eq!(blobs(&disk.crash(1)), [1, 2, 3]);
    let store = open(&disk.crash(2));
    for handle in store.recover().unwrap().expect("checkpoint 3").blobs() {
        store.verify_blob(handle).unwrap();
    }
}

#[test]
fn the_base_of_a_pending_checkpoint_stays_until_that_is_complete() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let base: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    assert!(store.share(&fence(), CheckpointId(3), &base), "a subtask that was not told of checkpoint 2");
    checkpoint(&store, run, 2, false);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    assert_eq!(blobs(&disk), [1, 2], "checkpoint 3 is pending");
    let third = increment(&store, run, 3, &base).unwrap();
    store.delete_checkpoint(&fence(), CheckpointId(2)).unwrap();
    assert_eq!(blobs(&disk), [1, 3]);
    third.iter().for_each(|handle| store.verify_blob(handle).unwrap());
}

#[test]
fn the_base_of_an_aborted_checkpoint_goes_when_a_later_one_is_complete() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let base: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    assert!(store.share(&fence(), CheckpointId(3), &base));
    let aborted = blob(&store, &fence(), run, CheckpointId(3), &content(3)).unwrap();
    checkpoint(&store, run, 2, false);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    store.delete_blobs(&fence(), &[base[0].clone(), aborted]).unwrap();
    assert_eq!(blobs(&disk), [1, 2], "what it wrote is gone, what it shares is not its own");
    checkpoint(&store, run, 4, false);
    store.delete_checkpoint(&fence(), CheckpointId(2)).unwrap();
    assert_eq!(blobs(&disk), [4]);
}

#[test]
fn what_nobody_refers_to_any_more_cannot_be_shared() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let base: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    let pending = blob(&store, &fence(), run, CheckpointId(2), &content(2)).unwrap();
    assert!(!store.share(&fence(), CheckpointId(3), std::slice::from_ref(&pending)), "checkpoint 2 is not complete");
    checkpoint(&store, run, 4, false);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    assert!(!store.share(&fence(), CheckpointId(5), &base), "it is deleted");
}

#[test]
fn the_word_of_an_attempt_that_is_over_holds_nothing() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let base: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    let fences = FenceSource::new();
    assert!(store.share(&fences.advance(), CheckpointId(9), &base));
    let _newer = fences.advance();
    checkpoint(&store, run, 2, false);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    assert_eq!(blobs(&disk), [2]);
}

#[test]
fn a_blob_that_is_kept_is_no_orphan_until_it_is_let_go() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    checkpoint(&store, run, 1, false);
    let (name, folded) = fold(&store, &fence(), run, 1);
    begin(&store, Some(1));
    assert_eq!(blobs(&disk), [1, 1], "a region that runs on holds it");
    assert!(store.share(&fence(), CheckpointId(20), std::slice::from_ref(&folded)));
    store.let_go(&name);
    store.delete_blobs(&fence(), std::slice::from_ref(&folded)).unwrap();
    assert_eq!(blobs(&disk), [1, 1], "checkpoint 20 shares it");
    let next = begin(&store, Some(1));
    checkpoint(&store, next.run, next.first_checkpoint.0.max(20), false);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    store.delete_blobs(&fence(), std::slice::from_ref(&folded)).unwrap();
    assert_eq!(blobs(&disk).len(), 1);
}

#[test]
fn the_blob_of_a_fold_goes_with_the_next_run_when_the_attempt_that_shared_it_is_over() {
    // Deleting it waits in a lane while the next run begins, or comes too late for the attempt before that.
    for too_late in [false, true] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let run = begin(&store, None).run;
        checkpoint(&store, run, 1, false);
        let fences = FenceSource::new();
        let attempt = fences.advance();
        let (name, folded) = fold(&store, &attempt, run, 1);
        assert!(store.share(&attempt, CheckpointId(2), std::slice::from_ref(&folded)));
        let next_attempt = fences.advance();
        store.let_go(&name);
        if too_late {
            store.delete_blobs(&attempt, std::slice::from_ref(&folded)).expect_err("the attempt is over");
        }
        assert_eq!(blobs(&disk), [1, 1]);
        let next = store.begin_run(&next_attempt, Some(CheckpointId(1)), Default::default()).unwrap();
        assert_eq!(blobs(&disk), [1], "checkpoint 2 will never be complete");
        checkpoint(&store, next.run, next.first_checkpoint.0, false);
        store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
        assert_eq!(blobs(&disk), [next.first_checkpoint.0]);
    }
}

#[test]
fn a_blob_that_a_manifest_may_have_named_which_could_not_be_read_goes_with_that_manifest() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let first: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    increment(&store, run, 2, &first).unwrap();
    drop(store);
    let disk = disk.crash(0);
    assert!(disk.flip_bit(&manifest_file(1, 2), 300));
    let store = open_falling_back(&disk);
    let next = begin(&store, Some(1));
    let (name, folded) = fold(&store, &fence(), next.run, 1);
    store.let_go(&name);
    store.delete_blobs(&fence(), std::slice::from_ref(&folded)).unwrap();
    store.verify_blob(&folded).expect("checkpoint 2 may name it");
    checkpoint(&store, next.run, next.first_checkpoint.0, false);
    store.delete_checkpoint(&fence(), CheckpointId(2)).unwrap();
    store.verify_blob(&first[0]).expect("checkpoint 1 names it");
    assert!(matches!(store.verify_blob(&folded), Err(StoreError::Missing { .. })), "nobody names it any more");
}

#[test]
fn while_a_manifest_cannot_be_read_nothing_is_deleted_that_it_may_name() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let first: Vec<BlobHandle> = checkpoint(&store, run, 1, false).blobs().cloned().collect();
    increment(&store, run, 2, &first).unwrap();
    drop(store);
    let disk = disk.crash(0);
    assert!(disk.flip_bit(&manifest_file(1, 2), 300));
    let store = open_falling_back(&disk);
    assert_eq!(recovered(&store), Some(1));
    let next = begin(&store, Some(1));
    checkpoint(&store, next.run, next.first_checkpoint.0, false);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    assert!(blobs(&disk).starts_with(&[1, 2]), "somebody may mend the manifest of checkpoint 2");
}

#[test]
fn a_crash_at_any_effect_loses_no_shared_blob_and_the_next_start_leaves_no_orphan() {
    let session = |disk: &SimulatedDisk| -> Result<(), StoreError> {
        let store = open_with(disk, None, options())?;
        let run = store.begin_run(&fence(), None, Default::default())?.run;
        let mut chain = Vec::new();
        for id in 1..=6 {
            // A full one now and then.
            if id == 4 {
                chain.clear();
            }
            let base = chain.clone();
            assert!(base.is_empty() || store.share(&fence(), CheckpointId(id), &base));
            let own = blob(&store, &fence(), run, CheckpointId(id), &content(id))?;
            chain.push(own.clone());
            if id == 3 {
                store.delete_blobs(&fence(), &chain)?;
                chain = base;
                continue;
            }
            match store.publish(&fence(), &incremental(run, id, &chain)) {
                PublishOutcome::Done => {}
                PublishOutcome::Failed(error) | PublishOutcome::Unknown(error) => return Err(error),
            }
            for older in (1..id).rev().skip(1) {
                store.delete_checkpoint(&fence(), CheckpointId(older))?;
            }
        }
        Ok(())
    };
    let whole = SimulatedDisk::new();
    session(&whole).unwrap();
    assert_eq!(blobs(&whole), [4, 5, 6], "checkpoints 5 and 6 are there");
    for effect in 1..=whole.effects() {
        for fault in [DiskFault::PowerCut, DiskFault::Error] {
            let disk = SimulatedDisk::new();
            disk.fail_at_effect(effect, fault);
            let _ = session(&disk);
            let disk = disk.crash(effect);
            let store = open(&disk);
            let found = store.recover().unwrap();
            let from = found.as_ref().map(|manifest| manifest.checkpoint.0);
            begin(&store, from);
            let mut named: Vec<String> = Vec::new();
            for checkpoint in store.list().unwrap() {
                let file = disk.content(&manifest_file(checkpoint.run.0, checkpoint.checkpoint.0));
                assert!(file.is_some(), "{fault:?} at effect {effect}");
            }
            for handle in found.iter().flat_map(Manifest::blobs) {
                store.verify_blob(handle).unwrap_or_else(|error| panic!("{fault:?} at effect {effect}: {error}"));
                named.push(handle.name.clone());
            }
            // Of the newest alone: the others are deleted.
            for older in store.list().unwrap().into_iter().filter(|known| Some(known.checkpoint.0) != from) {
                store.delete_checkpoint(&fence(), older.checkpoint).unwrap();
            }
            named.sort();
            let blobs = Path::new(ROOT).join("blobs");
            let mut there: Vec<String> = disk
                .files()
                .iter()
                .filter(|path| path.starts_with(&blobs))
                .filter_map(|path| Some(path.strip_prefix(ROOT).ok()?.to_str()?.to_owned()))
                .collect();
            there.sort();
            assert_eq!(there, named, "{fault:?} at effect {effect}: nothing is lost and nothing is an orphan");
        }
    }
}
