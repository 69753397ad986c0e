//! Keyed state: the table of one operator in one subtask, the states that operators declare, and the snapshots of them. Operator state: the same without keys ([`OperatorTable`]).
//!
//! A [`Table`] holds one row per key. A row is a [`Plain`] value (what `reduce` and `aggregate` use), or the contents of a
//! [`StateSet`]: of a [`Value`], [`List`], [`Map`], [`Reducing`] or [`Aggregating`] state, or of a tuple of them. Whoever gets a `&mut` to stored content
//! got it through the table, which has kept the old content for every snapshot that is still being written.
//!
//! ```
//! use alluvium::record::hash_key;
//! use alluvium::state::{Map, StateSet, Table, Value};
//!
//! type States = (Value<u64>, Map<String, i64>);
//! let states: States = (Value::named("flights"), Map::named("delay by airport"));
//! let mut table = Table::<String, <States as StateSet>::Row>::new(0..128, 128, 7, states.descriptors());
//!
//! let key = "N12345".to_owned();
//! let hash = hash_key(7, &key)?;
//! table.with_states::<States, _>(hash, &key, |(mut flights, mut delays)| {
//!     flights.update(|count| *count += 1);
//!     *delays.get_or_insert_with(&"JFK".to_owned(), || 0) += 12;
//! });
//! let flights = table.with_states::<States, _>(hash, &key, |(flights, _)| flights.get().copied());
//! assert_eq!(flights, Some(1));
//! # Ok::<(), alluvium::record::KeyError>(())
//! ```

mod aggregating;
mod chunk;
mod descriptor;
mod encode;
mod error;
mod list;
mod map;
mod operator;
mod ordered;
mod output;
mod prefetch;
mod reducing;
mod restore;
mod row;
mod set;
mod slots;
mod snapshot;
mod span;
mod table;
mod tombstones;
mod value;
mod write;

pub use aggregating::{AggregateFunction, Aggregating, AggregatingAccess};
pub use chunk::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkSink};
pub use descriptor::{STATE_ENCODING, STATE_WRITER, StateDescriptor, StateKind, StateMapping, check_names};
pub use error::StateError;
pub use list::{List, ListAccess};
pub use map::{Map, MapAccess};
pub use operator::{
    BroadcastMap, BroadcastState, BroadcastStateSet, BroadcastView, Held, OperatorListAccess, OperatorState,
    OperatorStateSet, OperatorTable, Redistribution, Share, SplitList, UnionList, shares,
};
pub use reducing::{ReduceFunction, Reducing, ReducingAccess};
pub use row::{Hold, Inline, LARGE_ROW_BYTES, Plain, Row, is_large};
pub use set::{State, StateSet};
pub use table::{Table, TableStatistics};
pub use value::{Value, ValueAccess};
pub use write::Progress;
