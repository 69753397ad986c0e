//! Which checkpoint a start begins from, which numbers it may use, and what it removes.

use alluvium::snapshot::{Store, StoreOptions};
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ids::{CheckpointId, RunNumber, WallTime};
use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::store::{CheckpointStore, PublishOutcome, StoreError};

use crate::common::{
    ROOT, begin, blob, checkpoint, content, fence, filled, listed, manifest, open, open_with, options, recovered,
};

fn files_in(disk: &SimulatedDisk, group: &str) -> usize {
    disk.files().iter().filter(|path| path.starts_with(format!("{ROOT}/{group}"))).count()
}

#[test]
fn a_new_store_has_nothing_to_recover_and_begins_with_run_one_and_checkpoint_one() {
    let store = open(&SimulatedDisk::new());
    assert_eq!(store.recover().unwrap(), None);
    let record = begin(&store, None);
    assert_eq!((record.run, record.first_checkpoint), (RunNumber(1), CheckpointId(1)));
    assert_eq!(store.recover().unwrap(), None);
    assert_eq!(listed(&store), [0; 0]);
}

#[test]
fn a_restart_recovers_the_newest_checkpoint_whole() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    checkpoint(&store, run, 1, true);
    let last = checkpoint(&store, run, 2, true);
    drop(store);
    let store = open(&disk.crash(1));
    assert_eq!(store.recover().unwrap(), Some(last.clone()));
    let handle = last.blobs().next().unwrap();
    store.verify_blob(handle).unwrap();
    assert_eq!(store.read_blob(handle, 700, 100).unwrap(), content(2)[700..800]);
}

#[test]
fn a_run_without_a_checkpoint_of_its_own_recovers_what_it_began_from() {
    let disk = filled(2, true);
    for _ in 0..3 {
        let store = open(&disk);
        assert_eq!(recovered(&store), Some(2));
        begin(&store, Some(2));
        assert_eq!(recovered(&store), Some(2));
    }
}

#[test]
fn an_abandoned_timeline_never_comes_back() {
    let disk = filled(3, true);
    let store = open(&disk);
    let second = begin(&store, Some(1));
    assert_eq!(recovered(&store), Some(1), "the newest run began from checkpoint 1, so 2 and 3 are no more");
    assert_eq!(listed(&store), [1]);
    let first = second.first_checkpoint.0;
    checkpoint(&store, second.run, first, true);
    drop(store);
    let store = open(&disk);
    assert_eq!(recovered(&store), Some(first));
    assert_eq!(listed(&store), [1, first]);
    assert_eq!(store.list().unwrap().len(), 4, "abandoned ones are still told");
    let third = begin(&store, Some(1));
    assert_eq!(recovered(&store), Some(1));
    assert!(third.first_checkpoint.0 > first);
}

#[test]
fn beginning_anew_leaves_nothing_to_recover_though_older_checkpoints_are_there() {
    let disk = filled(2, true);
    let store = open(&disk);
    begin(&store, None);
    assert_eq!(store.recover().unwrap(), None);
    assert_eq!(listed(&store), [0; 0]);
}

#[test]
fn ids_are_never_used_again_whatever_became_of_them() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let first = begin(&store, None);
    store.reserve_ids(&fence(), first.run, CheckpointId(1000)).unwrap();
    drop(store);
    let store = open(&disk.crash(0));
    let second = begin(&store, None);
    assert_eq!((second.run, second.first_checkpoint), (RunNumber(2), CheckpointId(1000)));
    drop(store);
    let store = open(&disk.crash(0));
    assert_eq!(begin(&store, None).first_checkpoint, second.reserved_below);
}

#[test]
fn a_checkpoint_beyond_the_reserved_ids_is_refused() {
    let store = open(&SimulatedDisk::new());
    let record = begin(&store, None);
    let publish = |id: CheckpointId| store.publish(&fence(), &manifest(record.run, id, None, false));
    let refused = |outcome| matches!(outcome, PublishOutcome::Failed(StoreError::Refused { .. }));
    assert!(refused(publish(record.reserved_below)));
    assert!(refused(publish(CheckpointId(0))));
    store.reserve_ids(&fence(), record.run, record.reserved_below.next()).unwrap();
    assert_eq!(publish(record.reserved_below), PublishOutcome::Done);
}

#[test]
fn only_the_current_run_publishes() {
    let disk = filled(1, false);
    let store = open(&disk);
    let outcome = store.publish(&fence(), &manifest(RunNumber(1), CheckpointId(2), None, false));
    assert!(matches!(outcome, PublishOutcome::Failed(StoreError::Refused { .. })), "no run was begun");
    let record = begin(&store, Some(1));
    let outcome = store.publish(&fence(), &manifest(RunNumber(1), record.first_checkpoint, None, false));
    assert!(matches!(outcome, PublishOutcome::Failed(StoreError::Refused { .. })), "run 1 is over");
}

#[test]
fn an_attempt_that_is_over_changes_nothing() {
    let store = open(&SimulatedDisk::new());
    let source = FenceSource::new();
    let old = source.advance();
    let run = store.begin_run(&old, None, WallTime(1)).unwrap().run;
    let late = blob(&store, &old, run, CheckpointId(1), b"late").unwrap();
    let new = source.advance();
    let fenced = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::Fenced(_)));
    assert!(fenced(store.begin_run(&old, None, WallTime(1)).map(drop)));
    assert!(fenced(store.reserve_ids(&old, run, CheckpointId(500))));
    assert!(fenced(blob(&store, &old, run, CheckpointId(2), b"x").map(drop)));
    assert!(fenced(store.delete_blobs(&old, std::slice::from_ref(&late))));
    let outcome = store.publish(&old, &manifest(run, CheckpointId(1), None, false));
    assert!(matches!(outcome, PublishOutcome::Failed(StoreError::Fenced(_))));
    assert!(!store.read_back(run, CheckpointId(1)).unwrap());
    store.delete_blobs(&new, &[late]).unwrap();
}

#[test]
fn publishing_the_same_manifest_again_is_done_and_another_one_of_that_id_is_refused() {
    let store = open(&SimulatedDisk::new());
    let run = begin(&store, None).run;
    let first = checkpoint(&store, run, 1, false);
    assert_eq!(store.publish(&fence(), &first), PublishOutcome::Done);
    let outcome = store.publish(&fence(), &manifest(run, CheckpointId(1), None, true));
    assert!(matches!(outcome, PublishOutcome::Failed(StoreError::Refused { .. })));
    assert_eq!(store.recover().unwrap(), Some(first));
}

#[test]
fn deleting_a_checkpoint_deletes_its_blobs_and_nothing_else() {
    let disk = filled(3, false);
    let store = open(&disk);
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    assert_eq!(listed(&store), [2, 3]);
    assert_eq!((files_in(&disk, "manifests"), files_in(&disk, "blobs")), (2, 2));
}

#[test]
fn the_checkpoint_to_recover_from_cannot_be_deleted() {
    let disk = filled(2, false);
    let store = open(&disk);
    assert!(matches!(store.delete_checkpoint(&fence(), CheckpointId(2)), Err(StoreError::Refused { .. })));
    let record = begin(&store, Some(2));
    assert!(matches!(store.delete_checkpoint(&fence(), CheckpointId(2)), Err(StoreError::Refused { .. })));
    checkpoint(&store, record.run, record.first_checkpoint.0, false);
    store.delete_checkpoint(&fence(), CheckpointId(2)).unwrap();
}

#[test]
fn blobs_of_a_completed_checkpoint_are_not_deleted_as_late_ones() {
    let store = open(&SimulatedDisk::new());
    let run = begin(&store, None).run;
    let completed = checkpoint(&store, run, 1, false);
    let handles: Vec<_> = completed.blobs().cloned().collect();
    store.delete_blobs(&fence(), &handles).unwrap();
    store.verify_blob(&handles[0]).unwrap();
    let aborted = blob(&store, &fence(), run, CheckpointId(2), b"late").unwrap();
    store.delete_blobs(&fence(), std::slice::from_ref(&aborted)).unwrap();
    assert!(matches!(store.verify_blob(&aborted), Err(StoreError::Missing { .. })));
}

#[test]
fn a_start_removes_orphaned_blobs_of_earlier_runs_and_files_of_nobody_else() {
    let disk = filled(2, false);
    let store = open(&disk);
    let run = begin(&store, Some(2)).run;
    blob(&store, &fence(), run, CheckpointId(17), b"of an aborted checkpoint").unwrap();
    let mut unfinished = store.create_blob(&fence(), &format!("r{:010}-c18-s0-x-y", run.0)).unwrap();
    unfinished.write(b"half").unwrap();
    disk.set_content(&std::path::Path::new(ROOT).join("blobs/notes.txt"), b"of a person");
    let disk = disk.kill_process();
    drop((unfinished, store));
    let store = open(&disk);
    assert_eq!(files_in(&disk, "blobs"), 4, "the unfinished one goes at once");
    begin(&store, Some(2));
    assert_eq!(files_in(&disk, "blobs"), 3, "two that checkpoints name, and one that is not of the store");
    let manifest = store.recover().unwrap().unwrap();
    manifest.blobs().for_each(|handle| store.verify_blob(handle).unwrap());
}

#[test]
fn records_and_reservations_do_not_pile_up() {
    let disk = filled(1, false);
    for _ in 0..20 {
        let store = open(&disk);
        let from = recovered(&store).unwrap();
        let record = begin(&store, Some(from));
        let next = record.reserved_below;
        store.reserve_ids(&fence(), record.run, CheckpointId(next.0 + 10)).unwrap();
        store.reserve_ids(&fence(), record.run, CheckpointId(next.0 + 20)).unwrap();
        checkpoint(&store, record.run, next.0, false);
        store.delete_checkpoint(&fence(), CheckpointId(from)).unwrap();
    }
    assert!(files_in(&disk, "runs") <= 2, "{:?}", disk.files());
    assert_eq!(files_in(&disk, "reservations"), 1, "{:?}", disk.files());
}

#[test]
fn discarding_everything_lets_the_next_start_begin_anew_with_fresh_numbers() {
    let disk = filled(3, true);
    let store = open(&disk);
    store.discard_all(&fence(), WallTime(9)).unwrap();
    assert_eq!((files_in(&disk, "manifests"), files_in(&disk, "blobs")), (0, 0));
    drop(store);
    let store = open(&disk.crash(3));
    assert_eq!(store.recover().unwrap(), None);
    let record = begin(&store, None);
    assert_eq!(record.run, RunNumber(3));
    assert!(record.first_checkpoint > CheckpointId(3));
}

#[test]
fn another_job_is_refused_and_both_names_are_told() {
    let disk = filled(1, false);
    let error = open_with(&disk, None, StoreOptions::new("hotels", 1)).map(drop).unwrap_err();
    assert!(
        matches!(&error, StoreError::OtherJob { stored, requested, .. } if stored == "flights" && requested == "hotels")
    );
    let text = error.to_string();
    assert!(text.contains("flights") && text.contains("hotels") && text.contains(ROOT), "{text}");
}

#[test]
fn the_hash_seed_is_the_first_one_for_ever() {
    let disk = filled(1, false);
    let store: Store = open_with(&disk, None, StoreOptions::new("flights", 77)).unwrap();
    assert_eq!(store.hash_seed(), crate::common::SEED);
    assert_eq!(begin(&store, Some(1)).hash_seed, crate::common::SEED);
}

#[test]
fn a_run_cannot_begin_from_a_checkpoint_that_is_not_there() {
    let store = open(&filled(1, false));
    let outcome = store.begin_run(&fence(), Some(CheckpointId(7)), WallTime(1));
    assert!(matches!(outcome, Err(StoreError::Refused { .. })));
}

#[test]
fn an_inline_limit_above_a_megabyte_is_refused() {
    let disk = SimulatedDisk::new();
    let too_much = StoreOptions { inline_limit: 1024 * 1024 + 1, ..options() };
    assert!(matches!(open_with(&disk, None, too_much), Err(StoreError::Refused { .. })));
}
