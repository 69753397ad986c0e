//! Writing and reading one piece of a snapshot, inline or as a blob.

use std::sync::Arc;

use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::store::{BlobHandle, BlobWriter, CheckpointStore, PieceContent, StoreError};

use super::envelope::damaged;

/// Blobs are written in parts of at least this many bytes.
const PART: usize = 256 * 1024;

/// Writes a piece: short ones stay in memory and go into the manifest, longer ones become a blob.
pub struct PieceWriter {
    store: Arc<dyn CheckpointStore>,
    fence: Fence,
    name: String,
    buffer: Vec<u8>,
    blob: Option<Box<dyn BlobWriter>>,
    written: u64,
}

impl PieceWriter {
    /// Begins a piece. If it becomes a blob, it gets the name `name`, from
    /// [`blob_name`](alluvium_actors::ports::store::blob_name).
    #[must_use]
    pub fn new(store: Arc<dyn CheckpointStore>, fence: Fence, name: String) -> PieceWriter {
        PieceWriter { store, fence, name, buffer: Vec::new(), blob: None, written: 0 }
    }

    /// Appends `bytes`. May block.
    ///
    /// # Errors
    ///
    /// The blob cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.written += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.blob.is_none() && self.buffer.len() >= self.store.inline_limit().max(1) {
            self.blob = Some(self.store.create_blob(&self.fence, &self.name)?);
        }
        if self.buffer.len() >= PART {
            self.flush()?;
        }
        Ok(())
    }

    /// The number of bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Ends the piece. If it is a blob, it survives a crash on return. May block.
    ///
    /// # Errors
    ///
    /// The blob cannot be written.
    pub fn finish(mut self) -> Result<PieceContent, StoreError> {
        self.flush()?;
        match self.blob {
            None => Ok(PieceContent::Inline(self.buffer)),
            Some(blob) => Ok(PieceContent::Blob(blob.finish()?)),
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if let Some(blob) = &mut self.blob
            && !self.buffer.is_empty()
        {
            blob.write(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Reads a piece, wherever it is.
#[derive(Clone)]
pub struct PieceReader {
    content: Source,
    length: u64,
}

#[derive(Clone)]
enum Source {
    Inline(Arc<[u8]>),
    Blob(Arc<dyn CheckpointStore>, BlobHandle),
}

impl PieceReader {
    /// Opens a piece. Nothing is read yet.
    #[must_use]
    pub fn new(store: Arc<dyn CheckpointStore>, content: &PieceContent) -> PieceReader {
        match content {
            PieceContent::Inline(bytes) => {
                PieceReader { length: bytes.len() as u64, content: Source::Inline(Arc::from(bytes.as_slice())) }
            }
            PieceContent::Blob(handle) => {
                PieceReader { length: handle.length, content: Source::Blob(store, handle.clone()) }
            }
        }
    }

    /// The length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What a person may look for: the name of the blob.
    #[must_use]
    pub fn place(&self) -> &str {
        match &self.content {
            Source::Inline(_) => "a piece in the manifest",
            Source::Blob(_, handle) => &handle.name,
        }
    }

    /// Reads exactly `length` bytes from `offset`. May block.
    ///
    /// # Errors
    ///
    /// The range lies outside of the piece, or the blob cannot be read. A blob's bytes are not compared with its
    /// checksum.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        match &self.content {
            Source::Blob(store, handle) => store.read_blob(handle, offset, length),
            Source::Inline(bytes) => {
                let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(length)?));
                range.and_then(|range| bytes.get(range)).map(<[u8]>::to_vec).ok_or_else(|| {
                    damaged(self.place(), format!("{length} bytes from {offset} lie outside of {}", bytes.len()))
                })
            }
        }
    }

    /// Reads the whole piece, and checks a blob's checksum. May block; for pieces that fit into memory.
    ///
    /// # Errors
    ///
    /// The blob is missing or damaged.
    pub fn read_all(&self) -> Result<Vec<u8>, StoreError> {
        let length = usize::try_from(self.length)
            .map_err(|_| damaged(self.place(), "it is longer than the memory of this machine"))?;
        let bytes = self.read(0, length)?;
        match &self.content {
            Source::Blob(_, handle) if crc32c::crc32c(&bytes) != handle.checksum => {
                Err(damaged(self.place(), "its checksum is wrong"))
            }
            Source::Inline(_) | Source::Blob(..) => Ok(bytes),
        }
    }
}
