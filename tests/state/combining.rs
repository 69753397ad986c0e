//! Reducing and aggregating states: what they hold, their snapshots against a model, and their bytes, which are frozen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use alluvium::record::hash_key;
use alluvium::state::{
    AggregateFunction, Aggregating, Progress, ReduceFunction, Reducing, StateDescriptor, StateError, StateKind,
    StateMapping, StateSet, Table, Value,
};
use alluvium_actors::ids::CheckpointId;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::model::{Model, run};
use crate::support::{Kept, SEED, finish, keys_at_few_positions, owned_hash, restart, restore, restore_chain};

struct Greatest;

impl ReduceFunction for Greatest {
    type Value = i64;

    fn reduce(stored: i64, added: i64) -> i64 {
        stored.max(added)
    }
}

struct Mean;

impl AggregateFunction for Mean {
    type In = u32;
    type Accumulator = (u64, u64);
    type Out = f64;

    fn create() -> (u64, u64) {
        (0, 0)
    }

    fn add((count, sum): &mut (u64, u64), added: u32) {
        *count += 1;
        *sum += u64::from(added);
    }

    fn result((count, sum): &(u64, u64)) -> f64 {
        *sum as f64 / *count as f64
    }
}

type States = (Reducing<Greatest>, Aggregating<Mean>, Value<u8>);
type Row = <States as StateSet>::Row;

fn states() -> States {
    (Reducing::named("greatest"), Aggregating::named("mean"), Value::named("last"))
}

#[test]
fn what_is_added_is_combined_and_what_is_cleared_is_gone() {
    let mut table = Table::<u64, Row>::new(0..128, 128, SEED, states().descriptors());
    let hash = hash_key(SEED, &1_u64).unwrap();
    table.with_states::<States, _>(hash, &1, |(mut greatest, mut mean, _)| {
        assert_eq!((greatest.get(), mean.get(), mean.accumulator()), (None, None, None));
        assert_eq!([-7, 5, 3].map(|number| *greatest.add(number)), [-7, 5, 5]);
        [1, 2, 6].into_iter().for_each(|number| mean.add(number));
    });
    table.with_states::<States, _>(hash, &1, |(greatest, mean, _)| {
        assert_eq!((greatest.get(), mean.get(), mean.accumulator()), (Some(&5), Some(3.0), Some(&(3, 9))));
    });
    table.with_states::<States, _>(hash, &1, |(mut greatest, mut mean, _)| {
        assert_eq!(greatest.take(), Some(5));
        assert_eq!(*greatest.add(2), 2, "the first value after a removal is taken as it is");
        greatest.clear();
        mean.clear();
        assert_eq!((greatest.get(), mean.get()), (None, None));
    });
    assert!(table.is_empty());
}

#[test]
fn a_change_keeps_the_old_content_once_and_reading_keeps_nothing() {
    let mut table = Table::<u64, Row>::new(0..128, 128, SEED, states().descriptors());
    let hash = hash_key(SEED, &1_u64).unwrap();
    let add = |table: &mut Table<u64, Row>, number: u32| {
        table.with_states::<States, _>(hash, &1, |(mut greatest, mut mean, _)| {
            greatest.add(number.into());
            mean.add(number);
        });
        table.snapshot_bytes()
    };
    add(&mut table, 1);
    table.close_epoch(CheckpointId(1)).unwrap();
    table.with_states::<States, _>(hash, &1, |(greatest, mean, _)| {
        assert!(greatest.get().is_some() && mean.get().is_some())
    });
    assert_eq!(table.snapshot_bytes(), 0, "reading kept something");
    let once = add(&mut table, 2);
    assert!(once > 0);
    assert_eq!(add(&mut table, 3), once, "something was kept twice");
    let mut kept = Kept::default();
    finish(&mut table, CheckpointId(1), &mut kept);
    let mut restored: Table<u64, Row> =
        restore(0..128, 128, &states().descriptors(), &kept.0[&CheckpointId(1)]).unwrap();
    restored.with_states::<States, _>(hash, &1, |(greatest, mean, last)| {
        assert_eq!((greatest.get(), mean.accumulator(), last.get()), (Some(&1), Some(&(1, 1)), None));
    });
}

/// Greatest, count and sum, last.
type Contents = (Option<i64>, Option<(u64, u64)>, Option<u8>);

pub(crate) struct Combined {
    table: Table<u64, Row>,
    model: BTreeMap<u64, Contents>,
    groups: Range<u32>,
    max_parallelism: u32,
    keys: Vec<u64>,
}

impl Combined {
    pub(crate) fn new(groups: Range<u32>, max_parallelism: u32, keys: Vec<u64>) -> Combined {
        let table = Table::new(groups.clone(), max_parallelism, SEED, states().descriptors());
        Combined { table, model: BTreeMap::new(), groups, max_parallelism, keys }
    }

    /// Its table can be asked for increments.
    pub(crate) fn recorded(mut self) -> Combined {
        self.table.record_changes();
        self
    }

    fn contents(&self, table: &mut Table<u64, Row>) -> BTreeMap<u64, Contents> {
        let mut found = BTreeMap::new();
        for key in &self.keys {
            let Some(hash) = owned_hash(key, &self.groups, self.max_parallelism) else { continue };
            let contents: Contents = table.with_states::<States, _>(hash, key, |(greatest, mean, last)| {
                (greatest.get().copied(), mean.accumulator().copied(), last.get().copied())
            });
            if contents != Contents::default() {
                found.insert(*key, contents);
            }
        }
        found
    }
}

impl Model for Combined {
    type Content = BTreeMap<u64, Contents>;

    fn operate(&mut self, random: &mut SmallRng) {
        let key = self.keys[random.random_range(0..self.keys.len())];
        let Some(hash) = owned_hash(&key, &self.groups, self.max_parallelism) else { return };
        let model = self.model.entry(key).or_default();
        let (number, operation) = (random.random_range(0..1000_u32), random.random_range(0..20));
        self.table.with_states::<States, _>(hash, &key, |(mut greatest, mut mean, mut last)| match operation {
            0..8 => {
                let now = *greatest.add(number.into());
                model.0 = Some(model.0.map_or(number.into(), |before| before.max(number.into())));
                assert_eq!(model.0, Some(now));
            }
            8..15 => {
                mean.add(number);
                let (count, sum) = model.1.unwrap_or_default();
                model.1 = Some((count + 1, sum + u64::from(number)));
            }
            15 => assert_eq!(greatest.take(), model.0.take()),
            16 => {
                greatest.clear();
                mean.clear();
                (model.0, model.1) = (None, None);
            }
            17 => {
                last.set(number as u8);
                model.2 = Some(number as u8);
            }
            18 => assert_eq!(last.take(), model.2.take()),
            _ => assert_eq!((greatest.get(), mean.accumulator()), (model.0.as_ref(), model.1.as_ref())),
        });
        if *model == Contents::default() {
            self.model.remove(&key);
        }
    }

    fn content(&self) -> BTreeMap<u64, Contents> {
        self.model.clone()
    }

    fn check(&mut self) {
        assert_eq!(self.table.len(), self.model.len());
    }

    fn close(&mut self, checkpoint: CheckpointId, base: Option<CheckpointId>) -> bool {
        match base {
            None => self.table.close_epoch(checkpoint).map(|()| false).unwrap(),
            Some(base) => self.table.close_epoch_on(checkpoint, base).unwrap(),
        }
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.table.completed(checkpoint);
    }

    fn restart(&mut self, chain: &[Vec<Vec<u8>>], checkpoint: CheckpointId, expected: BTreeMap<u64, Contents>) {
        self.table = restart(&self.table, chain, checkpoint);
        self.model = expected;
    }

    fn advance(&mut self, checkpoint: CheckpointId, budget: usize, kept: &mut Kept) -> Progress {
        self.table.advance(checkpoint, budget, kept).unwrap()
    }

    fn abort(&mut self, checkpoint: CheckpointId) {
        self.table.abort(checkpoint);
    }

    fn restored(&self, chain: &[Vec<Vec<u8>>]) -> BTreeMap<u64, Contents> {
        let states = states().descriptors();
        let mut table = restore_chain(self.groups.clone(), self.max_parallelism, &states, chain).unwrap();
        self.contents(&mut table)
    }
}

#[test]
fn a_snapshot_of_reducing_and_aggregating_is_what_the_model_held_when_its_epoch_closed() {
    let mut completed = 0;
    for seed in 200..212 {
        let count = [1, 30, 900][seed as usize % 3];
        let keys = if seed % 2 == 0 { (0..count).collect() } else { keys_at_few_positions(count) };
        let (groups, max) = [(0..128, 128), (0..1, 1), (64..128, 128)][seed as usize / 3 % 3].clone();
        completed += run(Combined::new(groups, max, keys), seed, 500);
    }
    assert!(completed > 50, "only {completed} snapshots completed");
}

#[test]
fn a_state_does_not_become_one_of_another_kind() {
    let as_kind = |kind| [StateDescriptor::new(kind, "total", &["i64"])];
    let kinds = [StateKind::Value, StateKind::List, StateKind::Map, StateKind::Reducing, StateKind::Aggregating];
    for stored in kinds {
        for current in kinds {
            let mapped = StateMapping::new(&as_kind(stored), &as_kind(current));
            let changed = StateError::KindChanged { name: "total".to_owned(), stored, current };
            assert_eq!(mapped.err(), (stored != current).then_some(changed));
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn the_golden_bytes_have_not_changed() {
    let described: Vec<String> =
        states().descriptors().iter().map(|state| hexadecimal(&rmp_serde::to_vec_named(state).unwrap())).collect();
    let mut table = Table::<u64, Row>::new(0..128, 128, 7, states().descriptors());
    let hash = hash_key(7, &u64::MAX).unwrap();
    table.with_states::<States, _>(hash, &u64::MAX, |(mut greatest, mut mean, mut last)| {
        greatest.add(-200);
        [1, 300].into_iter().for_each(|number| mean.add(number));
        last.set(9);
    });
    table.close_epoch(CheckpointId(1)).unwrap();
    let mut kept = Kept::default();
    finish(&mut table, CheckpointId(1), &mut kept);
    let written: Vec<String> = kept.0[&CheckpointId(1)].iter().map(|chunk| hexadecimal(chunk)).collect();
    assert_eq!([&described[..2], &written[..]].concat(), GOLDEN);
}

/// The descriptors of the reducing and of the aggregating state; the chunks of all three.
const GOLDEN: [&str; 5] = [
    "86a46b696e64a87265647563696e67a46e616d65a86772656174657374ab66696e6765727072696e74cf7fbe4709487c9094a677726974657201a8656e636f64696e67ad6d73677061636b2d6e616d6564ac74696d655f746f5f6c697665c0",
    "86a46b696e64ab6167677265676174696e67a46e616d65a46d65616eab66696e6765727072696e74cf1612df7ac780714ca677726974657201a8656e636f64696e67ad6d73677061636b2d6e616d6564ac74696d655f746f5f6c697665c0",
    "010000001f000000010000000c00000098f96465cfffffffffffffffffd1ff38",
    "010001001f000000010000000e0000002eed621dcfffffffffffffffff9202cd012d",
    "010002001f000000010000000a000000b01fabd5cfffffffffffffffff09",
];
