//! How a checkpoint begins: decision, id, enumerators, subtasks.

use crate::ids::{Attempt, CheckpointId, Moment, Token};

use super::message::{CheckpointKind, Effect, Outcome};
use super::pending::{Acknowledged, Pending, Step};
use super::reason::{FailureReason, JobFailure};
use super::requests::{Decision, EndOfAllData, Facts};
use super::statistics::SubtaskFigures;
use super::{Coordinator, Member, Phase, Progress};

impl Coordinator {
    /// Begins the checkpoint that is next, if one may begin.
    pub(super) fn begin_next(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let kind = match self.requests.decide(self.facts(now)) {
            Decision::Wait => return,
            Decision::TooEarly { until } => {
                self.schedule.postpone(until);
                let reason = FailureReason::MinimumTimeBetweenCheckpoints;
                effects.push(Effect::NotTriggered { kind: CheckpointKind::Periodic, reason });
                return;
            }
            Decision::Begin(kind) => kind,
        };
        let id = self.identifiers.take();
        if let Some(up_to) = self.identifiers.wanted(self.settings.ids_per_block.get()) {
            let token = self.token();
            self.identifiers.asked(token, up_to);
            effects.push(Effect::ReserveIds { token, up_to });
        }
        // Without an id it stays where it waits until the answer comes.
        let (Some(checkpoint), Some(attempt)) = (id, self.attempt) else { return };
        let requests = self.taken(kind);
        let mut pending = Pending::new(kind, requests, now, now + self.settings.timeout);
        pending.slow = self.settings.slow_after.map(|after| now + after);
        self.statistics.triggered(checkpoint);
        self.pending.insert(checkpoint, pending);
        effects.push(Effect::SnapshotEnumerators { attempt, checkpoint, kind });
    }

    fn facts(&self, now: Moment) -> Facts {
        Facts {
            now,
            open: self.phase == Phase::Running && self.closed.is_none() && !self.is_unsettled(),
            exclusive: self.pending.values().any(|pending| pending.kind.closes() || !pending.was_told()),
            pending: self.pending.len(),
            maximum_concurrent: self.settings.maximum_concurrent.get(),
            cleaning: self.retained.cleaning(),
            end: self.end_of_all_data(),
            periodic: self.schedule.is_due(),
            pause_ends: self.last_completion.map(|completion| completion + self.settings.minimum_pause),
        }
    }

    fn end_of_all_data(&self) -> EndOfAllData {
        let ended = |member: &Member| match member.progress {
            Progress::Running => false,
            Progress::EndOfData | Progress::Ended => true,
        };
        if self.last_try.gave_up || self.subtasks.is_empty() || !self.subtasks.values().all(ended) {
            EndOfAllData::No
        } else if self.last_try.retry_at.is_some() {
            EndOfAllData::Waiting
        } else {
            EndOfAllData::Due
        }
    }

    /// Takes from the queue, or from the schedule, what a checkpoint of this kind serves.
    fn taken(&mut self, kind: CheckpointKind) -> Vec<super::RequestId> {
        if kind == CheckpointKind::Periodic {
            self.schedule.served();
        }
        self.requests.take(kind)
    }

    /// Takes the answer to a reservation. If no id is left after a failed one, the request that waited for it fails;
    /// those behind it ask again.
    pub(super) fn ids_reserved(&mut self, now: Moment, token: Token, outcome: Outcome, effects: &mut Vec<Effect>) {
        let waited_for = self.identifiers.answered(token, outcome == Outcome::Done);
        if !waited_for || !self.identifiers.is_exhausted() {
            return;
        }
        let Decision::Begin(kind) = self.requests.decide(self.facts(now)) else { return };
        let reason = FailureReason::IoException;
        self.statistics.failed_without_id();
        let requests = self.taken(kind);
        if requests.is_empty() {
            effects.push(Effect::NotTriggered { kind, reason });
        }
        for request in requests {
            effects.push(Effect::Answer { request, result: Err(reason) });
        }
        self.count_failure(now, kind, None, reason, effects);
    }

    /// Takes the word that the enumerators' state is held, and tells the subtasks. Those that have ended by now are
    /// not asked: they count as having acknowledged.
    pub(super) fn enumerators_snapshotted(
        &mut self,
        now: Moment,
        attempt: Attempt,
        checkpoint: CheckpointId,
        (outcome, bytes): (Outcome, u64),
        effects: &mut Vec<Effect>,
    ) {
        if self.attempt != Some(attempt) {
            return;
        }
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        if pending.step != Step::Enumerators {
            return;
        }
        match outcome {
            Outcome::Done => {
                for (subtask, member) in &self.subtasks {
                    match member.progress {
                        Progress::Running | Progress::EndOfData => {
                            pending.awaited.insert(*subtask);
                        }
                        Progress::Ended => {
                            let figures = SubtaskFigures::default();
                            pending.acknowledged.insert(*subtask, Acknowledged { finished: true, at: None, figures });
                        }
                    }
                }
                pending.enumerator_bytes = bytes;
                self.statistics.changed();
                pending.step = if pending.awaited.is_empty() { Step::Ready } else { Step::Acknowledging };
                effects.push(Effect::Trigger { attempt, checkpoint, kind: pending.kind });
            }
            Outcome::Failed | Outcome::Unknown => {
                self.abort(now, checkpoint, FailureReason::TriggerCheckpointFailure, effects);
            }
        }
    }

    /// Plans the next try of the final checkpoint, or gives the job up.
    pub(super) fn final_failed(&mut self, now: Moment, reason: FailureReason, effects: &mut Vec<Effect>) {
        let tries = &mut self.last_try;
        tries.failures += 1;
        if tries.failures >= self.settings.final_attempts.get() {
            tries.gave_up = true;
            let failure = JobFailure::FinalCheckpoint { attempts: tries.failures, reason };
            self.schedule.stop();
            self.answer_waiting(Err(reason), effects);
            effects.push(Effect::FailJob { failure });
            return;
        }
        let doublings = (tries.failures - 1).min(31);
        let delay = self.settings.final_delay.saturating_mul(1 << doublings).min(self.settings.final_delay_maximum);
        tries.retry_at = Some(now + delay);
    }
}
