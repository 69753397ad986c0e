//! The door to local copies: what a subtask of this process writes into the checkpoint store is kept near at hand as well, for a restore in the same process.
//!
//! A copy is a help and never a promise. It may be missing, and one that is not exactly what the store's own handle says is as good as missing: the store decides which
//! blobs make up a checkpoint, and what cannot be had here is read there.

use crate::ports::store::BlobHandle;

/// The local copies of one job's blobs. Calls may block, and are made where blocking is allowed.
pub trait LocalCopies: Send + Sync + 'static {
    /// Begins the copy of a blob that is about to be written, by the name that it will have in the store without its directory.
    ///
    /// # Errors
    /// There is no room, or the place of the copies fails.
    fn begin(&self, name: &str) -> Result<Box<dyn CopyWriter>, CopyError>;

    /// Reads exactly `length` bytes from `offset` of a blob out of its copy, and verifies them. Nothing if there is no copy, or the range lies outside of the blob.
    ///
    /// # Errors
    /// The copy is of another blob than the handle says, damaged, or cannot be read.
    fn read(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Option<Vec<u8>>, CopyError>;

    /// Frees copies. Blobs without one are no error.
    fn free(&self, names: &[String]);
}

/// A copy that is being written. Dropping it gives the copy up.
pub trait CopyWriter: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// There is no room, or the place of the copies fails. The writer is of no more use then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), CopyError>;

    /// Ends the copy of the blob that the store calls so.
    ///
    /// # Errors
    /// What was copied is something else, or the place of the copies fails. There is no copy then.
    fn finish(self: Box<Self>, handle: &BlobHandle) -> Result<(), CopyError>;
}

/// Why there is no local copy, or why it is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// As many bytes are kept in memory as may be, and there is no directory for more.
    #[error(
        "{limit} bytes of local copies are in memory and no directory is given for more: raise the limit of local_recovery(..), or give it a directory"
    )]
    NoRoom {
        /// How many bytes may be kept in memory.
        limit: u64,
    },
    /// It holds other bytes than the blob.
    #[error("the local copy {copy} is damaged: {reason}")]
    Damaged {
        /// Where it is.
        copy: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be written or read.
    #[error("the local copy {copy} failed: {reason}")]
    Failed {
        /// Where it is.
        copy: String,
        /// What the file system says.
        reason: String,
    },
}
