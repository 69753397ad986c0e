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
