//! Every checkpoint storage passes the public suite.

use std::path::Path;
use std::sync::Arc;

use alluvium::storage::conformance::{Request, check};
use alluvium::storage::{FileStorage, MemoryStorage, SystemFiles};
use alluvium::testing::disk::SimulatedDisk;

#[test]
fn memory_storage_passes_the_suite() {
    let mut kept = MemoryStorage::new();
    check(&mut |request| {
        if request == Request::Fresh {
            kept = MemoryStorage::new();
        }
        Arc::new(kept.clone())
    });
}

#[test]
fn file_storage_on_the_file_system_passes_the_suite() {
    let directory = tempfile::tempdir().unwrap();
    let mut number = 0;
    check(&mut |request| {
        number += u32::from(request == Request::Fresh);
        let root = directory.path().join(format!("deep/{number}/store"));
        Arc::new(FileStorage::open(Arc::new(SystemFiles::new()), &root).unwrap())
    });
}

#[test]
fn file_storage_passes_the_suite_with_a_power_cut_at_each_opening() {
    for seed in 0..16 {
        let mut disk = SimulatedDisk::new();
        check(&mut |request| {
            disk = match request {
                Request::Fresh => SimulatedDisk::new(),
                Request::Reopened => disk.crash(seed),
            };
            Arc::new(FileStorage::open(Arc::new(disk.clone()), Path::new("/var/store")).unwrap())
        });
    }
}
