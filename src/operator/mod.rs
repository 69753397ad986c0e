//! Operators: what a chain is made of, one file each, and how the links of a chain are put together.
//!
//! Users see [`KeyedProcess`], [`KeyedCoProcess`], [`StatefulProcess`], [`BroadcastProcess`], [`KeyedBroadcastProcess`], [`ProcessFunction`] and [`SideOutput`]; everything else is reached through the methods of streams.

pub(crate) mod aggregate;
pub(crate) mod assembly;
pub(crate) mod broadcast;
pub(crate) mod broadcast_process;
pub(crate) mod chain;
mod chains;
pub(crate) mod channel;
pub(crate) mod co_process;
pub(crate) mod connect;
pub(crate) mod discard;
pub(crate) mod filter;
pub(crate) mod flat_map;
mod folding;
pub(crate) mod forward;
pub(crate) mod hash;
pub(crate) mod head;
pub(crate) mod in_flight;
pub(crate) mod keyed;
pub(crate) mod link;
pub(crate) mod map;
pub(crate) mod operator_backend;
pub(crate) mod operator_reading;
pub(crate) mod partition;
pub(crate) mod piece;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod process_function;
pub(crate) mod rebalance;
pub(crate) mod shuffle;
pub(crate) mod side;
pub(crate) mod split;
pub(crate) mod spread;
pub(crate) mod state_reading;
pub(crate) mod state_writing;
pub(crate) mod stateful;
pub(crate) mod tee;

pub use broadcast_process::{
    BroadcastAccess, BroadcastContext, BroadcastProcess, BroadcastStateView, KeyedBroadcastAccess,
    KeyedBroadcastContext, KeyedBroadcastKeyedContext, KeyedBroadcastProcess, KeyedBroadcastStateAccess,
    KeyedBroadcastStateView,
};
pub use co_process::{CoAccess, CoContext, KeyedCoProcess};
pub use partition::PartitionError;
pub use process::{Access, Context, KeyedContext, KeyedProcess};
pub use process_function::{ProcessContext, ProcessFunction};
pub use side::{SideOutput, SideOutputs};
pub use stateful::{OpenContext, OperatorContext, StatefulAccess, StatefulContext, StatefulProcess};
