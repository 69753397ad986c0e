//! Every order of what can happen to a coordinator: triggers, acknowledgements, storage answers, ends and faults.
//!
//! A world is the coordinator, its channels to and from the subtasks, the storage with what is in flight, and what is
//! durable. Ordinary steps are always possible; faults come from a small supply: a crash of the process, the failure of
//! an attempt, a decline, an expiry, a repeated, an unknown or a stale message, a storage that fails or does not know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alluvium_actors::ids::{Attempt, CheckpointId, Moment, SubtaskId, Token};
use alluvium_actors::protocol::coordinator::{
    Acknowledgement, Coordinator, DeclineReason, Effect, Event, FailureReason, JobFailure, Outcome, ReadBack,
    RequestId, RequestKind, Settings, Start, SubtaskFigures,
};
use alluvium_actors::protocol::machine::Machine;

use crate::coordinator::{id, subtask};
use crate::explore::AtRest;

/// What goes to a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Down {
    Trigger(CheckpointId),
    Completed(CheckpointId),
    Aborted(CheckpointId),
}

/// What a subtask says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Up {
    Acknowledge(CheckpointId),
    Decline(CheckpointId),
    EndOfData,
}

/// What the storage is doing, and whether it has done it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Operation {
    Enumerators(Attempt, CheckpointId),
    Write { token: Token, checkpoint: CheckpointId, performed: bool },
    ReadBack { token: Token, checkpoint: CheckpointId },
    Reserve { token: Token, up_to: CheckpointId, performed: bool },
    Delete { checkpoint: CheckpointId, performed: bool },
}

/// A rule that is broken on purpose, to see that the walk finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Defect {
    None,
    /// The driver tells of completion when the manifest is handed to the storage.
    CompletesBeforeTheManifest,
    /// The driver takes an unknown outcome for a failed one.
    UnknownIsTakenForFailed,
    /// A new process begins its ids after the newest manifest instead of at the reserved mark.
    IdsBeginAfterTheNewestManifest,
    /// One more failure is tolerated than was asked for.
    ToleratesOneMore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Supplies {
    pub(crate) checkpoints: u8,
    pub(crate) stops: u8,
    pub(crate) faults: u8,
    /// Whether subtasks reach the end of their data.
    pub(crate) ends: bool,
}

#[derive(Clone, Hash)]
pub(crate) struct World {
    settings: Settings,
    /// How many failures in a row are to be tolerated.
    tolerable: Option<u32>,
    defect: Defect,
    supplies: Supplies,
    coordinator: Coordinator,
    now: Moment,
    attempt: Attempt,
    subtasks: Vec<SubtaskId>,
    /// Whether the attempt is being ended, and the process given up.
    suspending: bool,
    given_up: bool,
    down: Vec<VecDeque<Down>>,
    up: Vec<VecDeque<(Attempt, Up)>>,
    ended: Vec<bool>,
    operations: BTreeSet<Operation>,
    /// Durable: the manifests and the mark below which ids may have been handed out.
    manifests: BTreeSet<CheckpointId>,
    mark: CheckpointId,
    /// What only the observer knows.
    highest: CheckpointId,
    told_complete: CheckpointId,
    snapshots: BTreeMap<CheckpointId, BTreeSet<SubtaskId>>,
    requests: u64,
    waiting: BTreeSet<RequestId>,
    /// How many checkpoints failed in a row, of those that count; and whether the attempt failed over it and is not ended.
    failures: u32,
    exceeded: bool,
    broken: Option<String>,
}

impl World {
    pub(crate) fn new(settings: Settings, subtasks: u32, supplies: Supplies, defect: Defect) -> World {
        let subtasks: Vec<SubtaskId> = (0..subtasks).map(|index| subtask(0, index)).collect();
        let count = subtasks.len();
        let tolerable = settings.tolerable_failures;
        let more = u32::from(defect == Defect::ToleratesOneMore);
        let settings = Settings { tolerable_failures: tolerable.map(|failures| failures + more), ..settings };
        let mut world = World {
            coordinator: Coordinator::new(settings.clone()),
            tolerable,
            settings,
            defect,
            supplies,
            now: Moment(0),
            attempt: Attempt(0),
            subtasks,
            suspending: false,
            given_up: false,
            down: vec![VecDeque::new(); count],
            up: vec![VecDeque::new(); count],
            ended: vec![false; count],
            operations: BTreeSet::new(),
            manifests: BTreeSet::new(),
            mark: id(1),
            highest: id(0),
            told_complete: id(0),
            snapshots: BTreeMap::new(),
            requests: 0,
            waiting: BTreeSet::new(),
            failures: 0,
            exceeded: false,
            broken: None,
        };
        world.start();
        world
    }

    /// Begins a run: its record reserves a block of ids.
    fn start(&mut self) {
        self.attempt = Attempt(self.attempt.0 + 1);
        self.suspending = false;
        for (down, ended) in self.down.iter_mut().zip(&mut self.ended) {
            down.clear();
            *ended = false;
        }
        let newest = self.manifests.last().copied();
        let first = match self.defect {
            Defect::IdsBeginAfterTheNewestManifest => newest.map_or(id(1), CheckpointId::next),
            Defect::None
            | Defect::CompletesBeforeTheManifest
            | Defect::UnknownIsTakenForFailed
            | Defect::ToleratesOneMore => self.mark,
        };
        self.mark = self.mark.max(CheckpointId(first.0 + self.settings.ids_per_block.get()));
        self.apply(Event::Start(Start {
            attempt: self.attempt,
            subtasks: self.subtasks.clone(),
            first_id: first,
            reserved_until: self.mark,
            restored: newest,
            retained: self.manifests.iter().copied().collect(),
            whole_job: true,
            random: 0,
        }));
    }

    /// The process is gone; only what is durable is left. Another one starts.
    fn crash(&mut self) {
        self.coordinator = Coordinator::new(self.settings.clone());
        self.operations.clear();
        self.up.iter_mut().for_each(VecDeque::clear);
        self.waiting.clear();
        self.given_up = false;
        self.failures = 0;
        self.exceeded = false;
        self.start();
    }

    fn require(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(words());
        }
    }

    fn apply(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.coordinator.handle(self.now, event, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn tell_all(&mut self, down: Down) {
        self.down.iter_mut().for_each(|channel| channel.push_back(down));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::SnapshotEnumerators { attempt, checkpoint, kind: _ } => {
                let (highest, mark) = (self.highest, self.mark);
                self.require(checkpoint > highest, || format!("id {checkpoint} is used after {highest}"));
                self.require(checkpoint < mark, || format!("id {checkpoint} is not reserved"));
                let unsettled = self.operations.iter().any(|operation| matches!(operation, Operation::ReadBack { .. }));
                self.require(!unsettled, || format!("{checkpoint} begins while a manifest is in doubt"));
                self.highest = self.highest.max(checkpoint);
                self.operations.insert(Operation::Enumerators(attempt, checkpoint));
            }
            Effect::Trigger { attempt: _, checkpoint, kind: _ } => self.tell_all(Down::Trigger(checkpoint)),
            Effect::WriteManifest { token, attempt: _, checkpoint, kind: _, finished: _ } => {
                let held = self.snapshots.get(&checkpoint).map_or(0, BTreeSet::len);
                let wanted = self.subtasks.len();
                self.require(held == wanted, || format!("{checkpoint} is written with {held} of {wanted} snapshots"));
                if self.defect == Defect::CompletesBeforeTheManifest {
                    self.complete(checkpoint);
                }
                self.operations.insert(Operation::Write { token, checkpoint, performed: false });
            }
            Effect::ReadBack { token, checkpoint } => {
                self.operations.insert(Operation::ReadBack { token, checkpoint });
            }
            Effect::NotifyCompleted { attempt: _, checkpoint, kind: _ } => self.complete(checkpoint),
            Effect::NotifyAborted { attempt: _, checkpoint, last_completed, reason: _ } => {
                let stored = self.manifests.contains(&checkpoint);
                self.require(!stored, || format!("{checkpoint} is aborted, and its manifest exists"));
                let known = last_completed.is_none_or(|last| last >= self.told_complete);
                self.require(known, || format!("the abort of {checkpoint} names {last_completed:?} as the last"));
                self.tell_all(Down::Aborted(checkpoint));
            }
            Effect::DiscardSnapshots { checkpoint } => {
                let stored = self.manifests.contains(&checkpoint);
                self.require(!stored, || format!("the blobs of {checkpoint} are deleted, and its manifest exists"));
                self.snapshots.remove(&checkpoint);
            }
            Effect::DiscardSnapshot { subtask, checkpoint } => {
                let held = self.snapshots.get(&checkpoint).is_some_and(|held| held.contains(&subtask));
                self.require(!held, || format!("the snapshot of {subtask} in {checkpoint} is deleted, and is in use"));
            }
            Effect::DeleteCheckpoint { checkpoint } => {
                let newest = self.manifests.last().copied();
                self.require(Some(checkpoint) < newest, || format!("{checkpoint} is deleted, newest: {newest:?}"));
                let unsettled = self.coordinator.is_unsettled();
                self.require(!unsettled, || format!("{checkpoint} is deleted while a manifest is in doubt"));
                let other = self.operations.iter().any(|operation| matches!(operation, Operation::Delete { .. }));
                self.require(!other, || "two deletions at a time".to_owned());
                self.operations.insert(Operation::Delete { checkpoint, performed: false });
            }
            Effect::ReserveIds { token, up_to } => {
                self.operations.insert(Operation::Reserve { token, up_to, performed: false });
            }
            Effect::Answer { request, result } => {
                let waited = self.waiting.remove(&request);
                self.require(waited, || format!("{request:?} is answered twice"));
                // Every checkpoint of a walk that counts failures was asked for by one request. What ends with its attempt does not count.
                self.failures += u32::from(!self.suspending && result.is_err_and(FailureReason::counts));
                let stored = result.is_err() || result.is_ok_and(|checkpoint| self.manifests.contains(&checkpoint));
                self.require(stored, || format!("{request:?} is told of {result:?}, which does not exist"));
            }
            Effect::NotTriggered { kind: _, reason: _ } | Effect::TakesLong { checkpoint: _ } => {}
            Effect::SourcesGoOn { attempt, checkpoint: _ } => {
                let current = self.attempt;
                self.require(attempt == current, || format!("sources of {attempt} go on, {current} runs"));
            }
            Effect::Suspended { last_completed, closed: _ } => {
                let newest = self.manifests.last().copied();
                self.require(self.given_up || last_completed == newest, || {
                    format!("suspended at {last_completed:?}, not {newest:?}")
                });
                let still = self.operations.iter().find(|operation| !matches!(operation, Operation::Enumerators(..)));
                let still = still.copied();
                self.require(still.is_none(), || format!("suspended with {still:?} under way"));
                if !self.given_up {
                    self.start();
                }
            }
            Effect::FailJob { failure } => match failure {
                JobFailure::Unsettled { .. } => self.given_up = true,
                JobFailure::FinalCheckpoint { .. } => {
                    self.suspending = true;
                    self.given_up = true;
                }
                JobFailure::ExceededTolerableFailures { failures, tolerable: _, reason } => {
                    let seen = self.failures;
                    self.require(failures == seen, || format!("{failures} failures are told, {seen} were seen"));
                    self.require(reason.counts(), || format!("the attempt fails because of {reason}"));
                    self.failures = 0;
                    self.exceeded = true;
                }
            },
        }
    }

    fn complete(&mut self, checkpoint: CheckpointId) {
        let stored = self.manifests.contains(&checkpoint);
        self.require(stored, || format!("{checkpoint} is called complete, and its manifest does not exist"));
        let told = self.told_complete;
        self.require(checkpoint > told, || format!("{checkpoint} is called complete after {told}"));
        self.told_complete = checkpoint;
        self.failures = 0;
        self.tell_all(Down::Completed(checkpoint));
    }

    /// The driver keeps the snapshot of an acknowledgement as the coordinator judges it.
    fn acknowledge(&mut self, attempt: Attempt, subtask: SubtaskId, checkpoint: CheckpointId) {
        if self.coordinator.judge(attempt, subtask, checkpoint) == Acknowledgement::Accepted {
            self.snapshots.entry(checkpoint).or_default().insert(subtask);
        }
        self.apply(Event::Acknowledged {
            attempt,
            subtask,
            checkpoint,
            finished: false,
            figures: SubtaskFigures::default(),
        });
    }

    /// One message of a subtask reaches the coordinator.
    fn receive(&mut self, index: usize, attempt: Attempt, up: Up) {
        let subtask = self.subtasks[index];
        match up {
            Up::Acknowledge(checkpoint) => self.acknowledge(attempt, subtask, checkpoint),
            Up::Decline(checkpoint) => {
                self.apply(Event::Declined { attempt, subtask, checkpoint, reason: DeclineReason::Declined });
            }
            Up::EndOfData => self.apply(Event::EndOfData { attempt, subtask }),
        }
    }

    fn answer(&mut self, operation: Operation, outcome: Outcome) {
        match operation {
            Operation::Enumerators(attempt, checkpoint) => {
                self.apply(Event::EnumeratorsSnapshotted { attempt, checkpoint, outcome, bytes: 0 });
            }
            Operation::Write { token, checkpoint: _, performed: _ } => {
                let outcome = match (self.defect, outcome) {
                    (Defect::UnknownIsTakenForFailed, Outcome::Unknown) => Outcome::Failed,
                    _ => outcome,
                };
                self.apply(Event::WriteFinished { token, outcome });
            }
            Operation::ReadBack { token, checkpoint } => {
                let answer = match outcome {
                    Outcome::Unknown => ReadBack::Unknown,
                    Outcome::Done | Outcome::Failed if self.manifests.contains(&checkpoint) => ReadBack::Present,
                    Outcome::Done | Outcome::Failed => ReadBack::Absent,
                };
                self.apply(Event::ReadBackFinished { token, answer });
            }
            Operation::Reserve { token, .. } => self.apply(Event::IdsReserved { token, outcome }),
            Operation::Delete { checkpoint, .. } => self.apply(Event::Deleted { checkpoint, outcome }),
        }
    }

    /// The storage does what it was asked to, and has not said so yet.
    fn perform(&mut self, operation: Operation) {
        self.operations.remove(&operation);
        let performed = match operation {
            Operation::Write { token, checkpoint, performed: _ } => {
                self.manifests.insert(checkpoint);
                Operation::Write { token, checkpoint, performed: true }
            }
            Operation::Reserve { token, up_to, performed: _ } => {
                self.mark = self.mark.max(up_to);
                Operation::Reserve { token, up_to, performed: true }
            }
            Operation::Delete { checkpoint, performed: _ } => {
                self.manifests.remove(&checkpoint);
                self.snapshots.remove(&checkpoint);
                Operation::Delete { checkpoint, performed: true }
            }
            Operation::Enumerators(..) | Operation::ReadBack { .. } => operation,
        };
        self.operations.insert(performed);
    }

    /// Everything that can happen next.
    pub(crate) fn steps(&self, successors: &mut Vec<(String, World)>) {
        let mut step = |name: String, faults: u8, change: &dyn Fn(&mut World)| {
            if self.supplies.faults >= faults {
                let mut after = self.clone();
                after.supplies.faults -= faults;
                change(&mut after);
                // What the observer keeps only for what is alive is let go, so that equal futures are equal worlds.
                let (manifests, coordinator) = (&after.manifests, &after.coordinator);
                let alive: BTreeSet<CheckpointId> = coordinator.pending().map(|pending| pending.checkpoint).collect();
                after.snapshots.retain(|checkpoint, _| manifests.contains(checkpoint) || alive.contains(checkpoint));
                successors.push((name, after));
            }
        };
        if self.broken.is_some() {
            return;
        }
        if self.given_up {
            // Somebody starts the job again.
            step("a new process".to_owned(), 0, &World::crash);
            return;
        }
        step("crash".to_owned(), 1, &World::crash);
        if !self.suspending {
            if self.supplies.checkpoints > 0 {
                step("a checkpoint is asked for".to_owned(), 0, &|after| {
                    after.supplies.checkpoints -= 1;
                    after.ask(RequestKind::Checkpoint);
                });
            }
            if self.supplies.stops > 0 {
                step("a stop is asked for".to_owned(), 0, &|after| {
                    after.supplies.stops -= 1;
                    after.ask(RequestKind::Stop);
                });
            }
            let ends = if self.exceeded { ("the supervisor ends the attempt", 0) } else { ("a subtask fails", 1) };
            step(ends.0.to_owned(), ends.1, &|after| {
                after.exceeded = false;
                after.suspending = true;
                after.down.iter_mut().for_each(VecDeque::clear);
                after.apply(Event::Suspend);
            });
            let retry = self.supplies.ends && self.coordinator.pending().next().is_none();
            if let Some(deadline) = self.coordinator.next_deadline() {
                // The next try of a final checkpoint is no fault, an expiry is one.
                step("the deadline passes".to_owned(), u8::from(!retry), &|after| {
                    after.now = after.now.max(deadline);
                    after.apply(Event::Deadline);
                });
            }
            for (index, subtask) in self.subtasks.iter().enumerate() {
                self.steps_of_subtask(index, *subtask, &mut step);
            }
        }
        for (index, subtask) in self.subtasks.iter().enumerate() {
            // The asynchronous part of a snapshot may take longer than that of a later one: any may be heard first.
            for (place, (attempt, up)) in self.up[index].iter().copied().enumerate() {
                step(format!("{subtask} is heard: {up:?} of {attempt}"), 0, &|after| {
                    after.up[index].remove(place);
                    after.receive(index, attempt, up);
                });
                step(format!("{subtask} is heard, and will be again: {up:?} of {attempt}"), 1, &|after| {
                    after.receive(index, attempt, up);
                });
            }
        }
        step("a stranger acknowledges".to_owned(), 1, &|after| {
            let (attempt, highest) = (after.attempt, after.highest);
            after.acknowledge(attempt, subtask(9, 9), highest);
            after.acknowledge(attempt, after.subtasks[0], id(99));
        });
        for operation in &self.operations {
            self.steps_of_operation(*operation, &mut step);
        }
    }

    fn steps_of_subtask(
        &self,
        index: usize,
        subtask: SubtaskId,
        step: &mut dyn FnMut(String, u8, &dyn Fn(&mut World)),
    ) {
        if self.supplies.ends && !self.ended[index] {
            step(format!("{subtask} reaches the end of its data"), 0, &|after| {
                after.ended[index] = true;
                let attempt = after.attempt;
                after.up[index].push_back((attempt, Up::EndOfData));
            });
        }
        let Some(down) = self.down[index].front().copied() else { return };
        let respond = |up: Option<Up>| {
            move |after: &mut World| {
                after.down[index].pop_front();
                let attempt = after.attempt;
                after.up[index].extend(up.map(|up| (attempt, up)));
            }
        };
        match down {
            Down::Trigger(checkpoint) => {
                step(format!("{subtask} snapshots {checkpoint}"), 0, &respond(Some(Up::Acknowledge(checkpoint))));
                step(format!("{subtask} declines {checkpoint}"), 1, &respond(Some(Up::Decline(checkpoint))));
            }
            Down::Completed(_) | Down::Aborted(_) => step(format!("{subtask} hears {down:?}"), 0, &respond(None)),
        }
    }

    fn steps_of_operation(&self, operation: Operation, step: &mut dyn FnMut(String, u8, &dyn Fn(&mut World))) {
        let answered = |outcome: Outcome| {
            move |after: &mut World| {
                after.operations.remove(&operation);
                after.answer(operation, outcome);
            }
        };
        match operation {
            Operation::Write { performed: false, .. }
            | Operation::Reserve { performed: false, .. }
            | Operation::Delete { performed: false, .. } => {
                step(format!("performed: {operation:?}"), 0, &|after| after.perform(operation));
                step(format!("failed: {operation:?}"), 1, &answered(Outcome::Failed));
                step(format!("unknown: {operation:?}"), 1, &answered(Outcome::Unknown));
            }
            Operation::Write { performed: true, .. } => {
                step(format!("done: {operation:?}"), 0, &answered(Outcome::Done));
                step(format!("unknown: {operation:?}"), 1, &answered(Outcome::Unknown));
            }
            Operation::Reserve { performed: true, .. } | Operation::Delete { performed: true, .. } => {
                step(format!("done: {operation:?}"), 0, &answered(Outcome::Done));
            }
            Operation::Enumerators(..) => {
                step(format!("done: {operation:?}"), 0, &answered(Outcome::Done));
                step(format!("failed: {operation:?}"), 1, &answered(Outcome::Failed));
            }
            Operation::ReadBack { .. } => {
                step(format!("settled: {operation:?}"), 0, &answered(Outcome::Done));
                step(format!("cannot be settled: {operation:?}"), 1, &answered(Outcome::Unknown));
            }
        }
    }

    fn ask(&mut self, kind: RequestKind) {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.waiting.insert(request);
        self.apply(Event::Request { request, kind });
    }

    pub(crate) fn rule(&self, at_rest: AtRest) -> Result<(), String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.coordinator.check().map_err(|violation| violation.to_string())?;
        let newest = self.manifests.last().copied().unwrap_or_default();
        if newest < self.told_complete {
            return Err(format!("{} was called complete, a restore would find {newest}", self.told_complete));
        }
        for manifest in &self.manifests {
            if self.snapshots.get(manifest).map_or(0, BTreeSet::len) != self.subtasks.len() {
                return Err(format!("the manifest of {manifest} exists, and blobs of it do not"));
            }
        }
        if let Some(tolerable) = self.tolerable
            && self.failures > tolerable
        {
            return Err(format!(
                "{} failures in a row, {tolerable} are tolerated, and the attempt goes on",
                self.failures
            ));
        }
        if at_rest == AtRest(true) {
            let pending: Vec<_> = self.coordinator.pending().map(|pending| pending.checkpoint).collect();
            if !pending.is_empty() || !self.waiting.is_empty() {
                return Err(format!("at rest with {pending:?} pending and {:?} unanswered", self.waiting));
            }
            if self.supplies.ends && self.coordinator.closed().is_none() {
                return Err("all data has ended, and no checkpoint has closed the job".to_owned());
            }
        }
        Ok(())
    }
}
