//! The simulator itself: what it must notice.

use std::sync::atomic::{AtomicU64, Ordering};

use alluvium::connect::{Collect, Generator};
use alluvium::testing::simulation::{Boot, Faults, Next, Scenario, Simulation, World};
use alluvium::{Job, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;

/// A job that copies some numbers.
struct Copy {
    numbers: Option<u64>,
}

impl Scenario for Copy {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("copy");
        let numbers = |index: u64| index;
        let source = match self.numbers {
            Some(count) => Generator::bounded(count, numbers),
            None => Generator::unbounded(numbers),
        };
        job.source("numbers", source.rate(10_000)).sink("copies", Collect::new());
        let graph = job.build().map_err(|errors| errors.to_string())?;
        let every = std::time::Duration::from_millis(10);
        let options = Options::default().store("/store").checkpoint_every(every);
        boot.setup(&graph, &options, None).map_err(|error| error.to_string())
    }

    fn ended(&mut self, _: &World<'_>) -> Result<Next, String> {
        Ok(Next::Nothing)
    }
}

#[test]
fn one_seed_decides_everything_and_two_seeds_differ() {
    let told = |seed| {
        let simulation = Simulation::new(seed).with(Faults::None);
        simulation.run_twice(|| Copy { numbers: Some(100) }).unwrap_or_else(|trouble| panic!("{trouble}"))
    };
    assert_eq!(told(1), told(1));
    assert_ne!(told(1).fingerprint, told(2).fingerprint);
}

#[test]
fn chance_that_does_not_come_from_the_host_is_found() {
    let outside = AtomicU64::new(100);
    let trouble = Simulation::new(1)
        .with(Faults::None)
        .run_twice(|| Copy { numbers: Some(outside.fetch_add(10, Ordering::Relaxed)) })
        .expect_err("the second job had other numbers");
    assert!(trouble.reason().contains("two runs of one seed differ"), "{trouble}");
}

#[test]
fn a_job_without_an_end_is_found() {
    let simulation = Simulation::new(1).with(Faults::None);
    let trouble = simulation.run(&mut Copy { numbers: None }).expect_err("the job has no end");
    assert!(trouble.reason().contains("hangs"), "{trouble}");
    assert!(trouble.to_string().contains("ALLUVIUM_SIMULATION_SEED='1/none'"), "{trouble}");
}

#[test]
fn the_text_of_a_simulation_repeats_it() {
    let faults = [Faults::None, Faults::CrashAtEvent(7), Faults::CrashAtEffect(9), Faults::Random];
    for simulation in faults.map(|faults| Simulation::new(42).with(faults)) {
        assert_eq!(simulation.to_string().parse(), Ok(simulation));
    }
    for text in ["", "x", "1/event", "1/effect/x", "1/none/2", "-1"] {
        assert!(text.parse::<Simulation>().is_err(), "{text}");
    }
}
