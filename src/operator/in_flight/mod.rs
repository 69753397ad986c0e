//! The records in front of a chain that a barrier overtook: their way into the checkpoint and back (rules 3, 5 and 27).
//!
//! They are one piece per subtask, in the format of state: a descriptor per channel, and a chunk per batch, in the order of each channel. The manifest names the edges
//! that they were on, by the operators at their ends: chains are other ones when widths change.

mod inlet;
mod restored;
mod writing;

use alluvium_actors::payload::Batch;
use alluvium_actors::ports::task::Failure;
use serde::{Deserialize, Serialize};

pub(crate) use self::inlet::{ChainParts, HEAD, Inlet, InnerInlet, InputName, Repartition};
pub(crate) use self::restored::RestoredInFlight;
pub(crate) use self::writing::InFlightWriting;

/// The name of the piece.
const IN_FLIGHT: &str = "in-flight";

/// The channel that records came by, as the piece describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    /// The edge, by its position among those that the manifest names for the subtask.
    edge: u32,
    /// The index of the producing subtask.
    producer: u32,
}

/// An encoded batch.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    records: u32,
    bytes: Vec<u8>,
}

impl Encoded {
    /// Encodes a batch.
    ///
    /// # Errors
    /// When a record's own serialization fails.
    pub(crate) fn new(batch: &dyn Batch, operator: &str) -> Result<Encoded, Failure> {
        let mut bytes = Vec::with_capacity(batch.byte_size());
        batch.encode(&mut bytes).map_err(|error| Failure::unrecoverable(operator, error))?;
        Ok(Encoded { records: batch.len() as u32, bytes })
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
