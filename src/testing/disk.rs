//! A disk in memory that forgets what was not synced.
//!
//! Content survives a crash up to the last sync of its file; what was appended after it may be there, be missing, or
//! be torn. A create, rename or remove survives for certain only when its directory was synced after it; before that
//! each of them may survive or not, one by one, except that a rename is never half done. Which, a seed decides.
//!
//! Every change is an *effect* with a number, so that a test can cut the power at each of them in turn.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::machine::{Change, Machine, Node, Pending};
use super::random::Random;
use alluvium_actors::ports::files::{
    DirectoryEntry, FileError, FileErrorKind, FileKind, FileLock, FileMetadata, FileOperation, FileReader, FileWriter,
    Files,
};

mod machine;

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It is not carried out and gives an error.
    Error,
    /// It is carried out, and gives an error all the same.
    ErrorAfterwards,
    /// It is not carried out, because the disk is full.
    FullDisk,
    /// A sync fails: what it should have made durable is lost at the next crash, whatever is synced later.
    /// At any other operation the same as `Error`.
    FailedSync,
    /// The power goes before it is carried out. Everything fails until [`SimulatedDisk::crash`] is called.
    PowerCut,
}

/// A disk for tests. Clones share the disk; a crash ends all handles but the one it returns.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    machine: Arc<Mutex<Machine>>,
    generation: u64,
}

impl Default for SimulatedDisk {
    fn default() -> SimulatedDisk {
        SimulatedDisk::new()
    }
}

impl SimulatedDisk {
    /// An empty disk, on which only the root and the current directory exist.
    #[must_use]
    pub fn new() -> SimulatedDisk {
        let directories = BTreeSet::from([PathBuf::from("/"), PathBuf::new()]);
        let machine = Machine { directories, ..Machine::default() };
        SimulatedDisk { machine: Arc::new(Mutex::new(machine)), generation: 0 }
    }

    /// The number of effects (create, append, sync, rename, sync of a directory, remove, create directories) that
    /// were asked for so far, over all generations.
    #[must_use]
    pub fn effects(&self) -> u64 {
        self.lock().effects
    }

    /// The number of times that `operation` was asked for so far, over all generations.
    #[must_use]
    pub fn count(&self, operation: FileOperation) -> u64 {
        self.lock().counts.get(&operation).copied().unwrap_or(0)
    }

    /// Lets the effect of this number fail: the first effect of a disk has number 1.
    pub fn fail_at_effect(&self, number: u64, fault: DiskFault) {
        self.lock().at_effect.insert(number, fault);
    }

    /// Lets an operation fail, counted over the life of the disk: the first one has number 1.
    pub fn fail_at(&self, operation: FileOperation, number: u64, fault: DiskFault) {
        self.lock().at_operation.insert((operation, number), fault);
    }

    /// Lets the next operation of this sort fail.
    pub fn fail_next(&self, operation: FileOperation, fault: DiskFault) {
        self.fail_at(operation, self.count(operation) + 1, fault);
    }

    /// Forgets every fault that has not happened yet.
    pub fn clear_faults(&self) {
        let mut machine = self.lock();
        machine.at_effect.clear();
        machine.at_operation.clear();
    }

    /// Lets every later sync succeed and do nothing, as a disk does that lies: to prove that a test would notice a sync that is missing.
    pub fn ignore_syncs(&self) {
        self.lock().ignores_syncs = true;
    }

    /// How many bytes can still be appended; `None` for no limit. Removing files gives no space back.
    pub fn set_free_space(&self, bytes: Option<u64>) {
        self.lock().free_space = bytes;
    }

    /// Whether the power went at a [`DiskFault::PowerCut`] and did not come back yet.
    #[must_use]
    pub fn is_powered_off(&self) -> bool {
        self.lock().powered_off
    }

    /// Cuts the power: everything fails until [`SimulatedDisk::crash`] or [`SimulatedDisk::kill_process`] is called.
    pub fn cut_power(&self) {
        self.lock().powered_off = true;
    }

    /// Cuts the power and switches on again: the disk as it is found then. `seed` decides what of that which was
    /// not synced survives. Every other handle, and every open file, fails from now on.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimulatedDisk {
        let mut machine = self.lock();
        machine.forget(&mut Random::new(seed));
        self.next_generation(&mut machine)
    }

    /// Kills the process, not the machine: nothing is lost, nothing becomes durable, locks end. Every other handle,
    /// and every open file, fails from now on.
    #[must_use]
    pub fn kill_process(&self) -> SimulatedDisk {
        let mut machine = self.lock();
        self.next_generation(&mut machine)
    }

    /// The content of a file, for damage tests. `None` if there is none.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let machine = self.lock();
        machine.names.get(&normal(path)).map(|node| machine.nodes[node].content.clone())
    }

    /// Puts durable content in the place of a file, for damage tests. Creates the file if there is none.
    pub fn set_content(&self, path: &Path, content: &[u8]) {
        let mut machine = self.lock();
        let node = machine.fresh_node();
        let settled = machine.next_change;
        machine
            .nodes
            .insert(node, Node { content: content.to_vec(), durable: content.len(), settled, ..Node::default() });
        machine.names.insert(normal(path), node);
        machine.durable_names.insert(normal(path), node);
    }

    /// Every file, in the order of the paths.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    fn next_generation(&self, machine: &mut Machine) -> SimulatedDisk {
        machine.generation += 1;
        machine.powered_off = false;
        machine.locks.clear();
        SimulatedDisk { machine: Arc::clone(&self.machine), generation: machine.generation }
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self, operation: FileOperation, path: &Path) -> Result<MutexGuard<'_, Machine>, FileError> {
        let machine = self.lock();
        if machine.powered_off || machine.generation != self.generation {
            return Err(failure(operation, path, "the machine is switched off"));
        }
        Ok(machine)
    }

    /// Begins an operation: counts it and applies the fault that waits for it. `Some` tells that it is to be carried
    /// out and to fail all the same.
    fn begin(
        &self,
        operation: FileOperation,
        path: &Path,
    ) -> Result<(MutexGuard<'_, Machine>, Option<DiskFault>), FileError> {
        let mut machine = self.running(operation, path)?;
        let fault = machine.next_fault(operation);
        match fault {
            None => Ok((machine, None)),
            Some(DiskFault::ErrorAfterwards) => Ok((machine, fault)),
            Some(DiskFault::FailedSync) if matches!(operation, FileOperation::Sync | FileOperation::SyncDirectory) => {
                Ok((machine, fault))
            }
            Some(DiskFault::Error | DiskFault::FailedSync) => Err(failure(operation, path, "injected error")),
            Some(DiskFault::FullDisk) => Err(full(operation, path)),
            Some(DiskFault::PowerCut) => {
                machine.powered_off = true;
                Err(failure(operation, path, "the power went"))
            }
        }
    }
}

fn failure(operation: FileOperation, path: &Path, message: &str) -> FileError {
    FileError::new(operation, path, FileErrorKind::Other(io::ErrorKind::Other), message)
}

fn full(operation: FileOperation, path: &Path) -> FileError {
    FileError::new(operation, path, FileErrorKind::OutOfSpace, "no space left on device")
}

fn missing(operation: FileOperation, path: &Path) -> FileError {
    FileError::new(operation, path, FileErrorKind::NotFound, "no such file or directory")
}

fn taken(operation: FileOperation, path: &Path) -> FileError {
    FileError::new(operation, path, FileErrorKind::AlreadyExists, "file exists")
}

fn after(fault: Option<DiskFault>, operation: FileOperation, path: &Path) -> Result<(), FileError> {
    match fault {
        None => Ok(()),
        Some(_) => Err(failure(operation, path, "injected error")),
    }
}

/// The path without `.` and with `..` resolved by name.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => normal.push(component),
        }
    }
    normal
}

impl Files for SimulatedDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError> {
        let path = normal(path);
        let (mut machine, fault) = self.begin(FileOperation::Create, &path)?;
        let node = machine.create(&path, FileOperation::Create)?;
        after(fault, FileOperation::Create, &path)?;
        Ok(Box::new(Writer { disk: self.clone(), node, path }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError> {
        let path = normal(path);
        let (machine, fault) = self.begin(FileOperation::Open, &path)?;
        after(fault, FileOperation::Open, &path)?;
        let node = *machine.names.get(&path).ok_or_else(|| missing(FileOperation::Open, &path))?;
        Ok(Box::new(Reader { disk: self.clone(), node, path }))
    }

    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let (from, to) = (normal(from), normal(to));
        let (mut machine, fault) = self.begin(FileOperation::Rename, &to)?;
        machine.parent_exists(FileOperation::Rename, &to)?;
        if machine.names.contains_key(&to) || machine.directories.contains(&to) {
            return Err(taken(FileOperation::Rename, &to));
        }
        let node = machine.names.remove(&from).ok_or_else(|| missing(FileOperation::Rename, &from))?;
        machine.names.insert(to.clone(), node);
        machine.record(node, Change::Rename { from, to: to.clone() });
        after(fault, FileOperation::Rename, &to)
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), FileError> {
        let directory = normal(directory);
        let (mut machine, fault) = self.begin(FileOperation::SyncDirectory, &directory)?;
        if !machine.directories.contains(&directory) {
            return Err(missing(FileOperation::SyncDirectory, &directory));
        }
        if fault == Some(DiskFault::FailedSync) {
            return Err(failure(FileOperation::SyncDirectory, &directory, "injected error"));
        }
        if machine.ignores_syncs {
            return after(fault, FileOperation::SyncDirectory, &directory);
        }
        let (synced, rest) =
            std::mem::take(&mut machine.pending).into_iter().partition(|change| change.touches(&directory));
        machine.pending = rest;
        let synced: Vec<Pending> = synced;
        for change in synced {
            machine.settle(change);
        }
        after(fault, FileOperation::SyncDirectory, &directory)
    }

    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        let directory = normal(directory);
        let (machine, fault) = self.begin(FileOperation::List, &directory)?;
        after(fault, FileOperation::List, &directory)?;
        if !machine.directories.contains(&directory) {
            return Err(missing(FileOperation::List, &directory));
        }
        let inside = |path: &Path| path.parent() == Some(directory.as_path());
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut entries: Vec<DirectoryEntry> = Vec::new();
        for (path, node) in machine.names.iter().filter(|(path, _)| inside(path)) {
            let length = machine.nodes[node].content.len() as u64;
            let metadata = FileMetadata { kind: FileKind::File, length };
            entries.push(DirectoryEntry { name: name(path), metadata });
        }
        for path in machine.directories.iter().filter(|path| inside(path)) {
            let metadata = FileMetadata { kind: FileKind::Directory, length: 0 };
            entries.push(DirectoryEntry { name: name(path), metadata });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        let path = normal(path);
        let (mut machine, fault) = self.begin(FileOperation::Remove, &path)?;
        let node = machine.names.remove(&path).ok_or_else(|| missing(FileOperation::Remove, &path))?;
        machine.record(node, Change::Remove { name: path.clone() });
        after(fault, FileOperation::Remove, &path)
    }

    fn create_directories(&self, directory: &Path) -> Result<(), FileError> {
        let directory = normal(directory);
        let (mut machine, fault) = self.begin(FileOperation::CreateDirectories, &directory)?;
        for path in directory.ancestors() {
            if machine.names.contains_key(path) {
                return Err(taken(FileOperation::CreateDirectories, path));
            }
        }
        for path in directory.ancestors() {
            machine.directories.insert(path.to_owned());
        }
        after(fault, FileOperation::CreateDirectories, &directory)
    }

    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError> {
        let path = normal(path);
        let (machine, fault) = self.begin(FileOperation::Metadata, &path)?;
        after(fault, FileOperation::Metadata, &path)?;
        if machine.directories.contains(&path) {
            return Ok(Some(FileMetadata { kind: FileKind::Directory, length: 0 }));
        }
        let node = machine.names.get(&path);
        Ok(node.map(|node| FileMetadata { kind: FileKind::File, length: machine.nodes[node].content.len() as u64 }))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        let path = normal(path);
        let (mut machine, fault) = self.begin(FileOperation::Lock, &path)?;
        after(fault, FileOperation::Lock, &path)?;
        if !machine.names.contains_key(&path) {
            machine.create(&path, FileOperation::Lock)?;
        }
        if !machine.locks.insert(path.clone()) {
            let kind = FileErrorKind::Locked;
            return Err(FileError::new(FileOperation::Lock, &path, kind, "another handle holds it"));
        }
        Ok(Box::new(Lock { disk: self.clone(), path }))
    }
}

struct Writer {
    disk: SimulatedDisk,
    node: u64,
    path: PathBuf,
}

impl FileWriter for Writer {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let (mut machine, fault) = self.disk.begin(FileOperation::Append, &self.path)?;
        let room = machine.free_space.map_or(bytes.len(), |free| bytes.len().min(free as usize));
        if let Some(free) = &mut machine.free_space {
            *free -= room as u64;
        }
        if let Some(node) = machine.nodes.get_mut(&self.node) {
            node.content.extend_from_slice(&bytes[..room]);
        }
        if room < bytes.len() {
            return Err(full(FileOperation::Append, &self.path));
        }
        after(fault, FileOperation::Append, &self.path)
    }

    fn sync(&mut self) -> Result<(), FileError> {
        let (mut machine, fault) = self.disk.begin(FileOperation::Sync, &self.path)?;
        if !machine.ignores_syncs
            && let Some(node) = machine.nodes.get_mut(&self.node)
        {
            let length = node.content.len();
            if fault == Some(DiskFault::FailedSync) {
                node.lost.push((node.durable, length));
            }
            node.durable = length;
        }
        after(fault, FileOperation::Sync, &self.path)
    }
}

struct Reader {
    disk: SimulatedDisk,
    node: u64,
    path: PathBuf,
}

impl Reader {
    fn with_content<T>(&self, operation: FileOperation, take: impl FnOnce(&[u8]) -> T) -> Result<T, FileError> {
        let (machine, fault) = self.disk.begin(operation, &self.path)?;
        after(fault, operation, &self.path)?;
        let node = machine.nodes.get(&self.node).ok_or_else(|| missing(operation, &self.path))?;
        Ok(take(&node.content))
    }
}

impl FileReader for Reader {
    fn length(&self) -> Result<u64, FileError> {
        self.with_content(FileOperation::Metadata, |content| content.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        self.with_content(FileOperation::Read, |content| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let count = buffer.len().min(content.len() - from);
            buffer[..count].copy_from_slice(&content[from..from + count]);
            count
        })
    }
}

struct Lock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl FileLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut machine = self.disk.lock();
        // A guard of an earlier generation must not end the lock of a later one.
        if machine.generation == self.disk.generation {
            machine.locks.remove(&self.path);
        }
    }
}
