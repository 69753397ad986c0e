//! Every fault that a point allows, at every operator and subtask that reaches it: the job comes to its end all the same, with every record once.

use alluvium::testing::explore::{Exploration, Hits};

use crate::schedules::quiet;
use crate::second_job::SecondJob;

#[test]
fn every_fault_at_every_point_is_survived() {
    quiet::install();
    let exploration =
        Exploration::playing("second job", |simulation| quiet::during(|| simulation.run_twice(SecondJob::settled)));
    let report = exploration.seed(3).points_at(Hits::First).pairs(200).most_failures(10).run();
    println!("{report}");
    println!("second job, points: {} runs, {} fault schedules: ", report.runs(), report.runs() - 1);
    assert_eq!(report.never_struck(), []);
    assert_eq!(report.never_reached(), []);
}
