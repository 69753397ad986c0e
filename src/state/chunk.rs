//! The pieces that a snapshot is written in: the encoded entries of one state in one key group, behind a checked header.
//! `docs/formats.md` describes the bytes.

use alluvium_actors::ids::CheckpointId;

use super::error::StateError;

/// The length of an encoded [`ChunkHeader`].
pub const CHUNK_HEADER_BYTES: usize = 20;

/// Entries, each with what stands under its key.
const ENTRIES: u16 = 1;
/// Names of what was removed: only in increments.
const REMOVALS: u16 = 2;

/// What stands in front of the entries of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The state, as its position in the list of descriptors of the blob.
    pub state: u16,
    /// The key group of all its keys.
    pub key_group: u32,
    /// Whether what follows names what was removed since the base, instead of entries.
    pub removals: bool,
    /// How many entries follow, or how many removals.
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
        if format != ENTRIES && format != REMOVALS {
            return Err(StateError::Damaged(format!("a chunk has the unknown format {format}")));
        }
        Ok(ChunkHeader {
            state: u16::from_le_bytes([bytes[2], bytes[3]]),
            key_group: word(4),
            removals: format == REMOVALS,
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

    /// Gives a whole chunk, header included, another number of its state.
    ///
    /// # Errors
    /// As [`ChunkHeader::open`].
    pub(crate) fn renumber(bytes: &mut [u8], state: u16) -> Result<(), StateError> {
        let (header, _) = ChunkHeader::open(bytes)?;
        ChunkHeader::seal(state, header.removals, header.key_group, header.count, bytes);
        Ok(())
    }

    /// Completes a chunk whose bytes start with room for the header.
    pub(super) fn seal(state: u16, removals: bool, key_group: u32, count: u32, bytes: &mut [u8]) -> ChunkHeader {
        let (head, entries) = bytes.split_at_mut(CHUNK_HEADER_BYTES);
        let length = u32::try_from(entries.len()).expect("a chunk is sealed long before it has four gigabytes");
        let format = if removals { REMOVALS } else { ENTRIES };
        head[0..2].copy_from_slice(&format.to_le_bytes());
        head[2..4].copy_from_slice(&state.to_le_bytes());
        head[4..8].copy_from_slice(&key_group.to_le_bytes());
        head[8..12].copy_from_slice(&count.to_le_bytes());
        head[12..16].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[..16]), entries);
        head[16..20].copy_from_slice(&checksum.to_le_bytes());
        ChunkHeader { state, key_group, removals, count, length, checksum }
    }
}

/// Where the chunks of a snapshot go.
pub trait ChunkSink {
    /// Takes one chunk: `bytes` is all of it, `header` (already encoded in front) included. The chunks of one state and
    /// key group must be restored in the order in which they come here, and those of removals before all others; otherwise the order is free.
    fn chunk(&mut self, checkpoint: CheckpointId, header: ChunkHeader, bytes: Vec<u8>);
}
