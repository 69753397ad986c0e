//! The doors of the kernel: everything it asks of the outside world is a trait in here.
//!
//! A simulator stands behind them in tests, the operating system in production.

pub mod catalogue;
pub mod fence;
pub mod files;
pub mod store;
