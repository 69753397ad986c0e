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

mod course;
mod draw;
mod faults;
mod history;
mod host;
mod lanes;
mod outside;
mod points;
mod process;
mod programs;
mod report;
mod run;
mod schedule;
mod story;
mod suspended;
mod watch;

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::ports::blocking::panic_text;
use alluvium_actors::ports::catalogue::Catalogue;
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::listener::{JobEvent, Listener};
use alluvium_actors::protocol::coordinator::StatisticsSnapshot;
use alluvium_actors::protocol::lifecycle::JobState;

use self::programs::Program;
use self::run::Run;
use self::story::Story;
use super::disk::SimulatedDisk;
use crate::fault::Random;
use crate::graph::Graph;
use crate::job::{self, Options, StartError};

pub use self::faults::{Faults, Order, ParseSimulationError};
pub use self::history::History;
pub use self::outside::Outside;
pub use self::report::{Place, Report, Trouble};
pub use self::schedule::{EventFault, ParseScheduleError, Schedule, ScheduledFault};

/// A job, the world it lives in, and what must be true of both.
pub trait Scenario {
    /// Called first: a scenario with outside systems builds them in this world.
    fn begin(&mut self, outside: &Outside) {
        let _ = outside;
    }

    /// Puts on the disk what the job finds there.
    fn prepare(&mut self, disk: &SimulatedDisk) {
        let _ = disk;
    }

    /// Builds the job anew, as the `main` of a process does: everything in memory is gone, only the disk is left.
    ///
    /// # Errors
    /// When it cannot be built. That is an end of the process like any other: the next one tries again.
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String>;

    /// Looks at the world while the job runs: after each piece of blocking work that changed the disk, and whenever a second has passed without a look.
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
    outside: Outside,
    may_go_wrong: bool,
    random: &'a mut Random,
    commands: Vec<(Duration, Address, Control)>,
    programs: Vec<Program>,
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

    /// The world outside of the job; the same in every process of the run.
    #[must_use]
    pub fn outside(&self) -> Outside {
        self.outside.clone()
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
        let chains = graph.plan().nodes.iter().map(|node| node.name.clone()).collect();
        self.outside.job_is(options.store_directory(), chains);
        let listener: Arc<dyn Listener> = match options.given_listener() {
            Some(given) => Arc::new(Both { first: Arc::clone(&self.listener), second: given }),
            None => Arc::clone(&self.listener),
        };
        job::simulated_setup(graph, &options, catalogue, self.random.next(), listener)
    }

    /// A number that the seed decides.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Whether anything is to go wrong in this run; not in one with [`Faults::None`]. What a scenario does by chance to the surroundings of its job it does only then.
    #[must_use]
    pub fn may_go_wrong(&self) -> bool {
        self.may_go_wrong
    }

    /// Sends a message some time after the start, as a handle of the job does.
    pub fn send_after(&mut self, delay: Duration, to: Address, message: Control) {
        self.commands.push((delay, to, message));
    }

    /// Runs a part of the program beside the job, in the same process, as a service does in which the job is embedded: what pushes records into it, or waits for
    /// its results. It is polled when it was woken, in the order that the seed decides, and ends with the process wherever it is. It must take time and chance
    /// from the simulation alone, and may wait for nothing but the job.
    pub fn beside(&mut self, name: &str, program: impl Future<Output = ()> + 'static) {
        self.programs.push(Program::new(name, program));
    }
}

impl fmt::Debug for Boot<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Boot({})", self.number)
    }
}

/// Tells the simulation and the listener of the options.
struct Both {
    first: Arc<dyn Listener>,
    second: Arc<dyn Listener>,
}

impl Listener for Both {
    fn event(&self, event: JobEvent) {
        self.first.event(event.clone());
        self.second.event(event);
    }

    fn statistics(&self, statistics: &Arc<StatisticsSnapshot>) {
        self.second.statistics(statistics);
    }

    fn recorded(&self, record: &Arc<CheckpointRecord>) {
        self.first.recorded(record);
        self.second.recorded(record);
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
    /// Whether nothing goes wrong in this process, neither with the disk nor, up to now, at a named point.
    pub calm: bool,
    /// When something went wrong last, in any process: a fault of the disk or at a named point struck (one that delays or holds up to its end), an actor panicked, a process crashed.
    pub last_fault: Option<Moment>,
    /// The virtual time since the run began.
    pub now: Moment,
}

/// A run: the seed and what goes wrong in it. Its text is what `ALLUVIUM_SIMULATION_SEED` takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    seed: u64,
    faults: Faults,
    order: Order,
}

impl Simulation {
    /// A run in which several things go wrong.
    #[must_use]
    pub fn new(seed: u64) -> Simulation {
        Simulation { seed, faults: Faults::Random, order: Order::Seed }
    }

    /// The same with other faults.
    #[must_use]
    pub fn with(self, faults: Faults) -> Simulation {
        Simulation { faults, ..self }
    }

    /// The same with another seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Simulation {
        Simulation { seed, ..self }
    }

    /// The same in another order.
    #[must_use]
    pub fn in_order(self, order: Order) -> Simulation {
        Simulation { order, ..self }
    }

    /// The number that decides everything.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What goes wrong in it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Who decides what runs next.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
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
        self.clone().tell(scenario).0
    }

    /// Runs two jobs that are built alike, which must do the same.
    ///
    /// # Errors
    /// As [`Simulation::run`], or the first difference: chance, time or a hash order that does not come from the host.
    pub fn run_twice<S: Scenario>(&self, mut build: impl FnMut() -> S) -> Result<Report, Trouble> {
        let (first, story) = self.clone().tell(&mut build());
        let (second, again) = self.clone().tell(&mut build());
        match (story.difference(&again), first, second) {
            (None, first, second) => first.and(second),
            (Some(difference), first, _) => {
                let exactly = first.map_or_else(|trouble| trouble.exactly(), |report| report.exactly);
                Err(Trouble::new(self.clone(), exactly, difference, &again))
            }
        }
    }

    fn tell(self, scenario: &mut dyn Scenario) -> (Result<Report, Trouble>, Story) {
        let story = Arc::new(Mutex::new(Story::default()));
        let mut run = Run::new(self.clone(), scenario, Arc::clone(&story));
        // What a scenario asserts is wrong as well as what it answers.
        let outcome = catch_unwind(AssertUnwindSafe(|| run.finish()));
        let outcome = outcome.unwrap_or_else(|panic| Err(format!("the test panicked: {}", panic_text(panic.as_ref()))));
        let exactly = run.exactly();
        drop(run);
        let story = std::mem::take(&mut *story.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = match outcome {
            Ok(report) => Ok(Report { fingerprint: story.fingerprint(), events: story.events(), exactly, ..report }),
            Err(reason) => Err(Trouble::new(self, exactly, reason, &story)),
        };
        (outcome, story)
    }
}
