//! Local copies of blobs: in memory and in files, verified at each read, bounded, and gone when they are freed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium::storage::LocalStorage;
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium_actors::ports::files::FileOperation;
use alluvium_actors::ports::local::{CopyError, LocalCopies};
use alluvium_actors::ports::store::BlobHandle;

/// More than two blocks, and no whole number of them.
const LENGTH: usize = 150_000;

fn bytes(seed: u8) -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 7) as u8 ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}

fn handle(name: &str, bytes: &[u8]) -> BlobHandle {
    BlobHandle { name: format!("blobs/{name}"), length: bytes.len() as u64, checksum: crc32c::crc32c(bytes) }
}

fn copy(copies: &LocalStorage, name: &str, bytes: &[u8]) -> Result<BlobHandle, CopyError> {
    let mut writer = copies.begin(name)?;
    for part in bytes.chunks(1_777) {
        writer.write(part)?;
    }
    let handle = handle(name, bytes);
    writer.finish(&handle)?;
    Ok(handle)
}

fn open(disk: &SimulatedDisk, memory: u64, directories: &[&str]) -> LocalStorage {
    let directories: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
    LocalStorage::open(Arc::new(disk.clone()), memory, &directories, "job-1").expect("the directories can be written")
}

#[track_caller]
fn reads_everything(copies: &LocalStorage, handle: &BlobHandle, content: &[u8]) {
    for (from, length) in
        [(0, 0), (0, 1), (65_535, 2), (65_536, 65_536), (70_000, 61_073), (0, LENGTH), (LENGTH - 1, 1)]
    {
        let read = copies.read(handle, from as u64, length).expect("the copy is sound");
        assert_eq!(read.as_deref(), Some(&content[from..from + length]), "{length} from {from}");
    }
    for (from, length) in [(0, LENGTH + 1), (LENGTH as u64, 1), (u64::MAX, 1)] {
        assert_eq!(copies.read(handle, from, length), Ok(None), "outside of the blob");
    }
}

#[test]
fn any_range_is_read_from_memory_and_from_files() {
    for (memory, files) in [(1 << 20, 0), (0, 1), (100_000, 1)] {
        let disk = SimulatedDisk::new();
        let copies = open(&disk, memory, &["/local"]);
        let content = bytes(1);
        let handle = copy(&copies, "one", &content).expect("there is room");
        reads_everything(&copies, &handle, &content);
        assert_eq!(disk.files().len(), files);
        assert_eq!(copies.bytes_in_memory(), if files == 0 { LENGTH as u64 } else { 0 });
    }
}

#[test]
fn what_does_not_fit_into_memory_goes_to_the_directories_in_turn() {
    let disk = SimulatedDisk::new();
    let copies = open(&disk, LENGTH as u64, &["/a", "/b"]);
    let contents: Vec<Vec<u8>> = (0..5).map(bytes).collect();
    let handles: Vec<BlobHandle> = contents
        .iter()
        .enumerate()
        .map(|(number, content)| copy(&copies, &number.to_string(), content).expect("there is room in files"))
        .collect();
    for (handle, content) in handles.iter().zip(&contents) {
        reads_everything(&copies, handle, content);
    }
    let in_directory = |name: &str| disk.files().iter().filter(|path| path.starts_with(name)).count();
    assert_eq!((in_directory("/a/job-1"), in_directory("/b/job-1")), (2, 2));
    assert_eq!(copies.bytes_in_memory(), LENGTH as u64);
}

#[test]
fn without_a_directory_there_is_no_copy_beyond_the_limit_and_room_comes_back() {
    let copies = open(&SimulatedDisk::new(), LENGTH as u64 + 10, &[]);
    let first = copy(&copies, "first", &bytes(1)).expect("there is room");
    assert_eq!(copy(&copies, "second", &bytes(2)), Err(CopyError::NoRoom { limit: LENGTH as u64 + 10 }));
    assert_eq!(copies.bytes_in_memory(), LENGTH as u64, "the unfinished copy keeps no room");
    copies.free(&[first.name, "blobs/never-there".to_owned()]);
    assert_eq!((copies.bytes_in_memory(), copies.is_empty()), (0, true));
    copy(&copies, "third", &bytes(3)).expect("there is room again");
}

#[test]
fn a_flipped_bit_anywhere_in_a_file_is_found_where_it_is_read() {
    let disk = SimulatedDisk::new();
    let copies = open(&disk, 0, &["/local"]);
    let content = bytes(4);
    let handle = copy(&copies, "one", &content).expect("there is room");
    let file = disk.files().pop().expect("a file");
    for bit in [0, 8 * 65_536, 8 * LENGTH as u64 - 1] {
        assert!(disk.flip_bit(&file, bit));
        let read = copies.read(&handle, bit / 8, 1);
        assert!(matches!(read, Err(CopyError::Damaged { .. })), "bit {bit}: {read:?}");
        assert!(disk.flip_bit(&file, bit));
        reads_everything(&copies, &handle, &content);
    }
    disk.set_content(&file, &content[..100]);
    assert!(matches!(copies.read(&handle, 0, 10), Err(CopyError::Damaged { .. })), "it ends early");
}

#[test]
fn a_copy_counts_for_the_blob_with_its_length_and_checksum_only() {
    let copies = open(&SimulatedDisk::new(), 1 << 20, &[]);
    let handle = copy(&copies, "one", &bytes(5)).expect("there is room");
    for other in [
        BlobHandle { length: handle.length - 1, ..handle.clone() },
        BlobHandle { checksum: handle.checksum ^ 1, ..handle.clone() },
    ] {
        assert!(matches!(copies.read(&other, 0, 10), Err(CopyError::Damaged { .. })));
    }
    let unknown = BlobHandle { name: "blobs/two".to_owned(), ..handle };
    assert_eq!(copies.read(&unknown, 0, 10), Ok(None));
}

#[test]
fn what_was_copied_has_to_be_what_was_stored() {
    let disk = SimulatedDisk::new();
    let copies = open(&disk, 0, &["/local"]);
    let mut writer = copies.begin("one").expect("there is room");
    writer.write(&bytes(6)).expect("there is room");
    let finished = writer.finish(&handle("one", &bytes(7)));
    assert!(matches!(finished, Err(CopyError::Damaged { .. })), "{finished:?}");
    assert!(copies.is_empty() && disk.files().is_empty());
}

#[test]
fn a_file_is_gone_with_its_copy_and_with_a_copy_that_was_given_up() {
    let disk = SimulatedDisk::new();
    let copies = open(&disk, 0, &["/local"]);
    let handle = copy(&copies, "one", &bytes(8)).expect("there is room");
    let mut unfinished = copies.begin("two").expect("there is room");
    unfinished.write(&bytes(9)).expect("there is room");
    assert_eq!(disk.files().len(), 2);
    drop(unfinished);
    assert_eq!(disk.files().len(), 1);
    copies.free(&[handle.name]);
    assert_eq!(disk.files(), Vec::<PathBuf>::new());
    copy(&copies, "three", &bytes(10)).expect("there is room");
    drop(copies);
    assert_eq!(disk.files(), Vec::<PathBuf>::new(), "the place of the copies is gone");
}

#[test]
fn a_file_that_cannot_be_written_costs_the_copy_and_leaves_nothing() {
    for operation in [FileOperation::Create, FileOperation::Append] {
        let disk = SimulatedDisk::new();
        let copies = open(&disk, 0, &["/local"]);
        disk.fail_next(operation, DiskFault::FullDisk);
        let failed = copy(&copies, "one", &bytes(11));
        assert!(matches!(&failed, Err(CopyError::Failed { copy, .. }) if copy.contains("/local/job-1")), "{failed:?}");
        assert!(copies.is_empty() && disk.files().is_empty());
        copy(&copies, "two", &bytes(12)).expect("the next one is as good as ever");
    }
}

#[test]
fn what_a_former_process_left_is_removed_and_what_other_jobs_have_is_not() {
    let disk = SimulatedDisk::new();
    let former = open(&disk, 0, &["/local"]);
    copy(&former, "one", &bytes(13)).expect("there is room");
    let other = LocalStorage::open(Arc::new(disk.clone()), 0, &["/local".into()], "job-2").expect("it can be written");
    let theirs = copy(&other, "one", &bytes(14)).expect("there is room");
    let disk = disk.kill_process();
    assert_eq!(disk.files().len(), 2);
    let copies = open(&disk, 0, &["/local"]);
    assert_eq!(disk.files(), [Path::new("/local/job-2/one")]);
    assert_eq!(copies.read(&theirs, 0, 1), Ok(None), "they are another job's");
}

#[test]
fn a_directory_that_cannot_be_written_is_named_at_the_start() {
    let operations =
        [FileOperation::CreateDirectories, FileOperation::List, FileOperation::Create, FileOperation::Append];
    for operation in operations {
        let disk = SimulatedDisk::new();
        disk.fail_next(operation, DiskFault::Error);
        let opened = LocalStorage::open(Arc::new(disk), 1 << 20, &["/local".into()], "job-1");
        let error = opened.err().expect("it cannot be written");
        assert!(error.path.starts_with("/local"), "{operation}: {error}");
    }
}
