//! Which record of a source an effect comes from, by names that the user gives to both.

use std::collections::BTreeMap;
use std::fmt;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::protocol::lifecycle::JobState;

use super::effects::{Effect, Effects, Place};
use super::{Scene, Violation, few};
use crate::record::Record;
use crate::testing::models::Records;
use crate::testing::simulation::History;

/// What names a record: its number, its text. The same for the record of the source and for what it makes happen.
pub(super) trait RecordKey: Ord + Clone + fmt::Debug + 'static {}

impl<K: Ord + Clone + fmt::Debug + 'static> RecordKey for K {}

/// A source whose records are known.
pub(super) trait Origin<K> {
    fn name(&self) -> &str;

    /// How many records there are.
    fn known(&self) -> u64;

    /// The name of a record; nothing if it is to have no effect.
    fn key(&self, index: u64) -> Option<K>;

    fn is_before(&self, index: u64, checkpoint: CheckpointId, history: &History) -> bool;

    fn split_of(&self, index: u64) -> Option<u64>;

    fn contradiction(&self) -> Option<String>;
}

struct Known<T, F> {
    records: Records<T>,
    key: F,
}

impl<K, T: Record, R: Into<Option<K>>, F: Fn(&T) -> R> Origin<K> for Known<T, F> {
    fn name(&self) -> &str {
        self.records.name()
    }

    fn known(&self) -> u64 {
        self.records.known()
    }

    fn key(&self, index: u64) -> Option<K> {
        (self.key)(&self.records.record(index)).into()
    }

    fn is_before(&self, index: u64, checkpoint: CheckpointId, history: &History) -> bool {
        self.records.is_before(index, checkpoint, history)
    }

    fn split_of(&self, index: u64) -> Option<u64> {
        self.records.split_of(index)
    }

    fn contradiction(&self) -> Option<String> {
        self.records.contradiction()
    }
}

/// A record of one of the sources.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordPlace {
    pub(super) origin: usize,
    pub(super) index: u64,
}

/// The names of all records of all sources.
pub(super) struct Origins<K> {
    pub(super) origins: Vec<Box<dyn Origin<K>>>,
    named: BTreeMap<K, Vec<RecordPlace>>,
    /// How many records of each source are named.
    seen: Vec<u64>,
}

impl<K: RecordKey> Origins<K> {
    pub(super) fn of<T: Record, R: Into<Option<K>> + 'static>(
        records: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
    ) -> Origins<K> {
        let mut origins = Origins { origins: Vec::new(), named: BTreeMap::new(), seen: Vec::new() };
        origins.add(records, key);
        origins
    }

    pub(super) fn add<T: Record, R: Into<Option<K>> + 'static>(
        &mut self,
        records: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
    ) {
        self.origins.push(Box::new(Known { records: records.clone(), key }));
        self.seen.push(0);
    }

    /// All names that are known by now.
    pub(super) fn named(&mut self) -> &BTreeMap<K, Vec<RecordPlace>> {
        for (origin, (known, seen)) in self.origins.iter().zip(&mut self.seen).enumerate() {
            for index in *seen..known.known() {
                if let Some(key) = known.key(index) {
                    self.named.entry(key).or_default().push(RecordPlace { origin, index });
                }
            }
            *seen = known.known().max(*seen);
        }
        &self.named
    }

    pub(super) fn name(&self) -> String {
        self.origins.iter().map(|origin| format!("`{}`", origin.name())).collect::<Vec<_>>().join(" and ")
    }
}

/// The records that effects come from.
pub(super) type LineageOf<E, K> = Box<dyn Fn(&E) -> Vec<K>>;

/// Counts how often each record took effect.
pub(super) struct Tally<K, S: Effects> {
    origins: Origins<K>,
    sink: S,
    lineage: LineageOf<S::Record, K>,
    /// Effects that were read while the job ran.
    read: usize,
    found: BTreeMap<K, Vec<Place>>,
    once: bool,
}

impl<K: RecordKey, S: Effects> Tally<K, S> {
    pub(super) fn new(origins: Origins<K>, sink: S, lineage: LineageOf<S::Record, K>, once: bool) -> Tally<K, S> {
        Tally { origins, sink, lineage, read: 0, found: BTreeMap::new(), once }
    }

    pub(super) fn origins(&mut self) -> &mut Origins<K> {
        &mut self.origins
    }

    pub(super) fn observe(&mut self) -> Result<(), Violation> {
        let effects = self.sink.from(self.read);
        self.read += effects.len();
        self.count(&effects)
    }

    fn count(&mut self, effects: &[Effect<S::Record>]) -> Result<(), Violation> {
        for effect in effects {
            for key in (self.lineage)(&effect.record) {
                let places = self.found.entry(key.clone()).or_default();
                places.push(effect.place());
                let wanted = if self.once && places.len() > 1 {
                    self.origins.named().get(&key).map_or(0, Vec::len)
                } else {
                    usize::MAX
                };
                if places.len() > wanted {
                    return Err(self.repeated(&key, wanted));
                }
            }
        }
        Ok(())
    }

    fn repeated(&self, key: &K, wanted: usize) -> Violation {
        let places = &self.found[key];
        let times = match places.len() {
            2 => "twice".to_owned(),
            more => format!("{more} times"),
        };
        let instead = if wanted > 1 { format!(" instead of {wanted} times") } else { String::new() };
        let at: Vec<String> = places.iter().map(ToString::to_string).collect();
        let (origin, sink) = (self.origins.name(), self.sink.name());
        Violation::new(format!("{key:?} of {origin} took effect {times}{instead} in `{sink}`: {}", at.join(" and ")))
    }

    pub(super) fn ended(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        self.read = 0;
        self.found.clear();
        let effects = self.sink.all(scene)?;
        self.count(&effects)?;
        // Another process may follow: what was counted here is not counted once more there.
        self.read = effects.len();
        let sink = self.sink.name();
        let name = self.origins.name();
        self.origins.named();
        if let Some((key, places)) = self.found.iter().find(|(key, _)| !self.origins.named.contains_key(*key)) {
            let place = places[0];
            return Err(Violation::new(format!(
                "{key:?} took effect in `{sink}` {place}, and no record of {name} is called so"
            )));
        }
        let newest = scene.history.newest_complete();
        let missing = self.origins.named.iter().filter(|(key, records)| {
            let required = records.iter().filter(|record| {
                let origin = &self.origins.origins[record.origin];
                scene.world.state == JobState::Finished
                    || newest.is_some_and(|newest| origin.is_before(record.index, newest, scene.history))
            });
            required.count() > self.found.get(*key).map_or(0, Vec::len)
        });
        let missing: Vec<(&K, &Vec<RecordPlace>)> = missing.collect();
        let Some((_, records)) = missing.first() else { return Ok(()) };
        let record = records[0];
        let origin = &self.origins.origins[record.origin];
        let place = format!("#{} of `{}`", record.index, origin.name());
        let complete = scene.history.complete();
        let covered =
            complete.map(|(checkpoint, _)| checkpoint).find(|at| origin.is_before(record.index, *at, scene.history));
        let covered = match covered {
            Some(checkpoint) => format!("checkpoint {checkpoint} was the first that covered {place}"),
            None => format!("no checkpoint covered {place}"),
        };
        let (count, keys) = (missing.len(), few(missing.iter().map(|(key, _)| format!("{key:?}"))));
        let never = if count == 1 {
            format!("{keys} of {name} never took effect in `{sink}`")
        } else {
            format!("{count} of {name} never took effect in `{sink}`: {keys}")
        };
        Err(Violation::new(format!("{never}; {covered}")))
    }
}
