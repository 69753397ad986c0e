//! Comma-separated values with a header row.

use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;

use ::csv::{ByteRecord, DeserializeErrorKind, ErrorKind, Reader, ReaderBuilder};

use super::FileSource;
use super::format::{CHUNK_BYTES, Chunk, Format, Head, LONGEST_RECORD, Parser};
use super::position::{Place, newlines};
use super::text::Text;
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;

/// Reads comma-separated files row by row into `T`, a struct whose fields are columns of the header row, in any order; other columns are skipped. Quoted fields may hold
/// commas, quotes and newlines; empty lines are skipped, as is a byte order mark. A file whose name ends in `.gz` is decompressed.
///
/// A row that does not fit `T` or the header is an unrecoverable error that names file and line.
///
/// ```
/// use alluvium::connect::CsvFiles;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Flight {
///     tailnum: String,
///     distance: u32,
/// }
///
/// let flights = CsvFiles::<Flight>::new("flights.csv").rate(1_000);
/// let progress = flights.progress();
/// assert_eq!(progress.rows_read(), 0);
/// ```
pub type CsvFiles<T> = FileSource<CsvFormat<T>>;

/// One record per row.
pub struct CsvFormat<T> {
    rows: PhantomData<fn() -> T>,
}

impl<T> Clone for CsvFormat<T> {
    fn clone(&self) -> CsvFormat<T> {
        CsvFormat::default()
    }
}

impl<T> Default for CsvFormat<T> {
    fn default() -> CsvFormat<T> {
        CsvFormat { rows: PhantomData }
    }
}

impl<T> fmt::Debug for CsvFormat<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CsvFormat<{}>", std::any::type_name::<T>())
    }
}

impl<T: Record> Format for CsvFormat<T> {
    type Record = T;
    type Parser = CsvParser<T>;

    fn head(&self, text: Text) -> OperatorResult<Head> {
        let path = text.path().to_owned();
        let mut reader = rows(text);
        let mut columns = ByteRecord::new();
        match reader.read_byte_record(&mut columns) {
            Ok(_) => Ok(Head { length: reader.position().byte(), columns }),
            Err(error) => match error.into_kind() {
                ErrorKind::Io(error) => Err(Text::failure(&path, &error)),
                other => Err(OperatorError::unrecoverable(format!("{}, line 1: {other:?}", path.display()))),
            },
        }
    }

    fn parser(&self, text: Text, head: Head, place: Place) -> CsvParser<T> {
        CsvParser {
            reader: rows(text),
            row: ByteRecord::new(),
            columns: head.columns,
            parsed: 0,
            line: place.line,
            rows: PhantomData,
        }
    }
}

fn rows(text: Text) -> Reader<LoggedText> {
    // The header is read apart and lengths are compared with it, so to the reader every row is like the others.
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(64 * 1024)
        .from_reader(LoggedText { text, log: Vec::new() })
}

/// A text that keeps what was read of it, for checksums and line numbers.
struct LoggedText {
    text: Text,
    log: Vec<u8>,
}

impl Read for LoggedText {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.log.len() > LONGEST_RECORD {
            return Err(io::Error::other(TooLong));
        }
        let read = self.text.fill(buffer)?;
        self.log.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the row is longer than 64 MiB; is a quote left open?")]
struct TooLong;

/// Cuts a text into rows.
pub struct CsvParser<T> {
    reader: Reader<LoggedText>,
    row: ByteRecord,
    columns: ByteRecord,
    /// How many bytes the reader had parsed where the log begins.
    parsed: u64,
    /// The number of the line where the log begins.
    line: u64,
    rows: PhantomData<fn() -> T>,
}

impl<T: Record> CsvParser<T> {
    /// How far the reader is in the log.
    fn end(&self) -> usize {
        usize::try_from(self.reader.position().byte() - self.parsed).unwrap_or(usize::MAX)
    }

    /// The failure of the row that begins at `start` of the log.
    fn at_row(&self, start: usize, reason: &str) -> OperatorError {
        let LoggedText { text, log } = self.reader.get_ref();
        // The reader leaves the `\n` of `\r\n` and empty lines to the row behind them.
        let blank = log[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = self.line + newlines(&log[..start + blank]);
        OperatorError::unrecoverable(format!("{}, line {line}: {reason}", text.path().display()))
    }

    fn next_row(&mut self, start: usize) -> OperatorResult<Option<T>> {
        match self.reader.read_byte_record(&mut self.row) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                return Err(match error.into_kind() {
                    ErrorKind::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) => {
                        self.at_row(start, &TooLong.to_string())
                    }
                    ErrorKind::Io(error) => Text::failure(self.text().path(), &error),
                    other => self.at_row(start, &format!("{other:?}")),
                });
            }
        }
        if self.row.len() != self.columns.len() {
            let reason = format!("{} fields under a header of {}", self.row.len(), self.columns.len());
            return Err(self.at_row(start, &reason));
        }
        match self.row.deserialize(Some(&self.columns)) {
            Ok(row) => Ok(Some(row)),
            Err(error) => Err(self.at_row(start, &self.misfit(&error))),
        }
    }

    /// Why a row does not fit `T`.
    fn misfit(&self, error: &::csv::Error) -> String {
        let ErrorKind::Deserialize { err, .. } = error.kind() else { return error.to_string() };
        if let DeserializeErrorKind::Message(message) = err.kind()
            && message.starts_with("missing field")
        {
            let columns: Vec<_> = self.columns.iter().map(String::from_utf8_lossy).collect();
            return format!("{message}: the header has only the columns {}", columns.join(", "));
        }
        let Some(field) = err.field().and_then(|field| usize::try_from(field).ok()) else {
            return err.kind().to_string();
        };
        let text = |record: &ByteRecord| {
            let text = String::from_utf8_lossy(record.get(field).unwrap_or_default()).into_owned();
            text.chars().take(60).collect::<String>()
        };
        format!("column `{}` is `{}`: {}", text(&self.columns), text(&self.row), err.kind())
    }
}

impl<T: Record> Parser for CsvParser<T> {
    type Record = T;

    fn next_chunk(&mut self) -> Chunk<T> {
        let mut chunk = Chunk::new();
        let mut end = 0;
        while chunk.stop.is_none() && end < CHUNK_BYTES {
            match self.next_row(end) {
                Ok(Some(row)) => {
                    end = self.end();
                    chunk.records.push(row);
                    chunk.ends.push(end);
                }
                Ok(None) => {
                    end = self.end();
                    chunk.stop = Some(Ok(()));
                }
                Err(failure) => chunk.stop = Some(Err(failure)),
            }
        }
        let log = &mut self.reader.get_mut().log;
        let rest = log.split_off(end.min(log.len()));
        chunk.text = std::mem::replace(log, rest);
        self.parsed += chunk.text.len() as u64;
        self.line += newlines(&chunk.text);
        chunk
    }

    fn text(&self) -> &Text {
        &self.reader.get_ref().text
    }
}
