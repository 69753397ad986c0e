//! Tables of a size at which order, growth and chosen keys matter.

use alluvium::record::{Borrowed, KeySelector, hash_key, key_group, key_group_range};
use alluvium::state::{Plain, StateDescriptor, StateKind, Table};
use alluvium_actors::ids::CheckpointId;

use crate::support::{Kept, KeysByHash, SEED, finish, owned_hash, restore};

type Sums = Table<u64, Plain<u64>>;

fn table(groups: std::ops::Range<u32>, max_parallelism: u32) -> Sums {
    Table::new(groups, max_parallelism, SEED, vec![StateDescriptor::new(StateKind::Value, "sum", &["u64"])])
}

#[test]
fn the_table_is_in_the_order_of_the_hashes_after_growth_and_removals() {
    for groups in [0..128, 3..4, key_group_range(1, 3, 128)] {
        let mut table = table(groups.clone(), 128);
        let mut left = Vec::new();
        for key in 0..200_000_u64 {
            let Some(hash) = owned_hash(&key, &groups, 128) else { continue };
            *table.value_mut(hash, &key, || 0) = key;
            left.push((hash, key));
        }
        for (hash, key) in left.iter().filter(|(_, key)| key % 3 == 0) {
            assert!(table.remove(*hash, key));
        }
        left.retain(|(_, key)| key % 3 != 0);
        left.sort_unstable();
        let found: Vec<u64> = table.iter().map(|(key, _)| *key).collect();
        let groups_of = |keys: &[u64]| -> Vec<u32> {
            keys.iter().map(|key| key_group(hash_key(SEED, key).unwrap(), 128)).collect()
        };
        assert!(groups_of(&found).is_sorted(), "a key group is not one run");
        assert_eq!(found.len(), left.len());
        // Keys of equal positions may stand in any order, so compare where positions differ for certain.
        let far = |a: u64, b: u64| a.abs_diff(b) > 1 << 33;
        for (number, key) in found.iter().enumerate() {
            let (hash, expected) = left[number];
            assert!(*key == expected || !far(hash, hash_key(SEED, key).unwrap()));
        }
        for (hash, key) in &left {
            assert_eq!(table.value(*hash, key), Some(key));
        }
    }
}

fn selector<F: Fn(&u64) -> &u64 + Clone + Send + 'static>(select: F) -> impl KeySelector<u64, u64> {
    Borrowed(select)
}

#[test]
fn a_batch_in_whose_middle_the_table_grows_brings_every_record_to_its_key() {
    const KEYS: u64 = 300_000;
    let select = selector(|key: &u64| key);
    let mut table = table(0..128, 128);
    for first in (0..KEYS).step_by(128) {
        // Each key again a few records later: its home was asked for before the key in front of it was inserted, and perhaps made a chunk split.
        let keys: Vec<u64> = (first..(first + 128).min(KEYS)).collect();
        let records: Vec<u64> = keys.chunks(6).flat_map(|few| [few, few].concat()).collect();
        let hashes: Vec<u64> = records.iter().map(|key| hash_key(SEED, key).unwrap()).collect();
        table.update_batch(
            &hashes,
            records,
            &select,
            || 0,
            |held, times, key| {
                assert_eq!(*held, key);
                *times += 1;
            },
        );
    }
    assert_eq!(table.len() as u64, KEYS);
    for key in 0..KEYS {
        assert_eq!(table.value(hash_key(SEED, &key).unwrap(), &key), Some(&2), "key {key}");
    }
}

#[test]
fn a_million_keys_that_collide_under_another_seed_do_not_collide_here() {
    const KEYS: u64 = 1_000_000;
    let fill = |keys: &mut dyn Iterator<Item = u64>, seed: u64| {
        let mut table = Sums::new(0..128, 128, seed, vec![StateDescriptor::new(StateKind::Value, "sum", &["u64"])]);
        keys.for_each(|key| _ = table.value_mut(hash_key(seed, &key).unwrap(), &key, || 0));
        table
    };
    let backwards = KeysByHash::new(1);
    let chosen = |number: u64| backwards.key((77 << 32) + number);
    assert!((0..KEYS).step_by(1000).all(|number| hash_key(1, &chosen(number)).unwrap() == (77 << 32) + number));

    let normal = fill(&mut (0..KEYS), SEED).statistics();
    let hostile = fill(&mut (0..KEYS).map(&chosen), SEED).statistics();
    assert!(hostile.mean_distance <= 10.0 * normal.mean_distance, "{hostile:?}, {normal:?} with ordinary keys");
    assert!(hostile.longest_distance <= 10 * normal.longest_distance, "{hostile:?}, {normal:?} with ordinary keys");
    assert!(hostile.slots <= 2 * normal.slots);

    // The same keys under the seed that they were chosen for are one long run, in slots that do not run away.
    let attacked = fill(&mut (0..2_000).map(&chosen), 1);
    assert!(attacked.statistics().longest_distance > 1_900 && attacked.statistics().slots < 40_000);
    for key in (0..2_000).map(&chosen) {
        assert!(attacked.value(hash_key(1, &key).unwrap(), &key).is_some());
    }
}

#[test]
fn a_snapshot_taken_while_the_table_grows_restores_what_was_there_before() {
    let mut grown = table(0..128, 128);
    for key in 0..50_000_u64 {
        *grown.value_mut(hash_key(SEED, &key).unwrap(), &key, || 0) = key;
    }
    grown.close_epoch(CheckpointId(1)).unwrap();
    let mut kept = Kept::default();
    for key in 0..400_000_u64 {
        *grown.value_mut(hash_key(SEED, &key).unwrap(), &key, || 0) += 1;
        if key % 64 == 0 && !grown.open_snapshots().is_empty() {
            grown.advance(CheckpointId(1), 20, &mut kept).unwrap();
        }
    }
    if !grown.open_snapshots().is_empty() {
        finish(&mut grown, CheckpointId(1), &mut kept);
    }
    let restored: Sums = restore(0..128, 128, grown.descriptors(), &kept.0[&CheckpointId(1)]).unwrap();
    assert_eq!(restored.len(), 50_000);
    for (key, _) in restored.iter() {
        assert_eq!(restored.value(hash_key(SEED, key).unwrap(), key), Some(key));
    }
}
