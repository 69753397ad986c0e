//! What a file format is to the reader: records, cut out of the text chunk by chunk, each with the place where it ends.

use super::position::Place;
use super::text::Text;
use crate::error::OperatorResult;
use crate::record::Record;

/// A chunk is closed when it has this many bytes of text.
pub(super) const CHUNK_BYTES: usize = 128 * 1024;

/// No record is longer than this many bytes: what seems to be one is a quote that was left open, or not a text.
pub(super) const LONGEST_RECORD: usize = 64 * 1024 * 1024;

/// How records lie in a text. Implemented by the formats of this crate.
pub trait Format: Clone + Send + Sync + 'static {
    /// What a record is.
    type Record: Record;
    /// Cuts a text into records.
    type Parser: Parser<Record = Self::Record>;

    /// What stands before the first record, read from the beginning of a text that is thrown away afterwards.
    ///
    /// # Errors
    /// When the text cannot be read.
    fn head(&self, text: Text) -> OperatorResult<Head>;

    /// A parser for the rest of a text.
    fn parser(&self, text: Text, head: Head, place: Place) -> Self::Parser;
}

/// What stands before the first record.
#[derive(Debug, Default)]
pub struct Head {
    /// Its length in bytes of text.
    pub length: u64,
    /// The names of the columns, where the format has them.
    pub columns: csv::ByteRecord,
}

/// Cuts a text into records, where blocking is allowed.
pub trait Parser: Send + 'static {
    /// What a record is.
    type Record: Record;

    /// The next records. Not called again after a chunk that has a stop.
    fn next_chunk(&mut self) -> Chunk<Self::Record>;

    /// The text that is parsed.
    fn text(&self) -> &Text;
}

/// Records, with the text that they were cut out of.
#[derive(Debug)]
pub struct Chunk<T> {
    /// The records.
    pub records: Vec<T>,
    /// Where each record ends in `text`.
    pub ends: Vec<usize>,
    /// The text, from the end of the chunk before.
    pub text: Vec<u8>,
    /// Why nothing follows: the end of the input, or a failure behind these records.
    pub stop: Option<OperatorResult>,
}

impl<T> Chunk<T> {
    /// A chunk without records.
    pub fn new() -> Chunk<T> {
        Chunk { records: Vec::new(), ends: Vec::new(), text: Vec::new(), stop: None }
    }
}
