//! A rule that is broken on purpose, found by a schedule with many faults, shrinks to the one or two that it takes.

use alluvium::testing::explore::{Exploration, Found};
use alluvium::testing::simulation::{Faults, ScheduledFault};
use alluvium_actors::protocol::mutation::{self, Mutation};

use crate::schedules::quiet;
use crate::second_job::SecondJob;

/// The first seed that finds it, with its schedule made smaller.
fn found(broken: Mutation) -> (Box<Found>, Vec<ScheduledFault>) {
    quiet::install();
    let exploration =
        Exploration::playing("second job", |simulation| quiet::during(|| simulation.run(&mut SecondJob::new(1))));
    let found = mutation::during(broken, || exploration.random(0..400).try_run().expect_err("nobody noticed"));
    let simulation = found.shrunk().simulation();
    let Faults::Exactly(schedule) = simulation.faults() else { panic!("{simulation}") };
    println!("{broken}: {}", found.shrunk());
    let faults = schedule.faults().to_vec();
    // Not the broken rule but the schedule would be at fault, if it failed without it.
    quiet::during(|| simulation.run(&mut SecondJob::new(1))).unwrap_or_else(|trouble| panic!("{trouble}"));
    (found, faults)
}

fn texts(faults: &[ScheduledFault]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn prepared_output_that_a_restore_forgets_shrinks_to_the_end_between_completion_and_commit() {
    let (found, faults) = found(Mutation::ForgetToCommitAgain);
    assert!(faults.len() == 1, "{found}");
    assert!(found.failures()[0].0.faults() == &Faults::Random);
}

#[test]
fn a_manifest_that_is_published_before_it_is_synced_shrinks_to_the_machine_that_goes() {
    let (found, faults) = found(Mutation::PublishBeforeSync);
    assert!((1..=2).contains(&faults.len()), "{found}");
    assert!(texts(&faults).contains("machine"), "{found}");
}

#[test]
fn records_behind_a_barrier_need_no_fault_at_all() {
    let (found, faults) = found(Mutation::WithoutAlignment);
    assert_eq!(faults, [], "{found}");
    assert!(found.to_string().contains("it fails without any fault"), "{found}");
}
