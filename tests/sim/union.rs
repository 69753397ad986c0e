//! Two sources of different speed, a union, a rebalanced map, one sink: the smallest job with an exchange.

use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium::{Job, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::protocol::lifecycle::JobState;
use alluvium_actors::protocol::supervise::RestartStrategy;

use crate::schedules;

/// How many records each source has.
const SLOW: u64 = 40;
const FAST: u64 = 400;

pub(crate) struct Union {
    /// Outlives every process, as an outside system does.
    output: Collect<u64>,
}

impl Union {
    pub(crate) fn new() -> Union {
        Union { output: Collect::new() }
    }
}

impl Scenario for Union {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("union").parallelism(2);
        let slow = job.source("slow", Generator::bounded(SLOW, |index| index).splits(2).rate(1_000));
        let fast = job.source("fast", Generator::bounded(FAST, |index| 1_000 + index).splits(3).rate(20_000));
        slow.union(&[&fast]).rebalance().map(|number| number * 2).rebalance().sink("output", self.output.clone());
        let graph = job.build().map_err(|errors| errors.to_string())?;
        let options = Options::default()
            .store("/store")
            .checkpoint_every(Duration::from_millis(10))
            .checkpoint_timeout(Duration::from_millis(200))
            .restart(RestartStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(5) });
        boot.setup(&graph, &options, None).map_err(|error| error.to_string())
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if world.state != JobState::Finished {
            return Err(format!("the job is {}", world.state));
        }
        let mut output = self.output.collected();
        output.sort_unstable();
        let expected: Vec<u64> = (0..SLOW).chain(1_000..1_000 + FAST).map(|number| number * 2).collect();
        if output != expected {
            return Err(format!("{} records instead of {}: {output:?}", output.len(), expected.len()));
        }
        Ok(Next::Nothing)
    }
}

#[test]
fn a_union_survives_a_crash_at_every_effect() {
    schedules::run("union, effects", schedules::crashes_at_every_effect(1, Union::new), Union::new);
}

#[test]
fn a_union_survives_crashes_at_events() {
    schedules::run("union, events", schedules::crashes_at_events(2, 3, Union::new), Union::new);
}

#[test]
fn a_union_survives_random_schedules() {
    schedules::run("union, random", schedules::random(0, 200), Union::new);
}
