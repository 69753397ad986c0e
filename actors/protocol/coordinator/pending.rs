//! One checkpoint that is neither complete nor aborted.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{CheckpointId, Moment, SubtaskId, Token};

use super::message::{CheckpointKind, RequestId};
use super::statistics::{CheckpointStatistics, CheckpointStatus, SubtaskFigures, SubtaskStatistics};

/// How far a pending checkpoint is; the steps come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The state of the enumerators is being taken; no subtask has heard of it.
    Enumerators,
    /// Subtasks were told and have not all acknowledged.
    Acknowledging,
    /// All acknowledged; the manifest of another checkpoint is being written.
    Ready,
    /// Its manifest is being written.
    Writing(Token),
    /// It is unknown whether its manifest exists; it is being read back.
    Unsettled(Token),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub kind: CheckpointKind,
    /// Who asked for it.
    pub requests: Vec<RequestId>,
    pub step: Step,
    pub triggered: Moment,
    pub expires: Moment,
    /// When it takes long, as long as that was not told.
    pub slow: Option<Moment>,
    /// The subtasks whose acknowledgement is missing.
    pub awaited: BTreeSet<SubtaskId>,
    /// The subtasks that acknowledged.
    pub acknowledged: BTreeMap<SubtaskId, Acknowledged>,
    /// The length of the enumerators' state in bytes.
    pub enumerator_bytes: u64,
}

/// What is known of a subtask that acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Acknowledged {
    /// Whether it had reached the end of its data at its cut, or had ended before the trigger.
    pub finished: bool,
    /// When it acknowledged; none if it had ended before the trigger.
    pub at: Option<Moment>,
    pub figures: SubtaskFigures,
}

impl Pending {
    pub(super) fn new(kind: CheckpointKind, requests: Vec<RequestId>, triggered: Moment, expires: Moment) -> Pending {
        Pending {
            kind,
            requests,
            step: Step::Enumerators,
            triggered,
            expires,
            slow: None,
            awaited: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            enumerator_bytes: 0,
        }
    }

    /// Whether its subtasks have heard of it.
    pub(super) fn was_told(&self) -> bool {
        match self.step {
            Step::Enumerators => false,
            Step::Acknowledging | Step::Ready | Step::Writing(_) | Step::Unsettled(_) => true,
        }
    }

    /// Whether its manifest may exist: nothing but the storage's answer can end it.
    pub(super) fn may_be_stored(&self) -> bool {
        match self.step {
            Step::Enumerators | Step::Acknowledging | Step::Ready => false,
            Step::Writing(_) | Step::Unsettled(_) => true,
        }
    }

    /// When it expires; never once all acknowledgements came.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.step {
            Step::Enumerators | Step::Acknowledging => Some(self.expires),
            Step::Ready | Step::Writing(_) | Step::Unsettled(_) => None,
        }
    }

    /// When it is to be told that it takes long.
    pub(super) fn slow(&self) -> Option<Moment> {
        // One that expires then is told of as that.
        self.slow.filter(|slow| self.deadline().is_none_or(|expires| *slow < expires))
    }

    /// The subtasks that had reached the end of their data at their cut.
    pub(super) fn finished(&self) -> Vec<SubtaskId> {
        self.acknowledged
            .iter()
            .filter(|(_, acknowledged)| acknowledged.finished)
            .map(|(subtask, _)| *subtask)
            .collect()
    }

    pub(super) fn status(&self) -> CheckpointStatus {
        match self.step {
            Step::Enumerators | Step::Acknowledging => CheckpointStatus::InProgress,
            Step::Ready | Step::Writing(_) | Step::Unsettled(_) => CheckpointStatus::Finalizing,
        }
    }

    pub(super) fn statistics(
        &self,
        checkpoint: CheckpointId,
        status: CheckpointStatus,
        ended: Option<Moment>,
    ) -> CheckpointStatistics {
        let by_subtask: Vec<SubtaskStatistics> = self
            .acknowledged
            .iter()
            .map(|(subtask, acknowledged)| SubtaskStatistics {
                subtask: *subtask,
                acknowledged: acknowledged.at,
                finished: acknowledged.finished,
                figures: acknowledged.figures,
            })
            .collect();
        CheckpointStatistics {
            checkpoint,
            kind: self.kind,
            status,
            triggered: self.triggered,
            latest_acknowledgement: by_subtask.iter().filter_map(|subtask| subtask.acknowledged).max(),
            subtasks: self.awaited.len() + self.acknowledged.len(),
            acknowledged: self.acknowledged.len(),
            missing: self.awaited.iter().copied().collect(),
            bytes: self.enumerator_bytes + by_subtask.iter().map(|subtask| subtask.figures.bytes).sum::<u64>(),
            written_bytes: self.enumerator_bytes
                + by_subtask.iter().map(|subtask| subtask.figures.written_bytes).sum::<u64>(),
            by_subtask,
            late: 0,
            ended,
        }
    }
}
