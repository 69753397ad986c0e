//! Broken rules that chance finds too seldom, each found at once by a plan of faults of its own.

use std::time::Duration;

use alluvium::testing::simulation::{Faults, Simulation};
use alluvium::testing::{JobTest, TestRun};
use alluvium::{Job, Options};
use alluvium_actors::protocol::mutation::{self, Mutation};

use crate::schedules::quiet;

/// Checks that this job survives these faults, all of which strike, in so many processes; and says what is wrong with it when the rule is broken.
#[track_caller]
fn reason(mutation: Mutation, faults: &str, processes: u32, test: &JobTest<'_>) -> String {
    quiet::install();
    let simulation = Simulation::new(1).with(Faults::Points(faults.parse().expect("a plan")));
    let run = |mutation| mutation::during(mutation, || quiet::during(|| test.try_run(&simulation)));
    let report = run(None).unwrap_or_else(|trouble| panic!("{trouble}"));
    assert_eq!((report.processes, report.unstruck.len()), (processes, 0));
    match run(Some(mutation)) {
        Err(trouble) => trouble.reason().to_owned(),
        Ok(_) => panic!("{mutation} is not noticed"),
    }
}

/// Copies two hundred numbers.
fn copies(run: &mut TestRun, rate: u64, options: Options) {
    let (numbers, copies) = (run.records("numbers", 200, |index| index).rate(rate), run.ledger("copies"));
    run.options(options);
    run.job(move |_| {
        let job = Job::new("copies");
        job.source("numbers", numbers.clone()).sink("copies", copies.clone());
        job.build()
    });
}

fn every(milliseconds: u64) -> Options {
    Options::default().checkpoint_every(Duration::from_millis(milliseconds)).continue_on_checkpoint_errors()
}

#[test]
fn ids_that_were_handed_out_beyond_those_of_the_run_record_are_found_when_they_come_again() {
    // No checkpoint of the first process completes, so nothing but the reservation tells the second one how far the ids went.
    let faults = "acknowledge.sent[process=1,always]=drop; trigger.sent[process=1,hit=30]=crash(process)";
    let test = JobTest::new(|run| copies(run, 200, every(10).checkpoint_timeout(Duration::from_millis(12))));
    let reason = reason(Mutation::ReservationNotStored, faults, 2, &test);
    assert!(reason.contains("was triggered after"), "{reason}");
}

#[test]
fn sources_that_do_not_go_on_after_a_failed_stop_are_found() {
    // The first manifest is that of the stop: the next checkpoint is far away.
    let test = JobTest::new(|run| {
        run.stop_after(Duration::from_millis(50));
        copies(run, 1_000, every(10_000));
    });
    let reason = reason(Mutation::StopNotCalledOff, "manifest.write=error", 1, &test);
    assert!(reason.contains("progress") || reason.contains("hangs"), "{reason}");
}

#[test]
fn a_channel_that_stays_blocked_behind_a_checkpoint_that_was_given_up_is_found() {
    // The barrier of one source comes, and that of the other not before the checkpoint has expired.
    let faults = "trigger.received[operator=right,hit=2]=delay(100ms)";
    let test = JobTest::new(|run| {
        let left = run.records("left", 400, |index| index).rate(1_000);
        let right = run.records("right", 400, |index| 1_000 + index).rate(1_000);
        let both = run.ledger("both");
        run.options(every(20).checkpoint_timeout(Duration::from_millis(20)));
        run.job(move |_| {
            let job = Job::new("both");
            let left = job.source("left", left.clone());
            left.union(&[&job.source("right", right.clone())]).rebalance().sink("both", both.clone());
            job.build()
        });
    });
    let reason = reason(Mutation::AbortLeavesBlocked, faults, 1, &test);
    assert!(reason.contains("progress") || reason.contains("hangs"), "{reason}");
}
