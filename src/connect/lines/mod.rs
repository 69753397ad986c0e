//! The exactly-once file sink: one line per record, in files that appear when their checkpoint is complete.
//!
//! A file is *in progress* while it is written, *pending* when a checkpoint has prepared it (synced under a name that is never used again), and output
//! when it was committed. Only files with the sink's suffix are output.

mod committer;
mod names;
mod owner;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_actors::ports::sink::SinkScope;
use serde::{Deserialize, Serialize};

pub use self::committer::LinesCommitter;
pub use self::writer::LinesWriter;

use self::names::Names;
use super::sink::{Guarantee, Sink, SinkContext};
use crate::error::{OperatorError, OperatorResult};
use crate::record::Record;

/// Writes text records as lines into files of a directory, exactly once: after any number of crashes the files that end in the suffix hold the lines
/// of the completed checkpoints, each once.
///
/// Each writer makes one file per checkpoint in which it had records. The directory carries a file `.alluvium-owner` that names the job and its store; another job is
/// refused, and so is a directory that was changed or wiped. Beside output the directory holds files that end in `.inprogress` and `.pending`: they are not output, and
/// those that no checkpoint needs are removed at the next start. Sinks of one job may share a directory.
///
/// A record that holds a newline makes several lines.
///
/// ```
/// use alluvium::connect::Lines;
///
/// let lines = Lines::exactly_once("out").suffix(".csv");
/// # let _ = lines;
/// ```
#[derive(Clone, Debug)]
pub struct Lines {
    directory: PathBuf,
    suffix: String,
}

impl Lines {
    /// Writes into `directory`, which is created if it is missing.
    #[must_use]
    pub fn exactly_once(directory: impl Into<PathBuf>) -> Lines {
        Lines { directory: directory.into(), suffix: ".txt".to_owned() }
    }

    /// What the names of output files end in, with its dot; `.txt` without this. Not `.pending` or `.inprogress`, which are kept for files that are not output.
    #[must_use]
    pub fn suffix(self, suffix: &str) -> Lines {
        Lines { suffix: suffix.to_owned(), ..self }
    }

    fn names(&self, job: &str, uid: &str) -> OperatorResult<Names> {
        let suffix = &self.suffix;
        let plain = suffix.len() > 1 && suffix.starts_with('.') && !suffix.contains(['/', '\0']);
        if !plain || names::is_kept(suffix) {
            return Err(OperatorError::unrecoverable(format!(
                "output files cannot end in `{suffix}`: give a suffix like `.csv`, and not `{}` or `{}`",
                names::IN_PROGRESS,
                names::PENDING
            )));
        }
        Ok(Names::new(&self.directory, job, uid, suffix))
    }
}

impl<T: Record + AsRef<str>> Sink<T> for Lines {
    type Committable = PendingFile;
    type State = LinesState;
    type Writer = LinesWriter;
    type Committer = LinesCommitter;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<LinesWriter> {
        let names = self.names(context.job(), context.uid().as_str())?;
        Ok(LinesWriter::new(context, names))
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<LinesCommitter> {
        let names = Arc::new(self.names(&scope.job, scope.uid.as_str())?);
        Ok(LinesCommitter::new(scope, names))
    }
}

/// A file that a checkpoint prepared, waiting for its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFile {
    /// Its name as output.
    name: String,
    length: u64,
    /// CRC-32C of its content.
    checksum: u32,
}

/// What a checkpoint keeps of a writer: the directory that it wrote to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinesState {
    /// The directory's random name; `None` if the writer had not looked yet, and so had not written.
    directory: Option<u64>,
}
