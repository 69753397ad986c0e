//! The door to files, on the operating system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use alluvium_actors::ports::files::{
    DirectoryEntry, FileError, FileErrorKind, FileKind, FileLock, FileMetadata, FileOperation, FileReader, FileWriter,
    Files,
};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl SystemFiles {
    /// The files of this machine.
    #[must_use]
    pub fn new() -> SystemFiles {
        SystemFiles
    }
}

fn on(operation: FileOperation, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |error| FileError::from_io(operation, path, &error)
}

/// The directory that holds `path`, also for a plain name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let flags = i32::try_from(OFlags::DIRECTORY.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(directory)?.sync_all()
}

fn metadata(found: &fs::Metadata) -> FileMetadata {
    let kind = if found.is_file() {
        FileKind::File
    } else if found.is_dir() {
        FileKind::Directory
    } else {
        FileKind::Other
    };
    FileMetadata { kind, length: found.len() }
}

/// For file systems that cannot rename without replacing. A crash in between leaves both names, of which the old one
/// is an unfinished file to everyone.
fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

impl Files for SystemFiles {
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(on(FileOperation::Create, path))?;
        Ok(Box::new(SystemWriter { file, path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError> {
        let file = File::open(path).map_err(on(FileOperation::Open, path))?;
        // The operating system opens directories too, and fails at the first read.
        if file.metadata().map_err(on(FileOperation::Open, path))?.is_dir() {
            let kind = FileErrorKind::Other(io::ErrorKind::IsADirectory);
            return Err(FileError::new(FileOperation::Open, path, kind, "it is a directory"));
        }
        Ok(Box::new(SystemReader { file, path: path.to_owned() }))
    }

    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_and_unlink(from, to),
            other => other.map_err(io::Error::from),
        };
        renamed.map_err(on(FileOperation::Rename, to))
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), FileError> {
        sync_directory(directory).map_err(on(FileOperation::SyncDirectory, directory))
    }

    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        let wanted = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let mut entries = Vec::new();
        let found = fs::read_dir(wanted).map_err(on(FileOperation::List, directory))?;
        for entry in found {
            let entry = entry.map_err(on(FileOperation::List, directory))?;
            let metadata = match fs::metadata(entry.path()) {
                Ok(found) => metadata(&found),
                // Removed meanwhile, or a link that leads nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    FileMetadata { kind: FileKind::Other, length: 0 }
                }
                Err(error) => return Err(FileError::from_io(FileOperation::List, &entry.path(), &error)),
            };
            entries.push(DirectoryEntry { name: entry.file_name().to_string_lossy().into_owned(), metadata });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        fs::remove_file(path).map_err(on(FileOperation::Remove, path))
    }

    fn create_directories(&self, directory: &Path) -> Result<(), FileError> {
        // Without a `.` at its end, which cannot be made.
        let directory: &Path = &directory.components().collect::<PathBuf>();
        let mut missing: Vec<&Path> = Vec::new();
        for path in directory.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            match fs::metadata(path) {
                Ok(found) if found.is_dir() => break,
                Ok(_) => {
                    let kind = FileErrorKind::AlreadyExists;
                    let message = "a file stands where a directory is wanted";
                    return Err(FileError::new(FileOperation::CreateDirectories, path, kind, message));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(path),
                Err(error) => return Err(FileError::from_io(FileOperation::CreateDirectories, path, &error)),
            }
        }
        for path in missing.iter().rev() {
            match fs::create_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(FileError::from_io(FileOperation::CreateDirectories, path, &error));
                }
                Ok(()) | Err(_) => {}
            }
            sync_directory(parent(path)).map_err(on(FileOperation::CreateDirectories, path))?;
        }
        if missing.is_empty() && !directory.as_os_str().is_empty() {
            // An earlier process may have created it and have ended before the sync.
            match sync_directory(parent(directory)) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                    return Err(FileError::from_io(FileOperation::CreateDirectories, directory, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(metadata(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::from_io(FileOperation::Metadata, path, &error)),
        }
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(on(FileOperation::Lock, path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(SystemLock { _file: file })),
            Err(TryLockError::WouldBlock) => {
                let message = "it is locked";
                Err(FileError::new(FileOperation::Lock, path, FileErrorKind::Locked, message))
            }
            Err(TryLockError::Error(error)) => Err(FileError::from_io(FileOperation::Lock, path, &error)),
        }
    }
}

struct SystemWriter {
    file: File,
    path: PathBuf,
}

impl FileWriter for SystemWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(on(FileOperation::Append, &self.path))
    }

    fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_all().map_err(on(FileOperation::Sync, &self.path))
    }
}

struct SystemReader {
    file: File,
    path: PathBuf,
}

impl FileReader for SystemReader {
    fn length(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().map_err(on(FileOperation::Metadata, &self.path))?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::from_io(FileOperation::Read, &self.path, &error)),
            }
        }
        Ok(filled)
    }
}

/// The lock is that of the open file, so it ends with it.
struct SystemLock {
    _file: File,
}

impl FileLock for SystemLock {}
