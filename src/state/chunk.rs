//! The pieces that a snapshot is written in: the encoded entries of one state in one key group, behind a checked header.
//! `docs/formats.md` describes the bytes.

use std::any::Any;
use std::io::{self, Write};

use alluvium_actors::ids::CheckpointId;
use serde::Serialize;

use super::error::StateError;

/// The length of an encoded [`ChunkHeader`].
pub const CHUNK_HEADER_BYTES: usize = 20;

const FORMAT: u16 = 1;

/// What stands in front of the entries of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The state, as its position in the list of descriptors of the blob.
    pub state: u16,
    /// The key group of all its keys.
    pub key_group: u32,
    /// How many entries follow.
    pub count: u32,
    /// How many bytes follow.
    pub length: u32,
    /// The CRC-32C of the rest of the header and of the bytes that follow.
    pub checksum: u32,
}

impl ChunkHeader {
    /// Reads the header at the start of `bytes` without looking at what follows it.
    ///
    /// # Errors
    /// When there are too few bytes or the format is unknown.
    pub fn read(bytes: &[u8]) -> Result<ChunkHeader, StateError> {
        let Some(bytes) = bytes.first_chunk::<CHUNK_HEADER_BYTES>() else {
            return Err(StateError::Damaged("a chunk is shorter than its header".to_owned()));
        };
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let format = u16::from_le_bytes([bytes[0], bytes[1]]);
        if format != FORMAT {
            return Err(StateError::Damaged(format!("a chunk has the unknown format {format}")));
        }
        Ok(ChunkHeader {
            state: u16::from_le_bytes([bytes[2], bytes[3]]),
            key_group: word(4),
            count: word(8),
            length: word(12),
            checksum: word(16),
        })
    }

    /// The length of the whole chunk, header included, in bytes.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        CHUNK_HEADER_BYTES + self.length as usize
    }

    /// Checks a whole chunk, header included, and gives its entries' bytes.
    ///
    /// # Errors
    /// When the length or the checksum is wrong.
    pub fn open(bytes: &[u8]) -> Result<(ChunkHeader, &[u8]), StateError> {
        let header = ChunkHeader::read(bytes)?;
        if bytes.len() != header.chunk_bytes() {
            let (found, said) = (bytes.len(), header.chunk_bytes());
            return Err(StateError::Damaged(format!("a chunk has {found} bytes where its header says {said}")));
        }
        let (head, entries) = bytes.split_at(CHUNK_HEADER_BYTES);
        if crc32c::crc32c_append(crc32c::crc32c(&head[..16]), entries) != header.checksum {
            let group = header.key_group;
            return Err(StateError::Damaged(format!("the checksum of a chunk of key group {group} does not match")));
        }
        Ok((header, entries))
    }

    /// Completes a chunk whose bytes start with room for the header.
    fn seal(state: u16, key_group: u32, count: u32, bytes: &mut [u8]) -> ChunkHeader {
        let (head, entries) = bytes.split_at_mut(CHUNK_HEADER_BYTES);
        let length = u32::try_from(entries.len()).expect("a chunk is sealed long before it has four gigabytes");
        head[0..2].copy_from_slice(&FORMAT.to_le_bytes());
        head[2..4].copy_from_slice(&state.to_le_bytes());
        head[4..8].copy_from_slice(&key_group.to_le_bytes());
        head[8..12].copy_from_slice(&count.to_le_bytes());
        head[12..16].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[..16]), entries);
        head[16..20].copy_from_slice(&checksum.to_le_bytes());
        ChunkHeader { state, key_group, count, length, checksum }
    }
}

/// Where the chunks of a snapshot go.
pub trait ChunkSink {
    /// Takes one chunk: `bytes` is all of it, `header` (already encoded in front) included. The chunks of one state and
    /// key group must be restored in the order in which they come here; otherwise the order is free.
    fn chunk(&mut self, checkpoint: CheckpointId, header: ChunkHeader, bytes: Vec<u8>);
}

/// A chunk that leaves when it has so many bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// The sum over the open chunks of a snapshot from which on chunks leave before they are full. Their room is about twice
/// their length at most, and chunks below their fair share stay, so the memory stays below three times this.
const OPEN_BYTES: usize = 5 * 1024 * 1024 / 2;

/// The room of a new chunk, and the most that it grows by at a time, in bytes.
const FIRST_ROOM: usize = 512;
const ROOM: usize = CHUNK_BYTES + CHUNK_BYTES / 16;

#[derive(Default)]
struct OpenChunk {
    /// The header's place, the entries, and room for more; empty until the first entry.
    bytes: Vec<u8>,
    used: usize,
    count: u32,
}

/// The free part of a chunk, to write an entry into. A slice instead of a growing vector, because the check of a `Vec` in
/// each small write costs as much as the rest of the encoding.
pub struct Room<'a> {
    bytes: &'a mut [u8],
    used: usize,
    full: bool,
}

impl Room<'_> {
    #[inline(always)]
    fn put_unsigned(&mut self, number: u64) -> io::Result<()> {
        if number <= 0x7F {
            self.write_all(&[number as u8])
        } else if let Ok(number) = u8::try_from(number) {
            self.write_all(&[0xCC, number])
        } else if let Ok(number) = u16::try_from(number) {
            let [a, b] = number.to_be_bytes();
            self.write_all(&[0xCD, a, b])
        } else if let Ok(number) = u32::try_from(number) {
            let [a, b, c, d] = number.to_be_bytes();
            self.write_all(&[0xCE, a, b, c, d])
        } else {
            let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
            self.write_all(&[0xCF, a, b, c, d, e, f, g, h])
        }
    }

    #[inline(always)]
    fn put_signed(&mut self, number: i64) -> io::Result<()> {
        if let Ok(number) = u64::try_from(number) {
            self.put_unsigned(number)
        } else if number >= -0x20 {
            self.write_all(&[number as u8])
        } else if let Ok(number) = i8::try_from(number) {
            self.write_all(&[0xD0, number as u8])
        } else if let Ok(number) = i16::try_from(number) {
            let [a, b] = number.to_be_bytes();
            self.write_all(&[0xD1, a, b])
        } else if let Ok(number) = i32::try_from(number) {
            let [a, b, c, d] = number.to_be_bytes();
            self.write_all(&[0xD2, a, b, c, d])
        } else {
            let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
            self.write_all(&[0xD3, a, b, c, d, e, f, g, h])
        }
    }
}

impl io::Write for Room<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline(always)]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(room) = self.bytes.get_mut(self.used..self.used + bytes.len()) else {
            self.full = true;
            return Err(io::ErrorKind::WriteZero.into());
        };
        room.copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OpenChunk {
    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        self.used = self.used.max(CHUNK_HEADER_BYTES);
        let room = if self.bytes.is_empty() { FIRST_ROOM } else { (self.bytes.len() * 2).min(self.bytes.len() + ROOM) };
        // Full chunks are all of one size, so that the allocator can hand the room of one to the next.
        let room = if room > CHUNK_BYTES / 2 && room <= ROOM { ROOM } else { room };
        self.bytes.resize(room, 0);
    }
}

/// The open chunks of one snapshot, one for each key group and state, and those that are full and wait to be fetched.
pub(super) struct Output {
    first_group: u32,
    states: u16,
    open: Vec<OpenChunk>,
    open_bytes: usize,
    fair_share: usize,
    sealed: Vec<(ChunkHeader, Vec<u8>)>,
    sealed_bytes: usize,
}

impl Output {
    /// Room for `groups` key groups; allocates at the first entry, so that opening a snapshot costs the same for any
    /// number.
    pub(super) fn new(first_group: u32, groups: u32, states: u16, snapshots: usize) -> Output {
        let chunks = groups as usize * usize::from(states.max(1)) * snapshots.max(1);
        Output {
            first_group,
            states,
            open: Vec::new(),
            open_bytes: 0,
            fair_share: (OPEN_BYTES / 2 / chunks).min(CHUNK_BYTES),
            sealed: Vec::new(),
            sealed_bytes: 0,
        }
    }

    /// Appends one entry to the open chunk of its key group and state. `encode` is called again when the room was too
    /// small.
    #[inline(always)]
    pub(super) fn append<E>(
        &mut self,
        state: u16,
        group: u32,
        encode: impl Fn(&mut Room<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let number = (group - self.first_group) as usize * usize::from(self.states) + usize::from(state);
        if number >= self.open.len() {
            self.open.resize_with(number + 1, OpenChunk::default);
        }
        let chunk = &mut self.open[number];
        let added = loop {
            let mut room = Room { bytes: chunk.bytes.get_mut(chunk.used..).unwrap_or_default(), used: 0, full: false };
            match encode(&mut room) {
                Ok(()) if !room.full => break room.used,
                Err(error) if !room.full => return Err(error),
                Ok(()) | Err(_) => chunk.make_room(),
            }
        };
        chunk.used += added;
        chunk.count += 1;
        self.open_bytes += added;
        if chunk.used >= CHUNK_BYTES || (self.open_bytes > OPEN_BYTES && chunk.used >= self.fair_share) {
            self.seal(state, group);
        }
        Ok(())
    }

    /// Ends the chunk of a key group and state, if it has entries.
    #[cold]
    #[inline(never)]
    fn seal(&mut self, state: u16, group: u32) {
        let number = (group - self.first_group) as usize * usize::from(self.states) + usize::from(state);
        let Some(chunk) = self.open.get_mut(number) else { return };
        let OpenChunk { mut bytes, used, count } = std::mem::take(chunk);
        if count > 0 {
            bytes.truncate(used);
            self.open_bytes -= used - CHUNK_HEADER_BYTES;
            self.sealed_bytes += bytes.len();
            let header = ChunkHeader::seal(state, group, count, &mut bytes);
            self.sealed.push((header, bytes));
        }
    }

    /// Ends all chunks of the key groups from `from` to below `to`.
    pub(super) fn seal_groups(&mut self, from: u32, to: u32) {
        for group in from..to {
            for state in 0..self.states {
                self.seal(state, group);
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
        self.open_bytes + self.sealed_bytes
    }
}

/// Appends the encoding of one item.
#[inline(always)]
pub(super) fn put<T: Serialize + 'static>(room: &mut Room<'_>, item: &T) -> Result<(), rmp_serde::encode::Error> {
    // Integers make up most keys and many values. The comparisons of types are decided by the compiler; what is written is
    // what the serializer would write, in a third of the time.
    let item_as = item as &dyn Any;
    if let Some(number) = item_as.downcast_ref::<u64>() {
        room.put_unsigned(*number)
    } else if let Some(number) = item_as.downcast_ref::<i64>() {
        room.put_signed(*number)
    } else if let Some(number) = item_as.downcast_ref::<u32>() {
        room.put_unsigned(u64::from(*number))
    } else if let Some(number) = item_as.downcast_ref::<i32>() {
        room.put_signed(i64::from(*number))
    } else {
        return put_any(room, item);
    }
    .map_err(|_| rmp_serde::encode::Error::InvalidDataModel("the chunk is full"))
}

/// Appends the encoding of one item of any type.
#[inline(always)]
pub(super) fn put_any<T: Serialize>(room: &mut Room<'_>, item: &T) -> Result<(), rmp_serde::encode::Error> {
    item.serialize(&mut rmp_serde::Serializer::new(room).with_struct_map())
}

/// A key whose type is not known where its entry is encoded.
pub trait EncodeKey {
    /// Appends the encoding of the key.
    fn encode(&self, room: &mut Room<'_>) -> Result<(), rmp_serde::encode::Error>;
}

impl<K: Serialize + 'static> EncodeKey for K {
    #[inline(always)]
    fn encode(&self, room: &mut Room<'_>) -> Result<(), rmp_serde::encode::Error> {
        put(room, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_the_serializer_writes_them() {
        let mut numbers: Vec<i128> =
            (0..64).flat_map(|bit| [-2, -1, 0, 1].map(|more| (1_i128 << bit) + more)).collect();
        numbers.extend([0, 1, 31, 32, 33, 127, 128, 255, 256, i128::from(u64::MAX)]);
        for number in numbers.iter().flat_map(|number| [*number, -*number]) {
            fn check<T: TryFrom<i128> + Serialize + 'static>(number: i128) {
                let Ok(number) = T::try_from(number) else { return };
                let mut bytes = [0; 16];
                let mut room = Room { bytes: &mut bytes, used: 0, full: false };
                put(&mut room, &number).unwrap();
                let used = room.used;
                assert_eq!(bytes[..used], rmp_serde::to_vec_named(&number).unwrap());
            }
            check::<u64>(number);
            check::<i64>(number);
            check::<u32>(number);
            check::<i32>(number);
        }
    }
}
