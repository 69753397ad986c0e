//! Pure machines: every decision of the protocol, without a clock, I/O, randomness or logging.
//!
//! [`machine`] is the contract that all of them keep.

pub mod commit;
pub mod coordinator;
pub mod credit;
pub mod lifecycle;
pub mod machine;
pub mod supervise;
