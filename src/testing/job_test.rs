//! A test of a user's own job: what they write under `cargo test`.

mod process;
mod scenario;
mod test_run;

use std::fmt;
use std::ops::Range;
use std::panic::Location;
use std::time::Duration;

use super::simulation::{Faults, Report, Scenario, Simulation, Trouble};
use scenario::JobScenario;

pub use process::TestProcess;
pub use test_run::TestRun;

/// A test of a whole job in virtual time, under crashes and faults that a seed decides.
///
/// The closure builds everything that belongs to *one run*, and is called for each: the models of the outside systems, the checkers, and the job as a function that is called
/// for each *process* of the run, as the `main` of a program is.
///
/// ```
/// use alluvium::Job;
/// use alluvium::testing::JobTest;
/// use alluvium::testing::check::ExactlyOnce;
///
/// JobTest::new(|run| {
///     let orders = run.records("orders", 100, |index| index).splits(2).rate(5_000);
///     let bills = run.ledger("bills");
///     run.check(ExactlyOnce::new(&orders, |order| *order, &bills, |bill: &(u64, u64)| bill.0));
///     run.job(move |_| {
///         let job = Job::new("billing").parallelism(2);
///         job.source("orders", orders.clone()).map(|order| (order, order * 10)).sink("bills", bills.clone());
///         job.build()
///     });
/// })
/// .seeds(0..5);
/// ```
pub struct JobTest<'a> {
    build: Box<dyn Fn(&mut TestRun) + Send + Sync + 'a>,
    faults: Faults,
    twice: bool,
    at: &'static Location<'static>,
}

impl fmt::Debug for JobTest<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JobTest({})", self.at)
    }
}

impl<'a> JobTest<'a> {
    /// A test of what `build` makes for each run. It may be called on several threads at once, for different runs.
    #[must_use]
    #[track_caller]
    pub fn new(build: impl Fn(&mut TestRun) + Send + Sync + 'a) -> JobTest<'a> {
        JobTest { build: Box::new(build), faults: Faults::Random, twice: true, at: Location::caller() }
    }

    /// What goes wrong in the runs; several crashes and faults of the disk by chance if not given.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> JobTest<'a> {
        self.faults = faults;
        self
    }

    /// Nothing goes wrong.
    #[must_use]
    pub fn without_faults(self) -> JobTest<'a> {
        self.faults(Faults::None)
    }

    /// Makes each run once. Without this each is made twice and compared, which finds what does not come from the seed: a clock, a hash order, what one run left for the next.
    #[must_use]
    pub fn once(mut self) -> JobTest<'a> {
        self.twice = false;
        self
    }

    /// Makes the run of this seed.
    ///
    /// # Panics
    /// When something is wrong: with what, the story, and the line that repeats it.
    pub fn run(&self, seed: u64) -> JobTestReport {
        self.seeds(seed..seed.saturating_add(1))
    }

    /// Makes the runs of these seeds, one after the other. With the environment variable `ALLUVIUM_SIMULATION_SEED` it makes the run that the variable names and no other,
    /// with `ALLUVIUM_SIMULATION_RUNS` so many, from the first seed on.
    ///
    /// # Panics
    /// When something is wrong: with what, the story, and the line that repeats it. And when a fault at a named point struck in none of the runs: then the test
    /// tests nothing, and its filters name an operator, a subtask or a checkpoint that does not come past there.
    pub fn seeds(&self, seeds: Range<u64>) -> JobTestReport {
        let mut report = JobTestReport::default();
        for simulation in self.simulations(seeds) {
            match self.try_run(&simulation) {
                Ok(run) => report.add(&run),
                Err(trouble) => panic!("{}", self.message(&trouble)),
            }
        }
        if matches!(self.faults, Faults::Points(_)) && !report.never_struck.is_empty() {
            panic!(
                "{} runs went well, and tested less than they were to: never struck: {}; nobody came past these points whom their filters allow: are the operator, the \
                 subtask, the checkpoint and the hit right, and is there another fault that has to strike before?",
                report.runs,
                report.never_struck.join("; ")
            );
        }
        report
    }

    fn simulations(&self, seeds: Range<u64>) -> Vec<Simulation> {
        if let Some(asked) = Simulation::from_environment() {
            return vec![asked];
        }
        let runs = std::env::var("ALLUVIUM_SIMULATION_RUNS").ok();
        let end = runs.map_or(seeds.end, |text| {
            let runs: u64 =
                text.parse().unwrap_or_else(|_| panic!("ALLUVIUM_SIMULATION_RUNS={text} is not a number of runs"));
            seeds.start.saturating_add(runs)
        });
        (seeds.start..end).map(|seed| Simulation::new(seed).with(self.faults.clone())).collect()
    }

    /// Makes one run, twice if not said otherwise.
    ///
    /// # Errors
    /// What is wrong.
    pub fn try_run(&self, simulation: &Simulation) -> Result<Report, Trouble> {
        if self.twice { simulation.run_twice(|| self.scenario()) } else { simulation.run(&mut self.scenario()) }
    }

    /// The test as one run of the simulation sees it, for who moves simulations by hand.
    #[must_use]
    pub fn scenario(&self) -> impl Scenario + '_ {
        JobScenario::new(&*self.build)
    }

    /// What a failed run is told as: what is wrong, what happened before, and the line that repeats it.
    #[must_use]
    pub fn message(&self, trouble: &Trouble) -> String {
        let (reason, story) = (trouble.reason(), trouble.story());
        format!("{reason}\n\nwhat happened before:\n{story}\n{reason}\n{}", self.repeat_line(&trouble.simulation()))
    }

    /// The line that repeats a run.
    fn repeat_line(&self, simulation: &Simulation) -> String {
        let thread = std::thread::current();
        match thread.name().filter(|name| *name != "main") {
            Some(test) => format!("to repeat it: ALLUVIUM_SIMULATION_SEED='{simulation}' cargo test {test}"),
            None => {
                format!("to repeat it: ALLUVIUM_SIMULATION_SEED='{simulation}' cargo test (the test at {})", self.at)
            }
        }
    }
}

/// What a number of runs came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobTestReport {
    /// The number of runs, each counted once.
    pub runs: u64,
    /// The number of processes that were started.
    pub processes: u64,
    /// How many of them were ended by a crash.
    pub crashes: u64,
    /// How many were ended by a fault of the disk.
    pub failures: u64,
    /// The number of checkpoints that were completed.
    pub completed: u64,
    /// The number of events.
    pub events: u64,
    /// The virtual time that passed, over all runs.
    pub time: Duration,
    /// The faults of the plan that struck in none of the runs, as text.
    pub never_struck: Vec<String>,
}

impl JobTestReport {
    /// Adds a run.
    pub fn add(&mut self, run: &Report) {
        if self.runs == 0 {
            self.never_struck.clone_from(&run.unstruck);
        } else {
            self.never_struck.retain(|fault| run.unstruck.contains(fault));
        }
        self.runs += 1;
        self.processes += u64::from(run.processes);
        self.crashes += u64::from(run.crashes);
        self.failures += u64::from(run.failures);
        self.completed += run.completed;
        self.events += run.events;
        self.time += run.time;
    }
}
