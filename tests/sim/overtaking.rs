//! Checkpoints whose barriers overtake, from the beginning or after a while: whole jobs under random faults, and what is broken without each of the rules.

use alluvium::testing::faults::Point;
use alluvium::testing::simulation::{Faults, Simulation};
use alluvium_actors::protocol::mutation::{self, Mutation};

use crate::mutations::orders::{Kind, billing};
use crate::schedules::{self, quiet};

#[test]
fn a_job_whose_barriers_overtake_survives_random_schedules() {
    let test = billing(Kind::Overtaking);
    let tally = schedules::run("a job whose barriers overtake", schedules::random(70_000, 120), || test.scenario());
    println!("a job whose barriers overtake: {tally}");
}

#[test]
fn a_job_whose_barriers_overtake_survives_crashes_at_events() {
    let test = billing(Kind::Overtaking);
    let crashes = schedules::crashes_at_events(71_000, 40, || test.scenario());
    let tally = schedules::run("crashes while barriers overtake", crashes, || test.scenario());
    println!("crashes while barriers overtake: {tally}");
}

#[test]
fn a_job_whose_barriers_overtake_survives_random_schedules_and_goes_on_at_other_parallelisms() {
    let test = billing(Kind::OvertakingRescaled);
    let name = "a job whose barriers overtake, rescaled";
    let tally = schedules::run(name, schedules::random(72_000, 200), || test.scenario());
    println!("{name}: {tally}");
}

#[test]
fn a_job_whose_barriers_overtake_survives_crashes_at_events_and_goes_on_at_other_parallelisms() {
    let test = billing(Kind::OvertakingRescaled);
    let crashes = schedules::crashes_at_events(73_000, 60, || test.scenario());
    let tally = schedules::run("crashes while barriers overtake, rescaled", crashes, || test.scenario());
    println!("crashes while barriers overtake, rescaled: {tally}");
}

#[test]
fn barriers_do_overtake_and_what_was_overtaken_is_captured() {
    quiet::install();
    let test = billing(Kind::Overtaking);
    let mut captures = 0;
    for seed in 0..10 {
        let report = Simulation::new(seed).with(Faults::None).run(&mut test.scenario());
        let report = report.unwrap_or_else(|trouble| panic!("{trouble}"));
        captures += report.reached.get(&Point::CaptureEnds).copied().unwrap_or(0);
    }
    assert!(captures > 50, "{captures} captures in ten runs");
}

#[test]
fn a_job_whose_barriers_overtake_notices_each_broken_rule_of_it() {
    quiet::install();
    let (same, other) = (billing(Kind::Overtaking), billing(Kind::OvertakingRescaled));
    let of_same = [
        Mutation::CaptureNothing,
        Mutation::CaptureTooLate,
        Mutation::RestoredBehindNew,
        Mutation::RestoredNotCaptured,
    ];
    let of_other = [
        Mutation::FormerInFlightForgotten,
        Mutation::InFlightDealtWithoutKeys,
        Mutation::ReroutedBackwards,
        Mutation::FusedInFlightForgotten,
    ];
    let mutations =
        of_same.map(|mutation| (mutation, &same)).into_iter().chain(of_other.map(|mutation| (mutation, &other)));
    for (mutation, test) in mutations {
        let found = (0..400).find(|seed| {
            let run = || Simulation::new(*seed).run(&mut test.scenario());
            mutation::during(Some(mutation), || quiet::during(run)).is_err()
        });
        println!("{mutation}: seed {found:?}");
        assert!(found.is_some(), "{mutation} is not found within 400 seeds");
    }
}
