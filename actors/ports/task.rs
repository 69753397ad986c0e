//! The door to user code: what a subtask runs.
//!
//! A task is the fused chain of one subtask: the typed side (in the product crate) behind an erased face. It is built on its
//! arbiter and never leaves it. The driver guards each call against panics; a task never blocks.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::outputs::Outputs;
use crate::ids::{CheckpointId, OperatorUid, RunNumber, SubtaskId};
use crate::payload::{Batch, Payload};
use crate::ports::calls::CallWatch;
use crate::ports::fence::Fence;
use crate::ports::files::Files;
use crate::ports::host::Host;
use crate::ports::store::{CheckpointStore, InFlight, Manifest, OperatorShape, OperatorSnapshot};
use crate::protocol::align::Channel;

/// At most so many records go through a chain before the driver looks at the mailbox again.
pub const SLICE_RECORDS: usize = 256;

/// At most so many records travel in one batch.
pub const BATCH_RECORDS: usize = 1024;

/// What a task is told of the place where it runs.
#[derive(Clone)]
pub struct TaskContext {
    /// The job's name.
    pub job: Arc<str>,
    /// Which subtask.
    pub subtask: SubtaskId,
    /// How many subtasks its node has.
    pub parallelism: u32,
    /// The number of key groups of its node.
    pub max_parallelism: u32,
    /// The run that it belongs to. Names of external things contain it.
    pub run: RunNumber,
    /// The seed of the key hash, drawn once per job and stored in every manifest.
    pub hash_seed: u64,
    /// Time, chance and wake-ups.
    pub host: Rc<dyn Host>,
    /// Where blobs of snapshots go and come from.
    pub store: Arc<dyn CheckpointStore>,
    /// Files for sources and sinks.
    pub files: Arc<dyn Files>,
    /// The right to act outside; it ends with the attempt.
    pub fence: Fence,
    /// The edges that lead to the subtask, by channel.
    pub inputs: Arc<[InputEdge]>,
    /// The checkpoint to begin with, if there is one.
    pub restored: Option<Arc<Manifest>>,
    /// Where the task says which operator is at work.
    pub calls: Arc<CallWatch>,
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TaskContext({} run {})", self.subtask, self.run)
    }
}

impl TaskContext {
    /// What the restored checkpoint holds for operator `uid` of this very subtask.
    #[must_use]
    pub fn restored_operator(&self, uid: &OperatorUid) -> Option<&OperatorSnapshot> {
        self.restored
            .as_ref()?
            .subtasks
            .iter()
            .flat_map(|subtask| &subtask.operators)
            .find(|snapshot| snapshot.uid == *uid && snapshot.subtask == self.subtask.index)
    }

    /// What the restored checkpoint holds for operator `uid` of all its subtasks: another number of them than now, after rescaling.
    pub fn restored_operators(&self, uid: &OperatorUid) -> impl Iterator<Item = &OperatorSnapshot> {
        let subtasks = self.restored.iter().flat_map(|manifest| &manifest.subtasks);
        subtasks.flat_map(|subtask| &subtask.operators).filter(move |snapshot| snapshot.uid == *uid)
    }

    /// How wide operator `uid` was when the restored checkpoint was taken; as now if the checkpoint does not say.
    #[must_use]
    pub fn restored_shape(&self, uid: &OperatorUid) -> OperatorShape {
        let stored = self.restored.iter().flat_map(|manifest| &manifest.shapes).find(|shape| shape.uid == *uid);
        stored.cloned().unwrap_or_else(|| OperatorShape {
            uid: uid.clone(),
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
        })
    }
}

/// The moment of a cut, as the members of a chain hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The checkpoint that is cut.
    pub checkpoint: CheckpointId,
}

/// What a chain puts into a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSnapshot {
    /// One entry per operator that has anything to keep.
    pub operators: Vec<OperatorSnapshot>,
    /// The records that were in front of the chain, where a barrier overtook them.
    pub in_flight: Option<InFlight>,
}

/// An edge of a subtask, as a snapshot of what it held names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputEdge {
    /// Its position in the list of the plan's edges.
    pub edge: u32,
    /// Which of the task's inputs it feeds.
    pub input: u32,
    /// The index of the producing subtask.
    pub producer: u32,
}

/// A request to commit a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    /// Which sink of the plan.
    pub sink: u32,
    /// The checkpoint that prepared it.
    pub checkpoint: CheckpointId,
    /// The encoded committables, in order.
    pub committables: Vec<Vec<u8>>,
}

/// What every chain can do, whatever its head is.
pub trait Task {
    /// Reads the state of the restored checkpoint, piece by piece. Called until ready, before anything else; ready at once
    /// where there is nothing to restore.
    ///
    /// # Errors
    /// When a piece is damaged or cannot be read.
    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>>;

    /// Whether the chain can take a slice: pending while a sink at its end is not ready.
    ///
    /// # Errors
    /// When the sink failed.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>>;

    /// Sends the partial batches of the chain's outputs.
    fn flush(&mut self, outputs: &mut Outputs);

    /// The end of all data: called once, before the last flush; not called again after a restore of a cut that lies behind it.
    ///
    /// # Errors
    /// When user code fails.
    fn finish(&mut self, outputs: &mut Outputs) -> Result<(), Failure>;

    /// The synchronous part of a snapshot: closes the epoch. Costs the same for any size of state.
    ///
    /// # Errors
    /// When the state cannot be captured; the task then fails whatever the tolerance for failed checkpoints.
    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure>;

    /// The asynchronous part, one slice of it: `budget` entries at most. Ready with what the checkpoint holds of this subtask when all of it is durable.
    /// A task that is pending only because its budget was used up wakes the context itself.
    ///
    /// # Errors
    /// When a piece could not be written: the checkpoint is declined, the task goes on.
    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<TaskSnapshot, Failure>>;

    /// The checkpoint was aborted: stop writing it and free what it held. Never touches a prepared transaction (rule 12).
    fn aborted(&mut self, checkpoint: CheckpointId);

    /// The checkpoint is complete: prepared transactions up to it may be committed.
    fn completed(&mut self, checkpoint: CheckpointId);

    /// Takes the commits that may be carried out now.
    fn take_commits(&mut self) -> Vec<CommitRequest>;

    /// The commit of what `checkpoint` prepared at sink `sink` returned.
    fn committed(&mut self, sink: u32, checkpoint: CheckpointId);

    /// Whether transactions of completed checkpoints still wait for their commit to return.
    fn has_open_commits(&self) -> bool;

    /// Whether something that was in flight when the restored checkpoint was taken is not processed yet. All of it is taken through the chain before anything
    /// that an edge or a reader brings (rule 27).
    fn has_restored(&self) -> bool;

    /// Takes at most `limit` records of it through the chain, and never more than [`SLICE_RECORDS`]. True when they were the last ones of their batch: only then
    /// another batch may be accepted.
    ///
    /// # Errors
    /// When user code fails, or the bytes are no batch of such records.
    fn step_restored(&mut self, limit: usize, outputs: &mut Outputs) -> Result<bool, Failure>;

    /// The epoch of `checkpoint` was just closed ahead of records that belong to it: they are captured from now on. First of all the restored ones that no
    /// step took yet, and the unread rest of the batch in work if that belongs to the checkpoint too: then `working` is the channel that it came by.
    ///
    /// # Errors
    /// When a record's own serialization fails.
    fn begin_capture(&mut self, checkpoint: CheckpointId, working: Option<Channel>) -> Result<(), Failure>;

    /// Nothing more belongs to the checkpoint: before this its snapshot is not ready.
    fn end_capture(&mut self, checkpoint: CheckpointId);

    /// The name of the operator whose code ran last: it names the culprit when that code panicked. Empty before the first call.
    fn current_operator(&self) -> &str;
}

/// A chain whose head takes batches from edges.
pub trait OperatorTask: Task {
    /// Takes a batch of input `input`. Only called when the one before is used up.
    fn accept(&mut self, input: usize, batch: Payload);

    /// Takes at most `limit` records of the accepted batch, and never more than [`SLICE_RECORDS`], through the chain. Gives the emptied batch back when it is used
    /// up, so that its buffer can return to its producer.
    ///
    /// # Errors
    /// When user code fails.
    fn step(&mut self, limit: usize, outputs: &mut Outputs) -> Result<Option<Payload>, Failure>;

    /// A batch of this channel that belongs to the checkpoint. Only looked at (rule 5).
    ///
    /// # Errors
    /// When a record's own serialization fails.
    fn capture(&mut self, checkpoint: CheckpointId, channel: Channel, batch: &dyn Batch) -> Result<(), Failure>;
}

/// A chain whose head is a source reader.
pub trait SourceTask: Task {
    /// Reads at most `limit` records, and never more than [`SLICE_RECORDS`], and takes them through the chain.
    ///
    /// # Errors
    /// When the reader or user code fails.
    fn poll_records(
        &mut self,
        limit: usize,
        outputs: &mut Outputs,
        context: &mut Context<'_>,
    ) -> Poll<Result<SourceStep, Failure>>;

    /// More work from the enumerator, encoded splits.
    ///
    /// # Errors
    /// When a split cannot be decoded.
    fn add_splits(&mut self, splits: Vec<Vec<u8>>) -> Result<(), Failure>;

    /// The enumerator has no further split for this reader.
    fn no_more_splits(&mut self);

    /// An event of the enumerator.
    ///
    /// # Errors
    /// When the event cannot be decoded.
    fn enumerator_event(&mut self, event: Vec<u8>) -> Result<(), Failure>;

    /// What the reader has to tell its enumerator, in order.
    fn take_reader_events(&mut self) -> Vec<super::source::ReaderEvent>;
}

/// What a poll of a source brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStep {
    /// Records went through; there may be more at once.
    Emitted,
    /// The reader has no split left and will get none.
    Ended,
}

/// Builds the task of one subtask, on its arbiter.
#[derive(Clone)]
pub enum TaskFactory {
    /// A chain with an operator as its head.
    Operator(Arc<dyn Fn(TaskContext) -> Result<Box<dyn OperatorTask>, Failure> + Send + Sync>),
    /// A chain with a source reader as its head.
    Source(Arc<dyn Fn(TaskContext) -> Result<Box<dyn SourceTask>, Failure> + Send + Sync>),
}

impl fmt::Debug for TaskFactory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskFactory::Operator(_) => formatter.write_str("TaskFactory::Operator"),
            TaskFactory::Source(_) => formatter.write_str("TaskFactory::Source"),
        }
    }
}

/// Something failed: where, why, and whether a restart may help.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct Failure {
    /// The operator, sink, source or part of the runtime that failed, by its name.
    pub origin: String,
    /// What happened, with the mend where there is one.
    pub message: String,
    /// Whether a restart may help, or the job fails for good.
    pub severity: Severity,
    /// Whether it was a panic.
    pub panicked: bool,
    /// Whether the checkpoint store refused something.
    pub storage: bool,
}

/// Whether a restart may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A restart may help: the restart strategy decides.
    Retryable,
    /// A restart would fail again: malformed input, a poisoned store, damaged state, a wrong directory.
    Unrecoverable,
}

impl Failure {
    /// A failure that a restart may mend.
    pub fn retryable(origin: impl Into<String>, message: impl fmt::Display) -> Failure {
        Failure {
            origin: origin.into(),
            message: message.to_string(),
            severity: Severity::Retryable,
            panicked: false,
            storage: false,
        }
    }

    /// A failure that no restart mends.
    pub fn unrecoverable(origin: impl Into<String>, message: impl fmt::Display) -> Failure {
        Failure { severity: Severity::Unrecoverable, ..Failure::retryable(origin, message) }
    }

    /// The same failure, of something that acts by this fence. Once the fence has ended effects are refused, and what follows from that says
    /// nothing about the next attempt: it may be retried.
    #[must_use]
    pub fn behind(mut self, fence: &Fence) -> Failure {
        if fence.check().is_err() {
            self.severity = Severity::Retryable;
        }
        self
    }

    /// A caught panic of user code.
    pub fn panic(origin: impl Into<String>, text: &str) -> Failure {
        Failure { panicked: true, ..Failure::retryable(origin, format!("panicked: {text}")) }
    }

    /// An actor is gone because the arbiter that ran it was stopped. Unrecoverable: there is nowhere to restart.
    pub fn arbiter_stopped(origin: &str) -> Failure {
        Failure::unrecoverable(origin, "the arbiter that it ran on was stopped")
    }
}
