//! A right job passes every checker, under crashes and faults, with every kind of sink that effects can be read from.

use std::time::Duration;

use alluvium::JobState;
use alluvium::Options;
use alluvium::connect::{Collect, Lines};
use alluvium::testing::JobTest;
use alluvium::testing::TestRun;
use alluvium::testing::check::{
    AtLeastOnce, Check, CutConsistency, Effect, Effects, ExactlyOnce, FileLines, Given, MonotoneIds, Output,
    PerKeyOrder, Progress, Scene, SinkFiles, Verdict, Violation,
};
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::models::{Ledger, Records};
use alluvium::testing::simulation::{History, Outside, World};
use alluvium_actors::ids::Moment;

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

/// Effects that are there from the beginning.
#[derive(Clone)]
struct Listed<T>(Vec<T>);

impl<T: Clone + 'static> Effects for Listed<T> {
    type Record = T;

    fn name(&self) -> String {
        "the list".to_owned()
    }

    fn from(&self, first: usize) -> Vec<Effect<T>> {
        self.0[first..].iter().cloned().map(Effect::of).collect()
    }

    fn all(&self, _: &Scene<'_>) -> Result<Vec<Effect<T>>, Violation> {
        Ok(self.from(0))
    }
}

/// Judges the output of a job that has finished.
fn judge<T: alluvium::record::Record>(found: Vec<T>, expected: Vec<T>) -> Result<Verdict, Violation> {
    let (disk, history) = (SimulatedDisk::new(), History::default());
    let now = Moment::default();
    let world = World { disk: &disk, complete: None, state: JobState::Finished, calm: true, last_fault: None, now };
    let scene = Scene { world: &world, history: &history, job: "list", store: None };
    Output::new(&Listed(found), expected).ended(&scene)
}

#[test]
fn output_that_differs_in_nothing_but_bytes_is_found() {
    assert_eq!(judge(vec![1_u128, 2], vec![2, 1]), Ok(Verdict::Kept));
    let wrong = judge(vec![1_u128, 3], vec![1, 2]).expect_err("3 is not 2").to_string();
    assert!(
        wrong.contains("missing: 16 bytes [00, 00")
            && wrong.contains(", 02]; not expected, or not so often: 16 bytes ["),
        "{wrong}"
    );
    let deep = |leaf: &str| serde_json::from_str(&format!("{}{leaf}{}", "[".repeat(40), "]".repeat(40))).unwrap();
    let _: serde_json::Value = deep("1");
    judge::<serde_json::Value>(vec![deep("1")], vec![deep("2")]).expect_err("they differ, however deep");
}

#[test]
fn a_record_that_cannot_be_encoded_is_no_expected_output() {
    #[derive(Clone, serde::Deserialize)]
    struct Secret;
    impl serde::Serialize for Secret {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is secret"))
        }
    }
    let wrong = judge(vec![Secret], vec![Secret]).expect_err("nobody knows").to_string();
    assert_eq!(wrong, "an expected record cannot be encoded, and so not be compared: it is secret");
    let wrong = judge(vec![Secret], vec![]).expect_err("nobody knows").to_string();
    assert_eq!(wrong, "a record in `the list` cannot be encoded, and so not be compared: it is secret, once");
}

#[test]
fn a_run_that_goes_on_behind_an_end_counts_no_effect_again() {
    let numbers = Records::bounded(&Outside::detached(1), "numbers", 3, |index| index);
    let listed = Listed(vec![0, 1, 2]);
    let mut once = ExactlyOnce::new(&numbers, |number| *number, &listed, |number| *number);
    let mut order = PerKeyOrder::new(&listed, |_| 0, |number| number + 1).without_gaps();
    let (disk, history) = (SimulatedDisk::new(), History::default());
    let world = World {
        disk: &disk,
        complete: None,
        state: JobState::Finished,
        calm: false,
        last_fault: None,
        now: Moment::default(),
    };
    let scene = Scene { world: &world, history: &history, job: "numbers", store: None };
    let checks: [&mut dyn Check; 2] = [&mut once, &mut order];
    for check in checks {
        for _ in 0..2 {
            assert_eq!(check.observe(&scene), Ok(()));
            assert_eq!(check.ended(&scene), Ok(Verdict::Kept));
        }
    }
}
