//! What streams carry and what they are keyed by: [`Record`], [`Key`], the key's hash and the key groups.
//!
//! The hash of a key ([`hash_key`]), the key group ([`key_group`]) and the subtask that owns it ([`subtask_of`]) decide
//! where stored state is found again: they are frozen, and golden vectors test them.

pub mod batch;
mod hash;
mod key;

pub use hash::{KeyError, hash_key};
pub use key::{
    Borrowed, Key, KeySelector, MAX_PARALLELISM_LIMIT, Owned, default_max_parallelism, key_group, key_group_range,
    subtask_of,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An element of a stream or the content of a state: owned data that can be copied, moved to another thread and stored.
///
/// Implemented for every type that has the four properties; nobody implements it by hand.
pub trait Record: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Record for T {}
