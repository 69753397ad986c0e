//! Why a checkpoint was not taken or not completed: a closed list, and which of it counts.

use thiserror::Error;

/// Why a checkpoint, or a request for one, failed. The names are those of Apache Flink's `CheckpointFailureReason`
/// where the meaning is the same.
///
/// Names of Flink's that are not here name what cannot happen: a schedule that is switched off by itself (it ends with the
/// attempt), a blocking output, an input that ended (an end of channel counts as a delivered barrier), a subtask that is not
/// ready (none is triggered before all run), a notice of completion that failed (it fails the attempt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum FailureReason {
    /// More requests were waiting than the settings allow.
    #[error("the maximum number of queued checkpoint requests is exceeded")]
    TooManyCheckpointRequests,
    /// A periodic one was due within the minimum pause after the completion of the last one.
    #[error("the minimum time between checkpoints has not passed")]
    MinimumTimeBetweenCheckpoints,
    /// The subtasks do not run: the job is starting or restarting.
    #[error("not all subtasks are running")]
    NotAllRequiredTasksRunning,
    /// The enumerator of a source could not be snapshotted; the attempt fails with it.
    #[error("the checkpoint could not be triggered")]
    TriggerCheckpointFailure,
    /// Not all acknowledgements came before the timeout.
    #[error("the checkpoint expired before it was completed")]
    CheckpointExpired,
    /// A newer checkpoint was completed first.
    #[error("the checkpoint was subsumed by a newer one")]
    CheckpointSubsumed,
    /// A subtask refused it without a reason that has a name of its own.
    #[error("the checkpoint was declined")]
    CheckpointDeclined,
    /// A subtask that was to acknowledge it ended.
    #[error("the checkpoint was declined: the subtask was closing")]
    CheckpointDeclinedTaskClosing,
    /// A subtask saw the barrier of a newer checkpoint first.
    #[error("the checkpoint was declined: a newer barrier arrived")]
    CheckpointDeclinedSubsumed,
    /// A subtask was told by an upstream one that the checkpoint is cancelled.
    #[error("the checkpoint was declined: it was cancelled upstream")]
    CheckpointDeclinedOnCancellationBarrier,
    /// The part of a snapshot that is taken while the subtask runs on failed.
    #[error("the asynchronous part of a snapshot failed")]
    CheckpointAsyncException,
    /// The part of a snapshot for which the subtask stands still failed; the subtask fails with it.
    #[error("the synchronous part of a snapshot failed")]
    TaskCheckpointFailure,
    /// The storage refused a part of a snapshot, or to reserve a checkpoint id.
    #[error("an input or output error of the checkpoint storage occurred")]
    IoException,
    /// The manifest could not be written.
    #[error("the checkpoint could not be finalized: its manifest was not written")]
    FinalizeCheckpointFailure,
    /// An operator with a union list has subtasks that have come to the end of their data beside others that have not. With union list state every instance
    /// gets what all hold, so Apache Flink refuses such a checkpoint, and so does this runtime.
    #[error(
        "an operator with union list state has finished in some of its subtasks and not in others; the next checkpoint can be taken when all of them have"
    )]
    PartlyFinishedUnionState,
    /// It stayed unknown whether the manifest was written; the job was failed and nothing was touched.
    #[error("it is unknown whether the checkpoint was stored")]
    CheckpointUnsettled,
    /// The job is being restarted.
    #[error("the checkpoint coordinator is suspended")]
    CheckpointCoordinatorSuspend,
    /// The job is ending or has ended.
    #[error("the checkpoint coordinator is shut down")]
    CheckpointCoordinatorShutdown,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [FailureReason; 18] = [
        FailureReason::TooManyCheckpointRequests,
        FailureReason::MinimumTimeBetweenCheckpoints,
        FailureReason::NotAllRequiredTasksRunning,
        FailureReason::TriggerCheckpointFailure,
        FailureReason::CheckpointExpired,
        FailureReason::CheckpointSubsumed,
        FailureReason::CheckpointDeclined,
        FailureReason::CheckpointDeclinedTaskClosing,
        FailureReason::CheckpointDeclinedSubsumed,
        FailureReason::CheckpointDeclinedOnCancellationBarrier,
        FailureReason::CheckpointAsyncException,
        FailureReason::TaskCheckpointFailure,
        FailureReason::IoException,
        FailureReason::FinalizeCheckpointFailure,
        FailureReason::PartlyFinishedUnionState,
        FailureReason::CheckpointUnsettled,
        FailureReason::CheckpointCoordinatorSuspend,
        FailureReason::CheckpointCoordinatorShutdown,
    ];

    /// Whether a checkpoint that failed for this reason counts among the tolerable ones. Five do, as in Apache Flink: they
    /// say that snapshots cannot be taken or stored. The others say that none was due, that a better one came, that the
    /// attempt ends anyway, that some subtasks have ended (a bounded job whose subtasks end one after the other would fail for it, again after each restart), or they follow from the failure of another checkpoint.
    #[must_use]
    pub fn counts(self) -> bool {
        match self {
            FailureReason::IoException
            | FailureReason::CheckpointDeclined
            | FailureReason::CheckpointAsyncException
            | FailureReason::CheckpointExpired
            | FailureReason::FinalizeCheckpointFailure => true,
            FailureReason::TooManyCheckpointRequests
            | FailureReason::MinimumTimeBetweenCheckpoints
            | FailureReason::NotAllRequiredTasksRunning
            | FailureReason::TriggerCheckpointFailure
            | FailureReason::CheckpointSubsumed
            | FailureReason::CheckpointDeclinedTaskClosing
            | FailureReason::CheckpointDeclinedSubsumed
            | FailureReason::CheckpointDeclinedOnCancellationBarrier
            | FailureReason::TaskCheckpointFailure
            | FailureReason::PartlyFinishedUnionState
            | FailureReason::CheckpointUnsettled
            | FailureReason::CheckpointCoordinatorSuspend
            | FailureReason::CheckpointCoordinatorShutdown => false,
        }
    }
}

/// What the word of a subtask that refuses a checkpoint may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeclineReason {
    /// No reason with a name of its own.
    Declined,
    /// The subtask ends before its snapshot is durable.
    Closing,
    /// The barrier of a newer checkpoint came first.
    Subsumed,
    /// A cancel marker came from upstream.
    CancelledUpstream,
    /// The asynchronous part of its snapshot failed.
    AsynchronousPart,
    /// The asynchronous part failed because the storage refused something.
    Storage,
    /// The synchronous part of its snapshot failed, and the subtask with it.
    SynchronousPart,
}

impl From<DeclineReason> for FailureReason {
    fn from(reason: DeclineReason) -> FailureReason {
        match reason {
            DeclineReason::Declined => FailureReason::CheckpointDeclined,
            DeclineReason::Closing => FailureReason::CheckpointDeclinedTaskClosing,
            DeclineReason::Subsumed => FailureReason::CheckpointDeclinedSubsumed,
            DeclineReason::CancelledUpstream => FailureReason::CheckpointDeclinedOnCancellationBarrier,
            DeclineReason::AsynchronousPart => FailureReason::CheckpointAsyncException,
            DeclineReason::Storage => FailureReason::IoException,
            DeclineReason::SynchronousPart => FailureReason::TaskCheckpointFailure,
        }
    }
}

/// Why the coordinator gives the job up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum JobFailure {
    /// Whether the manifest of a checkpoint exists stayed unknown. Nothing may be restored, aborted or committed until
    /// it is known: unrecoverable inside this process; the next start reads the storage anew.
    #[error("it cannot be found out whether checkpoint {checkpoint} was stored; mend the storage and start again")]
    Unsettled {
        /// The checkpoint.
        checkpoint: crate::ids::CheckpointId,
    },
    /// The final checkpoint was aborted as often as the settings allow. A restart may help.
    #[error("the final checkpoint was aborted {attempts} times, at last because {reason}")]
    FinalCheckpoint {
        /// How often it was tried.
        attempts: u32,
        /// Why the last one was aborted.
        reason: FailureReason,
    },
    /// More checkpoints in a row failed than are tolerated. A restart may help.
    #[error("{failures} checkpoints failed in a row and {tolerable} are tolerated, the last one because {reason}")]
    ExceededTolerableFailures {
        /// How many.
        failures: u32,
        /// How many would have been tolerated.
        tolerable: u32,
        /// Why the last one failed.
        reason: FailureReason,
    },
}
