//! Disks that are full, fail, or fail to sync.

use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::files::FileOperation;
use alluvium_actors::ports::store::{CheckpointStore, PublishOutcome, StoreError};

use crate::common::{begin, blob, checkpoint, fence, manifest, open, recovered};

#[test]
fn a_full_disk_fails_a_checkpoint_and_leaves_the_store_usable() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    checkpoint(&store, run, 1, false);
    let files = disk.files();
    disk.set_free_space(Some(1000));
    let error = blob(&store, &fence(), run, CheckpointId(2), &[0; 5000]).unwrap_err();
    assert!(matches!(error, StoreError::OutOfSpace { .. }) && error.is_retryable(), "{error}");
    disk.set_free_space(Some(100));
    let outcome = store.publish(&fence(), &manifest(run, CheckpointId(2), None, false));
    assert!(matches!(outcome, PublishOutcome::Failed(StoreError::OutOfSpace { .. })), "{outcome:?}");
    assert_eq!(disk.files(), files, "nothing half-written stays");
    disk.set_free_space(None);
    checkpoint(&store, run, 3, false);
    assert_eq!(recovered(&store), Some(3));
}

#[test]
fn after_a_failed_sync_every_later_write_is_refused_with_the_reason() {
    for (operation, what) in [(FileOperation::Sync, "sync /"), (FileOperation::SyncDirectory, "sync the directory")] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let run = begin(&store, None).run;
        checkpoint(&store, run, 1, false);
        let completed = checkpoint(&store, run, 2, false);
        let mut begun = store.create_blob(&fence(), "r1-c3-s0-a-b").unwrap();
        disk.fail_next(operation, DiskFault::FailedSync);
        let first = blob(&store, &fence(), run, CheckpointId(3), b"state").unwrap_err();
        let poisoned = |error: &StoreError| {
            matches!(error, StoreError::Poisoned { reason } if reason.contains(what)) && !error.is_retryable()
        };
        assert!(poisoned(&first), "{first}");
        assert!(poisoned(&begun.write(b"x").unwrap_err()));
        assert!(poisoned(&begun.finish().unwrap_err()));
        assert!(poisoned(&blob(&store, &fence(), run, CheckpointId(4), b"x").unwrap_err()));
        assert!(poisoned(&store.reserve_ids(&fence(), run, CheckpointId(99)).unwrap_err()));
        assert!(poisoned(&store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap_err()));
        assert!(poisoned(&store.read_back(run, CheckpointId(1)).unwrap_err()));
        let outcome = store.publish(&fence(), &manifest(run, CheckpointId(4), None, false));
        assert!(matches!(outcome, PublishOutcome::Failed(error) if poisoned(&error)));
        drop(store);
        assert_eq!(open(&disk.crash(7)).recover().unwrap(), Some(completed), "what was complete stays complete");
    }
}

#[test]
fn a_publish_whose_rename_fails_is_unknown_and_reading_back_settles_it() {
    for (fault, is_there) in [(DiskFault::Error, false), (DiskFault::ErrorAfterwards, true)] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let run = begin(&store, None).run;
        disk.fail_next(FileOperation::Rename, fault);
        let outcome = store.publish(&fence(), &manifest(run, CheckpointId(1), None, true));
        assert!(matches!(outcome, PublishOutcome::Unknown(_)), "{outcome:?}");
        assert_eq!(store.read_back(run, CheckpointId(1)).unwrap(), is_there);
        drop(store);
        let expected = is_there.then_some(1);
        // Seed 0 loses everything that was not synced: reading back must have made it durable.
        for seed in 0..8 {
            let disk = disk.crash(seed);
            assert_eq!(recovered(&open(&disk)), expected);
        }
    }
}

#[test]
fn a_publish_whose_directory_sync_fails_stays_unknown_for_this_process() {
    for seed in 0..8 {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let run = begin(&store, None).run;
        checkpoint(&store, run, 1, true);
        disk.fail_next(FileOperation::SyncDirectory, DiskFault::FailedSync);
        let outcome = store.publish(&fence(), &manifest(run, CheckpointId(2), None, true));
        assert!(matches!(outcome, PublishOutcome::Unknown(StoreError::Poisoned { .. })), "{outcome:?}");
        assert!(matches!(store.read_back(run, CheckpointId(2)), Err(StoreError::Poisoned { .. })));
        assert!(matches!(store.recover(), Err(StoreError::Poisoned { .. })), "nothing is restored meanwhile");
        drop(store);
        let first = recovered(&open(&disk.crash(seed))).unwrap();
        assert!(first == 1 || first == 2, "{first}");
        assert_eq!(recovered(&open(&disk.crash(0))), Some(first), "settled once and for all");
    }
}

#[test]
fn what_recovery_gives_survives_a_crash_even_if_it_was_never_acknowledged() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    checkpoint(&store, run, 1, true);
    disk.fail_next(FileOperation::SyncDirectory, DiskFault::PowerCut);
    let outcome = store.publish(&fence(), &manifest(run, CheckpointId(2), None, true));
    assert!(matches!(outcome, PublishOutcome::Unknown(_)), "{outcome:?}");
    // Only the process ends. The rename is seen, but not durable.
    let disk = disk.kill_process();
    drop(store);
    let store = open(&disk);
    assert_eq!(recovered(&store), Some(2));
    drop(store);
    assert_eq!(recovered(&open(&disk.crash(0))), Some(2), "sinks may have committed by it");
}

#[test]
fn an_unfinished_object_that_could_not_be_removed_goes_with_the_next_deletion() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    let unfinished = || disk.files().iter().filter(|path| path.to_string_lossy().ends_with(".tmp")).count();
    let fails = [(FileOperation::Append, DiskFault::Error), (FileOperation::Create, DiskFault::ErrorAfterwards)];
    for (number, (operation, fault)) in (1..).zip(fails) {
        disk.fail_next(operation, fault);
        disk.fail_next(FileOperation::Remove, DiskFault::Error);
        let outcome = store.publish(&fence(), &manifest(run, CheckpointId(number), None, true));
        assert!(matches!(outcome, PublishOutcome::Failed(_)), "{outcome:?}");
        assert_eq!(unfinished() as u64, number, "the removal failed: {:?}", disk.files());
    }
    store.discard_all(&fence(), Default::default()).expect("the disk works again");
    assert_eq!(unfinished(), 0, "{:?}", disk.files());
}

#[test]
fn a_run_record_of_unknown_outcome_is_settled_before_the_run_begins() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    disk.fail_next(FileOperation::Rename, DiskFault::ErrorAfterwards);
    assert_eq!(begin(&store, None).run, RunNumber(1));
    drop(store);
    assert_eq!(begin(&open(&disk.crash(0)), None).run, RunNumber(2));
}

#[test]
fn every_single_error_leaves_either_a_checkpoint_or_none_and_never_a_half_one() {
    let script = |disk: &SimulatedDisk| -> Result<bool, StoreError> {
        let store = crate::common::open_with(disk, None, crate::common::options())?;
        let run = store.begin_run(&fence(), None, Default::default())?.run;
        let keyed = blob(&store, &fence(), run, CheckpointId(1), &[5; 3000])?;
        match store.publish(&fence(), &manifest(run, CheckpointId(1), Some(keyed), true)) {
            PublishOutcome::Done => Ok(true),
            PublishOutcome::Failed(error) => Err(error),
            PublishOutcome::Unknown(_) => store.read_back(run, CheckpointId(1)),
        }
    };
    let whole = SimulatedDisk::new();
    assert!(script(&whole).unwrap());
    for number in 1..=whole.effects() {
        for fault in [DiskFault::Error, DiskFault::ErrorAfterwards, DiskFault::FullDisk, DiskFault::FailedSync] {
            let disk = SimulatedDisk::new();
            disk.fail_at_effect(number, fault);
            let outcome = script(&disk);
            let store = open(&disk.crash(number));
            let found = store.recover().unwrap();
            match outcome {
                Ok(published) => assert_eq!(found.is_some(), published, "effect {number}, {fault:?}"),
                Err(error) => assert!(found.is_none() || !error.is_retryable(), "effect {number}, {fault:?}: {error}"),
            }
            for handle in found.iter().flat_map(|manifest| manifest.blobs()) {
                store.verify_blob(handle).unwrap();
            }
        }
    }
}
