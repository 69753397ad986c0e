//! A source of one's own: shards that are discovered while others are read, by requests that never block the arbiter.
//!
//! The enumerator asks the service for shards now and then, and gives each new one to a reader. Its state is what it knows: the shards that it has seen, and
//! those that wait for a reader. A reader has one request under way per shard, as a promise of blocking work; what it keeps in a checkpoint is the shards with
//! the number of the next event.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium::connect::source::{
    Boundedness, ReaderOutput, ReaderRequest, ReaderStatus, Replay, Source, SourceContext, SourceEnumerator,
    SourceReader, SplitAssigner,
};
use alluvium::ids::Moment;
use alluvium::ports::blocking::Promise;
use alluvium::{CheckpointId, OperatorResult};
use serde::{Deserialize, Serialize};

use super::service::{Event, Listing, LogService, Page};

/// The time between two looks for new shards, and the pause after an answer without events.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(5);

/// Events of one request.
const PAGE: usize = 500;

/// The source. It ends when the service says that no shard follows and all of them are read.
pub struct Shards {
    service: Arc<dyn LogService>,
}

impl Shards {
    /// Reads this service.
    pub fn new(service: Arc<dyn LogService>) -> Shards {
        Shards { service }
    }
}

/// A shard, and how far it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardSplit {
    shard: String,
    /// The next event.
    next: u64,
}

impl Source for Shards {
    type Record = Event;
    type Split = ShardSplit;
    type Enumerator = ShardEnumerator;
    type Reader = ShardReader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn replay(&self) -> Replay {
        Replay::FromStoredPosition
    }

    fn enumerator(&self, context: SourceContext) -> OperatorResult<ShardEnumerator> {
        Ok(ShardEnumerator {
            service: Arc::clone(&self.service),
            readers: context.parallelism(),
            context,
            state: EnumeratorState::default(),
            looking: None,
            look_at: Moment(0),
            registered: BTreeSet::new(),
        })
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<ShardReader> {
        Ok(ShardReader {
            service: Arc::clone(&self.service),
            context,
            shards: VecDeque::new(),
            no_more: false,
            requests: Vec::new(),
        })
    }
}

/// What a checkpoint keeps of the enumerator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EnumeratorState {
    /// Every shard that was ever seen: none is given out twice. Which reader gets one is its place here, modulo their number.
    seen: Vec<String>,
    /// Those that no reader has yet.
    waiting: BTreeSet<String>,
    /// The service has said that no shard follows.
    complete: bool,
}

/// Discovers shards.
pub struct ShardEnumerator {
    service: Arc<dyn LogService>,
    context: SourceContext,
    readers: u32,
    state: EnumeratorState,
    looking: Option<Promise<io::Result<Listing>>>,
    look_at: Moment,
    registered: BTreeSet<u32>,
}

impl ShardEnumerator {
    fn listed(&mut self, listing: Listing, assigner: &mut SplitAssigner<ShardSplit>) {
        for shard in listing.shards {
            if !self.state.seen.contains(&shard) {
                self.state.seen.push(shard.clone());
                self.state.waiting.insert(shard);
            }
        }
        self.assign(assigner);
        if listing.complete {
            self.state.complete = true;
            self.registered.iter().for_each(|reader| assigner.no_more_splits(*reader));
        }
    }

    /// Gives every reader that is there what is for it.
    fn assign(&mut self, assigner: &mut SplitAssigner<ShardSplit>) {
        let readers = self.readers.max(1) as usize;
        for (place, shard) in self.state.seen.iter().enumerate() {
            let reader = (place % readers) as u32;
            if self.registered.contains(&reader) && self.state.waiting.remove(shard) {
                assigner.assign(reader, vec![ShardSplit { shard: shard.clone(), next: 0 }]);
            }
        }
    }
}

impl SourceEnumerator for ShardEnumerator {
    type Split = ShardSplit;
    type State = EnumeratorState;

    fn restore(&mut self, state: EnumeratorState) -> OperatorResult {
        self.state = state;
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId) -> EnumeratorState {
        self.state.clone()
    }

    fn poll(&mut self, context: &mut Context<'_>, assigner: &mut SplitAssigner<ShardSplit>) -> OperatorResult {
        if self.state.complete {
            return Ok(());
        }
        loop {
            if let Some(looking) = &mut self.looking {
                // Pending: the promise has kept the waker.
                let Poll::Ready(answer) = looking.poll(context) else { return Ok(()) };
                self.looking = None;
                self.look_at = self.context.now() + LOOK_AGAIN;
                self.listed(answer??, assigner);
                if self.state.complete {
                    return Ok(());
                }
            }
            if self.context.now() < self.look_at {
                self.context.wake_at(self.look_at);
                return Ok(());
            }
            let service = Arc::clone(&self.service);
            self.looking = Some(self.context.blocking(move || service.list()));
        }
    }

    fn reader_registered(
        &mut self,
        reader: u32,
        _: Vec<ShardSplit>,
        assigner: &mut SplitAssigner<ShardSplit>,
    ) -> OperatorResult {
        self.registered.insert(reader);
        self.assign(assigner);
        if self.state.complete {
            assigner.no_more_splits(reader);
        }
        Ok(())
    }

    fn split_requested(&mut self, _: u32, _: &mut SplitAssigner<ShardSplit>) -> OperatorResult {
        Ok(())
    }
}

/// A shard that is being read.
struct Reading {
    split: ShardSplit,
    /// Events that were fetched and not emitted. Not state: after a restore they are fetched again.
    fetched: VecDeque<Event>,
    /// Whether the last page was the end.
    closed: bool,
    request: Option<Promise<io::Result<Page>>>,
    pause_until: Option<Moment>,
}

/// Reads shards, all of its own at once.
pub struct ShardReader {
    service: Arc<dyn LogService>,
    context: SourceContext,
    shards: VecDeque<Reading>,
    no_more: bool,
    requests: Vec<ReaderRequest>,
}

impl ShardReader {
    /// Sees to it that a shard has events to emit, or a request under way, or a moment for the next one.
    fn fetch(&mut self, reading: &mut Reading, context: &mut Context<'_>) -> OperatorResult {
        while reading.fetched.is_empty() && !reading.closed {
            if let Some(request) = &mut reading.request {
                let Poll::Ready(answer) = request.poll(context) else { return Ok(()) };
                reading.request = None;
                let page = answer??;
                reading.closed = page.closed;
                if page.events.is_empty() && !page.closed {
                    reading.pause_until = Some(self.context.now() + PAUSE);
                }
                reading.fetched = page.events.into();
                continue;
            }
            if let Some(moment) = reading.pause_until {
                if self.context.now() < moment {
                    self.context.wake_at(moment);
                    return Ok(());
                }
                reading.pause_until = None;
            }
            let (service, shard, next) = (Arc::clone(&self.service), reading.split.shard.clone(), reading.split.next);
            reading.request = Some(self.context.blocking(move || service.read(&shard, next, PAGE)));
        }
        Ok(())
    }
}

impl SourceReader for ShardReader {
    type Record = Event;
    type Split = ShardSplit;

    fn add_splits(&mut self, splits: Vec<ShardSplit>) -> OperatorResult {
        self.shards.extend(splits.into_iter().map(|split| Reading {
            split,
            fetched: VecDeque::new(),
            closed: false,
            request: None,
            pause_until: None,
        }));
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        output: &mut ReaderOutput<'_, Event>,
    ) -> Poll<OperatorResult<ReaderStatus>> {
        let mut emitted = false;
        // Each shard once, the next poll begins with another one.
        for _ in 0..self.shards.len() {
            let Some(mut reading) = self.shards.pop_front() else { break };
            if let Err(error) = self.fetch(&mut reading, context) {
                return Poll::Ready(Err(error));
            }
            let count = output.budget().min(reading.fetched.len());
            reading.split.next += count as u64;
            output.emit_all(reading.fetched.drain(..count));
            emitted |= count > 0;
            if reading.closed && reading.fetched.is_empty() {
                self.requests.push(ReaderRequest::Finished { split: reading.split.shard });
            } else {
                self.shards.push_back(reading);
            }
        }
        if emitted {
            Poll::Ready(Ok(ReaderStatus::More))
        } else if self.shards.is_empty() && self.no_more {
            Poll::Ready(Ok(ReaderStatus::Ended))
        } else {
            Poll::Pending
        }
    }

    fn snapshot(&mut self, _: CheckpointId) -> Vec<ShardSplit> {
        self.shards.iter().map(|reading| reading.split.clone()).collect()
    }

    fn take_requests(&mut self) -> Vec<ReaderRequest> {
        std::mem::take(&mut self.requests)
    }
}
