//! A right job passes every checker, under crashes and faults, with every kind of sink that effects can be read from.

use std::time::Duration;

use alluvium::Options;
use alluvium::connect::{Collect, Lines};
use alluvium::testing::JobTest;
use alluvium::testing::TestRun;
use alluvium::testing::check::{
    AtLeastOnce, CutConsistency, Effects, ExactlyOnce, FileLines, Given, MonotoneIds, Output, PerKeyOrder, Progress,
    SinkFiles,
};
use alluvium::testing::models::{Ledger, Records};

use crate::billing::{Bill, ORDERS, Order, billing, expected, order};

/// All checkers over one sink.
fn all_checks<S: Effects<Record = Bill> + Clone>(run: &mut TestRun, orders: &Records<Order>, bills: &S) {
    run.check(ExactlyOnce::new(orders, |order| order.number, bills, |bill| bill.order));
    run.check(AtLeastOnce::new(orders, |order| order.number, bills, |bill| bill.order));
    run.check(CutConsistency::new(orders, |order| order.number, bills, |bill| bill.order));
    run.check(PerKeyOrder::new(bills, |bill| bill.customer, |bill| bill.sequence).without_gaps());
    run.check(MonotoneIds::new());
    run.check(Progress::within(Duration::from_secs(60)));
}

fn orders(run: &TestRun) -> Records<Order> {
    run.records("orders", ORDERS, order).splits(3).uneven_rate(5_000)
}

/// As the job's own options, with blobs, several checkpoints at a time, and short timeouts.
fn options() -> Options {
    Options::default()
        .inline_limit(64)
        .checkpoint_every(Duration::from_millis(10))
        .checkpoint_timeout(Duration::from_millis(100))
        .maximum_concurrent_checkpoints(2)
        .continue_on_checkpoint_errors()
}

#[test]
fn a_right_job_with_a_ledger_passes_every_checker() {
    let report = JobTest::new(|run| {
        let orders = orders(run);
        let bills = run.ledger("bills").latency(Duration::from_millis(3)).puts_off_commits(5, Duration::from_millis(2));
        all_checks(run, &orders, &bills);
        run.options(options());
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(0..60);
    assert!(report.crashes > 20 && report.completed > report.runs, "{report:?}");
}

#[test]
fn a_right_job_with_splits_that_appear_late_passes_every_checker() {
    JobTest::new(|run| {
        let orders = orders(run).splits_appear_every(Duration::from_millis(15));
        let bills = run.ledger("bills");
        all_checks(run, &orders, &bills);
        run.options(options());
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(100..130);
}

#[test]
fn the_output_of_a_right_job_is_what_is_expected() {
    JobTest::new(|run| {
        // One split and one reader: the orders of a customer keep their order.
        let orders = run.records("orders", ORDERS, order).splits(1).rate(5_000);
        let bills = run.ledger("bills");
        run.check(Output::new(&bills, expected(ORDERS)));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(0..20);
}

#[test]
fn a_right_job_with_a_collection_passes_every_checker() {
    JobTest::new(|run| {
        let (orders, bills) = (orders(run), Collect::new());
        all_checks(run, &orders, &bills);
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(0..20);
}

fn parse(line: &str) -> Result<Bill, String> {
    let numbers: Vec<u64> = line.split(',').filter_map(|field| field.parse().ok()).collect();
    let [customer, sequence, order] = numbers[..] else { return Err("it is no bill".to_owned()) };
    Ok(Bill { customer, sequence, order })
}

#[test]
fn a_right_job_with_files_passes_every_checker() {
    JobTest::new(|run| {
        let orders = orders(run);
        all_checks(run, &orders, &FileLines::new("/out", ".csv", parse));
        run.check(SinkFiles::new("/out", ".csv"));
        run.job(move |_| {
            let job = alluvium::Job::new("billing").parallelism(2);
            job.source("orders", orders.clone())
                .key_by(|order| &order.customer)
                .aggregate("count", 0_u64, |customer, count, order| {
                    *count += 1;
                    format!("{customer},{count},{}", order.number)
                })
                .sink("bills", Lines::exactly_once("/out").suffix(".csv"));
            job.build()
        });
    })
    .seeds(0..40);
}

#[test]
fn a_sink_without_transactions_passes_at_least_once() {
    JobTest::new(|run| {
        let orders = orders(run);
        let bills: Ledger<Bill> = Ledger::at_least_once(run.outside(), "bills");
        run.check(AtLeastOnce::new(&orders, |order| order.number, &bills, |bill| bill.order));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(0..20);
}

#[test]
fn effects_that_the_test_gives_itself_are_checked_too() {
    JobTest::new(|run| {
        let orders = orders(run);
        let bills = run.ledger("bills");
        let looked = bills.clone();
        let given = std::rc::Rc::new(Given::new("the bills", move |_| looked.committed()));
        run.check(ExactlyOnce::new(&orders, |order| order.number, &given, |bill: &Bill| bill.order));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(0..5);
}
