//! Restoring a table from stored chunks.

use std::collections::VecDeque;

use crate::record::{Key, hash_key, key_group};

use super::chunk::ChunkHeader;
use super::descriptor::StateMapping;
use super::error::StateError;
use super::row::{Decoder, Hold, RestoreError, Restoring, Row, decode};
use super::slots::{Entry, Position};
use super::table::Table;

/// How many rows are decoded ahead of the one that is inserted.
const AHEAD: usize = 16;

impl<K: Key, R: Row, H: Hold<R>> Table<K, R, H> {
    /// Inserts the entries of one stored chunk, header included, and answers how many they are. [Reserve](Table::reserve)
    /// first, and restore before the first record. The chunks of one state and key group must come in the order in which
    /// they were written.
    ///
    /// # Errors
    /// When the bytes are damaged or of other types, belong to key groups that the table does not own, or stand there
    /// twice. The table is then half restored and must not be used.
    pub fn restore_chunk(&mut self, mapping: &StateMapping, bytes: &[u8]) -> Result<u32, StateError> {
        self.restore(mapping, bytes, false)
    }

    /// Puts the entries of one stored chunk of an increment in the place of older ones, or takes out what it says was removed; answers how many they are.
    /// The increments must come in their order, and within one of them, for each state and key group, the chunks of removals first.
    ///
    /// # Errors
    /// As [`restore_chunk`](Table::restore_chunk), but for what stands there twice.
    pub fn apply_chunk(&mut self, mapping: &StateMapping, bytes: &[u8]) -> Result<u32, StateError> {
        self.restore(mapping, bytes, true)
    }

    fn restore(&mut self, mapping: &StateMapping, bytes: &[u8], newer: bool) -> Result<u32, StateError> {
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
        if header.removals && !newer {
            let group = header.key_group;
            return Err(StateError::Damaged(format!(
                "a chunk of key group {group} removes something, and nothing is below it"
            )));
        }
        let mut decoder = Decoder::from_read_ref(entries);
        if header.removals {
            for _ in 0..header.count {
                self.restore_removal(header.key_group, state, &mut decoder)?;
            }
        } else if R::IS_ONE_ENTRY {
            self.restore_rows(header, state, newer, &mut decoder)?;
        } else {
            for _ in 0..header.count {
                self.restore_entry(header.key_group, state, newer, &mut decoder)?;
            }
        }
        if !at_end(&mut decoder) {
            return Err(StateError::Damaged(format!(
                "a chunk of key group {} holds more than its {} entries",
                header.key_group, header.count
            )));
        }
        Ok(header.count)
    }

    /// Decodes some rows ahead of the one that is inserted, so that their slots are loaded meanwhile: the entries of a
    /// group that changed during the snapshot are in no order.
    fn restore_rows(
        &mut self,
        header: ChunkHeader,
        state: u16,
        newer: bool,
        decoder: &mut Decoder<'_>,
    ) -> Result<(), StateError> {
        let group = header.key_group;
        let mut waiting = VecDeque::with_capacity(AHEAD);
        let mut left = header.count;
        while left > 0 || !waiting.is_empty() {
            while left > 0 && waiting.len() < AHEAD {
                left -= 1;
                let (position, key) = self.restore_key(group, state, decoder)?;
                self.rows.prefetch(position);
                let row = R::restore(None, state, decoder, self.restoring(newer));
                let row = row.map_err(|error| self.explain(error, group, state))?;
                waiting.extend(row.map(|row| (position, key, row)));
            }
            let Some((position, key, row)) = waiting.pop_front() else { continue };
            match self.rows.locate(position, &key) {
                Ok(place) if newer => *self.rows.entry_mut(place).value.row_mut() = row,
                Ok(_) => return Err(self.explain(RestoreError::Duplicate, group, state)),
                Err(place) => {
                    self.rows.insert(place, Entry { epoch: self.epoch, position, key, value: H::hold(row) });
                }
            }
        }
        Ok(())
    }

    fn restore_entry(
        &mut self,
        group: u32,
        state: u16,
        newer: bool,
        decoder: &mut Decoder<'_>,
    ) -> Result<(), StateError> {
        let (position, key) = self.restore_key(group, state, decoder)?;
        let context = self.restoring(newer);
        match self.rows.locate(position, &key) {
            Ok(place) => {
                let row = self.rows.entry_mut(place).value.row_mut();
                R::restore(Some(row), state, decoder, context).map_err(|error| self.explain(error, group, state))?;
            }
            Err(place) => {
                let row = R::restore(None, state, decoder, context);
                if let Some(row) = row.map_err(|error| self.explain(error, group, state))? {
                    self.rows.insert(place, Entry { epoch: self.epoch, position, key, value: H::hold(row) });
                }
            }
        }
        Ok(())
    }

    fn restore_removal(&mut self, group: u32, state: u16, decoder: &mut Decoder<'_>) -> Result<(), StateError> {
        let (position, key) = self.restore_key(group, state, decoder)?;
        let context = self.restoring(true);
        match self.rows.locate(position, &key) {
            Ok(place) => {
                let row = self.rows.entry_mut(place).value.row_mut();
                let useless = R::forget(Some(row), state, decoder, context);
                if useless.map_err(|error| self.explain(error, group, state))? {
                    self.rows.remove(place);
                }
            }
            Err(_) => {
                R::forget(None, state, decoder, context).map_err(|error| self.explain(error, group, state))?;
            }
        }
        Ok(())
    }

    fn restore_key(&self, group: u32, state: u16, decoder: &mut Decoder<'_>) -> Result<(Position, K), StateError> {
        let key: K = decode(decoder).map_err(|error| self.explain(error, group, state))?;
        let hash = hash_key(self.seed, &key)?;
        let current = key_group(hash, self.span.max_parallelism());
        if current != group {
            let state = self.states[usize::from(state)].name.clone();
            return Err(StateError::KeyMoved { state, stored: group, current });
        }
        Ok((self.span.position(hash), key))
    }

    fn restoring(&self, newer: bool) -> Restoring {
        Restoring { epoch: self.epoch, seed: self.seed, newer, marked: self.recorded }
    }

    fn explain(&self, error: RestoreError, group: u32, state: u16) -> StateError {
        let state = self.states[usize::from(state)].name.clone();
        match error {
            RestoreError::Decode(message) => StateError::Damaged(format!("state {state:?}: {message}")),
            RestoreError::Duplicate => StateError::Duplicate { state, group },
            RestoreError::Key(error) => StateError::Key(error),
        }
    }
}

/// Whether a decoder has read all its bytes.
pub(super) fn at_end(decoder: &mut Decoder<'_>) -> bool {
    use rmp_serde::decode::Error;
    use serde::Deserialize;
    match serde::de::IgnoredAny::deserialize(decoder) {
        Err(Error::InvalidMarkerRead(error)) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        Ok(_) | Err(_) => false,
    }
}
