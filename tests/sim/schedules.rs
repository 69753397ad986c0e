//! Which runs a test makes.

use std::fmt;

use alluvium::testing::simulation::{Faults, Report, Scenario, Simulation, Trouble};

/// What a number of runs came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Whether the environment asked for one certain run.
    pub(crate) is_asked: bool,
    pub(crate) runs: u64,
    /// How many of them had faults planned.
    pub(crate) faulty: u64,
    pub(crate) processes: u64,
    pub(crate) crashes: u64,
    pub(crate) failures: u64,
    pub(crate) completed: u64,
    pub(crate) events: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, simulation: &Simulation, report: &Report) {
        self.runs += 1;
        self.faulty += u64::from(*simulation != simulation.clone().with(Faults::None));
        self.processes += u64::from(report.processes);
        self.crashes += u64::from(report.crashes);
        self.failures += u64::from(report.failures);
        self.completed += report.completed;
        self.events += report.events;
    }
}

impl Tally {
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.faulty += other.faulty;
        self.processes += other.processes;
        self.crashes += other.crashes;
        self.failures += other.failures;
        self.completed += other.completed;
        self.events += other.events;
    }
}

/// The gate adds up the fault schedules of these lines.
impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { runs, faulty, processes, crashes, failures, completed, events, .. } = self;
        write!(
            formatter,
            "{runs} runs, {faulty} fault schedules: {processes} processes, {crashes} crashed, {failures} ended by a fault of the disk; \
             {completed} checkpoints, {events} events"
        )
    }
}

/// Makes these runs, each twice, or only the one that the environment asks for. Panics at the first that goes wrong, and says how to repeat it.
pub(crate) fn run<S: Scenario>(
    name: &str,
    simulations: impl IntoIterator<Item = Simulation>,
    build: impl Fn() -> S,
) -> Tally {
    run_each(name, simulations, |_| build())
}

/// The same for a scenario that depends on the run, as on its seed.
pub(crate) fn run_each<S: Scenario>(
    name: &str,
    simulations: impl IntoIterator<Item = Simulation>,
    build: impl Fn(&Simulation) -> S,
) -> Tally {
    quiet::install();
    let asked = Simulation::from_environment();
    let mut tally = Tally { is_asked: asked.is_some(), ..Tally::default() };
    let simulations: Vec<Simulation> = match asked {
        Some(asked) => vec![asked],
        None => simulations.into_iter().collect(),
    };
    for simulation in simulations {
        match quiet::during(|| simulation.run_twice(|| build(&simulation))) {
            Ok(report) => tally.add(&simulation, &report),
            Err(trouble) => {
                println!("{trouble}");
                panic!("{name}: {}", trouble.reason());
            }
        }
    }
    println!("{name}: {tally}");
    tally
}

/// Panics inside are part of the play and print nothing.
pub(crate) fn quietly<T>(play: impl FnOnce() -> T) -> T {
    quiet::install();
    quiet::during(play)
}

/// The first of these runs that finds something wrong: for rules that are broken on purpose.
pub(crate) fn first_trouble<S: Scenario>(
    simulations: impl IntoIterator<Item = Simulation>,
    build: impl Fn(&Simulation) -> S,
) -> Option<Trouble> {
    quiet::install();
    let mut troubles = simulations.into_iter().map(|simulation| {
        let mut scenario = build(&simulation);
        quiet::during(|| simulation.run(&mut scenario))
    });
    troubles.find_map(Result::err)
}

/// Runs with several crashes and faults each, as many as given or as `ALLUVIUM_SIMULATION_RUNS` says.
pub(crate) fn random(first_seed: u64, runs: u64) -> impl Iterator<Item = Simulation> {
    let runs = number("ALLUVIUM_SIMULATION_RUNS").unwrap_or(runs);
    (first_seed..first_seed + runs).map(Simulation::new)
}

/// The number in an environment variable.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: a number is expected")))
}

/// One run per change of the disk that the job makes, crashed directly before it.
pub(crate) fn crashes_at_every_effect<S: Scenario>(
    seed: u64,
    build: impl Fn() -> S,
) -> impl Iterator<Item = Simulation> {
    let faultless = Simulation::new(seed).with(Faults::None);
    let effects = faultless.run(&mut build()).map_or_else(|trouble| panic!("{trouble}"), |report| report.effects);
    (1..=effects).map(move |number| Simulation::new(seed).with(Faults::CrashAtEffect(number)))
}

/// One run per `step` events of the job, crashed directly before each of them.
pub(crate) fn crashes_at_events<S: Scenario>(
    seed: u64,
    step: usize,
    build: impl Fn() -> S,
) -> impl Iterator<Item = Simulation> {
    let faultless = Simulation::new(seed).with(Faults::None);
    let events = faultless.run(&mut build()).map_or_else(|trouble| panic!("{trouble}"), |report| report.events);
    (1..=events).step_by(step).map(move |number| Simulation::new(seed).with(Faults::CrashAtEvent(number)))
}

/// Panics inside a simulation are part of the play and print nothing; all others do as usual.
pub(crate) mod quiet {
    use std::cell::Cell;
    use std::sync::Once;

    thread_local! {
        static SIMULATING: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn install() {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !SIMULATING.get() {
                    usual(panic);
                }
            }));
        });
    }

    pub(crate) fn during<T>(play: impl FnOnce() -> T) -> T {
        SIMULATING.set(true);
        let played = play();
        SIMULATING.set(false);
        played
    }
}
