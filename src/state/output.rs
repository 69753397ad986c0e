//! The chunks of one snapshot while they fill.

use alluvium_actors::ids::CheckpointId;

use super::chunk::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkSink};
use super::encode::Room;

/// A chunk that leaves when it has so many bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// The memory of the open chunks of all snapshots of a table, from which on chunks leave before they are full. The first
/// open snapshot may use a half of it, the next a quarter, and so on.
const OPEN_BYTES: usize = 6 * 1024 * 1024;
/// The room of a new chunk, the most that it grows by at a time, and that of a full one, in bytes.
const FIRST_ROOM: usize = 512;
const LEAST_ROOM: usize = 64;
const ROOM: usize = CHUNK_BYTES + CHUNK_BYTES / 16;

#[derive(Default)]
struct OpenChunk {
    /// The header's place, the entries, and room for more; empty until the first entry.
    bytes: Vec<u8>,
    used: usize,
    count: u32,
}

impl OpenChunk {
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, first: usize) {
        self.used = self.used.max(CHUNK_HEADER_BYTES);
        let room = if self.bytes.is_empty() { first } else { (self.bytes.len() * 2).min(self.bytes.len() + ROOM) };
        // Full chunks are all of one size, so that the allocator can hand the room of one to the next.
        let room = if room > CHUNK_BYTES / 2 && room <= ROOM { ROOM } else { room };
        self.bytes.resize(room, 0);
    }
}

/// The open chunks of one snapshot, one for each key group and state, and those that are full and wait to be fetched.
pub(super) struct Output {
    first_group: u32,
    /// The states of a row.
    states: u16,
    /// The chunks of a group: one for each state, and in an increment one more for each, of its removals.
    kinds: u16,
    open: Vec<OpenChunk>,
    /// The room of the open chunks, and how much it may be.
    room: usize,
    limit: usize,
    /// A chunk below this does not leave although the limit is reached.
    fair_share: usize,
    sealed: Vec<(ChunkHeader, Vec<u8>)>,
    sealed_bytes: usize,
}

impl Output {
    /// Room for `groups` key groups, when so many snapshots are open already. Allocates at the first entry, so that
    /// opening a snapshot costs the same for any number of groups.
    pub(super) fn new(first_group: u32, groups: u32, states: u16, increment: bool, snapshots: usize) -> Output {
        let kinds = if increment { states * 2 } else { states };
        let chunks = groups as usize * usize::from(kinds.max(1));
        let limit = OPEN_BYTES.checked_shr(snapshots as u32 + 1).unwrap_or(0);
        Output {
            first_group,
            states,
            kinds,
            open: Vec::new(),
            room: 0,
            limit,
            fair_share: (limit / 2 / chunks).min(CHUNK_BYTES),
            sealed: Vec::new(),
            sealed_bytes: 0,
        }
    }

    /// Appends what names a removed unit to the open chunk of removals of its key group and state. Only in an increment.
    pub(super) fn remove<E>(
        &mut self,
        state: u16,
        group: u32,
        encode: impl Fn(&mut Room<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.append(self.states + state, group, encode)
    }

    /// Appends one entry to the open chunk of its key group and state. `encode` is called again when the room was too
    /// small.
    #[inline(always)]
    pub(super) fn append<E>(
        &mut self,
        kind: u16,
        group: u32,
        encode: impl Fn(&mut Room<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let number = (group - self.first_group) as usize * usize::from(self.kinds) + usize::from(kind);
        if number >= self.open.len() {
            self.open.resize_with(number + 1, OpenChunk::default);
        }
        let chunk = &mut self.open[number];
        let added = loop {
            let mut room = Room { bytes: chunk.bytes.get_mut(chunk.used..).unwrap_or_default(), used: 0, full: false };
            match encode(&mut room) {
                Ok(()) if !room.full => break room.used,
                Err(error) if !room.full => return Err(error),
                Ok(()) | Err(_) => {
                    self.room -= chunk.bytes.len();
                    chunk.make_room(self.fair_share.clamp(LEAST_ROOM, FIRST_ROOM));
                    self.room += chunk.bytes.len();
                }
            }
        };
        chunk.used += added;
        chunk.count += 1;
        if chunk.used >= CHUNK_BYTES || (self.room > self.limit && chunk.used >= self.fair_share) {
            self.seal(kind, group);
        }
        Ok(())
    }

    /// Ends the chunk of a key group and state, if it has entries.
    #[cold]
    #[inline(never)]
    fn seal(&mut self, kind: u16, group: u32) {
        let number = (group - self.first_group) as usize * usize::from(self.kinds) + usize::from(kind);
        let Some(chunk) = self.open.get_mut(number) else { return };
        let OpenChunk { mut bytes, used, count } = std::mem::take(chunk);
        self.room -= bytes.len();
        if count > 0 {
            bytes.truncate(used);
            self.sealed_bytes += bytes.len();
            let (state, removals) = (kind % self.states, kind >= self.states);
            let header = ChunkHeader::seal(state, removals, group, count, &mut bytes);
            self.sealed.push((header, bytes));
        }
    }

    /// Ends all chunks of the key groups from `from` to below `to`.
    pub(super) fn seal_groups(&mut self, from: u32, to: u32) {
        for group in from..to {
            for kind in 0..self.kinds {
                self.seal(kind, group);
            }
        }
    }

    /// Gives the full chunks away.
    pub(super) fn drain(&mut self, checkpoint: CheckpointId, sink: &mut dyn ChunkSink) {
        self.sealed_bytes = 0;
        for (header, bytes) in self.sealed.drain(..) {
            sink.chunk(checkpoint, header, bytes);
        }
    }

    /// The bytes in memory: open chunks, and full ones that wait to be fetched.
    pub(super) fn bytes(&self) -> usize {
        self.room + self.sealed_bytes
    }
}
