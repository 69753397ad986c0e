//! The catalogue is an index: losing it, or what is in it, costs time and nothing else.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use alluvium::snapshot::Store;
use alluvium::storage::{CatalogueCondition, SledCatalogue, SystemFiles};
use alluvium::testing::catalogue::{CatalogueFate, SimulatedCatalogue};
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::catalogue::{Catalogue, LARGEST_BATCH};
use alluvium_actors::ports::files::FileOperation;
use alluvium_actors::ports::store::{CheckpointStore, PublishOutcome};

use crate::common::{begin, checkpoint, fence, listed, manifest, open_with, options, recovered};

fn keeps_the_contract(catalogue: &dyn Catalogue) {
    let entry = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    catalogue.put(&[entry("a/2", "two"), entry("a/1", "one"), entry("b/1", "other")]).unwrap();
    catalogue.put(&[entry("a/2", "changed")]).unwrap();
    assert_eq!(catalogue.get(b"a/2").unwrap().unwrap(), b"changed");
    assert_eq!(catalogue.get(b"a/3").unwrap(), None);
    assert_eq!(catalogue.scan(b"a/").unwrap(), [entry("a/1", "one"), entry("a/2", "changed")]);
    catalogue.remove(&[b"a/1".to_vec(), b"none".to_vec()]).unwrap();
    assert_eq!(catalogue.scan(b"a/").unwrap(), [entry("a/2", "changed")]);
    let many: Vec<_> = (0..=LARGEST_BATCH).map(|number| entry(&number.to_string(), "x")).collect();
    assert!(catalogue.put(&many).is_err());
    assert!(catalogue.remove(&many.into_iter().map(|(key, _)| key).collect::<Vec<_>>()).is_err());
}

#[test]
fn the_simulated_catalogue_and_the_one_in_sled_keep_the_same_contract() {
    keeps_the_contract(&SimulatedCatalogue::new());
    let directory = tempfile::tempdir().unwrap();
    let (catalogue, condition) = SledCatalogue::open(&directory.path().join("c")).unwrap();
    assert_eq!(condition, CatalogueCondition::Opened);
    keeps_the_contract(&catalogue);
    drop(catalogue);
    let (catalogue, condition) = SledCatalogue::open(&directory.path().join("c")).unwrap();
    assert_eq!(condition, CatalogueCondition::Opened);
    assert_eq!(catalogue.scan(b"b/").unwrap().len(), 1, "it is kept over a clean end");
}

#[test]
fn answers_do_not_depend_on_what_the_catalogue_has_lost() {
    for seed in 0..8 {
        let disk = SimulatedDisk::new();
        let catalogue = SimulatedCatalogue::new();
        let open = || open_with(&disk, Some(&catalogue), options()).unwrap();
        let store = open();
        let run = begin(&store, None).run;
        for number in 1..=5 {
            checkpoint(&store, run, number, true);
        }
        store.delete_checkpoint(&fence(), CheckpointId(2)).unwrap();
        let full = store.list().unwrap();
        drop(store);
        match seed {
            0 => catalogue.open_again(CatalogueFate::Empty, seed),
            1 => catalogue.open_again(CatalogueFate::Broken, seed),
            2..5 => catalogue.open_again(CatalogueFate::Earlier, seed),
            _ => catalogue.open_again(CatalogueFate::PartlyLost, seed),
        }
        let store = open();
        assert_eq!(recovered(&store), Some(5));
        assert_eq!(store.list().unwrap(), full);
        assert_eq!(store.list().unwrap(), full);
        catalogue.set_broken(false);
        assert!(seed == 1 || catalogue.len() == 4, "it is filled again");
    }
}

#[test]
fn a_catalogue_loses_what_its_fate_says_and_takes_the_time_it_is_told() {
    let entry = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let filled = || {
        let catalogue = SimulatedCatalogue::new();
        for number in 0..20 {
            catalogue.put(&[entry(&number.to_string(), "first")]).unwrap();
        }
        catalogue.put(&[entry("0", "second")]).unwrap();
        catalogue.remove(&[b"1".to_vec()]).unwrap();
        catalogue
    };
    let catalogue = filled();
    catalogue.lose_latest(1);
    assert_eq!(catalogue.get(b"1").unwrap().unwrap(), b"first", "what was removed is there again");
    catalogue.lose_latest(1);
    assert_eq!(catalogue.get(b"0").unwrap().unwrap(), b"first", "what was replaced has its earlier value");
    catalogue.lose_latest(100);
    assert!(catalogue.is_empty());
    for seed in 0..10 {
        let left = |fate| {
            let catalogue = filled();
            catalogue.open_again(fate, seed);
            catalogue.scan(b"").map(|entries| entries.len()).ok()
        };
        assert_eq!(left(CatalogueFate::Kept), Some(19));
        assert_eq!(left(CatalogueFate::Empty), Some(0));
        assert_eq!(left(CatalogueFate::Broken), None);
        assert!(left(CatalogueFate::PartlyLost).is_some_and(|left| (1..19).contains(&left)));
        assert!(left(CatalogueFate::Earlier).is_some_and(|left| left <= 20));
    }
    let catalogue = filled();
    catalogue.open_again(CatalogueFate::Broken, 1);
    catalogue.open_again(CatalogueFate::Kept, 1);
    assert_eq!(catalogue.len(), 19, "it works again");
}

#[test]
fn entries_that_no_manifest_bears_out_are_dropped() {
    let disk = SimulatedDisk::new();
    let catalogue = SimulatedCatalogue::new();
    let store = open_with(&disk, Some(&catalogue), options()).unwrap();
    let run = begin(&store, None).run;
    checkpoint(&store, run, 1, true);
    checkpoint(&store, run, 2, true);
    let stale = catalogue.scan(b"").unwrap();
    catalogue.put(&[(b"checkpoint/nonsense".to_vec(), b"nonsense".to_vec())]).unwrap();
    store.delete_checkpoint(&fence(), CheckpointId(1)).unwrap();
    catalogue.put(&stale).unwrap();
    assert_eq!(listed(&store), [2]);
    assert_eq!(recovered(&store), Some(2));
    assert_eq!(catalogue.scan(b"checkpoint/r").unwrap().len(), 1);
}

#[test]
fn a_manifest_that_never_survived_is_not_missed_though_it_was_listed() {
    for seed in 0..8 {
        let disk = SimulatedDisk::new();
        let catalogue = SimulatedCatalogue::new();
        let store = open_with(&disk, Some(&catalogue), options()).unwrap();
        let run = begin(&store, None).run;
        checkpoint(&store, run, 1, true);
        disk.fail_next(FileOperation::SyncDirectory, DiskFault::FailedSync);
        let outcome = store.publish(&fence(), &manifest(run, CheckpointId(2), None, true));
        assert!(matches!(outcome, PublishOutcome::Unknown(_)), "{outcome:?}");
        assert_eq!(listed(&store), [1, 2]);
        drop(store);
        let store = open_with(&disk.crash(seed), Some(&catalogue), options()).unwrap();
        assert!(matches!(recovered(&store), Some(1 | 2)));
    }
}

fn garbage_in(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let length = fs::metadata(&path).unwrap().len().clamp(64, 8192);
            fs::write(&path, (0..length).map(|byte| (byte * 31 + 7) as u8).collect::<Vec<u8>>()).unwrap();
        }
    }
}

#[test]
fn a_catalogue_that_does_not_open_is_moved_aside_and_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    for _ in 0..2 {
        let (catalogue, _) = SledCatalogue::open(&path).unwrap();
        catalogue.put(&[(b"key".to_vec(), vec![1; 100])]).unwrap();
        drop(catalogue);
        garbage_in(&path);
        let (catalogue, condition) = SledCatalogue::open(&path).unwrap();
        assert!(matches!(&condition, CatalogueCondition::Renewed { reason } if !reason.is_empty()), "{condition:?}");
        assert_eq!(catalogue.get(b"key").unwrap(), None);
        catalogue.put(&[(b"key".to_vec(), vec![2])]).unwrap();
        assert!(directory.path().join("c.broken").exists());
    }
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(SledCatalogue::open(&file.join("below")).is_err(), "a place where nothing can be is an error");
}

#[test]
fn a_catalogue_that_is_deleted_or_unopenable_between_two_kills_loses_no_checkpoint() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("deleted", |path| fs::remove_dir_all(path).unwrap()),
        ("garbage in its files", garbage_in),
        ("a file in its place", |path| {
            fs::remove_dir_all(path).unwrap();
            fs::write(path, "garbage").unwrap();
        }),
        ("its log is gone", |path| fs::remove_file(path.join("db")).unwrap()),
        ("its settings are garbage", |path| fs::write(path.join("conf"), "garbage").unwrap()),
    ];
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let mut last = None;
    for (what, harm) in harms {
        let store = Store::open_directory(Arc::new(SystemFiles::new()), &root, options()).unwrap();
        assert_eq!(recovered(&store), last, "before: {what}");
        let record = begin(&store, last);
        let next = record.first_checkpoint.0;
        checkpoint(&store, record.run, next, true);
        last = Some(next);
        let before = listed(&store);
        drop(store);
        harm(&root.join("catalogue.sled"));
        let store = Store::open_directory(Arc::new(SystemFiles::new()), &root, options()).unwrap();
        assert_eq!(recovered(&store), last, "{what}");
        assert_eq!(listed(&store), before, "{what}");
    }
}
