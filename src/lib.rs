//! alluvium: a stream-processing runtime that a service embeds.

pub mod snapshot;
pub mod storage;
pub mod testing;
