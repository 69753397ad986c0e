//! The doors of the kernel: everything it asks of the outside world is a trait in here.
//!
//! A simulator stands behind them in tests, the operating system and the user's own code in production.

pub mod blocking;
pub mod calls;
pub mod catalogue;
pub mod fence;
pub mod files;
pub mod history;
pub mod host;
pub mod listener;
pub mod local;
pub mod points;
pub mod sink;
pub mod source;
pub mod store;
pub mod task;
