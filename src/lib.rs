//! alluvium: a stream-processing runtime that a service embeds.

pub mod connect;
pub mod error;
pub(crate) mod operator;
pub mod record;
pub mod storage;
pub mod testing;

pub use error::{OperatorError, OperatorResult};
