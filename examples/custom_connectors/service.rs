//! The outside world of the source: a log service with shards that appear, and answers that take time.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One event of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The shard's name.
    pub shard: String,
    /// Its number within the shard, from 0.
    pub sequence: u64,
    /// What it says.
    pub value: i64,
}

/// What a service answers to a request for events.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events, in order; none if there is nothing new.
    pub events: Vec<Event>,
    /// No event follows, ever.
    pub closed: bool,
}

/// What a service answers to a request for shards.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The names of the shards that are there.
    pub shards: Vec<String>,
    /// No shard follows, ever.
    pub complete: bool,
}

/// A log service. Its calls take time: they are for blocking work, never for the arbiter.
pub trait LogService: Send + Sync + 'static {
    /// The shards that are there.
    ///
    /// # Errors
    /// When the service does not answer.
    fn list(&self) -> io::Result<Listing>;

    /// Up to `limit` events of a shard from `first` on. Any event can be read again: this is what makes the source replayable.
    ///
    /// # Errors
    /// When the service does not answer.
    fn read(&self, shard: &str, first: u64, limit: usize) -> io::Result<Page>;
}

/// The shards of [`GrowingLogs`].
pub const SHARDS: [&str; 3] = ["north", "south", "east"];

/// A service without a network, for a program that runs everywhere: its shards appear one after the other, their events come at a rate. An event is always the
/// same, whoever asks.
#[derive(Debug)]
pub struct GrowingLogs {
    began: Instant,
    events: u64,
    rate: u64,
    appearance: Duration,
}

impl GrowingLogs {
    /// So many events in each shard, at so many per second; a shard appears each `appearance`.
    #[must_use]
    pub fn new(events: u64, rate: u64, appearance: Duration) -> GrowingLogs {
        GrowingLogs { began: Instant::now(), events, rate, appearance }
    }
}

/// The event of a shard.
#[must_use]
pub fn event(shard: &str, sequence: u64) -> Event {
    let salt: u64 = shard.bytes().map(u64::from).sum();
    let value = (sequence.wrapping_mul(2_654_435_761).wrapping_add(salt) % 2_001) as i64 - 1_000;
    Event { shard: shard.to_owned(), sequence, value }
}

impl LogService for GrowingLogs {
    fn list(&self) -> io::Result<Listing> {
        let appeared = self.began.elapsed().as_micros() / self.appearance.as_micros().max(1) + 1;
        let shards = SHARDS.iter().take(appeared as usize).map(|shard| (*shard).to_owned()).collect();
        Ok(Listing { shards, complete: appeared as usize >= SHARDS.len() })
    }

    fn read(&self, shard: &str, first: u64, limit: usize) -> io::Result<Page> {
        if !SHARDS.contains(&shard) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no shard `{shard}`")));
        }
        // The way to the service and back: it makes the read a blocking one, as a real service's is.
        std::thread::sleep(Duration::from_millis(1));
        let offered = (self.began.elapsed().as_millis() as u64 * self.rate / 1_000).min(self.events);
        let end = offered.max(first).min(first + limit as u64).min(self.events);
        let events = (first..end).map(|sequence| event(shard, sequence)).collect();
        Ok(Page { events, closed: end == self.events })
    }
}
