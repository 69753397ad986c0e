//! Whole jobs on one thread, in virtual time, in an order that a seed decides, on a disk that forgets.
//!
//! The second host of the drivers: what runs here is the code that runs under actix, but for threads, clocks and devices. Everything
//! that may happen next (a message reaches its mailbox, an actor takes a step, blocking work is carried out) is one *event*, and the seed chooses which. A
//! *process* is one start of the job; when it ends before the job does, by a crash or by a failure, another one starts on the same disk.
//!
//! ```text
//! Simulation::run(scenario)
//!   prepare the disk -> process 1 -> crash -> what the disk remembers -> process 2 -> ... -> the job is over -> check
//! ```

mod faults;
mod host;
mod lanes;
mod process;
mod run;
mod story;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::catalogue::Catalogue;
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::listener::Listener;
use alluvium_actors::protocol::lifecycle::JobState;

use self::run::Run;
use self::story::Story;
use super::disk::SimulatedDisk;
use super::random::Random;
use crate::graph::Graph;
use crate::job::{self, Options, StartError};

pub use self::faults::{Faults, ParseSimulationError};

/// A job, the world it lives in, and what must be true of both.
pub trait Scenario {
    /// Puts on the disk what the job finds there.
    fn prepare(&mut self, disk: &SimulatedDisk) {
        let _ = disk;
    }

    /// Builds the job anew, as the `main` of a process does: everything in memory is gone, only the disk is left.
    ///
    /// # Errors
    /// When it cannot be built. That is an end of the process like any other: the next one tries again.
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String>;

    /// Looks at the world while the job runs: after each piece of blocking work that changed the disk.
    ///
    /// # Errors
    /// What is wrong: the run ends with it.
    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        let _ = world;
        Ok(())
    }

    /// The job is over, as [`World::state`] says. Answers whether another process is to be started all the same.
    ///
    /// # Errors
    /// What is wrong: the run ends with it.
    fn ended(&mut self, world: &World<'_>) -> Result<Next, String>;
}

/// What follows the end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another process.
    StartAgain,
    /// Nothing: the run is over.
    Nothing,
}

/// One start of the process.
pub struct Boot<'a> {
    number: u32,
    disk: SimulatedDisk,
    listener: Arc<dyn Listener>,
    random: &'a mut Random,
    commands: Vec<(Duration, Address, Control)>,
}

impl Boot<'_> {
    /// The number of the process: 1, 2, ...
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The disk as this process finds it. It is the only handle that works, and works until the process ends.
    #[must_use]
    pub fn disk(&self) -> SimulatedDisk {
        self.disk.clone()
    }

    /// The listener that has to be the job's, or to be told everything that the job's is told.
    #[must_use]
    pub fn listener(&self) -> Arc<dyn Listener> {
        Arc::clone(&self.listener)
    }

    /// What the process of a job does: opens the store of `options` on the disk, with or without a catalogue, and builds the job of `graph`.
    ///
    /// # Errors
    /// Options that contradict each other, or a store that cannot be opened.
    pub fn setup(
        &mut self,
        graph: &Graph,
        options: &Options,
        catalogue: Option<Arc<dyn Catalogue>>,
    ) -> Result<SupervisorSetup, StartError> {
        let options = options.clone().files(Arc::new(self.disk.clone()));
        job::simulated_setup(graph, &options, catalogue, self.random.next(), Arc::clone(&self.listener))
    }

    /// A number that the seed decides.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Sends a message some time after the start, as a handle of the job does.
    pub fn send_after(&mut self, delay: Duration, to: Address, message: Control) {
        self.commands.push((delay, to, message));
    }
}

impl fmt::Debug for Boot<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Boot({})", self.number)
    }
}

/// What a scenario may look at.
#[derive(Debug)]
pub struct World<'a> {
    /// The disk. The handle works.
    pub disk: &'a SimulatedDisk,
    /// The newest checkpoint that is known to be complete: announced as such, or restored.
    pub complete: Option<CheckpointId>,
    /// The state of the job.
    pub state: JobState,
    /// Whether nothing goes wrong with the disk in this process.
    pub calm: bool,
}

/// What happened in a run that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of events.
    pub events: u64,
    /// The number of changes of the disk that were asked for.
    pub effects: u64,
    /// The number of processes that were started.
    pub processes: u32,
    /// How many of them were ended by a crash.
    pub crashes: u32,
    /// How many were ended by a fault of the disk.
    pub failures: u32,
    /// The number of checkpoints that were completed.
    pub completed: u64,
    /// The time that passed.
    pub time: Duration,
    /// A hash over everything that happened, without encoded records.
    pub fingerprint: u64,
}

/// A run that did not go well.
#[derive(Clone, Debug)]
pub struct Trouble {
    simulation: Simulation,
    reason: String,
    story: String,
}

impl Trouble {
    /// What is wrong.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The run that found it.
    #[must_use]
    pub fn simulation(&self) -> Simulation {
        self.simulation
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}\n\nwhat happened before:\n{}\nsimulation {}: {}\nto repeat it, run the same test with ALLUVIUM_SIMULATION_SEED={}",
            self.reason, self.story, self.simulation, self.reason, self.simulation
        )
    }
}

impl std::error::Error for Trouble {}

/// A run: the seed and what goes wrong in it. Its text is what `ALLUVIUM_SIMULATION_SEED` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulation {
    seed: u64,
    faults: Faults,
}

impl Simulation {
    /// A run in which several things go wrong.
    #[must_use]
    pub fn new(seed: u64) -> Simulation {
        Simulation { seed, faults: Faults::Random }
    }

    /// The same with other faults.
    #[must_use]
    pub fn with(self, faults: Faults) -> Simulation {
        Simulation { faults, ..self }
    }

    /// The run that the environment variable `ALLUVIUM_SIMULATION_SEED` asks for, if it does.
    ///
    /// # Panics
    /// When the variable holds something else than a simulation.
    #[must_use]
    pub fn from_environment() -> Option<Simulation> {
        let text = std::env::var("ALLUVIUM_SIMULATION_SEED").ok()?;
        Some(text.parse().unwrap_or_else(|error| panic!("ALLUVIUM_SIMULATION_SEED={text}: {error}")))
    }

    /// Runs a job until it is over.
    ///
    /// # Errors
    /// What the scenario found wrong, a driver that panicked, a job that failed though nothing went wrong around it, a hang, or a broken promise
    /// about checkpoints: ids that do not ascend, a completed checkpoint that was lost.
    pub fn run(&self, scenario: &mut dyn Scenario) -> Result<Report, Trouble> {
        self.tell(scenario).0
    }

    /// Runs two jobs that are built alike, which must do the same.
    ///
    /// # Errors
    /// As [`Simulation::run`], or the first difference: chance, time or a hash order that does not come from the host.
    pub fn run_twice<S: Scenario>(&self, mut build: impl FnMut() -> S) -> Result<Report, Trouble> {
        let (first, story) = self.tell(&mut build());
        let (second, again) = self.tell(&mut build());
        if let Some(difference) = story.difference(&again) {
            return Err(Trouble { simulation: *self, reason: difference, story: again.last_events() });
        }
        first.and(second)
    }

    fn tell(self, scenario: &mut dyn Scenario) -> (Result<Report, Trouble>, Story) {
        let story = Arc::new(Mutex::new(Story::default()));
<<<<<<< HEAD
        let outcome = Run::new(self, scenario, Arc::clone(&story)).run_out();
=======
        let outcome = Run::new(self, scenario, Arc::clone(&story)).finish();
>>>>>>> sim
        let story = std::mem::take(&mut *story.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = match outcome {
            Ok(report) => Ok(Report { fingerprint: story.fingerprint(), events: story.events(), ..report }),
            Err(reason) => Err(Trouble { simulation: self, reason, story: story.last_events() }),
        };
        (outcome, story)
    }
}
<<<<<<< HEAD

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Everything in memory is gone.
    Crashed,
    /// The job could not be built.
    NotStarted(String),
    /// The job came to its end.
    Over(JobState),
}

/// A simulation under way.
struct Run<'a> {
    scenario: &'a mut dyn Scenario,
    schedule: Schedule,
    random: Random,
    disk: SimulatedDisk,
    story: Arc<Mutex<Story>>,
    watch: Arc<Mutex<Watch>>,
    now: Moment,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(simulation: Simulation, scenario: &'a mut dyn Scenario, story: Arc<Mutex<Story>>) -> Run<'a> {
        let mut random = Random::new(simulation.seed);
        let report = Report {
            events: 0,
            effects: 0,
            processes: 0,
            crashes: 0,
            failures: 0,
            completed: 0,
            time: Duration::ZERO,
            fingerprint: 0,
        };
        Run {
            scenario,
            schedule: Schedule::new(simulation.faults, Random::new(random.next())),
            random,
            disk: SimulatedDisk::new(),
            story,
            watch: Arc::default(),
            now: Moment::default(),
            report,
        }
    }

    fn run_out(mut self) -> Result<Report, String> {
        self.scenario.prepare(&self.disk);
        loop {
            if self.report.processes == PROCESSES {
                return Err(format!("the job hangs: it is not over after {PROCESSES} starts"));
            }
            self.report.processes += 1;
            let next = match self.process()? {
                End::Crashed => {
                    self.report.crashes += 1;
                    Next::StartAgain
                }
                End::NotStarted(_) | End::Over(JobState::Failed) if self.schedule.may_fail() => {
                    self.report.failures += 1;
                    Next::StartAgain
                }
                End::NotStarted(reason) => return Err(format!("the job cannot be built: {reason}")),
                End::Over(state) => {
                    let complete = self.watch().complete();
                    let calm = !self.schedule.may_fail();
                    self.report.effects = self.disk.effects();
                    self.scenario.ended(&World { disk: &self.disk, complete, state, calm })?
                }
            };
            if next == Next::Nothing {
                let completed = self.watch().completed();
                self.report.completed = completed;
                self.report.time = self.now.since(Moment::default());
                return Ok(self.report);
            }
        }
    }

    /// One process, from its start to its end.
    fn process(&mut self) -> Result<End, String> {
        let number = self.report.processes;
        self.tell(What::Started { process: number });
        self.watch().starts();
        self.schedule.process_starts(self.events(), &self.disk);
        let listener = Arc::new(Tell { story: Arc::clone(&self.story), watch: Arc::clone(&self.watch) });
        let mut boot =
            Boot { number, disk: self.disk.clone(), listener, random: &mut self.random, commands: Vec::new() };
        let built = self.scenario.boot(&mut boot);
        let commands = boot.commands;
        let mut process = None;
        let end = match built {
            Ok(setup) => {
                let random = Random::new(self.random.next());
                let story = Arc::clone(&self.story);
                let process = process.insert(Process::new(setup, self.now, random, story, self.disk.clone(), commands));
                let end = self.step_run_out(process)?;
                self.now = process.now();
                end
            }
            Err(_) if self.disk.is_powered_off() => End::Crashed,
            Err(reason) => End::NotStarted(reason),
        };
        // The disk's generation ends first: what destructors write is ignored (rule 35).
        let effects = self.disk.effects();
        let (disk, machine) = self.schedule.process_ends(&self.disk);
        drop(process);
        self.disk = disk;
        self.tell(What::Ended { crashed: end == End::Crashed, machine, effects });
        Ok(end)
    }

    fn step_run_out(&mut self, process: &mut Process) -> Result<End, String> {
        let mut effects = self.disk.effects();
        loop {
            let events = self.events();
            if events >= EVENTS {
                return Err(format!("the job hangs: it is not over after {EVENTS} events"));
            }
            if self.schedule.crashes_before(events) {
                return Ok(End::Crashed);
            }
            let over = process.event()?;
            if self.disk.is_powered_off() {
                return Ok(End::Crashed);
            }
            self.watch().verdict()?;
            if self.disk.effects() != effects {
                effects = self.disk.effects();
                let complete = self.watch().complete();
                let state = self.watch().state();
                let calm = !self.schedule.may_fail();
                self.scenario.observe(&World { disk: &self.disk, complete, state, calm })?;
            }
            if over {
                return Ok(End::Over(self.watch().state()));
            }
        }
    }

    fn events(&self) -> u64 {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).events()
    }

    fn tell(&self, what: What) {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).tell(self.now, None, what);
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the story and the watch what the job tells.
struct Tell {
    story: Arc<Mutex<Story>>,
    watch: Arc<Mutex<Watch>>,
}

impl Listener for Tell {
    fn event(&self, event: JobEvent) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).event(&event);
        self.story.lock().unwrap_or_else(PoisonError::into_inner).tell_job(&event);
    }
}
=======
>>>>>>> sim
