//! The simulated disk against two judges, over random operations: the files of this machine while nothing fails, and after a crash an oracle that knows what may
//! be left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use alluvium::storage::SystemFiles;
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ports::files::{FileError, FileErrorKind, FileKind, FileLock, FileReader, FileWriter, Files};

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Paths below the root of a trial: files, directories, and what lies below a file or in no directory.
const PATHS: [&str; 10] = ["f", "g", "a", "a/f", "a/g", "a/b/f", "c/f", "f/x", "a/f/x", "c/d/e"];
const DIRECTORIES: [&str; 7] = ["", "a", "a/b", "c", "f", "a/f/x", "c/d"];

/// One door to files and what is open.
struct Arm<'a> {
    files: &'a dyn Files,
    root: PathBuf,
    writers: Vec<Option<Box<dyn FileWriter>>>,
    readers: Vec<Option<Box<dyn FileReader>>>,
    locks: Vec<Option<Box<dyn FileLock>>>,
}

/// Something to do, drawn once and done on both.
#[derive(Clone, Debug)]
enum Act {
    Create(&'static str),
    Append(usize, Vec<u8>),
    Sync(usize),
    CloseWriter(usize),
    Open(&'static str),
    Read(usize, u64, usize),
    CloseReader(usize),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    List(&'static str),
    Metadata(&'static str),
    MakeDirectories(&'static str),
    SyncDirectory(&'static str),
    Lock(&'static str),
    Unlock(usize),
}

const SLOTS: usize = 3;

impl Act {
    fn draw(chance: &mut Chance) -> Act {
        let slot = chance.below(SLOTS);
        match chance.below(20) {
            0..3 => Act::Create(chance.one_of(&PATHS)),
            3..5 => {
                let length = [0, 1, 5, 600, 5000][chance.below(5)];
                Act::Append(slot, (0..length).map(|_| chance.below(256) as u8).collect())
            }
            5 => Act::Sync(slot),
            6 => Act::CloseWriter(slot),
            7 => Act::Open(chance.one_of(&PATHS)),
            8 => Act::Read(slot, [0, 3, 512, 9000][chance.below(4)], chance.below(700)),
            9 => Act::CloseReader(slot),
            10..12 => Act::Rename(chance.one_of(&PATHS), chance.one_of(&PATHS)),
            12 => Act::Remove(chance.one_of(&PATHS)),
            13 => Act::List(chance.one_of(&DIRECTORIES)),
            14 => Act::Metadata(chance.one_of(&PATHS)),
            15 => Act::MakeDirectories(chance.one_of(&DIRECTORIES)),
            16 => Act::SyncDirectory(chance.one_of(&DIRECTORIES)),
            17..19 => Act::Lock(chance.one_of(&PATHS)),
            _ => Act::Unlock(slot),
        }
    }
}

fn empty<T>() -> Vec<Option<T>> {
    (0..SLOTS).map(|_| None).collect()
}

impl<'a> Arm<'a> {
    fn new(files: &'a dyn Files, root: &Path) -> Arm<'a> {
        files.create_directories(root).unwrap();
        let root = root.to_owned();
        Arm { files, root, writers: empty(), readers: empty(), locks: empty() }
    }

    /// Does it and tells what came of it, in words that do not depend on where it was done.
    fn act(&mut self, act: &Act, slot: usize) -> String {
        match self.answer(act, slot) {
            Ok(text) => text,
            Err(error) => {
                let kind = match error.kind {
                    FileErrorKind::Other(_) => "something else".to_owned(),
                    known => format!("{known:?}"),
                };
                let path = error.path.strip_prefix(&self.root).unwrap_or(&error.path).display().to_string();
                format!("cannot {} {path}: {kind}", error.operation)
            }
        }
    }

    fn answer(&mut self, act: &Act, slot: usize) -> Result<String, FileError> {
        let path = |name: &str| self.root.join(name);
        let done = || "done".to_owned();
        Ok(match act {
            Act::Create(name) => {
                self.writers[slot] = Some(self.files.create(&path(name))?);
                done()
            }
            Act::Append(slot, bytes) => match &mut self.writers[*slot] {
                Some(writer) => writer.append(bytes).map(|()| done())?,
                None => "none".to_owned(),
            },
            Act::Sync(slot) => match &mut self.writers[*slot] {
                Some(writer) => writer.sync().map(|()| done())?,
                None => "none".to_owned(),
            },
            Act::CloseWriter(slot) => format!("{}", self.writers[*slot].take().is_some()),
            Act::Open(name) => {
                let reader = self.files.open(&path(name))?;
                let length = reader.length()?;
                self.readers[slot] = Some(reader);
                format!("{length} bytes")
            }
            Act::Read(slot, offset, length) => match &self.readers[*slot] {
                Some(reader) => {
                    let mut buffer = vec![0; *length];
                    let count = reader.read_at(*offset, &mut buffer)?;
                    format!("{} long, read {:?}", reader.length()?, &buffer[..count])
                }
                None => "none".to_owned(),
            },
            Act::CloseReader(slot) => format!("{}", self.readers[*slot].take().is_some()),
            Act::Rename(from, to) => {
                // Directories cannot be renamed through this door; the operating system would.
                if self.files.metadata(&path(from))?.is_some_and(|found| found.kind == FileKind::Directory) {
                    return Ok("a directory".to_owned());
                }
                self.files.rename_without_replace(&path(from), &path(to)).map(|()| done())?
            }
            Act::Remove(name) => self.files.remove(&path(name)).map(|()| done())?,
            Act::List(name) => {
                let entries = self.files.list(&path(name))?;
                let told = entries.iter().map(|entry| match entry.metadata.kind {
                    FileKind::File => format!("{} {}", entry.name, entry.metadata.length),
                    FileKind::Directory | FileKind::Other => format!("{} {:?}", entry.name, entry.metadata.kind),
                });
                told.collect::<Vec<_>>().join(", ")
            }
            Act::Metadata(name) => match self.files.metadata(&path(name))? {
                Some(found) if found.kind == FileKind::File => format!("{} bytes", found.length),
                other => format!("{:?}", other.map(|found| found.kind)),
            },
            Act::MakeDirectories(name) => self.files.create_directories(&path(name)).map(|()| done())?,
            Act::SyncDirectory(name) => self.files.sync_directory(&path(name)).map(|()| done())?,
            Act::Lock(name) => {
                self.locks[slot] = Some(self.files.lock(&path(name))?);
                done()
            }
            Act::Unlock(slot) => format!("{}", self.locks[*slot].take().is_some()),
        })
    }
}

#[test]
fn a_disk_on_which_nothing_fails_answers_as_the_files_of_this_machine_do() {
    let directory = tempfile::tempdir().unwrap();
    let (mut done, mut failed) = (0, BTreeSet::new());
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let (disk, system) = (SimulatedDisk::new(), SystemFiles::new());
        let mut simulated = Arm::new(&disk, Path::new("/trial"));
        let mut real = Arm::new(&system, &directory.path().join(seed.to_string()));
        let mut story = Vec::new();
        for _ in 0..100 {
            let (act, slot) = (Act::draw(&mut chance), chance.below(SLOTS));
            let wanted = real.act(&act, slot);
            story.push(format!("{act:?}: {wanted}"));
            let found = simulated.act(&act, slot);
            assert_eq!(found, wanted, "seed {seed}, after:\n{}", story.join("\n"));
            done += u32::from(!wanted.starts_with("cannot"));
            if wanted.starts_with("cannot") {
                failed.insert(wanted);
            }
        }
    }
    // The draw has to reach both: what works, and each way to fail.
    assert!(done > 2_000 && failed.len() > 60, "{done} {}: {failed:?}", failed.len());
}

/// What the oracle knows of one file: every byte that was appended, and how many of them must be there.
#[derive(Clone, Default)]
struct File {
    written: Vec<u8>,
    synced: usize,
}

/// Which files may be behind each name after a crash: the one that was there when its directory was synced last, and every one since.
#[derive(Default)]
struct Oracle {
    files: Vec<File>,
    /// Now.
    names: BTreeMap<String, usize>,
    /// Since the last sync of its directory. `None` is nothing.
    possible: BTreeMap<String, Vec<Option<usize>>>,
}

fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Oracle {
    fn changes(&mut self, name: &str, to: Option<usize>) {
        let possible = self.possible.entry(name.to_owned()).or_insert_with(|| vec![None]);
        possible.push(to);
        match to {
            Some(file) => self.names.insert(name.to_owned(), file),
            None => self.names.remove(name),
        };
    }

    fn directory_is_synced(&mut self, directory: &str) {
        for (name, possible) in &mut self.possible {
            if directory_of(name) == directory {
                *possible = vec![self.names.get(name).copied()];
            }
        }
    }

    /// Whether a file that was found is what this one may be: everything that was synced, and of the rest a part, in which sectors may be zeros.
    fn may_be(&self, file: usize, content: &[u8]) -> bool {
        let File { written, synced } = &self.files[file];
        let rest = || content[*synced..].chunks(512).zip(written[*synced..].chunks(512));
        content.len() >= *synced
            && content.len() <= written.len()
            && content[..*synced] == written[..*synced]
            && rest().all(|(found, wrote)| *found == wrote[..found.len()] || found.iter().all(|byte| *byte == 0))
    }

    /// Finds a file for each name, each at most once: two that lost everything look alike.
    fn assign(&self, found: &[(&String, &Vec<u8>)], behind: &mut BTreeMap<String, usize>) -> bool {
        let Some(((name, content), rest)) = found.split_first() else { return true };
        let possible = self.possible.get(*name).map(Vec::as_slice).unwrap_or_default();
        possible.iter().flatten().any(|file| {
            if behind.values().any(|other| other == file) || !self.may_be(*file, content) {
                return false;
            }
            behind.insert((*name).clone(), *file);
            let fits = self.assign(rest, behind);
            if !fits {
                behind.remove(*name);
            }
            fits
        })
    }

    /// Judges what a crash left, and answers which file is behind each name.
    fn judge(&self, found: &BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, usize>, String> {
        let found_names: Vec<(&String, &Vec<u8>)> = found.iter().collect();
        let mut behind = BTreeMap::new();
        if !self.assign(&found_names, &mut behind) {
            let told: Vec<String> = found
                .iter()
                .map(|(name, content)| format!("{name}: {} bytes, one of {:?}", content.len(), self.possible.get(name)))
                .collect();
            return Err(format!("what is there cannot be: {}", told.join("; ")));
        }
        for (name, possible) in &self.possible {
            if !possible.contains(&None) && !found.contains_key(name) {
                return Err(format!("{name} is gone, and was one of {possible:?}"));
            }
        }
        Ok(behind)
    }
}

/// Names in two directories: more would hide what happens to few.
const NAMES: [&str; 6] = ["a/f", "a/g", "a/h", "b/f", "b/g", "b/h"];

fn all_files(disk: &SimulatedDisk) -> BTreeMap<String, Vec<u8>> {
    let text = |path: &PathBuf| path.strip_prefix("/").unwrap().to_str().unwrap().to_owned();
    disk.files().iter().map(|path| (text(path), disk.content(path).unwrap())).collect()
}

/// Random operations on the disk and on the oracle, then a crash.
fn play(seed: u64, ignores_syncs: bool) -> Result<[bool; 3], String> {
    let mut chance = Chance(seed);
    let mut disk = SimulatedDisk::new();
    let mut oracle = Oracle::default();
    let path = |name: &str| Path::new("/").join(name);
    for directory in ["a", "b"] {
        disk.create_directories(&path(directory)).unwrap();
    }
    if ignores_syncs {
        disk.ignore_syncs();
    }
    let mut seen = [false; 3];
    for life in 0..3 {
        let mut writers: Vec<(usize, Box<dyn FileWriter>)> = Vec::new();
        for _ in 0..chance.below(30) {
            let name = chance.one_of(&NAMES);
            match chance.below(9) {
                0..3 => {
                    if let Ok(writer) = disk.create(&path(name)) {
                        oracle.files.push(File::default());
                        oracle.changes(name, Some(oracle.files.len() - 1));
                        writers.push((oracle.files.len() - 1, writer));
                    }
                }
                3 | 4 => {
                    let chosen = chance.below(writers.len().max(1));
                    if let Some((file, writer)) = writers.get_mut(chosen) {
                        let length = 1 + chance.below(1500);
                        // Without zeros, so that a torn sector is known; different in each file.
                        let bytes = vec![(*file % 255 + 1) as u8; length];
                        writer.append(&bytes).unwrap();
                        oracle.files[*file].written.extend(bytes);
                    }
                }
                5 => {
                    let chosen = chance.below(writers.len().max(1));
                    if let Some((file, writer)) = writers.get_mut(chosen) {
                        writer.sync().unwrap();
                        oracle.files[*file].synced = oracle.files[*file].written.len();
                    }
                }
                6 => {
                    let to = chance.one_of(&NAMES);
                    if disk.rename_without_replace(&path(name), &path(to)).is_ok() {
                        let file = oracle.names[name];
                        oracle.changes(name, None);
                        oracle.changes(to, Some(file));
                    }
                }
                7 => {
                    if disk.remove(&path(name)).is_ok() {
                        oracle.changes(name, None);
                    }
                }
                _ => {
                    let directory = directory_of(name);
                    disk.sync_directory(&path(directory)).unwrap();
                    oracle.directory_is_synced(directory);
                }
            }
        }
        let before = all_files(&disk);
        disk = disk.crash(seed + life);
        let found = all_files(&disk);
        let behind = oracle.judge(&found).map_err(|wrong| format!("life {life}: {wrong}"))?;
        seen[0] |= found.len() < before.len();
        seen[1] |=
            found.iter().any(|(name, content)| before.get(name).is_some_and(|whole| whole.len() > content.len()));
        seen[2] |= found.keys().any(|name| !before.contains_key(name));
        // What was found is what is durable from now on.
        for (name, file) in &behind {
            oracle.files[*file] = File { written: found[name].clone(), synced: found[name].len() };
        }
        oracle.possible = NAMES.iter().map(|name| ((*name).to_owned(), vec![behind.get(*name).copied()])).collect();
        oracle.names = behind;
    }
    Ok(seen)
}

#[test]
fn a_crash_leaves_nothing_but_what_an_oracle_allows() {
    let mut seen = [0; 3];
    for seed in 0..3000 {
        let found = play(seed, false).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        for (count, found) in seen.iter_mut().zip(found) {
            *count += u32::from(found);
        }
    }
    // Something was lost, torn, and there again after its removal.
    assert!(seen.iter().all(|count| *count > 300), "{seen:?}");
}

#[test]
fn the_oracle_notices_a_disk_that_ignores_syncs() {
    let caught = (0..300).filter(|seed| play(*seed, true).is_err()).count();
    assert!(caught > 150, "{caught}");
}

#[test]
fn after_the_end_of_a_process_everything_is_as_it_was() {
    let disk = SimulatedDisk::new();
    let mut simulated = Arm::new(&disk, Path::new("/"));
    let mut chance = Chance(9);
    for _ in 0..300 {
        let (act, slot) = (Act::draw(&mut chance), chance.below(SLOTS));
        simulated.act(&act, slot);
    }
    let before = all_files(&disk);
    assert!(before.len() > 2, "{before:?}");
    assert_eq!(all_files(&disk.kill_process()), before);
}
