//! Operators: what a chain is made of, one file each, and how the links of a chain are put together.
//!
//! Users see [`KeyedProcess`] and [`KeyedCoProcess`]; everything else is reached through the methods of streams.

pub(crate) mod aggregate;
pub(crate) mod assembly;
pub(crate) mod chain;
pub(crate) mod channel;
pub(crate) mod co_process;
pub(crate) mod connect;
pub(crate) mod filter;
pub(crate) mod flat_map;
pub(crate) mod forward;
pub(crate) mod hash;
pub(crate) mod head;
pub(crate) mod keyed;
pub(crate) mod link;
pub(crate) mod map;
pub(crate) mod piece;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod rebalance;
pub(crate) mod state_reading;
pub(crate) mod state_writing;
pub(crate) mod tee;

pub use co_process::{CoAccess, CoContext, KeyedCoProcess};
pub use process::{Access, Context, KeyedContext, KeyedProcess};
