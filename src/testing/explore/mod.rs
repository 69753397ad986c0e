//! Exploration: not only chance, but every fault at every point, then pairs of them, every crash, and then many seeds; what fails is made smaller, and saved as a file that runs as a
//! regression test for ever.

mod enumerate;
mod file;
mod replay;
mod report;
mod shrink;
mod simpler;
mod workers;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use self::enumerate::{faults, spots};
use self::workers::{Crew, Gathered};
use super::job_test::JobTest;
use super::repeat::{name_of_test, repeat_command};
use super::simulation::{Faults, Report, Scenario, Simulation, Trouble};
use crate::fault::{Fault, FaultPlan, Point, Random};

pub use self::enumerate::Hits;
pub use self::file::{EXTENSION, ScheduleFile, ScheduleFileError};
pub use self::replay::{Replay, ReplayError, Replayed};
pub use self::report::{ExplorationReport, Stage};
pub use self::shrink::{SHRINKING_RUNS, Shrunk, kind_of_reason, shrink};

/// Makes a run.
pub(crate) type Play<'a> = dyn Fn(&Simulation) -> Result<Report, Trouble> + Sync + 'a;

/// How often it is told how far an exploration is.
const TOLD: Duration = Duration::from_secs(10);

/// Runs of a scenario, from the plainest to the wildest: what is asked for, in this order.
///
/// 1. one without faults, which tells who reaches which point how often;
/// 2. [`points`](Exploration::points): one for every fault that a point allows, at every operator and subtask that reaches it; then the same for the points that are reached only after another
///    fault, with that one in front;
/// 3. [`crashes`](Exploration::crashes): one for every change of the disk and for events, crashed directly before it;
/// 4. [`pairs`](Exploration::pairs): two of the faults of 2.;
/// 5. [`random`](Exploration::random): seeds.
///
/// ```
/// use alluvium::Job;
/// use alluvium::testing::check::ExactlyOnce;
/// use alluvium::testing::explore::{Exploration, Hits};
/// use alluvium::testing::{JobTest, faults::Point};
///
/// let billing = JobTest::new(|run| {
///     let orders = run.records("orders", 20, |index| index).rate(2_000);
///     let bills = run.ledger("bills");
///     run.check(ExactlyOnce::new(&orders, |order| *order, &bills, |bill: &u64| *bill));
///     run.job(move |_| {
///         let job = Job::new("billing");
///         job.source("orders", orders.clone()).sink("bills", bills.clone());
///         job.build()
///     });
/// })
/// .once();
/// let report = Exploration::of(&billing).points_at(Hits::First).random(0..20).run();
/// assert!(report.struck.keys().any(|(point, _)| *point == Point::CommitBegins));
/// println!("{report}");
/// ```
pub struct Exploration<'a> {
    name: String,
    play: Box<Play<'a>>,
    seed: u64,
    hits: Option<Hits>,
    crashes: Option<u64>,
    pairs: u64,
    random: Range<u64>,
    threads: usize,
    time: Option<Duration>,
    most_failures: usize,
    most_shrinking: u64,
    save: Option<PathBuf>,
}

impl fmt::Debug for Exploration<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Exploration({})", self.name)
    }
}

impl<'a> Exploration<'a> {
    /// Explores a test of a job. It has the name of the test function that calls this, until it is given another one.
    #[must_use]
    pub fn of(test: &'a JobTest<'a>) -> Exploration<'a> {
        Exploration::playing(name_of_test().unwrap_or_else(|| "job".to_owned()), move |simulation| {
            test.try_run(simulation)
        })
    }

    /// Explores a scenario, which is built anew for each run.
    #[must_use]
    pub fn of_scenario<S: Scenario>(name: impl Into<String>, build: impl Fn() -> S + Sync + 'a) -> Exploration<'a> {
        Exploration::playing(name.into(), move |simulation| simulation.run(&mut build()))
    }

    /// Explores what `play` runs.
    #[must_use]
    pub fn playing(
        name: impl Into<String>,
        play: impl Fn(&Simulation) -> Result<Report, Trouble> + Sync + 'a,
    ) -> Exploration<'a> {
        Exploration {
            name: name.into(),
            play: Box::new(play),
            seed: 0,
            hits: None,
            crashes: None,
            pairs: 0,
            random: 0..0,
            threads: thread::available_parallelism().map_or(1, usize::from),
            time: None,
            most_failures: 1,
            most_shrinking: SHRINKING_RUNS,
            save: std::env::var_os("ALLUVIUM_SIMULATION_SAVE").map(PathBuf::from),
        }
    }

    /// The name that schedule files give the scenario.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Exploration<'a> {
        self.name = name.into();
        self
    }

    /// The seed of all runs but the random ones.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Exploration<'a> {
        self.seed = seed;
        self
    }

    /// Every fault at every point, at the first, the middle and the last hit of each subtask.
    #[must_use]
    pub fn points(self) -> Exploration<'a> {
        self.points_at(Hits::FirstMiddleLast)
    }

    /// Every fault at every point, at these hits of each subtask.
    #[must_use]
    pub fn points_at(mut self, hits: Hits) -> Exploration<'a> {
        self.hits = Some(hits);
        self
    }

    /// A crash directly before every change of the disk and before every `step`-th event.
    ///
    /// # Panics
    /// When the step is 0.
    #[must_use]
    pub fn crashes(mut self, step: u64) -> Exploration<'a> {
        assert!(step > 0, "a step of 0 never comes to an end: give at least 1");
        self.crashes = Some(step);
        self
    }

    /// So many pairs of faults at points, chosen by the seed.
    #[must_use]
    pub fn pairs(mut self, pairs: u64) -> Exploration<'a> {
        self.pairs = pairs;
        self
    }

    /// The runs of these seeds, with what [`Faults::Random`] says.
    #[must_use]
    pub fn random(mut self, seeds: Range<u64>) -> Exploration<'a> {
        self.random = seeds;
        self
    }

    /// On so many threads; one per core if not given. What is found does not depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Exploration<'a> {
        self.threads = threads.max(1);
        self
    }

    /// No run begins after this time.
    #[must_use]
    pub fn time_budget(mut self, time: Duration) -> Exploration<'a> {
        self.time = Some(time);
        self
    }

    /// Goes on until so many runs have failed; 1 if not given.
    #[must_use]
    pub fn most_failures(mut self, failures: usize) -> Exploration<'a> {
        self.most_failures = failures.max(1);
        self
    }

    /// How many runs may be made to make a failing one smaller; with 0 it is only made once more, to see that it fails again.
    #[must_use]
    pub fn shrinking_runs(mut self, runs: u64) -> Exploration<'a> {
        self.most_shrinking = runs;
        self
    }

    /// Saves what fails, made smaller, as a file in this directory. If not given, the environment variable `ALLUVIUM_SIMULATION_SAVE` may name one.
    #[must_use]
    pub fn save_to(mut self, directory: impl Into<PathBuf>) -> Exploration<'a> {
        self.save = Some(directory.into());
        self
    }

    /// Makes the runs. With the environment variable `ALLUVIUM_SIMULATION_SEED` it makes the one that the variable names and no other.
    ///
    /// # Panics
    /// When a run fails: with the smallest one that was found, its story, and the line that repeats it.
    pub fn run(&self) -> ExplorationReport {
        self.try_run().unwrap_or_else(|found| panic!("{found}"))
    }

    /// Makes the runs.
    ///
    /// # Errors
    /// What was found, made smaller.
    pub fn try_run(&self) -> Result<ExplorationReport, Box<Found>> {
        Under::new(self).explore()
    }

    fn found(&self, report: ExplorationReport, failures: Vec<Trouble>) -> Box<Found> {
        let first = failures[0].clone();
        let shrunk = shrink(first, self.most_shrinking, &*self.play);
        let failures = failures.iter().map(|trouble| (trouble.simulation(), first_line(trouble.reason()))).collect();
        let mut found = Found { name: self.name.clone(), shrunk, failures, report, saved: None };
        found.saved = self.save.as_ref().map(|directory| match found.file() {
            Some(file) => file.save(directory).map_err(|error| error.to_string()),
            None => Err("there is no schedule that fails".to_owned()),
        });
        Box::new(found)
    }
}

/// An exploration under way.
struct Under<'a, 'b> {
    plan: &'a Exploration<'b>,
    deadline: Option<Instant>,
    report: ExplorationReport,
    failures: Vec<Trouble>,
}

impl<'a, 'b> Under<'a, 'b> {
    fn new(plan: &'a Exploration<'b>) -> Under<'a, 'b> {
        let deadline = plan.time.map(|time| Instant::now() + time);
        Under { plan, deadline, report: ExplorationReport::default(), failures: Vec::new() }
    }

    fn explore(mut self) -> Result<ExplorationReport, Box<Found>> {
        if let Some(asked) = Simulation::from_environment() {
            self.stage("asked for", &[asked], &BTreeMap::new());
            return self.end();
        }
        let with = |faults: Faults| Simulation::new(self.plan.seed).with(faults);
        let calm = match (self.plan.play)(&with(Faults::None)) {
            Ok(calm) => calm,
            Err(trouble) => {
                self.report.stages.push(Stage { name: "without faults", planned: 1, made: 1 });
                self.failures.push(trouble);
                return self.end();
            }
        };
        self.report.add(&calm);
        self.report.stages.push(Stage { name: "without faults", planned: 1, made: 1 });
        if let Some(hits) = self.plan.hits {
            self.points(&calm, hits);
        }
        if let Some(step) = self.plan.crashes {
            let effects = (1..=calm.effects).map(|number| with(Faults::CrashAtEffect(number)));
            self.stage("crashes at changes of the disk", &effects.collect::<Vec<_>>(), &calm.reached);
            let events = (1..=calm.events).step_by(usize::try_from(step).unwrap_or(usize::MAX));
            let events = events.map(|number| with(Faults::CrashAtEvent(number)));
            self.stage("crashes at events", &events.collect::<Vec<_>>(), &calm.reached);
        }
        if self.plan.pairs > 0 {
            let all = faults(&spots(&calm.places), self.plan.hits.unwrap_or(Hits::FirstMiddleLast), |_| true);
            let plans = pairs(&all, self.plan.pairs, self.plan.seed);
            let pairs: Vec<_> = plans.into_iter().map(|plan| with(Faults::Points(plan))).collect();
            self.stage("pairs of faults", &pairs, &calm.reached);
        }
        let random: Vec<_> = self.plan.random.clone().map(Simulation::new).collect();
        if !random.is_empty() {
            self.stage("random", &random, &calm.reached);
        }
        self.end()
    }

    /// Every fault at every point: at those that the calm run comes past, then at those that only a run with a fault comes past, with that fault in front.
    fn points(&mut self, calm: &Report, hits: Hits) {
        let with = |plan: FaultPlan| Simulation::new(self.plan.seed).with(Faults::Points(plan));
        let mut plans: Vec<FaultPlan> =
            faults(&spots(&calm.places), hits, |_| true).into_iter().map(FaultPlan::from).collect();
        let mut known = calm.reached.clone();
        for name in ["a fault at a point", "a fault at a point behind a fault", "a fault at a point behind two faults"]
        {
            let simulations: Vec<_> = plans.iter().cloned().map(with).collect();
            if simulations.is_empty() {
                return;
            }
            let leads = self.stage(name, &simulations, &known).leads;
            let mut behind = Vec::new();
            for (point, runs) in &leads {
                for (position, spots) in runs {
                    let there = |reached: Point| reached == *point;
                    behind.extend(
                        faults(spots, hits, there).into_iter().map(|fault| plans[*position].clone().and(fault)),
                    );
                }
            }
            known.extend(leads.keys().map(|point| (*point, 1)));
            plans = behind;
        }
    }

    /// Makes the runs of a part, unless it is over.
    fn stage(&mut self, name: &'static str, simulations: &[Simulation], known: &BTreeMap<Point, u64>) -> Gathered {
        let left = self.plan.most_failures.saturating_sub(self.failures.len());
        let scenario = &self.plan.name;
        let told = Mutex::new(Instant::now());
        let tell = |made: u64, planned: u64, trouble: Option<&Trouble>| {
            if let Some(trouble) = trouble {
                println!("{scenario}: failed: {}: {}", trouble.simulation(), first_line(trouble.reason()));
            }
            let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if told.elapsed() >= TOLD {
                *told = Instant::now();
                println!("{scenario}: {name}: {made} of {planned}");
            }
        };
        let crew = Crew {
            play: &*self.plan.play,
            threads: self.plan.threads,
            deadline: self.deadline,
            most_failures: left,
            told: &tell,
            known,
        };
        let mut gathered = crew.make(simulations);
        let report = std::mem::take(&mut gathered.report);
        self.report.merge(&report);
        self.report.is_out_of_time |= gathered.is_out_of_time;
        self.report.stages.push(Stage { name, planned: simulations.len() as u64, made: gathered.made });
        self.failures.extend(std::mem::take(&mut gathered.troubles).into_values());
        gathered
    }

    fn end(self) -> Result<ExplorationReport, Box<Found>> {
        if self.failures.is_empty() { Ok(self.report) } else { Err(self.plan.found(self.report, self.failures)) }
    }
}

/// Two different ones of these faults each, as many pairs as asked for or as there are.
fn pairs(faults: &[Fault], most: u64, seed: u64) -> Vec<FaultPlan> {
    let mut random = Random::new(seed ^ 0x9a12);
    let all = faults.len() as u64;
    let pair = |one: u64, other: u64| FaultPlan::of([faults[one as usize].clone(), faults[other as usize].clone()]);
    if all * all.saturating_sub(1) / 2 <= most {
        return (0..all)
            .flat_map(|one| (0..one).map(move |other| (other, one)))
            .map(|(one, other)| pair(one, other))
            .collect();
    }
    let chosen = (0..most).map(|_| {
        let one = random.below(all);
        let other = (one + 1 + random.below(all - 1)) % all;
        pair(one, other)
    });
    chosen.collect()
}

/// What an exploration found.
#[derive(Clone, Debug)]
pub struct Found {
    name: String,
    shrunk: Shrunk,
    failures: Vec<(Simulation, String)>,
    report: ExplorationReport,
    saved: Option<Result<PathBuf, String>>,
}

impl Found {
    /// The first failing run, made smaller.
    #[must_use]
    pub fn shrunk(&self) -> &Shrunk {
        &self.shrunk
    }

    /// Every failing run as it was found, with its reason in one line.
    #[must_use]
    pub fn failures(&self) -> &[(Simulation, String)] {
        &self.failures
    }

    /// What was run until then.
    #[must_use]
    pub fn report(&self) -> &ExplorationReport {
        &self.report
    }

    /// Where it was saved, if it was to be and could be.
    #[must_use]
    pub fn saved(&self) -> Option<&PathBuf> {
        self.saved.as_ref()?.as_ref().ok()
    }

    /// The schedule file of the smallest failing run: of one that was made and failed. Nothing when the failure did not come again with everything that went wrong named one by one.
    #[must_use]
    pub fn file(&self) -> Option<ScheduleFile> {
        let schedule = self.shrunk.schedule()?;
        let simulation = self.shrunk.simulation();
        Some(ScheduleFile {
            scenario: self.name.clone(),
            reason: first_line(self.shrunk.trouble().reason()),
            repeat: Some(repeat_line(&simulation)),
            seed: simulation.seed(),
            order: simulation.order(),
            schedule,
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { name, shrunk, failures, report, saved } = self;
        let trouble = shrunk.trouble();
        writeln!(formatter, "{name}: {}\n\nwhat happened before:\n{}", trouble.reason(), trouble.story())?;
        writeln!(formatter, "{name}: {}", trouble.reason())?;
        for (simulation, reason) in failures {
            writeln!(formatter, "failed: {simulation}: {reason}")?;
        }
        let (runs, more) = (report.runs(), shrunk.runs());
        match shrunk.schedule() {
            None => writeln!(
                formatter,
                "{runs} runs were made until then; the first that failed did not fail in the same way again when everything that went wrong in it was named one by one: something in it depends on \
                 more than the run"
            )?,
            Some(schedule) => {
                writeln!(
                    formatter,
                    "{runs} runs were made until then; the first that failed was made smaller in {more} more:"
                )?;
                if schedule.faults().is_empty() {
                    writeln!(formatter, "    it fails without any fault")?;
                }
                schedule.faults().iter().try_for_each(|fault| writeln!(formatter, "    {fault}"))?;
            }
        }
        match saved {
            Some(Ok(path)) => {
                writeln!(formatter, "it is saved in {}: keep the file, and `Replay` runs it for ever", path.display())?
            }
            Some(Err(error)) => writeln!(formatter, "it could not be saved: {error}")?,
            // What does not come again cannot be kept.
            None if shrunk.schedule().is_none() => {}
            None => writeln!(
                formatter,
                "to save it as a regression test, run again with ALLUVIUM_SIMULATION_SAVE=directory"
            )?,
        }
        write!(formatter, "to repeat it: {}", repeat_line(&shrunk.simulation()))
    }
}

impl std::error::Error for Found {}

/// The command that repeats a run of this thread's test.
fn repeat_line(simulation: &Simulation) -> String {
    repeat_command(simulation, "(the test that explores it)")
}

fn first_line(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().to_owned()
}
