//! Every fault that a point allows, one by one: the job comes to its end all the same, with every record once.

use std::time::Duration;

use alluvium::testing::faults::{Action, End, Fault, FaultPlan, Point, What};
use alluvium::testing::simulation::{Faults, Simulation};

use crate::schedules;
use crate::second_job::SecondJob;

/// What has to go wrong before for a point to be reached at all.
fn before(point: Point) -> &'static str {
    match point {
        Point::DeclineSent | Point::DeclineReceived => "snapshot.asynchronous[hit=2]=error",
        Point::AbortSent | Point::AbortReceived | Point::BlobsDelete => "acknowledge.sent[hit=4,times=3]=drop",
        Point::ManifestReadBack => "manifest.written[hit=2]=error",
        Point::RestoreBlob => "commit.begins[hit=2]=crash(process)",
        _ => "",
    }
}

fn whats(action: Action) -> Vec<What> {
    match action {
        Action::Crash => vec![What::Crash(End::Process), What::Crash(End::Machine)],
        Action::Kill => vec![What::Kill],
        Action::Error => vec![What::Error],
        Action::Panic => vec![What::Panic],
        Action::Delay => vec![What::Delay(Duration::from_millis(7))],
        Action::Drop => vec![What::Drop],
        Action::Duplicate => vec![What::Duplicate],
        Action::Hold => vec![What::Hold(Point::CompletionReceived)],
    }
}

/// At which hit the fault strikes: one in the middle of the job, where there are several.
fn hit(point: Point) -> u64 {
    match point {
        Point::ManifestReadBack | Point::BlobsDelete => 1,
        _ => 2,
    }
}

/// Every point with every fault that it allows.
fn plans() -> Vec<(Point, FaultPlan)> {
    let mut plans = Vec::new();
    for point in Point::ALL {
        for what in point.actions().iter().flat_map(whats) {
            let mut plan: FaultPlan = before(*point).parse().expect("a plan");
            plan = plan.and(Fault::at(*point, what).expect("the point allows it").hit(hit(*point)));
            plans.push((*point, plan));
        }
    }
    plans
}

#[test]
fn every_fault_at_every_point_is_survived() {
    let plans = plans();
    let mut wrong = Vec::new();
    schedules::quietly(|| {
        for (number, (_, plan)) in plans.iter().enumerate() {
            let mut struck = false;
            for seed in 0..12 {
                let simulation = Simulation::new(number as u64 + 1_000 * seed).with(Faults::Points(plan.clone()));
                match simulation.run(&mut SecondJob::new(2)) {
                    Ok(report) => struck |= report.unstruck.is_empty(),
                    Err(trouble) => wrong.push(format!("{simulation}: {}", trouble.reason())),
                }
                if struck {
                    break;
                }
            }
            if !struck {
                wrong.push(format!("{plan}: it never struck"));
            }
        }
    });
    assert!(wrong.is_empty(), "of {} plans these went wrong:\n{}", plans.len(), wrong.join("\n"));
}
