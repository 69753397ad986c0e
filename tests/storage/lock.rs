//! One handle at a time, and only on a directory of a store.

use std::path::Path;
use std::sync::Arc;

use alluvium::snapshot::Store;
use alluvium::storage::{FileStorage, SystemFiles};
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ports::store::StoreError;

use crate::common::{ROOT, open, open_with, options};

#[test]
fn a_second_handle_on_the_same_directory_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open_directory(Arc::new(SystemFiles::new()), directory.path(), options()).unwrap();
    let error = Store::open_directory(Arc::new(SystemFiles::new()), directory.path(), options()).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("store.lock"), "{error}");
    assert!(!error.is_retryable());
    drop(first);
    Store::open_directory(Arc::new(SystemFiles::new()), directory.path(), options()).unwrap();
}

#[test]
fn the_lock_of_a_process_that_ended_is_gone() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    assert!(matches!(open_with(&disk, None, options()).map(drop), Err(StoreError::Locked { .. })));
    let disk = disk.kill_process();
    let again = open(&disk);
    drop(store);
    assert!(
        matches!(open_with(&disk, None, options()).map(drop), Err(StoreError::Locked { .. })),
        "a guard of the ended process must not unlock"
    );
    drop(again);
}

#[test]
fn a_directory_with_other_things_in_it_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
    let error = Store::open_directory(Arc::new(SystemFiles::new()), directory.path(), options()).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Alien { .. }), "{error}");
    assert!(error.to_string().contains("thesis.txt"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    std::fs::write(&file, "x").unwrap();
    let error = FileStorage::open(Arc::new(SystemFiles::new()), &file).map(drop).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    let disk = SimulatedDisk::new();
    disk.set_content(Path::new(ROOT), b"x");
    assert!(open_with(&disk, None, options()).is_err());
}
