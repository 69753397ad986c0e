//! What the coordinator hears and what it asks for.

use crate::ids::{Attempt, CheckpointId, SubtaskId, Token};

pub use crate::ports::store::CheckpointKind;

use super::reason::{DeclineReason, FailureReason, JobFailure};
use super::statistics::SubtaskFigures;

/// What a user may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// A checkpoint, now.
    Checkpoint,
    /// A checkpoint after which the job ends and can be resumed.
    Stop,
}

/// The driver's name for one request of a user; its answer carries the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What became of something that was asked of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is done and durable.
    Done,
    /// It was not done and will not be.
    Failed,
    /// It may have been done or not.
    Unknown,
}

/// What reading back a manifest said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadBack {
    /// The manifest is there, whole and durable.
    Present,
    /// The manifest is not there and will not appear.
    Absent,
    /// It could not be found out, however often it was tried.
    Unknown,
}

/// Everything that a new attempt starts with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// The attempt: larger than that of every start before.
    pub attempt: Attempt,
    /// The subtasks that the attempt restored. They run, and may hear triggers; so do those of earlier attempts that are not
    /// among them, which run on.
    pub subtasks: Vec<SubtaskId>,
    /// The first checkpoint id of the run, above every id ever handed out.
    pub first_id: CheckpointId,
    /// The end of the ids that are reserved already, exclusive; `first_id` if none is.
    pub reserved_until: CheckpointId,
    /// The checkpoint that the attempt was restored from.
    pub restored: Option<CheckpointId>,
    /// All completed checkpoints that the storage holds for this job, in any order.
    pub retained: Vec<CheckpointId>,
    /// Whether it is an attempt of all regions: the periodic schedule begins anew. One of some goes on with the schedule, as the other regions do.
    pub whole_job: bool,
    /// A random number; it spreads the first periodic triggers of jobs that start together.
    pub random: u64,
}

/// What may happen to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A new attempt runs.
    Start(Start),
    /// The deadline that the machine named has passed.
    Deadline,
    /// A user asks for a checkpoint.
    Request {
        /// The driver's name for the request.
        request: RequestId,
        /// What is asked for.
        kind: RequestKind,
    },
    /// The answer to [`Effect::SnapshotEnumerators`].
    EnumeratorsSnapshotted {
        /// The attempt of the effect.
        attempt: Attempt,
        /// The checkpoint of the effect.
        checkpoint: CheckpointId,
        /// Whether the driver holds the state of all enumerators; anything but done aborts the checkpoint.
        outcome: Outcome,
        /// The length of that state in bytes.
        bytes: u64,
    },
    /// A subtask made its part of the checkpoint durable.
    Acknowledged {
        /// The attempt of the subtask.
        attempt: Attempt,
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Whether the subtask had reached the end of its data before its cut.
        finished: bool,
        /// What was measured of its snapshot.
        figures: SubtaskFigures,
    },
    /// A subtask refuses the checkpoint.
    Declined {
        /// The attempt of the subtask.
        attempt: Attempt,
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: DeclineReason,
    },
    /// A subtask has processed all its data. It lives on and takes part in checkpoints until the final one.
    EndOfData {
        /// The attempt of the subtask.
        attempt: Attempt,
        /// The subtask.
        subtask: SubtaskId,
    },
    /// A subtask is gone, having processed all its data. One that *failed* ends the attempt instead.
    SubtaskEnded {
        /// The attempt of the subtask.
        attempt: Attempt,
        /// The subtask.
        subtask: SubtaskId,
    },
    /// The answer to [`Effect::WriteManifest`].
    WriteFinished {
        /// The token of the effect.
        token: Token,
        /// Whether the manifest exists.
        outcome: Outcome,
    },
    /// The answer to [`Effect::ReadBack`].
    ReadBackFinished {
        /// The token of the effect.
        token: Token,
        /// Whether the manifest exists.
        answer: ReadBack,
    },
    /// The answer to [`Effect::ReserveIds`]. A reservation only raises a mark, so one that is unknown is asked again.
    IdsReserved {
        /// The token of the effect.
        token: Token,
        /// Whether the ids are reserved.
        outcome: Outcome,
    },
    /// The answer to [`Effect::DeleteCheckpoint`].
    Deleted {
        /// The checkpoint of the effect.
        checkpoint: CheckpointId,
        /// Anything but done is tried again after the next completion.
        outcome: Outcome,
    },
    /// The attempt ends, another one will follow: abort what is pending and settle what is in flight.
    Suspend,
    /// The attempt ends and none will follow: as [`Event::Suspend`], but outstanding deletions are finished first.
    Shutdown,
}

/// What the coordinator asks its driver to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Take the state of all source enumerators for this checkpoint; nothing has been told to a subtask yet. From here
    /// on assignments are held back until the barrier has passed or [`Effect::DiscardSnapshots`] names the checkpoint.
    SnapshotEnumerators {
        /// The attempt.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why it is taken.
        kind: CheckpointKind,
    },
    /// Start the checkpoint at the sources.
    Trigger {
        /// The attempt.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why it is taken. Sources do not go on after the barrier of a [`CheckpointKind::Stopping`] one.
        kind: CheckpointKind,
    },
    /// Publish the manifest from the snapshots that the driver holds for the checkpoint.
    WriteManifest {
        /// Comes back with the outcome.
        token: Token,
        /// The attempt that took the checkpoint.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why it was taken; the manifest of a [`CheckpointKind::Final`] one is marked final.
        kind: CheckpointKind,
        /// The subtasks that had reached the end of their data, those that had ended included.
        finished: Vec<SubtaskId>,
    },
    /// Find out whether the manifest of the checkpoint exists.
    ReadBack {
        /// Comes back with the answer.
        token: Token,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Tell enumerators and subtasks that the checkpoint is complete; sinks commit.
    NotifyCompleted {
        /// The attempt.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why it was taken. After one that closes, the subtasks end when their commits have returned.
        kind: CheckpointKind,
    },
    /// Tell enumerators and subtasks that the checkpoint will not be completed.
    NotifyAborted {
        /// The attempt.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The newest complete checkpoint, if there is one.
        last_completed: Option<CheckpointId>,
        /// Why it was aborted.
        reason: FailureReason,
    },
    /// Forget and delete all snapshots that are held for the checkpoint, those of the enumerators included.
    DiscardSnapshots {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Forget and delete the snapshot that came with the acknowledgement just handled.
    DiscardSnapshot {
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Delete a completed checkpoint: its manifest first, then its blobs. One is asked for at a time.
    DeleteCheckpoint {
        /// The checkpoint; comes back with the outcome.
        checkpoint: CheckpointId,
    },
    /// Make durable that ids below `up_to` may be handed out, so that no later run hands them out again.
    ReserveIds {
        /// Comes back with the outcome.
        token: Token,
        /// The end of the reserved ids, exclusive.
        up_to: CheckpointId,
    },
    /// A checkpoint that nobody asked for by name, a periodic or the final one, was due and did not begin.
    NotTriggered {
        /// What it would have been.
        kind: CheckpointKind,
        /// Why it did not begin. The schedule, or the next try, goes on by itself.
        reason: FailureReason,
    },
    /// A checkpoint is under way for as long as the settings say that is worth a word: tell why. Nothing else follows from it.
    TakesLong {
        /// Which.
        checkpoint: CheckpointId,
    },
    /// Answer a user.
    Answer {
        /// The request.
        request: RequestId,
        /// The checkpoint that holds what was processed up to the request, or why there is none.
        result: Result<CheckpointId, FailureReason>,
    },
    /// The checkpoint of a stop was aborted: sources that stand still go on reading.
    SourcesGoOn {
        /// The attempt.
        attempt: Attempt,
        /// The checkpoint that was aborted.
        checkpoint: CheckpointId,
    },
    /// Nothing is under way any more: what the storage holds now is what a restore finds. After
    /// [`JobFailure::Unsettled`] it says only the first half.
    Suspended {
        /// The newest complete checkpoint, if there is one.
        last_completed: Option<CheckpointId>,
        /// The kind of that checkpoint, if it closes: then its commits are owed, and nothing else is left to do.
        closed: Option<CheckpointKind>,
    },
    /// End the job as failed. If the failure is [`JobFailure::Unsettled`], touch no sink and delete nothing.
    FailJob {
        /// Why.
        failure: JobFailure,
    },
}

/// What an acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acknowledgement {
    /// It was waited for: the driver keeps the snapshot.
    Accepted,
    /// It came before, or the checkpoint is complete: its blobs are in use, so they are neither kept again nor deleted.
    Duplicate,
    /// The checkpoint is pending but does not know the subtask: the snapshot is deleted.
    UnknownSubtask,
    /// The checkpoint was aborted a short while ago: the snapshot is deleted.
    Late,
    /// No such checkpoint is known: the snapshot is deleted.
    UnknownCheckpoint,
    /// It belongs to another attempt: the snapshot is deleted, unless a checkpoint that is known may use it.
    WrongAttempt,
    /// The coordinator gave the job up: nothing is touched.
    Ignored,
}
