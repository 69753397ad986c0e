//! Operators: what a chain is made of, one file each, and how the links of a chain are put together.

pub(crate) mod assembly;
pub(crate) mod chain;
pub(crate) mod channel;
pub(crate) mod connect;
pub(crate) mod filter;
pub(crate) mod flat_map;
pub(crate) mod for_each;
pub(crate) mod forward;
pub(crate) mod hash;
pub(crate) mod head;
pub(crate) mod link;
pub(crate) mod map;
pub(crate) mod piece;
pub(crate) mod place;
pub(crate) mod rebalance;
pub(crate) mod tee;
