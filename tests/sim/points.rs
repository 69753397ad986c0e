//! Every fault that a point allows, at every operator and subtask that reaches it: the job comes to its end all the same, with every record once.

use alluvium::testing::explore::{Exploration, ExplorationReport, Hits};
use alluvium::testing::faults::Point;

use crate::schedules::quiet;
use crate::second_job::SecondJob;

/// Tries every fault at every point that the job reaches with these checkpoints.
fn explore(name: &str, build: fn() -> SecondJob) -> ExplorationReport {
    quiet::install();
    let exploration = Exploration::playing("second job", |simulation| quiet::during(|| simulation.run_twice(build)));
    let report = exploration.seed(3).points_at(Hits::First).pairs(200).most_failures(10).run();
    println!("{report}");
    println!("{name}: {} runs, {} fault schedules: ", report.runs(), report.runs() - 1);
    assert_eq!(report.never_struck(), []);
    report
}

#[test]
fn every_fault_at_every_point_is_survived() {
    let report = explore("second job, points", SecondJob::settled);
    assert_eq!(report.never_reached(), [Point::CaptureEnds], "no barrier overtakes");
}

#[test]
fn every_fault_at_every_point_is_survived_where_barriers_overtake() {
    let report = explore("second job, points where barriers overtake", SecondJob::overtaking);
    assert_eq!(report.never_reached(), []);
}
