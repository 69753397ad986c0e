//! The door to files: what storage, file sources and file sinks may ask of a file system.
//!
//! The operations are few so that a simulated disk can forget exactly what a real one may forget: content that was
//! not synced, and directory entries whose directory was not synced.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What was asked of the file system when an error came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileOperation {
    /// Creating a new file.
    Create,
    /// Opening a file for reading.
    Open,
    /// Appending to a file.
    Append,
    /// Syncing the content of a file.
    Sync,
    /// Reading from a file.
    Read,
    /// Renaming a file, without replacing another.
    Rename,
    /// Syncing the entries of a directory.
    SyncDirectory,
    /// Listing a directory.
    List,
    /// Removing a file.
    Remove,
    /// Creating directories.
    CreateDirectories,
    /// Asking for the length and kind of a file.
    Metadata,
    /// Taking an exclusive lock.
    Lock,
}

impl fmt::Display for FileOperation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            FileOperation::Create => "create",
            FileOperation::Open => "open",
            FileOperation::Append => "write to",
            FileOperation::Sync => "sync",
            FileOperation::Read => "read",
            FileOperation::Rename => "rename to",
            FileOperation::SyncDirectory => "sync the directory",
            FileOperation::List => "list the directory",
            FileOperation::Remove => "remove",
            FileOperation::CreateDirectories => "create the directory",
            FileOperation::Metadata => "look at",
            FileOperation::Lock => "lock",
        })
    }
}

/// Why a file operation failed, as far as callers decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// There is no such file or directory.
    NotFound,
    /// There is a file of that name already, and it was left as it is.
    AlreadyExists,
    /// The disk is full, or the quota used up.
    OutOfSpace,
    /// Another process, or another handle of this one, holds the lock.
    Locked,
    /// Anything else.
    Other(io::ErrorKind),
}

/// A file operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {}: {message}", .path.display())]
pub struct FileError {
    /// The file or directory; for a rename its new name.
    pub path: PathBuf,
    /// What was asked.
    pub operation: FileOperation,
    /// The kind of failure.
    pub kind: FileErrorKind,
    /// The text of the operating system.
    pub message: String,
}

impl FileError {
    /// An error of a given kind.
    #[must_use]
    pub fn new(operation: FileOperation, path: &Path, kind: FileErrorKind, message: &str) -> FileError {
        FileError { path: path.to_owned(), operation, kind, message: message.to_owned() }
    }

    /// The error that the operating system gave for `operation` on `path`.
    #[must_use]
    pub fn from_io(operation: FileOperation, path: &Path, error: &io::Error) -> FileError {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FileErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => FileErrorKind::AlreadyExists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileErrorKind::OutOfSpace,
            other => FileErrorKind::Other(other),
        };
        FileError { path: path.to_owned(), operation, kind, message: error.to_string() }
    }
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file, or a link to one.
    File,
    /// A directory, or a link to one.
    Directory,
    /// Something else, or a link that leads nowhere.
    Other,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    /// File or directory.
    pub kind: FileKind,
    /// The length in bytes; of no meaning for directories.
    pub length: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, without the directory. Names that are not UTF-8 are given with replacement characters.
    pub name: String,
    /// What it stands for.
    pub metadata: FileMetadata,
}

/// A file system. Paths are taken as given; a relative one is relative to the process's directory.
pub trait Files: Send + Sync + 'static {
    /// Creates a new, empty file. Its name survives a crash only after [`Files::sync_directory`].
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::AlreadyExists`] if the name is taken; else what the file system says.
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError>;

    /// Opens a file for reading at any offset.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::NotFound`] if there is none; else what the file system says.
    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError>;

    /// Gives the file `from` the name `to`, and leaves a file that has this name as it is. Survives a crash only
    /// after [`Files::sync_directory`] of the directory of `to`.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::AlreadyExists`] if `to` is taken: then nothing happened. After any other error the rename
    /// may have happened or not.
    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError>;

    /// Makes every earlier create, rename and remove in `directory` survive a crash.
    ///
    /// # Errors
    ///
    /// What the file system says. It is then unknown which of them survive, also after a later success.
    fn sync_directory(&self, directory: &Path) -> Result<(), FileError>;

    /// What is in `directory`, sorted by name.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::NotFound`] if there is no such directory; else what the file system says.
    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError>;

    /// Removes a file. Survives a crash only after [`Files::sync_directory`].
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::NotFound`] if there is none; else what the file system says.
    fn remove(&self, path: &Path) -> Result<(), FileError>;

    /// Creates `directory` and the directories above it that are missing, and syncs each parent of a new one, so
    /// that on return they survive a crash. No error if all are there.
    ///
    /// # Errors
    ///
    /// What the file system says, also if a file stands where a directory is wanted.
    fn create_directories(&self, directory: &Path) -> Result<(), FileError>;

    /// What `path` is, or `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError>;

    /// Takes an exclusive lock by means of the file `path`, which is created if missing and stays. The lock ends
    /// when the guard is dropped or the process ends, however it ends. Does not wait.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::Locked`] if another process or another handle of this process holds it.
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError>;
}

/// A new file that is being written, from its beginning to its end.
pub trait FileWriter: Send {
    /// Appends all of `bytes`. Survives a crash only after [`FileWriter::sync`].
    ///
    /// # Errors
    ///
    /// What the file system says. A part of `bytes` may have been written then.
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError>;

    /// Makes everything appended so far survive a crash; the file's name is not included.
    ///
    /// # Errors
    ///
    /// What the file system says. The content must then be taken as lost: a later sync that succeeds proves nothing.
    fn sync(&mut self) -> Result<(), FileError>;
}

/// A file that is being read.
pub trait FileReader: Send + Sync {
    /// The length of the file in bytes.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn length(&self) -> Result<u64, FileError>;

    /// Reads from `offset` into `buffer` and returns the number of bytes read: less than asked, also zero, only at
    /// the end of the file.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError>;
}

/// Holds an exclusive lock until it is dropped.
pub trait FileLock: Send + Sync {}
