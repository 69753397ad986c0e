//! Pure machines: every decision of the protocol, without a clock, I/O, randomness or logging.
//!
//! [`machine`] is the contract that all of them keep, [`invariant`] the list of what always holds.

pub mod align;
pub mod buffer_timeout;
pub mod cleanup;
pub mod commit;
pub mod coordinator;
pub mod copies;
pub mod credit;
pub mod invariant;
pub mod lifecycle;
pub mod machine;
pub mod mutation;
pub mod notices;
pub mod placement;
pub mod reroute;
pub mod slice_size;
pub mod story;
pub mod supervise;
