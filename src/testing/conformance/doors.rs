//! A file door that notices when it is used on the arbiter: files may block, so they are for blocking work.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_actors::ports::files::{DirectoryEntry, FileError, FileLock, FileMetadata, FileReader, FileWriter, Files};

/// Whether a call that must not block is under way, and what it did if it used a file.
#[derive(Clone, Default)]
pub(super) struct Arbiter {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    busy: AtomicBool,
    caught: Mutex<Option<String>>,
}

impl Arbiter {
    /// Calls what must not block.
    pub(super) fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.inner.busy.store(true, Ordering::Relaxed);
        let value = call();
        self.inner.busy.store(false, Ordering::Relaxed);
        value
    }

    /// The first use of a file in such a call.
    pub(super) fn caught(&self) -> Option<String> {
        self.inner.caught.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, operation: &str, path: &Path) {
        if self.inner.busy.load(Ordering::Relaxed) {
            let mut caught = self.inner.caught.lock().unwrap_or_else(PoisonError::into_inner);
            caught.get_or_insert_with(|| format!("it {operation} {} on the arbiter", path.display()));
        }
    }
}

/// The door.
pub(super) struct WatchedFiles {
    pub(super) files: Arc<dyn Files>,
    pub(super) arbiter: Arbiter,
}

impl Files for WatchedFiles {
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError> {
        self.arbiter.note("created", path);
        self.files.create(path)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError> {
        self.arbiter.note("opened", path);
        self.files.open(path)
    }

    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.arbiter.note("renamed", from);
        self.files.rename_without_replace(from, to)
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), FileError> {
        self.arbiter.note("synced", directory);
        self.files.sync_directory(directory)
    }

    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        self.arbiter.note("listed", directory);
        self.files.list(directory)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.arbiter.note("removed", path);
        self.files.remove(path)
    }

    fn create_directories(&self, directory: &Path) -> Result<(), FileError> {
        self.arbiter.note("created", directory);
        self.files.create_directories(directory)
    }

    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError> {
        self.arbiter.note("asked for the metadata of", path);
        self.files.metadata(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        self.arbiter.note("locked", path);
        self.files.lock(path)
    }
}
