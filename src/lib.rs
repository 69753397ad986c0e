//! alluvium: a stream-processing runtime that a service embeds.

pub mod record;
pub mod state;
