//! The door to the enumerator of a source: which splits there are and who reads them. It lives on the coordinator's side
//! and its state is part of every checkpoint.
//!
//! Exactly-once of assignments rests on the order of one mailbox: an assignment made before the enumerator's snapshot is sent
//! before the trigger, so the reader has it in its own snapshot; one made after it follows the trigger.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use crate::ids::{CheckpointId, OperatorUid};
use crate::ports::fence::Fence;
use crate::ports::files::Files;
use crate::ports::host::Host;
use crate::ports::task::Failure;

/// What an enumerator is told of the place where it runs.
#[derive(Clone)]
pub struct EnumeratorContext {
    /// The job's name.
    pub job: Arc<str>,
    /// The source's uid.
    pub uid: OperatorUid,
    /// How many readers there are.
    pub parallelism: u32,
    /// Time, chance, wake-ups, blocking work.
    pub host: Rc<dyn Host>,
    /// Files, for sources that list them.
    pub files: Arc<dyn Files>,
    /// The right to act outside, for sources that do; it ends with the attempt.
    pub fence: Fence,
}

impl fmt::Debug for EnumeratorContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EnumeratorContext({})", self.uid)
    }
}

/// What a reader tells its enumerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderEvent {
    /// The reader is there, with the encoded splits that it holds after a restore.
    Registered {
        /// What it holds.
        splits: Vec<Vec<u8>>,
    },
    /// It has nothing to read and wants a split.
    SplitRequested,
    /// It read a split to its end.
    SplitFinished {
        /// The split's name.
        split: String,
    },
    /// An event of the source's own kind.
    Custom(Vec<u8>),
}

/// What an enumerator wants done; in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// Give these encoded splits to a reader.
    Splits {
        /// The reader's parallel index.
        reader: u32,
        /// The splits.
        splits: Vec<Vec<u8>>,
    },
    /// A reader gets no further split.
    NoMoreSplits {
        /// The reader's parallel index.
        reader: u32,
    },
    /// An event of the source's own kind for a reader.
    Event {
        /// The reader's parallel index.
        reader: u32,
        /// The encoded event.
        event: Vec<u8>,
    },
}

/// The erased enumerator. Runs on the coordinator's arbiter, never blocks.
pub trait Enumerator {
    /// Goes on from a snapshot. Called before anything else, at most once.
    ///
    /// # Errors
    /// When the bytes cannot be decoded.
    fn restore(&mut self, state: &[u8]) -> Result<(), Failure>;

    /// Looks whether something happened (new splits found, a listing ready).
    ///
    /// # Errors
    /// When discovery failed.
    fn poll(&mut self, context: &mut Context<'_>, assignments: &mut Vec<Assignment>) -> Result<(), Failure>;

    /// Hears of a reader.
    ///
    /// # Errors
    /// When an event cannot be decoded.
    fn reader_event(
        &mut self,
        reader: u32,
        event: ReaderEvent,
        assignments: &mut Vec<Assignment>,
    ) -> Result<(), Failure>;

    /// Its state at this moment, encoded.
    ///
    /// # Errors
    /// When the state cannot be encoded.
    fn snapshot(&mut self, checkpoint: CheckpointId) -> Result<Vec<u8>, Failure>;

    /// A checkpoint is complete.
    fn completed(&mut self, checkpoint: CheckpointId);

    /// A checkpoint was aborted.
    fn aborted(&mut self, checkpoint: CheckpointId);
}

/// Builds an enumerator on the coordinator's arbiter.
pub type EnumeratorFactory = Arc<dyn Fn(EnumeratorContext) -> Result<Box<dyn Enumerator>, Failure> + Send + Sync>;
