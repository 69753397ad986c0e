//! The outside system behind a source: a log of records that everybody knows, and where each barrier cut it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment, RunNumber};

use crate::fault::Random;
use crate::record::Record;
use crate::testing::simulation::{History, Outside};

/// So many records have one fate in an uneven log.
const STRETCH: u64 = 32;

/// A replayable source for tests: a log in an outside system whose every record is known, read by position.
///
/// The record of index `i` is in split `i` modulo the number of splits. It *arrives* at a certain virtual time, counted from the beginning of the run; what has arrived
/// can be read at once, and again after a crash. For each checkpoint the log remembers where the barrier cut it, as an observer outside of the job.
///
/// ```
/// use alluvium::testing::models::Records;
/// use alluvium::testing::simulation::Outside;
///
/// let orders = Records::list(&Outside::detached(1), "orders", vec!["tea".to_owned(), "cups".to_owned()]).splits(2).rate(1_000);
/// # let _ = orders.name();
/// ```
pub struct Records<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    name: String,
    outside: Outside,
    produce: Box<dyn Fn(u64) -> T + Send + Sync>,
    /// The indices end here, exclusive.
    end: Option<u64>,
    state: Mutex<State>,
}

#[derive(Clone)]
enum Arrival {
    AtOnce,
    /// Records per second.
    Rate(u64),
    /// The same on average, in bursts and pauses.
    Uneven(u64, u64),
    Function(Arc<dyn Fn(u64) -> Duration + Send + Sync>),
}

struct State {
    splits: Option<u32>,
    arrival: Arrival,
    appearance: Duration,
    /// The number of splits, once the job has asked.
    of: Option<u64>,
    /// The highest index that was emitted, and one.
    emitted: u64,
    /// Where each checkpoint cut each split: the next index.
    cuts: BTreeMap<CheckpointId, BTreeMap<u64, Reported>>,
    wrong: Option<String>,
}

/// What a reader snapshot said of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reported {
    next: u64,
    reader: u32,
    run: RunNumber,
}

impl<T: Record> Records<T> {
    /// The elements of a list.
    #[must_use]
    pub fn list(outside: &Outside, name: &str, records: Vec<T>) -> Records<T>
    where
        T: Sync,
    {
        let end = records.len() as u64;
        Records::new(outside, name, Some(end), move |index| records[index as usize].clone())
    }

    /// The records of the indices 0 to `count`, exclusive. The function has to give the same record for the same index each time.
    #[must_use]
    pub fn bounded(
        outside: &Outside,
        name: &str,
        count: u64,
        produce: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> Records<T> {
        Records::new(outside, name, Some(count), produce)
    }

    /// The records of the indices from 0 on, without an end: the job runs until it is stopped.
    #[must_use]
    pub fn unbounded(outside: &Outside, name: &str, produce: impl Fn(u64) -> T + Send + Sync + 'static) -> Records<T> {
        Records::new(outside, name, None, produce)
    }

    fn new(
        outside: &Outside,
        name: &str,
        end: Option<u64>,
        produce: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> Records<T> {
        let state = State {
            splits: None,
            arrival: Arrival::AtOnce,
            appearance: Duration::ZERO,
            of: None,
            emitted: 0,
            cuts: BTreeMap::new(),
            wrong: None,
        };
        let (name, outside, produce) = (name.to_owned(), outside.clone(), Box::new(produce));
        Records { inner: Arc::new(Inner { name, outside, produce, end, state: Mutex::new(state) }) }
    }

    /// The number of splits, at least 1. Without it: as many as there are readers at the first start.
    ///
    /// # Panics
    /// When it is zero.
    #[must_use]
    pub fn splits(self, splits: u32) -> Records<T> {
        assert!(splits > 0, "a log of 0 splits has no records: give at least 1");
        self.state().splits = Some(splits);
        self
    }

    /// So many records per second of virtual time arrive, at least 1. Without it all are there at once.
    #[must_use]
    pub fn rate(self, records_per_second: u64) -> Records<T> {
        self.state().arrival = Arrival::Rate(records_per_second.max(1));
        self
    }

    /// The same on average, but in bursts and pauses that the seed decides.
    #[must_use]
    pub fn uneven_rate(self, records_per_second: u64) -> Records<T> {
        let seed = self.inner.outside.random();
        self.state().arrival = Arrival::Uneven(records_per_second.max(1), seed);
        self
    }

    /// When the record of an index arrives, counted from the beginning of the run. A record that arrives late holds up those behind it in its split.
    #[must_use]
    pub fn arrivals(self, arrival: impl Fn(u64) -> Duration + Send + Sync + 'static) -> Records<T> {
        self.state().arrival = Arrival::Function(Arc::new(arrival));
        self
    }

    /// Splits are discovered one after the other, at this distance of virtual time; without it all are there at the start.
    #[must_use]
    pub fn splits_appear_every(self, distance: Duration) -> Records<T> {
        self.state().appearance = distance;
        self
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The record of an index.
    #[must_use]
    pub fn record(&self, index: u64) -> T {
        (self.inner.produce)(index)
    }

    /// How many records there are: all of a bounded log, those that were read so far of one without an end.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.inner.end.unwrap_or_else(|| self.state().emitted)
    }

    /// Whether the record of this index lies before the barrier of a complete checkpoint. A split of which no reader told anything at that checkpoint had its
    /// position of the one before: its reader had ended, or there was none yet.
    #[must_use]
    pub fn is_before(&self, index: u64, checkpoint: CheckpointId, history: &History) -> bool {
        let state = self.state();
        let Some(of) = state.of else { return false };
        let split = index % of;
        let mut looked = Some(checkpoint);
        while let Some(at) = looked {
            if let Some(reported) = state.cuts.get(&at).and_then(|cut| cut.get(&split)) {
                return index < reported.next;
            }
            looked = history.before(at).filter(|before| *before < at);
        }
        false
    }

    /// The split of an index, once the job has asked for splits.
    #[must_use]
    pub fn split_of(&self, index: u64) -> Option<u64> {
        self.state().of.map(|of| index % of)
    }

    /// What readers told that cannot be true, if they did: one split in the hands of two.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        self.state().wrong.clone()
    }

    pub(super) fn end(&self) -> Option<u64> {
        self.inner.end
    }

    /// The number of splits of a job with so many readers that begins now.
    pub(super) fn begin(&self, readers: u32) -> u64 {
        let mut state = self.state();
        let splits = u64::from(state.splits.unwrap_or(readers)).max(1);
        *state.of.get_or_insert(splits)
    }

    pub(super) fn appears(&self, split: u64) -> Moment {
        let distance = self.state().appearance;
        Moment(u64::try_from(distance.as_nanos()).unwrap_or(u64::MAX).saturating_mul(split))
    }

    /// When each record arrives.
    pub(super) fn schedule(&self) -> Schedule {
        Schedule(self.state().arrival.clone())
    }

    pub(super) fn emitted(&self, reader: u32, split: u64, records: usize, next: u64) {
        let mut state = self.state();
        let of = state.of.unwrap_or(1);
        let last = next.saturating_sub(of);
        state.emitted = state.emitted.max(last + 1);
        drop(state);
        match records {
            1 => self.tell(reader, format_args!("emits #{last} of split {split}")),
            more => self.tell(reader, format_args!("emits {more} records of split {split}, up to #{last}")),
        }
    }

    pub(super) fn cut(&self, reader: u32, run: RunNumber, checkpoint: CheckpointId, positions: &[(u64, u64)]) {
        let told: Vec<String> = positions.iter().map(|(split, next)| format!("#{next} of split {split}")).collect();
        let place = if told.is_empty() { "no split".to_owned() } else { told.join(", ") };
        self.tell(reader, format_args!("the barrier of checkpoint {checkpoint} goes in front of {place}"));
        let mut state = self.state();
        for (split, next) in positions {
            let reported = Reported { next: *next, reader, run };
            let former = state.cuts.entry(checkpoint).or_default().insert(*split, reported);
            if let Some(former) = former {
                let name = &self.inner.name;
                let wrong = format!(
                    "split {split} of `{name}` has two places in checkpoint {checkpoint}: reader {} of run {} stores #{}, reader {reader} of run {run} stores #{next}",
                    former.reader, former.run, former.next
                );
                state.wrong.get_or_insert(wrong);
            }
        }
    }

    fn tell(&self, reader: u32, what: fmt::Arguments<'_>) {
        self.inner.outside.tell(format_args!("{}[{reader}]", self.inner.name), what);
    }
}

impl<T> Records<T> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Records<T> {
    fn clone(&self) -> Records<T> {
        Records { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Records<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Records({})", self.inner.name)
    }
}

/// When each record arrives.
#[derive(Clone)]
pub(super) struct Schedule(Arrival);

impl Schedule {
    pub(super) fn arrival(&self, index: u64) -> Moment {
        let after = |records: u64, rate: u64| {
            let nanos = u128::from(records) * 1_000_000_000 / u128::from(rate);
            Moment(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        match &self.0 {
            Arrival::AtOnce => Moment(0),
            Arrival::Rate(rate) => after(index, *rate),
            Arrival::Uneven(rate, seed) => {
                let (stretch, within) = (index / STRETCH, index % STRETCH);
                // The whole stretch at its beginning, at its end, in two bursts, or evenly.
                let place = match Random::new(seed ^ stretch).below(4) {
                    0 => 0,
                    1 => STRETCH - 1,
                    2 => within / (STRETCH / 2) * (STRETCH / 2),
                    _ => within,
                };
                after(stretch * STRETCH + place, *rate)
            }
            Arrival::Function(function) => Moment::default() + function(index),
        }
    }
}
