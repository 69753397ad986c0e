//! The erased batch: what the kernel knows of the records that cross an edge.
//!
//! Actors and edges are not generic over record types: that would multiply build times by the number of operators and
//! make nothing faster, because an edge is touched once per batch. The planner compares the [`PayloadType`]s of both ends of an edge
//! once, when the job is built, so the cast back inside a task is an invariant and not a hope.

use std::any::{Any, TypeId};
use std::fmt;

/// A batch of records on its way, its type erased.
pub type Payload = Box<dyn Batch>;

/// Records that travel together: an opaque column of records, an optional column of timestamps, an optional column of
/// key hashes.
pub trait Batch: Send + 'static {
    /// How many records it holds.
    fn len(&self) -> usize;

    /// Whether it holds no record.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes it occupies in memory. Cheap: what records point to is not followed.
    fn byte_size(&self) -> usize;

    /// Appends the encoded batch to `out`; [`PayloadType::decode`] reads it back.
    ///
    /// # Errors
    /// When a record's own serialization fails; the text names the record type.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), PayloadError>;

    /// A copy of the batch, for an edge that delivers to several consumers.
    fn clone_payload(&self) -> Payload;

    /// Splits the batch by the channel that `channel_of_hash` names for each record's key hash, keeping the order inside
    /// each part. Entry `i` of the answer goes to channel `i`; an empty part is `None`.
    ///
    /// # Errors
    /// When the batch has no hash column, which a batch on a keyed edge always has.
    fn split_by_hash(
        self: Box<Self>,
        channels: usize,
        channel_of_hash: &dyn Fn(u64) -> usize,
    ) -> Result<Vec<Option<Payload>>, PayloadError>;

    /// Gives up the box, for the cast back to the concrete batch.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

impl fmt::Debug for dyn Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Batch({} records)", self.len())
    }
}

/// What kind of batch an edge carries, and how to read an encoded one.
#[derive(Clone, Copy)]
pub struct PayloadType {
    /// Identity of the record type in this build of the program.
    pub type_id: TypeId,
    /// The record type's name, for errors.
    pub type_name: &'static str,
    /// Reads what [`Batch::encode`] wrote. Hostile bytes give an error.
    pub decode: fn(&[u8]) -> Result<Payload, PayloadError>,
}

impl fmt::Debug for PayloadType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PayloadType({})", self.type_name)
    }
}

impl PartialEq for PayloadType {
    fn eq(&self, other: &PayloadType) -> bool {
        self.type_id == other.type_id
    }
}

/// A batch could not be encoded, decoded or split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch of {type_name}: {reason}")]
pub struct PayloadError {
    /// The record type.
    pub type_name: &'static str,
    /// What went wrong.
    pub reason: String,
}
