//! Which runs a test makes.

use alluvium::testing::simulation::{Faults, Report, Scenario, Simulation};

/// What a number of runs came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Whether the environment asked for one certain run.
    pub(crate) is_asked: bool,
    pub(crate) runs: u64,
    pub(crate) processes: u64,
    pub(crate) crashes: u64,
    pub(crate) failures: u64,
    pub(crate) completed: u64,
    pub(crate) events: u64,
}

impl Tally {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.processes += u64::from(report.processes);
        self.crashes += u64::from(report.crashes);
        self.failures += u64::from(report.failures);
        self.completed += report.completed;
        self.events += report.events;
    }
}

/// Makes these runs, each twice, or only the one that the environment asks for. Panics at the first that goes wrong, and says how to repeat it.
pub(crate) fn run<S: Scenario>(
    name: &str,
    simulations: impl IntoIterator<Item = Simulation>,
    build: impl Fn() -> S,
) -> Tally {
    quiet::install();
    let asked = Simulation::from_environment();
    let mut tally = Tally { is_asked: asked.is_some(), ..Tally::default() };
    let simulations: Vec<Simulation> = match asked {
        Some(asked) => vec![asked],
        None => simulations.into_iter().collect(),
    };
    for simulation in simulations {
        match quiet::during(|| simulation.run_twice(&build)) {
            Ok(report) => tally.add(&report),
            Err(trouble) => {
                println!("{trouble}");
                panic!("{name}: {}", trouble.reason());
            }
        }
    }
    println!("{name}: {tally:?}");
    tally
}

/// Runs with several crashes and faults each, as many as given or as `ALLUVIUM_SIMULATION_RUNS` says.
pub(crate) fn random(first_seed: u64, runs: u64) -> impl Iterator<Item = Simulation> {
    let asked = std::env::var("ALLUVIUM_SIMULATION_RUNS").ok();
    let runs = asked.map_or(runs, |text| text.parse().expect("ALLUVIUM_SIMULATION_RUNS is a number"));
    (first_seed..first_seed + runs).map(Simulation::new)
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
