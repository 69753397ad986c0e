//! What a sink is: writers that prepare transactions, and a committer that commits what a completed checkpoint holds.
//!
//! The rules of two-phase commit (rules 12 and 13 of `docs/protocol.md`) are kept by the runtime: a writer only prepares, a committer only commits what it is
//! told to. Both must be able to meet the same transaction twice.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, Moment, OperatorUid, RunNumber};
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::files::Files;
use alluvium_actors::ports::host::Host;
pub use alluvium_actors::ports::sink::SinkScope;

use serde::{Deserialize, Serialize};

use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;
use crate::record::batch::Slice;

/// A sink for records of type `T`: a recipe, built into writers and one committer each time the job starts.
pub trait Sink<T: Record>: Send + Sync + 'static {
    /// A prepared transaction, stored in checkpoints until its commit returned.
    type Committable: Record;
    /// What a checkpoint keeps of the writers beside the transactions; `()` if nothing.
    type State: Record;
    /// Writes records.
    type Writer: SinkWriter<T, Committable = Self::Committable, State = Self::State>;
    /// Commits transactions.
    type Committer: SinkCommit<Committable = Self::Committable, State = Self::State>;

    /// What it promises of each record.
    fn guarantee(&self) -> Guarantee;

    /// Where its effects live. A sink whose effects end with the process must say so: what the job promises from end to end when its process ends depends on it.
    fn effect(&self) -> Effect {
        Effect::Outside
    }

    /// A new writer. Called after the committer has cleaned up.
    ///
    /// # Errors
    /// When the sink cannot be used as it was configured.
    fn writer(&self, context: SinkContext) -> OperatorResult<Self::Writer>;

    /// A new committer. Runs where blocking is allowed.
    ///
    /// # Errors
    /// When the sink cannot be used as it was configured.
    fn committer(&self, scope: SinkScope) -> OperatorResult<Self::Committer>;
}

/// What a sink promises of each record, and what a whole path promises from its source to its sink: whether a failure may lose records, and whether it may let
/// records take effect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// A failure may lose records, and let others take effect again.
    BestEffort,
    /// No record takes effect twice: after a failure some may be lost.
    AtMostOnce,
    /// Every record takes effect at least once: after a failure some do so again.
    AtLeastOnce,
    /// Every record takes effect exactly once, when its checkpoint completes.
    ExactlyOnce,
}

impl Guarantee {
    /// Whether a record may be lost.
    #[must_use]
    pub fn loses(self) -> bool {
        matches!(self, Guarantee::BestEffort | Guarantee::AtMostOnce)
    }

    /// Whether a record may take effect more than once.
    #[must_use]
    pub fn repeats(self) -> bool {
        matches!(self, Guarantee::BestEffort | Guarantee::AtLeastOnce)
    }

    /// What is left of this guarantee and another one when records have to pass both.
    #[must_use]
    pub fn and(self, other: Guarantee) -> Guarantee {
        Guarantee::of(self.loses() || other.loses(), self.repeats() || other.repeats())
    }

    /// What keeps both this guarantee and another one.
    #[must_use]
    pub fn with(self, other: Guarantee) -> Guarantee {
        Guarantee::of(self.loses() && other.loses(), self.repeats() && other.repeats())
    }

    /// Whether who has this guarantee has the other one, too. At least once and at most once do not include each other.
    #[must_use]
    pub fn includes(self, other: Guarantee) -> bool {
        self.and(other) == other
    }

    fn of(loses: bool, repeats: bool) -> Guarantee {
        match (loses, repeats) {
            (true, true) => Guarantee::BestEffort,
            (true, false) => Guarantee::AtMostOnce,
            (false, true) => Guarantee::AtLeastOnce,
            (false, false) => Guarantee::ExactlyOnce,
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Guarantee::BestEffort => "best-effort",
            Guarantee::AtMostOnce => "at-most-once",
            Guarantee::AtLeastOnce => "at-least-once",
            Guarantee::ExactlyOnce => "exactly-once",
        })
    }
}

/// Where the effects of a sink live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Effect {
    /// Outside of the process, as in files or a database: what took effect is still there for the next process.
    Outside,
    /// In the memory of the process, and it ends with it. The next process, started from a stored checkpoint, does not know what had taken effect.
    InProcess,
}

/// The writing side of a sink. One per subtask, on its arbiter; never blocks.
pub trait SinkWriter<T: Record>: 'static {
    /// See [`Sink::Committable`].
    type Committable: Record;
    /// See [`Sink::State`].
    type State: Record;

    /// Whether it can take a slice: pending while too much is under way. Polled until it is ready before the first slice and before the
    /// first cut, so a writer that has something to find out first does it here.
    ///
    /// # Errors
    /// When writing failed.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult>;

    /// Takes all records of a slice (empties it).
    ///
    /// # Errors
    /// When writing failed.
    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult;

    /// The cut: everything written so far belongs to this checkpoint, everything later to the next. Begins to prepare.
    ///
    /// # Errors
    /// When that cannot be begun; the task then fails.
    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult;

    /// Ready with the transactions of a checkpoint once they are durable: what is in them can be committed by anybody, also after a crash.
    ///
    /// # Errors
    /// When preparing failed; the task then fails, because its records would be lost.
    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<Self::Committable>>>;

    /// What the checkpoint keeps of the writer itself. Called at the cut, after [`SinkWriter::prepare`].
    fn snapshot(&mut self, checkpoint: CheckpointId) -> Self::State;

    /// A checkpoint is complete. Commits are the committer's; this is for writers that wait for durability.
    fn completed(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }
}

/// The committing side of a sink. Its calls may block. Each must be able to meet work that was done before.
pub trait SinkCommit: Send + 'static {
    /// See [`Sink::Committable`].
    type Committable: Record;
    /// See [`Sink::State`].
    type State: Record;

    /// Called first, once per attempt: checks that the place is the right one. `restored` is `None` at a fresh start, else the writers' states in the restored
    /// checkpoint, one per former subtask.
    ///
    /// # Errors
    /// When the place belongs to somebody else, or is not the one the checkpoint wrote to; the text names the mend.
    fn open(&mut self, restored: Option<Vec<Self::State>>) -> OperatorResult;

    /// Commits a transaction.
    fn commit(&mut self, committable: Self::Committable) -> CommitOutcome;

    /// Removes what earlier attempts left behind and no checkpoint holds: this job's and this sink's only. Called after the restored
    /// transactions were committed and before any writer opens.
    ///
    /// # Errors
    /// When something could not be removed.
    fn clean_up(&mut self) -> OperatorResult;
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Committed now.
    Done,
    /// It had been committed before.
    AlreadyDone,
    /// Not now; again after this time.
    RetryAfter(std::time::Duration),
    /// It can never be committed: the job fails.
    Fatal(OperatorError),
}

/// What a writer is told of the place where it runs, and the doors that it may use.
#[derive(Clone)]
pub struct SinkContext {
    pub(crate) job: Arc<str>,
    pub(crate) store: String,
    pub(crate) uid: OperatorUid,
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
    pub(crate) run: RunNumber,
    pub(crate) host: Rc<dyn Host>,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) fence: Fence,
}

impl std::fmt::Debug for SinkContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SinkContext({}[{}])", self.uid, self.subtask)
    }
}

impl SinkContext {
    /// The job's name.
    #[must_use]
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Tells stores apart; the same text as [`SinkScope::store`].
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// The sink's uid.
    #[must_use]
    pub fn uid(&self) -> &OperatorUid {
        &self.uid
    }

    /// The writer's parallel index.
    #[must_use]
    pub fn subtask(&self) -> u32 {
        self.subtask
    }

    /// How many writers there are.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// The number of this run of the job; names of external things contain it.
    #[must_use]
    pub fn run(&self) -> RunNumber {
        self.run
    }

    /// The right to act outside; check it where the act is carried out.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// The monotonic clock of the host.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.host.now()
    }

    /// Polls the writer again at or soon after `moment`.
    pub fn wake_at(&self, moment: Moment) {
        self.host.wake_at(moment);
    }

    /// The file door.
    #[must_use]
    pub fn files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.files)
    }

    /// Runs blocking work away from the arbiter; poll the promise for its answer.
    pub fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Promise<T> {
        Promise::start(self.host.blocking().as_ref(), Lane::Connectors, work)
    }
}
