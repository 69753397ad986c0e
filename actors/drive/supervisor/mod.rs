//! The driver of the supervisor: the life of a job from recovery to its end, over all attempts in this process.
//!
//! ```text
//! recover -> run record -> sinks (commit what was prepared, clean up) -> restore all subtasks -> start
//!    ^                                                                                            |
//!    +--- delay <- restart strategy <- settle the coordinator <- end every subtask <--- failure --+
//! ```
//!
//! A restore begins only after every subtask, every sink and every piece of blocking work of the old attempt has ended (rule 22).

mod closing;
mod deploying;
mod failing;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::drive::control::{Control, Reply, Resume};
use crate::drive::coordinator::{CoordinatorDriver, CoordinatorSetup};
use crate::drive::deploy::Deployment;
use crate::drive::recovery::Recovered;
use crate::ids::{Attempt, CheckpointId, SubtaskId};
use crate::plan::Plan;
use crate::ports::blocking::Promise;
use crate::ports::fence::FenceSource;
use crate::ports::files::Files;
use crate::ports::host::{Address, Driver, DriverFactory, Host, Placement, Role, Step};
use crate::ports::listener::{JobEvent, Listener};
use crate::ports::sink::PreparedCheckpoint;
use crate::ports::store::{CheckpointKind, CheckpointStore, Manifest, OperatorSnapshot};
use crate::ports::task::Failure;
use crate::protocol::coordinator::Settings;
use crate::protocol::lifecycle::{IllegalTransition, Job, JobState, SubtaskState};
use crate::protocol::machine::Machine;
use crate::protocol::supervise::{Effect, Event, RestartStrategy, Supervisor};

/// After this time without an end of a cancelled subtask the job fails for good: `task.cancellation.timeout` of Apache Flink.
pub const CANCELLATION_TIMEOUT: Duration = Duration::from_secs(180);

/// Reads the prepared transactions out of a sink's snapshot: the product knows the encoding.
pub type ReadPrepared = Arc<dyn Fn(&OperatorSnapshot) -> Result<Vec<PreparedCheckpoint>, Failure> + Send + Sync>;

/// Looks whether a checkpoint fits the plan, and says why not.
pub type CheckFit = Arc<dyn Fn(&Plan, &Manifest) -> Result<(), Failure> + Send + Sync>;

/// What a supervisor is built from.
#[derive(Clone)]
pub struct SupervisorSetup {
    /// The job.
    pub plan: Arc<Plan>,
    /// When and how often to take checkpoints.
    pub settings: Settings,
    /// What to do after a failure.
    pub restart: RestartStrategy,
    /// Where checkpoints go.
    pub store: Arc<dyn CheckpointStore>,
    /// Files for sources and sinks.
    pub files: Arc<dyn Files>,
    /// Who watches.
    pub listener: Arc<dyn Listener>,
    /// See [`ReadPrepared`].
    pub read_prepared: ReadPrepared,
    /// See [`CheckFit`].
    pub check_fit: CheckFit,
    /// How long a cancelled subtask may take to end; [`CANCELLATION_TIMEOUT`] as a rule.
    pub cancellation_timeout: Duration,
}

/// Drives the life of one job.
pub struct SupervisorDriver {
    host: Rc<dyn Host>,
    setup: SupervisorSetup,
    mailbox: VecDeque<Control>,
    machine: Supervisor,
    job: Job,
    phase: Phase,
    attempt: Attempt,
    fences: FenceSource,
    /// The subtasks that were started and have not ended.
    subtasks: BTreeSet<SubtaskId>,
    /// The sinks that were started and have not ended.
    sinks: BTreeSet<u32>,
    deployment: Option<Deployment>,
    closed: Option<CheckpointKind>,
    stops: Vec<Reply<CheckpointId>>,
    /// How the job ends when everything of it has ended.
    ending: Option<Ending>,
    coordinator_gone: bool,
}

enum Phase {
    /// The store is asked where to begin.
    Recovering(Promise<Result<Recovered, Failure>>),
    /// Sinks commit what the checkpoint had prepared.
    OpeningSinks { waiting: BTreeSet<u32>, resume: Option<Box<Resume>> },
    /// Subtasks read their state.
    Restoring { waiting: BTreeSet<SubtaskId> },
    /// Records flow.
    Running,
    /// Every subtask has ended by itself; the sinks are told to.
    EndingSinks,
    /// Something failed or the job was cancelled: subtasks, sinks and their blocking work are ending.
    Cancelling,
    /// The coordinator settles what is under way.
    Settling,
    /// Nothing of the old attempt is left; the machine says when the next one begins.
    Waiting,
    /// The coordinator ends; checkpoints that are not needed are removed.
    ShuttingDown,
    /// Removing the checkpoints that a finished job does not need.
    Tidying(Promise<()>),
    /// The end.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Finished,
    Stopped,
    Cancelled,
    Failed,
}

impl SupervisorDriver {
    /// Begins the job.
    #[must_use]
    pub fn new(host: Rc<dyn Host>, setup: SupervisorSetup) -> SupervisorDriver {
        let machine = Supervisor::new(setup.restart, setup.cancellation_timeout);
        let mut supervisor = SupervisorDriver {
            host,
            setup,
            mailbox: VecDeque::new(),
            attempt: machine.attempt(),
            machine,
            job: Job::new(),
            phase: Phase::Over,
            fences: FenceSource::new(),
            subtasks: BTreeSet::new(),
            sinks: BTreeSet::new(),
            deployment: None,
            closed: None,
            stops: Vec::new(),
            ending: None,
            coordinator_gone: false,
        };
        supervisor.spawn_coordinator();
        supervisor.recover(supervisor.attempt);
        supervisor
    }

    fn spawn_coordinator(&mut self) {
        self.coordinator_gone = false;
        let setup = CoordinatorSetup {
            plan: Arc::clone(&self.setup.plan),
            settings: self.setup.settings.clone(),
            store: Arc::clone(&self.setup.store),
            files: Arc::clone(&self.setup.files),
            listener: Arc::clone(&self.setup.listener),
        };
        let build =
            Box::new(move |host: Rc<dyn Host>| Box::new(CoordinatorDriver::new(host, setup)) as Box<dyn Driver>);
        let factory = DriverFactory { role: Role::Coordinator, build };
        self.host.spawn(Address::Coordinator, Placement::Coordination, factory);
    }

    fn enter(&mut self, state: JobState) {
        if self.job.state() == state {
            return;
        }
        let entered = self.job.become_state(state);
        self.report(entered);
        self.setup.listener.event(JobEvent::State(state));
    }

    fn subtask_becomes(&mut self, subtask: SubtaskId, state: SubtaskState) {
        let became = self.job.subtask_becomes(self.attempt, subtask, state);
        self.report(became);
    }

    /// An illegal step is a defect of the supervisor, never of a user: loud in tests, logged in production.
    fn report(&self, step: Result<(), IllegalTransition>) {
        if let Err(error) = step {
            debug_assert!(false, "{error}");
            tracing::error!(%error, "the supervisor took an illegal step");
        }
    }

    /// Hands an event to the machine and carries out what it asks for.
    fn handle(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.machine.handle(self.host.now(), event, &mut effects);
        debug_assert_eq!(self.machine.check(), Ok(()));
        for effect in effects {
            match effect {
                Effect::EndAttempt { attempt: _ } => self.end_attempt(),
                Effect::Restart { attempt } => {
                    if self.coordinator_gone {
                        self.spawn_coordinator();
                    }
                    self.recover(attempt);
                }
                Effect::JobCancelled => {
                    // While a restart is waited for there is nothing to end, and the job is over at once.
                    self.enter(JobState::Cancelling);
                    self.shut_down(Ending::Cancelled);
                }
                Effect::FailJob { failures, stragglers } => self.failed_for_good(&failures, &stragglers),
            }
        }
        if let Some(deadline) = self.machine.next_deadline() {
            self.host.wake_at(deadline);
        }
    }

    fn on_message(&mut self, message: Control) -> Result<(), Failure> {
        match message {
            Control::SinkReady { attempt, sink } if attempt == self.attempt => {
                if let Phase::OpeningSinks { waiting, .. } = &mut self.phase {
                    waiting.remove(&sink);
                    self.sinks_progressed();
                }
            }
            Control::Restored { attempt, subtask } if attempt == self.attempt => self.restored(subtask),
            Control::Ended { attempt, subtask } if attempt == self.attempt => {
                self.subtask_ended(subtask);
                if self.subtasks.is_empty() && matches!(self.phase, Phase::Running) {
                    self.ended_by_itself()?;
                }
            }
            Control::SinkEnded { attempt, sink } if attempt == self.attempt => {
                self.sinks.remove(&sink);
            }
            Control::Failed { attempt, failure } if attempt == self.attempt => self.fail(failure),
            Control::Closed { kind } => self.closed = Some(kind),
            Control::StopCalledOff => {
                if self.job.state() == JobState::Stopping {
                    self.enter(JobState::Running);
                }
            }
            Control::Suspended { closed } => {
                self.closed = closed.or(self.closed);
                self.settled();
            }
            Control::Stop(reply) => {
                self.stops.push(reply);
                self.try_stop();
            }
            Control::CancelJob => {
                if !matches!(self.phase, Phase::Over | Phase::Tidying(_) | Phase::ShuttingDown) {
                    self.handle(Event::Cancel);
                    self.show_why_it_ends();
                }
            }
            Control::DriverPanicked { address, text } => {
                self.driver_gone(address, |name| Failure::panic(name, &text));
            }
            Control::DriverLost { address } => self.driver_gone(address, Failure::arbiter_stopped),
            // Messages of an attempt that is over.
            Control::SinkReady { .. }
            | Control::Restored { .. }
            | Control::Ended { .. }
            | Control::SinkEnded { .. }
            | Control::Failed { .. } => {}
            other => tracing::error!(?other, "the supervisor got a message that is not for it"),
        }
        Ok(())
    }

    fn try_step(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        while let Some(message) = self.mailbox.pop_front() {
            self.on_message(message)?;
        }
        loop {
            match &mut self.phase {
                Phase::Recovering(promise) => match promise.poll(context) {
                    Poll::Pending => return Ok(Step::Wait),
                    Poll::Ready(Ok(Ok(recovered))) => self.recovered(recovered),
                    Poll::Ready(Ok(Err(failure))) => return Err(failure),
                    Poll::Ready(Err(panic)) => return Err(Failure::panic("checkpoint store", &panic.0)),
                },
                Phase::EndingSinks if self.sinks.is_empty() => {
                    let ending = self.ending.unwrap_or(Ending::Failed);
                    self.shut_down(ending);
                }
                Phase::Cancelling => {
                    let idle = self.deployment.as_ref().is_none_or(|deployment| deployment.work.poll_idle(context));
                    if self.subtasks.is_empty() && self.sinks.is_empty() && idle {
                        drop(self.deployment.take());
                        self.phase = Phase::Settling;
                        if self.coordinator_gone {
                            self.settled();
                        } else {
                            self.host.send(Address::Coordinator, Control::Suspend);
                        }
                    } else if !self.deadline_passed() {
                        return Ok(Step::Wait);
                    }
                }
                Phase::Settling | Phase::Waiting => {
                    if !self.deadline_passed() {
                        return Ok(Step::Wait);
                    }
                }
                Phase::Tidying(promise) => match promise.poll(context) {
                    Poll::Pending => return Ok(Step::Wait),
                    Poll::Ready(_) => self.over(),
                },
                Phase::Over => return Ok(Step::Finished),
                Phase::OpeningSinks { .. }
                | Phase::Restoring { .. }
                | Phase::Running
                | Phase::EndingSinks
                | Phase::ShuttingDown => return Ok(Step::Wait),
            }
        }
    }

    /// Tells the machine that its deadline has passed, if it has. True when that was so.
    fn deadline_passed(&mut self) -> bool {
        let passed = self.machine.next_deadline().is_some_and(|deadline| deadline <= self.host.now());
        if passed {
            self.handle(Event::Deadline);
        }
        passed
    }
}

impl Driver for SupervisorDriver {
    fn receive(&mut self, message: Control) {
        self.mailbox.push_back(message);
    }

    fn step(&mut self, context: &mut Context<'_>) -> Step {
        loop {
            match self.try_step(context) {
                Ok(step) => return step,
                Err(failure) => self.fail(failure),
            }
        }
    }
}
