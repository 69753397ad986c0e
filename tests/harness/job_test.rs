//! `JobTest` itself: its message and the line that repeats it, its defaults, and what is asked of a running job.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::testing::check::{Check, ExactlyOnce, Scene, Verdict, Violation};
use alluvium::testing::models::{Ledger, Records};
use alluvium::testing::simulation::{Faults, Simulation};
use alluvium::testing::{JobTest, TestRun};
use alluvium::{CheckpointKind, ExternalizedCheckpointRetention, Job, JobEvent, JobState, Listener, Options};

use crate::billing::{Bill, ORDERS, assert_tells, billing, order};

/// Orders, bills, and that each order is billed once.
fn ends(run: &mut TestRun) -> (Records<crate::billing::Order>, Ledger<Bill>) {
    let (orders, bills) = (run.records("orders", ORDERS, order).splits(2).rate(5_000), run.ledger("bills"));
    run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill: &Bill| bill.order));
    (orders, bills)
}

/// What the panic of a test says.
fn panic_of(test: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).expect_err("nothing was found wrong");
    panic.downcast_ref::<String>().expect("it is a text").clone()
}

#[test]
fn a_failing_run_says_what_is_wrong_tells_the_story_and_ends_with_the_line_that_repeats_it() {
    let test = JobTest::new(|run| {
        let orders = run.records("orders", ORDERS, order).splits(2).rate(5_000);
        let bills: Ledger<Bill> = Ledger::at_least_once(run.outside(), "bills");
        run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill| bill.order));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    });
    let message = panic_of(|| {
        test.seeds(0..60);
    });
    let first = message.lines().next().unwrap();
    assert!(
        first.starts_with("exactly once is violated: ") && first.contains("took effect twice in `bills`"),
        "{first}"
    );
    // Who did what, and when, by the names that the user gave.
    assert_tells(
        &message,
        &[
            "what happened before:",
            "orders[0]: emits ",
            "orders[0]: the barrier of checkpoint ",
            "bills[1]: writes ",
            "coordinator receives Acknowledge",
            "at barrier.sent: orders[",
            "to count -> bills[",
        ],
    );
    let last = message.lines().last().unwrap();
    let name = "job_test::a_failing_run_says_what_is_wrong_tells_the_story_and_ends_with_the_line_that_repeats_it";
    assert!(last.starts_with("to repeat it: ALLUVIUM_SIMULATION_SEED="), "{last}");
    assert!(last.ends_with(&format!(" cargo test {name} -- --exact")), "{last}");
    // The line names the run: it fails again, in the same way.
    let seed: Simulation = last.split('\'').nth(1).unwrap().parse().unwrap();
    assert_eq!(test.message(&test.try_run(&seed).unwrap_err()), message);
}

#[test]
fn one_seed_is_one_run_and_two_seeds_are_two() {
    let test = JobTest::new(|run| {
        let (orders, bills) = ends(run);
        run.job(move |_| billing(orders.clone(), bills.clone()));
    });
    let fingerprint = |seed| test.try_run(&Simulation::new(seed)).unwrap().fingerprint;
    assert_eq!(fingerprint(1), fingerprint(1));
    assert_ne!(fingerprint(1), fingerprint(2));
    let all = test.seeds(0..3);
    assert_eq!(all.runs, 3);
    assert!(all.processes >= 3 && all.completed > 0, "{all:?}");
}

#[test]
fn a_test_is_run_on_several_threads_at_once() {
    let test = JobTest::new(|run| {
        let (orders, bills) = ends(run);
        run.job(move |_| billing(orders.clone(), bills.clone()));
    });
    let report = |seed| test.try_run(&Simulation::new(seed)).unwrap().fingerprint;
    let alone: Vec<u64> = (0..4).map(report).collect();
    let together: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || report(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn the_catalogue_the_store_and_the_models_are_new_in_each_run_and_kept_across_its_processes() {
    let built = AtomicU64::new(0);
    let report = JobTest::new(|run| {
        built.fetch_add(1, Ordering::Relaxed);
        let (orders, bills) = ends(run);
        assert!(bills.committed().is_empty());
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(0..10);
    assert_eq!(built.into_inner(), 20, "each run is made twice");
    assert!(report.processes > 10, "{report:?}");
}

/// Notes the state in which the run ended.
struct End(Arc<Mutex<Vec<JobState>>>);

impl Check for End {
    fn rule(&self) -> &str {
        "an end"
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.0.lock().unwrap().push(scene.world.state);
        Ok(Verdict::Kept)
    }
}

/// Counts what the listener of the user's options hears.
#[derive(Default)]
struct Heard {
    requested: AtomicU64,
    stops: AtomicU64,
}

impl Listener for Heard {
    fn event(&self, event: JobEvent) {
        match event {
            JobEvent::Completed { kind: CheckpointKind::Stopping, .. } => self.stops.fetch_add(1, Ordering::Relaxed),
            JobEvent::Completed { .. } => self.requested.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

#[test]
fn a_checkpoint_and_a_stop_are_asked_for_at_a_virtual_time_and_the_job_goes_on_after_the_stop() {
    let (heard, states) = (Arc::new(Heard::default()), Arc::new(Mutex::new(Vec::new())));
    JobTest::new(|run| {
        let (orders, bills) = ends(run);
        run.check(End(Arc::clone(&states)));
        // Without an interval: what is completed was asked for, or is the end.
        run.options(Options::default().listener(Arc::clone(&heard) as Arc<dyn Listener>));
        run.checkpoint_after(Duration::from_millis(10));
        run.stop_after(Duration::from_millis(20));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .without_faults()
    .once()
    .run(1);
    assert_eq!(*states.lock().unwrap(), [JobState::Finished]);
    assert_eq!(heard.stops.load(Ordering::Relaxed), 1);
    assert_eq!(heard.requested.load(Ordering::Relaxed), 2, "the one that was asked for, and the final one");
}

#[test]
fn a_run_ends_with_a_stop_for_good_and_what_lies_before_the_stop_is_checked() {
    let states = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::new(AtomicU64::new(0));
    JobTest::new(|run| {
        let (orders, bills) = ends(run);
        run.check(End(Arc::clone(&states)));
        run.stop_for_good_after(Duration::from_millis(20));
        let (count, looked) = (Arc::clone(&count), bills.clone());
        run.check(Ended(Box::new(move || count.store(looked.committed().len() as u64, Ordering::Relaxed))));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .without_faults()
    .run(3);
    assert_eq!(*states.lock().unwrap(), [JobState::Stopped; 2]);
    let count = count.load(Ordering::Relaxed);
    assert!((1..ORDERS).contains(&count), "{count} bills");
}

/// Does something at the end.
struct Ended(Box<dyn FnMut()>);

impl Check for Ended {
    fn rule(&self) -> &str {
        "an end"
    }

    fn ended(&mut self, _: &Scene<'_>) -> Result<Verdict, Violation> {
        (self.0)();
        Ok(Verdict::Kept)
    }
}

#[test]
fn a_cancelled_job_goes_on_in_the_next_process() {
    let states = Arc::new(Mutex::new(Vec::new()));
    let report = JobTest::new(|run| {
        let (orders, bills) = ends(run);
        run.check(End(Arc::clone(&states)));
        run.cancel_after(Duration::from_millis(15));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .without_faults()
    .run(1);
    assert_eq!(*states.lock().unwrap(), [JobState::Finished; 2]);
    assert_eq!(report.processes, 2);
}

#[test]
fn a_job_that_is_cancelled_for_good_has_committed_what_was_complete() {
    let states = Arc::new(Mutex::new(Vec::new()));
    JobTest::new(|run| {
        let (orders, bills) = ends(run);
        run.check(End(Arc::clone(&states)));
        let options = Options::default().checkpoint_every(Duration::from_millis(10));
        run.options(options.externalized_checkpoints(ExternalizedCheckpointRetention::DeleteOnCancellation));
        run.cancel_for_good_after(Duration::from_millis(25));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .without_faults()
    .run(1);
    assert_eq!(*states.lock().unwrap(), [JobState::Cancelled; 2]);
}

#[test]
fn a_job_without_an_end_runs_until_its_stop_under_crashes() {
    let report = JobTest::new(|run| {
        let orders = Records::unbounded(run.outside(), "orders", order).splits(2).rate(5_000);
        let bills = run.ledger("bills");
        run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill: &Bill| bill.order));
        run.stop_after(Duration::from_millis(60));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .seeds(0..20);
    assert!(report.completed > 20, "{report:?}");
}

#[test]
fn each_process_may_have_options_and_requests_of_its_own() {
    let processes = Arc::new(AtomicU64::new(0));
    let report = JobTest::new(|run| {
        let (orders, bills) = ends(run);
        let processes = Arc::clone(&processes);
        run.job(move |process| {
            processes.fetch_add(1, Ordering::Relaxed);
            let interval = Duration::from_millis(10 + process.random() % 10);
            process.options(Options::default().checkpoint_every(interval));
            process.checkpoint_after(Duration::from_millis(3));
            if process.number() == 1 {
                process.stop_after(Duration::from_millis(8));
            }
            billing(orders.clone(), bills.clone())
        });
    })
    .once()
    .seeds(0..10);
    assert_eq!(processes.load(Ordering::Relaxed), report.processes);
}

#[test]
fn a_file_that_the_job_reads_is_there_in_the_first_process() {
    use alluvium::connect::LineFiles;
    JobTest::new(|run| {
        run.file("/input/words.txt", "tea\ncups\nwater\n");
        let words = run.ledger::<String>("words");
        let expected = ["tea", "cups", "water"].map(str::to_owned);
        run.check(alluvium::testing::check::Output::new(&words, expected));
        run.job(move |_| {
            let job = alluvium::Job::new("words");
            job.source("lines", LineFiles::new("/input/words.txt")).sink("words", words.clone());
            job.build()
        });
    })
    .seeds(0..10);
}

#[test]
fn a_test_that_cannot_run_says_what_is_missing() {
    let nothing = panic_of(|| {
        JobTest::new(|_| {}).run(1);
    });
    assert_tells(&nothing, &["the test has no job: call `run.job(..)` in the closure of `JobTest::new`"]);
    let without_an_end = panic_of(|| {
        JobTest::new(|run| {
            let orders = Records::unbounded(run.outside(), "orders", order).rate(1_000);
            let bills = run.ledger("bills");
            run.job(move |_| billing(orders.clone(), bills.clone()));
        })
        .run(1);
    });
    assert_tells(
        &without_an_end,
        &["the source `orders` has no end, and nobody stops the job: call `run.stop_after(..)`"],
    );
}

#[test]
fn a_job_that_fails_for_good_is_told_with_its_failure() {
    let test = JobTest::new(|run| {
        let orders = run.records("orders", ORDERS, order).rate(5_000);
        let bills = run.ledger("bills");
        run.job(move |_| {
            let job = alluvium::Job::new("billing");
            job.source("orders", orders.clone())
                .try_map(|order: crate::billing::Order| match order.number {
                    100 => Err(alluvium::OperatorError::unrecoverable("order 100 has no address")),
                    number => Ok(Bill { customer: order.customer, sequence: 0, order: number }),
                })
                .sink("bills", bills.clone());
            job.build()
        });
    });
    let trouble = test.try_run(&Simulation::new(1).with(Faults::None)).unwrap_err();
    assert_tells(trouble.reason(), &["the job is Failed", "order 100 has no address"]);
}

#[test]
fn a_fault_that_strikes_in_no_run_is_no_test() {
    let plan = |text: &str| Faults::Points(text.parse().expect("a plan"));
    let run = |text: &str| {
        let test = JobTest::new(|run| {
            let orders = run.records("orders", 20, |index| index).rate(2_000);
            let bills = run.ledger("bills");
            run.job(move |_| {
                let job = Job::new("billing");
                job.source("orders", orders.clone()).sink("bills", bills.clone());
                job.build()
            });
        });
        test.faults(plan(text)).seeds(0..3)
    };
    assert_eq!(run("commit.done[operator=bills]=crash").never_struck, Vec::<String>::new());
    let misspelt = "commit.done[operator=bilss]=crash";
    let panic = std::panic::catch_unwind(|| run(misspelt)).expect_err("nobody is called so");
    let message = panic.downcast_ref::<String>().expect("a text");
    assert!(message.contains(&format!("never struck: {misspelt};")), "{message}");
}

#[test]
#[should_panic = "the seeds 3..3 are none, and a test that makes no run tests nothing"]
fn a_test_without_seeds_is_no_test() {
    JobTest::new(|_| {}).seeds(3..3);
}

#[test]
fn the_greatest_seed_is_a_run_too() {
    let report = JobTest::new(|run| {
        let orders = run.records("orders", 20, |index| index);
        let bills = run.ledger("bills");
        run.job(move |_| {
            let job = Job::new("billing");
            job.source("orders", orders.clone()).sink("bills", bills.clone());
            job.build()
        });
    })
    .run(u64::MAX);
    assert_eq!(report.runs, 1);
}

/// Finds something wrong at every end, so that the story is told.
struct NeverContent;

impl alluvium::testing::check::Check for NeverContent {
    fn rule(&self) -> &str {
        "contentment"
    }

    fn ended(&mut self, _: &Scene<'_>) -> Result<Verdict, Violation> {
        Err(Violation::new("it could be better"))
    }
}

#[test]
fn what_a_process_finds_of_its_catalogue_is_told_and_goes_wrong_only_with_faults() {
    let test = JobTest::new(|run| {
        let orders = run.records("orders", 20, |index| index);
        let bills = run.ledger("bills");
        run.check(NeverContent);
        run.job(move |_| {
            let job = Job::new("billing");
            job.source("orders", orders.clone()).sink("bills", bills.clone());
            job.build()
        });
    });
    let fates = |faults: Faults| -> BTreeSet<String> {
        let stories = (0..40)
            .map(|seed| test.try_run(&Simulation::new(seed).with(faults.clone())).unwrap_err().story().to_owned());
        let lines: Vec<String> =
            stories.flat_map(|story| story.lines().map(ToOwned::to_owned).collect::<Vec<_>>()).collect();
        lines.iter().filter_map(|line| Some(line.split_once("catalogue: is found ")?.1.to_owned())).collect()
    };
    assert_eq!(fates(Faults::None), BTreeSet::new());
    let all: Vec<String> = fates(Faults::Random).into_iter().collect();
    assert_eq!(all, ["broken", "earlier", "empty", "partly-lost"]);
}
