//! The pieces that a snapshot is written in: the encoded entries of one state in one key group, behind a checked header.
//! `docs/formats.md` describes the bytes.

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
/// The sum over the open chunks of a snapshot from which on chunks leave before they are full. Their buffers' capacity is
/// at most twice their length, and chunks below their fair share stay, so the memory stays below three times this.
const OPEN_BYTES: usize = 5 * 1024 * 1024 / 2;

#[derive(Default)]
struct OpenChunk {
    /// Room for the header, then the entries; empty until the first one.
    bytes: Vec<u8>,
    count: u32,
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

    /// Appends one entry to the open chunk of its key group and state.
    #[inline]
    pub(super) fn append<E>(
        &mut self,
        state: u16,
        group: u32,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let number = (group - self.first_group) as usize * usize::from(self.states) + usize::from(state);
        if number >= self.open.len() {
            self.open.resize_with(number + 1, OpenChunk::default);
        }
        let chunk = &mut self.open[number];
        let mut before = chunk.bytes.len();
        if before == 0 {
            chunk.bytes.extend_from_slice(&[0; CHUNK_HEADER_BYTES]);
            before = CHUNK_HEADER_BYTES;
        }
        if let Err(error) = encode(&mut chunk.bytes) {
            chunk.bytes.truncate(before);
            return Err(error);
        }
        chunk.count += 1;
        let length = chunk.bytes.len();
        self.open_bytes += length - before;
        if length >= CHUNK_BYTES || (self.open_bytes > OPEN_BYTES && length >= self.fair_share) {
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
        let OpenChunk { mut bytes, count } = std::mem::take(chunk);
        if count > 0 {
            self.open_bytes -= bytes.len() - CHUNK_HEADER_BYTES;
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
#[inline]
pub(super) fn put<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, item: &T) -> Result<(), rmp_serde::encode::Error> {
    item.serialize(&mut rmp_serde::Serializer::new(bytes).with_struct_map())
}

/// A key whose type is not known where its entry is encoded.
pub trait EncodeKey {
    /// Appends the encoding of the key.
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error>;
}

impl<K: Serialize> EncodeKey for K {
    #[inline]
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
        put(bytes, self)
    }
}
