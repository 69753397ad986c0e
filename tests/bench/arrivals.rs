//! A source for recovery: a log that grows at a rate of its own, whatever becomes of the job, and is read as fast as the job can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use alluvium::connect::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use alluvium::{CheckpointId, OperatorResult};
use serde::{Deserialize, Serialize};

/// How long a reader that has read everything waits for more.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Nanoseconds of a clock that all processes share.
pub fn clock() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// How far the log goes by now. Without a rate it has no end.
#[derive(Debug, Default)]
pub struct Growth {
    /// Records per second; 0 for no end.
    rate: AtomicU64,
    /// When the log ended at the index `from`.
    since: AtomicU64,
    from: AtomicU64,
}

impl Growth {
    /// From now on the log grows at this rate, from this index at that time on.
    pub fn begin(&self, rate: u64, since: u64, from: u64) {
        self.since.store(since, Ordering::Relaxed);
        self.from.store(from, Ordering::Relaxed);
        self.rate.store(rate, Ordering::Release);
    }

    /// Rate, time and index that it was begun with.
    pub fn as_begun(&self) -> (u64, u64, u64) {
        let rate = self.rate.load(Ordering::Acquire);
        (rate, self.since.load(Ordering::Relaxed), self.from.load(Ordering::Relaxed))
    }

    /// The first index that is not there yet.
    fn end(&self) -> u64 {
        match self.as_begun() {
            (0, ..) => u64::MAX,
            (rate, since, from) => {
                let grown = u128::from(clock().saturating_sub(since)) * u128::from(rate) / 1_000_000_000;
                from.saturating_add(grown as u64)
            }
        }
    }
}

/// The log, as many splits as there are readers.
pub struct Arrivals<F> {
    pub growth: Arc<Growth>,
    pub produce: F,
}

/// The indices `number`, `number + of` and so on, from `next` on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Part {
    of: u64,
    next: u64,
}

impl<T, F> Source for Arrivals<F>
where
    T: alluvium::record::Record,
    F: Fn(u64) -> T + Clone + Send + Sync + 'static,
{
    type Record = T;
    type Split = Part;
    type Enumerator = Parts;
    type Reader = Reader<F>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn replay(&self) -> Replay {
        Replay::FromStoredPosition
    }

    fn enumerator(&self, context: SourceContext) -> OperatorResult<Parts> {
        Ok(Parts { waiting: vec![true; context.parallelism() as usize] })
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<Reader<F>> {
        let (growth, produce) = (Arc::clone(&self.growth), self.produce.clone());
        Ok(Reader { growth, produce, context, part: None, end: 0 })
    }
}

pub struct Parts {
    /// Which parts are not given out.
    waiting: Vec<bool>,
}

impl SourceEnumerator for Parts {
    type Split = Part;
    type State = Vec<bool>;

    fn restore(&mut self, state: Vec<bool>) -> OperatorResult {
        self.waiting = state;
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<bool> {
        self.waiting.clone()
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &mut SplitAssigner<Part>) -> OperatorResult {
        Ok(())
    }

    fn reader_registered(&mut self, reader: u32, _: Vec<Part>, assigner: &mut SplitAssigner<Part>) -> OperatorResult {
        let of = self.waiting.len() as u64;
        if std::mem::take(&mut self.waiting[reader as usize]) {
            assigner.assign(reader, vec![Part { of, next: u64::from(reader) }]);
        }
        Ok(())
    }

    fn split_requested(&mut self, _: u32, _: &mut SplitAssigner<Part>) -> OperatorResult {
        Ok(())
    }
}

pub struct Reader<F> {
    growth: Arc<Growth>,
    produce: F,
    context: SourceContext,
    part: Option<Part>,
    /// The end of the log when it was looked at last.
    end: u64,
}

impl<T, F> SourceReader for Reader<F>
where
    T: alluvium::record::Record,
    F: Fn(u64) -> T + 'static,
{
    type Record = T;
    type Split = Part;

    fn add_splits(&mut self, splits: Vec<Part>) -> OperatorResult {
        self.part = splits.first().copied();
        Ok(())
    }

    fn no_more_splits(&mut self) {}

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        output: &mut ReaderOutput<'_, T>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        let Some(part) = &mut self.part else { return Poll::Pending };
        // A log without an end gets one: from then on it has to be looked at.
        if part.next >= self.end || self.end == u64::MAX {
            self.end = self.growth.end();
        }
        let there = self.end.saturating_sub(part.next).div_ceil(part.of);
        let count = there.min(output.budget() as u64);
        if count == 0 {
            self.context.wake_at(self.context.now() + LOOK_AGAIN);
            return Poll::Pending;
        }
        let (next, of) = (part.next, part.of);
        let produce = &self.produce;
        output.emit_all((0..count as usize).map(|number| produce(next + number as u64 * of)));
        part.next += count * of;
        Poll::Ready(Ok(ReaderStatus::More))
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<Part> {
        self.part.into_iter().collect()
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        Vec::new()
    }
}
