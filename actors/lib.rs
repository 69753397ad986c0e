//! The kernel of alluvium: how checkpoints and actors work.
//!
//! Pure machines in `protocol` decide, `drive` carries out what they decide against a host, and `run` is the
//! actix host. Nothing here knows a record type, a connector or sled.

pub mod ids;
pub mod protocol;
