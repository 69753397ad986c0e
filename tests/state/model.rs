//! A table against ordered maps: random operations, with snapshots opened, written on and aborted at random moments. What
//! a snapshot restores must be exactly what the model held when its epoch closed.

use std::collections::BTreeMap;
use std::ops::Range;

use alluvium::record::Borrowed;
use alluvium::state::{Hold, Inline, List, Map, Plain, Progress, StateDescriptor, StateKind, StateSet, Table, Value};
use alluvium_actors::ids::CheckpointId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::support::{Kept, SEED, keys_at_few_positions, owned_hash, restart, restore_chain};

/// What a model has, to be driven by [`run`].
pub(crate) trait Model {
    type Content: Clone + PartialEq + std::fmt::Debug;
    fn operate(&mut self, random: &mut SmallRng);
    fn content(&self) -> Self::Content;
    fn check(&mut self);
    /// Closes the epoch; answers whether what follows is an increment on the base.
    fn close(&mut self, checkpoint: CheckpointId, base: Option<CheckpointId>) -> bool;
    /// The checkpoint is complete.
    fn completed(&mut self, checkpoint: CheckpointId);
    /// Goes on from a checkpoint that is stored so, with what was in it.
    fn restart(&mut self, chain: &[Vec<Vec<u8>>], checkpoint: CheckpointId, expected: Self::Content);
    fn advance(&mut self, checkpoint: CheckpointId, budget: usize, kept: &mut Kept) -> Progress;
    fn abort(&mut self, checkpoint: CheckpointId);
    /// What a full snapshot and the increments over it hold.
    fn restored(&self, chain: &[Vec<Vec<u8>>]) -> Self::Content;
}

/// Operations, and snapshots of which several are open, from a seed. Answers how many snapshots completed.
pub(crate) fn run<M: Model>(mut model: M, seed: u64, steps: u32) -> u32 {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut kept = Kept::default();
    let mut open: Vec<(CheckpointId, M::Content)> = Vec::new();
    let (mut next, mut completed) = (CheckpointId(1), 0);
    for _ in 0..steps {
        match random.random_range(0..100) {
            0..90 => {
                for _ in 0..random.random_range(1..40) {
                    model.operate(&mut random);
                }
            }
            90..93 if open.len() < 4 => {
                model.close(next, None);
                open.push((next, model.content()));
                next = next.next();
            }
            93..99 if !open.is_empty() => {
                let number = random.random_range(0..open.len());
                let budget = [0, 1, 2, 7, 50, 400][random.random_range(0..6)];
                if model.advance(open[number].0, budget, &mut kept) == Progress::Done {
                    let (checkpoint, expected) = open.remove(number);
                    compare(&model, &mut kept, seed, checkpoint, &expected);
                    completed += 1;
                }
            }
            99 if !open.is_empty() => {
                let (checkpoint, _) = open.remove(random.random_range(0..open.len()));
                model.abort(checkpoint);
                kept.0.remove(&checkpoint);
            }
            _ => {}
        }
        model.check();
    }
    for (checkpoint, expected) in open {
        while model.advance(checkpoint, 3, &mut kept) == Progress::More {}
        compare(&model, &mut kept, seed, checkpoint, &expected);
    }
    completed
}

fn compare<M: Model>(model: &M, kept: &mut Kept, seed: u64, checkpoint: CheckpointId, expected: &M::Content) {
    let chunks = kept.0.remove(&checkpoint).unwrap_or_default();
    assert_eq!(model.restored(&[chunks]), *expected, "seed {seed}, checkpoint {checkpoint}");
}

pub(crate) struct Plains<H> {
    table: Table<u64, Plain<i64>, H>,
    model: BTreeMap<u64, i64>,
    groups: Range<u32>,
    max_parallelism: u32,
    keys: Vec<u64>,
}

impl<H: Hold<Plain<i64>>> Plains<H> {
    pub(crate) fn new(groups: Range<u32>, max_parallelism: u32, keys: Vec<u64>) -> Plains<H> {
        let states = vec![StateDescriptor::new(StateKind::Value, "sum", &["i64"])];
        let table = Table::new(groups.clone(), max_parallelism, SEED, states);
        Plains { table, model: BTreeMap::new(), groups, max_parallelism, keys }
    }

    /// Its table can be asked for increments.
    pub(crate) fn recorded(mut self) -> Plains<H> {
        self.table.record_changes();
        self
    }
}

fn content<H: Hold<Plain<i64>>>(
    table: &Table<u64, Plain<i64>, H>,
    keys: &[u64],
    groups: &Range<u32>,
    max: u32,
) -> BTreeMap<u64, i64> {
    let found: BTreeMap<u64, i64> = keys
        .iter()
        .filter_map(|&key| {
            let hash = owned_hash(&key, groups, max)?;
            Some((key, *table.value(hash, &key)?))
        })
        .collect();
    assert_eq!(found.len(), table.len());
    found
}

impl<H: Hold<Plain<i64>>> Model for Plains<H> {
    type Content = BTreeMap<u64, i64>;

    fn operate(&mut self, random: &mut SmallRng) {
        let key = self.keys[random.random_range(0..self.keys.len())];
        let Some(hash) = owned_hash(&key, &self.groups, self.max_parallelism) else { return };
        match random.random_range(0..10) {
            0 => assert_eq!(self.table.remove(hash, &key), self.model.remove(&key).is_some()),
            1..4 => {
                *self.table.value_mut(hash, &key, || 0) += 3;
                *self.model.entry(key).or_default() += 3;
            }
            4 => assert_eq!(self.table.value(hash, &key), self.model.get(&key)),
            _ => {
                let batch: Vec<(u64, i64)> = (0..random.random_range(1..60))
                    .map(|_| (self.keys[random.random_range(0..self.keys.len())], random.random_range(-9..9)))
                    .filter(|(key, _)| owned_hash(key, &self.groups, self.max_parallelism).is_some())
                    .collect();
                let hashes: Vec<u64> =
                    batch.iter().filter_map(|(key, _)| owned_hash(key, &self.groups, self.max_parallelism)).collect();
                let mut seen = Vec::new();
                fn key_of(record: &(u64, i64)) -> &u64 {
                    &record.0
                }
                let selector = Borrowed(key_of as fn(&(u64, i64)) -> &u64);
                self.table.update_batch(
                    &hashes,
                    batch.clone(),
                    &selector,
                    || 0,
                    |key, sum, (_, value)| {
                        *sum += value;
                        seen.push((*key, *sum));
                    },
                );
                let expected: Vec<(u64, i64)> = batch
                    .into_iter()
                    .map(|(key, value)| {
                        let sum = self.model.entry(key).or_default();
                        *sum += value;
                        (key, *sum)
                    })
                    .collect();
                assert_eq!(seen, expected);
            }
        }
    }

    fn content(&self) -> BTreeMap<u64, i64> {
        self.model.clone()
    }

    fn check(&mut self) {
        assert_eq!(self.table.len(), self.model.len());
    }

    fn close(&mut self, checkpoint: CheckpointId, base: Option<CheckpointId>) -> bool {
        assert_eq!(content(&self.table, &self.keys, &self.groups, self.max_parallelism), self.model);
        match base {
            None => self.table.close_epoch(checkpoint).map(|()| false).unwrap(),
            Some(base) => self.table.close_epoch_on(checkpoint, base).unwrap(),
        }
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.table.completed(checkpoint);
    }

    fn restart(&mut self, chain: &[Vec<Vec<u8>>], checkpoint: CheckpointId, expected: BTreeMap<u64, i64>) {
        self.table = restart(&self.table, chain, checkpoint);
        self.model = expected;
    }

    fn advance(&mut self, checkpoint: CheckpointId, budget: usize, kept: &mut Kept) -> Progress {
        self.table.advance(checkpoint, budget, kept).unwrap()
    }

    fn abort(&mut self, checkpoint: CheckpointId) {
        self.table.abort(checkpoint);
        assert!(!self.table.open_snapshots().contains(&checkpoint));
    }

    fn restored(&self, chain: &[Vec<Vec<u8>>]) -> BTreeMap<u64, i64> {
        let states = self.table.descriptors();
        let table: Table<u64, Plain<i64>, H> =
            restore_chain(self.groups.clone(), self.max_parallelism, states, chain).unwrap();
        content(&table, &self.keys, &self.groups, self.max_parallelism)
    }
}

#[test]
fn a_snapshot_of_values_is_what_the_model_held_when_its_epoch_closed() {
    let mut completed = 0;
    for seed in 0..12 {
        // Few keys make entries change while they are wanted; many make the table grow while it is written.
        let count = [20, 300, 5_000][seed as usize % 3];
        let keys = if seed % 2 == 0 { (0..count).collect() } else { keys_at_few_positions(count) };
        let (groups, max) = [(0..128, 128), (5..6, 128), (40..86, 129), (0..1, 1)][seed as usize / 2 % 4].clone();
        completed += run(Plains::<Inline<_>>::new(groups.clone(), max, keys.clone()), seed, 600);
        completed += run(Plains::<Box<_>>::new(groups, max, keys), seed, 200);
    }
    for seed in 12..40 {
        completed += run(Plains::<Inline<_>>::new(0..128, 128, keys_at_few_positions(40)), seed, 400);
    }
    assert!(completed > 200, "only {completed} snapshots completed");
}

type States = (Value<i64>, List<u32>, Map<u16, String>);
type Row = <States as StateSet>::Row;

/// Value, list and map of one key.
type Contents = (Option<i64>, Vec<u32>, BTreeMap<u16, String>);

pub(crate) struct Sets {
    table: Table<u64, Row>,
    states: States,
    model: BTreeMap<u64, Contents>,
    groups: Range<u32>,
    max_parallelism: u32,
    keys: Vec<u64>,
}

impl Sets {
    pub(crate) fn new(groups: Range<u32>, max_parallelism: u32, keys: Vec<u64>) -> Sets {
        let states: States = (Value::named("sum"), List::named("seen"), Map::named("names"));
        let table = Table::new(groups.clone(), max_parallelism, SEED, states.descriptors());
        Sets { table, states, model: BTreeMap::new(), groups, max_parallelism, keys }
    }

    /// Its table can be asked for increments.
    pub(crate) fn recorded(mut self) -> Sets {
        self.table.record_changes();
        self
    }
}

fn contents(table: &mut Table<u64, Row>, keys: &[u64], groups: &Range<u32>, max: u32) -> BTreeMap<u64, Contents> {
    let mut found = BTreeMap::new();
    for &key in keys {
        let Some(hash) = owned_hash(&key, groups, max) else { continue };
        let content: Contents = table.with_states::<States, _>(hash, &key, |(value, list, map)| {
            assert_eq!((list.len(), map.len()), (list.iter().count(), map.iter().count()));
            (
                value.get().copied(),
                list.iter().copied().collect(),
                map.iter().map(|(key, value)| (*key, value.clone())).collect(),
            )
        });
        if content != Contents::default() {
            found.insert(key, content);
        }
    }
    assert_eq!(found.len(), table.len());
    found
}

impl Model for Sets {
    type Content = BTreeMap<u64, Contents>;

    fn operate(&mut self, random: &mut SmallRng) {
        let key = self.keys[random.random_range(0..self.keys.len())];
        let Some(hash) = owned_hash(&key, &self.groups, self.max_parallelism) else { return };
        if random.random_range(0..30) == 0 {
            assert_eq!(self.table.remove(hash, &key), self.model.remove(&key).is_some());
            return;
        }
        let model = self.model.entry(key).or_default();
        let (user_key, number) = (random.random_range(0..400_u16), random.random_range(0..1000_u32));
        let operation = random.random_range(0..40);
        self.table.with_states::<States, _>(hash, &key, |(mut value, mut list, mut map)| match operation {
            0..3 => {
                value.set(number.into());
                model.0 = Some(number.into());
            }
            3..6 => {
                value.update(|value| *value += 1);
                *model.0.get_or_insert(0) += 1;
            }
            6 => assert_eq!(value.take(), model.0.take()),
            7 => {
                if let Some(value) = value.get_mut() {
                    *value -= 5;
                }
                model.0 = model.0.map(|value| value - 5);
            }
            8..16 => {
                list.push(number);
                model.1.push(number);
            }
            16 => {
                list.clear();
                model.1.clear();
            }
            17 => {
                list.replace([1, 2, number]);
                model.1 = vec![1, 2, number];
            }
            18 => {
                let many = 0..number;
                list.extend(many.clone());
                model.1.extend(many);
            }
            19..28 => {
                let name = format!("name {number}");
                assert_eq!(map.insert(user_key, name.clone()), model.2.insert(user_key, name));
            }
            28..31 => assert_eq!(map.remove(&user_key), model.2.remove(&user_key)),
            31..33 => {
                map.get_or_insert_with(&user_key, String::new).push('+');
                model.2.entry(user_key).or_default().push('+');
            }
            33 => {
                if let Some(name) = map.get_mut(&user_key) {
                    name.push('!');
                }
                if let Some(name) = model.2.get_mut(&user_key) {
                    name.push('!');
                }
            }
            34 if number < 100 => {
                map.clear();
                model.2.clear();
            }
            35 => {
                for user_key in 0..number as u16 / 3 {
                    map.insert(user_key, "all".to_owned());
                    model.2.insert(user_key, "all".to_owned());
                }
            }
            _ => {
                assert_eq!(value.get(), model.0.as_ref());
                assert_eq!(map.get(&user_key), model.2.get(&user_key));
                assert_eq!(map.contains(&user_key), model.2.contains_key(&user_key));
                assert_eq!((list.is_empty(), map.is_empty()), (model.1.is_empty(), model.2.is_empty()));
            }
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
        assert_eq!(contents(&mut self.table, &self.keys, &self.groups, self.max_parallelism), self.model);
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
        let states = self.states.descriptors();
        let mut table: Table<u64, Row> =
            restore_chain(self.groups.clone(), self.max_parallelism, &states, chain).unwrap();
        contents(&mut table, &self.keys, &self.groups, self.max_parallelism)
    }
}

#[test]
fn a_snapshot_of_value_list_and_map_is_what_the_model_held_when_its_epoch_closed() {
    let mut completed = 0;
    for seed in 100..112 {
        let count = [1, 6, 400][seed as usize % 3];
        let keys = if seed % 2 == 0 { (0..count).collect() } else { keys_at_few_positions(count) };
        let (groups, max) = [(0..128, 128), (0..1, 1), (64..128, 128)][seed as usize / 3 % 3].clone();
        completed += run(Sets::new(groups, max, keys), seed, 700);
    }
    for seed in 112..124 {
        completed += run(Sets::new(0..128, 128, keys_at_few_positions(14)), seed, 400);
    }
    assert!(completed > 50, "only {completed} snapshots completed");
}
