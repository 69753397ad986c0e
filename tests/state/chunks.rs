//! The stored bytes: frozen, checked, and never trusted.

use alluvium::record::hash_key;
use alluvium::state::{
    CHUNK_HEADER_BYTES, ChunkHeader, Inline, List, Map, Plain, StateDescriptor, StateError, StateKind, StateMapping,
    StateSet, Table, Value, check_names,
};
use alluvium_actors::ids::CheckpointId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::support::{Kept, SEED, finish, restore};

fn written<S: StateSet>(states: &S, keys: u64, change: impl Fn(u64, S::Access<'_>)) -> Vec<Vec<u8>> {
    let mut table = Table::<u64, S::Row>::new(0..4, 4, SEED, states.descriptors());
    for key in 0..keys {
        let hash = hash_key(SEED, &key).unwrap();
        table.with_states::<S, _>(hash, &key, |access| change(key, access));
    }
    let (checkpoint, mut kept) = (CheckpointId(1), Kept::default());
    table.close_epoch(checkpoint).unwrap();
    finish(&mut table, checkpoint, &mut kept);
    kept.0.remove(&checkpoint).unwrap_or_default()
}

/// The chunk with other entries' bytes, under a checksum that fits.
fn resealed(chunk: &[u8], count: u32, entries: &[u8]) -> Vec<u8> {
    let mut bytes = chunk[..CHUNK_HEADER_BYTES].to_vec();
    bytes[8..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..16].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), entries);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    bytes.extend(entries);
    bytes
}

#[test]
fn a_chunk_has_the_documented_bytes() {
    let states = (Value::<i64>::named("v"), List::<u8>::named("l"), Map::<u8, bool>::named("m"));
    let chunks = written(&states, 1, |_, (mut value, mut list, mut map)| {
        value.set(-1);
        list.extend([7, 8]);
        map.insert(3, true);
    });
    let entries: Vec<(u16, u32, &[u8])> = chunks
        .iter()
        .map(|chunk| {
            let (header, entries) = ChunkHeader::open(chunk).unwrap();
            (header.state, header.count, entries)
        })
        .collect();
    // Key 0, then -1; key 0, then [7, 8]; key 0, then 3 and true.
    assert_eq!(entries, [(0, 1, &[0, 0xFF][..]), (1, 1, &[0, 0x92, 7, 8]), (2, 1, &[0, 3, 0xC3])]);
    let head = &chunks[0][..CHUNK_HEADER_BYTES];
    let group = alluvium::record::key_group(hash_key(SEED, &0_u64).unwrap(), 4) as u8;
    assert_eq!(head[..16], [1, 0, 0, 0, group, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
}

#[test]
fn every_flipped_bit_and_every_truncation_is_an_error() {
    let states = Value::<u64>::named("v");
    let chunks = written(&states, 40, |key, mut value| value.set(key));
    let mapping = StateMapping::new(&states.descriptors(), &states.descriptors()).unwrap();
    let chunk = &chunks[0];
    for bit in 0..chunk.len() * 8 {
        let mut damaged = chunk.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut table = Table::<u64, <Value<u64> as StateSet>::Row>::new(0..4, 4, SEED, states.descriptors());
        assert!(table.restore_chunk(&mapping, &damaged).is_err(), "bit {bit}");
    }
    for length in 0..chunk.len() {
        let mut table = Table::<u64, <Value<u64> as StateSet>::Row>::new(0..4, 4, SEED, states.descriptors());
        assert!(table.restore_chunk(&mapping, &chunk[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn random_entries_under_a_right_checksum_give_an_error_or_a_table_but_no_panic() {
    type States = (Value<Vec<String>>, List<(u8, Option<Vec<u64>>)>, Map<Vec<u8>, String>);
    let states: States = (Value::named("v"), List::named("l"), Map::named("m"));
    let mapping = StateMapping::new(&states.descriptors(), &states.descriptors()).unwrap();
    let chunks = written(&states, 30, |key, (mut value, mut list, mut map)| {
        value.set(vec!["text".to_owned(); key as usize % 5]);
        list.extend((0..key as u8).map(|n| (n, Some(vec![key; 3]))));
        map.insert(vec![1, 2, 3], "x".repeat(key as usize));
    });
    let mut random = SmallRng::seed_from_u64(5);
    let (mut refused, mut rounds) = (0, 0);
    for chunk in &chunks {
        let (header, entries) = ChunkHeader::open(chunk).unwrap();
        for _ in 0..300 {
            let mut entries = entries.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..entries.len());
                // The markers of long strings, arrays, maps and binaries are the ones that could make a reader allocate.
                entries[at] = [random.random(), 0xDD, 0xDF, 0xDB, 0xC6, 0xC9][random.random_range(0..6)];
            }
            let count = [header.count, u32::MAX, random.random()][random.random_range(0..3)];
            let bytes = resealed(chunk, count, &entries);
            let mut table = Table::<u64, <States as StateSet>::Row>::new(0..4, 4, SEED, states.descriptors());
            refused += u32::from(table.restore_chunk(&mapping, &bytes).is_err());
            rounds += 1;
        }
    }
    assert!(refused > rounds / 2, "{refused} of {rounds} refused");
}

#[test]
fn entries_of_another_group_or_seed_or_twice_are_refused() {
    let states = Value::<u64>::named("v");
    let chunks = written(&states, 40, |key, mut value| value.set(key));
    let descriptors = states.descriptors();
    let mapping = StateMapping::new(&descriptors, &descriptors).unwrap();
    type Single = Table<u64, <Value<u64> as StateSet>::Row>;

    let mut narrow = Single::new(3..4, 4, SEED, descriptors.clone());
    let foreign = narrow.restore_chunk(&mapping, &chunks[0]);
    assert_eq!(foreign, Err(StateError::ForeignKeyGroup { group: 0, first: 3, last: 3 }));

    let mut other_seed = Single::new(0..4, 4, SEED + 1, descriptors.clone());
    assert!(matches!(other_seed.restore_chunk(&mapping, &chunks[0]), Err(StateError::KeyMoved { .. })));

    let mut twice = Single::new(0..4, 4, SEED, descriptors.clone());
    twice.restore_chunk(&mapping, &chunks[0]).unwrap();
    assert!(matches!(twice.restore_chunk(&mapping, &chunks[0]), Err(StateError::Duplicate { .. })));

    let (header, entries) = ChunkHeader::open(&chunks[0]).unwrap();
    let mut surplus = Single::new(0..4, 4, SEED, descriptors);
    let more = resealed(&chunks[0], header.count, &[entries, &[0]].concat());
    assert!(matches!(surplus.restore_chunk(&mapping, &more), Err(StateError::Damaged(_))));
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Old {
    sequence: u32,
    dropped: String,
    delay: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    #[serde(default)]
    added: Option<u8>,
    delay: i64,
    sequence: u32,
}

#[test]
fn fields_can_be_added_removed_and_reordered() {
    let states = Value::<Old>::named("total");
    let chunks = written(&states, 3, |key, mut value| {
        value.set(Old { sequence: key as u32, dropped: "gone".to_owned(), delay: -5 });
    });
    let states = Value::<New>::named("total");
    let mut table: Table<u64, <Value<New> as StateSet>::Row> =
        restore(0..4, 4, &states.descriptors(), &chunks).unwrap();
    for key in 0..3_u64 {
        let hash = hash_key(SEED, &key).unwrap();
        let found = table.with_states::<Value<New>, _>(hash, &key, |value| value.get().cloned());
        assert_eq!(found, Some(New { added: None, delay: -5, sequence: key as u32 }));
    }
}

#[test]
fn states_are_found_by_name_and_refused_when_they_changed() {
    let old = (Value::<u64>::named("a"), List::<u8>::named("b"));
    let chunks = written(&old, 9, |key, (mut value, mut list)| {
        value.set(key);
        list.push(key as u8);
    });
    type Wider = (List<u8>, Value<String>, Value<u64>);
    let wider: Wider = (List::named("b"), Value::named("new"), Value::named("a"));
    let mapping = StateMapping::new(&old.descriptors(), &wider.descriptors()).unwrap();
    let mut table = Table::<u64, <Wider as StateSet>::Row>::new(0..4, 4, SEED, wider.descriptors());
    for chunk in &chunks {
        table.restore_chunk(&mapping, chunk).unwrap();
    }
    for key in 0..9_u64 {
        table.with_states::<Wider, _>(hash_key(SEED, &key).unwrap(), &key, |(list, new, value)| {
            assert_eq!(
                (list.iter().copied().collect::<Vec<_>>(), new.get(), value.get()),
                (vec![key as u8], None, Some(&key))
            );
        });
    }

    let of = |kind, name: &str| StateDescriptor::new(kind, name, &[]);
    let refused = |stored: &StateDescriptor, current: &StateDescriptor| {
        StateMapping::new(std::slice::from_ref(stored), std::slice::from_ref(current)).unwrap_err()
    };
    let value = of(StateKind::Value, "a");
    assert_eq!(refused(&value, &of(StateKind::Value, "b")), StateError::UnknownState("a".to_owned()));
    assert!(matches!(refused(&value, &of(StateKind::Map, "a")), StateError::KindChanged { .. }));
    let mut alien = value.clone();
    alien.encoding = "json".to_owned();
    assert!(matches!(refused(&alien, &value), StateError::UnknownEncoding { .. }));
    let mut mortal = value.clone();
    mortal.time_to_live = Some(1000);
    assert_eq!(refused(&mortal, &value), StateError::TimeToLiveChanged("a".to_owned()));
    assert_eq!(check_names(["a", "b", "a"]), Err(StateError::DuplicateName("a".to_owned())));
}

#[test]
fn a_value_of_aggregate_and_a_value_state_are_stored_alike() {
    let states = Value::<i64>::named("sum");
    let chunks = written(&states, 20, |key, mut value| value.set(key as i64));
    let table: Table<u64, Plain<i64>, Inline<Plain<i64>>> = restore(0..4, 4, &states.descriptors(), &chunks).unwrap();
    assert_eq!(table.len(), 20);
    assert_eq!(table.value(hash_key(SEED, &7_u64).unwrap(), &7), Some(&7));
}
