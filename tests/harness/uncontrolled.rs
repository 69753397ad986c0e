//! What a simulation cannot control, and what the comparison of two runs of one seed says of each: a clock, a random number, a thread, a hash order, what one run
//! leaves for the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use alluvium::operator::{ProcessContext, ProcessFunction};
use alluvium::testing::simulation::{Faults, Simulation};
use alluvium::testing::{JobTest, TestRun};
use alluvium::{Job, OperatorResult};

use crate::billing::assert_tells;

/// A job that makes something of numbers.
fn making<F: Fn(u64) -> u64 + Clone + Send + 'static>(run: &mut TestRun, make: F) {
    let (numbers, made) = (run.records("numbers", 50, |index| index).rate(5_000), run.ledger("made"));
    run.job(move |_| {
        let job = Job::new("making");
        job.source("numbers", numbers.clone()).map(make.clone()).sink("made", made.clone());
        job.build()
    });
}

/// What the comparison says.
fn reported(build: impl Fn(&mut TestRun) + Send + Sync) -> String {
    let test = JobTest::new(build);
    let trouble = test.try_run(&Simulation::new(1).with(Faults::None)).expect_err("the two runs were the same");
    trouble.reason().to_owned()
}

/// It names the first thing that the outside saw of it, in both runs.
#[track_caller]
fn assert_names_records(reason: &str) {
    assert_tells(
        reason,
        &["two runs of one seed differ at line", "first: ", "second: ", "made[0]: prepares checkpoint", "records "],
    );
}

#[test]
fn a_clock_that_a_user_reads_is_reported_at_the_first_records_that_show_it() {
    let reason = reported(|run| {
        making(run, |_| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64);
    });
    assert_names_records(&reason);
}

#[test]
fn a_moment_that_a_user_takes_is_reported_at_the_first_records_that_show_it() {
    let began = Instant::now();
    let reason = reported(|run| making(run, move |_| began.elapsed().as_nanos() as u64));
    assert_names_records(&reason);
}

#[test]
fn a_random_number_that_a_user_draws_is_reported_at_the_first_records_that_show_it() {
    let reason = reported(|run| making(run, |_| rand::random()));
    assert_names_records(&reason);
}

#[test]
fn a_thread_that_a_user_starts_is_reported_at_the_first_records_that_show_it() {
    let reason = reported(|run| {
        making(run, |number| {
            // The name of a thread is never used again, so two runs see two names.
            let id = std::thread::spawn(|| format!("{:?}", std::thread::current().id())).join().unwrap();
            let id: u64 = id.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
            number + id * 1_000
        });
    });
    assert_names_records(&reason);
}

/// Counts words, and emits all counts in the order of a hash map.
#[derive(Clone)]
struct InHashOrder;

impl ProcessFunction for InHashOrder {
    type In = u64;
    type Out = u64;

    fn process(&self, number: u64, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        let parts: HashMap<u64, u64> = (0..20).map(|part| (part, number * 100 + part)).collect();
        parts.into_values().for_each(|part| context.emit(part));
        Ok(())
    }
}

#[test]
fn a_hash_order_that_decides_the_order_of_records_is_reported_at_these_records() {
    let reason = reported(|run| {
        let (numbers, made) = (run.records("numbers", 50, |index| index).rate(5_000), run.ledger("made"));
        run.job(move |_| {
            let job = Job::new("making");
            job.source("numbers", numbers.clone()).process(InHashOrder).sink("made", made.clone());
            job.build()
        });
    });
    assert_names_records(&reason);
}

#[test]
fn a_hash_order_inside_of_a_record_is_no_difference() {
    JobTest::new(|run| {
        let (numbers, made) = (run.records("numbers", 50, |index| index).rate(5_000), run.ledger("made"));
        run.job(move |_| {
            let job = Job::new("making");
            job.source("numbers", numbers.clone())
                .map(|number: u64| (0..20).map(|part| (part, number)).collect::<HashMap<u64, u64>>())
                .sink("made", made.clone());
            job.build()
        });
    })
    .seeds(0..5);
}

#[test]
fn what_one_run_leaves_for_the_next_in_a_captured_arc_is_reported() {
    let count = Arc::new(AtomicU64::new(0));
    let reason = reported(|run| {
        // It was made outside of the closure, so it belongs to no run.
        let count = Arc::clone(&count);
        making(run, move |_| count.fetch_add(1, Ordering::Relaxed));
    });
    assert_names_records(&reason);
}

#[test]
fn an_arc_that_is_made_for_each_run_is_no_difference() {
    JobTest::new(|run| {
        let count = Arc::new(AtomicU64::new(0));
        making(run, move |_| count.fetch_add(1, Ordering::Relaxed));
    })
    .seeds(0..5);
}
