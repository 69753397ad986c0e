//! A sink that hands records to somebody in the same program: an actor, a channel, a function.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use actix::{Message, Recipient, dev::SendError};
use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber};
use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::sink::SinkScope;
use futures::channel::mpsc as futures_mpsc;
use serde::{Deserialize, Serialize};

use super::sink::{CommitOutcome, Effect, Guarantee, Sink, SinkCommit, SinkContext, SinkWriter};
use super::sink_name::SinkName;
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;
use crate::record::batch::Slice;

/// So long a receiver that is full is left alone.
const PAUSE: Duration = Duration::from_millis(2);

/// Of so many deliveries of each sink it is remembered that they were made. A commit that is repeated is one of the last few.
const REMEMBERED: usize = 4_096;

/// Somebody who takes messages out of a job. Called on the job's threads: it must not block.
///
/// Implemented for functions, for actix recipients, and for the sending ends of channels (`std::sync::mpsc::SyncSender`,
/// `futures::channel::mpsc::UnboundedSender`).
pub trait Receiver<M>: Send + Sync + 'static {
    /// Takes a message.
    ///
    /// # Errors
    /// When there is no room now, or there will never be any again.
    fn deliver(&self, message: M) -> Result<(), NotDelivered<M>>;
}

/// A message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDelivered<M> {
    /// No room: once more in a moment.
    Full(M),
    /// The receiver is gone for good.
    Gone(M),
}

impl<M, F: Fn(M) -> Result<(), NotDelivered<M>> + Send + Sync + 'static> Receiver<M> for F {
    fn deliver(&self, message: M) -> Result<(), NotDelivered<M>> {
        self(message)
    }
}

impl<M> Receiver<M> for Recipient<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn deliver(&self, message: M) -> Result<(), NotDelivered<M>> {
        self.try_send(message).map_err(|error| match error {
            SendError::Full(message) => NotDelivered::Full(message),
            SendError::Closed(message) => NotDelivered::Gone(message),
        })
    }
}

impl<M: Send + 'static> Receiver<M> for mpsc::SyncSender<M> {
    fn deliver(&self, message: M) -> Result<(), NotDelivered<M>> {
        self.try_send(message).map_err(|error| match error {
            mpsc::TrySendError::Full(message) => NotDelivered::Full(message),
            mpsc::TrySendError::Disconnected(message) => NotDelivered::Gone(message),
        })
    }
}

impl<M: Send + 'static> Receiver<M> for futures_mpsc::UnboundedSender<M> {
    fn deliver(&self, message: M) -> Result<(), NotDelivered<M>> {
        self.unbounded_send(message).map_err(|error| NotDelivered::Gone(error.into_inner()))
    }
}

/// Records on their way out of a job. An actix message.
///
/// One that a checkpoint made final is named by its store, job, uid, run, checkpoint and subtask together: no other delivery has the same name, and a repeated
/// one has the same name and the same records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<T> {
    /// The records, in the order in which one writer got them.
    pub records: Vec<T>,
    /// Tells the stores of jobs apart; see [`SinkScope::store`].
    pub store: String,
    /// The job's name.
    pub job: Arc<str>,
    /// The sink's uid.
    pub uid: OperatorUid,
    /// Which writer of the sink.
    pub subtask: u32,
    /// In which run of the job it got them.
    pub run: RunNumber,
    /// The checkpoint that made them final; `None` for those that are delivered at once.
    pub checkpoint: Option<CheckpointId>,
}

impl<T: Send + 'static> Message for Delivery<T> {
    type Result = ();
}

/// A sink that gives records to a [`Receiver`] in the same program.
///
/// [`Deliver::committed`] gives them out when their checkpoint is complete: within a process the receiver *takes* every record once, whatever fails and restarts in
/// the job. Taken is not handled: an actor that stops, or a channel whose end is dropped, with deliveries still waiting in it loses them, and nobody gives
/// them out again in this process. What a checkpoint had prepared is given out again by the next *process*, which cannot know what receivers in the memory of the
/// former one had got; a receiver that keeps things elsewhere tells repeats by the name of a [`Delivery`].
/// [`Deliver::at_once`] does not wait for checkpoints, and repeats records after a failure: *at least once*, as far as the receiver takes them.
///
/// A receiver without room holds the job back. One that is gone fails it: keep it for as long as the job.
///
/// ```
/// use alluvium::connect::{Deliver, Delivery, Generator};
/// use alluvium::{Job, Options};
///
/// let (results, arrived) = std::sync::mpsc::sync_channel::<Delivery<u64>>(100);
/// let job = Job::new("delivers");
/// job.source("numbers", Generator::bounded(3, |index| index)).sink("results", Deliver::committed(results));
/// job.build()?.start(&Options::default())?.wait_blocking()?;
/// assert_eq!(arrived.recv()?.records, [0, 1, 2]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Deliver<T, R> {
    receiver: Arc<R>,
    committed: bool,
    made: Arc<Mutex<BTreeMap<SinkName, Made>>>,
    records: PhantomData<fn(T)>,
}

/// The deliveries of one sink that were made, the last ones.
#[derive(Debug, Default)]
struct Made {
    names: BTreeSet<Name>,
    order: VecDeque<Name>,
}

/// Names what one writer prepared for one checkpoint, among the deliveries of one sink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Name {
    store: String,
    run: RunNumber,
    checkpoint: CheckpointId,
    subtask: u32,
}

/// Records that wait for their checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreparedDelivery<T> {
    name: Name,
    records: Vec<T>,
}

impl<T: Record, R: Receiver<Delivery<T>>> Deliver<T, R> {
    /// Gives records out when a completed checkpoint holds them.
    #[must_use]
    pub fn committed(receiver: R) -> Deliver<T, R> {
        Deliver::new(receiver, true)
    }

    /// Gives records out as they come; after a failure some come again.
    #[must_use]
    pub fn at_once(receiver: R) -> Deliver<T, R> {
        Deliver::new(receiver, false)
    }

    fn new(receiver: R, committed: bool) -> Deliver<T, R> {
        Deliver { receiver: Arc::new(receiver), committed, made: Arc::default(), records: PhantomData }
    }
}

/// Clones deliver to the same receiver; each may be a sink of its own, of one job or of several.
impl<T, R> Clone for Deliver<T, R> {
    fn clone(&self) -> Deliver<T, R> {
        Deliver {
            receiver: Arc::clone(&self.receiver),
            committed: self.committed,
            made: Arc::clone(&self.made),
            records: PhantomData,
        }
    }
}

impl<T, R> fmt::Debug for Deliver<T, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.committed { "Deliver(committed)" } else { "Deliver(at once)" })
    }
}

impl<T: Record, R: Receiver<Delivery<T>>> Sink<T> for Deliver<T, R> {
    type Committable = PreparedDelivery<T>;
    type State = ();
    type Writer = DeliverWriter<T, R>;
    type Committer = DeliverCommitter<T, R>;

    fn guarantee(&self) -> Guarantee {
        if self.committed { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce }
    }

    fn effect(&self) -> Effect {
        Effect::InProcess
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<DeliverWriter<T, R>> {
        Ok(DeliverWriter {
            receiver: Arc::clone(&self.receiver),
            committed: self.committed,
            context,
            records: Vec::new(),
            prepared: BTreeMap::new(),
        })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<DeliverCommitter<T, R>> {
        Ok(DeliverCommitter {
            receiver: Arc::clone(&self.receiver),
            made: Arc::clone(&self.made),
            sink: SinkName::of(&scope),
            fence: scope.fence,
            records: PhantomData,
        })
    }
}

fn gone() -> OperatorError {
    OperatorError::unrecoverable(
        "the receiver of the results is gone (its actor stopped, or its channel was closed): keep it for as long as the job",
    )
}

/// Keeps records for their checkpoint, or gives them out at once.
pub struct DeliverWriter<T, R> {
    receiver: Arc<R>,
    committed: bool,
    context: SinkContext,
    /// Not prepared, or not delivered yet.
    records: Vec<T>,
    prepared: BTreeMap<CheckpointId, Vec<PreparedDelivery<T>>>,
}

impl<T, R> fmt::Debug for DeliverWriter<T, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeliverWriter({} records)", self.records.len())
    }
}

impl<T: Record, R: Receiver<Delivery<T>>> DeliverWriter<T, R> {
    /// Gives out what there is; pending while the receiver is full.
    fn poll_deliver(&mut self) -> Poll<OperatorResult> {
        if self.committed || self.records.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let delivery = Delivery {
            records: std::mem::take(&mut self.records),
            store: self.context.store().to_owned(),
            job: Arc::clone(&self.context.job),
            uid: self.context.uid().clone(),
            subtask: self.context.subtask(),
            run: self.context.run(),
            checkpoint: None,
        };
        match self.receiver.deliver(delivery) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(NotDelivered::Full(delivery)) => {
                self.records = delivery.records;
                self.context.wake_at(self.context.now() + PAUSE);
                Poll::Pending
            }
            Err(NotDelivered::Gone(_)) => Poll::Ready(Err(gone())),
        }
    }
}

impl<T: Record, R: Receiver<Delivery<T>>> SinkWriter<T> for DeliverWriter<T, R> {
    type Committable = PreparedDelivery<T>;
    type State = ();

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<OperatorResult> {
        self.poll_deliver()
    }

    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult {
        self.records.append(&mut slice.records);
        slice.clear();
        // One that is full is asked again before the next slice and before a cut is prepared.
        match self.poll_deliver() {
            Poll::Ready(delivered) => delivered,
            Poll::Pending => Ok(()),
        }
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        if self.committed && !self.records.is_empty() {
            let name = Name {
                store: self.context.store().to_owned(),
                run: self.context.run(),
                checkpoint,
                subtask: self.context.subtask(),
            };
            let records = std::mem::take(&mut self.records);
            self.prepared.insert(checkpoint, vec![PreparedDelivery { name, records }]);
        }
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        _: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<PreparedDelivery<T>>>> {
        match self.poll_deliver() {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(self.prepared.remove(&checkpoint).unwrap_or_default())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

/// Gives out what completed checkpoints hold.
pub struct DeliverCommitter<T, R> {
    receiver: Arc<R>,
    made: Arc<Mutex<BTreeMap<SinkName, Made>>>,
    sink: SinkName,
    fence: Fence,
    records: PhantomData<fn(T)>,
}

impl<T, R> fmt::Debug for DeliverCommitter<T, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeliverCommitter")
    }
}

impl<T: Record, R: Receiver<Delivery<T>>> SinkCommit for DeliverCommitter<T, R> {
    type Committable = PreparedDelivery<T>;
    type State = ();

    fn open(&mut self, _: Option<Vec<()>>) -> OperatorResult {
        Ok(())
    }

    fn commit(&mut self, prepared: PreparedDelivery<T>) -> CommitOutcome {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.entry(self.sink.clone()).or_default();
        if made.names.contains(&prepared.name) {
            return CommitOutcome::AlreadyDone;
        }
        if let Err(fenced) = self.fence.check() {
            return CommitOutcome::Fatal(fenced.into());
        }
        let PreparedDelivery { name, records } = prepared;
        let delivery = Delivery {
            records,
            store: name.store.clone(),
            job: Arc::clone(&self.sink.job),
            uid: self.sink.uid.clone(),
            subtask: name.subtask,
            run: name.run,
            checkpoint: Some(name.checkpoint),
        };
        match self.receiver.deliver(delivery) {
            Ok(()) => {
                made.names.insert(name.clone());
                made.order.push_back(name);
                if made.order.len() > REMEMBERED
                    && let Some(oldest) = made.order.pop_front()
                {
                    made.names.remove(&oldest);
                }
                CommitOutcome::Done
            }
            Err(NotDelivered::Full(_)) => CommitOutcome::RetryAfter(PAUSE),
            Err(NotDelivered::Gone(_)) => CommitOutcome::Fatal(gone()),
        }
    }

    fn clean_up(&mut self) -> OperatorResult {
        Ok(())
    }
}
