//! The coordinator: when a checkpoint begins, when it is complete, and what becomes of it otherwise.
//!
//! A checkpoint goes through these steps, each of which an abort can end until its manifest is being written:
//!
//! ```text
//! request, schedule, stop or end of all data
//!   -> SnapshotEnumerators -> Trigger -> all acknowledgements -> WriteManifest -> NotifyCompleted
//!                                                                     \-> unknown -> ReadBack -> settled, or FailJob
//! ```
//!
//! Manifests are written one at a time. That costs nothing where one checkpoint is pending, and it is what makes an
//! unknown outcome simple: while one is not settled, no id is handed out, nothing is written and nothing is deleted.
//!
//! The machine knows ids only. The driver holds the snapshots, by checkpoint and subtask: it keeps one when
//! [`Coordinator::judge`] accepts it, and lets go of it when an effect says so.

mod check;
mod ending;
mod failures;
mod identifiers;
mod message;
mod pending;
mod reason;
mod requests;
mod retained;
mod schedule;
mod settings;
mod statistics;
mod trigger;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ids::{Attempt, CheckpointId, Moment, SubtaskId, Token};
use crate::protocol::machine::{Machine, Violation};
use crate::protocol::mutation::{Mutation, is_active};

pub use self::check::INVARIANTS;
pub use self::failures::FailureCounter;
pub use self::message::{
    Acknowledgement, CheckpointKind, Effect, Event, Outcome, ReadBack, RequestId, RequestKind, Start,
};
pub use self::reason::{DeclineReason, FailureReason, JobFailure};
pub use self::settings::Settings;
pub use self::statistics::{
    CheckpointStatistics, CheckpointStatus, Counts, Figures, HeldUp, LastMarker, Measure, NodeStatistics, Overtook,
    RestoredCheckpoint, StatisticsSnapshot, SubtaskFigures, SubtaskStatistics, Summary,
};

use self::identifiers::Identifiers;
use self::pending::{Acknowledged, Pending, Step};
use self::requests::Requests;
use self::retained::Retained;
use self::schedule::Schedule;
use self::statistics::Statistics;

/// Of how many aborted checkpoints the id is remembered, to tell late messages from foreign ones.
const REMEMBERED: usize = 16;

/// The coordinator of the checkpoints of one job, over all its attempts in this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    settings: Settings,
    phase: Phase,
    /// The newest attempt. Subtasks of regions that it did not restart carry an older one.
    attempt: Option<Attempt>,
    subtasks: BTreeMap<SubtaskId, Member>,
    requests: Requests,
    schedule: Schedule,
    identifiers: Identifiers,
    pending: BTreeMap<CheckpointId, Pending>,
    retained: Retained,
    /// The last aborted checkpoints, oldest first.
    aborted: VecDeque<CheckpointId>,
    /// When the last checkpoint was completed since the whole job began or restarted.
    last_completion: Option<Moment>,
    /// The completed checkpoint that nothing follows.
    closed: Option<(CheckpointId, CheckpointKind)>,
    last_try: LastTry,
    /// The next id at the moment at which a manifest came in doubt: it must not move before the doubt is settled.
    frozen: Option<CheckpointId>,
    tokens: u64,
    failures: FailureCounter,
    statistics: Statistics,
    /// A call that no driver may make; [`Machine::check`] reports it.
    misuse: Option<Violation>,
}

/// What the coordinator is doing as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// No attempt runs.
    Idle,
    /// An attempt runs.
    Running,
    /// The attempt is over; what is in flight is waited for, and another attempt may come.
    Suspending,
    /// The same, and no other attempt comes.
    ShuttingDown,
    /// The end.
    Over,
    /// A manifest stayed in doubt: nothing is touched any more.
    Failed {
        /// Whether the driver waits for what is in flight.
        ending: bool,
    },
}

/// A subtask that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Member {
    attempt: Attempt,
    progress: Progress,
}

/// How far a subtask is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Progress {
    Running,
    /// It has processed all its data and takes part as finished.
    EndOfData,
    /// It is gone.
    Ended,
}

/// The tries of the final checkpoint in this attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct LastTry {
    failures: u32,
    retry_at: Option<Moment>,
    gave_up: bool,
}

impl Coordinator {
    /// A coordinator that waits for its first start.
    #[must_use]
    pub fn new(settings: Settings) -> Coordinator {
        Coordinator {
            failures: FailureCounter::new(settings.tolerable_failures),
            statistics: Statistics::new(settings.history),
            settings,
            phase: Phase::Idle,
            attempt: None,
            subtasks: BTreeMap::new(),
            requests: Requests::default(),
            schedule: Schedule::default(),
            identifiers: Identifiers::default(),
            pending: BTreeMap::new(),
            retained: Retained::default(),
            aborted: VecDeque::new(),
            last_completion: None,
            closed: None,
            last_try: LastTry::default(),
            frozen: None,
            tokens: 0,
            misuse: None,
        }
    }

    /// What an acknowledgement is worth that comes now. The driver asks before it hands in
    /// [`Event::Acknowledged`]: it keeps the snapshot of an accepted one, drops that of a duplicate without deleting it,
    /// and holds that of any other until [`Effect::DiscardSnapshot`] says to delete it.
    #[must_use]
    pub fn judge(&self, attempt: Attempt, subtask: SubtaskId, checkpoint: CheckpointId) -> Acknowledgement {
        if matches!(self.phase, Phase::Failed { .. }) {
            return Acknowledgement::Ignored;
        }
        if !self.is_current(attempt, subtask) {
            return Acknowledgement::WrongAttempt;
        }
        if let Some(pending) = self.pending.get(&checkpoint) {
            return if pending.awaited.contains(&subtask) {
                Acknowledgement::Accepted
            } else if pending.acknowledged.contains_key(&subtask) {
                Acknowledgement::Duplicate
            } else {
                Acknowledgement::UnknownSubtask
            };
        }
        if self.retained.may_exist(checkpoint) {
            Acknowledgement::Duplicate
        } else if self.aborted.contains(&checkpoint) {
            Acknowledgement::Late
        } else {
            Acknowledgement::UnknownCheckpoint
        }
    }

    /// The attempt in which a subtask runs: the newest that started it.
    #[must_use]
    pub fn attempt_of(&self, subtask: SubtaskId) -> Option<Attempt> {
        self.subtasks.get(&subtask).map(|member| member.attempt)
    }

    /// Whether a word of `subtask` is one of the attempt in which it runs now.
    fn is_current(&self, attempt: Attempt, subtask: SubtaskId) -> bool {
        self.attempt_of(subtask).or(self.attempt) == Some(attempt)
    }

    /// The checkpoints under way, ascending by id.
    pub fn pending(&self) -> impl Iterator<Item = CheckpointStatistics> + '_ {
        self.pending.iter().map(|(checkpoint, pending)| pending.statistics(*checkpoint, pending.status(), None))
    }

    /// The last checkpoints that ended, oldest first; with those under way as many as [`Settings::history`] says.
    pub fn history(&self) -> impl Iterator<Item = &CheckpointStatistics> {
        self.statistics.ended()
    }

    /// All that is known of the checkpoints so far. A copy, which is the same one as before if nothing has changed.
    pub fn snapshot_statistics(&mut self) -> Arc<StatisticsSnapshot> {
        let pending = self.pending.iter();
        let pending = pending.map(|(checkpoint, pending)| pending.statistics(*checkpoint, pending.status(), None));
        self.statistics.snapshot(pending)
    }

    /// Goes on with the statistics of another coordinator of the job, which is gone.
    #[must_use]
    pub fn with_statistics(self, earlier: &StatisticsSnapshot, now: Moment) -> Coordinator {
        let statistics = Statistics::resume(self.settings.history, earlier, now);
        Coordinator { statistics, ..self }
    }

    /// The checkpoints that were completed or aborted since the last call, oldest first; of more than sixteen the last ones.
    pub fn take_ended(&mut self) -> VecDeque<Arc<CheckpointStatistics>> {
        self.statistics.take_ended()
    }

    /// How many checkpoints failed in a row, of those that count.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures.failures()
    }

    /// The figures of one checkpoint, while it is pending or in the history.
    #[must_use]
    pub fn statistics(&self, checkpoint: CheckpointId) -> Option<CheckpointStatistics> {
        self.pending()
            .find(|statistics| statistics.checkpoint == checkpoint)
            .or_else(|| self.history().find(|statistics| statistics.checkpoint == checkpoint).cloned())
    }

    /// The newest complete checkpoint: completed by this process, or restored.
    #[must_use]
    pub fn last_completed(&self) -> Option<CheckpointId> {
        self.retained.newest()
    }

    /// The completed checkpoints that are kept.
    #[must_use]
    pub fn retained(&self) -> BTreeSet<CheckpointId> {
        self.retained.kept()
    }

    /// The id that the next checkpoint gets, at least.
    #[must_use]
    pub fn next_id(&self) -> CheckpointId {
        self.identifiers.next()
    }

    /// The completed checkpoint of this attempt that nothing follows, and whether it was a stop or the end of all data.
    #[must_use]
    pub fn closed(&self) -> Option<(CheckpointId, CheckpointKind)> {
        self.closed
    }

    /// Whether it is unknown of a manifest whether it exists.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.pending.values().any(|pending| matches!(pending.step, Step::Unsettled(_)))
    }

    /// Whether the job was given up over a manifest of which it stayed unknown whether it exists: nothing may be touched.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        matches!(self.phase, Phase::Failed { .. })
    }

    /// Whether nothing is under way in the storage on behalf of this machine.
    fn is_quiet(&self) -> bool {
        self.pending.is_empty() && !self.identifiers.is_asking() && !self.retained.is_deleting()
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn start(&mut self, now: Moment, start: Start) {
        let follows = self.attempt.is_none_or(|attempt| attempt < start.attempt);
        if self.phase != Phase::Idle || !follows {
            self.misuse = check::start_out_of_turn(self.attempt, start.attempt).err();
            return;
        }
        self.phase = Phase::Running;
        self.attempt = Some(start.attempt);
        // What a restart of some regions leaves alone is as far as it was.
        let begun = Member { attempt: start.attempt, progress: Progress::Running };
        self.subtasks.extend(start.subtasks.into_iter().map(|subtask| (subtask, begun)));
        self.identifiers.start(start.first_id, start.reserved_until);
        self.retained.start(start.restored, &start.retained);
        if let Some(checkpoint) = start.restored {
            self.statistics.restored(RestoredCheckpoint { checkpoint, attempt: start.attempt, at: now });
        }
        self.closed = None;
        self.last_try = LastTry::default();
        if start.whole_job || !self.schedule.resume(now) {
            self.last_completion = None;
            self.schedule.start(now, self.settings.interval, self.settings.minimum_pause, start.random);
        }
    }

    fn request(&mut self, request: RequestId, kind: RequestKind, effects: &mut Vec<Effect>) {
        let refusal = match self.phase {
            Phase::Running => match self.closed {
                None => {
                    let limit = self.settings.maximum_queued_requests.get();
                    if let Some(request) = self.requests.push(request, kind, limit) {
                        effects.push(Effect::Answer { request, result: Err(FailureReason::TooManyCheckpointRequests) });
                    }
                    return;
                }
                // Nothing was read after it, so it is what the request asks for.
                Some((checkpoint, _)) => {
                    effects.push(Effect::Answer { request, result: Ok(checkpoint) });
                    return;
                }
            },
            Phase::Idle => FailureReason::NotAllRequiredTasksRunning,
            Phase::Suspending => FailureReason::CheckpointCoordinatorSuspend,
            Phase::ShuttingDown | Phase::Over => FailureReason::CheckpointCoordinatorShutdown,
            Phase::Failed { .. } => FailureReason::CheckpointUnsettled,
        };
        effects.push(Effect::Answer { request, result: Err(refusal) });
    }

    fn deadline(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let expired: Vec<CheckpointId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(checkpoint, _)| *checkpoint)
            .collect();
        for checkpoint in expired {
            self.abort(now, checkpoint, FailureReason::CheckpointExpired, effects);
        }
        for (checkpoint, pending) in &mut self.pending {
            if pending.slow().is_some_and(|slow| slow <= now) {
                pending.slow = None;
                effects.push(Effect::TakesLong { checkpoint: *checkpoint });
            }
        }
        if self.phase == Phase::Running {
            self.schedule.advance(now);
        }
        self.last_try.retry_at.take_if(|retry_at| *retry_at <= now);
    }

    fn end_of_data(&mut self, attempt: Attempt, subtask: SubtaskId) {
        // Also while the coordinator is suspended: a region that runs on may come to the end of its data then, and says so once.
        if let Some(member) = self.subtasks.get_mut(&subtask)
            && member.attempt == attempt
            && member.progress == Progress::Running
            && !is_active(Mutation::FinishedNotCounted)
        {
            member.progress = Progress::EndOfData;
        }
    }

    fn subtask_ended(&mut self, now: Moment, attempt: Attempt, subtask: SubtaskId, effects: &mut Vec<Effect>) {
        let Some(member) = self.subtasks.get_mut(&subtask).filter(|member| member.attempt == attempt) else { return };
        member.progress = Progress::Ended;
        if self.phase != Phase::Running {
            return;
        }
        // It will not acknowledge what it was told of. What it has not been told of goes on without it.
        self.abort_where(now, FailureReason::CheckpointDeclinedTaskClosing, effects, |pending| {
            pending.awaited.contains(&subtask)
        });
    }

    /// Ends the attempt: aborts what can be aborted, and lets what is in flight come to its end.
    fn end(&mut self, now: Moment, shutdown: bool, effects: &mut Vec<Effect>) {
        let (next, reason) = if shutdown {
            (Phase::ShuttingDown, FailureReason::CheckpointCoordinatorShutdown)
        } else {
            (Phase::Suspending, FailureReason::CheckpointCoordinatorSuspend)
        };
        match self.phase {
            Phase::Running => {
                self.phase = next;
                if shutdown {
                    self.schedule.stop();
                }
                self.abort_where(now, reason, effects, |pending| !pending.may_be_stored());
                self.answer_waiting(Err(reason), effects);
                if !shutdown {
                    self.retained.hold_deletions();
                }
            }
            Phase::Idle => self.phase = next,
            Phase::Suspending => {
                if shutdown {
                    self.phase = Phase::ShuttingDown;
                }
            }
            Phase::ShuttingDown => {}
            Phase::Over => effects.push(self.suspended()),
            Phase::Failed { .. } => self.phase = Phase::Failed { ending: true },
        }
    }

    fn suspended(&self) -> Effect {
        Effect::Suspended { last_completed: self.retained.newest(), closed: self.closed.map(|(_, kind)| kind) }
    }

    fn answer_waiting(&mut self, result: Result<CheckpointId, FailureReason>, effects: &mut Vec<Effect>) {
        effects.extend(self.requests.take_all().into_iter().map(|request| Effect::Answer { request, result }));
    }

    /// Begins whatever has become possible. It runs after every event, so no event has to know what waits for it.
    fn proceed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let settled = !self.is_unsettled();
        match self.phase {
            Phase::Running => {
                self.write_next(effects);
                self.begin_next(now, effects);
                if settled {
                    self.delete_next(effects);
                }
            }
            Phase::ShuttingDown => {
                if settled {
                    self.delete_next(effects);
                }
                if self.is_quiet() {
                    self.phase = Phase::Over;
                    effects.push(self.suspended());
                }
            }
            Phase::Suspending => {
                if self.is_quiet() {
                    self.phase = Phase::Idle;
                    effects.push(self.suspended());
                }
            }
            Phase::Failed { ending: true } => {
                if self.is_quiet() {
                    self.phase = Phase::Failed { ending: false };
                    effects.push(self.suspended());
                }
            }
            Phase::Idle | Phase::Over | Phase::Failed { ending: false } => {}
        }
    }

    fn delete_next(&mut self, effects: &mut Vec<Effect>) {
        if let Some(checkpoint) = self.retained.next_deletion() {
            effects.push(Effect::DeleteCheckpoint { checkpoint });
        }
    }
}

impl Machine for Coordinator {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Start(start) => self.start(now, start),
            Event::Deadline => self.deadline(now, effects),
            Event::Request { request, kind } => self.request(request, kind, effects),
            Event::EnumeratorsSnapshotted { attempt, checkpoint, outcome, bytes } => {
                self.enumerators_snapshotted(now, attempt, checkpoint, (outcome, bytes), effects);
            }
            Event::Acknowledged { attempt, subtask, checkpoint, finished, figures } => {
                let acknowledged = Acknowledged { finished, at: Some(now), figures };
                self.acknowledged(now, attempt, subtask, checkpoint, acknowledged, effects);
            }
            Event::Declined { attempt, subtask, checkpoint, reason } => {
                self.declined(now, attempt, subtask, checkpoint, reason, effects);
            }
            Event::EndOfData { attempt, subtask } => self.end_of_data(attempt, subtask),
            Event::SubtaskEnded { attempt, subtask } => self.subtask_ended(now, attempt, subtask, effects),
            Event::WriteFinished { token, outcome } => self.write_finished(now, token, outcome, effects),
            Event::ReadBackFinished { token, answer } => self.read_back_finished(now, token, answer, effects),
            Event::IdsReserved { token, outcome } => self.ids_reserved(now, token, outcome, effects),
            Event::Deleted { checkpoint, outcome } => self.retained.deleted(checkpoint, outcome == Outcome::Done),
            Event::Suspend => self.end(now, false, effects),
            Event::Shutdown => self.end(now, true, effects),
        }
        self.proceed(now, effects);
    }

    fn next_deadline(&self) -> Option<Moment> {
        if self.phase != Phase::Running {
            return None;
        }
        let expiry = self.pending.values().filter_map(Pending::deadline).min();
        let slow = self.pending.values().filter_map(Pending::slow).min();
        [expiry, slow, self.schedule.next(), self.last_try.retry_at].into_iter().flatten().min()
    }

    fn check(&self) -> Result<(), Violation> {
        check::check(self)
    }
}
