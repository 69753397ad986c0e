//! Two sources of different speed, a union, a rebalanced map, one sink: the smallest job with an exchange.

use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium::{Job, Options};
use alluvium_actors::drive::control::{Control, Reply};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ports::host::Address;
use alluvium_actors::protocol::lifecycle::JobState;
use alluvium_actors::protocol::supervise::RestartStrategy;

use crate::schedules;

/// How many records each source has.
const SLOW: u64 = 40;
const FAST: u64 = 400;

pub(crate) struct Union {
    /// Outlives every process, as an outside system does.
    output: Collect<u64>,
    /// Without periodic checkpoints only the final one is taken: nothing but the data itself moves the job on.
    periodic: bool,
    /// So many times as long: more checkpoints than a run record has ids.
    slower: u64,
    /// The first processes are asked to stop while checkpoints expire easily.
    stopped: bool,
}

/// So many processes are asked to stop, if any.
const STOPS: u32 = 8;

impl Union {
    pub(crate) fn new() -> Union {
        Union { output: Collect::new(), periodic: true, slower: 1, stopped: false }
    }

    pub(crate) fn in_one_go() -> Union {
        Union { periodic: false, ..Union::new() }
    }

    pub(crate) fn slow() -> Union {
        Union { slower: 8, ..Union::new() }
    }

    pub(crate) fn stopped() -> Union {
        Union { stopped: true, ..Union::new() }
    }
}

impl Scenario for Union {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("union").parallelism(2);
        let slow = job.source("slow", Generator::bounded(SLOW, |index| index).splits(2).rate(1_000 / self.slower));
        let fast =
            job.source("fast", Generator::bounded(FAST, |index| 1_000 + index).splits(3).rate(20_000 / self.slower));
        slow.union(&[&fast]).rebalance().map(|number| number * 2).rebalance().sink("output", self.output.clone());
        let graph = job.build().map_err(|errors| errors.to_string())?;
        let options = Options::default()
            .store("/store")
            .checkpoint_timeout(Duration::from_millis(if self.stopped { 12 } else { 200 }))
            .restart(RestartStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(5) });
        let options = if self.periodic { options.checkpoint_every(Duration::from_millis(10)) } else { options };
        // Every piece of state is a blob, which takes its time: the checkpoint of a stop expires easily.
        let options = if self.stopped { options.continue_on_checkpoint_errors().inline_limit(1) } else { options };
        if self.stopped && boot.number() <= STOPS {
            let after = Duration::from_micros(boot.random() % 30_000);
            boot.send_after(after, Address::Supervisor, Control::Stop(Reply(Box::new(|_| {}))));
        }
        boot.setup(&graph, &options, None).map_err(|error| error.to_string())
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if world.state == JobState::Stopped && self.stopped {
            return Ok(Next::StartAgain);
        }
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

#[test]
fn a_union_without_periodic_checkpoints_survives_random_schedules() {
    schedules::run("union in one go, random", schedules::random(500, 100), Union::in_one_go);
}

#[test]
fn a_union_that_takes_more_checkpoints_than_its_run_record_has_ids_survives_random_schedules() {
    schedules::run("union, slow, random", schedules::random(600, 100), Union::slow);
}

#[test]
fn a_union_that_is_stopped_again_and_again_survives_random_schedules() {
    schedules::run("union, stopped, random", schedules::random(700, 100), Union::stopped);
}
