//! alluvium: a stream-processing runtime that a service embeds.

pub mod storage;
pub mod testing;
