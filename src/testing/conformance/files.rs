//! What every door to files has to do when nothing fails. What must survive a crash it cannot see: that is for a disk that can be crashed.

use std::path::{Path, PathBuf};

use alluvium_actors::ports::files::{
    DirectoryEntry, FileError, FileErrorKind, FileKind, FileMetadata, FileOperation, Files,
};

use super::{Findings, Nonconformance, Violation};

/// A directory of its own for each rule.
struct Place<'a> {
    files: &'a dyn Files,
    root: PathBuf,
}

type Verdict = Result<(), String>;

/// The rules, as sentences.
const RULES: &[(&str, fn(&Place<'_>) -> Verdict)] = &[
    ("a file is written in parts and read from any offset", parts_and_offsets),
    ("a read gives less than asked only at the end of the file", short_only_at_the_end),
    ("what was appended is seen before it is synced, and syncing changes nothing that is seen", seen_before_synced),
    ("a large file is kept", large_files),
    ("a name that is taken is not created again, and the file stays as it is", no_second_creation),
    ("a rename leaves a file that has the new name as it is", no_replacing),
    ("a rename moves a file, also to another directory, and open files do not notice", renaming),
    ("a removed file is gone, and stays for those who have it open", removing),
    ("a directory is listed sorted, with kinds and lengths, and without what lies deeper", listing),
    ("directories are made with all above them, and made again without an error", directories),
    ("a file in the way of a directory is an error and stays as it is", a_file_in_the_way),
    ("what is not there is not found", not_found),
    ("a lock has one holder, and ends when it is dropped", locking),
    ("an error names the path and the operation", errors_name_the_path),
    ("a path may hold `.` and doubled slashes", untidy_paths),
];

/// Checks a door to files in the directory `root`, which must be empty or missing and is left with files in it.
///
/// ```
/// use std::path::Path;
/// use alluvium::testing::{conformance::check_files, disk::SimulatedDisk};
///
/// check_files(&SimulatedDisk::new(), Path::new("/trial"))?;
/// # Ok::<(), alluvium::testing::conformance::Nonconformance>(())
/// ```
///
/// # Errors
/// The rules that it breaks.
pub fn check_files(files: &dyn Files, root: &Path) -> Result<(), Nonconformance> {
    let mut findings = Findings::default();
    for (number, (rule, check)) in RULES.iter().enumerate() {
        let place = Place { files, root: root.join(format!("rule-{number}")) };
        let made = files.create_directories(&place.root).map_err(|error| error.to_string());
        let outcome = made.and_then(|()| check(&place));
        findings.note(outcome.map_err(|found| Violation { rule, story: Vec::new(), found }));
    }
    findings.verdict(())
}

fn told(what: &str) -> impl Fn(FileError) -> String + '_ {
    move |error| format!("{what}: {error}")
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, wanted: T, what: &str) -> Verdict {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}")) }
}

/// That an operation fails in a certain way.
fn fails<T>(outcome: Result<T, FileError>, kind: FileErrorKind, what: &str) -> Verdict {
    match outcome {
        Ok(_) => Err(format!("{what}: no error instead of {kind:?}")),
        Err(error) => same(error.kind, kind, what),
    }
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> Verdict {
        let mut writer = self.files.create(&self.path(name)).map_err(told("a free name is created"))?;
        writer.append(content).map_err(told("a new file is appended to"))
    }

    /// The content of a file, read as a caller does who knows its length.
    fn content(&self, name: &str) -> Result<Vec<u8>, String> {
        let reader = self.files.open(&self.path(name)).map_err(told("a file is opened"))?;
        let length = reader.length().map_err(told("a length is asked for"))?;
        let mut content = vec![0; usize::try_from(length).map_err(|_| format!("{name} is {length} bytes long"))?];
        let count = reader.read_at(0, &mut content).map_err(told("a file is read"))?;
        same(count as u64, length, "the bytes of a whole file")?;
        Ok(content)
    }

    fn metadata(&self, name: &str) -> Result<Option<FileMetadata>, String> {
        self.files.metadata(&self.path(name)).map_err(told("metadata is asked for"))
    }
}

fn file(length: u64) -> FileMetadata {
    FileMetadata { kind: FileKind::File, length }
}

fn parts_and_offsets(place: &Place<'_>) -> Verdict {
    let path = place.path("file");
    let mut writer = place.files.create(&path).map_err(told("a free name is created"))?;
    same(place.content("file")?, Vec::new(), "a new file")?;
    for part in [&b"0123"[..], b"", b"456789"] {
        writer.append(part).map_err(told("a file is appended to"))?;
    }
    drop(writer);
    same(place.content("file")?, b"0123456789".to_vec(), "the whole file")?;
    let reader = place.files.open(&path).map_err(told("a file is opened"))?;
    let mut buffer = [0; 3];
    for (offset, wanted) in [(4, b"456"), (0, b"012"), (7, b"789")] {
        let count = reader.read_at(offset, &mut buffer).map_err(told("a file is read"))?;
        same((count, &buffer), (3, wanted), "an inner range")?;
    }
    same(place.metadata("file")?, Some(file(10)), "its metadata")
}

fn short_only_at_the_end(place: &Place<'_>) -> Verdict {
    place.write("file", b"0123456789")?;
    let reader = place.files.open(&place.path("file")).map_err(told("a file is opened"))?;
    let mut buffer = [0; 4];
    for (offset, count) in [(6, 4), (7, 3), (9, 1), (10, 0), (11, 0), (1 << 40, 0)] {
        let found = reader.read_at(offset, &mut buffer).map_err(told("a file is read"))?;
        same(found, count, &format!("bytes from offset {offset}"))?;
    }
    let found = reader.read_at(3, &mut []).map_err(told("nothing is read"))?;
    same(found, 0, "an empty read")
}

fn seen_before_synced(place: &Place<'_>) -> Verdict {
    let mut writer = place.files.create(&place.path("file")).map_err(told("a free name is created"))?;
    let reader = place.files.open(&place.path("file")).map_err(told("a file that is being written is opened"))?;
    writer.append(b"first").map_err(told("a file is appended to"))?;
    same(reader.length().map_err(told("a length is asked for"))?, 5, "the length before the sync")?;
    for _ in 0..2 {
        writer.sync().map_err(told("a file is synced"))?;
        place.files.sync_directory(&place.root).map_err(told("a directory is synced"))?;
        same(place.content("file")?, b"first".to_vec(), "the content after the sync")?;
    }
    writer.append(b"second").map_err(told("a file is appended to after a sync"))?;
    same(place.content("file")?, b"firstsecond".to_vec(), "the content after a second append")
}

fn large_files(place: &Place<'_>) -> Verdict {
    let part: Vec<u8> = (0..65_537_u32).map(|number| (number % 251) as u8).collect();
    let mut writer = place.files.create(&place.path("file")).map_err(told("a free name is created"))?;
    for _ in 0..40 {
        writer.append(&part).map_err(told("a large file is written"))?;
    }
    let content = place.content("file")?;
    if content == part.repeat(40) { Ok(()) } else { Err("its content is not what was written".to_owned()) }
}

fn no_second_creation(place: &Place<'_>) -> Verdict {
    place.write("file", b"first")?;
    fails(place.files.create(&place.path("file")), FileErrorKind::AlreadyExists, "a taken name")?;
    same(place.content("file")?, b"first".to_vec(), "the file")?;
    place.files.create_directories(&place.path("directory")).map_err(told("a directory is made"))?;
    fails(place.files.create(&place.path("directory")), FileErrorKind::AlreadyExists, "the name of a directory")
}

fn no_replacing(place: &Place<'_>) -> Verdict {
    place.write("from", b"from")?;
    place.write("to", b"to")?;
    place.files.create_directories(&place.path("directory")).map_err(told("a directory is made"))?;
    for taken in ["to", "directory", "from"] {
        let renamed = place.files.rename_without_replace(&place.path("from"), &place.path(taken));
        fails(renamed, FileErrorKind::AlreadyExists, &format!("a rename to the taken name `{taken}`"))?;
    }
    same(place.content("from")?, b"from".to_vec(), "the file that was to be renamed")?;
    same(place.content("to")?, b"to".to_vec(), "the file that had the name")
}

fn renaming(place: &Place<'_>) -> Verdict {
    place.files.create_directories(&place.path("deeper")).map_err(told("a directory is made"))?;
    let mut writer = place.files.create(&place.path("one")).map_err(told("a free name is created"))?;
    let reader = place.files.open(&place.path("one")).map_err(told("a file is opened"))?;
    for (from, to) in [("one", "two"), ("two", "deeper/three"), ("deeper/three", "one")] {
        let renamed = place.files.rename_without_replace(&place.path(from), &place.path(to));
        renamed.map_err(told("a file is renamed"))?;
        same(place.metadata(from)?, None, "the old name")?;
        writer.append(b"x").map_err(told("a renamed file is appended to"))?;
        writer.sync().map_err(told("a renamed file is synced"))?;
    }
    same(place.content("one")?, b"xxx".to_vec(), "the renamed file")?;
    same(reader.length().map_err(told("a length is asked for"))?, 3, "the length for an earlier reader")
}

fn removing(place: &Place<'_>) -> Verdict {
    place.write("file", b"content")?;
    let reader = place.files.open(&place.path("file")).map_err(told("a file is opened"))?;
    place.files.remove(&place.path("file")).map_err(told("a file is removed"))?;
    same(place.metadata("file")?, None, "the removed file")?;
    fails(place.files.open(&place.path("file")), FileErrorKind::NotFound, "opening it")?;
    fails(place.files.remove(&place.path("file")), FileErrorKind::NotFound, "removing it again")?;
    let mut buffer = [0; 7];
    let count = reader.read_at(0, &mut buffer).map_err(told("an open file is read after its removal"))?;
    same((count, &buffer), (7, b"content"), "what an earlier reader reads")?;
    place.write("file", b"new")?;
    same(place.content("file")?, b"new".to_vec(), "a new file of the same name")
}

fn listing(place: &Place<'_>) -> Verdict {
    let entries = || place.files.list(&place.root).map_err(told("a directory is listed"));
    same(entries()?, Vec::new(), "an empty directory")?;
    for (name, content) in [("b", "22"), ("a", "1"), ("a.tmp", ""), ("B", "333"), ("c-d", "4444")] {
        place.write(name, content.as_bytes())?;
    }
    place.files.create_directories(&place.path("aa/deeper")).map_err(told("a directory is made"))?;
    place.write("aa/inside", b"x")?;
    place.write("aa/deeper/inside", b"x")?;
    let entry = |name: &str, length| DirectoryEntry { name: name.to_owned(), metadata: file(length) };
    let mut found = entries()?;
    let directory = found.iter_mut().find(|entry| entry.name == "aa").ok_or("the directory is not listed")?;
    same(directory.metadata.kind, FileKind::Directory, "the kind of the directory")?;
    *directory = entry("aa", 0);
    let wanted = vec![entry("B", 3), entry("a", 1), entry("a.tmp", 0), entry("aa", 0), entry("b", 2), entry("c-d", 4)];
    same(found, wanted, "the entries")
}

fn directories(place: &Place<'_>) -> Verdict {
    for _ in 0..2 {
        place.files.create_directories(&place.path("one/two/three")).map_err(told("directories are made"))?;
    }
    for name in ["one", "one/two", "one/two/three"] {
        same(place.metadata(name)?.map(|found| found.kind), Some(FileKind::Directory), name)?;
    }
    place.files.create_directories(&place.path("one/two/four")).map_err(told("a directory is made beside another"))?;
    place.write("one/two/three/file", b"x")?;
    same(place.content("one/two/three/file")?, b"x".to_vec(), "a file in the new directory")
}

fn a_file_in_the_way(place: &Place<'_>) -> Verdict {
    place.write("file", b"x")?;
    fails(
        place.files.create_directories(&place.path("file")),
        FileErrorKind::AlreadyExists,
        "a directory of its name",
    )?;
    for (what, outcome) in [
        ("a directory below it", place.files.create_directories(&place.path("file/below"))),
        ("a file below it", place.files.create(&place.path("file/below")).map(drop)),
        ("listing it", place.files.list(&place.path("file")).map(drop)),
        ("opening what is below it", place.files.open(&place.path("file/below")).map(drop)),
    ] {
        if outcome.is_ok() {
            return Err(format!("{what} gives no error"));
        }
    }
    same(place.content("file")?, b"x".to_vec(), "the file")
}

fn not_found(place: &Place<'_>) -> Verdict {
    let (files, none, below) = (place.files, place.path("none"), place.path("none/below"));
    place.write("file", b"x")?;
    same(place.metadata("none")?, None, "metadata of nothing")?;
    same(place.metadata("none/below")?, None, "metadata of nothing in no directory")?;
    let kind = FileErrorKind::NotFound;
    fails(files.open(&none), kind, "opening")?;
    fails(files.remove(&none), kind, "removing")?;
    fails(files.list(&none), kind, "listing")?;
    fails(files.sync_directory(&none), kind, "syncing a directory")?;
    fails(files.create(&below), kind, "creating in a directory that is missing")?;
    fails(files.lock(&below), kind, "locking in a directory that is missing")?;
    fails(files.rename_without_replace(&none, &place.path("new")), kind, "renaming")?;
    fails(files.rename_without_replace(&none, &place.path("file")), kind, "renaming to a taken name")?;
    fails(files.rename_without_replace(&place.path("file"), &below), kind, "renaming into a missing directory")?;
    same(place.content("file")?, b"x".to_vec(), "the file that was to be renamed")
}

fn locking(place: &Place<'_>) -> Verdict {
    let path = place.path("lock");
    let lock = place.files.lock(&path).map_err(told("a free lock is taken"))?;
    fails(place.files.lock(&path), FileErrorKind::Locked, "a second holder")?;
    let other = place.files.lock(&place.path("other")).map_err(told("another lock is taken"))?;
    drop(lock);
    same(place.metadata("lock")?, Some(file(0)), "the file after the lock has ended")?;
    let again = place.files.lock(&path).map_err(told("a lock that has ended is taken again"))?;
    fails(place.files.lock(&place.path("other")), FileErrorKind::Locked, "the other lock")?;
    drop((again, other));
    place.write("content", b"kept")?;
    drop(place.files.lock(&place.path("content")).map_err(told("a file that is there is locked"))?);
    same(place.content("content")?, b"kept".to_vec(), "the content of a file that was locked")
}

fn errors_name_the_path(place: &Place<'_>) -> Verdict {
    let (files, none) = (place.files, place.path("none"));
    place.write("file", b"x")?;
    let taken = place.path("file");
    let held = files.lock(&place.path("lock")).map_err(told("a free lock is taken"))?;
    let outcomes = [
        (files.create(&taken).map(drop), FileOperation::Create, &taken),
        (files.open(&none).map(drop), FileOperation::Open, &none),
        (files.remove(&none), FileOperation::Remove, &none),
        (files.list(&none).map(drop), FileOperation::List, &none),
        (files.sync_directory(&none), FileOperation::SyncDirectory, &none),
        (files.rename_without_replace(&none, &taken), FileOperation::Rename, &taken),
        (files.create_directories(&taken), FileOperation::CreateDirectories, &taken),
        (files.lock(&place.path("lock")).map(drop), FileOperation::Lock, &place.path("lock")),
    ];
    for (outcome, operation, path) in outcomes {
        let error = outcome.err().ok_or_else(|| format!("`{operation}` gives no error"))?;
        same((error.operation, &error.path), (operation, path), "operation and path of an error")?;
    }
    drop(held);
    Ok(())
}

fn untidy_paths(place: &Place<'_>) -> Verdict {
    place.files.create_directories(&place.path("./one//two/.")).map_err(told("directories are made"))?;
    place.write("one/./two//file", b"x")?;
    same(place.content("./one/two/file")?, b"x".to_vec(), "the file")?;
    let entries = place.files.list(&place.path("one//two/")).map_err(told("a directory is listed"))?;
    same(entries.len(), 1, "the entries of the directory")
}
