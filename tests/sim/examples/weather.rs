//! `examples/graph.rs`: the graph with every way to wire it, into collections that outlive the process.

use std::collections::BTreeMap;

use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;

use super::outliving::Outliving;
use super::program::graph as weather;
use super::{Habits, program};
use crate::{chance, schedules};

/// Lines of each station.
const LINES: u64 = 120;

pub(crate) struct Weather {
    outside: weather::Outside<Outliving<weather::Weather>, Outliving<String>>,
    habits: Habits,
}

impl Weather {
    pub(crate) fn new() -> Weather {
        Weather { outside: weather::Outside::default(), habits: Habits::default() }
    }

    /// Every reading once in the state of its region, every other line by the side, every warning in both subtasks.
    fn check(&self) -> Result<(), String> {
        let mut degrees: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let mut malformed = Vec::new();
        let lines =
            (0..weather::STATIONS).flat_map(|station| (0..LINES).map(move |index| weather::line(station, index)));
        for line in lines {
            match weather::parse(&line) {
                Some(reading) => degrees.entry(reading.region).or_default().push(reading.degrees),
                None => malformed.push(line),
            }
        }
        let mut told: BTreeMap<u64, BTreeMap<u64, weather::Weather>> = BTreeMap::new();
        for weather in self.outside.weather.0.collected() {
            let (region, readings) = (weather.region, weather.readings);
            if told.entry(region).or_default().insert(readings, weather).is_some() {
                return Err(format!("reading {readings} of region {region} came out twice"));
            }
        }
        for (region, degrees) in &degrees {
            let told = told.remove(region).unwrap_or_default();
            if !told.keys().copied().eq(1..=degrees.len() as u64) {
                let (got, wanted) = (told.len(), degrees.len());
                return Err(format!("region {region} has {wanted} readings, and {got} came out: {:?}", told.keys()));
            }
            let last = &told[&(degrees.len() as u64)];
            let hottest = degrees.iter().copied().max().unwrap_or_default();
            let mean = degrees.iter().sum::<i64>() as f64 / degrees.len() as f64;
            if last.hottest != hottest || last.mean != mean {
                return Err(format!("region {region} is {hottest} at most and {mean} in the mean: {last:?}"));
            }
        }
        let mut got = self.outside.malformed.0.collected();
        got.sort();
        malformed.sort();
        if got != malformed {
            return Err(format!("{} lines are malformed, and {} came out: {got:?}", malformed.len(), got.len()));
        }
        let mut heard = self.outside.heard.0.collected();
        heard.sort();
        let hears = |keeper: u32, warning: &str| format!("station keeper {keeper} heard: {warning}");
        let all = [hears(0, "frost"), hears(0, "storm"), hears(1, "frost"), hears(1, "storm")];
        if heard == all { Ok(()) } else { Err(format!("heard was {heard:?}")) }
    }
}

impl Scenario for Weather {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let rate = [20_000, 4_000, 1_500][boot.random() as usize % 3];
        let graph = program::graph::build(LINES, rate, &self.outside).map_err(|errors| errors.to_string())?;
        self.habits.setup(boot, &graph)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.habits.observe(world)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        self.check().map(|()| Next::Nothing)
    }
}

#[test]
fn the_example_graph_survives_random_crashes_and_faults() {
    schedules::run("example graph", schedules::random(42_000, 120), Weather::new);
}

#[test]
fn the_example_graph_survives_crashes_at_events() {
    schedules::run("example graph, events", schedules::crashes_at_events(42, 19, Weather::new), Weather::new);
}
