//! A source, a two-phase sink and the coordinator, over every order of records, barriers, commits and crashes.
//!
//! The source counts up and the sink writes what it gets into transactions. In the end every record must be outside
//! exactly once, whatever was aborted, lost or repeated on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use alluvium_actors::ids::{Attempt, CheckpointId, Moment, SubtaskId, Token};
use alluvium_actors::protocol::commit::{self, CommitAnswer, Ledger, Prepared};
use alluvium_actors::protocol::coordinator::{
    Acknowledgement, CheckpointKind, Coordinator, DeclineReason, Effect, Event, Outcome, ReadBack, RequestId,
    RequestKind, Settings, Start, SubtaskFigures,
};
use alluvium_actors::protocol::machine::Machine;

use crate::coordinator::{id, subtask};
use crate::explore::AtRest;

const SOURCE: SubtaskId = subtask(0, 0);
const SINK: SubtaskId = subtask(1, 0);

/// A transaction, by the attempt and the checkpoint it was prepared in: never used again.
type Name = (Attempt, CheckpointId);

/// What flows from the source to the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Frame {
    Record(u8),
    Barrier(CheckpointId),
    End,
}

/// What the coordinator tells a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Down {
    Trigger(CheckpointId),
    Completed(CheckpointId, CheckpointKind),
    Aborted(CheckpointId),
}

/// What is in a cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Cut {
    position: u8,
    prepared: Vec<Prepared<Name>>,
}

/// What a subtask tells the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Up {
    Source(CheckpointId, u8),
    Sink(CheckpointId, Vec<Prepared<Name>>),
    Decline(CheckpointId),
    EndOfData,
}

/// What the storage is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Storage {
    Idle,
    Write { token: Token, checkpoint: CheckpointId, kind: CheckpointKind, performed: bool },
    ReadBack { token: Token, checkpoint: CheckpointId },
}

/// What the committer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Commit {
    token: Token,
    name: Name,
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Done,
    AlreadyDone,
}

/// A rule that is broken on purpose, to see that the walk finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Defect {
    None,
    /// The sink commits when it has prepared, before the checkpoint is complete.
    CommitsWhatIsPrepared,
    /// The sink throws away what it prepared for a checkpoint that was aborted.
    AbortDropsPrepared,
    /// The sink leaves out of its snapshot what it has begun to commit.
    SnapshotWithoutCommitsUnderWay,
    /// A restored sink does not commit again.
    RestoreForgetsPrepared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Supplies {
    pub(crate) records: u8,
    pub(crate) checkpoints: u8,
    pub(crate) faults: u8,
}

#[derive(Clone, Hash)]
pub(crate) struct World {
    settings: Settings,
    defect: Defect,
    supplies: Supplies,
    coordinator: Coordinator,
    now: Moment,
    attempt: Attempt,
    /// Only commits are owed: the newest manifest is final.
    over: bool,
    given_up: bool,
    /// The attempt has failed, and the coordinator settles what it has in flight.
    ending: bool,
    to_source: VecDeque<Down>,
    to_sink: VecDeque<Down>,
    from_source: VecDeque<(Attempt, Up)>,
    from_sink: VecDeque<(Attempt, Up)>,
    edge: VecDeque<Frame>,
    position: u8,
    source_ended: bool,
    ledger: Ledger<Name>,
    open: Vec<u8>,
    commit: Option<Commit>,
    storage: Storage,
    /// The snapshots that the driver of the coordinator holds.
    held: BTreeMap<CheckpointId, Cut>,
    requests: u64,
    // Durable.
    manifests: BTreeMap<CheckpointId, Cut>,
    last: Option<CheckpointId>,
    mark: CheckpointId,
    prepared: BTreeMap<Name, Vec<u8>>,
    committed: BTreeMap<Name, Vec<u8>>,
    // The observer's.
    broken: Option<String>,
}

impl World {
    pub(crate) fn new(supplies: Supplies, concurrent: usize, defect: Defect) -> World {
        let settings = Settings {
            maximum_concurrent: NonZeroUsize::new(concurrent).unwrap(),
            ids_per_block: NonZeroU64::new(4).unwrap(),
            history: 0,
            ..Settings::default()
        };
        let mut world = World {
            coordinator: Coordinator::new(settings.clone()),
            settings,
            defect,
            supplies,
            now: Moment(0),
            attempt: Attempt(0),
            over: false,
            given_up: false,
            ending: false,
            to_source: VecDeque::new(),
            to_sink: VecDeque::new(),
            from_source: VecDeque::new(),
            from_sink: VecDeque::new(),
            edge: VecDeque::new(),
            position: 0,
            source_ended: false,
            ledger: Ledger::new(),
            open: Vec::new(),
            commit: None,
            storage: Storage::Idle,
            held: BTreeMap::new(),
            requests: 0,
            manifests: BTreeMap::new(),
            last: None,
            mark: id(1),
            prepared: BTreeMap::new(),
            committed: BTreeMap::new(),
            broken: None,
        };
        world.start();
        world
    }

    fn require(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(words());
        }
    }

    /// A new attempt, from the newest manifest.
    fn start(&mut self) {
        self.attempt = Attempt(self.attempt.0 + 1);
        self.ending = false;
        self.leave_attempt();
        let (restored, cut) = match self.manifests.last_key_value() {
            Some((checkpoint, cut)) => (Some(*checkpoint), cut.clone()),
            None => (None, Cut::default()),
        };
        self.position = cut.position;
        self.source_ended = false;
        self.ledger = Ledger::new();
        // What was prepared and is not in the cut is aborted, before any writer opens.
        let in_the_cut: BTreeSet<Name> = cut.prepared.iter().map(|prepared| prepared.committable).collect();
        self.prepared.retain(|name, _| in_the_cut.contains(name));
        self.over = restored.is_some() && restored == self.last;
        let first = self.mark;
        self.mark = CheckpointId(first.0 + 100);
        if !self.over {
            self.coordinate(Event::Start(Start {
                attempt: self.attempt,
                subtasks: vec![SOURCE, SINK],
                first_id: first,
                reserved_until: self.mark,
                restored,
                retained: self.manifests.keys().copied().collect(),
                whole_job: true,
                random: 0,
            }));
        }
        let prepared = if self.defect == Defect::RestoreForgetsPrepared { Vec::new() } else { cut.prepared };
        self.account(commit::Event::Restored { prepared });
    }

    /// Both subtasks are gone, with what they had open and the commit under way.
    fn leave_attempt(&mut self) {
        self.to_source.clear();
        self.to_sink.clear();
        self.edge.clear();
        self.open.clear();
        self.commit = None;
    }

    fn crash(&mut self) {
        self.coordinator = Coordinator::new(self.settings.clone());
        self.storage = Storage::Idle;
        self.held.clear();
        self.from_source.clear();
        self.from_sink.clear();
        self.given_up = false;
        self.start();
    }

    fn coordinate(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.coordinator.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::SnapshotEnumerators { attempt, checkpoint, kind: _ } => {
                    self.held.insert(checkpoint, Cut::default());
                    let outcome = Outcome::Done;
                    self.coordinate(Event::EnumeratorsSnapshotted { attempt, checkpoint, outcome, bytes: 0 });
                }
                Effect::Trigger { attempt: _, checkpoint, kind: _ } => {
                    self.to_source.push_back(Down::Trigger(checkpoint));
                }
                Effect::WriteManifest { token, attempt: _, checkpoint, kind, finished: _ } => {
                    self.storage = Storage::Write { token, checkpoint, kind, performed: false };
                }
                Effect::ReadBack { token, checkpoint } => self.storage = Storage::ReadBack { token, checkpoint },
                Effect::NotifyCompleted { attempt: _, checkpoint, kind } => {
                    self.to_sink.push_back(Down::Completed(checkpoint, kind));
                }
                Effect::NotifyAborted { attempt: _, checkpoint, last_completed: _, reason: _ } => {
                    self.to_sink.push_back(Down::Aborted(checkpoint));
                }
                Effect::DiscardSnapshots { checkpoint } => {
                    self.held.remove(&checkpoint);
                }
                Effect::DiscardSnapshot { subtask: _, checkpoint: _ } | Effect::Answer { request: _, result: _ } => {}
                Effect::DeleteCheckpoint { checkpoint } => {
                    self.manifests.remove(&checkpoint);
                    self.coordinate(Event::Deleted { checkpoint, outcome: Outcome::Done });
                }
                Effect::ReserveIds { token: _, up_to } => {
                    self.require(false, || format!("ids up to {up_to} are asked for, 100 are reserved"));
                }
                Effect::NotTriggered { kind: _, reason: _ } | Effect::TakesLong { checkpoint: _ } => {}
                Effect::SourcesGoOn { attempt: _, checkpoint } => {
                    self.require(false, || format!("nobody asked for a stop, {checkpoint} was none"));
                }
                Effect::Suspended { last_completed: _, closed: _ } => self.start(),
                Effect::FailJob { failure: _ } => self.given_up = true,
            }
        }
    }

    /// Something happens to the sink's ledger.
    fn account(&mut self, event: commit::Event<Name>) {
        let mut effects = Vec::new();
        self.ledger.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                commit::Effect::Commit { token, transaction } => {
                    let two = self.commit.is_some();
                    self.require(!two, || "two commits at a time".to_owned());
                    self.commit = Some(Commit { token, name: transaction.committable, answer: None });
                }
                commit::Effect::ClearForRecords => {}
                commit::Effect::Fail { checkpoint, reason } => {
                    self.require(false, || format!("the commit of {checkpoint} failed: {reason}"));
                }
            }
        }
    }

    fn perform_commit(&mut self, commit: Commit) {
        let answer = if let Some(records) = self.prepared.remove(&commit.name) {
            self.committed.insert(commit.name, records);
            Answer::Done
        } else {
            let there = self.committed.contains_key(&commit.name);
            self.require(there, || format!("{:?} is neither pending nor committed", commit.name));
            Answer::AlreadyDone
        };
        // A manifest that exists holds it, or one that was deleted for a newer one did.
        let complete = self.manifests.last_key_value().map(|(checkpoint, _)| *checkpoint);
        self.require(complete >= Some(commit.name.1), || {
            format!("{:?} is committed, the newest complete checkpoint is {complete:?}", commit.name)
        });
        self.commit = Some(Commit { answer: Some(answer), ..commit });
    }

    fn barrier(&mut self, checkpoint: CheckpointId) {
        let name = (self.attempt, checkpoint);
        let committables = if self.open.is_empty() { Vec::new() } else { vec![name] };
        if !self.open.is_empty() {
            self.prepared.insert(name, std::mem::take(&mut self.open));
        }
        self.account(commit::Event::Prepared { checkpoint, committables });
        if self.defect == Defect::CommitsWhatIsPrepared {
            self.account(commit::Event::Completed { checkpoint });
        }
        let mut snapshot = self.ledger.snapshot();
        match self.defect {
            Defect::SnapshotWithoutCommitsUnderWay => {
                let under_way = self.commit.map(|commit| commit.name);
                snapshot.retain(|prepared| Some(prepared.committable) != under_way);
            }
            Defect::AbortDropsPrepared => {
                let pending = &self.prepared;
                snapshot.retain(|prepared| pending.contains_key(&prepared.committable));
            }
            Defect::None | Defect::CommitsWhatIsPrepared | Defect::RestoreForgetsPrepared => {}
        }
        self.from_sink.push_back((self.attempt, Up::Sink(checkpoint, snapshot)));
    }

    fn receive(&mut self, subtask: SubtaskId, attempt: Attempt, up: Up) {
        let event = match up {
            Up::Source(checkpoint, position) => {
                if self.coordinator.judge(attempt, subtask, checkpoint) == Acknowledgement::Accepted {
                    self.held.entry(checkpoint).or_default().position = position;
                }
                Event::Acknowledged {
                    attempt,
                    subtask,
                    checkpoint,
                    finished: false,
                    figures: SubtaskFigures::default(),
                }
            }
            Up::Sink(checkpoint, prepared) => {
                if self.coordinator.judge(attempt, subtask, checkpoint) == Acknowledgement::Accepted {
                    self.held.entry(checkpoint).or_default().prepared = prepared;
                }
                Event::Acknowledged {
                    attempt,
                    subtask,
                    checkpoint,
                    finished: false,
                    figures: SubtaskFigures::default(),
                }
            }
            Up::Decline(checkpoint) => {
                Event::Declined { attempt, subtask, checkpoint, reason: DeclineReason::Declined }
            }
            Up::EndOfData => Event::EndOfData { attempt, subtask },
        };
        self.coordinate(event);
    }

    pub(crate) fn steps(&self, successors: &mut Vec<(String, World)>) {
        let mut step = |name: String, faults: u8, change: &dyn Fn(&mut World)| {
            if self.supplies.faults >= faults {
                let mut after = self.clone();
                after.supplies.faults -= faults;
                change(&mut after);
                successors.push((name, after));
            }
        };
        if self.broken.is_some() {
            return;
        }
        if self.given_up {
            step("a new process".to_owned(), 0, &World::crash);
            return;
        }
        step("crash".to_owned(), 1, &World::crash);
        self.steps_of_sink(&mut step);
        if self.over {
            return;
        }
        self.steps_of_storage(&mut step);
        for (subtask, channel) in [(SOURCE, &self.from_source), (SINK, &self.from_sink)] {
            // The asynchronous part of a snapshot may take longer than that of a later one: any may be heard first.
            // The end of data waits for its turn, which halves the walk and hides nothing.
            let first = channel.iter().take_while(|(_, up)| *up != Up::EndOfData).count().max(1);
            for (place, (attempt, up)) in channel.iter().take(first).cloned().enumerate() {
                let hear = |repeated: bool| {
                    let up = up.clone();
                    move |after: &mut World| {
                        if !repeated {
                            let channel = if subtask == SOURCE { &mut after.from_source } else { &mut after.from_sink };
                            channel.remove(place);
                        }
                        after.receive(subtask, attempt, up.clone());
                    }
                };
                step(format!("{subtask} is heard: {up:?}"), 0, &hear(false));
                step(format!("{subtask} is heard, and will be again: {up:?}"), 1, &hear(true));
            }
        }
        self.steps_of_source(&mut step);
        if self.supplies.checkpoints > 0 {
            step("a checkpoint is asked for".to_owned(), 0, &|after| {
                after.supplies.checkpoints -= 1;
                after.requests += 1;
                let request = RequestId(after.requests);
                after.coordinate(Event::Request { request, kind: RequestKind::Checkpoint });
            });
        }
        if let Some(deadline) = self.coordinator.next_deadline() {
            let expiry = self.coordinator.pending().next().is_some();
            step("the deadline of the coordinator passes".to_owned(), u8::from(expiry), &|after| {
                after.now = after.now.max(deadline);
                after.coordinate(Event::Deadline);
            });
        }
        if !self.ending {
            step("the attempt fails".to_owned(), 1, &|after| {
                after.ending = true;
                after.leave_attempt();
                after.coordinate(Event::Suspend);
            });
        }
    }

    fn steps_of_source(&self, step: &mut dyn FnMut(String, u8, &dyn Fn(&mut World))) {
        if let Some(Down::Trigger(checkpoint)) = self.to_source.front().copied() {
            step(format!("the source cuts {checkpoint} at {}", self.position), 0, &|after| {
                after.to_source.pop_front();
                after.edge.push_back(Frame::Barrier(checkpoint));
                after.from_source.push_back((after.attempt, Up::Source(checkpoint, after.position)));
            });
            step(format!("the source declines {checkpoint}"), 1, &|after| {
                after.to_source.pop_front();
                after.from_source.push_back((after.attempt, Up::Decline(checkpoint)));
            });
        }
        if self.position < self.supplies.records && !self.ending {
            step(format!("the source emits {}", self.position), 0, &|after| {
                after.edge.push_back(Frame::Record(after.position));
                after.position += 1;
            });
        } else if self.position == self.supplies.records && !self.source_ended && !self.ending {
            step("the source ends".to_owned(), 0, &|after| {
                after.source_ended = true;
                after.edge.push_back(Frame::End);
                after.from_source.push_back((after.attempt, Up::EndOfData));
            });
        }
    }

    fn steps_of_sink(&self, step: &mut dyn FnMut(String, u8, &dyn Fn(&mut World))) {
        if let Some(commit) = self.commit {
            match commit.answer {
                None => {
                    step(format!("{:?} is committed", commit.name), 0, &|after| after.perform_commit(commit));
                    step(format!("{:?} is to be retried", commit.name), 1, &|after| {
                        after.commit = None;
                        let answer = CommitAnswer::RetryAfter(Duration::from_secs(1));
                        after.account(commit::Event::CommitFinished { token: commit.token, answer });
                    });
                }
                Some(answer) => step(format!("the commit of {:?} returns", commit.name), 0, &|after| {
                    after.commit = None;
                    let answer = match answer {
                        Answer::Done => CommitAnswer::Done,
                        Answer::AlreadyDone => CommitAnswer::AlreadyDone,
                    };
                    after.account(commit::Event::CommitFinished { token: commit.token, answer });
                }),
            }
        }
        if let Some(deadline) = self.ledger.next_deadline() {
            step("the deadline of the ledger passes".to_owned(), 0, &|after| {
                after.now = after.now.max(deadline);
                after.account(commit::Event::Deadline);
            });
        }
        if let Some(down) = self.to_sink.front().copied() {
            let hear = |after: &mut World| match down {
                Down::Trigger(_) => {}
                Down::Completed(checkpoint, _) => after.account(commit::Event::Completed { checkpoint }),
                Down::Aborted(checkpoint) => {
                    if after.defect == Defect::AbortDropsPrepared {
                        after.prepared.retain(|name, _| name.1 != checkpoint);
                    }
                    after.account(commit::Event::Aborted { checkpoint });
                }
            };
            step(format!("the sink hears {down:?}"), 0, &|after| {
                after.to_sink.pop_front();
                hear(after);
            });
            step(format!("the sink hears {down:?}, and will again"), 1, &hear);
            // The word that ends a job is sent until it is heard; every other may be lost.
            if !matches!(down, Down::Completed(_, CheckpointKind::Final)) {
                step(format!("{down:?} is lost"), 1, &|after| {
                    after.to_sink.pop_front();
                });
            }
        }
        let Some(frame) = self.edge.front().copied() else { return };
        match frame {
            Frame::Record(record) => {
                if self.ledger.is_clear_for_records() {
                    step(format!("the sink writes {record}"), 0, &|after| {
                        after.edge.pop_front();
                        after.open.push(record);
                    });
                }
            }
            Frame::Barrier(checkpoint) => {
                step(format!("the sink prepares {checkpoint}"), 0, &|after| {
                    after.edge.pop_front();
                    after.barrier(checkpoint);
                });
            }
            Frame::End => step("the sink has all".to_owned(), 0, &|after| {
                after.edge.pop_front();
                after.from_sink.push_back((after.attempt, Up::EndOfData));
            }),
        }
    }

    fn steps_of_storage(&self, step: &mut dyn FnMut(String, u8, &dyn Fn(&mut World))) {
        let answered = |token: Token, outcome: Outcome| {
            move |after: &mut World| {
                after.storage = Storage::Idle;
                after.coordinate(Event::WriteFinished { token, outcome });
            }
        };
        match self.storage {
            Storage::Idle => {}
            Storage::Write { token, checkpoint, kind, performed: false } => {
                step(format!("the manifest of {checkpoint} is written"), 0, &|after| {
                    let cut = after.held.get(&checkpoint).cloned().unwrap_or_default();
                    after.manifests.insert(checkpoint, cut);
                    if kind == CheckpointKind::Final {
                        after.last = Some(checkpoint);
                    }
                    after.storage = Storage::Write { token, checkpoint, kind, performed: true };
                });
                step(format!("the manifest of {checkpoint} fails"), 1, &answered(token, Outcome::Failed));
                step(format!("the manifest of {checkpoint} is in doubt"), 1, &answered(token, Outcome::Unknown));
            }
            Storage::Write { token, checkpoint, kind: _, performed: true } => {
                step(format!("the write of {checkpoint} returns"), 0, &answered(token, Outcome::Done));
                step(format!("the write of {checkpoint} is in doubt"), 1, &answered(token, Outcome::Unknown));
            }
            Storage::ReadBack { token, checkpoint } => {
                let answered = |answer: ReadBack| {
                    move |after: &mut World| {
                        after.storage = Storage::Idle;
                        after.coordinate(Event::ReadBackFinished { token, answer });
                    }
                };
                let there = self.manifests.contains_key(&checkpoint);
                let truth = if there { ReadBack::Present } else { ReadBack::Absent };
                step(format!("{checkpoint} is read back"), 0, &answered(truth));
                step(format!("{checkpoint} cannot be read back"), 1, &answered(ReadBack::Unknown));
            }
        }
    }

    pub(crate) fn rule(&self, at_rest: AtRest) -> Result<(), String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.coordinator.check().map_err(|violation| violation.to_string())?;
        if self.defect == Defect::None {
            self.ledger.check().map_err(|violation| violation.to_string())?;
        }
        let mut outside: Vec<u8> = self.committed.values().flatten().copied().collect();
        outside.sort_unstable();
        if let Some(twice) = outside.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("record {} is committed twice: {:?}", twice[0], self.committed));
        }
        if at_rest == AtRest(true) && outside.len() != usize::from(self.supplies.records) {
            return Err(format!("at rest, and {outside:?} of {} records are outside", self.supplies.records));
        }
        Ok(())
    }
}
