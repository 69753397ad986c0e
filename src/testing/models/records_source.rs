//! The source that reads a log of known records, through the public traits.

use std::collections::BTreeSet;
use std::fmt;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, Moment};
use serde::{Deserialize, Serialize};

use super::records::{Records, Schedule};
use crate::connect::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;

/// A part of the log, with the next index. One that was read to its end stays with its reader, so that a checkpoint has a place in every split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsSplit {
    /// Its number, and its first index.
    number: u64,
    /// The distance of its indices.
    of: u64,
    /// The next index.
    next: u64,
}

impl<T: Record> Source for Records<T> {
    type Record = T;
    type Split = RecordsSplit;
    type Enumerator = RecordsEnumerator<T>;
    type Reader = RecordsReader<T>;

    fn boundedness(&self) -> Boundedness {
        if self.end().is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn replay(&self) -> Replay {
        Replay::FromStoredPosition
    }

    fn enumerator(&self, context: SourceContext) -> OperatorResult<RecordsEnumerator<T>> {
        let of = self.begin(context.parallelism());
        let waiting = (0..of).map(|number| RecordsSplit { number, of, next: number }).collect();
        Ok(RecordsEnumerator { records: self.clone(), context, waiting, registered: BTreeSet::new() })
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<RecordsReader<T>> {
        Ok(RecordsReader {
            end: self.end().unwrap_or(u64::MAX),
            schedule: self.schedule(),
            records: self.clone(),
            context,
            splits: Vec::new(),
            turn: 0,
            no_more: false,
            requests: Vec::new(),
        })
    }
}

/// Gives each reader its splits, when they have appeared.
pub struct RecordsEnumerator<T> {
    records: Records<T>,
    context: SourceContext,
    waiting: Vec<RecordsSplit>,
    /// Readers that are there and were not told that no more splits come.
    registered: BTreeSet<u64>,
}

impl<T> fmt::Debug for RecordsEnumerator<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecordsEnumerator({:?}, {} splits wait)", self.records, self.waiting.len())
    }
}

impl<T: Record> RecordsEnumerator<T> {
    fn assign(&mut self, assigner: &mut SplitAssigner<RecordsSplit>) {
        let readers = u64::from(self.context.parallelism()).max(1);
        let now = self.context.now();
        let mut next: Option<Moment> = None;
        let waiting = std::mem::take(&mut self.waiting);
        for split in waiting {
            let (reader, appears) = (split.number % readers, self.records.appears(split.number));
            if appears > now {
                next = Some(next.map_or(appears, |earlier| earlier.min(appears)));
            } else if self.registered.contains(&reader) {
                assigner.assign(reader as u32, vec![split]);
                continue;
            }
            self.waiting.push(split);
        }
        let waiting = &self.waiting;
        self.registered.retain(|reader| {
            let more = waiting.iter().any(|split| split.number % readers == *reader);
            if !more {
                assigner.no_more_splits(*reader as u32);
            }
            more
        });
        if let Some(next) = next {
            self.context.wake_at(next);
        }
    }
}

impl<T: Record> SourceEnumerator for RecordsEnumerator<T> {
    type Split = RecordsSplit;
    type State = Vec<RecordsSplit>;

    fn restore(&mut self, state: Vec<RecordsSplit>) -> OperatorResult {
        self.waiting = state;
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<RecordsSplit> {
        self.waiting.clone()
    }

    fn poll(&mut self, _: &mut Context<'_>, assigner: &mut SplitAssigner<RecordsSplit>) -> OperatorResult {
        self.assign(assigner);
        Ok(())
    }

    fn reader_registered(
        &mut self,
        reader: u32,
        _: Vec<RecordsSplit>,
        assigner: &mut SplitAssigner<RecordsSplit>,
    ) -> OperatorResult {
        self.registered.insert(u64::from(reader));
        self.assign(assigner);
        Ok(())
    }

    fn split_requested(&mut self, _: u32, _: &mut SplitAssigner<RecordsSplit>) -> OperatorResult {
        Ok(())
    }
}

/// Reads splits, a slice of each in turn.
pub struct RecordsReader<T> {
    records: Records<T>,
    end: u64,
    schedule: Schedule,
    context: SourceContext,
    splits: Vec<RecordsSplit>,
    /// The split that is looked at first.
    turn: usize,
    no_more: bool,
    requests: Vec<ReaderRequest>,
}

impl<T> fmt::Debug for RecordsReader<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecordsReader({:?}, {:?})", self.records, self.splits)
    }
}

impl<T: Record> SourceReader for RecordsReader<T> {
    type Record = T;
    type Split = RecordsSplit;

    fn add_splits(&mut self, splits: Vec<RecordsSplit>) -> OperatorResult {
        for split in splits {
            if split.of == 0 || split.next > self.end.saturating_add(split.of) {
                return Err(OperatorError::unrecoverable(format!(
                    "the log was read up to #{} and has only {} records: give the job its former log",
                    split.next, self.end
                )));
            }
            self.splits.push(split);
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        output: &mut ReaderOutput<'_, T>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        let now = self.context.now();
        let mut wake: Option<Moment> = None;
        let mut unread = false;
        for position in 0..self.splits.len() {
            let at = (self.turn + position) % self.splits.len();
            let split = &mut self.splits[at];
            if split.next >= self.end {
                continue;
            }
            unread = true;
            let mut emitted = 0;
            while split.next < self.end && output.budget() > 0 {
                let arrival = self.schedule.arrival(split.next);
                if arrival > now {
                    if emitted == 0 {
                        wake = Some(wake.map_or(arrival, |earlier| earlier.min(arrival)));
                    }
                    break;
                }
                output.emit(self.records.record(split.next));
                split.next += split.of;
                emitted += 1;
            }
            if emitted > 0 {
                let (number, next) = (split.number, split.next);
                if next >= self.end {
                    self.requests.push(ReaderRequest::Finished { split: number.to_string() });
                }
                self.records.emitted(self.context.reader(), number, emitted, next);
                self.turn = at + 1;
                return Poll::Ready(Ok(ReaderStatus::More));
            }
        }
        if !unread && self.no_more {
            return Poll::Ready(Ok(ReaderStatus::Ended));
        }
        if let Some(moment) = wake {
            self.context.wake_at(moment);
        }
        Poll::Pending
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> Vec<RecordsSplit> {
        let mut splits = self.splits.clone();
        splits.sort_by_key(|split| split.number);
        let positions: Vec<(u64, u64)> = splits.iter().map(|split| (split.number, split.next)).collect();
        self.records.cut(self.context.reader(), self.context.run(), checkpoint, &positions);
        splits
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        std::mem::take(&mut self.requests)
    }
}
