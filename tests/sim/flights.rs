//! The flights: rows of real input, read from the simulated disk, counted per aircraft, written as lines.

use std::collections::BTreeMap;
use std::path::Path;

use alluvium::Job;
use alluvium::connect::{CsvFiles, Lines};
use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use serde::{Deserialize, Serialize};

use crate::{chance, files, schedules};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights-2013-01.csv");
const INPUT: &str = "/input/flights.csv";
const OUTPUT: &str = "/output";

/// The columns that are used of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flight {
    tailnum: String,
    dep_delay: String,
    time_hour: String,
}

/// What is kept of an aircraft.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Total {
    sequence: u64,
    delay: i64,
}

pub(crate) struct Flights {
    text: String,
    parallelism: u32,
    catalogue: SimulatedCatalogue,
    promises: chance::Promises,
    disk_lies: bool,
    /// Each process has a parallelism of its own.
    rescales: bool,
}

impl Flights {
    pub(crate) fn new(rows: usize, parallelism: u32) -> Flights {
        Flights {
            text: text(rows),
            parallelism,
            catalogue: SimulatedCatalogue::new(),
            promises: chance::Promises::default(),
            disk_lies: false,
            rescales: false,
        }
    }
}

/// So many rows of the real input, behind their header.
pub(crate) fn text(rows: usize) -> String {
    let data = std::fs::read_to_string(DATA).expect("the flights are part of the repository");
    data.split_inclusive('\n').take(rows + 1).collect()
}

/// What must come out, from the text alone.
fn expected(text: &str) -> Vec<String> {
    let mut totals: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut rows = text.lines();
    let header: Vec<&str> = rows.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name).expect("the column is there");
    let (tailnum, delay, hour) = (column("tailnum"), column("dep_delay"), column("time_hour"));
    for row in rows {
        let fields: Vec<&str> = row.split(',').collect();
        if fields[delay] == "NA" {
            continue;
        }
        let (count, sum) = totals.entry(fields[tailnum]).or_default();
        *count += 1;
        *sum += fields[delay].parse::<i64>().expect("minutes");
        lines.push(format!("{},{count},{sum},{}", fields[tailnum], fields[hour]));
    }
    lines.sort_unstable();
    lines
}

/// Looks at the lines that came out, in whatever order.
pub(crate) fn check(text: &str, mut lines: Vec<String>) -> Result<(), String> {
    lines.sort_unstable();
    let expected = expected(text);
    if lines == expected {
        return Ok(());
    }
    let missing: Vec<_> = expected.iter().filter(|line| !lines.contains(line)).collect();
    let surplus: Vec<_> = lines.iter().filter(|line| !expected.contains(line)).collect();
    let (found, wanted) = (lines.len(), expected.len());
    Err(format!("{found} lines instead of {wanted}; missing {missing:?}, surplus {surplus:?}"))
}

impl Scenario for Flights {
    fn prepare(&mut self, disk: &SimulatedDisk) {
        disk.set_content(Path::new(INPUT), self.text.as_bytes());
        if self.disk_lies {
            disk.ignore_syncs();
        }
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let parallelism = if self.rescales { 1 + (boot.random() % 5) as u32 } else { self.parallelism };
        let job = Job::new("flights").parallelism(parallelism);
        let (parsing, counting) = (chance::Fuse::new(boot, 200), chance::Fuse::new(boot, 200));
        // At the slowest a process takes more checkpoints than its run record has ids.
        let rate = [10_000, 2_000, 500][boot.random() as usize % 3];
        job.source("flights", CsvFiles::<Flight>::new(INPUT).rate(rate))
            .filter(move |flight| {
                parsing.burn();
                flight.dep_delay != "NA"
            })
            .key_by(|flight| &flight.tailnum)
            .aggregate("total-delay", Total::default(), move |tailnum, total, flight| {
                counting.burn();
                total.sequence += 1;
                total.delay += flight.dep_delay.parse::<i64>().unwrap_or(i64::MIN / 2);
                format!("{tailnum},{},{},{}", total.sequence, total.delay, flight.time_hour)
            })
            .sink("lines", Lines::exactly_once(OUTPUT).suffix(".csv"));
        let graph = job.build().map_err(|errors| errors.to_string())?;
        chance::users(boot, &self.promises);
        let options = chance::options(boot);
        let catalogue = chance::catalogue(boot, &self.catalogue);
        boot.setup(&graph, &options, catalogue.map(|catalogue| catalogue as _)).map_err(|error| error.to_string())
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.promises.are_kept(world)?;
        files::output_is_of_complete_checkpoints(world, OUTPUT)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        check(&self.text, files::lines(world.disk, OUTPUT)?)?;
        chance::cleaned_up(world, files::nothing_is_left_over(world.disk, "flights", &[OUTPUT]))
    }
}

#[test]
fn flights_survive_a_crash_at_every_effect() {
    let build = || Flights::new(120, 1);
    let tally = schedules::run("flights, effects", schedules::crashes_at_every_effect(3, build), build);
    assert!(tally.is_asked || tally.crashes == tally.runs, "{tally:?}");
}

#[test]
fn flights_survive_a_crash_at_every_event() {
    let build = || Flights::new(40, 1);
    schedules::run("flights, events", schedules::crashes_at_events(4, 1, build), build);
}

#[test]
fn flights_survive_random_crashes_and_faults() {
    schedules::run("flights, random", schedules::random(0, 400), || Flights::new(100, 2));
}

#[test]
fn flights_survive_random_crashes_and_faults_and_go_on_at_other_parallelisms() {
    let build = || Flights { rescales: true, ..Flights::new(100, 1) };
    schedules::run("flights, rescaled", schedules::random(1_000, 300), build);
}

#[test]
fn a_sync_that_does_nothing_is_found_within_a_few_schedules() {
    let lying = || Flights { disk_lies: true, ..Flights::new(200, 1) };
    let found = schedules::first_trouble(schedules::random(0, 20), |_| lying());
    found.expect("no schedule found that syncs do nothing");
}
