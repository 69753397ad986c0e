//! What both kinds of file source have in common: several files, compressed ones, rates, and files that are not what they were.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium::connect::LineFiles;
use alluvium::storage::SystemFiles;
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::host::Site;
use alluvium::testing::sources::{SourceRun, SourceSnapshot, check_replay, read_all};
use alluvium_actors::ids::CheckpointId;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{disk_with, site};

fn numbered(lines: std::ops::Range<u32>) -> String {
    lines.map(|line| format!("line {line}\n")).collect()
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Reads about `records` records and takes a checkpoint.
fn read_some(source: &LineFiles, site: &Site, records: usize) -> (Vec<String>, SourceSnapshot) {
    let mut run = SourceRun::start(source, site, None, 3).unwrap();
    run.read(records).unwrap();
    (run.emitted(), run.snapshot(CheckpointId(1)).unwrap())
}

/// Goes on from a checkpoint to the end.
fn go_on(source: &LineFiles, site: &Site, snapshot: &SourceSnapshot) -> Result<Vec<String>, String> {
    let mut run = SourceRun::start(source, site, Some(snapshot), 4).map_err(|error| error.to_string())?;
    run.finish().map_err(|error| {
        assert!(!error.is_retryable(), "{error}");
        error.to_string()
    })?;
    Ok(run.emitted())
}

#[test]
fn a_compressed_file_of_several_members_is_one_text() {
    let content = numbered(0..20_000);
    let (first, second) = content.split_at(100_001);
    let mut stored = gzip(first);
    stored.extend(gzip(second));
    for seed in 0..6 {
        let disk = disk_with("/in.txt.gz", &stored);
        let source = LineFiles::new("/in.txt.gz");
        check_replay(&source, &site(&disk, 1), seed).unwrap();
        let emitted = read_all(&source, &site(&disk, 1), seed).unwrap().remove(0);
        assert_eq!(emitted.len(), 20_000);
        assert_eq!(emitted[19_999], "line 19999");
    }
}

#[test]
fn a_truncated_or_damaged_compressed_file_is_named() {
    let stored = gzip(&numbered(0..5_000));
    let mut damaged = stored.clone();
    damaged[stored.len() / 2] ^= 0x55;
    for bad in [&stored[..stored.len() - 5], &damaged, b"no gzip at all".as_slice()] {
        let disk = disk_with("/in.txt.gz", bad);
        let error = read_all(&LineFiles::new("/in.txt.gz"), &site(&disk, 1), 1).unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("/in.txt.gz"), "{error}");
    }
    assert!(read_all(&LineFiles::new("/in.txt.gz"), &site(&disk_with("/in.txt.gz", b""), 1), 1).unwrap()[0].is_empty());
}

#[test]
fn a_missing_file_is_named() {
    let error = read_all(&LineFiles::new("/nowhere.txt"), &site(&SimulatedDisk::new(), 1), 1).unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("/nowhere.txt does not exist"), "{error}");
}

#[test]
fn a_directory_is_read_in_the_order_of_its_names() {
    let directory = tempfile::tempdir().unwrap();
    for (name, lines) in [("b.txt", "3\n4\n"), ("a.txt", "1\n2"), (".hidden", "0\n"), ("c.txt", "")] {
        fs::write(directory.path().join(name), lines).unwrap();
    }
    fs::create_dir(directory.path().join("sub")).unwrap();
    let site = Site::new("lines", Arc::new(SystemFiles::new()));
    let source = LineFiles::new(directory.path());
    assert_eq!(read_all(&source, &site, 1).unwrap(), [["1", "2", "3", "4"]]);
}

#[test]
fn several_files_replay_exactly_once_over_several_readers() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new();
        for (number, name) in ["/a.txt", "/b.txt", "/c.txt.gz", "/d.txt", "/e.txt"].iter().enumerate() {
            let lines = numbered(number as u32 * 10_000..number as u32 * 10_000 + 2_500 * number as u32);
            let content = if name.ends_with(".gz") { gzip(&lines) } else { lines.into_bytes() };
            disk.set_content(Path::new(name), &content);
        }
        let source = LineFiles::several(["/a.txt", "/b.txt", "/c.txt.gz", "/d.txt", "/e.txt"]);
        check_replay(&source, &site(&disk, 1 + seed as u32 % 4), seed).unwrap();
        assert_eq!(source.progress().rows_read(), 25_000);
        assert_eq!(source.progress().bytes_read(), source.progress().bytes_total());
    }
}

#[test]
fn the_rate_is_that_of_the_whole_source() {
    for readers in [1, 3] {
        let disk = disk_with("/in.txt", numbered(0..2_000));
        let source = LineFiles::new("/in.txt").rate(1000);
        let mut run = SourceRun::start(&source, &site(&disk, readers), None, 2).unwrap();
        run.finish().unwrap();
        let expected = Duration::from_millis(1900)..Duration::from_millis(2600);
        assert!(expected.contains(&run.took()), "{readers} readers took {:?}", run.took());
    }
}

#[test]
fn the_same_text_may_lie_elsewhere_after_a_restart() {
    let disk = disk_with("/in.txt", numbered(0..9_000));
    disk.set_content(Path::new("/moved.txt"), numbered(0..9_000).as_bytes());
    let (mut emitted, snapshot) = read_some(&LineFiles::new("/in.txt"), &site(&disk, 1), 5_000);
    emitted.extend(go_on(&LineFiles::new("/moved.txt"), &site(&disk, 1), &snapshot).unwrap());
    assert_eq!(emitted.concat(), numbered(0..9_000).replace('\n', ""));
}

#[test]
fn another_text_than_the_one_that_was_read_is_refused() {
    let content = numbered(0..9_000);
    let disk = disk_with("/in.txt", &content);
    let source = LineFiles::new("/in.txt");
    let (_, snapshot) = read_some(&source, &site(&disk, 1), 5_000);
    let changed = disk_with("/in.txt", content.replacen("line 17\n", "line 71\n", 1));
    let error = go_on(&source, &site(&changed, 1), &snapshot).unwrap_err();
    assert!(error.contains("/in.txt is not the input") && error.contains("other bytes"), "{error}");
    let shorter = disk_with("/in.txt", &content[..20_000]);
    let error = go_on(&source, &site(&shorter, 1), &snapshot).unwrap_err();
    assert!(error.contains("/in.txt is not the input") && error.contains("only 20000 bytes"), "{error}");
    let more = LineFiles::several(["/in.txt", "/in.txt"]);
    assert!(go_on(&more, &site(&disk, 1), &snapshot).unwrap_err().contains("from 1 inputs, and the job has 2 now"));
}

#[test]
fn whole_lines_may_be_appended_and_nothing_else() {
    let disk = disk_with("/in.txt", numbered(0..3_000));
    let source = LineFiles::new("/in.txt");
    let (mut emitted, snapshot) = read_some(&source, &site(&disk, 1), 3_000);
    let grown = disk_with("/in.txt", numbered(0..3_500));
    emitted.extend(go_on(&source, &site(&grown, 1), &snapshot).unwrap());
    assert_eq!(emitted.len(), 3_500);

    let open_end = disk_with("/in.txt", numbered(0..3_000).trim_end());
    let (_, snapshot) = read_some(&source, &site(&open_end, 1), 3_000);
    let error = go_on(&source, &site(&grown, 1), &snapshot).unwrap_err();
    assert!(error.contains("in the middle of line 3000, and grew"), "{error}");
    let same = disk_with("/in.txt", numbered(0..3_000).trim_end());
    assert_eq!(go_on(&source, &site(&same, 1), &snapshot).unwrap(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in.txt");
    fs::write(&path, numbered(0..200_000)).unwrap();
    let site = Site::new("lines", Arc::new(SystemFiles::new()));
    let mut run = SourceRun::start(&LineFiles::new(&path), &site, None, 1).unwrap();
    run.read(100).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1_000_000).unwrap();
    let error = run.finish().unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("cut while it was read"), "{error}");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_read_to_its_new_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in.txt");
    fs::write(&path, numbered(0..100_000)).unwrap();
    let site = Site::new("lines", Arc::new(SystemFiles::new()));
    let source = LineFiles::new(&path);
    let mut run = SourceRun::start(&source, &site, None, 1).unwrap();
    run.read(100).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(numbered(100_000..100_500).as_bytes()).unwrap();
    run.finish().unwrap();
    assert_eq!(run.emitted().len(), 100_500);
    assert_eq!(source.progress().bytes_total(), fs::metadata(&path).unwrap().len());
}

#[test]
fn a_failing_disk_is_worth_a_restart() {
    use alluvium::testing::disk::DiskFault;
    use alluvium_actors::ports::files::FileOperation;
    let disk = disk_with("/in.txt", numbered(0..50_000));
    disk.fail_at(FileOperation::Read, 4, DiskFault::Error);
    let error = read_all(&LineFiles::new("/in.txt"), &site(&disk, 1), 1).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("/in.txt"), "{error}");
}

#[test]
fn progress_goes_back_to_the_restored_position() {
    let disk = disk_with("/in.txt", numbered(0..9_000));
    let source = LineFiles::new("/in.txt");
    let (emitted, snapshot) = read_some(&source, &site(&disk, 1), 2_000);
    let restarted = LineFiles::new("/in.txt");
    let progress = restarted.progress();
    assert_eq!((progress.rows_read(), progress.bytes_total()), (0, 0));
    let _run = SourceRun::start(&restarted, &site(&disk, 1), Some(&snapshot), 1).unwrap();
    assert_eq!(progress.rows_read(), emitted.len() as u64);
    assert_eq!(progress.bytes_read(), numbered(0..emitted.len() as u32).len() as u64);
    assert_eq!(progress.bytes_total(), numbered(0..9_000).len() as u64);
}

#[test]
fn the_rows_of_a_file_that_was_read_to_its_end_are_known_after_a_restore_wherever_the_cut_was() {
    let text: String = (0..40).map(|line| format!("line {line}\n")).collect();
    let disk = disk_with("/in/one", &text);
    disk.set_content(Path::new("/in/two"), text.as_bytes());
    for seed in 0..60 {
        let site = site(&disk, 1 + seed as u32 % 2);
        let files = || LineFiles::several(["/in/one", "/in/two"]);
        let source = files();
        let mut run = SourceRun::start(&source, &site, None, seed).unwrap();
        // The notice of the first file's end may be on its way, and that of the second.
        run.read(if seed % 3 == 0 { 80 } else { 41 }).unwrap();
        let cut = run.snapshot(CheckpointId(1)).unwrap();
        let restored = files();
        let progress = restored.progress();
        let mut run = SourceRun::start(&restored, &site, Some(&cut), seed).unwrap();
        run.finish().unwrap();
        assert_eq!(progress.rows_read(), 80, "seed {seed}");
    }
}
