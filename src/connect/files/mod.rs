//! Sources that read files: lines, or comma-separated values; several files are several splits, and a file is never cut into ranges.
//!
//! A position counts in the uncompressed text and carries the text's checksum up to it, so that a restart over another input is an error and not a silent mixture of two.
//! Readers never block: a worker reads and parses a chunk ahead while the chunk before it is emitted.

mod csv;
mod enumerator;
mod format;
mod line;
mod position;
mod progress;
mod reader;
mod text;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::csv::{CsvFiles, CsvFormat};
pub use self::enumerator::{FileEnumerator, FilesState};
pub use self::format::Format;
pub use self::line::{LineFiles, LineFormat};
pub use self::progress::SourceProgress;
pub use self::reader::FileSourceReader;

use self::position::Position;
use super::source::{Boundedness, Replay, Source, SourceContext};
use crate::error::{OperatorError, OperatorResult};

/// A source that reads files: see [`LineFiles`] and [`CsvFiles`].
#[derive(Clone, Debug)]
pub struct FileSource<F> {
    inputs: Vec<PathBuf>,
    rate: Option<u64>,
    format: F,
    progress: SourceProgress,
}

impl<F: Format + Default> FileSource<F> {
    /// Reads one file, or the files of one directory: those that are in it at the first start, in the order of their names, without hidden ones and subdirectories.
    ///
    /// Several files are read in this order by as many readers as there are. A file is read to the end that it has when the reader comes there; to one that was read,
    /// or is being read, only whole lines may be appended, and nothing may be changed.
    #[must_use]
    pub fn new(input: impl Into<PathBuf>) -> FileSource<F> {
        FileSource::several([input])
    }

    /// Reads several files, or directories.
    #[must_use]
    pub fn several<P: Into<PathBuf>>(inputs: impl IntoIterator<Item = P>) -> FileSource<F> {
        FileSource {
            inputs: inputs.into_iter().map(Into::into).collect(),
            rate: None,
            format: F::default(),
            progress: SourceProgress::default(),
        }
    }
}

impl<F> FileSource<F> {
    /// At most so many rows per second, at least 1, over all readers together.
    #[must_use]
    pub fn rate(self, rows_per_second: u64) -> FileSource<F> {
        FileSource { rate: Some(rows_per_second), ..self }
    }

    /// Where to see how far the source is.
    #[must_use]
    pub fn progress(&self) -> SourceProgress {
        self.progress.clone()
    }
}

impl<F: Format> Source for FileSource<F> {
    type Record = F::Record;
    type Split = FileSplit;
    type Enumerator = FileEnumerator;
    type Reader = FileSourceReader<F>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn replay(&self) -> Replay {
        Replay::FromStoredPosition
    }

    fn enumerator(&self, context: SourceContext) -> OperatorResult<FileEnumerator> {
        if self.rate == Some(0) {
            return Err(OperatorError::unrecoverable("a rate of 0 rows per second: give at least 1, or none"));
        }
        Ok(FileEnumerator::new(context, self.inputs.clone(), self.progress.clone()))
    }

    fn reader(&self, context: SourceContext) -> OperatorResult<FileSourceReader<F>> {
        let progress = self.progress.clone();
        Ok(FileSourceReader::new(context, self.format.clone(), self.inputs.clone(), self.rate, progress))
    }
}

/// A file, with the position in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    file: FileName,
    /// How many files there are.
    of: u64,
    position: Position,
}

/// Names a file by the input that it came from, so that the inputs may lie elsewhere at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileName {
    /// Which input.
    input: u32,
    /// Its name in that directory; `None` when the input is a file.
    name: Option<String>,
}

impl FileName {
    fn path(&self, inputs: &[PathBuf]) -> OperatorResult<PathBuf> {
        let input: Option<&Path> =
            usize::try_from(self.input).ok().and_then(|input| Some(inputs.get(input)?.as_path()));
        match (input, &self.name) {
            (Some(file), None) => Ok(file.to_owned()),
            (Some(directory), Some(name)) => Ok(directory.join(name)),
            (None, _) => Err(OperatorError::unrecoverable(format!(
                "the checkpoint reads from input {}, and there are only {} now: give the job its former inputs, or begin anew",
                self.input + 1,
                inputs.len()
            ))),
        }
    }

    /// The name in requests and figures.
    fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{}/{name}", self.input),
            None => self.input.to_string(),
        }
    }
}
