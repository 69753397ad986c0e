//! The door to whoever watches: every event of a job's protocol, in the order in which the coordinator and the supervisor saw them.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{CheckpointId, RegionId, RunNumber, SubtaskId, WallTime};
use crate::ports::history::CheckpointRecord;
use crate::ports::store::CheckpointKind;
use crate::ports::task::Failure;
use crate::protocol::coordinator::{FailureReason, StatisticsSnapshot};
use crate::protocol::lifecycle::JobState;

/// Hears what happens. Called on the job's threads: must return soon and must not block.
pub trait Listener: Send + Sync {
    /// Something happened.
    fn event(&self, event: JobEvent);

    /// What is known of the checkpoints has changed. Not for every change: what changed in one go is told at once.
    fn statistics(&self, statistics: &Arc<StatisticsSnapshot>) {
        let _ = statistics;
    }

    /// A checkpoint was completed or aborted: what it says of itself. Before the event that says so.
    fn recorded(&self, record: &Arc<CheckpointRecord>) {
        let _ = record;
    }
}

/// What happens in the life of a job.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum JobEvent {
    /// The job entered another state.
    State(JobState),
    /// A run began.
    RunBegan {
        /// Its number.
        run: RunNumber,
        /// The checkpoint that it begins with.
        restored: Option<CheckpointId>,
    },
    /// A checkpoint was triggered.
    Triggered {
        /// Which.
        checkpoint: CheckpointId,
        /// What kind.
        kind: CheckpointKind,
    },
    /// A periodic or final checkpoint was due and did not begin; the next one comes by itself.
    NotTriggered {
        /// What it would have been.
        kind: CheckpointKind,
        /// Why.
        reason: FailureReason,
    },
    /// A subtask's part of a checkpoint arrived.
    Acknowledged {
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Whose part.
        subtask: SubtaskId,
    },
    /// A checkpoint is complete: its manifest is published.
    Completed {
        /// Which.
        checkpoint: CheckpointId,
        /// What kind.
        kind: CheckpointKind,
        /// From the trigger to the published manifest.
        duration: Duration,
        /// The bytes of all its pieces.
        bytes: u64,
    },
    /// A checkpoint was aborted.
    Aborted {
        /// Which.
        checkpoint: CheckpointId,
        /// Why.
        reason: FailureReason,
        /// What was in the way, in words: who had not acknowledged and what that subtask was doing, or who declined and what it said.
        story: String,
    },
    /// A checkpoint is under way for as long as the options say that is worth a word.
    TakesLong {
        /// Which.
        checkpoint: CheckpointId,
        /// What it waits for, in one sentence.
        story: String,
    },
    /// The job has ended, what completed checkpoints owe is committed, and from here on all of them are deleted: the next start begins anew.
    DeletingCheckpoints,
    /// Checkpoints that were to be deleted at the end of the job are left. Those that are whole are what the next start goes on from.
    CheckpointsLeft {
        /// Why.
        reason: String,
    },
    /// Something failed.
    Failed(Failure),
    /// An arbiter (or the `System`) that the job ran on was stopped, and took an actor of the job along: the job ends.
    ArbiterStopped,
    /// The job starts again after this time, or the part of it that failed does.
    Restarting {
        /// How long it waits, at least: the old attempt has to be gone too.
        delay: Duration,
        /// When that is.
        at: WallTime,
        /// The number of the restart, from 1.
        restart: u32,
        /// The names of what restarts: all chains of the regions.
        operators: Vec<String>,
        /// The regions that restart. The others run on.
        regions: Vec<RegionId>,
        /// Whether these are all regions.
        whole_job: bool,
    },
}
