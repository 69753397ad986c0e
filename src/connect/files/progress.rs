//! How far a file source is, for people who watch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How far a file source is. Clones share the figures; they follow the job, also back to where it was restored.
#[derive(Clone, Debug, Default)]
pub struct SourceProgress {
    files: Arc<Mutex<BTreeMap<String, Arc<FileProgress>>>>,
}

/// The figures of one file. Independent of each other, so relaxed atomics do.
#[derive(Debug, Default)]
pub(super) struct FileProgress {
    read: AtomicU64,
    total: AtomicU64,
    rows: AtomicU64,
}

impl FileProgress {
    pub(super) fn set(&self, read: u64, rows: u64) {
        self.read.store(read, Relaxed);
        self.rows.store(rows, Relaxed);
    }

    pub(super) fn set_total(&self, total: u64) {
        self.total.store(total, Relaxed);
    }
}

impl SourceProgress {
    /// The bytes read so far, over all files, as they are stored (compressed, where they are). The first part of a file that is being read may
    /// count before its rows do.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lock().values().map(|file| file.read.load(Relaxed)).sum()
    }

    /// The length of all files in bytes, as far as it is known: zero before the job began.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.lock().values().map(|file| file.total.load(Relaxed)).sum()
    }

    /// The rows (or lines) that left the source so far, over all files and all starts of the job.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.lock().values().map(|file| file.rows.load(Relaxed)).sum()
    }

    pub(super) fn file(&self, name: &str) -> Arc<FileProgress> {
        Arc::clone(self.lock().entry(name.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<FileProgress>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
