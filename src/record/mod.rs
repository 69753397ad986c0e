//! What streams carry.

pub mod batch;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What every stream carries and every state holds: anything that can be cloned, sent to another thread and serialized. Implemented
/// for every such type.
pub trait Record: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Record for T {}
