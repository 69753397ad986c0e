//! `examples/flights.rs`: rows of real input from the simulated disk, as lines on the same disk.

use std::path::Path;

use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;

use super::{Habits, program};
use crate::{chance, files, flights, schedules};

const INPUT: &str = "/input/flights.csv";
const OUTPUT: &str = "/output";

pub(crate) struct Flights {
    text: String,
    parallelism: u32,
    habits: Habits,
}

impl Flights {
    pub(crate) fn new(rows: usize, parallelism: u32) -> Flights {
        Flights { text: flights::text(rows), parallelism, habits: Habits::default() }
    }
}

impl Scenario for Flights {
    fn prepare(&mut self, disk: &SimulatedDisk) {
        disk.set_content(Path::new(INPUT), self.text.as_bytes());
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let rate = [None, Some(10_000), Some(2_000), Some(500)][boot.random() as usize % 4];
        let built = program::flights::build(Path::new(INPUT), rate, self.parallelism, Path::new(OUTPUT));
        let (graph, _) = built.map_err(|errors| errors.to_string())?;
        self.habits.setup(boot, &graph)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.habits.observe(world)?;
        files::output_is_of_complete_checkpoints(world, OUTPUT)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        flights::check(&self.text, files::lines(world.disk, OUTPUT)?)?;
        chance::cleaned_up(world, files::nothing_is_left_over(world.disk, "flights", &[OUTPUT]))
    }
}

#[test]
fn the_example_flights_survives_random_crashes_and_faults() {
    schedules::run("example flights", schedules::random(40_000, 150), || Flights::new(100, 2));
}

#[test]
fn the_example_flights_survives_a_crash_at_every_effect() {
    let build = || Flights::new(60, 1);
    schedules::run("example flights, effects", schedules::crashes_at_every_effect(41, build), build);
}
