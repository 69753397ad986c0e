//! Why the checkpoint store refuses or fails.

use crate::ports::fence::Fenced;
use crate::ports::files::{FileError, FileErrorKind};

/// The checkpoint store refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full. Nothing was lost: what was being written was given up before it was synced.
    #[error("no space is left to write {file}: {reason}; free some, the next checkpoint tries again")]
    OutOfSpace {
        /// The file that was being written.
        file: String,
        /// The words of the file system.
        reason: String,
    },
    /// The outside failed in a way that may pass.
    #[error("the checkpoint store failed at {file}: {reason}")]
    Failed {
        /// The file or object.
        file: String,
        /// The words of what stands behind the store.
        reason: String,
    },
    /// An earlier sync failed, so nothing that this handle writes can be trusted any more.
    #[error("the checkpoint store takes no more writes, because a sync failed: {reason}; check the disk and restart")]
    Poisoned {
        /// The failure that poisoned it.
        reason: String,
    },
    /// A stored file does not hold what was written.
    #[error("{file} is damaged: {reason}; restore it from a backup, or allow falling back to an older checkpoint")]
    Damaged {
        /// The damaged file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that something else refers to is not there.
    #[error("{file} is missing: {reason}; restore it from a backup, or allow falling back to an older checkpoint")]
    Missing {
        /// The missing file.
        file: String,
        /// What refers to it.
        reason: String,
    },
    /// A file or a directory is not one of a checkpoint store.
    #[error("{file} is not part of a checkpoint store: {reason}")]
    Alien {
        /// The file or directory.
        file: String,
        /// What tells so.
        reason: String,
    },
    /// A file was written by a later version.
    #[error("{file} has format version {found}, this version reads up to {supported}: use a newer version")]
    TooNew {
        /// The file.
        file: String,
        /// Its format version.
        found: u16,
        /// The highest version that can be read.
        supported: u16,
    },
    /// Another process, or another handle of this process, uses the store.
    #[error("{file} is in use by another process or handle ({reason}): end it, or give this job a store of its own")]
    Locked {
        /// The lock file.
        file: String,
        /// The words of the file system.
        reason: String,
    },
    /// The store belongs to another job.
    #[error(
        "{file} belongs to the job `{stored}`, not to `{requested}`: give this job a store of its own, or its former name"
    )]
    OtherJob {
        /// The file that tells so.
        file: String,
        /// The job in the store.
        stored: String,
        /// The job that was opened.
        requested: String,
    },
    /// A call that the state of the store forbids.
    #[error("the checkpoint store refuses: {reason}")]
    Refused {
        /// What was refused, why, and the mend.
        reason: String,
    },
    /// The effect belongs to an attempt that is over.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

impl StoreError {
    /// Whether a restart, or the next checkpoint, may find the cause gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            // The next attempt has a right to write of its own.
            StoreError::OutOfSpace { .. } | StoreError::Failed { .. } | StoreError::Fenced(_) => true,
            StoreError::Poisoned { .. }
            | StoreError::Damaged { .. }
            | StoreError::Missing { .. }
            | StoreError::Alien { .. }
            | StoreError::TooNew { .. }
            | StoreError::Locked { .. }
            | StoreError::OtherJob { .. }
            | StoreError::Refused { .. } => false,
        }
    }
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> StoreError {
        let file = error.path.display().to_string();
        match error.kind {
            FileErrorKind::OutOfSpace => StoreError::OutOfSpace { file, reason: error.message },
            FileErrorKind::Locked => StoreError::Locked { file, reason: error.message },
            FileErrorKind::NotFound | FileErrorKind::AlreadyExists | FileErrorKind::Other(_) => {
                StoreError::Failed { file, reason: error.to_string() }
            }
        }
    }
}
