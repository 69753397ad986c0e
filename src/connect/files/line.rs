//! Lines of text.

use super::FileSource;
use super::format::{CHUNK_BYTES, Chunk, Format, Head, LONGEST_RECORD, Parser};
use super::position::Place;
use super::text::Text;
use crate::error::{OperatorError, OperatorResult};

/// Reads files line by line. A line ends with `\n` or `\r\n`, which are not part of the record; the last one may end with the file. The text is UTF-8;
/// a byte order mark at its beginning is skipped. A file whose name ends in `.gz` is decompressed.
///
/// Bytes that are not UTF-8 are an unrecoverable error that names file and line.
///
/// ```
/// use alluvium::connect::LineFiles;
///
/// let log = LineFiles::new("access.log.gz").rate(1_000);
/// # let _ = log;
/// ```
pub type LineFiles = FileSource<LineFormat>;

/// One record per line.
#[derive(Clone, Debug, Default)]
pub struct LineFormat;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Format for LineFormat {
    type Record = String;
    type Parser = LineParser;

    fn head(&self, mut text: Text) -> OperatorResult<Head> {
        let mut first = [0; 3];
        let read = text.fill(&mut first).map_err(|error| Text::failure(text.path(), &error))?;
        let length = if read == 3 && first == BYTE_ORDER_MARK { 3 } else { 0 };
        Ok(Head { length, ..Head::default() })
    }

    fn parser(&self, text: Text, _: Head, place: Place) -> LineParser {
        LineParser { text, rest: Vec::new(), line: place.line }
    }
}

/// Cuts a text into lines.
pub struct LineParser {
    text: Text,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    /// The number of the line in `rest`.
    line: u64,
}

impl LineParser {
    fn at_line(&self, reason: &str) -> OperatorError {
        OperatorError::unrecoverable(format!("{}, line {}: {reason}", self.text.path().display(), self.line))
    }

    /// Appends the line that ends before `end` and has its terminator, if any, behind it.
    fn push(&mut self, chunk: &mut Chunk<String>, line: &[u8], end: usize) -> OperatorResult {
        let line = std::str::from_utf8(line).map_err(|error| self.at_line(&error.to_string()))?;
        chunk.records.push(line.to_owned());
        chunk.ends.push(end);
        self.line += 1;
        Ok(())
    }

    fn cut(&mut self, chunk: &mut Chunk<String>, bytes: &[u8], at_end: bool) -> OperatorResult {
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[start..newline];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            start = newline + 1;
            self.push(chunk, line, start)?;
        }
        if at_end && start < bytes.len() {
            self.push(chunk, &bytes[start..], bytes.len())?;
        }
        Ok(())
    }

    /// Reads until there is a whole line. Tells whether the text is at its end.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> OperatorResult<bool> {
        loop {
            let known = bytes.len();
            bytes.resize(known + CHUNK_BYTES, 0);
            let read = self.text.fill(&mut bytes[known..]).map_err(|error| Text::failure(self.text.path(), &error))?;
            bytes.truncate(known + read);
            if read < CHUNK_BYTES {
                return Ok(true);
            }
            if memchr::memchr(b'\n', &bytes[known..]).is_some() {
                return Ok(false);
            }
            if bytes.len() > LONGEST_RECORD {
                return Err(self.at_line("is longer than 64 MiB"));
            }
        }
    }
}

impl Parser for LineParser {
    type Record = String;

    fn next_chunk(&mut self) -> Chunk<String> {
        let mut chunk = Chunk::new();
        let mut bytes = std::mem::take(&mut self.rest);
        let at_end = match self.fill(&mut bytes) {
            Ok(at_end) => at_end,
            Err(failure) => {
                chunk.stop = Some(Err(failure));
                return chunk;
            }
        };
        match self.cut(&mut chunk, &bytes, at_end) {
            Ok(()) => chunk.stop = at_end.then_some(Ok(())),
            Err(failure) => chunk.stop = Some(Err(failure)),
        }
        self.rest = bytes.split_off(chunk.ends.last().copied().unwrap_or(0));
        chunk.text = bytes;
        chunk
    }

    fn text(&self) -> &Text {
        &self.text
    }
}
