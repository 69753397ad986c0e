//! Every fault that a point allows, at every operator and subtask that reaches it: the job comes to its end all the same, with every record once.

use alluvium::testing::explore::{Exploration, Hits};
use alluvium::testing::faults::Point;

use crate::schedules::quiet;
use crate::second_job::SecondJob;

#[test]
fn every_fault_at_every_point_is_survived() {
    quiet::install();
    let exploration =
        Exploration::playing("second job", |simulation| quiet::during(|| simulation.run(&mut SecondJob::new(1))));
    let report = exploration.seed(3).points_at(Hits::First).pairs(200).most_failures(10).run();
    println!("{report}");
    println!("second job, points: {} runs, {} fault schedules: ", report.runs(), report.runs() - 1);
    // With the options that this seed draws, only pairs of faults come past these.
    let by_pairs = [Point::RestoreBlob, Point::BlobsDelete];
    let never: Vec<_> = report.never_struck().into_iter().filter(|(point, _)| !by_pairs.contains(point)).collect();
    assert_eq!(never, []);
    // What only a fault leads to is reached behind that fault.
    for point in
        [Point::DeclineReceived, Point::AbortReceived, Point::ManifestReadBack, Point::RestoreBlob, Point::BlobsDelete]
    {
        assert!(report.reached.contains_key(&point), "{point}");
    }
}
