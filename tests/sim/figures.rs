//! What checkpoints say of themselves, under crashes and faults: lengths, records in flight and times, held against the manifests on the simulated disk.

use std::path::Path;

use alluvium::testing::check::{Check, CheckpointRecords, Compared, Scene};
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::simulation::{Boot, Faults, Next, Outside, Scenario, Simulation, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;

use crate::mutations::orders::{Kind, billing};
use crate::random_graph;
use crate::schedules::{self, quiet};

/// Any scenario whose job keeps its checkpoints in `/store`, with its records compared.
struct Told<S> {
    scenario: S,
    outside: Option<Outside>,
    records: CheckpointRecords,
}

impl<S: Scenario> Told<S> {
    fn new(scenario: S) -> Told<S> {
        Told { scenario, outside: None, records: CheckpointRecords::new() }
    }

    fn compare(&mut self, world: &World<'_>) -> Result<(), String> {
        let outside = self.outside.as_ref().expect("a simulation begins with it");
        outside.history(|history| {
            let scene = Scene { world, history, job: "a simulated job", store: Some(Path::new("/store")) };
            self.records.observe(&scene).map_err(|violation| violation.to_string())
        })
    }
}

impl<S: Scenario> Scenario for Told<S> {
    fn begin(&mut self, outside: &Outside) {
        self.outside = Some(outside.clone());
        self.scenario.begin(outside);
    }

    fn prepare(&mut self, disk: &SimulatedDisk) {
        self.scenario.prepare(disk);
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        self.scenario.boot(boot)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.compare(world)?;
        self.scenario.observe(world)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        self.compare(world)?;
        self.scenario.ended(world)
    }
}

/// Runs all of them; how many records were held against what is stored.
#[track_caller]
fn compared<S: Scenario>(runs: impl Iterator<Item = Simulation>, scenario: impl Fn(&Simulation) -> S) -> Compared {
    quiet::install();
    let mut all = Compared::default();
    for simulation in runs {
        let mut told = Told::new(scenario(&simulation));
        let outcome = quiet::during(|| simulation.run(&mut told));
        outcome.unwrap_or_else(|trouble| panic!("{trouble}"));
        let Compared { records, in_flight, incremental, failed, .. } = told.records.compared();
        all.records += records;
        all.in_flight += in_flight;
        all.incremental += incremental;
        all.failed += failed;
    }
    println!("{all:?}");
    all
}

#[test]
fn what_is_told_of_overtaking_and_incremental_checkpoints_is_what_is_stored() {
    let test = billing(Kind::Overtaking);
    let calm = (0..30).map(|seed| Simulation::new(seed).with(Faults::None));
    let compared = compared(schedules::random(72_000, 150).chain(calm), |_| test.scenario());
    assert!(compared.records > 200 && compared.in_flight > 15 && compared.incremental > 20, "{compared:?}");
    assert!(compared.failed > 50, "{compared:?}");
}

#[test]
fn what_is_told_of_the_checkpoints_of_random_graphs_is_what_is_stored() {
    let compared = compared(schedules::random(73_000, 60), random_graph::of);
    assert!(compared.records > 120 && compared.incremental > 10, "{compared:?}");
}
