//! Rules of the runtime broken on purpose: the simulation finds every one.

use std::time::Instant;

use alluvium::testing::simulation::{Report, Simulation, Trouble};
use alluvium_actors::protocol::mutation::{self, Mutation};

use crate::cancelled::Cancelled;
use crate::flights::Flights;
use crate::graph::Ways;
use crate::regions::{Panics, Regions};
use crate::schedules::quiet;
use crate::second_job::SecondJob;
use crate::union::Union;

const JOBS: u64 = 7;

/// One schedule of the hunt, the same for all mutations: the jobs in turn.
fn hunt(number: u64) -> Result<Report, Box<Trouble>> {
    let simulation = Simulation::new(number / JOBS);
    match number % JOBS {
        0 => simulation.run(&mut SecondJob::new(2)),
        1 => simulation.run(&mut Flights::new(100, 2)),
        2 => simulation.run(&mut Ways::new()),
        3 => simulation.run(&mut Regions::new(Panics::Both)),
        4 => simulation.run(&mut Cancelled::default()),
        5 => simulation.run(&mut Union::new()),
        _ => simulation.run(&mut SecondJob::new(1)),
    }
    .map_err(Box::new)
}

#[test]
#[ignore = "makes the table"]
fn the_table_of_mutations() {
    quiet::install();
    let runs: u64 = std::env::var("RUNS").map_or(140, |t| t.parse().unwrap());
    let only = std::env::var("ONLY").ok();
    for mutation in Mutation::ALL {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|name| name == mutation.name())) {
            continue;
        }
        let began = Instant::now();
        let mut found: Vec<(u64, String)> = Vec::new();
        let mut ran = 0;
        for number in 0..runs {
            if began.elapsed().as_secs() > 20 {
                break;
            }
            ran += 1;
            let outcome = mutation::during(*mutation, || quiet::during(|| hunt(number)));
            if let Err(trouble) = outcome {
                found.push((number, trouble.reason().chars().take(150).collect()));
            }
        }
        let rate = ran as f64 / began.elapsed().as_secs_f64();
        let mut by_job = [0; JOBS as usize];
        for (number, _) in &found {
            by_job[(number % JOBS) as usize] += 1;
        }
        println!(
            "{:30} first {:?} found {}/{ran} by job {by_job:?} {rate:.0}/s {:?}",
            mutation.name(),
            found.first().map(|(number, _)| number),
            found.len(),
            found.iter().map(|(_, reason)| reason.replace('\n', " ")).take(3).collect::<Vec<_>>()
        );
    }
}
