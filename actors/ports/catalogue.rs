//! The door to the catalogue: a small ordered index that may lag, or be lost, without any harm but time.
//!
//! Nothing may be kept in it that cannot be rebuilt from files.

/// The most entries that one [`Catalogue::put`] or [`Catalogue::remove`] may carry.
pub const LARGEST_BATCH: usize = 100;

/// The catalogue could not be read or written. Never a reason to lose state: it is rebuilt from files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue cannot {operation}: {reason}")]
pub struct CatalogueError {
    /// What was asked.
    pub operation: &'static str,
    /// Why it failed, in the words of what stands behind the door.
    pub reason: String,
}

/// A small ordered key/value index. Every call blocks until it is carried out.
pub trait Catalogue: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// The index cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError>;

    /// Writes all `entries`, at most [`LARGEST_BATCH`], replacing earlier values. Whether they survive a crash is
    /// open.
    ///
    /// # Errors
    ///
    /// The index cannot be written, or there are too many entries.
    fn put(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), CatalogueError>;

    /// Removes all `keys`, at most [`LARGEST_BATCH`]; those that are not there are no error.
    ///
    /// # Errors
    ///
    /// The index cannot be written, or there are too many keys.
    fn remove(&self, keys: &[Vec<u8>]) -> Result<(), CatalogueError>;

    /// All entries whose key begins with `prefix`, in the order of their keys.
    ///
    /// # Errors
    ///
    /// The index cannot be read.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, CatalogueError>;
}
