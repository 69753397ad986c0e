//! The sink of the benchmark jobs: counts, sums, and notes the gaps between outputs. Holds nothing and commits nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkScope, SinkWriter};
use alluvium::record::batch::Slice;
use alluvium::{OperatorResult, record::Record};

/// Shorter gaps are not kept, in nanoseconds.
const SHORTEST_GAP: u64 = 50_000;

/// How many subtasks a benchmark may have.
pub const MAX_SUBTASKS: usize = 64;

/// What one subtask counted. Two cache lines of its own, so that subtasks do not slow each other down (and the prefetcher, which takes
/// lines in pairs, does not either).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counter {
    records: AtomicU64,
    sum: AtomicU64,
}

/// What the sink saw, over all its subtasks.
pub struct Seen {
    began: Instant,
    counters: Vec<Counter>,
    /// Each gap as (subtask, begin, end) in nanoseconds since the start.
    pub gaps: Mutex<Vec<(u32, u64, u64)>>,
    target: u64,
    /// When the record with number `target` arrived, in nanoseconds since the start; 0 before.
    pub reached: AtomicU64,
    on_reached: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Seen {
    pub fn new(target: u64) -> Arc<Seen> {
        Arc::new(Seen {
            began: Instant::now(),
            counters: (0..MAX_SUBTASKS).map(|_| Counter::default()).collect(),
            gaps: Mutex::default(),
            target,
            reached: AtomicU64::new(0),
            on_reached: OnceLock::new(),
        })
    }

    /// Calls this on the sink's thread when record number `target` has arrived. To be set before the job starts.
    pub fn on_reached(&self, call: Box<dyn Fn() + Send + Sync>) {
        assert!(self.on_reached.set(call).is_ok(), "set twice");
    }

    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// The number of records that arrived so far.
    pub fn records(&self) -> u64 {
        self.counters.iter().map(|counter| counter.records.load(Ordering::Relaxed)).sum()
    }

    /// The wrapping sum of the numbers that arrived so far.
    pub fn sum(&self) -> u64 {
        self.counters.iter().fold(0, |sum, counter| sum.wrapping_add(counter.sum.load(Ordering::Relaxed)))
    }
}

/// A sink that sums one number of each record.
pub struct Counting<F> {
    pub seen: Arc<Seen>,
    pub number: F,
}

pub struct CountingWriter<F> {
    seen: Arc<Seen>,
    number: F,
    subtask: u32,
    /// When the last slice came; 0 before the first one.
    last: u64,
}

pub struct NoCommits;

impl<T: Record, F: Fn(&T) -> u64 + Clone + Send + Sync + 'static> Sink<T> for Counting<F> {
    type Committable = ();
    type State = ();
    type Writer = CountingWriter<F>;
    type Committer = NoCommits;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<CountingWriter<F>> {
        let (seen, number) = (Arc::clone(&self.seen), self.number.clone());
        Ok(CountingWriter { last: 0, seen, number, subtask: context.subtask() })
    }

    fn committer(&self, _scope: SinkScope) -> OperatorResult<NoCommits> {
        Ok(NoCommits)
    }
}

impl<T: Record, F: Fn(&T) -> u64 + 'static> SinkWriter<T> for CountingWriter<F> {
    type Committable = ();
    type State = ();

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<T>) -> OperatorResult {
        let sum = slice.records.iter().fold(0_u64, |sum, record| sum.wrapping_add((self.number)(record)));
        let count = slice.records.len() as u64;
        slice.clear();
        // Only this subtask writes here.
        let counter = &self.seen.counters[self.subtask as usize];
        counter.sum.store(counter.sum.load(Ordering::Relaxed).wrapping_add(sum), Ordering::Relaxed);
        counter.records.store(counter.records.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        let now = self.seen.now();
        if self.seen.reached.load(Ordering::Relaxed) == 0 && self.seen.records() >= self.seen.target {
            self.seen.reached.store(now.max(1), Ordering::Release);
            if let Some(call) = self.seen.on_reached.get() {
                call();
            }
        }
        if self.last > 0 && now - self.last > SHORTEST_GAP {
            self.seen.gaps.lock().expect("a writer panicked").push((self.subtask, self.last, now));
        }
        self.last = now;
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: alluvium::CheckpointId) -> OperatorResult {
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        _checkpoint: alluvium::CheckpointId,
        _context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<()>>> {
        Poll::Ready(Ok(Vec::new()))
    }

    fn snapshot(&mut self, _checkpoint: alluvium::CheckpointId) {}
}

impl SinkCommit for NoCommits {
    type Committable = ();
    type State = ();

    fn open(&mut self, _restored: Option<Vec<()>>) -> OperatorResult {
        Ok(())
    }

    fn commit(&mut self, (): ()) -> CommitOutcome {
        CommitOutcome::Done
    }

    fn clean_up(&mut self) -> OperatorResult {
        Ok(())
    }
}
