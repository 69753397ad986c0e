//! How a checkpoint ends: acknowledged, written and complete, or aborted.

use crate::ids::{Attempt, CheckpointId, Moment, SubtaskId, Token};
use crate::protocol::mutation::{Mutation, is_active};

use super::message::{Acknowledgement, CheckpointKind, Effect, Outcome, ReadBack};
use super::pending::{Acknowledged, Pending, Step};
use super::reason::{DeclineReason, FailureReason, JobFailure};
use super::statistics::CheckpointStatus;
use super::{Coordinator, Phase, REMEMBERED};

impl Coordinator {
    pub(super) fn acknowledged(
        &mut self,
        now: Moment,
        attempt: Attempt,
        subtask: SubtaskId,
        checkpoint: CheckpointId,
        acknowledged: Acknowledged,
        effects: &mut Vec<Effect>,
    ) {
        if acknowledged.finished {
            // It says the same as the word of the end of its data, which goes its own way: whichever comes first counts.
            self.end_of_data(attempt, subtask);
        }
        let discard = match self.judge(attempt, subtask, checkpoint) {
            Acknowledgement::Accepted => {
                if let Some(pending) = self.pending.get_mut(&checkpoint) {
                    pending.awaited.remove(&subtask);
                    pending.acknowledged.insert(subtask, acknowledged);
                    self.statistics.changed();
                    let enough = is_active(Mutation::CompleteWithoutAll)
                        && pending.awaited.len() == 1
                        && pending.step == Step::Acknowledging;
                    if pending.awaited.is_empty() || enough {
                        pending.step = Step::Ready;
                    }
                }
                false
            }
            Acknowledgement::Late => {
                self.statistics.late(checkpoint, now);
                true
            }
            // The blobs of a checkpoint that is complete, or may become so, are never touched on the word of a message.
            Acknowledgement::WrongAttempt => {
                !self.pending.contains_key(&checkpoint) && !self.retained.may_exist(checkpoint)
            }
            Acknowledgement::UnknownSubtask | Acknowledgement::UnknownCheckpoint => true,
            Acknowledgement::Duplicate | Acknowledgement::Ignored => false,
        };
        let refused = self.pending.get(&checkpoint).is_some_and(|pending| self.is_partly_finished(pending, subtask));
        if refused {
            self.abort(now, checkpoint, FailureReason::PartlyFinishedUnionState, effects);
        }
        if discard {
            effects.push(Effect::DiscardSnapshot { subtask, checkpoint });
        }
    }

    /// Whether `subtask` has acknowledged as finished and another of its node as not finished, or the other way round, and an operator there keeps a union list.
    fn is_partly_finished(&self, pending: &Pending, subtask: SubtaskId) -> bool {
        if !self.settings.union_nodes.contains(&subtask.node) || pending.may_be_stored() {
            return false;
        }
        let Some(acknowledged) = pending.acknowledged.get(&subtask) else { return false };
        let mut of_node = pending.acknowledged.iter().filter(|(other, _)| other.node == subtask.node);
        of_node.any(|(_, other)| other.finished != acknowledged.finished)
    }

    pub(super) fn declined(
        &mut self,
        now: Moment,
        attempt: Attempt,
        subtask: SubtaskId,
        checkpoint: CheckpointId,
        reason: DeclineReason,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_current(attempt, subtask) {
            return;
        }
        let Some(pending) = self.pending.get(&checkpoint) else { return };
        let takes_part = pending.awaited.contains(&subtask) || pending.acknowledged.contains_key(&subtask);
        if takes_part && !pending.may_be_stored() {
            self.abort(now, checkpoint, reason.into(), effects);
        }
    }

    /// Writes the manifest of the oldest checkpoint that is ready, unless another is being written or is in doubt.
    pub(super) fn write_next(&mut self, effects: &mut Vec<Effect>) {
        if self.pending.values().any(Pending::may_be_stored) {
            return;
        }
        let Some(attempt) = self.attempt else { return };
        let ready = self.pending.iter().find(|(_, pending)| pending.step == Step::Ready);
        let Some(checkpoint) = ready.map(|(checkpoint, _)| *checkpoint) else { return };
        let token = self.token();
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        pending.step = Step::Writing(token);
        let (kind, finished) = (pending.kind, pending.finished());
        effects.push(Effect::WriteManifest { token, attempt, checkpoint, kind, finished });
    }

    pub(super) fn write_finished(&mut self, now: Moment, token: Token, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(checkpoint) = self.at_step(Step::Writing(token)) else { return };
        match outcome {
            Outcome::Done => self.complete(now, checkpoint, effects),
            Outcome::Failed => self.abort(now, checkpoint, FailureReason::FinalizeCheckpointFailure, effects),
            Outcome::Unknown => {
                let token = self.token();
                self.frozen = Some(self.identifiers.next());
                self.statistics.changed();
                if let Some(pending) = self.pending.get_mut(&checkpoint) {
                    pending.step = Step::Unsettled(token);
                }
                effects.push(Effect::ReadBack { token, checkpoint });
            }
        }
    }

    pub(super) fn read_back_finished(
        &mut self,
        now: Moment,
        token: Token,
        answer: ReadBack,
        effects: &mut Vec<Effect>,
    ) {
        let Some(checkpoint) = self.at_step(Step::Unsettled(token)) else { return };
        match answer {
            ReadBack::Present => {
                self.frozen = None;
                self.complete(now, checkpoint, effects);
            }
            ReadBack::Absent => {
                self.frozen = None;
                self.abort(now, checkpoint, FailureReason::FinalizeCheckpointFailure, effects);
            }
            ReadBack::Unknown => self.fail_unsettled(now, checkpoint, effects),
        }
    }

    fn at_step(&self, step: Step) -> Option<CheckpointId> {
        self.pending.iter().find(|(_, pending)| pending.step == step).map(|(checkpoint, _)| *checkpoint)
    }

    /// The manifest exists: the checkpoint is what a restore takes, and older pending ones are of no use.
    fn complete(&mut self, now: Moment, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        let (Some(pending), Some(attempt)) = (self.pending.remove(&checkpoint), self.attempt) else { return };
        let kind = pending.kind;
        let keep = match kind {
            // The job has ended: only the mark of its end is of use.
            CheckpointKind::Final => 1,
            CheckpointKind::Periodic | CheckpointKind::Manual | CheckpointKind::Stopping => {
                self.settings.retained.get()
            }
        };
        self.retained.completed(checkpoint, keep);
        self.last_completion = Some(now);
        self.failures.succeeded(checkpoint);
        self.statistics.completed(pending.statistics(checkpoint, CheckpointStatus::Completed, Some(now)));
        effects.push(Effect::NotifyCompleted { attempt, checkpoint, kind });
        let older: Vec<CheckpointId> = self.pending.range(..checkpoint).map(|(older, _)| *older).collect();
        for older in older {
            self.abort(now, older, FailureReason::CheckpointSubsumed, effects);
        }
        for request in pending.requests {
            effects.push(Effect::Answer { request, result: Ok(checkpoint) });
        }
        if kind.closes() {
            self.closed = Some((checkpoint, kind));
            self.schedule.stop();
            // Nothing was read after it, so it serves those that still wait.
            self.answer_waiting(Ok(checkpoint), effects);
        }
    }

    /// Ends a checkpoint that is not complete. What sinks prepared for it stays prepared: the state of the next
    /// checkpoint contains its records.
    pub(super) fn abort(
        &mut self,
        now: Moment,
        checkpoint: CheckpointId,
        reason: FailureReason,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(pending), Some(attempt)) = (self.pending.remove(&checkpoint), self.attempt) else { return };
        if pending.was_told() {
            let last_completed = self.retained.newest();
            effects.push(Effect::NotifyAborted { attempt, checkpoint, last_completed, reason });
        }
        effects.push(Effect::DiscardSnapshots { checkpoint });
        let runs = self.phase == Phase::Running;
        // A restart may be one of some regions: the sources of the others stand still and would do so for ever.
        let goes_on = matches!(self.phase, Phase::Running | Phase::Suspending);
        if goes_on && pending.was_told() && pending.kind == CheckpointKind::Stopping {
            effects.push(Effect::SourcesGoOn { attempt, checkpoint });
        }
        self.aborted.push_back(checkpoint);
        while self.aborted.len() > REMEMBERED {
            self.aborted.pop_front();
        }
        self.statistics.failed(pending.statistics(checkpoint, CheckpointStatus::Failed(reason), Some(now)));
        for request in pending.requests {
            effects.push(Effect::Answer { request, result: Err(reason) });
        }
        if runs {
            self.count_failure(now, pending.kind, Some(checkpoint), reason, effects);
        }
    }

    /// What follows from the failure of a checkpoint while the attempt runs.
    ///
    /// Those that close the job are apart from the tolerable ones. A final checkpoint has tries of its own: a job that has
    /// read all its data would otherwise read on from the last checkpoint because of one hiccup. A stop is answered.
    pub(super) fn count_failure(
        &mut self,
        now: Moment,
        kind: CheckpointKind,
        checkpoint: Option<CheckpointId>,
        reason: FailureReason,
        effects: &mut Vec<Effect>,
    ) {
        match kind {
            CheckpointKind::Final => self.final_failed(now, reason, effects),
            CheckpointKind::Stopping => {}
            CheckpointKind::Periodic | CheckpointKind::Manual => {
                let tolerable = self.settings.tolerable_failures.unwrap_or(u32::MAX);
                if let Some(failures) = self.failures.failed(checkpoint, reason) {
                    self.schedule.stop();
                    let failure = JobFailure::ExceededTolerableFailures { failures, tolerable, reason };
                    effects.push(Effect::FailJob { failure });
                }
            }
        }
    }

    pub(super) fn abort_where(
        &mut self,
        now: Moment,
        reason: FailureReason,
        effects: &mut Vec<Effect>,
        concerned: impl Fn(&Pending) -> bool,
    ) {
        let concerned: Vec<CheckpointId> = self
            .pending
            .iter()
            .filter(|(_, pending)| concerned(pending) && !pending.may_be_stored())
            .map(|(checkpoint, _)| *checkpoint)
            .collect();
        for checkpoint in concerned {
            self.abort(now, checkpoint, reason, effects);
        }
    }

    /// Gives the job up: from here on nothing is notified, aborted, written or deleted.
    fn fail_unsettled(&mut self, now: Moment, unsettled: CheckpointId, effects: &mut Vec<Effect>) {
        let ending = match self.phase {
            Phase::Suspending | Phase::ShuttingDown => true,
            Phase::Idle | Phase::Running | Phase::Over | Phase::Failed { .. } => false,
        };
        self.phase = Phase::Failed { ending };
        self.schedule.stop();
        let reason = FailureReason::CheckpointUnsettled;
        for (checkpoint, pending) in std::mem::take(&mut self.pending) {
            self.statistics.failed(pending.statistics(checkpoint, CheckpointStatus::Failed(reason), Some(now)));
            for request in pending.requests {
                effects.push(Effect::Answer { request, result: Err(reason) });
            }
        }
        self.answer_waiting(Err(reason), effects);
        effects.push(Effect::FailJob { failure: JobFailure::Unsettled { checkpoint: unsettled } });
    }
}
