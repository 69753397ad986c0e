//! The simulated disk forgets what a real one may forget, and the files of this machine keep the same contract.

use std::path::{Path, PathBuf};

use alluvium::storage::SystemFiles;
use alluvium::testing::conformance::check_files;
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium_actors::ports::files::{FileOperation, Files};

const FILE: &str = "/d/file";

fn with_directory() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_directories(Path::new("/d")).unwrap();
    disk
}

fn write(files: &dyn Files, path: &Path, content: &[u8], sync: bool) {
    let mut writer = files.create(path).unwrap();
    writer.append(content).unwrap();
    if sync {
        writer.sync().unwrap();
    }
}

#[test]
fn the_simulated_disk_and_the_file_system_keep_the_same_contract() {
    check_files(&SimulatedDisk::new(), Path::new("/var/data")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    check_files(&SystemFiles::new(), &directory.path().join("data")).unwrap();
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..64 {
        let disk = with_directory();
        write(&disk, Path::new("/d/tmp"), b"whole", true);
        disk.rename_without_replace(Path::new("/d/tmp"), Path::new(FILE)).unwrap();
        disk.sync_directory(Path::new("/d")).unwrap();
        let disk = disk.crash(seed);
        assert_eq!(disk.files(), [PathBuf::from(FILE)], "seed {seed}");
        assert_eq!(disk.content(Path::new(FILE)).unwrap(), b"whole", "seed {seed}");
    }
}

#[test]
fn names_content_and_removals_that_were_not_synced_may_be_lost_kept_or_torn() {
    let (mut lost, mut kept, mut torn, mut removed) = (0, 0, 0, 0);
    for seed in 0..64 {
        let disk = with_directory();
        write(&disk, Path::new("/d/old"), b"old", true);
        disk.sync_directory(Path::new("/d")).unwrap();
        write(&disk, Path::new(FILE), &[7; 4000], false);
        disk.remove(Path::new("/d/old")).unwrap();
        let disk = disk.crash(seed);
        removed += u32::from(disk.content(Path::new("/d/old")).is_none());
        match disk.content(Path::new(FILE)) {
            None => lost += 1,
            Some(content) if content == [7; 4000] => kept += 1,
            Some(_) => torn += 1,
        }
    }
    assert!(lost > 5 && kept > 5 && torn > 5 && (10..60).contains(&removed), "{lost} {kept} {torn} {removed}");
}

#[test]
fn a_rename_is_never_half_done() {
    let mut renamed = 0;
    for seed in 0..64 {
        let disk = with_directory();
        write(&disk, Path::new("/d/from"), b"x", true);
        disk.sync_directory(Path::new("/d")).unwrap();
        disk.rename_without_replace(Path::new("/d/from"), Path::new("/d/to")).unwrap();
        let disk = disk.crash(seed);
        assert_eq!(disk.files().len(), 1, "seed {seed}");
        renamed += u32::from(disk.content(Path::new("/d/to")).is_some());
    }
    assert!((10..54).contains(&renamed), "{renamed}");
}

#[test]
fn content_whose_sync_failed_is_lost_also_after_a_sync_that_succeeds() {
    let disk = with_directory();
    let mut writer = disk.create(Path::new(FILE)).unwrap();
    writer.append(b"first").unwrap();
    disk.fail_next(FileOperation::Sync, DiskFault::FailedSync);
    assert!(writer.sync().is_err());
    writer.append(b"second").unwrap();
    writer.sync().unwrap();
    disk.sync_directory(Path::new("/d")).unwrap();
    assert_eq!(disk.content(Path::new(FILE)).unwrap(), b"firstsecond");
    assert_eq!(disk.crash(1).content(Path::new(FILE)).unwrap(), b"\0\0\0\0\0second");
}

#[test]
fn names_whose_sync_failed_are_as_they_were_before_also_after_a_sync_that_succeeds() {
    for seed in 0..64 {
        let disk = with_directory();
        for name in ["/d/removed", "/d/from"] {
            write(&disk, Path::new(name), name.as_bytes(), true);
        }
        disk.sync_directory(Path::new("/d")).unwrap();
        write(&disk, Path::new("/d/created"), b"new", true);
        disk.remove(Path::new("/d/removed")).unwrap();
        disk.rename_without_replace(Path::new("/d/from"), Path::new("/d/to")).unwrap();
        disk.fail_next(FileOperation::SyncDirectory, DiskFault::FailedSync);
        assert!(disk.sync_directory(Path::new("/d")).is_err());
        write(&disk, Path::new("/d/later"), b"later", true);
        disk.sync_directory(Path::new("/d")).unwrap();
        let seen = |disk: &SimulatedDisk| -> Vec<String> {
            disk.files().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(seen(&disk), ["created", "later", "to"]);
        let disk = disk.crash(seed);
        assert_eq!(seen(&disk), ["from", "later", "removed"], "seed {seed}");
        assert_eq!(disk.content(Path::new("/d/from")).unwrap(), b"/d/from");
        // And from then on it is a disk as any other.
        disk.remove(Path::new("/d/from")).unwrap();
        disk.sync_directory(Path::new("/d")).unwrap();
        assert_eq!(seen(&disk.crash(seed)), ["later", "removed"], "seed {seed}");
    }
}

#[test]
fn handles_from_before_a_crash_change_nothing() {
    let disk = with_directory();
    let mut writer = disk.create(Path::new(FILE)).unwrap();
    let reborn = disk.crash(1);
    let files = reborn.files();
    assert!(writer.append(b"late").is_err());
    assert!(disk.create(Path::new("/d/late")).is_err());
    assert!(disk.list(Path::new("/d")).is_err());
    assert_eq!(reborn.files(), files);
    reborn.create(Path::new("/d/new")).unwrap();
}

#[test]
fn a_killed_process_loses_nothing_that_the_machine_still_holds() {
    let disk = with_directory();
    write(&disk, Path::new(FILE), b"in the cache", false);
    let disk = disk.kill_process();
    assert_eq!(disk.content(Path::new(FILE)).unwrap(), b"in the cache");
    assert_eq!(disk.crash(0).content(Path::new(FILE)), None);
}

#[test]
fn a_power_cut_stops_everything_until_the_machine_is_switched_on_again() {
    let disk = with_directory();
    disk.fail_at_effect(disk.effects() + 2, DiskFault::PowerCut);
    let mut writer = disk.create(Path::new(FILE)).unwrap();
    assert!(writer.append(b"x").is_err());
    assert!(disk.is_powered_off());
    assert!(disk.metadata(Path::new(FILE)).is_err());
    assert!(disk.crash(1).metadata(Path::new(FILE)).is_ok());
}
