//! Every fault that a point allows, but the end of the process: it strikes, and the output has every record once all the same.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium::drill::FaultDrill;
use alluvium::testing::faults::{Action, Fault, FaultPlan, Point, What};
use alluvium::{JobEvent, LocalRecovery};

use crate::{Numbers, PATIENCE, heard_options, is_completed};

/// How a job comes past a point.
struct Way {
    /// What has to go wrong before.
    before: &'static str,
    /// The how many-th time that it comes past is certain, and the fault is then.
    hit: u64,
    /// Only a job that comes to its end comes past.
    ends: bool,
}

fn way(point: Point) -> Way {
    let always = Way { before: "", hit: 2, ends: false };
    match point {
        // Once in the life of a job without failures, or of each sink or source.
        Point::RunBegins | Point::RunBegan | Point::IdsReserved => Way { hit: 1, ..always },
        Point::RestoreSink | Point::RestoreEnumerator | Point::SinkCleanUp => Way { hit: 1, ..always },
        Point::RestoreManifest | Point::RestoreSubtask | Point::RestoreBlob | Point::LocalRead => {
            Way { before: "commit.begins[hit=2]=panic; commit.done[hit=3]=panic", ..always }
        }
        Point::DeclineSent | Point::DeclineReceived => {
            Way { before: "snapshot.asynchronous[hit=2,times=3]=error", ..always }
        }
        // One subtask of the first checkpoint is not heard, the others were.
        Point::AbortSent | Point::AbortReceived => Way { before: "acknowledge.sent[hit=4,times=3]=drop", ..always },
        Point::BlobsDelete => Way { before: "acknowledge.sent[hit=4,times=3]=drop", hit: 1, ..always },
        Point::ManifestReadBack => Way { before: "manifest.written[hit=2]=error", hit: 1, ..always },
        Point::EndOfDataSent | Point::EndOfDataReceived | Point::ClosingSent | Point::ClosingReceived => {
            Way { ends: true, ..always }
        }
        _ => always,
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
        // Where that does not come because of it, the longest hold ends it.
        Action::Hold => What::Hold(Point::CompletionReceived),
    })
}

/// Waits until this fault has struck. False if it does not come to that.
fn has_struck(drill: &FaultDrill, fault: &Fault) -> bool {
    loop {
        let strikes = drill.strikes();
        if strikes.iter().any(|struck| struck.fault == *fault) {
            return true;
        }
        if !drill.wait_for_strikes(strikes.len() as u64 + 1, PATIENCE) {
            return false;
        }
    }
}

/// What is wrong when this happens there.
fn try_fault(point: Point, what: &What) -> Option<String> {
    let Way { before, hit, ends } = way(point);
    let fault = Fault::at(point, what.clone()).unwrap().hit(hit);
    let plan = before.parse::<FaultPlan>().unwrap().and(fault.clone());
    let drill = FaultDrill::seeded(1);
    drill.arm(plan.clone()).unwrap();
    let numbers = if ends { Numbers::bounded(1_000, 50_000) } else { Numbers::endless() };
    let (mut options, heard) = heard_options(&drill);
    let store = tempfile::tempdir().unwrap();
    if matches!(point, Point::LocalRead | Point::LocalWrite) {
        options = options.store(store.path().join("store")).local_recovery(LocalRecovery::default());
    }
    if point == Point::CaptureEnds {
        // Each subtask behind the exchange has two channels: the first barrier overtakes on the other one.
        options = options.unaligned();
    }
    // A checkpoint that has lost something is given up soon.
    let handle = numbers.start(&options.checkpoint_timeout(Duration::from_millis(300)));
    let mut wrong = None;
    if !ends && has_struck(&drill, &fault) {
        // What follows from it is over when two checkpoints more are complete, or when the job has failed for good.
        let is_over = |event: &JobEvent| matches!(event, JobEvent::State(state) if state.is_terminal());
        let from = heard.count();
        if heard.wait_for(from, 2, |event| is_completed(event) || is_over(event)).is_none() {
            wrong = Some(format!("no two checkpoints were completed within {PATIENCE:?} after it"));
        }
    }
    let wrong = numbers.try_finish(&handle).or(wrong);
    let struck = drill.strikes().iter().any(|struck| struck.fault == fault);
    let wrong = wrong.or_else(|| (!struck).then(|| "it never struck".to_owned()));
    wrong.map(|wrong| format!("{plan}: {wrong}"))
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
