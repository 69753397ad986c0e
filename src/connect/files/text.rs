//! The uncompressed text of an input file, read through the file door.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use alluvium_actors::ports::files::{FileError, FileReader, Files};
use flate2::bufread::MultiGzDecoder;

use crate::connect::file_failure;
use crate::error::{OperatorError, OperatorResult};

/// So much is asked of the file system at once.
const READ_BYTES: usize = 128 * 1024;

/// The text of a file from its beginning on. A file whose name ends in `.gz` is decompressed, with all its members.
pub struct Text {
    path: PathBuf,
    decoder: Decoder,
}

enum Decoder {
    Plain(RawFile),
    Gzip(Box<MultiGzDecoder<RawFile>>),
}

impl Text {
    /// Opens `path`.
    pub fn open(files: &dyn Files, path: &Path) -> OperatorResult<Text> {
        let reader = files.open(path).map_err(|error| file_failure(&error))?;
        let length = reader.length().map_err(|error| file_failure(&error))?;
        let compressed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        let raw = RawFile { reader, length, offset: 0, buffer: vec![0; READ_BYTES], start: 0, end: 0 };
        let decoder = if compressed && length > 0 {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(raw)))
        } else {
            Decoder::Plain(raw)
        };
        Ok(Text { path: path.to_owned(), decoder })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file as it was when it was opened, in bytes as they are stored.
    pub fn stored_length(&self) -> u64 {
        self.raw().length
    }

    /// How far the file was read, in bytes as they are stored.
    pub fn stored_offset(&self) -> u64 {
        self.raw().offset
    }

    fn raw(&self) -> &RawFile {
        match &self.decoder {
            Decoder::Plain(raw) => raw,
            Decoder::Gzip(decoder) => decoder.get_ref(),
        }
    }

    /// Fills `buffer`; less only at the end of the text.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = match &mut self.decoder {
                Decoder::Plain(raw) => raw.read(&mut buffer[filled..])?,
                Decoder::Gzip(decoder) => decoder.read(&mut buffer[filled..])?,
            };
            if read == 0 {
                self.check_end()?;
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    /// At the end of the file: it must not have become shorter than it was.
    fn check_end(&self) -> io::Result<()> {
        let raw = self.raw();
        let length = raw.reader.length().map_err(io::Error::other)?;
        if raw.offset < raw.length || length < raw.length {
            let was = raw.length;
            return Err(io::Error::other(OtherInput(format!(
                "it had {was} bytes when it was opened and now has {length}: it was cut while it was read"
            ))));
        }
        Ok(())
    }

    /// What an error of [`Text::fill`] means to the job.
    pub fn failure(path: &Path, error: &io::Error) -> OperatorError {
        let inner = error.get_ref();
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<FileError>()) {
            return file_failure(error);
        }
        // What is left is about the content: a damaged or truncated gzip stream, a file that was cut.
        OperatorError::unrecoverable(format!("cannot read {}: {error}", path.display()))
    }
}

/// The input is not what it was.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OtherInput(String);

struct RawFile {
    reader: Box<dyn FileReader>,
    length: u64,
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl BufRead for RawFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.reader.read_at(self.offset, &mut self.buffer).map_err(io::Error::other)?;
            self.offset += self.end as u64;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }
}

impl Read for RawFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
