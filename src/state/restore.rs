//! Restoring a table from stored chunks.

use crate::record::{Key, hash_key, key_group};

use super::chunk::ChunkHeader;
use super::descriptor::StateMapping;
use super::error::StateError;
use super::row::{Decoder, Hold, RestoreError, Restoring, Row, decode};
use super::slots::Entry;
use super::table::Table;

impl<K: Key, R: Row, H: Hold<R>> Table<K, R, H> {
    /// Inserts the entries of one stored chunk, header included, and answers how many they are. [Reserve](Table::reserve)
    /// first, and restore before the first record. The chunks of one state and key group must come in the order in which
    /// they were written.
    ///
    /// # Errors
    /// When the bytes are damaged or of other types, belong to key groups that the table does not own, or stand there
    /// twice. The table is then half restored and must not be used.
    pub fn restore_chunk(&mut self, mapping: &StateMapping, bytes: &[u8]) -> Result<u32, StateError> {
        let (header, entries) = ChunkHeader::open(bytes)?;
        let groups = self.span.groups();
        if !groups.contains(&header.key_group) {
            let (first, last) = (groups.start, groups.end - 1);
            return Err(StateError::ForeignKeyGroup { group: header.key_group, first, last });
        }
        let state = mapping
            .current(header.state)
            .filter(|state| *state < R::STATES)
            .ok_or_else(|| StateError::Damaged(format!("a chunk names state number {}", header.state)))?;
        let mut decoder = Decoder::from_read_ref(entries);
        for _ in 0..header.count {
            self.restore_entry(state, header.key_group, &mut decoder)?;
        }
        if !at_end(&mut decoder) {
            return Err(StateError::Damaged(format!(
                "a chunk of key group {} holds more than its {} entries",
                header.key_group, header.count
            )));
        }
        Ok(header.count)
    }

    fn restore_entry(&mut self, state: u16, group: u32, decoder: &mut Decoder<'_>) -> Result<(), StateError> {
        let name = || self.states[usize::from(state)].name.clone();
        let explain = |error| match error {
            RestoreError::Decode(message) => StateError::Damaged(format!("state {:?}: {message}", name())),
            RestoreError::Duplicate => StateError::Duplicate { state: name(), group },
            RestoreError::Key(error) => StateError::Key(error),
        };
        let key: K = decode(decoder).map_err(explain)?;
        let hash = hash_key(self.seed, &key)?;
        let current = key_group(hash, self.span.max_parallelism());
        if current != group {
            return Err(StateError::KeyMoved { state: name(), stored: group, current });
        }
        let position = self.span.position(hash);
        let context = Restoring { epoch: self.epoch, seed: self.seed };
        match self.rows.locate(position, &key) {
            Ok(place) => {
                let row = self.rows.entry_mut(place).value.row_mut();
                R::restore(Some(row), state, decoder, context).map_err(explain)?;
            }
            Err(place) => {
                if let Some(row) = R::restore(None, state, decoder, context).map_err(explain)? {
                    self.rows.insert(place, Entry { epoch: self.epoch, position, key, value: H::hold(row) });
                }
            }
        }
        Ok(())
    }
}

/// Whether a decoder has read all its bytes.
fn at_end(decoder: &mut Decoder<'_>) -> bool {
    use rmp_serde::decode::Error;
    use serde::Deserialize;
    match serde::de::IgnoredAny::deserialize(decoder) {
        Err(Error::InvalidMarkerRead(error)) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        Ok(_) | Err(_) => false,
    }
}
