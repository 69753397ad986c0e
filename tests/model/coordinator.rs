//! A desk for one coordinator: hands it events at chosen moments, checks it after each, and names effects briefly.

use std::num::NonZeroUsize;
use std::time::Duration;

use alluvium_actors::ids::{Attempt, CheckpointId, Moment, SubtaskId, Token};
use alluvium_actors::protocol::coordinator::{
    CheckpointKind, Coordinator, DeclineReason, Effect, Event, FailureReason, Outcome, ReadBack, RequestId,
    RequestKind, Settings, Start, SubtaskFigures,
};
use alluvium_actors::protocol::machine::Machine;

/// The attempt of a desk that was started once.
pub(crate) const FIRST: Attempt = Attempt(1);

/// Two sources and what is behind them.
pub(crate) const LEFT: SubtaskId = subtask(0, 0);
pub(crate) const RIGHT: SubtaskId = subtask(0, 1);
pub(crate) const SINK: SubtaskId = subtask(1, 0);

pub(crate) const fn subtask(node: u32, index: u32) -> SubtaskId {
    SubtaskId { node: alluvium_actors::ids::NodeId(node), index }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn id(number: u64) -> CheckpointId {
    CheckpointId(number)
}

pub(crate) fn at_most(concurrent: usize) -> Settings {
    Settings { maximum_concurrent: NonZeroUsize::new(concurrent).unwrap(), ..Settings::default() }
}

pub(crate) fn every(seconds: u64) -> Settings {
    Settings { interval: Some(Duration::from_secs(seconds)), ..Settings::default() }
}

/// A coordinator, the time, and the names for requests.
pub(crate) struct Desk {
    pub coordinator: Coordinator,
    pub now: Moment,
    requests: u64,
}

impl Desk {
    /// A coordinator that was not started.
    pub(crate) fn new(settings: Settings) -> Desk {
        Desk { coordinator: Coordinator::new(settings), now: Moment(0), requests: 0 }
    }

    /// A coordinator whose first attempt runs with the left and the right source and the sink; ids begin at 1.
    pub(crate) fn running(settings: Settings) -> Desk {
        let mut desk = Desk::new(settings);
        assert_eq!(desk.start(1, None, &[]), []);
        desk
    }

    /// Starts an attempt with ids well above those of the attempt before.
    pub(crate) fn start(&mut self, attempt: u32, restored: Option<u64>, retained: &[u64]) -> Vec<Effect> {
        let first = retained.iter().copied().max().map_or(1, |newest| newest + 1).max(self.coordinator.next_id().0);
        self.tell(Event::Start(Start {
            attempt: Attempt(attempt),
            subtasks: vec![LEFT, RIGHT, SINK],
            first_id: id(first),
            reserved_until: id(first + 10_000),
            restored: restored.map(id),
            retained: retained.iter().copied().map(id).collect(),
            whole_job: true,
            random: 0,
        }))
    }

    /// Hands in one event and returns what it leads to.
    pub(crate) fn tell(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.coordinator.handle(self.now, event, &mut effects);
        self.coordinator.check().unwrap();
        let passed = self.coordinator.next_deadline().is_some_and(|deadline| deadline < self.now);
        assert!(!passed, "a deadline that passed was not handled");
        effects
    }

    /// As [`tell`](Desk::tell), and the driver answers at once for enumerators and deletions: they are done, and left
    /// out of the returned list.
    pub(crate) fn run(&mut self, event: Event) -> Vec<Effect> {
        let mut rest = self.tell(event);
        let mut seen = Vec::new();
        while !rest.is_empty() {
            match rest.remove(0) {
                Effect::SnapshotEnumerators { attempt, checkpoint, kind: _ } => {
                    rest.extend(self.tell(Event::EnumeratorsSnapshotted {
                        attempt,
                        checkpoint,
                        outcome: Outcome::Done,
                        bytes: 0,
                    }));
                }
                Effect::DeleteCheckpoint { checkpoint } => {
                    rest.extend(self.tell(Event::Deleted { checkpoint, outcome: Outcome::Done }));
                }
                other => seen.push(other),
            }
        }
        seen
    }

    /// Lets time pass, with all deadlines on the way.
    pub(crate) fn pass(&mut self, duration: Duration) -> Vec<Effect> {
        let end = self.now + duration;
        let mut effects = Vec::new();
        while let Some(deadline) = self.coordinator.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            effects.extend(self.run(Event::Deadline));
            let later = self.coordinator.next_deadline().is_none_or(|next| next > self.now);
            assert!(later, "a deadline that was handled is not named again");
        }
        self.now = end;
        effects
    }

    /// A user asks; the request gets the next number, from 1.
    pub(crate) fn request(&mut self, kind: RequestKind) -> Vec<Effect> {
        self.requests += 1;
        self.run(Event::Request { request: RequestId(self.requests), kind })
    }

    /// The next request gets the number after `last`.
    pub(crate) fn requests_from(&mut self, last: u64) {
        self.requests = last;
    }

    /// A user asks for a checkpoint that is expected to begin at once.
    pub(crate) fn trigger(&mut self, expected: u64) {
        let effects = self.request(RequestKind::Checkpoint);
        assert_eq!(effects, [trigger(expected, CheckpointKind::Manual)]);
    }

    pub(crate) fn acknowledge(&mut self, subtask: SubtaskId, checkpoint: u64) -> Vec<Effect> {
        self.acknowledge_in(FIRST, subtask, checkpoint, false)
    }

    pub(crate) fn acknowledge_in(
        &mut self,
        attempt: Attempt,
        subtask: SubtaskId,
        checkpoint: u64,
        finished: bool,
    ) -> Vec<Effect> {
        self.run(Event::Acknowledged {
            attempt,
            subtask,
            checkpoint: id(checkpoint),
            finished,
            figures: SubtaskFigures { bytes: 100, written_bytes: 100, ..SubtaskFigures::default() },
        })
    }

    /// All three acknowledge; returns what the last one leads to.
    pub(crate) fn acknowledge_all(&mut self, checkpoint: u64) -> Vec<Effect> {
        assert_eq!(self.acknowledge(LEFT, checkpoint), []);
        assert_eq!(self.acknowledge(RIGHT, checkpoint), []);
        self.acknowledge(SINK, checkpoint)
    }

    pub(crate) fn decline(&mut self, subtask: SubtaskId, checkpoint: u64, reason: DeclineReason) -> Vec<Effect> {
        self.run(Event::Declined { attempt: FIRST, subtask, checkpoint: id(checkpoint), reason })
    }

    /// All three acknowledge and the manifest is written; returns what that leads to.
    pub(crate) fn complete(&mut self, checkpoint: u64) -> Vec<Effect> {
        let effects = self.acknowledge_all(checkpoint);
        self.written(&effects, checkpoint, Outcome::Done)
    }

    /// Answers the manifest write that `effects` ends with.
    pub(crate) fn written(&mut self, effects: &[Effect], expected: u64, outcome: Outcome) -> Vec<Effect> {
        let token = write_token(effects, expected);
        self.run(Event::WriteFinished { token, outcome })
    }

    pub(crate) fn read_back(&mut self, effects: &[Effect], answer: ReadBack) -> Vec<Effect> {
        let [.., Effect::ReadBack { token, checkpoint: _ }] = effects else { panic!("no read-back in {effects:?}") };
        self.run(Event::ReadBackFinished { token: *token, answer })
    }

    /// All three have processed all their data; returns what the last word leads to.
    pub(crate) fn end_of_data(&mut self) -> Vec<Effect> {
        assert_eq!(self.run(Event::EndOfData { attempt: FIRST, subtask: LEFT }), []);
        assert_eq!(self.run(Event::EndOfData { attempt: FIRST, subtask: RIGHT }), []);
        self.run(Event::EndOfData { attempt: FIRST, subtask: SINK })
    }

    /// The pending checkpoints.
    pub(crate) fn pending(&self) -> Vec<u64> {
        self.coordinator.pending().map(|statistics| statistics.checkpoint.0).collect()
    }
}

pub(crate) fn write_token(effects: &[Effect], expected: u64) -> Token {
    match effects {
        [.., Effect::WriteManifest { token, checkpoint, .. }] if *checkpoint == id(expected) => *token,
        other => panic!("the manifest of {expected} is not what is written last in {other:?}"),
    }
}

pub(crate) fn trigger(checkpoint: u64, kind: CheckpointKind) -> Effect {
    Effect::Trigger { attempt: FIRST, checkpoint: id(checkpoint), kind }
}

pub(crate) fn enumerators(checkpoint: u64, kind: CheckpointKind) -> Effect {
    Effect::SnapshotEnumerators { attempt: FIRST, checkpoint: id(checkpoint), kind }
}

pub(crate) fn completed(checkpoint: u64, kind: CheckpointKind) -> Effect {
    Effect::NotifyCompleted { attempt: FIRST, checkpoint: id(checkpoint), kind }
}

pub(crate) fn aborted(checkpoint: u64, last_completed: Option<u64>, reason: FailureReason) -> Effect {
    Effect::NotifyAborted { attempt: FIRST, checkpoint: id(checkpoint), last_completed: last_completed.map(id), reason }
}

pub(crate) fn discarded(checkpoint: u64) -> Effect {
    Effect::DiscardSnapshots { checkpoint: id(checkpoint) }
}

pub(crate) fn discarded_one(subtask: SubtaskId, checkpoint: u64) -> Effect {
    Effect::DiscardSnapshot { subtask, checkpoint: id(checkpoint) }
}

pub(crate) fn done(request: u64, checkpoint: u64) -> Effect {
    Effect::Answer { request: RequestId(request), result: Ok(id(checkpoint)) }
}

pub(crate) fn refused(request: u64, reason: FailureReason) -> Effect {
    Effect::Answer { request: RequestId(request), result: Err(reason) }
}
