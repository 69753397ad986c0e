//! The sink of W5: notes when each subtask emits again after a restart, and when it is back where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use alluvium::connect::sink::{Guarantee, Sink, SinkContext, SinkScope, SinkWriter};
use alluvium::record::batch::Slice;
use alluvium::{CheckpointId, OperatorResult};

use crate::arrivals::clock;
use crate::sink::NoCommits;

/// What is emitted: the key, its sum, and the index of the record.
pub type Sum = (u64, u64, u64);

/// One subtask. Written by its own thread, and by whoever starts the next attempt when it has ended.
#[derive(Debug)]
#[repr(align(128))]
struct Place {
    records: AtomicU64,
    /// The highest index seen in this attempt, by source, and what it was at the end of the attempt before.
    current: Vec<AtomicU64>,
    former: Vec<AtomicU64>,
    /// When it emitted first in this attempt, and when it was back at the former position: nanoseconds of the shared clock, 0 before.
    first: AtomicU64,
    back: AtomicU64,
}

/// What all subtasks of the sink saw.
pub struct Positions {
    places: Vec<Place>,
}

impl Positions {
    pub fn new(parallelism: u32) -> Arc<Positions> {
        let zeros = || (0..parallelism).map(|_| AtomicU64::new(0)).collect();
        let place = || Place {
            records: AtomicU64::new(0),
            current: zeros(),
            former: zeros(),
            first: AtomicU64::new(0),
            back: AtomicU64::new(0),
        };
        Arc::new(Positions { places: (0..parallelism).map(|_| place()).collect() })
    }

    /// How many records came so far, in all attempts.
    pub fn records(&self) -> u64 {
        self.places.iter().map(|place| place.records.load(Ordering::Relaxed)).sum()
    }

    /// The highest index that was seen anywhere.
    pub fn highest(&self) -> u64 {
        self.now().into_iter().max().unwrap_or(0)
    }

    /// All positions: subtask by subtask, source by source.
    pub fn now(&self) -> Vec<u64> {
        self.places.iter().flat_map(|place| &place.current).map(|index| index.load(Ordering::Relaxed)).collect()
    }

    /// The positions of an attempt in another process.
    pub fn came_from(&self, former: &[u64]) {
        for (index, value) in self.places.iter().flat_map(|place| &place.current).zip(former) {
            index.store(*value, Ordering::Relaxed);
        }
    }

    /// When every subtask had emitted in this attempt, and when every one was back: none before.
    pub fn recovered(&self) -> Option<(u64, u64)> {
        let last = |of: fn(&Place) -> &AtomicU64| {
            let times: Vec<u64> = self.places.iter().map(|place| of(place).load(Ordering::Acquire)).collect();
            if times.contains(&0) { None } else { times.into_iter().max() }
        };
        Some((last(|place| &place.first)?, last(|place| &place.back)?))
    }
}

pub struct Noting(pub Arc<Positions>);

pub struct NotingWriter {
    positions: Arc<Positions>,
    subtask: usize,
}

impl Sink<Sum> for Noting {
    type Committable = ();
    type State = ();
    type Writer = NotingWriter;
    type Committer = NoCommits;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    /// An attempt begins: what its predecessor came to is the position to come back to.
    fn writer(&self, context: SinkContext) -> OperatorResult<NotingWriter> {
        let (positions, subtask) = (Arc::clone(&self.0), context.subtask() as usize);
        let place = &positions.places[subtask];
        for (current, former) in place.current.iter().zip(&place.former) {
            former.store(current.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        place.first.store(0, Ordering::Release);
        place.back.store(0, Ordering::Release);
        Ok(NotingWriter { positions, subtask })
    }

    fn committer(&self, _scope: SinkScope) -> OperatorResult<NoCommits> {
        Ok(NoCommits)
    }
}

impl SinkWriter<Sum> for NotingWriter {
    type Committable = ();
    type State = ();

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<Sum>) -> OperatorResult {
        let Place { records, current, former, first, back } = &self.positions.places[self.subtask];
        let sources = current.len() as u64;
        // The records of one source are in its order, so a slice's last one of each is its highest.
        for (_, _, index) in &slice.records {
            let highest = &current[(index % sources) as usize];
            highest.store(*index, Ordering::Relaxed);
        }
        let count = slice.records.len() as u64;
        slice.clear();
        if count == 0 {
            return Ok(());
        }
        records.store(records.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        if first.load(Ordering::Relaxed) == 0 {
            first.store(clock(), Ordering::Release);
        }
        if back.load(Ordering::Relaxed) == 0 {
            let is_back = |(current, former): (&AtomicU64, &AtomicU64)| {
                current.load(Ordering::Relaxed) >= former.load(Ordering::Relaxed)
            };
            if current.iter().zip(former).all(is_back) {
                back.store(clock(), Ordering::Release);
            }
        }
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: CheckpointId) -> OperatorResult {
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        _checkpoint: CheckpointId,
        _context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<()>>> {
        Poll::Ready(Ok(Vec::new()))
    }

    fn snapshot(&mut self, _checkpoint: CheckpointId) {}
}
