//! Records made inside the process: by a function of their index, or from a list. Replayable by position.
//!
//! Split `s` of `n` owns the indices `s`, `s + n`, `s + 2n` and so on, and goes to reader `s` modulo the number of readers. The number of splits is
//! fixed at the first start and stored, so that the parallelism may change later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::CheckpointId;
use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;

/// Makes the record of an index: every time the same. Implemented for functions.
pub trait Produce: Clone + Send + Sync + 'static {
    /// What it makes.
    type Record: Record;

    /// The record of this index.
    fn produce(&self, index: u64) -> Self::Record;
}

impl<T: Record, F: Fn(u64) -> T + Clone + Send + Sync + 'static> Produce for F {
    type Record = T;

    #[inline(always)]
    fn produce(&self, index: u64) -> T {
        self(index)
    }
}

/// A list of records, as [`Items`] reads it.
#[derive(Debug)]
pub struct List<T>(Arc<[T]>);

impl<T> Clone for List<T> {
    fn clone(&self) -> List<T> {
        List(Arc::clone(&self.0))
    }
}

impl<T: Record + Sync> Produce for List<T> {
    type Record = T;

    fn produce(&self, index: u64) -> T {
        self.0[index as usize].clone()
    }
}

/// A source that makes its records by a function of their index: the same index gives the same record, so that a restart replays them.
///
/// ```
/// use alluvium::connect::Generator;
///
/// let numbers = Generator::bounded(1_000_000, |index| index * 2).splits(4).rate(50_000);
/// # let _ = numbers;
/// ```
#[derive(Clone, Debug)]
pub struct Generator<P> {
    produce: P,
    /// The indices end here, exclusive.
    end: Option<u64>,
    splits: Option<u32>,
    rate: Option<u64>,
}

/// A source that emits the elements of a list, in order unless it is given several splits.
///
/// ```
/// use alluvium::connect::Items;
///
/// let words = Items::new(vec!["to".to_owned(), "be".to_owned()]);
/// # let _ = words;
/// ```
pub type Items<T> = Generator<List<T>>;

impl<T: Record, F: Fn(u64) -> T + Clone + Send + Sync + 'static> Generator<F> {
    /// Emits the records of the indices 0 to `count`, exclusive.
    #[must_use]
    pub fn bounded(count: u64, produce: F) -> Generator<F> {
        Generator { produce, end: Some(count), splits: None, rate: None }
    }

    /// Emits the records of the indices from 0 on, without an end.
    #[must_use]
    pub fn unbounded(produce: F) -> Generator<F> {
        Generator { produce, end: None, splits: None, rate: None }
    }
}

impl<T: Record + Sync> Generator<List<T>> {
    /// Emits these records; one split, until [`Generator::splits`] says otherwise.
    #[must_use]
    pub fn new(items: Vec<T>) -> Items<T> {
        Generator { end: Some(items.len() as u64), produce: List(items.into()), splits: Some(1), rate: None }
    }
}

impl<P> Generator<P> {
    /// The number of splits, at least 1. Without it: as many as there are readers at the first start.
    #[must_use]
    pub fn splits(self, splits: u32) -> Generator<P> {
        Generator { splits: Some(splits), ..self }
    }

    /// At most so many records per second, at least 1, over all readers together.
    #[must_use]
    pub fn rate(self, records_per_second: u64) -> Generator<P> {
        Generator { rate: Some(records_per_second), ..self }
    }
}

/// A part of the indices, with the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratorSplit {
    /// Its number, and its first index.
    number: u64,
    /// How many splits there are: the distance of its indices.
    of: u64,
    /// The next index.
    next: u64,
}

impl GeneratorSplit {
    fn remaining(&self, end: u64) -> u64 {
        if self.next >= end { 0 } else { (end - 1 - self.next) / self.of + 1 }
    }
}

impl<P: Produce> Source for Generator<P> {
    type Record = P::Record;
    type Split = GeneratorSplit;
    type Enumerator = GeneratorEnumerator;
    type Reader = GeneratorReader<P>;

    fn boundedness(&self) -> Boundedness {
        if self.end.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn replay(&self) -> Replay {
        Replay::FromStoredPosition
    }

    fn enumerator(&self, context: SourceContext) -> OperatorResult<GeneratorEnumerator> {
        if self.rate == Some(0) {
            return Err(OperatorError::unrecoverable("a rate of 0 records per second: give at least 1, or none"));
        }
        let splits = u64::from(self.splits.unwrap_or(context.parallelism()));
        if splits == 0 {
            return Err(OperatorError::unrecoverable("a source with 0 splits: give at least 1"));
        }
        let waiting = (0..splits).map(|number| GeneratorSplit { number, of: splits, next: number }).collect();
        Ok(GeneratorEnumerator { waiting, readers: u64::from(context.parallelism()) })
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<GeneratorReader<P>> {
        Ok(GeneratorReader {
            produce: self.produce.clone(),
            end: self.end.unwrap_or(u64::MAX),
            rate: self.rate,
            context,
            splits: VecDeque::new(),
            no_more: false,
            requests: Vec::new(),
        })
    }
}

/// Gives each reader its splits when it registers.
#[derive(Debug)]
pub struct GeneratorEnumerator {
    waiting: Vec<GeneratorSplit>,
    readers: u64,
}

impl SourceEnumerator for GeneratorEnumerator {
    type Split = GeneratorSplit;
    type State = Vec<GeneratorSplit>;

    fn restore(&mut self, state: Vec<GeneratorSplit>) -> OperatorResult {
        self.waiting = state;
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<GeneratorSplit> {
        self.waiting.clone()
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &mut SplitAssigner<GeneratorSplit>) -> OperatorResult {
        Ok(())
    }

    fn reader_registered(
        &mut self,
        reader: u32,
        _: Vec<GeneratorSplit>,
        assigner: &mut SplitAssigner<GeneratorSplit>,
    ) -> OperatorResult {
        let readers = self.readers.max(1);
        let (mine, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|split| split.number % readers == u64::from(reader));
        self.waiting = rest;
        if !mine.is_empty() {
            assigner.assign(reader, mine);
        }
        assigner.no_more_splits(reader);
        Ok(())
    }

    fn split_requested(&mut self, _: u32, _: &mut SplitAssigner<GeneratorSplit>) -> OperatorResult {
        Ok(())
    }
}

/// Emits the records of its splits, a slice of each in turn.
#[derive(Debug)]
pub struct GeneratorReader<P> {
    produce: P,
    end: u64,
    rate: Option<u64>,
    context: SourceContext,
    splits: VecDeque<Active>,
    no_more: bool,
    requests: Vec<ReaderRequest>,
}

#[derive(Debug)]
struct Active {
    split: GeneratorSplit,
    pace: Option<Pace>,
}

impl<P: Produce> SourceReader for GeneratorReader<P> {
    type Record = P::Record;
    type Split = GeneratorSplit;

    fn add_splits(&mut self, splits: Vec<GeneratorSplit>) -> OperatorResult {
        for split in splits {
            if split.of == 0 || split.next > self.end.saturating_add(split.of) {
                return Err(OperatorError::unrecoverable(format!(
                    "the source was at index {} and now has only {} records: give it the former records, or begin anew",
                    split.next, self.end
                )));
            }
            let pace = self.rate.map(|rate| Pace::new(rate, 1, split.of));
            self.splits.push_back(Active { split, pace });
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        output: &mut ReaderOutput<'_, P::Record>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        let mut wake = None;
        for _ in 0..self.splits.len() {
            let Some(mut active) = self.splits.pop_front() else { break };
            let remaining = active.split.remaining(self.end);
            let mut count = remaining.min(output.budget() as u64) as usize;
            if let Some(pace) = active.pace.as_mut().filter(|_| count > 0) {
                match pace.take(self.context.now(), count) {
                    Ok(due) => count = due,
                    Err(moment) => {
                        wake = Some(wake.map_or(moment, |earlier| moment.min(earlier)));
                        self.splits.push_back(active);
                        continue;
                    }
                }
            }
            let (first, step) = (active.split.next, active.split.of);
            let produce = &self.produce;
            output.emit_all((0..count).map(|position| produce.produce(first + position as u64 * step)));
            active.split.next += count as u64 * step;
            if count as u64 == remaining {
                let split = format!("{} of {step}", active.split.number);
                self.requests.push(ReaderRequest::Finished { split });
            } else {
                self.splits.push_back(active);
            }
            return Poll::Ready(Ok(ReaderStatus::More));
        }
        if self.splits.is_empty() && self.no_more {
            return Poll::Ready(Ok(ReaderStatus::Ended));
        }
        if let Some(moment) = wake {
            self.context.wake_at(moment);
        }
        Poll::Pending
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<GeneratorSplit> {
        // By number: the order in which they take turns is not state.
        let mut splits: Vec<_> = self.splits.iter().map(|active| active.split).collect();
        splits.sort_by_key(|split| split.number);
        splits
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        std::mem::take(&mut self.requests)
    }
}
