//! What the tests share: a sink that keeps chunks, tables from seeds, restores.

use std::collections::BTreeMap;
use std::ops::Range;

use alluvium::record::{Key, hash_key, key_group};
use alluvium::state::{ChunkHeader, ChunkSink, Hold, Progress, Row, StateDescriptor, StateError, StateMapping, Table};
use alluvium_actors::ids::CheckpointId;

pub(crate) const SEED: u64 = 0xA11_0111;

/// Keeps the chunks of every checkpoint in the order in which they came.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) BTreeMap<CheckpointId, Vec<Vec<u8>>>);

impl ChunkSink for Kept {
    fn chunk(&mut self, checkpoint: CheckpointId, header: ChunkHeader, bytes: Vec<u8>) {
        let (read, _) = ChunkHeader::open(&bytes).expect("a chunk checks itself");
        assert_eq!(read, header);
        assert!(header.count > 0, "an empty chunk");
        self.0.entry(checkpoint).or_default().push(bytes);
    }
}

/// The hash of a key, or nothing when its key group is not among `groups`.
pub(crate) fn owned_hash<K: Key>(key: &K, groups: &Range<u32>, max_parallelism: u32) -> Option<u64> {
    let hash = hash_key(SEED, key).expect("a key that can be hashed");
    groups.contains(&key_group(hash, max_parallelism)).then_some(hash)
}

/// Writes a snapshot to its end.
pub(crate) fn finish<K: Key, R: Row, H: Hold<R>>(
    table: &mut Table<K, R, H>,
    checkpoint: CheckpointId,
    kept: &mut Kept,
) {
    while table.advance(checkpoint, 100, kept).expect("everything encodes") == Progress::More {}
}

/// A table with what was written, restored.
pub(crate) fn restore<K: Key, R: Row, H: Hold<R>>(
    groups: Range<u32>,
    max_parallelism: u32,
    states: &[StateDescriptor],
    chunks: &[Vec<u8>],
) -> Result<Table<K, R, H>, StateError> {
    let mut table = Table::new(groups, max_parallelism, SEED, states.to_vec());
    let mapping = StateMapping::new(states, states)?;
    let entries = chunks.iter().map(|chunk| ChunkHeader::read(chunk).expect("a header").count as usize).sum();
    table.reserve(entries);
    for chunk in chunks {
        table.restore_chunk(&mapping, chunk)?;
    }
    Ok(table)
}

/// A table with what a snapshot and the increments over it hold, restored.
pub(crate) fn restore_chain<K: Key, R: Row, H: Hold<R>>(
    groups: Range<u32>,
    max_parallelism: u32,
    states: &[StateDescriptor],
    chain: &[Vec<Vec<u8>>],
) -> Result<Table<K, R, H>, StateError> {
    let mut table = Table::new(groups, max_parallelism, SEED, states.to_vec());
    fill(&mut table, chain)?;
    Ok(table)
}

/// A table that goes on from a checkpoint, with increments over it.
pub(crate) fn restart<K: Key, R: Row, H: Hold<R>>(
    before: &Table<K, R, H>,
    chain: &[Vec<Vec<u8>>],
    checkpoint: CheckpointId,
) -> Table<K, R, H> {
    let max_parallelism = before.max_parallelism();
    let mut table = Table::new(before.key_groups(), max_parallelism, SEED, before.descriptors().to_vec());
    table.record_changes();
    fill(&mut table, chain).expect("a chain that was restored before");
    table.restored_from(checkpoint).expect("a table that has counted no epochs");
    table
}

fn fill<K: Key, R: Row, H: Hold<R>>(table: &mut Table<K, R, H>, chain: &[Vec<Vec<u8>>]) -> Result<(), StateError> {
    let (full, increments) = chain.split_first().expect("a chain begins with a full snapshot");
    let mapping = StateMapping::new(table.descriptors(), table.descriptors())?;
    table.reserve(full.iter().map(|chunk| ChunkHeader::read(chunk).expect("a header").count as usize).sum());
    for chunk in full {
        table.restore_chunk(&mapping, chunk)?;
    }
    for increment in increments {
        let removes = |chunk: &&Vec<u8>| ChunkHeader::read(chunk).expect("a header").removals;
        for chunk in increment.iter().filter(removes).chain(increment.iter().filter(|chunk| !removes(chunk))) {
            table.apply_chunk(&mapping, chunk)?;
        }
    }
    Ok(())
}

/// Finds the key of a hash: XXH3 of eight bytes can be run backwards.
pub(crate) struct KeysByHash {
    mask: u64,
}

impl KeysByHash {
    pub(crate) fn new(seed: u64) -> KeysByHash {
        KeysByHash { mask: KeysByHash::keyed(hash_key(seed, &0_u64).expect("an integer")) }
    }

    pub(crate) fn key(&self, hash: u64) -> u64 {
        (KeysByHash::keyed(hash) ^ self.mask).rotate_left(32)
    }

    fn keyed(hash: u64) -> u64 {
        const PRIME: u64 = 0x9FB2_1C65_1E98_DF25;
        // Newton's iteration doubles the number of right bits.
        let inverse = (0..6).fold(PRIME, |x, _| x.wrapping_mul(2_u64.wrapping_sub(PRIME.wrapping_mul(x))));
        let mut h = hash ^ (hash >> 28) ^ (hash >> 56);
        h = h.wrapping_mul(inverse);
        h ^= (h >> 35) + 8;
        h = h.wrapping_mul(inverse);
        // The map is a polynomial of rotations over GF(2) whose 64th power is one.
        (0..63).fold(h, |h, _| h ^ h.rotate_left(49) ^ h.rotate_left(24))
    }
}

/// `count` keys, most of which stand at the same position of a table as some others.
pub(crate) fn keys_at_few_positions(count: u64) -> Vec<u64> {
    let keys = KeysByHash::new(SEED);
    (0..count).map(|number| keys.key(((number / 7).wrapping_mul(0x9E37_79B9) << 32) | number)).collect()
}
