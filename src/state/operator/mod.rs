//! Operator state: what an instance of an operator keeps for itself, not for a key.
//!
//! Three kinds, which differ in what becomes of them when a checkpoint is restored: a [`SplitList`] is dealt out evenly, element by element and in order, over the
//! instances; of a [`UnionList`] every instance gets all elements of all former ones; a [`BroadcastMap`] is the same in every instance, which gets it from any one of them.
//!
//! An [`OperatorTable`] is one row that stands under no key. Its contents, its snapshots and its chunks are those of keyed state: closing the epoch costs the same for any size,
//! the rest is written in slices, and what is about to change is kept first.

mod broadcast;
mod list;
pub(super) mod redistribute;
mod set;
mod table;

pub use broadcast::{BroadcastMap, BroadcastView};
pub use list::{OperatorListAccess, SplitList, UnionList};
pub use redistribute::{Held, Redistribution, Share, shares};
pub use set::{BroadcastState, BroadcastStateSet, OperatorState, OperatorStateSet};
pub use table::OperatorTable;
