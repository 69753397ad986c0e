//! The driver of the supervisor: the life of a job from recovery to its end, over all attempts in this process.
//!
//! ```text
//! recover -> run record -> sinks (commit what was prepared, clean up) -> restore all subtasks -> start
//!    ^                                                                                            |
//!    +--- delay <- restart strategy <- settle the coordinator <- end every subtask <--- failure --+
//! ```
//!
//! A restore begins only after every subtask, every sink and every piece of blocking work of the old attempt has ended (rule 22). What fails and goes
//! back is a region, a connected part of the plan; the others run on meanwhile, also while the coordinator is suspended.

mod closing;
mod deploying;
mod failing;
mod panicking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::drive::attempt::WorkCount;
use crate::drive::cleanup::CleanupDriver;
use crate::drive::control::{Control, Reply, Resume};
use crate::drive::coordinator::{CoordinatorDriver, CoordinatorSetup};
use crate::drive::deploy::Deployment;
use crate::drive::local_first::LocalFirst;
use crate::drive::overview::Overview;
use crate::drive::pointed_store::PointedStore;
use crate::drive::recovery::{Recovered, Trouble};
use crate::ids::{Attempt, CheckpointId, Moment, RegionId, SubtaskId};
use crate::plan::Plan;
use crate::ports::blocking::Promise;
use crate::ports::fence::{Fence, FenceSource};
use crate::ports::files::Files;
use crate::ports::host::{Address, Driver, DriverFactory, Host, Placement, Role, Step};
use crate::ports::listener::{JobEvent, Listener};
use crate::ports::local::LocalCopies;
use crate::ports::sink::PreparedCheckpoint;
use crate::ports::store::{CheckpointKind, CheckpointStore, Manifest, OperatorSnapshot};
use crate::ports::task::Failure;
use crate::protocol::align::CheckpointMode;
use crate::protocol::cleanup::ExternalizedCheckpointRetention;
use crate::protocol::coordinator::Settings;
use crate::protocol::lifecycle::{IllegalTransition, Job, JobState, SubtaskState};
use crate::protocol::machine::Machine;
use crate::protocol::supervise::{Effect, Event, FailoverStrategy, Part, Regions, RestartStrategy, Scope, Supervisor};

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
    /// How often to restart after failures.
    pub restart: RestartStrategy,
    /// What to restart.
    pub failover: FailoverStrategy,
    /// Where checkpoints go.
    pub store: Arc<dyn CheckpointStore>,
    /// Where blobs are copied to for restores in this process, if they are.
    pub local: Option<Arc<dyn LocalCopies>>,
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
    /// Where it can be seen from outside how far the job's subtasks are.
    pub overview: Arc<Overview>,
}

/// Drives the life of one job.
pub struct SupervisorDriver {
    host: Rc<dyn Host>,
    setup: SupervisorSetup,
    mailbox: VecDeque<Control>,
    regions: Regions,
    machine: Supervisor,
    /// Events that came while the effects of another were carried out.
    events: VecDeque<Event>,
    handling: bool,
    job: Job,
    phase: Phase,
    /// The fences of the job: of what the coordinator and the supervisor do. They end with the whole job only.
    fences: FenceSource,
    fence: Fence,
    rights: BTreeMap<RegionId, Rights>,
    deployments: BTreeMap<RegionId, Deployment>,
    /// The subtasks that were started and have not ended.
    subtasks: BTreeSet<SubtaskId>,
    /// The sinks that were started and have not ended.
    sinks: BTreeSet<u32>,
    closed: Option<CheckpointKind>,
    /// The newest complete checkpoint at the coordinator's last suspension: what runs on has gone on from there.
    last_completed: Option<CheckpointId>,
    stops: Vec<Reply<CheckpointId>>,
    /// How the job ends when everything of it has ended.
    ending: Option<Ending>,
    /// The restart that was told of last.
    announced: Option<Announced>,
    coordinator_gone: bool,
    /// It stayed unknown whether a checkpoint was stored: nothing is touched any more.
    unsettled: bool,
    /// All subtasks of some attempt ran.
    has_run: bool,
    /// The subtasks and sinks that were spawned and have not ended. Kept apart from everything that decides: it is what a supervisor that panicked goes by.
    roster: BTreeSet<Address>,
    /// A user has cancelled the job.
    cancelled: bool,
}

/// The right of one region to act outside, and what it has under way.
struct Rights {
    fences: FenceSource,
    fence: Fence,
    work: Arc<WorkCount>,
}

#[derive(Clone, Debug, PartialEq)]
struct Announced {
    at: Moment,
    regions: BTreeSet<RegionId>,
}

enum Phase {
    /// The store is asked where to begin.
    Recovering { promise: Promise<Result<Recovered, Trouble>>, attempt: Attempt, regions: BTreeSet<RegionId> },
    /// Sinks commit what the checkpoint had prepared.
    OpeningSinks { waiting: BTreeSet<u32>, resume: Option<Box<Resume>>, attempt: Attempt, regions: BTreeSet<RegionId> },
    /// Subtasks read their state.
    Restoring { waiting: BTreeSet<SubtaskId>, attempt: Attempt, regions: BTreeSet<RegionId> },
    /// Records flow, in all regions.
    Running,
    /// Every subtask has ended by itself; the sinks are told to.
    EndingSinks,
    /// Something failed or the job was cancelled: what it concerns is ending, and the machine says how it goes on.
    Ending,
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
    pub fn new(host: Rc<dyn Host>, mut setup: SupervisorSetup) -> SupervisorDriver {
        let store = PointedStore::around(setup.store, &host.points());
        setup.store = LocalFirst::around(store, setup.local.take(), host.points());
        let regions = Regions::of_plan(&setup.plan);
        let machine = Supervisor::new(regions.clone(), setup.failover, setup.restart, setup.cancellation_timeout);
        let fences = FenceSource::new();
        let fence = fences.advance();
        let attempt = machine.attempt();
        let mut supervisor = SupervisorDriver {
            host,
            setup,
            mailbox: VecDeque::new(),
            regions,
            machine,
            events: VecDeque::new(),
            handling: false,
            job: Job::new(),
            phase: Phase::Over,
            fences,
            fence,
            rights: BTreeMap::new(),
            deployments: BTreeMap::new(),
            subtasks: BTreeSet::new(),
            sinks: BTreeSet::new(),
            closed: None,
            last_completed: None,
            stops: Vec::new(),
            ending: None,
            announced: None,
            coordinator_gone: false,
            unsettled: false,
            has_run: false,
            roster: BTreeSet::new(),
            cancelled: false,
        };
        supervisor.spawn_coordinator();
        let all = supervisor.regions.all();
        supervisor.recover(attempt, all);
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
            overview: Arc::clone(&self.setup.overview),
        };
        let build =
            Box::new(move |host: Rc<dyn Host>| Box::new(CoordinatorDriver::new(host, setup)) as Box<dyn Driver>);
        let factory = DriverFactory { role: Role::Coordinator, build };
        self.host.spawn(Address::Coordinator, Placement::Coordination, factory);
    }

    fn subtasks_of(&self, regions: &BTreeSet<RegionId>) -> impl Iterator<Item = SubtaskId> + use<> {
        let of: Vec<SubtaskId> = self
            .setup
            .plan
            .subtasks()
            .filter(|subtask| regions.contains(&self.regions.of_node(subtask.node)))
            .collect();
        of.into_iter()
    }

    fn sinks_of(&self, regions: &BTreeSet<RegionId>) -> impl Iterator<Item = u32> + use<> {
        let sinks = 0..self.setup.plan.sinks.len() as u32;
        let of: Vec<u32> = sinks.filter(|sink| regions.contains(&self.region_of_sink(*sink))).collect();
        of.into_iter()
    }

    fn region_of_sink(&self, sink: u32) -> RegionId {
        self.regions.of_node(self.setup.plan.sinks[sink as usize].node)
    }

    fn attempt_of(&self, subtask: SubtaskId) -> Attempt {
        self.machine.attempt_of(self.regions.of_node(subtask.node))
    }

    fn attempt_of_sink(&self, sink: u32) -> Attempt {
        self.machine.attempt_of(self.region_of_sink(sink))
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
        let became = self.job.subtask_becomes(self.attempt_of(subtask), subtask, state);
        self.report(became);
    }

    /// An illegal step is a defect of the supervisor, never of a user: loud in tests, logged in production.
    fn report(&self, step: Result<(), IllegalTransition>) {
        if let Err(error) = step {
            debug_assert!(false, "{error}");
            tracing::error!(%error, "the supervisor took an illegal step");
        }
    }

    /// Hands an event to the machine and carries out what it asks for. One that comes while effects are carried out waits for the last of them.
    fn handle(&mut self, event: Event) {
        self.events.push_back(event);
        if self.handling {
            return;
        }
        self.handling = true;
        while let Some(event) = self.events.pop_front() {
            let mut effects = Vec::new();
            self.machine.handle(self.host.now(), event, &mut effects);
            debug_assert_eq!(self.machine.check(), Ok(()));
            for effect in effects {
                self.carry_out(effect);
            }
        }
        self.handling = false;
        if let Some(deadline) = self.machine.next_deadline() {
            self.host.wake_at(deadline);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::End { regions } => self.end_regions(&regions),
            Effect::Suspend { suspension, regions } => {
                if self.coordinator_gone {
                    // Nobody is left who could answer, and nobody who has anything in flight.
                    self.handle(Event::CoordinatorSuspended { suspension, closed: self.closed.is_some() });
                } else {
                    self.host.send(Address::Coordinator, Control::Suspend { suspension, regions });
                }
            }
            Effect::Restart { attempt, regions } => {
                if self.coordinator_gone {
                    self.spawn_coordinator();
                }
                self.recover(attempt, regions);
            }
            Effect::JobCancelled => {
                // While a restart is waited for there is nothing to end, and the job is over at once.
                self.enter(JobState::Cancelling);
                self.shut_down(Ending::Cancelled);
            }
            Effect::FailJob { failures, stragglers } => self.failed_for_good(&failures, &stragglers),
        }
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
            Control::SinkReady { attempt, sink } if attempt == self.attempt_of_sink(sink) => {
                if let Phase::OpeningSinks { waiting, .. } = &mut self.phase {
                    waiting.remove(&sink);
                    self.sinks_progressed();
                }
            }
            Control::Restored { attempt, subtask } if attempt == self.attempt_of(subtask) => self.restored(subtask),
            Control::Ended { attempt, subtask } if attempt == self.attempt_of(subtask) => {
                self.subtask_ended(subtask);
                if self.subtasks.is_empty() && matches!(self.phase, Phase::Running) {
                    self.ended_by_itself()?;
                }
            }
            Control::SinkEnded { attempt, sink } if attempt == self.attempt_of_sink(sink) => self.sink_ended(sink),
            // Whether the attempt is over the machine knows.
            Control::Failed { attempt, origin, failure } => self.fail(self.scope_of(origin), attempt, failure),
            Control::Closed { kind } => {
                self.closed = Some(kind);
                self.handle(Event::Closed);
            }
            Control::StopCalledOff => {
                if self.job.state() == JobState::Stopping {
                    self.enter(JobState::Running);
                }
            }
            Control::Suspended { suspension, last_completed, closed, unsettled } => {
                self.unsettled |= unsettled;
                self.coordinator_suspended(suspension, last_completed, closed);
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
            | Control::SinkEnded { .. } => {}
            other => tracing::error!(?other, "the supervisor got a message that is not for it"),
        }
        Ok(())
    }

    fn guarded_step(&mut self, context: &mut Context<'_>) -> Step {
        loop {
            match self.try_step(context) {
                Ok(step) => return step,
                Err(failure) => self.fail(Scope::Job, self.machine.attempt(), failure),
            }
        }
    }

    fn try_step(&mut self, context: &mut Context<'_>) -> Result<Step, Failure> {
        while let Some(message) = self.mailbox.pop_front() {
            self.note(&message);
            self.on_message(message)?;
        }
        loop {
            match &mut self.phase {
                Phase::Recovering { promise, attempt, regions } => match promise.poll(context) {
                    Poll::Pending => return Ok(Step::Wait),
                    Poll::Ready(answer) => {
                        let (attempt, regions) = (*attempt, std::mem::take(regions));
                        match answer {
                            Ok(Ok(recovered)) => self.recovered(attempt, regions, recovered),
                            Ok(Err(trouble)) => self.not_recovered(trouble, &regions),
                            Err(panic) => {
                                let failure = Failure::panic("checkpoint store", &panic.0);
                                self.not_recovered(Trouble::Store(failure), &regions);
                            }
                        }
                    }
                },
                Phase::EndingSinks if self.sinks.is_empty() => {
                    let ending = self.ending.unwrap_or(Ending::Failed);
                    self.shut_down(ending);
                }
                Phase::Ending => {
                    if !self.work_ended(context) && !self.deadline_passed() {
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

    /// Looks whether the blocking work of a region that ends has ended, where only that is left. True when so.
    fn work_ended(&mut self, context: &mut Context<'_>) -> bool {
        let mut ended = false;
        for region in self.machine.waits_for_work() {
            if self.rights.get(&region).is_none_or(|rights| rights.work.poll_idle(context)) {
                let attempt = self.machine.attempt_of(region);
                self.handle(Event::Ended { attempt, region, part: Part::Work });
                ended = true;
            }
        }
        ended
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
        match catch_unwind(AssertUnwindSafe(|| self.guarded_step(context))) {
            Ok(step) => step,
            Err(panic) => {
                self.recover_from(panic);
                Step::Again
            }
        }
    }
}
