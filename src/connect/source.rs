//! What a source is: an enumerator that knows the splits, and readers that read them.
//!
//! The enumerator lives once per job on the coordinator's side; its state is part of every checkpoint. It assigns splits to readers. A reader
//! lives in a subtask; its snapshot is the splits that it holds, each with its position. Neither blocks: work that waits for a device is a
//! [`Promise`] from the context.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, Moment, OperatorUid, RunNumber};
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::files::Files;
use alluvium_actors::ports::host::Host;

use serde::{Deserialize, Serialize};

use crate::error::OperatorResult;
use crate::record::Record;
use crate::record::batch::Slice;

/// A source of records: a recipe, built into one enumerator and several readers each time the job starts.
pub trait Source: Send + Sync + 'static {
    /// What it emits.
    type Record: Record;
    /// A part of the input that one reader reads in order, with the position reached. Stored in checkpoints.
    type Split: Record;
    /// Finds and assigns splits.
    type Enumerator: SourceEnumerator<Split = Self::Split>;
    /// Reads splits.
    type Reader: SourceReader<Record = Self::Record, Split = Self::Split>;

    /// Whether the source ends by itself.
    fn boundedness(&self) -> Boundedness;

    /// Whether what was emitted since a checkpoint can be emitted again after a failure. What the job promises from end to end depends on it.
    fn replay(&self) -> Replay;

    /// A new enumerator.
    ///
    /// # Errors
    /// When the source cannot be used as it was configured.
    fn enumerator(&self, context: SourceContext) -> OperatorResult<Self::Enumerator>;

    /// A new reader.
    ///
    /// # Errors
    /// When the source cannot be used as it was configured.
    fn reader(&self, context: SourceContext) -> OperatorResult<Self::Reader>;
}

/// Whether a source ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundedness {
    /// It ends: the job can finish.
    Bounded,
    /// It goes on until the job is stopped.
    Unbounded,
}

/// Whether a source can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Replay {
    /// From the positions that a checkpoint holds, with the same records in the same order for each split.
    FromStoredPosition,
    /// Not at all: what came since the last checkpoint is lost with a failure.
    Never,
    /// Not by the source: the program that pushes records hears which of them no checkpoint covers, and may push them again.
    ByTheProgram,
}

/// The side of a source that knows the splits. One per job.
///
/// A job may go on with more or fewer readers than its checkpoint had. The splits that readers held are then shared out over the new ones by the runtime, and each reader registers with
/// its share. So an enumerator must not conclude from a reader's number, or from what it assigned before, who holds a split: [`SourceContext::parallelism`] tells how many readers there
/// are now, and [`SourceEnumerator::reader_registered`] what each of them has.
pub trait SourceEnumerator: 'static {
    /// See [`Source::Split`].
    type Split: Record;
    /// What a checkpoint keeps of it: at least the splits that are not assigned.
    type State: Record;

    /// Goes on from a checkpoint; called before anything else, at most once. Splits that readers held are in the readers' own state.
    ///
    /// # Errors
    /// When the state does not fit the source.
    fn restore(&mut self, state: Self::State) -> OperatorResult;

    /// Its state at this moment.
    fn snapshot(&mut self, checkpoint: CheckpointId) -> Self::State;

    /// Looks for new splits. Called at the start and whenever the waker was woken.
    ///
    /// # Errors
    /// When discovery failed.
    fn poll(&mut self, context: &mut Context<'_>, assigner: &mut SplitAssigner<Self::Split>) -> OperatorResult;

    /// A reader is there, with the splits that it holds after a restore. (After a failure every reader registers anew.)
    ///
    /// # Errors
    /// When the splits do not fit the source.
    fn reader_registered(
        &mut self,
        reader: u32,
        splits: Vec<Self::Split>,
        assigner: &mut SplitAssigner<Self::Split>,
    ) -> OperatorResult;

    /// A reader has nothing to read and wants a split.
    ///
    /// # Errors
    /// When the enumerator cannot go on.
    fn split_requested(&mut self, reader: u32, assigner: &mut SplitAssigner<Self::Split>) -> OperatorResult;

    /// A reader read a split to its end.
    ///
    /// # Errors
    /// When the enumerator cannot go on.
    fn split_finished(
        &mut self,
        reader: u32,
        split: &str,
        assigner: &mut SplitAssigner<Self::Split>,
    ) -> OperatorResult {
        let _ = (reader, split, assigner);
        Ok(())
    }

    /// An event of the source's own kind, from a reader.
    ///
    /// # Errors
    /// When the event cannot be understood.
    fn reader_event(
        &mut self,
        reader: u32,
        event: Vec<u8>,
        assigner: &mut SplitAssigner<Self::Split>,
    ) -> OperatorResult {
        let _ = (reader, event, assigner);
        Ok(())
    }

    /// A checkpoint is complete: the source may forget what lies before the *oldest retained* one.
    fn completed(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }

    /// A checkpoint was aborted.
    fn aborted(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }
}

/// What an enumerator gives out. Assignments reach readers in this order; those made after a checkpoint's snapshot reach the reader
/// behind the barrier.
#[derive(Debug)]
pub struct SplitAssigner<S> {
    pub(crate) assigned: Vec<Assigned<S>>,
}

#[derive(Debug)]
pub(crate) enum Assigned<S> {
    Splits(u32, Vec<S>),
    NoMore(u32),
    Event(u32, Vec<u8>),
}

impl<S> SplitAssigner<S> {
    /// An assigner without assignments. The runtime makes them; a test of an enumerator may too.
    #[must_use]
    pub fn new() -> SplitAssigner<S> {
        SplitAssigner { assigned: Vec::new() }
    }

    /// Gives splits to a reader.
    pub fn assign(&mut self, reader: u32, splits: Vec<S>) {
        self.assigned.push(Assigned::Splits(reader, splits));
    }

    /// Tells a reader that it gets no further split: when it has read those that it holds, it ends.
    pub fn no_more_splits(&mut self, reader: u32) {
        self.assigned.push(Assigned::NoMore(reader));
    }

    /// Sends a reader an event of the source's own kind.
    pub fn send_event(&mut self, reader: u32, event: Vec<u8>) {
        self.assigned.push(Assigned::Event(reader, event));
    }
}

impl<S> Default for SplitAssigner<S> {
    fn default() -> SplitAssigner<S> {
        SplitAssigner::new()
    }
}

/// The side of a source that reads. One per subtask.
pub trait SourceReader: 'static {
    /// What it emits.
    type Record: Record;
    /// See [`Source::Split`].
    type Split: Record;

    /// More splits to read: after a restore those of the checkpoint, with their positions; later those that the enumerator assigned.
    ///
    /// # Errors
    /// When a split does not fit the input.
    fn add_splits(&mut self, splits: Vec<Self::Split>) -> OperatorResult;

    /// No further split will come: once the ones it holds are read, the reader answers [`ReaderStatus::Ended`].
    fn no_more_splits(&mut self);

    /// Emits at most [`ReaderOutput::budget`] records. Never blocks: pending when there is nothing to read, with the waker left behind.
    ///
    /// # Errors
    /// When the input cannot be read, or is malformed (then unrecoverable, naming the place).
    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        output: &mut ReaderOutput<'_, Self::Record>,
    ) -> Poll<OperatorResult<ReaderStatus>>;

    /// The splits that it holds, each with the position behind the last record emitted.
    fn snapshot(&mut self, checkpoint: CheckpointId) -> Vec<Self::Split>;

    /// What it has to tell its enumerator, in order: that it wants a split, that it finished one.
    fn take_requests(&mut self) -> Vec<ReaderRequest>;

    /// An event of the source's own kind, from the enumerator.
    ///
    /// # Errors
    /// When the event cannot be understood.
    fn enumerator_event(&mut self, event: Vec<u8>) -> OperatorResult {
        let _ = event;
        Ok(())
    }

    /// A checkpoint is complete: what it covers will not be read again.
    fn completed(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }

    /// A checkpoint was aborted.
    fn aborted(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }
}

/// What a reader tells its enumerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderRequest {
    /// It wants a split.
    Split,
    /// It read a split to its end.
    Finished {
        /// The split's name.
        split: String,
    },
    /// An event of the source's own kind.
    Event(Vec<u8>),
}

/// What a poll of a reader brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderStatus {
    /// Records were emitted (or none this time): poll again.
    More,
    /// Every split is read and none will come.
    Ended,
}

/// Where a reader puts records.
#[derive(Debug)]
pub struct ReaderOutput<'a, T> {
    slice: &'a mut Slice<T>,
    limit: usize,
}

impl<'a, T> ReaderOutput<'a, T> {
    /// An output that takes up to `limit` records into `slice`.
    pub fn new(slice: &'a mut Slice<T>, limit: usize) -> ReaderOutput<'a, T> {
        ReaderOutput { slice, limit }
    }

    /// How many more records may be emitted in this poll.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.limit.saturating_sub(self.slice.records.len())
    }

    /// Emits a record. The budget is not enforced: a reader that cannot stop may exceed it a little.
    #[inline]
    pub fn emit(&mut self, record: T) {
        self.slice.records.push(record);
    }

    /// Emits several records: one loop without a check per record where the iterator knows its length. To be limited by the budget.
    #[inline]
    pub fn emit_all(&mut self, records: impl IntoIterator<Item = T>) {
        self.slice.records.extend(records);
    }
}

/// What an enumerator or a reader is told of the place where it runs, and the doors that it may use.
#[derive(Clone)]
pub struct SourceContext {
    pub(crate) job: Arc<str>,
    pub(crate) uid: OperatorUid,
    pub(crate) reader: u32,
    pub(crate) parallelism: u32,
    pub(crate) run: RunNumber,
    pub(crate) host: Rc<dyn Host>,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) fence: Fence,
}

impl std::fmt::Debug for SourceContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SourceContext({}[{}])", self.uid, self.reader)
    }
}

impl SourceContext {
    /// The job's name.
    #[must_use]
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The source's uid.
    #[must_use]
    pub fn uid(&self) -> &OperatorUid {
        &self.uid
    }

    /// The reader's parallel index; 0 for the enumerator.
    #[must_use]
    pub fn reader(&self) -> u32 {
        self.reader
    }

    /// How many readers there are.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// The number of this run of the job, for readers; an enumerator is not told and gets zero.
    #[must_use]
    pub fn run(&self) -> RunNumber {
        self.run
    }

    /// The right to act outside. A source that changes something outside (that acknowledges messages, say) checks it directly before: when the
    /// attempt is over, the effect belongs to nobody.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The monotonic clock of the host: virtual in simulation.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.host.now()
    }

    /// Polls the reader (or enumerator) again at or soon after `moment`.
    pub fn wake_at(&self, moment: Moment) {
        self.host.wake_at(moment);
    }

    /// A random number; decided by the seed in simulation.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.host.random()
    }

    /// The file door: the real file system, or the simulated disk.
    #[must_use]
    pub fn files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.files)
    }

    /// Runs blocking work away from the arbiter; poll the promise for its answer.
    pub fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Promise<T> {
        Promise::start(self.host.blocking().as_ref(), Lane::Connectors, work)
    }
}
