//! What follows a failure: another attempt after a delay, or the end of the job.
//!
//! A failure ends the whole attempt. The next one begins when the delay of the restart strategy has passed *and*
//! every subtask of the old attempt is gone *and* the coordinator has settled what it had in flight: two attempts never
//! run side by side. What does not end in time fails the job for good.

pub mod backoff;
pub mod strategy;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{Attempt, Moment, SubtaskId};
use crate::protocol::machine::{Invariant, Machine, Violation};

pub use self::backoff::{Backoff, Verdict};
pub use self::strategy::{ExponentialDelay, RestartStrategy, RestartStrategyError};
pub use crate::ports::task::{Failure, Severity};

/// Every invariant of the supervisor.
pub const INVARIANTS: [&Invariant; 2] = [&ONE_ATTEMPT, &FAILURE_HAS_A_CAUSE];

static ONE_ATTEMPT: Invariant = Invariant {
    id: "supervise.one-attempt",
    statement: "an attempt is deployed only when it was asked for, after the end of the one before it",
};
static FAILURE_HAS_A_CAUSE: Invariant = Invariant {
    id: "supervise.failure-has-a-cause",
    statement: "an attempt that ends in order to restart or to fail the job has at least one failure",
};

/// How many failures of one attempt are kept beside the first.
const KEPT_FAILURES: usize = 8;

/// What did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Straggler {
    /// A subtask that is in a call.
    Subtask(SubtaskId),
    /// The coordinator, with something in flight in the storage.
    Coordinator,
}

/// What may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The subtasks of the attempt are about to be built. From here on each of them is waited for.
    Deployed {
        /// The attempt: the one that [`Supervisor::attempt`] names.
        attempt: Attempt,
        /// All its subtasks.
        subtasks: Vec<SubtaskId>,
    },
    /// Something of the attempt failed. A subtask that failed is gone only when
    /// [`SubtaskEnded`](Event::SubtaskEnded) says so.
    Failed {
        /// The attempt.
        attempt: Attempt,
        /// What happened.
        failure: Failure,
        /// A random number: the jitter of the restart strategy is made of it.
        random: u64,
    },
    /// A subtask is gone: nothing that it began is under way any more.
    SubtaskEnded {
        /// The attempt.
        attempt: Attempt,
        /// The subtask.
        subtask: SubtaskId,
    },
    /// The coordinator has nothing in flight and begins nothing.
    CoordinatorSuspended {
        /// The attempt.
        attempt: Attempt,
    },
    /// A user ends the job now.
    Cancel,
    /// The deadline that the machine named has passed.
    Deadline,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Cancel all subtasks of the attempt and suspend the coordinator.
    EndAttempt {
        /// The attempt.
        attempt: Attempt,
    },
    /// Restore the newest complete checkpoint and deploy this attempt.
    Restart {
        /// The new attempt.
        attempt: Attempt,
    },
    /// The job is cancelled: nothing of it is left.
    JobCancelled,
    /// The job has failed for good.
    FailJob {
        /// The failures of the last attempt in the order in which they came: the original one first. Empty only if a
        /// user cancelled and something did not end.
        failures: Vec<Failure>,
        /// What is still there, because it did not end in time.
        stragglers: Vec<Straggler>,
    },
}

/// The supervisor of one job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Supervisor {
    backoff: Backoff,
    cancellation_timeout: Duration,
    attempt: Attempt,
    restarts: u32,
    phase: Phase,
    misuse: Option<Violation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// The attempt was asked for and is not deployed.
    Deploying,
    /// It is deployed; these subtasks are there.
    Running(BTreeSet<SubtaskId>),
    /// It ends.
    Ending(Ending),
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ending {
    goal: Goal,
    /// The subtasks that are still there.
    subtasks: BTreeSet<SubtaskId>,
    /// Whether the coordinator still has something in flight.
    coordinator: bool,
    /// When the patience with what is still there ends.
    patience: Moment,
    failures: Vec<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Goal {
    Restart { at: Moment },
    Fail,
    Cancel,
}

impl Ending {
    fn is_gone(&self) -> bool {
        self.subtasks.is_empty() && !self.coordinator
    }
}

impl Supervisor {
    /// A supervisor that waits for the deployment of attempt 1. What does not end within `cancellation_timeout`
    /// (180 s, if nothing else is wanted) after it was told to fails the job.
    #[must_use]
    pub fn new(strategy: RestartStrategy, cancellation_timeout: Duration) -> Supervisor {
        Supervisor {
            backoff: Backoff::new(strategy),
            cancellation_timeout,
            attempt: Attempt(1),
            restarts: 0,
            phase: Phase::Deploying,
            misuse: None,
        }
    }

    /// The current attempt: deployed, to be deployed, or ending.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// How often the job was restarted.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When the next attempt may begin, if one is planned. It begins later if the old one is not gone by then.
    #[must_use]
    pub fn restart_at(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Ending(Ending { goal: Goal::Restart { at }, .. }) => Some(*at),
            Phase::Ending(_) | Phase::Deploying | Phase::Running(_) | Phase::Over => None,
        }
    }

    /// Whether the attempt is ending because a user cancelled the job.
    #[must_use]
    pub fn is_cancelling(&self) -> bool {
        match &self.phase {
            Phase::Ending(ending) => ending.goal == Goal::Cancel,
            Phase::Deploying | Phase::Running(_) | Phase::Over => false,
        }
    }

    /// What the strategy says to one more failure.
    fn decide(&mut self, now: Moment, severity: Severity, random: u64) -> Goal {
        match severity {
            Severity::Unrecoverable => Goal::Fail,
            Severity::Retryable => match self.backoff.failed(now, random) {
                Verdict::Restart { at } => Goal::Restart { at },
                Verdict::Fail => Goal::Fail,
            },
        }
    }

    fn deployed(&mut self, attempt: Attempt, subtasks: Vec<SubtaskId>) {
        let in_turn = self.phase == Phase::Deploying && attempt == self.attempt;
        let detail = || format!("attempt {attempt} was deployed, attempt {} is current", self.attempt);
        match ONE_ATTEMPT.require(in_turn, detail) {
            Ok(()) => self.phase = Phase::Running(subtasks.into_iter().collect()),
            Err(violation) => self.misuse = Some(violation),
        }
    }

    fn failed(&mut self, now: Moment, failure: Failure, random: u64, effects: &mut Vec<Effect>) {
        if let Phase::Ending(ending) = &mut self.phase {
            // It follows from the end of the attempt, or at least changes nothing about it, unless no attempt helps.
            if failure.severity == Severity::Unrecoverable && matches!(ending.goal, Goal::Restart { .. }) {
                ending.goal = Goal::Fail;
            }
            if ending.failures.len() <= KEPT_FAILURES {
                ending.failures.push(failure);
            }
            return;
        }
        let goal = self.decide(now, failure.severity, random);
        self.end_attempt(now, goal, vec![failure], effects);
    }

    /// Ends what runs; an attempt that is ending already gets another goal at most.
    fn end_attempt(&mut self, now: Moment, goal: Goal, failures: Vec<Failure>, effects: &mut Vec<Effect>) {
        let patience = now + self.cancellation_timeout;
        let (subtasks, coordinator) = match std::mem::replace(&mut self.phase, Phase::Over) {
            // No subtask was built and the coordinator was not started.
            Phase::Deploying => (BTreeSet::new(), false),
            Phase::Running(subtasks) => {
                effects.push(Effect::EndAttempt { attempt: self.attempt });
                (subtasks, true)
            }
            Phase::Ending(ending) => {
                // A job that fails for good is not made a cancelled one.
                let goal = if ending.goal == Goal::Fail { Goal::Fail } else { goal };
                self.phase = Phase::Ending(Ending { goal, ..ending });
                return;
            }
            Phase::Over => return,
        };
        self.phase = Phase::Ending(Ending { goal, subtasks, coordinator, patience, failures });
    }

    /// Goes on when nothing of the old attempt is left, or patience ends.
    fn proceed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Phase::Ending(ending) = &mut self.phase else { return };
        if !ending.is_gone() {
            if ending.patience <= now {
                let subtasks = ending.subtasks.iter().map(|subtask| Straggler::Subtask(*subtask));
                let stragglers = subtasks.chain(ending.coordinator.then_some(Straggler::Coordinator)).collect();
                let failures = std::mem::take(&mut ending.failures);
                self.phase = Phase::Over;
                effects.push(Effect::FailJob { failures, stragglers });
            }
            return;
        }
        match ending.goal {
            Goal::Restart { at } => {
                if at <= now {
                    self.restarts += 1;
                    self.attempt = Attempt(self.attempt.0 + 1);
                    self.phase = Phase::Deploying;
                    effects.push(Effect::Restart { attempt: self.attempt });
                }
            }
            Goal::Fail => {
                let failures = std::mem::take(&mut ending.failures);
                self.phase = Phase::Over;
                effects.push(Effect::FailJob { failures, stragglers: Vec::new() });
            }
            Goal::Cancel => {
                self.phase = Phase::Over;
                effects.push(Effect::JobCancelled);
            }
        }
    }
}

impl Machine for Supervisor {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Deployed { attempt, subtasks } => self.deployed(attempt, subtasks),
            Event::Failed { attempt, failure, random } => {
                if attempt == self.attempt && self.phase != Phase::Over {
                    self.failed(now, failure, random, effects);
                }
            }
            Event::SubtaskEnded { attempt, subtask } => match &mut self.phase {
                _ if attempt != self.attempt => {}
                Phase::Running(subtasks) | Phase::Ending(Ending { subtasks, .. }) => {
                    subtasks.remove(&subtask);
                }
                Phase::Deploying | Phase::Over => {}
            },
            Event::CoordinatorSuspended { attempt } => match &mut self.phase {
                Phase::Ending(ending) if attempt == self.attempt => ending.coordinator = false,
                Phase::Ending(_) | Phase::Deploying | Phase::Running(_) | Phase::Over => {}
            },
            Event::Cancel => self.end_attempt(now, Goal::Cancel, Vec::new(), effects),
            Event::Deadline => {}
        }
        self.proceed(now, effects);
    }

    fn next_deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Ending(ending) => match ending.goal {
                Goal::Restart { at } if ending.is_gone() => Some(at),
                Goal::Restart { .. } | Goal::Fail | Goal::Cancel => Some(ending.patience),
            },
            Phase::Deploying | Phase::Running(_) | Phase::Over => None,
        }
    }

    fn check(&self) -> Result<(), Violation> {
        if let Some(misuse) = &self.misuse {
            return Err(misuse.clone());
        }
        let caused = match &self.phase {
            Phase::Ending(ending) => ending.goal == Goal::Cancel || !ending.failures.is_empty(),
            Phase::Deploying | Phase::Running(_) | Phase::Over => true,
        };
        FAILURE_HAS_A_CAUSE.require(caused, || format!("attempt {}", self.attempt))
    }
}
