//! What a seed decides can be written out: the run with every fault named does the same, event by event.

use alluvium::testing::simulation::{Faults, Order, Schedule, Simulation};

use crate::second_job::SecondJob;
use crate::{flights, schedules};

fn does_the_same(simulation: &Simulation) {
    let run = |simulation: &Simulation| {
        schedules::quietly(|| simulation.run(&mut SecondJob::new(2))).unwrap_or_else(|trouble| panic!("{trouble}"))
    };
    let report = run(simulation);
    let Faults::Exactly(_) = report.exactly.faults() else { panic!("{}", report.exactly) };
    let text = report.exactly.to_string();
    assert_eq!(text.parse(), Ok(report.exactly.clone()), "{text}");
    let again = run(&report.exactly);
    assert_eq!(again.fingerprint, report.fingerprint, "{simulation} is not {text}");
    assert_eq!(again.exactly, report.exactly, "{simulation}");
}

#[test]
fn a_run_by_chance_is_the_same_when_its_faults_are_named() {
    (0..60).map(Simulation::new).for_each(|simulation| does_the_same(&simulation));
}

#[test]
fn single_crashes_and_faults_at_points_are_the_same_when_they_are_named() {
    for text in [
        "3/none",
        "3/event/200",
        "4/event/900",
        "5/effect/30",
        "6/effect/90",
        "7/points/commit.begins[hit=2]=crash",
        "2/plain",
        "2/plain/event/100",
    ] {
        does_the_same(&text.parse().expect("a simulation"));
    }
}

#[test]
fn the_plain_order_lets_everybody_have_a_turn_and_nothing_happen_by_chance() {
    let report = |seed: u64| {
        let simulation = Simulation::new(seed).with(Faults::None).in_order(Order::Plain);
        simulation.run_twice(|| flights::Flights::new(100, 2)).unwrap_or_else(|trouble| panic!("{trouble}"))
    };
    let (plain, random) = (report(1), Simulation::new(1).with(Faults::None));
    assert!(plain.completed > 0, "{plain:?}");
    let random = random.run(&mut flights::Flights::new(100, 2)).unwrap_or_else(|trouble| panic!("{trouble}"));
    assert_ne!(plain.fingerprint, random.fingerprint);
}

#[test]
fn a_process_takes_along_only_what_a_schedule_says() {
    let told = |schedule: &str| {
        let schedule: Schedule = schedule.parse().expect("a schedule");
        let simulation = Simulation::new(1).with(Faults::Exactly(schedule));
        simulation.run(&mut SecondJob::new(1)).unwrap_or_else(|trouble| panic!("{trouble}"))
    };
    let crash = told("event[process=1,hit=300]=crash(process)");
    assert_eq!(crash.crashes, 1);
    let machine = told("event[process=1,hit=300]=crash(machine)");
    assert_eq!(machine.crashes, 1);
    assert_ne!(machine.fingerprint, crash.fingerprint);
    // The same said apart from the crash.
    let apart = told("event[process=1,hit=300]=crash(process); end[process=1]=machine");
    assert_eq!(apart.fingerprint, machine.fingerprint);
    let twice = told("event[process=1,hit=300]=crash(process); event[process=2,hit=200]=crash(process)");
    assert_eq!(twice.crashes, 2);
}
