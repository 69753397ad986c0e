//! Rows of states: what is kept, what is dropped, what costs nothing.

use alluvium::record::hash_key;
use alluvium::state::{
    List, Map, Plain, Progress, StateDescriptor, StateError, StateKind, StateSet, Table, Value, is_large,
};
use alluvium_actors::ids::CheckpointId;
use serde::{Deserialize, Serialize, Serializer};

use crate::support::{Kept, SEED, finish};

fn hash(key: u64) -> u64 {
    hash_key(SEED, &key).unwrap()
}

#[test]
fn a_key_whose_states_are_empty_is_removed() {
    type States = (Value<u64>, List<u64>, Map<u64, u64>);
    let states: States = (Value::named("v"), List::named("l"), Map::named("m"));
    let mut table = Table::<u64, <States as StateSet>::Row>::new(0..128, 128, SEED, states.descriptors());
    table.with_states::<States, _>(hash(1), &1, |(value, list, map)| {
        assert_eq!((value.get(), list.len(), map.len()), (None, 0, 0));
    });
    assert!(table.is_empty(), "reading made a row");
    table.with_states::<States, _>(hash(1), &1, |(mut value, mut list, mut map)| {
        value.set(1);
        list.push(2);
        map.insert(3, 4);
    });
    assert_eq!(table.len(), 1);
    table.with_states::<States, _>(hash(1), &1, |(mut value, mut list, mut map)| {
        value.clear();
        list.clear();
        map.remove(&3);
    });
    assert!(table.is_empty());
}

#[test]
fn one_changed_element_keeps_one_element_and_a_pushed_one_keeps_nothing() {
    type States = (List<u64>, Map<u64, u64>);
    let states: States = (List::named("l"), Map::named("m"));
    let mut table = Table::<u64, <States as StateSet>::Row>::new(0..128, 128, SEED, states.descriptors());
    table.with_states::<States, _>(hash(1), &1, |(mut list, mut map)| {
        list.extend(0..1000);
        (0..1000).for_each(|key| _ = map.insert(key, key));
    });
    table.close_epoch(CheckpointId(1)).unwrap();
    table.with_states::<States, _>(hash(1), &1, |(list, map)| assert_eq!((list.len(), map.len()), (1000, 1000)));
    assert_eq!(table.snapshot_bytes(), 0, "reading kept something");
    table.with_states::<States, _>(hash(1), &1, |(mut list, mut map)| {
        list.push(7);
        map.insert(5000, 1);
    });
    assert_eq!(table.snapshot_bytes(), 0, "what is new was kept");
    table.with_states::<States, _>(hash(1), &1, |(_, mut map)| _ = map.insert(17, 1));
    let one = table.snapshot_bytes();
    assert!((1..=512).contains(&one), "one entry of the map takes {one} bytes");
    table.with_states::<States, _>(hash(1), &1, |(_, mut map)| _ = map.insert(17, 2));
    assert_eq!(table.snapshot_bytes(), one, "an entry was kept twice");
    table.with_states::<States, _>(hash(1), &1, |(mut list, _)| list.clear());
    assert!(table.snapshot_bytes() > 1000);
    table.abort(CheckpointId(1));
    assert_eq!(table.snapshot_bytes(), 0);
}

#[test]
fn one_large_map_or_list_is_written_in_slices() {
    type States = (List<u64>, Map<u64, u64>);
    let states: States = (List::named("l"), Map::named("m"));
    let mut table = Table::<u64, <States as StateSet>::Row>::new(0..128, 128, SEED, states.descriptors());
    table.with_states::<States, _>(hash(1), &1, |(mut list, mut map)| {
        list.extend(0..20_000);
        (0..20_000).for_each(|key| _ = map.insert(key, key));
    });
    table.close_epoch(CheckpointId(1)).unwrap();
    let (mut kept, mut slices) = (Kept::default(), 1);
    while table.advance(CheckpointId(1), 1_000, &mut kept).unwrap() == Progress::More {
        slices += 1;
    }
    assert!((40..45).contains(&slices), "{slices} slices");
}

#[test]
fn the_open_chunks_of_all_snapshots_stay_below_eight_megabytes() {
    type Row = <Value<String> as StateSet>::Row;
    for groups in [1, 128, 32_768] {
        let states = Value::<String>::named("v");
        let mut table = Table::<u64, Row>::new(0..groups, groups, SEED, states.descriptors());
        let text = "x".repeat(200);
        for key in 0..60_000 {
            table.with_states::<Value<String>, _>(hash(key), &key, |mut value| value.set(text.clone()));
        }
        let checkpoints = [1, 2, 3].map(CheckpointId);
        checkpoints.iter().for_each(|checkpoint| table.close_epoch(*checkpoint).unwrap());
        let (mut kept, mut most) = (Kept::default(), 0);
        for key in 0..60_000 {
            table.with_states::<Value<String>, _>(hash(key), &key, |mut value| value.clear());
            if key % 256 == 0 {
                for checkpoint in checkpoints {
                    assert_eq!(table.advance(checkpoint, 0, &mut kept).unwrap(), Progress::More);
                }
                most = most.max(table.snapshot_bytes());
            }
        }
        assert!(most < 8 << 20, "{most} bytes in open chunks of {groups} key groups");
        for checkpoint in checkpoints {
            finish(&mut table, checkpoint, &mut kept);
            let restored: Table<u64, Row> =
                crate::support::restore(0..groups, groups, &states.descriptors(), &kept.0[&checkpoint]).unwrap();
            assert_eq!((table.len(), restored.len()), (0, 60_000));
        }
    }
}

#[derive(Clone, Deserialize)]
struct Sulky(u64);

impl Serialize for Sulky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 3 { Err(serde::ser::Error::custom("not three")) } else { serializer.serialize_u64(self.0) }
    }
}

#[test]
fn a_value_that_does_not_encode_fails_the_snapshot_and_not_the_table() {
    let states = vec![StateDescriptor::new(StateKind::Value, "sulky", &[])];
    let mut table = Table::<u64, Plain<Sulky>>::new(0..128, 128, SEED, states);
    for key in 0..10 {
        table.value_mut(hash(key), &key, || Sulky(key));
    }
    let mut kept = Kept::default();
    for checkpoint in [CheckpointId(1), CheckpointId(2)] {
        table.close_epoch(checkpoint).unwrap();
        assert_eq!(table.close_epoch(checkpoint), Err(StateError::SnapshotExists(checkpoint)));
    }
    // The first snapshot fails where it walks, the second when the value changes.
    let walked = table.advance(CheckpointId(1), 100, &mut kept);
    let expected = StateError::Encode { state: "sulky".to_owned(), message: "not three".to_owned() };
    assert_eq!(walked, Err(expected.clone()));
    table.value_mut(hash(3), &3, || Sulky(0)).0 = 4;
    assert_eq!(table.advance(CheckpointId(2), 0, &mut kept), Err(expected));
    assert_eq!(table.advance(CheckpointId(2), 0, &mut kept), Err(StateError::NoSuchSnapshot(CheckpointId(2))));
    table.close_epoch(CheckpointId(3)).unwrap();
    finish(&mut table, CheckpointId(3), &mut kept);
    assert_eq!(table.len(), 10);
}

#[test]
fn rows_over_64_bytes_are_large_and_can_stand_in_a_box() {
    type Big = [u64; 9];
    assert!(is_large::<Plain<Big>>() && !is_large::<Plain<[u64; 8]>>());
    let states = vec![StateDescriptor::new(StateKind::Value, "big", &[])];
    let mut table = Table::<u64, Plain<Big>, Box<Plain<Big>>>::new(0..128, 128, SEED, states);
    for key in 0..1000 {
        table.value_mut(hash(key), &key, || [key; 9])[0] += 1;
    }
    assert_eq!(table.value(hash(7), &7).map(|row| (row[0], row[8])), Some((8, 7)));
}

#[test]
#[should_panic(expected = "does not belong to the key groups 0..1 of this table")]
fn a_hash_of_another_subtask_is_refused() {
    let states = vec![StateDescriptor::new(StateKind::Value, "sum", &["i64"])];
    let mut table = Table::<u64, Plain<i64>>::new(0..1, 128, SEED, states);
    table.value_mut(u64::MAX, &1, || 0);
}
