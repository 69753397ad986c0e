//! Increments of a table: random operations and checkpoints, of which several are open at a time, complete, are aborted, or complete without the table hearing of it.
//! What a full snapshot and the increments over it restore must be exactly what the model held when the last epoch closed.

use alluvium::record::hash_key;
use alluvium::state::{Inline, List, Map, Plain, Progress, StateDescriptor, StateKind, StateSet, Table, Value};
use alluvium_actors::ids::CheckpointId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::combining::Combined;
use crate::model::{Model, Plains, Sets};
use crate::support::{Kept, SEED, finish, keys_at_few_positions};

/// The chunks of a full snapshot, and of each increment over it.
type Chain = Vec<Vec<Vec<u8>>>;

/// A checkpoint that is neither complete nor aborted.
struct Pending<C> {
    checkpoint: CheckpointId,
    /// What it stands on; empty for a full one.
    base: Chain,
    expected: C,
    written: bool,
}

#[derive(Debug, Default)]
struct Count {
    full: u32,
    increments: u32,
    restarts: u32,
}

/// Operations and checkpoints from a seed.
fn run<M: Model>(mut model: M, seed: u64, steps: u32) -> Count {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut kept = Kept::default();
    let mut pending: Vec<Pending<M::Content>> = Vec::new();
    // What the table was told of last, and the newest complete checkpoint.
    let mut told: Option<(CheckpointId, Chain)> = None;
    let mut newest: Option<(CheckpointId, Chain, M::Content)> = None;
    let mut count = Count::default();
    let mut next = CheckpointId(1);
    for _ in 0..steps {
        match random.random_range(0..100) {
            0..60 => {
                for _ in 0..random.random_range(1..20) {
                    model.operate(&mut random);
                }
            }
            60..70 if pending.len() < 3 => {
                let wanted = told.clone().filter(|_| random.random_range(0..12) > 0);
                let increment = model.close(next, wanted.as_ref().map(|base| base.0));
                *(if increment { &mut count.increments } else { &mut count.full }) += 1;
                let base = wanted.filter(|_| increment).map_or_else(Vec::new, |base| base.1);
                pending.push(Pending { checkpoint: next, base, expected: model.content(), written: false });
                next = next.next();
            }
            70..92 if !pending.is_empty() => {
                let number = random.random_range(0..pending.len());
                let budget = [0, 1, 2, 7, 50, 400][random.random_range(0..6)];
                let pending = &mut pending[number];
                pending.written =
                    pending.written || model.advance(pending.checkpoint, budget, &mut kept) == Progress::Done;
            }
            92..97 if pending.iter().any(|pending| pending.written) => {
                let written: Vec<usize> = (0..pending.len()).filter(|number| pending[*number].written).collect();
                let number = written[random.random_range(0..written.len())];
                let complete = pending.remove(number);
                let mut chain = complete.base;
                chain.push(kept.0.remove(&complete.checkpoint).unwrap_or_default());
                assert_eq!(
                    model.restored(&chain),
                    complete.expected,
                    "seed {seed}, checkpoint {} with {} increments",
                    complete.checkpoint,
                    chain.len() - 1
                );
                newest = Some((complete.checkpoint, chain.clone(), complete.expected));
                // What is older is subsumed.
                for older in pending.extract_if(..number, |_| true) {
                    model.abort(older.checkpoint);
                    kept.0.remove(&older.checkpoint);
                }
                if random.random_range(0..5) > 0 {
                    model.completed(complete.checkpoint);
                    told = Some((complete.checkpoint, chain));
                }
            }
            97..99 if !pending.is_empty() => {
                let aborted = pending.remove(random.random_range(0..pending.len()));
                model.abort(aborted.checkpoint);
                kept.0.remove(&aborted.checkpoint);
            }
            99 if random.random_range(0..4) == 0 => {
                let Some((checkpoint, chain, expected)) = newest.clone() else { continue };
                model.restart(&chain, checkpoint, expected);
                told = Some((checkpoint, chain));
                pending.clear();
                kept.0.clear();
                count.restarts += 1;
            }
            _ => {}
        }
        model.check();
    }
    count
}

fn all(counts: impl IntoIterator<Item = Count>) {
    let sum = counts.into_iter().fold(Count::default(), |sum, count| Count {
        full: sum.full + count.full,
        increments: sum.increments + count.increments,
        restarts: sum.restarts + count.restarts,
    });
    assert!(sum.increments > 300 && sum.full > 30 && sum.restarts > 5, "{sum:?}");
}

#[test]
fn increments_of_values_over_their_base_are_what_the_model_held() {
    all((0..36).map(|seed| {
        let count = [20, 300, 5_000][seed as usize % 3];
        let keys = if seed % 2 == 0 { (0..count).collect() } else { keys_at_few_positions(count) };
        let (groups, max) = [(0..128, 128), (5..6, 128), (40..86, 129), (0..1, 1)][seed as usize / 2 % 4].clone();
        run(Plains::<Inline<_>>::new(groups, max, keys).recorded(), seed, 700)
    }));
}

#[test]
fn increments_of_value_list_and_map_over_their_base_are_what_the_model_held() {
    all((100..130).map(|seed| {
        let count = [1, 6, 400][seed as usize % 3];
        let keys = if seed % 2 == 0 { (0..count).collect() } else { keys_at_few_positions(count) };
        let (groups, max) = [(0..128, 128), (0..1, 1), (64..128, 128)][seed as usize / 3 % 3].clone();
        run(Sets::new(groups, max, keys).recorded(), seed, 700)
    }));
}

#[test]
fn increments_of_reducing_and_aggregating_over_their_base_are_what_the_model_held() {
    all((200..230).map(|seed| {
        let count = [3, 40, 400][seed as usize % 3];
        let keys = if seed % 2 == 0 { (0..count).collect() } else { keys_at_few_positions(count) };
        run(Combined::new(0..128, 128, keys).recorded(), seed, 700)
    }));
}

type Sums = Table<u64, Plain<u64>, Inline<Plain<u64>>>;

fn hash(key: u64) -> u64 {
    hash_key(SEED, &key).unwrap()
}

/// A recorded table of so many keys, whose checkpoint 1 is complete.
fn filled(keys: u64) -> Sums {
    let mut table = Sums::new(0..128, 128, SEED, vec![StateDescriptor::new(StateKind::Value, "sum", &["u64"])]);
    table.record_changes();
    for key in 0..keys {
        *table.value_mut(hash(key), &key, || 0) = key;
    }
    table.close_epoch(CheckpointId(1)).unwrap();
    finish(&mut table, CheckpointId(1), &mut Kept::default());
    table.completed(CheckpointId(1));
    table
}

/// The bytes of an increment, and how many calls of `advance` with a budget of 1,000 it took.
fn increment<K: alluvium::record::Key, R: alluvium::state::Row, H: alluvium::state::Hold<R>>(
    table: &mut Table<K, R, H>,
    checkpoint: CheckpointId,
    base: CheckpointId,
) -> (usize, u32) {
    let mut kept = Kept::default();
    assert!(table.close_epoch_on(checkpoint, base).unwrap(), "no increment");
    let mut calls = 1;
    while table.advance(checkpoint, 1_000, &mut kept).unwrap() == Progress::More {
        calls += 1;
    }
    (kept.0.values().flatten().map(Vec::len).sum(), calls)
}

#[test]
fn an_increment_visits_and_writes_little_more_than_what_changed() {
    let mut table = filled(200_000);
    let (nothing, calls) = increment(&mut table, CheckpointId(2), CheckpointId(1));
    assert_eq!((nothing, calls), (0, 1));
    for key in (0..200_000).step_by(1_000) {
        *table.value_mut(hash(key), &key, || 0) += 1;
    }
    let (bytes, calls) = increment(&mut table, CheckpointId(3), CheckpointId(1));
    assert!((200 * 4..200 * 100).contains(&bytes), "{bytes} bytes for 200 values");
    assert!(calls <= 3, "{calls} thousand visits for 200 values");
}

#[test]
fn one_changed_entry_of_a_large_map_is_all_that_is_written_of_it() {
    type States = (List<u64>, Map<u64, u64>);
    let states: States = (List::named("l"), Map::named("m"));
    let mut table = Table::<u64, <States as StateSet>::Row>::new(0..128, 128, SEED, states.descriptors());
    table.record_changes();
    table.with_states::<States, _>(hash(1), &1, |(mut list, mut map)| {
        list.extend(0..100_000);
        (0..100_000).for_each(|key| _ = map.insert(key, key));
    });
    table.close_epoch(CheckpointId(1)).unwrap();
    finish(&mut table, CheckpointId(1), &mut Kept::default());
    table.completed(CheckpointId(1));
    table.with_states::<States, _>(hash(1), &1, |(list, map)| assert_eq!((list.len(), map.len()), (100_000, 100_000)));
    assert_eq!(increment(&mut table, CheckpointId(2), CheckpointId(1)).0, 0, "reading changes nothing");
    table.with_states::<States, _>(hash(1), &1, |(mut list, mut map)| {
        list.push(7);
        map.insert(5, 6);
        map.remove(&9);
    });
    let (bytes, calls) = increment(&mut table, CheckpointId(3), CheckpointId(1));
    assert!(bytes < 200, "{bytes} bytes for an element, an entry and a removal");
    assert!(calls <= 2, "{calls} thousand visits");
}

#[test]
fn a_tombstone_stays_until_a_checkpoint_that_covers_it_is_complete() {
    let mut table = filled(10);
    assert!(table.remove(hash(3), &3));
    assert_eq!(table.tombstones(), 1);
    table.close_epoch_on(CheckpointId(2), CheckpointId(1)).unwrap();
    finish(&mut table, CheckpointId(2), &mut Kept::default());
    assert_eq!(table.tombstones(), 1, "checkpoint 2 may still be aborted");
    table.abort(CheckpointId(2));
    let removal = increment(&mut table, CheckpointId(3), CheckpointId(1)).0;
    assert!(removal > 0, "the removal is in the next increment on the same base");
    table.completed(CheckpointId(3));
    assert_eq!(table.tombstones(), 0);
    assert_eq!(increment(&mut table, CheckpointId(4), CheckpointId(3)).0, 0);
}

#[test]
fn what_comes_and_goes_within_one_epoch_leaves_no_tombstone() {
    let mut table = filled(10);
    for _ in 0..1_000 {
        *table.value_mut(hash(77), &77, || 0) += 1;
        table.remove(hash(77), &77);
        table.remove(hash(3), &3);
        *table.value_mut(hash(3), &3, || 0) += 1;
    }
    assert_eq!(table.tombstones(), 1, "that of key 3, which the base holds");
    type States = Value<u64>;
    let states: States = Value::named("v");
    let mut rows = Table::<u64, <States as StateSet>::Row>::new(0..128, 128, SEED, states.descriptors());
    rows.record_changes();
    for _ in 0..1_000 {
        rows.with_states::<States, _>(hash(1), &1, |mut value| value.set(1));
        rows.with_states::<States, _>(hash(1), &1, |mut value| value.clear());
    }
    assert_eq!(rows.tombstones(), 0);
}

#[test]
fn with_more_removals_than_are_worth_it_the_next_snapshot_is_a_full_one() {
    let mut table = filled(9_000);
    for key in 0..8_000 {
        table.remove(hash(key), &key);
    }
    assert_eq!(table.tombstones(), 0, "they would be larger than what is left");
    assert!(!table.close_epoch_on(CheckpointId(2), CheckpointId(1)).unwrap());
    let mut kept = Kept::default();
    finish(&mut table, CheckpointId(2), &mut kept);
    table.completed(CheckpointId(2));
    assert!(table.remove(hash(8_500), &8_500));
    assert!(
        table.close_epoch_on(CheckpointId(3), CheckpointId(2)).unwrap(),
        "from there on there are increments again"
    );
}

#[test]
fn removals_that_are_too_many_take_nothing_from_a_snapshot_that_is_being_written() {
    let mut table = filled(9_000);
    for key in 0..100 {
        table.remove(hash(key), &key);
    }
    assert!(table.close_epoch_on(CheckpointId(2), CheckpointId(1)).unwrap());
    for key in 1_000..8_900 {
        table.remove(hash(key), &key);
    }
    let mut kept = Kept::default();
    finish(&mut table, CheckpointId(2), &mut kept);
    let removed: u32 = kept.0[&CheckpointId(2)]
        .iter()
        .map(|chunk| alluvium::state::ChunkHeader::read(chunk).unwrap())
        .filter(|header| header.removals)
        .map(|header| header.count)
        .sum();
    assert_eq!(removed, 100);
    table.completed(CheckpointId(2));
    assert!(!table.close_epoch_on(CheckpointId(3), CheckpointId(2)).unwrap(), "of the other 7,900 nothing is known");
}

#[test]
fn an_increment_is_only_written_on_the_base_that_the_table_was_told_of() {
    let mut table = filled(10);
    assert!(!table.close_epoch_on(CheckpointId(2), CheckpointId(9)).unwrap());
    assert!(table.close_epoch_on(CheckpointId(3), CheckpointId(1)).unwrap());
    let mut unrecorded = Sums::new(0..128, 128, SEED, table.descriptors().to_vec());
    unrecorded.close_epoch(CheckpointId(1)).unwrap();
    finish(&mut unrecorded, CheckpointId(1), &mut Kept::default());
    unrecorded.completed(CheckpointId(1));
    assert!(!unrecorded.close_epoch_on(CheckpointId(2), CheckpointId(1)).unwrap());
}
