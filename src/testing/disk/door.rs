//! The disk behind the door to files.

use std::io;
use std::path::Path;

use alluvium_actors::ports::files::{
    DirectoryEntry, FileError, FileErrorKind, FileKind, FileLock, FileMetadata, FileOperation, FileReader, FileWriter,
    Files,
};

use super::machine::{Machine, Name, flip};
use super::{DiskFault, SimulatedDisk};

pub(super) mod error {
    use super::{FileError, FileErrorKind, FileOperation, Name, io};

    fn of(operation: FileOperation, name: &Name, kind: FileErrorKind, message: &str) -> FileError {
        FileError::new(operation, name.path(), kind, message)
    }

    pub(in super::super) fn failure(operation: FileOperation, name: &Name, message: &str) -> FileError {
        of(operation, name, FileErrorKind::Other(io::ErrorKind::Other), message)
    }

    pub(in super::super) fn full(operation: FileOperation, name: &Name) -> FileError {
        of(operation, name, FileErrorKind::OutOfSpace, "no space left on device")
    }

    pub(in super::super) fn missing(operation: FileOperation, name: &Name) -> FileError {
        of(operation, name, FileErrorKind::NotFound, "no such file or directory")
    }

    pub(in super::super) fn taken(operation: FileOperation, name: &Name) -> FileError {
        of(operation, name, FileErrorKind::AlreadyExists, "file exists")
    }

    pub(in super::super) fn no_directory(operation: FileOperation, name: &Name) -> FileError {
        of(operation, name, FileErrorKind::Other(io::ErrorKind::NotADirectory), "not a directory")
    }

    pub(in super::super) fn is_a_directory(operation: FileOperation, name: &Name) -> FileError {
        of(operation, name, FileErrorKind::Other(io::ErrorKind::IsADirectory), "is a directory")
    }
}

pub(super) use error::{missing, taken};

/// Fails an operation that was carried out.
fn after(fault: Option<DiskFault>, operation: FileOperation, name: &Name) -> Result<(), FileError> {
    match fault {
        Some(DiskFault::ErrorAfterwards | DiskFault::FailedSync) => {
            Err(error::failure(operation, name, "injected error"))
        }
        _ => Ok(()),
    }
}

/// A file of this name, or why there is none.
fn find(machine: &Machine, operation: FileOperation, name: &Name) -> Result<u64, FileError> {
    if let Some(node) = machine.names.get(name) {
        return Ok(*node);
    }
    if machine.directories.contains(name) {
        return Err(error::is_a_directory(operation, name));
    }
    machine.parent_exists(operation, name)?;
    Err(missing(operation, name))
}

/// Whether there is such a directory.
fn is_directory(machine: &Machine, operation: FileOperation, name: &Name) -> Result<(), FileError> {
    if machine.directories.contains(name) {
        return Ok(());
    }
    if machine.names.contains_key(name) || machine.is_below_a_file(name) {
        return Err(error::no_directory(operation, name));
    }
    Err(missing(operation, name))
}

impl Files for SimulatedDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError> {
        let name = Name::of(path);
        let (mut machine, fault) = self.begin(FileOperation::Create, &name)?;
        let node = machine.create(&name, FileOperation::Create)?;
        after(fault, FileOperation::Create, &name)?;
        machine.open_handle(node);
        drop(machine);
        Ok(Box::new(Writer(Handle { disk: self.clone(), node, name })))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError> {
        let name = Name::of(path);
        let (mut machine, fault) = self.begin(FileOperation::Open, &name)?;
        after(fault, FileOperation::Open, &name)?;
        let node = find(&machine, FileOperation::Open, &name)?;
        if fault == Some(DiskFault::FlipAtRest) {
            machine.flip_at_rest(node);
        }
        machine.open_handle(node);
        drop(machine);
        Ok(Box::new(Reader(Handle { disk: self.clone(), node, name })))
    }

    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let (from, to) = (Name::of(from), Name::of(to));
        let (mut machine, fault) = self.begin(FileOperation::Rename, &to)?;
        machine.rename(&from, &to)?;
        after(fault, FileOperation::Rename, &to)
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), FileError> {
        let directory = Name::of(directory);
        let (mut machine, fault) = self.begin(FileOperation::SyncDirectory, &directory)?;
        is_directory(&machine, FileOperation::SyncDirectory, &directory)?;
        machine.sync_directory(&directory, fault == Some(DiskFault::FailedSync));
        after(fault, FileOperation::SyncDirectory, &directory)
    }

    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        let directory = Name::of(directory);
        let (machine, fault) = self.begin(FileOperation::List, &directory)?;
        after(fault, FileOperation::List, &directory)?;
        is_directory(&machine, FileOperation::List, &directory)?;
        let (files, directories) = machine.inside(&directory);
        let entry =
            |name: &Name, kind, length| DirectoryEntry { name: name.last(), metadata: FileMetadata { kind, length } };
        let files = files.into_iter().map(|(name, length)| entry(name, FileKind::File, length));
        let directories = directories.into_iter().map(|name| entry(name, FileKind::Directory, 0));
        let mut entries: Vec<DirectoryEntry> = files.chain(directories).collect();
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        let name = Name::of(path);
        let (mut machine, fault) = self.begin(FileOperation::Remove, &name)?;
        machine.remove(&name)?;
        after(fault, FileOperation::Remove, &name)
    }

    fn create_directories(&self, directory: &Path) -> Result<(), FileError> {
        let operation = FileOperation::CreateDirectories;
        let directory = Name::of(directory);
        let (mut machine, fault) = self.begin(operation, &directory)?;
        if machine.names.contains_key(&directory) {
            return Err(taken(operation, &directory));
        }
        if machine.is_below_a_file(&directory) {
            return Err(error::no_directory(operation, &directory));
        }
        for above in directory.path().ancestors() {
            machine.directories.insert(Name::of(above));
        }
        after(fault, operation, &directory)
    }

    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError> {
        let name = Name::of(path);
        let (machine, fault) = self.begin(FileOperation::Metadata, &name)?;
        after(fault, FileOperation::Metadata, &name)?;
        if machine.directories.contains(&name) {
            return Ok(Some(FileMetadata { kind: FileKind::Directory, length: 0 }));
        }
        if machine.is_below_a_file(&name) {
            return Err(error::no_directory(FileOperation::Metadata, &name));
        }
        let length = machine.named(&name).map(|node| node.content.len() as u64);
        Ok(length.map(|length| FileMetadata { kind: FileKind::File, length }))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        let name = Name::of(path);
        let (mut machine, fault) = self.begin(FileOperation::Lock, &name)?;
        after(fault, FileOperation::Lock, &name)?;
        if machine.directories.contains(&name) {
            return Err(error::is_a_directory(FileOperation::Lock, &name));
        }
        let node = match machine.names.get(&name) {
            Some(node) => *node,
            None => machine.create(&name, FileOperation::Lock)?,
        };
        if !machine.locks.insert(node) {
            let kind = FileErrorKind::Locked;
            return Err(FileError::new(FileOperation::Lock, name.path(), kind, "another handle holds it"));
        }
        machine.open_handle(node);
        drop(machine);
        Ok(Box::new(Lock(Handle { disk: self.clone(), node, name })))
    }
}

/// A file that is open. Its space is not free before it is closed.
struct Handle {
    disk: SimulatedDisk,
    node: u64,
    name: Name,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut machine = self.disk.machine();
        // The crash has ended the handles of earlier generations.
        if machine.generation == self.disk.generation {
            machine.close_handle(self.node);
        }
    }
}

struct Writer(Handle);

impl FileWriter for Writer {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let Writer(Handle { disk, node, name }) = self;
        let (mut machine, fault) = disk.begin(FileOperation::Append, name)?;
        if !machine.append(*node, bytes) {
            return Err(error::full(FileOperation::Append, name));
        }
        after(fault, FileOperation::Append, name)
    }

    fn sync(&mut self) -> Result<(), FileError> {
        let Writer(Handle { disk, node, name }) = self;
        let (mut machine, fault) = disk.begin(FileOperation::Sync, name)?;
        machine.sync(*node, fault == Some(DiskFault::FailedSync));
        if fault == Some(DiskFault::FlipAtRest) {
            machine.flip_at_rest(*node);
        }
        after(fault, FileOperation::Sync, name)
    }
}

struct Reader(Handle);

impl FileReader for Reader {
    fn length(&self) -> Result<u64, FileError> {
        let Reader(Handle { disk, node, name }) = self;
        let (machine, fault) = disk.begin(FileOperation::Metadata, name)?;
        after(fault, FileOperation::Metadata, name)?;
        let node = machine.nodes.get(node).ok_or_else(|| missing(FileOperation::Metadata, name))?;
        Ok(node.content.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        let Reader(Handle { disk, node, name }) = self;
        let (mut machine, fault) = disk.begin(FileOperation::Read, name)?;
        after(fault, FileOperation::Read, name)?;
        if fault == Some(DiskFault::FlipAtRest) {
            machine.flip_at_rest(*node);
        }
        let content = &machine.nodes.get(node).ok_or_else(|| missing(FileOperation::Read, name))?.content;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        if fault == Some(DiskFault::FlipOnRead) {
            flip(&mut buffer[..count], &mut machine.random);
        }
        Ok(count)
    }
}

struct Lock(Handle);

impl FileLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let Lock(Handle { disk, node, .. }) = self;
        let mut machine = disk.machine();
        // A guard of an earlier generation must not end the lock of a later one.
        if machine.generation == disk.generation {
            machine.locks.remove(node);
        }
    }
}
