//! The driver of the supervisor: the life of a job from recovery to its end, over all attempts in this process.
//!
//! ```text
//! recover -> run record -> sinks (commit what was prepared, clean up) -> restore all subtasks -> start
//!    ^                                                                                            |
//!    +--- delay <- restart strategy <- settle the coordinator <- end every subtask <--- failure --+
//! ```
//!
//! A restore begins only after every subtask, every sink and every piece of blocking work of the old attempt has ended (rule 22).

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::drive::attempt::WorkCount;
use crate::drive::cleanup::CleanupDriver;
use crate::drive::control::{Control, Reply, Resume};
use crate::drive::coordinator::{CoordinatorDriver, CoordinatorSetup};
use crate::drive::deploy::Deployment;
use crate::drive::recovery::{self, Recovered};
use crate::ids::{Attempt, CheckpointId, SubtaskId};
use crate::plan::Plan;
use crate::ports::blocking::{Lane, Promise};
use crate::ports::fence::FenceSource;
use crate::ports::files::Files;
use crate::ports::host::{Address, Driver, DriverFactory, Host, Placement, Role, Step};
use crate::ports::listener::{JobEvent, Listener};
use crate::ports::sink::PreparedCheckpoint;
use crate::ports::store::{CheckpointKind, CheckpointStore, Manifest, OperatorSnapshot};
use crate::ports::task::Failure;
use crate::protocol::align::CheckpointMode;
use crate::protocol::cleanup::{ExternalizedCheckpointRetention, Leaves};
use crate::protocol::coordinator::Settings;
use crate::protocol::lifecycle::{IllegalTransition, Job, JobState, SubtaskState};
use crate::protocol::machine::Machine;
use crate::protocol::supervise::{Effect, Event, RestartStrategy, Straggler, Supervisor};

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
    /// What they promise.
    pub checkpoint_mode: CheckpointMode,
    /// How long a busy subtask may hold back a batch that is not full.
    pub buffer_timeout: Duration,
    /// What to do after a failure.
    pub restart: RestartStrategy,
    /// Where checkpoints go.
    pub store: Arc<dyn CheckpointStore>,
    /// Files for sources and sinks.
    pub files: Arc<dyn Files>,
    /// Who watches.
    pub listener: Arc<dyn Listener>,
    /// Which completed checkpoints are left when the job ends.
    pub retention: ExternalizedCheckpointRetention,
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
    /// It stayed unknown whether a checkpoint was stored: nothing is touched any more.
    unsettled: bool,
    /// All subtasks of some attempt ran.
    has_run: bool,
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
    /// Removing the checkpoints that are not to be left.
    CleaningUp(Box<CleanupDriver>),
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
            unsettled: false,
            has_run: false,
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

    /// Asks the store where to begin, and writes the run record before anything else of the run (rule 7).
    fn recover(&mut self, attempt: Attempt) {
        self.attempt = attempt;
        let subtasks: Vec<SubtaskId> = self.setup.plan.subtasks().collect();
        let restores = self.job.restore(attempt, subtasks.iter().copied());
        self.report(restores);
        self.setup.listener.event(JobEvent::State(JobState::Restoring));
        self.handle(Event::Deployed { attempt, subtasks });
        let fence = self.fences.advance();
        let stopped = self.closed == Some(CheckpointKind::Stopping);
        let (setup, started) = (self.setup.clone(), self.host.wall());
        let work = move || recovery::recover(&setup, fence, started, stopped);
        let promise = Promise::start(self.host.blocking().as_ref(), Lane::Metadata, work);
        self.phase = Phase::Recovering(promise);
    }

    /// The store answered: open the sinks, which commit what the checkpoint had prepared.
    fn recovered(&mut self, recovered: Recovered) {
        let Recovered { manifest, run, retained, sinks, fence } = recovered;
        let number = run.as_ref().map(|run| run.run).or(manifest.as_ref().map(|manifest| manifest.run));
        let seed = run.as_ref().map(|run| run.hash_seed).or(manifest.as_ref().map(|manifest| manifest.hash_seed));
        let deployment = Deployment {
            plan: Arc::clone(&self.setup.plan),
            attempt: self.attempt,
            mode: self.setup.checkpoint_mode,
            buffer_timeout: self.setup.buffer_timeout,
            run: number.expect("a run without a record has a manifest"),
            hash_seed: seed.expect("a run without a record has a manifest"),
            restored: manifest.clone(),
            store: Arc::clone(&self.setup.store),
            files: Arc::clone(&self.setup.files),
            fence: fence.clone(),
            work: Arc::new(WorkCount::default()),
        };
        if let Some(run) = &run {
            let restored = manifest.as_ref().map(|manifest| manifest.checkpoint);
            self.setup.listener.event(JobEvent::RunBegan { run: run.run, restored });
        }
        let resume =
            run.map(|run| Box::new(Resume { attempt: self.attempt, run, restored: manifest, retained, fence }));
        deployment.spawn_sinks(self.host.as_ref(), sinks);
        self.sinks = (0..self.setup.plan.sinks.len() as u32).collect();
        self.phase = Phase::OpeningSinks { waiting: self.sinks.clone(), resume };
        self.deployment = Some(deployment);
        self.sinks_progressed();
    }

    /// When every sink is ready: deploy the subtasks, or end if the restored checkpoint was the final one.
    fn sinks_progressed(&mut self) {
        let Phase::OpeningSinks { waiting, resume } = &mut self.phase else { return };
        if !waiting.is_empty() {
            return;
        }
        let Some(resume) = resume.take() else {
            // The job had finished, or was stopped; what was left to commit is committed now.
            let stopped = self.closed == Some(CheckpointKind::Stopping);
            self.ending = Some(if stopped { Ending::Stopped } else { Ending::Finished });
            self.subtasks_never_started();
            self.end_sinks();
            return;
        };
        self.host.send(Address::Coordinator, Control::Resume(resume));
        self.subtasks = self.setup.plan.subtasks().collect();
        for subtask in self.subtasks.clone() {
            self.subtask_becomes(subtask, SubtaskState::Restoring);
        }
        self.phase = Phase::Restoring { waiting: self.subtasks.clone() };
        let deployment = self.deployment.as_ref().expect("sinks belong to a deployment");
        deployment.spawn_subtasks(self.host.as_ref());
    }

    fn on_message(&mut self, message: Control) -> Result<(), Failure> {
        let message = match &mut self.phase {
            Phase::CleaningUp(cleanup) => match cleanup.on_message(self.host.as_ref(), message) {
                Some(message) => message,
                None => return Ok(()),
            },
            _ => message,
        };
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
            Control::Suspended { closed, unsettled } => {
                self.unsettled |= unsettled;
                self.closed = closed.or(self.closed);
                self.settled();
            }
            Control::Stop(reply) => {
                self.stops.push(reply);
                self.try_stop();
            }
            Control::CancelJob => {
                if !matches!(self.phase, Phase::Over | Phase::CleaningUp(_) | Phase::ShuttingDown) {
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

    fn restored(&mut self, subtask: SubtaskId) {
        let Phase::Restoring { waiting } = &mut self.phase else { return };
        let known = waiting.remove(&subtask);
        let all = waiting.is_empty();
        if known {
            self.subtask_becomes(subtask, SubtaskState::Restored);
        }
        if !all {
            return;
        }
        self.phase = Phase::Running;
        self.has_run = true;
        self.enter(JobState::Running);
        // Before a subtask can begin: whoever has seen a record and asks for a checkpoint then finds the coordinator at work.
        self.host.send(Address::Coordinator, Control::Running { attempt: self.attempt });
        for subtask in &self.subtasks {
            self.host.send(Address::Subtask(*subtask, self.attempt), Control::Start);
        }
        self.try_stop();
    }

    fn try_stop(&mut self) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        for reply in std::mem::take(&mut self.stops) {
            self.enter(JobState::Stopping);
            self.host.send(Address::Coordinator, Control::TakeStoppingCheckpoint(reply));
        }
    }

    /// All subtasks ended after a checkpoint that closes the job.
    fn ended_by_itself(&mut self) -> Result<(), Failure> {
        self.ending = match self.closed {
            Some(CheckpointKind::Final) => Some(Ending::Finished),
            Some(CheckpointKind::Stopping) => Some(Ending::Stopped),
            Some(CheckpointKind::Periodic | CheckpointKind::Manual) | None => {
                return Err(Failure::unrecoverable(
                    "supervisor",
                    "all subtasks ended without a checkpoint that ends the job",
                ));
            }
        };
        self.end_sinks();
        Ok(())
    }

    fn end_sinks(&mut self) {
        for sink in &self.sinks {
            self.host.send(Address::Sink(*sink, self.attempt), Control::Cancel);
        }
        self.phase = Phase::EndingSinks;
    }

    /// Something failed. The first failure of an attempt decides, later ones are its consequences: the machine sorts that out.
    fn fail(&mut self, failure: Failure) {
        self.setup.listener.event(JobEvent::Failed(failure.clone()));
        tracing::warn!(%failure, "the attempt failed");
        if matches!(self.phase, Phase::Over | Phase::CleaningUp(_) | Phase::ShuttingDown) {
            return;
        }
        self.handle(Event::Failed { attempt: self.attempt, failure });
        self.show_why_it_ends();
    }

    /// The job's state while an attempt is ending.
    fn show_why_it_ends(&mut self) {
        if !matches!(self.phase, Phase::Cancelling | Phase::Settling | Phase::Waiting) {
            return;
        }
        if let Some(at) = self.machine.restart_at() {
            self.enter(JobState::Restarting);
            self.setup.listener.event(JobEvent::Restarting { delay: at.since(self.host.now()) });
        } else if self.machine.is_cancelling() {
            self.enter(JobState::Cancelling);
        } else {
            self.enter(JobState::Failing);
        }
    }

    /// Ends everything of the attempt. From here on no effect of it begins.
    fn end_attempt(&mut self) {
        self.ending = None;
        let _ = self.fences.advance();
        self.phase = Phase::Cancelling;
        self.subtasks_never_started();
        for subtask in self.subtasks.clone() {
            self.subtask_becomes(subtask, SubtaskState::Cancelling);
            self.host.send(Address::Subtask(subtask, self.attempt), Control::Cancel);
        }
        for sink in &self.sinks {
            self.host.send(Address::Sink(*sink, self.attempt), Control::Cancel);
        }
    }

    /// Subtasks of the attempt that were never started count as ended.
    fn subtasks_never_started(&mut self) {
        let created: Vec<SubtaskId> = self
            .job
            .subtasks()
            .filter(|(_, state)| *state == SubtaskState::Created)
            .map(|(subtask, _)| subtask)
            .collect();
        for subtask in created {
            self.subtask_becomes(subtask, SubtaskState::Cancelling);
            self.subtask_ended(subtask);
        }
    }

    fn subtask_ended(&mut self, subtask: SubtaskId) {
        self.subtasks.remove(&subtask);
        let ends_too_early = matches!(
            self.job.subtask(subtask),
            Some(SubtaskState::Created | SubtaskState::Restoring | SubtaskState::Restored)
        );
        // A subtask that could not be built or restored: its failure came before.
        self.subtask_becomes(subtask, if ends_too_early { SubtaskState::Failed } else { SubtaskState::Ended });
        self.handle(Event::SubtaskEnded { attempt: self.attempt, subtask });
    }

    /// An actor is gone without having said that it ends.
    fn driver_gone(&mut self, address: Address, failure: impl FnOnce(&str) -> Failure) {
        match address {
            Address::Coordinator => {
                self.coordinator_gone = true;
                self.fail(failure("coordinator"));
                // Nobody is left who could answer.
                self.settled();
            }
            Address::Subtask(subtask, attempt) if attempt == self.attempt => {
                self.fail(failure(&self.setup.plan.node(subtask.node).name.clone()));
                self.subtask_ended(subtask);
            }
            Address::Sink(sink, attempt) if attempt == self.attempt => {
                self.sinks.remove(&sink);
                self.fail(failure(self.setup.plan.sinks[sink as usize].uid.clone().as_str()));
            }
            Address::Subtask(..) | Address::Sink(..) | Address::Supervisor => {}
        }
    }

    /// The coordinator has settled everything.
    fn settled(&mut self) {
        match self.phase {
            Phase::Settling => {
                self.phase = Phase::Waiting;
                self.handle(Event::CoordinatorSuspended { attempt: self.attempt });
            }
            Phase::ShuttingDown => self.clean_up(),
            Phase::Recovering(_)
            | Phase::OpeningSinks { .. }
            | Phase::Restoring { .. }
            | Phase::Running
            | Phase::EndingSinks
            | Phase::Cancelling
            | Phase::Waiting
            | Phase::CleaningUp(_)
            | Phase::Over => {}
        }
    }

    /// The job fails: no restart helps, or is allowed, or something of the old attempt does not end (rule 22: two attempts must never run).
    fn failed_for_good(&mut self, failures: &[Failure], stragglers: &[Straggler]) {
        self.enter(JobState::Failing);
        if stragglers.is_empty() {
            self.shut_down(Ending::Failed);
            return;
        }
        let mut stuck: Vec<String> = self
            .subtasks
            .iter()
            .map(|subtask| format!("{}[{}]", self.setup.plan.node(subtask.node).name, subtask.index))
            .collect();
        stuck.extend(self.sinks.iter().map(|sink| self.setup.plan.sinks[*sink as usize].uid.as_str().to_owned()));
        let stuck = if stuck.is_empty() { "blocking work of a connector".to_owned() } else { stuck.join(", ") };
        let first =
            failures.first().map(|failure| format!("; it was told to because of: {failure}")).unwrap_or_default();
        let message = format!(
            "still inside a call {} s after it was told to end; the job cannot be restarted beside it{first}",
            self.setup.cancellation_timeout.as_secs()
        );
        self.setup.listener.event(JobEvent::Failed(Failure::unrecoverable(stuck, message)));
        if self.setup.retention.leaves(JobState::Failed) == Leaves::Nothing {
            self.leave_all("something of the job has not ended");
        }
        self.ending = Some(Ending::Failed);
        self.over();
    }

    fn shut_down(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.phase = Phase::ShuttingDown;
        if self.coordinator_gone {
            self.clean_up();
        } else {
            self.host.send(Address::Coordinator, Control::Shutdown);
        }
    }

    /// Removes the checkpoints that are not to be left (rule 24).
    fn clean_up(&mut self) {
        let end = self.final_state();
        let leaves = match self.setup.retention.leaves(end) {
            Leaves::Nothing if self.unsettled => self.leave_all("it is unknown whether a checkpoint was stored"),
            // Perhaps it is the wrong job, the wrong store or the wrong input that could not be started.
            Leaves::Nothing if end == JobState::Failed && !self.has_run => {
                self.leave_all("the job failed before it ran")
            }
            leaves => leaves,
        };
        let fence = self.fences.advance();
        self.attempt = Attempt(self.attempt.0 + 1);
        let cleanup = CleanupDriver::begin(self.host.as_ref(), &self.setup, self.attempt, fence, leaves);
        self.phase = Phase::CleaningUp(Box::new(cleanup));
    }

    /// Nothing is deleted although the setting says so.
    fn leave_all(&self, reason: &str) -> Leaves {
        tracing::warn!(reason, "checkpoints that were to be deleted are left");
        self.setup.listener.event(JobEvent::CheckpointsLeft { reason: reason.to_owned() });
        Leaves::Everything
    }

    fn final_state(&self) -> JobState {
        match self.ending {
            Some(Ending::Finished) => JobState::Finished,
            Some(Ending::Stopped) => JobState::Stopped,
            Some(Ending::Cancelled) => JobState::Cancelled,
            Some(Ending::Failed) | None => JobState::Failed,
        }
    }

    fn over(&mut self) {
        self.phase = Phase::Over;
        self.enter(self.final_state());
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
                Phase::CleaningUp(cleanup) => match cleanup.poll(self.host.as_ref(), context) {
                    Poll::Pending => return Ok(Step::Wait),
                    Poll::Ready(left) => {
                        if let Some(reason) = left {
                            self.leave_all(&reason);
                        }
                        self.over();
                    }
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
