//! Every fault that a point allows, but the end of the process: it strikes, and the output has every record once all the same.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium::drill::{Arming, FaultDrill};
use alluvium::testing::faults::{Action, Fault, FaultPlan, Point, What};

use crate::{Numbers, options};

/// What has to go wrong before for a point to be reached at all.
fn before(point: Point) -> &'static str {
    match point {
        Point::DeclineSent | Point::DeclineReceived => "snapshot.asynchronous[hit=2]=error",
        Point::AbortSent | Point::AbortReceived | Point::BlobsDelete => "acknowledge.sent[hit=4,times=3]=drop",
        Point::ManifestReadBack => "manifest.written[hit=2]=error",
        Point::RestoreManifest | Point::RestoreSubtask | Point::RestoreBlob => {
            "commit.begins[hit=2]=panic; commit.done[hit=3]=panic"
        }
        _ => "",
    }
}

fn what(action: Action) -> Option<What> {
    Some(match action {
        // Nothing would be left that could look at the output.
        Action::Crash => return None,
        Action::Kill => What::Kill,
        Action::Error => What::Error,
        Action::Panic => What::Panic,
        Action::Delay => What::Delay(Duration::from_millis(7)),
        Action::Drop => What::Drop,
        Action::Duplicate => What::Duplicate,
        Action::Hold => What::Hold(Point::CompletionReceived),
    })
}

/// Runs the job with a fault. What is wrong then, and whether the fault has struck.
fn run(prepared: &FaultPlan, fault: &Fault) -> (Option<String>, bool) {
    let drill = FaultDrill::seeded(1);
    // What is held waits for a checkpoint that may never be complete because of it, so no longer than this.
    let arming = Arming::of(prepared.clone().and(fault.clone())).at_most(Duration::from_millis(400));
    drill.arm(arming).unwrap();
    let numbers = Numbers::new(3_000, 30_000);
    let handle = numbers.start(&options(&drill));
    let ended = handle.wait_blocking();
    let struck = drill.strikes().iter().any(|struck| struck.fault == *fault);
    match ended {
        Ok(_) => (numbers.fault(), struck),
        Err(error) => (Some(error.to_string()), struck),
    }
}

/// What is wrong when this happens there.
fn try_fault(point: Point, what: &What) -> Vec<String> {
    let prepared: FaultPlan = before(point).parse().unwrap();
    let mut wrong = Vec::new();
    // Real threads need not come to the point a second time: then the first time has to do.
    for hit in [2, 1, 1, 1] {
        let fault = Fault::at(point, what.clone()).unwrap().hit(hit);
        let (found, has_struck) = run(&prepared, &fault);
        wrong.extend(found.map(|found| format!("{prepared}; {fault}: {found}")));
        if has_struck {
            return wrong;
        }
    }
    wrong.push(format!("{prepared}; {point}={what}: it never struck"));
    wrong
}

/// Jobs at once: they wait most of the time.
const THREADS: usize = 8;

#[test]
fn every_fault_that_leaves_the_process_alive_is_survived() {
    let faults: Vec<(Point, What)> = Point::ALL
        .iter()
        .flat_map(|point| point.actions().iter().filter_map(what).map(|what| (*point, what)))
        .collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((point, what)) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let found = try_fault(*point, what);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "of {} faults these went wrong:\n{}", faults.len(), wrong.join("\n"));
}
