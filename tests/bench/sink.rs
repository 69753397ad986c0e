//! The sink of the benchmark jobs: counts, sums, and notes the gaps between outputs. Holds nothing and commits nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkScope, SinkWriter};
use alluvium::record::batch::Slice;
use alluvium::{OperatorResult, record::Record};

/// Shorter gaps are not kept, in nanoseconds.
const SHORTEST_GAP: u64 = 50_000;

/// What the sink saw, over all its subtasks.
#[derive(Debug)]
pub struct Seen {
    began: Instant,
    pub records: AtomicU64,
    pub sum: AtomicU64,
    /// Each gap as (subtask, begin, end) in nanoseconds since the start.
    pub gaps: Mutex<Vec<(u32, u64, u64)>>,
    target: u64,
    /// When the record with number `target` arrived, in nanoseconds since the start; 0 before.
    pub reached: AtomicU64,
}

impl Seen {
    pub fn new(target: u64) -> Arc<Seen> {
        Arc::new(Seen {
            began: Instant::now(),
            records: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            gaps: Mutex::default(),
            target,
            reached: AtomicU64::new(0),
        })
    }

    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
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
        Ok(CountingWriter { last: seen.now(), seen, number, subtask: context.subtask() })
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
        self.seen.sum.fetch_add(sum, Ordering::Relaxed);
        let before = self.seen.records.fetch_add(count, Ordering::Relaxed);
        let now = self.seen.now();
        if before < self.seen.target && before + count >= self.seen.target {
            self.seen.reached.store(now, Ordering::Release);
        }
        if now - self.last > SHORTEST_GAP {
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
