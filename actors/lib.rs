//! The kernel of alluvium: how checkpoints and actors work.
//!
//! Pure machines in `protocol` decide, `drive` carries out what they decide against a host, and `run` is the
//! actix host. Nothing here knows a record type, a connector or sled.

#![warn(unreachable_pub, clippy::unwrap_used)]

pub mod drive;
pub mod ids;
pub mod payload;
pub mod plan;
pub mod ports;
pub mod protocol;
#[cfg(feature = "actix")]
pub mod run;
mod sync;
