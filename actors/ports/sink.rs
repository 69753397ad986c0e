//! The door to the committing side of a sink: it works without a writer, on any subtask's behalf, and outlives nothing.
//!
//! The transactions themselves are the piece [`COMMITTABLES`](crate::ports::store::COMMITTABLES) of a snapshot: a MessagePack array of
//! [`PreparedCheckpoint`]s.
//!
//! All its calls block; the sink driver carries them out on the connectors' lane, one at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{CheckpointId, OperatorUid, RunNumber};
use crate::ports::fence::Fence;
use crate::ports::files::Files;
use crate::ports::store::OperatorSnapshot;
use crate::ports::task::Failure;

/// Whose sink it is.
#[derive(Clone)]
pub struct SinkScope {
    /// The job's name.
    pub job: Arc<str>,
    /// Tells stores apart: the hash seed that the job's store drew, as 16 hexadecimal digits.
    pub store: String,
    /// The sink's uid.
    pub uid: OperatorUid,
    /// The run that begins.
    pub run: RunNumber,
    /// The checkpoint that the run begins with.
    pub restored: Option<CheckpointId>,
    /// Files, for sinks that write them.
    pub files: Arc<dyn Files>,
    /// The right to act outside.
    pub fence: Fence,
}

impl fmt::Debug for SinkScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SinkScope({} of {}, run {})", self.uid, self.job, self.run)
    }
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Committed now.
    Done,
    /// It had been committed before.
    AlreadyDone,
    /// Not now; again after this time.
    RetryAfter(Duration),
    /// It can never be committed: the job fails.
    Fatal(Failure),
}

/// The committing side of a sink, erased.
pub trait SinkCommitter: Send {
    /// Called once per attempt, before any commit and before any writer opens: checks that the place is the right one, given what
    /// the restored checkpoint holds of this sink (all subtasks).
    ///
    /// # Errors
    /// When the place belongs to somebody else, or is not the one that the checkpoint wrote to.
    fn open(&mut self, restored: &[OperatorSnapshot]) -> Result<(), Failure>;

    /// Commits one prepared transaction.
    fn commit(&mut self, committable: &[u8]) -> CommitAnswer;

    /// Removes what earlier attempts left behind and no checkpoint holds. Called after the restored transactions were committed and
    /// before any writer opens.
    ///
    /// # Errors
    /// When something could not be removed.
    fn clean_up(&mut self) -> Result<(), Failure>;
}

/// Builds the committing side; called on the connectors' lane.
pub type SinkCommitterFactory = Arc<dyn Fn(SinkScope) -> Result<Box<dyn SinkCommitter>, Failure> + Send + Sync>;

/// What one checkpoint prepared at one subtask of a sink. The piece `committables` of a snapshot is an array of these, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedCheckpoint {
    /// The checkpoint that prepared them.
    pub checkpoint: CheckpointId,
    /// The encoded transactions, in order.
    pub committables: Vec<Vec<u8>>,
}
