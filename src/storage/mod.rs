//! Checkpoint storage: where the bytes of checkpoints lie.
//!
//! [`CheckpointStorage`] asks only what an object store can do: write an object once, publish one if its name is
//! free, read a range, list by prefix, delete. What the bytes mean is the business of [`crate::snapshot`].

mod catalogue;
pub mod conformance;
mod directory;
mod local;
mod memory;
mod system;

use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::store::StoreError;

pub use self::catalogue::{CatalogueCondition, SledCatalogue};
pub use self::directory::FileStorage;
pub use self::local::LocalStorage;
pub use self::memory::MemoryStorage;
pub use self::system::SystemFiles;

/// The outcome of [`CheckpointStorage::publish`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum PutOutcome {
    /// The object is there and survives a crash.
    Done,
    /// Another object has this name, and was left as it is.
    Taken,
    /// The object is not there and never will be.
    Failed(StoreError),
    /// The object may be there or not; [`CheckpointStorage::is_published`] tells.
    Unknown(StoreError),
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The whole name.
    pub name: String,
    /// The length in bytes.
    pub length: u64,
}

/// An object that is being written. It gets its name when it is finished; until then nobody sees it.
pub trait ObjectWriter: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// The storage failed, or the attempt is over. The object can only be given up then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Ends the object. On return it has its name and survives a crash.
    ///
    /// # Errors
    ///
    /// The name was taken meanwhile, the storage failed, or the attempt is over. The object may be there or not; its
    /// name is not used again.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// A place for objects that are written once and never changed.
///
/// Names have the form `group/name`, see [`check_name`]. Implementations pass [`conformance::check`]. They check the
/// fence directly before each request that changes anything.
pub trait CheckpointStorage: Send + Sync + 'static {
    /// Begins an object. Dropping the writer gives it up.
    ///
    /// # Errors
    ///
    /// The name is not allowed or taken, the storage failed, or the attempt is over.
    fn create(&self, fence: &Fence, name: &str) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Writes a whole object, if its name is free.
    fn publish(&self, fence: &Fence, name: &str, content: &[u8]) -> PutOutcome;

    /// Whether there is an object of this name that survives a crash.
    ///
    /// # Errors
    ///
    /// It cannot be told.
    fn is_published(&self, name: &str) -> Result<bool, StoreError>;

    /// The length of an object in bytes, `None` if there is none.
    ///
    /// # Errors
    ///
    /// The storage failed.
    fn length(&self, name: &str) -> Result<Option<u64>, StoreError>;

    /// Reads exactly `length` bytes from `offset`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is no such object, [`StoreError::Damaged`] if it ends before the range does.
    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, StoreError>;

    /// All objects whose names begin with `prefix`, sorted by name. The prefix holds at least a whole group and `/`.
    ///
    /// # Errors
    ///
    /// The storage failed.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Deletes objects. On return the deletions survive a crash. Objects that do not exist are no error.
    ///
    /// # Errors
    ///
    /// The storage failed, or the attempt is over: each of them may be deleted or not.
    fn delete(&self, fence: &Fence, names: &[String]) -> Result<(), StoreError>;

    /// The name as a person finds it: a path, or an address.
    fn locate(&self, name: &str) -> String;
}

/// The longest part of a name in bytes: the limit of file systems (255), less room for what marks unfinished objects.
const LONGEST_PART: usize = 230;

/// What names of unfinished files end in.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Whether `name` may be the name of an object: `group/name`. The group is of small ASCII letters; the name of ASCII
/// letters, digits and `_ - . % ~`, at most 230 bytes, does not begin with a dot and does not end in `.tmp`.
///
/// # Errors
///
/// [`StoreError::Refused`] with the reason.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%~".contains(&byte);
    let good = name.split_once('/').is_some_and(|(group, rest)| {
        !group.is_empty()
            && group.len() <= LONGEST_PART
            && group.bytes().all(|byte| byte.is_ascii_lowercase())
            && !rest.is_empty()
            && rest.len() <= LONGEST_PART
            && !rest.starts_with('.')
            && !rest.ends_with(UNFINISHED)
            && rest.bytes().all(allowed)
    });
    if good {
        return Ok(());
    }
    Err(StoreError::Refused { reason: format!("`{}` is not a name for an object", name.escape_debug()) })
}
