//! The messages of the mailboxes: barriers and control, at a low rate. No record is ever one.
//!
//! The address of a subtask or a sink names its attempt, so a message of an old attempt finds nobody. Messages to the coordinator and the
//! supervisor, who outlive attempts, carry the attempt and are dropped when it is another one.

use std::fmt;

use crate::drive::edge::Barrier;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::drive::attempt::WorkCount;
use crate::ids::{Attempt, CheckpointId, NodeId, RegionId, SubtaskId};
use crate::ports::fence::Fence;
use crate::ports::source::ReaderEvent;
use crate::ports::store::{CheckpointKind, Manifest, RunRecord, SubtaskSnapshot};
use crate::ports::task::{CommitRequest, Failure};
use crate::protocol::coordinator::{DeclineReason, SubtaskFigures};

/// A message.
#[derive(Debug)]
pub enum Control {
    /// To a subtask: all subtasks are restored, begin.
    Start,
    /// To a subtask: a barrier is in the edge of this channel. Sent at the same moment as the marker.
    BarrierAnnounced {
        /// The receiver's channel.
        channel: usize,
        /// The barrier.
        barrier: Barrier,
    },
    /// To a source: cut now.
    Trigger(Barrier),
    /// To a subtask: the checkpoint is complete.
    Completed {
        /// Which one.
        checkpoint: CheckpointId,
        /// What kind it was.
        kind: CheckpointKind,
    },
    /// To a subtask: the checkpoint was aborted.
    Aborted {
        /// Which one.
        checkpoint: CheckpointId,
        /// The last completed one.
        last_completed: Option<CheckpointId>,
    },
    /// To a source: the stop was called off, read on.
    GoOn,
    /// To a source: encoded splits to read.
    AddSplits(Vec<Vec<u8>>),
    /// To a source: no further split will come.
    NoMoreSplits,
    /// To a source: an event of its enumerator.
    EnumeratorEvent(Vec<u8>),
    /// To a subtask or a sink: end now.
    Cancel,

    /// To a sink: commit what a subtask prepared.
    Commit {
        /// Who prepared it.
        subtask: SubtaskId,
        /// What.
        request: CommitRequest,
    },
    /// To a subtask: the commit returned.
    Committed {
        /// Which sink.
        sink: u32,
        /// What this checkpoint prepared.
        checkpoint: CheckpointId,
    },

    /// To the coordinator: a new attempt begins, of the whole job or of some regions.
    Resume(Box<Resume>),
    /// To the coordinator: the subtasks of the attempt run.
    Running {
        /// Which attempt.
        attempt: Attempt,
    },
    /// To the coordinator: end the enumerators of these regions, abort what is pending, settle the writes under way, then answer.
    Suspend {
        /// Comes back with the answer.
        suspension: u32,
        /// The regions that end.
        regions: BTreeSet<RegionId>,
    },
    /// To the coordinator: the same, and no other attempt follows: finish the deletions under way first.
    Shutdown,
    /// To the coordinator: a subtask's part of a checkpoint is durable.
    Acknowledge {
        /// Of which attempt.
        attempt: Attempt,
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Its part.
        snapshot: Box<SubtaskSnapshot>,
        /// What was measured of it.
        figures: SubtaskFigures,
    },
    /// To the coordinator: a subtask could not make its part.
    Decline {
        /// Of which attempt.
        attempt: Attempt,
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Who.
        subtask: SubtaskId,
        /// Why, by its name in the list of reasons.
        reason: DeclineReason,
        /// What happened.
        failure: Failure,
    },
    /// To the coordinator: a subtask has seen the end of its data and only waits for the final checkpoint.
    EndOfData {
        /// Of which attempt.
        attempt: Attempt,
        /// Who.
        subtask: SubtaskId,
    },
    /// To the coordinator: a reader's event for its enumerator.
    Reader {
        /// Of which attempt.
        attempt: Attempt,
        /// Who.
        subtask: SubtaskId,
        /// What.
        event: ReaderEvent,
    },
    /// To the coordinator, from the job's handle: take a checkpoint.
    TakeCheckpoint(Reply<CheckpointId>),

    /// To the supervisor, from the job's handle: final checkpoint, commit, end.
    Stop(Reply<CheckpointId>),
    /// To the supervisor, from the job's handle: end now.
    CancelJob,
    /// To the coordinator, from the supervisor: take the stopping checkpoint.
    TakeStoppingCheckpoint(Reply<CheckpointId>),
    /// To the supervisor: the checkpoint of a stop was aborted, the job goes on.
    StopCalledOff,
    /// To the supervisor: a checkpoint that ends the job is complete; its subtasks are about to hear of it.
    Closed {
        /// Final or stopping.
        kind: CheckpointKind,
    },
    /// To the supervisor: the coordinator has settled everything after a suspend or shutdown.
    Suspended {
        /// The last suspension that was asked for.
        suspension: u32,
        /// The newest complete checkpoint.
        last_completed: Option<CheckpointId>,
        /// The kind of the last completed checkpoint, if nothing comes after it: then only its commits are owed.
        closed: Option<CheckpointKind>,
        /// Whether the coordinator gave the job up over a manifest in doubt.
        unsettled: bool,
    },
    /// To the supervisor: a subtask has its state.
    Restored {
        /// Of which attempt.
        attempt: Attempt,
        /// Who.
        subtask: SubtaskId,
    },
    /// To the supervisor: a subtask has ended and is dropped.
    Ended {
        /// Of which attempt.
        attempt: Attempt,
        /// Who.
        subtask: SubtaskId,
    },
    /// To the supervisor: a sink has committed what was restored and cleaned up.
    SinkReady {
        /// Of which attempt.
        attempt: Attempt,
        /// Its number in the plan.
        sink: u32,
    },
    /// To the supervisor: a sink's actor has ended.
    SinkEnded {
        /// Of which attempt.
        attempt: Attempt,
        /// Its number in the plan.
        sink: u32,
    },
    /// To the supervisor: something failed.
    Failed {
        /// Of which attempt.
        attempt: Attempt,
        /// Whose failure it is: its region restarts.
        origin: Origin,
        /// What and where.
        failure: Failure,
    },
    /// To the supervisor, from the host: a driver panicked outside user code.
    DriverPanicked {
        /// Which actor.
        address: crate::ports::host::Address,
        /// The panic's text.
        text: String,
    },
    /// To the supervisor, from the host: the arbiter of an actor was stopped, and the actor is gone.
    DriverLost {
        /// Which actor.
        address: crate::ports::host::Address,
    },
}

/// What the coordinator needs for a new attempt.
#[derive(Debug)]
pub struct Resume {
    /// The attempt.
    pub attempt: Attempt,
    /// The run's record.
    pub run: RunRecord,
    /// The checkpoint to begin with.
    pub restored: Option<Arc<Manifest>>,
    /// All completed checkpoints that the store holds for recovery.
    pub retained: Vec<CheckpointId>,
    /// The right to write: that of the job, which ends with the whole of it only.
    pub fence: Fence,
    /// The regions that begin. The enumerators of the others run on.
    pub regions: Vec<ResumedRegion>,
}

/// What the enumerators of a region get for a new attempt.
#[derive(Debug)]
pub struct ResumedRegion {
    /// The region.
    pub region: RegionId,
    /// The right to act outside; it ends with the attempt of the region.
    pub fence: Fence,
    /// Counts the blocking work of the attempt.
    pub work: Arc<WorkCount>,
}

/// Whose failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A subtask's.
    Subtask(SubtaskId),
    /// A sink's, by its number in the plan.
    Sink(u32),
    /// The enumerator's of the source at this node.
    Enumerator(NodeId),
    /// The coordinator's own.
    Coordinator,
}

/// Where the answer to a request goes. Dropped unanswered, the requester hears that the job ended.
pub struct Reply<T>(pub Box<dyn FnOnce(Result<T, String>) + Send>);

impl<T> Reply<T> {
    /// Answers.
    pub fn answer(self, answer: Result<T, String>) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reply")
    }
}
