//! The format of keyed and operator state: a header with one descriptor per state, chunks, and an index of the chunks
//! by key group at the end, so that a reader takes only the key groups that it needs.
//!
//! The descriptors and the content of chunks are opaque here; the state's own code writes and reads them.

use std::ops::Range;

use alluvium_actors::ports::store::{PieceContent, StoreError};

use super::envelope::{self, HEADER, Kind, damaged, u32_at, u64_at};
use super::piece::{PieceReader, PieceWriter};

const CHUNK_MARK: &[u8; 4] = b"chnk";
const CHUNK_HEADER: usize = 24;
const ENTRY: usize = 24;
const TRAILER_MARK: &[u8; 4] = b"foot";
const TRAILER: usize = 24;

/// The largest descriptor section that is read, in bytes.
const LARGEST_DESCRIPTORS: u64 = 16 * 1024 * 1024;

/// Chunks that lie one behind the other are read together up to so many bytes.
const READ_AT_ONCE: u64 = 1024 * 1024;

/// In the number of a state: the chunk says what was removed from it. Only in increments.
const REMOVALS: u32 = 1 << 31;

/// What a chunk holds. Removals come first: what an increment says is there is not to be removed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkKind {
    /// What was removed since the base.
    Removals,
    /// Entries.
    Entries,
}

/// Where a chunk lies, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkInfo {
    /// The key group of all its entries.
    pub key_group: u32,
    /// Entries, or what was removed.
    pub kind: ChunkKind,
    /// Which state it belongs to: the position of its descriptor.
    pub state: u32,
    /// Where its header begins, in bytes from the beginning of the piece.
    pub offset: u64,
    /// The number of entries.
    pub count: u32,
    /// The length of its content in bytes.
    pub length: u32,
}

impl ChunkInfo {
    /// The state as it is stored.
    fn stored_state(&self) -> u32 {
        match self.kind {
            ChunkKind::Removals => self.state | REMOVALS,
            ChunkKind::Entries => self.state,
        }
    }
}

fn chunk_header(chunk: &ChunkInfo, content: &[u8]) -> [u8; CHUNK_HEADER] {
    let mut header = [0; CHUNK_HEADER];
    header[..4].copy_from_slice(CHUNK_MARK);
    header[4..8].copy_from_slice(&chunk.stored_state().to_le_bytes());
    header[8..12].copy_from_slice(&chunk.key_group.to_le_bytes());
    header[12..16].copy_from_slice(&chunk.count.to_le_bytes());
    header[16..20].copy_from_slice(&chunk.length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..20]), content);
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Writes state in chunks. Chunks of one key group may come in any order and any number.
pub struct StateWriter {
    output: PieceWriter,
    states: u32,
    increment: bool,
    chunks: Vec<ChunkInfo>,
}

impl StateWriter {
    /// Begins with the descriptors of all states. May block.
    ///
    /// # Errors
    ///
    /// The piece cannot be written, or the descriptors are longer than 16 MiB.
    pub fn begin(output: PieceWriter, descriptors: &[Vec<u8>]) -> Result<StateWriter, StoreError> {
        StateWriter::begin_as(output, descriptors, false)
    }

    /// The same for an increment: what changed since an earlier checkpoint, and what was [removed](StateWriter::removals).
    ///
    /// # Errors
    ///
    /// As [`StateWriter::begin`].
    pub fn begin_increment(output: PieceWriter, descriptors: &[Vec<u8>]) -> Result<StateWriter, StoreError> {
        StateWriter::begin_as(output, descriptors, true)
    }

    fn begin_as(mut output: PieceWriter, descriptors: &[Vec<u8>], increment: bool) -> Result<StateWriter, StoreError> {
        let too_long = || StoreError::Refused { reason: "the descriptors of states are too long".to_owned() };
        let states = u32::try_from(descriptors.len()).map_err(|_| too_long())?;
        let mut body = states.to_le_bytes().to_vec();
        for descriptor in descriptors {
            let length = u32::try_from(descriptor.len()).map_err(|_| too_long())?;
            body.extend_from_slice(&length.to_le_bytes());
            body.extend_from_slice(descriptor);
        }
        if body.len() as u64 > LARGEST_DESCRIPTORS {
            return Err(too_long());
        }
        let version = if increment { envelope::SECOND_VERSION } else { envelope::VERSION };
        output.write(&envelope::seal_as(version, Kind::State, &body))?;
        Ok(StateWriter { output, states, increment, chunks: Vec::new() })
    }

    /// Writes one chunk: `count` entries of the state with descriptor number `state`, all in `key_group`. May block.
    ///
    /// # Errors
    ///
    /// The piece cannot be written, there is no such state, or the content has 4 GiB or more.
    pub fn chunk(&mut self, state: u32, key_group: u32, count: u32, content: &[u8]) -> Result<(), StoreError> {
        self.put(ChunkKind::Entries, state, key_group, count, content)
    }

    /// Writes one chunk of what was removed: as [`StateWriter::chunk`], in an increment. A reader gets it before all chunks of entries of its key group.
    ///
    /// # Errors
    ///
    /// As [`StateWriter::chunk`], and when it is no increment.
    pub fn removals(&mut self, state: u32, key_group: u32, count: u32, content: &[u8]) -> Result<(), StoreError> {
        if !self.increment {
            return Err(StoreError::Refused { reason: "removals belong into an increment".to_owned() });
        }
        self.put(ChunkKind::Removals, state, key_group, count, content)
    }

    fn put(
        &mut self,
        kind: ChunkKind,
        state: u32,
        key_group: u32,
        count: u32,
        content: &[u8],
    ) -> Result<(), StoreError> {
        let refused = |reason: &str| StoreError::Refused { reason: reason.to_owned() };
        if state >= self.states {
            return Err(refused("a chunk of a state without a descriptor"));
        }
        let length = u32::try_from(content.len()).map_err(|_| refused("a chunk of 4 GiB or more"))?;
        let chunk = ChunkInfo { key_group, kind, state, offset: self.output.written(), count, length };
        self.output.write(&chunk_header(&chunk, content))?;
        self.output.write(content)?;
        self.chunks.push(chunk);
        Ok(())
    }

    /// The number of bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.output.written()
    }

    /// Writes the index and ends the piece. May block.
    ///
    /// # Errors
    ///
    /// The piece cannot be written.
    pub fn finish(mut self) -> Result<PieceContent, StoreError> {
        let offset = self.output.written();
        self.chunks.sort_unstable();
        let mut index = Vec::with_capacity(self.chunks.len() * ENTRY);
        for chunk in &self.chunks {
            index.extend_from_slice(&chunk.key_group.to_le_bytes());
            index.extend_from_slice(&chunk.stored_state().to_le_bytes());
            index.extend_from_slice(&chunk.offset.to_le_bytes());
            index.extend_from_slice(&chunk.count.to_le_bytes());
            index.extend_from_slice(&chunk.length.to_le_bytes());
        }
        let count = u32::try_from(self.chunks.len())
            .map_err(|_| StoreError::Refused { reason: "a piece of more than 4 G chunks".to_owned() })?;
        let mut trailer = Vec::with_capacity(TRAILER);
        trailer.extend_from_slice(&offset.to_le_bytes());
        trailer.extend_from_slice(&count.to_le_bytes());
        trailer.extend_from_slice(&crc32c::crc32c(&index).to_le_bytes());
        trailer.extend_from_slice(TRAILER_MARK);
        trailer.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
        self.output.write(&index)?;
        self.output.write(&trailer)?;
        self.output.finish()
    }
}

/// Reads state that a [`StateWriter`] wrote.
#[derive(Clone)]
pub struct StateReader {
    input: PieceReader,
    descriptors: Vec<Vec<u8>>,
    increment: bool,
    /// Sorted by key group, then kind, then state, then offset.
    chunks: Vec<ChunkInfo>,
}

impl StateReader {
    /// Reads and checks header and index. May block.
    ///
    /// # Errors
    ///
    /// The piece is missing or damaged.
    pub fn open(input: PieceReader) -> Result<StateReader, StoreError> {
        let place = input.place().to_owned();
        let wrong = |reason: &str| damaged(&place, reason);
        let length = input.length();
        if length < (HEADER + 4 + TRAILER) as u64 {
            return Err(wrong("it is shorter than its header"));
        }
        let header = input.read(0, HEADER)?;
        let (body_length, _) = envelope::open_header(&header, Kind::State, &place)?;
        let increment = envelope::version(&header) == envelope::SECOND_VERSION;
        let header_end = (HEADER as u64).saturating_add(body_length);
        if body_length > LARGEST_DESCRIPTORS || header_end > length - TRAILER as u64 {
            return Err(wrong("its header is longer than the rest of it"));
        }
        // Bounded just above, and by the length of the piece.
        let whole = input.read(0, HEADER + body_length as usize)?;
        let descriptors = descriptors(envelope::open(&whole, Kind::State, &place)?)
            .ok_or_else(|| wrong("its descriptors do not fill its header"))?;

        let trailer = input.read(length - TRAILER as u64, TRAILER)?;
        let fields = (|| {
            let sound = u32_at(&trailer, 20)? == crc32c::crc32c(&trailer[..20]) && &trailer[16..20] == TRAILER_MARK;
            sound.then_some((u64_at(&trailer, 0)?, u32_at(&trailer, 8)?, u32_at(&trailer, 12)?))
        })();
        let (offset, count, checksum) = fields.ok_or_else(|| wrong("its end is damaged or missing"))?;
        let index_length = u64::from(count) * ENTRY as u64;
        let index_end = offset.checked_add(index_length);
        if offset < header_end || index_end != Some(length - TRAILER as u64) {
            return Err(wrong("its index does not lie where its end says"));
        }
        let index_length = usize::try_from(index_length).map_err(|_| wrong("its index is too long"))?;
        let index = input.read(offset, index_length)?;
        if crc32c::crc32c(&index) != checksum {
            return Err(wrong("the checksum of its index is wrong"));
        }
        let chunks =
            index.chunks_exact(ENTRY).map(|entry| chunk_info(entry, header_end..offset, descriptors.len(), increment));
        let chunks: Option<Vec<ChunkInfo>> = chunks.collect();
        let chunks = chunks.ok_or_else(|| wrong("its index names a chunk that cannot be"))?;
        if !chunks.is_sorted() {
            return Err(wrong("its index is not in order"));
        }
        Ok(StateReader { input, descriptors, increment, chunks })
    }

    /// The descriptors of the states.
    #[must_use]
    pub fn descriptors(&self) -> &[Vec<u8>] {
        &self.descriptors
    }

    /// Whether it is an increment over an earlier piece.
    #[must_use]
    pub fn is_increment(&self) -> bool {
        self.increment
    }

    /// All chunks by key group, then kind, then state, then place.
    #[must_use]
    pub fn chunks(&self) -> &[ChunkInfo] {
        &self.chunks
    }

    /// The chunks of some key groups, in the same order.
    #[must_use]
    pub fn chunks_of(&self, key_groups: Range<u32>) -> &[ChunkInfo] {
        let from = self.chunks.partition_point(|chunk| chunk.key_group < key_groups.start);
        let to = self.chunks.partition_point(|chunk| chunk.key_group < key_groups.end);
        &self.chunks[from..to.max(from)]
    }

    /// Reads and checks the content of a chunk. May block.
    ///
    /// # Errors
    ///
    /// The piece is missing or damaged.
    pub fn read(&self, chunk: &ChunkInfo) -> Result<Vec<u8>, StoreError> {
        let mut contents = self.read_each(std::slice::from_ref(chunk))?;
        Ok(contents.pop().unwrap_or_default())
    }

    /// Reads and checks the content of each of these chunks. Those that lie one behind the other in the piece are read at once. May block.
    ///
    /// # Errors
    ///
    /// The piece is missing or damaged.
    pub fn read_each(&self, chunks: &[ChunkInfo]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut by_place: Vec<usize> = (0..chunks.len()).collect();
        by_place.sort_unstable_by_key(|number| chunks[*number].offset);
        let mut contents = vec![Vec::new(); chunks.len()];
        let end = |number: usize| chunks[number].offset + CHUNK_HEADER as u64 + u64::from(chunks[number].length);
        for run in by_place.chunk_by(|one, next| end(*one) == chunks[*next].offset) {
            let mut rest = run;
            while let Some(first) = rest.first() {
                let from = chunks[*first].offset;
                let count = rest.iter().take_while(|number| end(**number) - from <= READ_AT_ONCE).count().max(1);
                let (together, behind) = rest.split_at(count);
                let length = end(together[count - 1]) - from;
                let length = usize::try_from(length)
                    .map_err(|_| damaged(self.input.place(), "a chunk is longer than the memory of this machine"))?;
                let bytes = self.input.read(from, length)?;
                for number in together {
                    let chunk = &chunks[*number];
                    let at = (chunk.offset - from) as usize;
                    let (header, content) = bytes[at..].split_at(CHUNK_HEADER);
                    let content = &content[..chunk.length as usize];
                    if header != chunk_header(chunk, content) {
                        let reason = format!("the chunk of key group {} at {} is wrong", chunk.key_group, chunk.offset);
                        return Err(damaged(self.input.place(), reason));
                    }
                    contents[*number] = content.to_vec();
                }
                rest = behind;
            }
        }
        Ok(contents)
    }
}

fn descriptors(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let count = u32_at(body, 0)?;
    let mut at = 4_usize;
    let mut descriptors = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(u32_at(body, at)?).ok()?;
        let from = at.checked_add(4)?;
        at = from.checked_add(length)?;
        descriptors.push(body.get(from..at)?.to_vec());
    }
    (at == body.len()).then_some(descriptors)
}

fn chunk_info(entry: &[u8], place: Range<u64>, states: usize, increment: bool) -> Option<ChunkInfo> {
    let stored = u32_at(entry, 4)?;
    let removals = increment && stored & REMOVALS != 0;
    let chunk = ChunkInfo {
        key_group: u32_at(entry, 0)?,
        kind: if removals { ChunkKind::Removals } else { ChunkKind::Entries },
        state: if removals { stored & !REMOVALS } else { stored },
        offset: u64_at(entry, 8)?,
        count: u32_at(entry, 16)?,
        length: u32_at(entry, 20)?,
    };
    let end = chunk.offset.checked_add(CHUNK_HEADER as u64 + u64::from(chunk.length))?;
    let inside = chunk.offset >= place.start && end <= place.end;
    (inside && (chunk.state as usize) < states).then_some(chunk)
}
