//! A source that is pushed into: the program hands records to the job one by one, and can wait until a completed checkpoint covers each.
//!
//! Nobody can ask a program to say a thing again, so this source cannot replay. What it promises is therefore told record by record, by a [`Receipt`].

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use alluvium_actors::ids::CheckpointId;
use futures::channel::oneshot;

use super::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;

/// A source whose records the program pushes; see [`Pusher`].
///
/// What is promised: a record whose [`Receipt`] answered `Ok` is covered by a completed checkpoint, and its effects are exactly those of one record. A record whose
/// receipt answered [`NotCovered`] may or may not have had an effect; pushed again, it has at least one. So pushes that wait for
/// their receipts and repeat what failed are processed *at least once*, those that do not are processed *at most once* from the last checkpoint before a failure on.
/// (With a key of its own in every record, a keyed operator that remembers the keys makes exactly once of it.)
///
/// Records keep the order of their pushes. They are read by the first subtask of the source alone: give it a parallelism of 1, and
/// [rebalance](crate::Stream::rebalance) or key the stream to use more.
///
/// ```
/// use alluvium::connect::{Collect, Push};
/// use alluvium::{Job, Options};
///
/// let (pusher, pushed) = Push::<u64>::channel(1_000);
/// let kept = Collect::new();
/// let job = Job::new("pushed");
/// job.source("numbers", pushed).map(|number| number * 2).sink("kept", kept.clone());
/// let options = Options::default().checkpoint_every(std::time::Duration::from_millis(20));
/// let handle = job.build()?.start(&options)?;
/// futures::executor::block_on(async {
///     let receipt = pusher.push(21).await?;
///     // Resolves when a completed checkpoint covers the record.
///     receipt.await?;
///     pusher.close();
///     handle.wait().await?;
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// assert_eq!(kept.collected(), [42]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Push<T> {
    queue: Arc<Queue<T>>,
}

/// Pushes records into the job that reads its [`Push`]. Clones push into the same one. Dropping all of them does not end the job; [`Pusher::close`] does.
///
/// Until the job runs, and while it restarts, records wait in the queue; they are in memory and end with the process.
pub struct Pusher<T> {
    queue: Arc<Queue<T>>,
}

/// What becomes of a pushed record: resolves when a completed checkpoint covers it. Not waiting for it costs nothing. A record that waits when its job ends waits
/// for the next start of the same graph.
#[must_use = "without its receipt nobody knows whether a record survived a failure: await it, or drop it on purpose"]
#[derive(Debug)]
pub struct Receipt {
    fate: oneshot::Receiver<Result<(), NotCovered>>,
}

/// No completed checkpoint covers the record, and none will: push it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCovered {
    /// The attempt that took the record ended before a completed checkpoint was known to cover it.
    #[error("the attempt that took the record ended before a checkpoint covered it: push it again")]
    AttemptEnded,
    /// Nobody reads the source any more: the job and its graph are gone.
    #[error("the record was never taken, and its source is gone: push it into the next start of the job")]
    SourceGone,
}

/// A record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError<T> {
    /// The queue is full: the job cannot keep up, or does not run. (A web service answers 503.)
    #[error("the queue of the source is full: try again later")]
    Full(T),
    /// The source takes no more records: it was closed, or the job and its graph are gone.
    #[error("the source takes no more records: it was closed, or its job is gone")]
    Closed(T),
}

impl<T> PushError<T> {
    /// The record.
    pub fn into_record(self) -> T {
        match self {
            PushError::Full(record) | PushError::Closed(record) => record,
        }
    }
}

struct Queue<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    waiting: VecDeque<(T, Fate)>,
    /// No more records are taken.
    closed: bool,
    /// A first reader is there.
    read: bool,
    /// Those who wait for room, by the number of their push.
    pushers: BTreeMap<u64, Waker>,
    /// The number of the next push that waits.
    next_pusher: u64,
    /// Those who wait for records, by their index.
    readers: BTreeMap<u32, Waker>,
}

/// The other end of a receipt.
type Fate = oneshot::Sender<Result<(), NotCovered>>;

impl<T> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_push(&self, record: T) -> Result<Receipt, PushError<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed(record));
        }
        if state.waiting.len() >= self.capacity {
            return Err(PushError::Full(record));
        }
        let (fate, receipt) = oneshot::channel();
        state.waiting.push_back((record, fate));
        let waker = state.readers.remove(&0);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(Receipt { fate: receipt })
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let pushers = std::mem::take(&mut state.pushers);
        let readers = std::mem::take(&mut state.readers);
        drop(state);
        pushers.into_values().chain(readers.into_values()).for_each(Waker::wake);
    }
}

impl<T> Push<T> {
    /// A source, and what pushes into it. At most `capacity` records (at least one) wait to be read.
    #[must_use]
    pub fn channel(capacity: usize) -> (Pusher<T>, Push<T>) {
        let state = State {
            waiting: VecDeque::new(),
            closed: false,
            read: false,
            pushers: BTreeMap::new(),
            next_pusher: 0,
            readers: BTreeMap::new(),
        };
        let queue = Arc::new(Queue { capacity: capacity.max(1), state: Mutex::new(state) });
        (Pusher { queue: Arc::clone(&queue) }, Push { queue })
    }
}

/// The recipe is gone, and every job that had it: nobody will read what waits.
impl<T> Drop for Push<T> {
    fn drop(&mut self) {
        self.queue.close();
        let waiting = std::mem::take(&mut self.queue.state().waiting);
        for (_, fate) in waiting {
            let _ = fate.send(Err(NotCovered::SourceGone));
        }
    }
}

impl<T> fmt::Debug for Push<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Push(capacity {})", self.queue.capacity)
    }
}

impl<T> Pusher<T> {
    /// Pushes a record, if there is room.
    ///
    /// # Errors
    /// When the queue is full or the source takes no more records; the record is given back.
    pub fn try_push(&self, record: T) -> Result<Receipt, PushError<T>> {
        self.queue.try_push(record)
    }

    /// Pushes a record, and waits for room first. Dropped before it resolves, it has pushed nothing.
    pub fn push(&self, record: T) -> Pushing<'_, T> {
        Pushing { queue: &self.queue, record: Some(record), waits: None }
    }

    /// Says that no record follows: the job reads what waits, takes its final checkpoint and *finishes*. A finished job does not read again at its next start;
    /// to go on another time, [stop](crate::JobHandle::stop) the job instead.
    pub fn close(&self) {
        self.queue.close();
    }

    /// How many records wait to be read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.state().waiting.len()
    }

    /// How many may wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.queue.capacity
    }
}

impl<T> Clone for Pusher<T> {
    fn clone(&self) -> Pusher<T> {
        Pusher { queue: Arc::clone(&self.queue) }
    }
}

impl<T> fmt::Debug for Pusher<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pusher({} of {} waiting)", self.waiting(), self.queue.capacity)
    }
}

/// See [`Pusher::push`]. Works on any runtime.
#[must_use = "a push does nothing until it is awaited"]
#[derive(Debug)]
pub struct Pushing<'a, T> {
    queue: &'a Queue<T>,
    record: Option<T>,
    /// Under which number its waker is kept.
    waits: Option<u64>,
}

/// One that is given up leaves no waker behind: whoever gives up after a while and tries again would leave one each time.
impl<T> Drop for Pushing<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.waits {
            self.queue.state().pushers.remove(&number);
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Queue(capacity {})", self.capacity)
    }
}

/// The record is only moved.
impl<T> Unpin for Pushing<'_, T> {}

impl<T> Future for Pushing<'_, T> {
    type Output = Result<Receipt, PushError<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut record = self.record.take().expect("polled after it was ready");
        let queue = self.queue;
        loop {
            record = match self.queue.try_push(record) {
                Err(PushError::Full(record)) => record,
                outcome => return Poll::Ready(outcome),
            };
            let mut state = queue.state();
            // It may have room again: look once more, now that nobody can come between.
            if !state.closed && state.waiting.len() >= self.queue.capacity {
                let number = *self.waits.get_or_insert(state.next_pusher);
                state.next_pusher = state.next_pusher.max(number + 1);
                state.pushers.insert(number, context.waker().clone());
                drop(state);
                self.record = Some(record);
                return Poll::Pending;
            }
        }
    }
}

impl Future for Receipt {
    type Output = Result<(), NotCovered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Whoever took the record and vanished has not covered it.
        Pin::new(&mut self.fate).poll(context).map(|fate| fate.unwrap_or(Err(NotCovered::AttemptEnded)))
    }
}

impl<T: Record> Source for Push<T> {
    type Record = T;
    type Split = ();
    type Enumerator = PushEnumerator;
    type Reader = PushReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn replay(&self) -> Replay {
        Replay::ByTheProgram
    }

    fn enumerator(&self, _: SourceContext) -> OperatorResult<PushEnumerator> {
        Ok(PushEnumerator)
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<PushReader<T>> {
        let index = context.reader();
        if index == 0 && std::mem::replace(&mut self.queue.state().read, true) {
            return Err(OperatorError::unrecoverable(
                "another job reads this push source already: make a channel for each job",
            ));
        }
        Ok(PushReader {
            queue: Arc::clone(&self.queue),
            index,
            taken: VecDeque::new(),
            first: 0,
            cuts: BTreeMap::new(),
        })
    }
}

/// There is nothing to assign.
#[derive(Debug)]
pub struct PushEnumerator;

impl SourceEnumerator for PushEnumerator {
    type Split = ();
    type State = ();

    fn restore(&mut self, (): ()) -> OperatorResult {
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) {}

    fn poll(&mut self, _: &mut Context<'_>, _: &mut SplitAssigner<()>) -> OperatorResult {
        Ok(())
    }

    fn reader_registered(&mut self, _: u32, _: Vec<()>, _: &mut SplitAssigner<()>) -> OperatorResult {
        Ok(())
    }

    fn split_requested(&mut self, _: u32, _: &mut SplitAssigner<()>) -> OperatorResult {
        Ok(())
    }
}

/// Reads the queue if it is the first one, and only waits for the end otherwise.
pub struct PushReader<T> {
    queue: Arc<Queue<T>>,
    index: u32,
    /// What was taken and no completed checkpoint covers, oldest first.
    taken: VecDeque<Taken>,
    /// The number of the record at the front of `taken`.
    first: u64,
    /// Cuts whose checkpoints are not resolved, each with the number of the first record behind it.
    cuts: BTreeMap<CheckpointId, u64>,
}

/// Records that were taken.
enum Taken {
    /// One that somebody waits for.
    Watched(Fate),
    /// So many that nobody waits for.
    Unwatched(u64),
}

impl<T> PushReader<T> {
    fn end_of_taken(&self) -> u64 {
        self.first + self.taken.iter().map(Taken::len).sum::<u64>()
    }

    fn take(&mut self, fate: Fate) {
        if !fate.is_canceled() {
            self.taken.push_back(Taken::Watched(fate));
        } else if let Some(Taken::Unwatched(count)) = self.taken.back_mut() {
            *count += 1;
        } else {
            self.taken.push_back(Taken::Unwatched(1));
        }
    }

    /// A completed checkpoint covers what stands before this number.
    fn covered(&mut self, end: u64) {
        while self.first < end {
            match self.taken.pop_front() {
                Some(Taken::Watched(fate)) => {
                    self.first += 1;
                    let _ = fate.send(Ok(()));
                }
                Some(Taken::Unwatched(count)) => {
                    let covered = count.min(end - self.first);
                    self.first += covered;
                    if covered < count {
                        self.taken.push_front(Taken::Unwatched(count - covered));
                    }
                }
                None => break,
            }
        }
    }
}

impl Taken {
    fn len(&self) -> u64 {
        match self {
            Taken::Watched(_) => 1,
            Taken::Unwatched(count) => *count,
        }
    }
}

impl<T: Record> SourceReader for PushReader<T> {
    type Record = T;
    type Split = ();

    fn add_splits(&mut self, _: Vec<()>) -> OperatorResult {
        Ok(())
    }

    fn no_more_splits(&mut self) {}

    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        output: &mut ReaderOutput<'_, T>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        let queue = Arc::clone(&self.queue);
        let mut state = queue.state();
        if self.index > 0 || state.waiting.is_empty() {
            if state.closed {
                return Poll::Ready(Ok(ReaderStatus::Ended));
            }
            state.readers.insert(self.index, context.waker().clone());
            return Poll::Pending;
        }
        let count = output.budget().min(state.waiting.len());
        for (record, fate) in state.waiting.drain(..count) {
            output.emit(record);
            self.take(fate);
        }
        let pushers = std::mem::take(&mut state.pushers);
        drop(state);
        pushers.into_values().for_each(Waker::wake);
        Poll::Ready(Ok(ReaderStatus::More))
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> Vec<()> {
        self.cuts.insert(checkpoint, self.end_of_taken());
        Vec::new()
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        Vec::new()
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        let later = self.cuts.split_off(&CheckpointId(checkpoint.0 + 1));
        let resolved = std::mem::replace(&mut self.cuts, later);
        if let Some(end) = resolved.get(&checkpoint) {
            self.covered(*end);
        }
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.cuts.remove(&checkpoint);
    }
}

/// The attempt is over: what it took and no completed checkpoint covers is lost with it.
impl<T> Drop for PushReader<T> {
    fn drop(&mut self) {
        for taken in std::mem::take(&mut self.taken) {
            if let Taken::Watched(fate) = taken {
                let _ = fate.send(Err(NotCovered::AttemptEnded));
            }
        }
        let mut state = self.queue.state();
        state.readers.remove(&self.index);
        if self.index == 0 {
            state.read = false;
        }
    }
}

impl<T> fmt::Debug for PushReader<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PushReader({}, {} not covered)", self.index, self.end_of_taken() - self.first)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_push_that_is_given_up_leaves_no_waker_behind() {
        let (pusher, _pushed) = Push::channel(1);
        let _receipt = pusher.try_push(0_u32).unwrap();
        let mut patient = pusher.push(1);
        for _ in 0..3 {
            assert!((&mut patient).now_or_never().is_none());
            let mut given_up = pusher.push(2);
            assert!((&mut given_up).now_or_never().is_none());
            assert_eq!(pusher.queue.state().pushers.len(), 2);
            drop(given_up);
            assert_eq!(pusher.queue.state().pushers.len(), 1);
        }
        drop(patient);
        assert!(pusher.queue.state().pushers.is_empty());
    }
}
