//! A test of a user's own job: what they write under `cargo test`.

mod process;
mod scenario;
mod test_run;

use std::fmt;
use std::ops::Range;
use std::panic::Location;
use std::time::Duration;

use super::repeat::repeat_command;
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
        self.make(vec![Simulation::new(seed).with(self.faults.clone())])
    }

    /// Makes the runs of these seeds, one after the other. With the environment variable `ALLUVIUM_SIMULATION_SEED` it makes the run that the variable names and no other,
    /// with `ALLUVIUM_SIMULATION_RUNS` so many, from the first seed on.
    ///
    /// # Panics
    /// When something is wrong: with what, the story, and the line that repeats it. When there are no seeds, so that nothing would be tested. And when a fault of the plan or of the
    /// schedule that was given struck in none of the runs: then the test tests less than it says, and its filters name an operator, a subtask or a checkpoint that does not come past
    /// there. One run that the environment asks for is not judged so.
    pub fn seeds(&self, seeds: Range<u64>) -> JobTestReport {
        let runs = std::env::var("ALLUVIUM_SIMULATION_RUNS").ok();
        self.make(self.simulations(seeds, runs.as_deref()))
    }

    /// Makes these runs, or the one that the environment asks for.
    fn make(&self, simulations: Vec<Simulation>) -> JobTestReport {
        let asked = Simulation::from_environment();
        let is_asked = asked.is_some();
        let mut report = JobTestReport::default();
        for simulation in asked.map_or(simulations, |asked| vec![asked]) {
            match self.try_run(&simulation) {
                Ok(run) => report.add(&run),
                Err(trouble) => panic!("{}", self.message(&trouble)),
            }
        }
        let is_given = matches!(self.faults, Faults::Points(_) | Faults::Exactly(_));
        if is_given && !is_asked && !report.never_struck.is_empty() {
            panic!(
                "{} runs went well, and tested less than they were to: never struck: {}; nobody came past these points whom their filters allow: are the operator, the \
                 subtask, the checkpoint and the hit right, and is there another fault that has to strike before?",
                report.runs,
                report.never_struck.join("; ")
            );
        }
        report
    }

    /// The runs of these seeds; `runs` is what `ALLUVIUM_SIMULATION_RUNS` says instead of their number.
    fn simulations(&self, seeds: Range<u64>, runs: Option<&str>) -> Vec<Simulation> {
        let end = runs.map_or(seeds.end, |text| {
            let runs: u64 =
                text.parse().unwrap_or_else(|_| panic!("ALLUVIUM_SIMULATION_RUNS={text} is not a number of runs"));
            seeds.start.saturating_add(runs)
        });
        assert!(
            seeds.start < end,
            "the seeds {}..{end} are none, and a test that makes no run tests nothing: give at least one{}",
            seeds.start,
            runs.map(|text| format!(" (ALLUVIUM_SIMULATION_RUNS={text})")).unwrap_or_default()
        );
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
        format!("to repeat it: {}", repeat_command(simulation, &format!("(the test at {})", self.at)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_of(seeds: Range<u64>, runs: Option<&str>) -> Vec<u64> {
        JobTest::new(|_| {}).simulations(seeds, runs).iter().map(Simulation::seed).collect()
    }

    #[test]
    fn the_environment_decides_how_many_seeds_there_are_and_not_which_is_first() {
        assert_eq!(runs_of(3..5, None), [3, 4]);
        assert_eq!(runs_of(3..5, Some("3")), [3, 4, 5]);
        assert_eq!(runs_of(3..3, Some("1")), [3]);
    }

    #[test]
    #[should_panic = "the seeds 3..3 are none, and a test that makes no run tests nothing: give at least one (ALLUVIUM_SIMULATION_RUNS=0)"]
    fn no_seeds_by_the_environment_are_no_test() {
        let _ = runs_of(3..5, Some("0"));
    }
}
