//! What is set on single nodes, on real threads: workers, credits, chains that change between two starts.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::{Graph, Job, JobEvent, JobOutcome, Options};

use crate::{every_20_ms, lines, wait_for};

/// The threads on which something ran.
#[derive(Clone, Default)]
struct Threads(Arc<Mutex<BTreeSet<String>>>);

impl Threads {
    fn note(&self) {
        self.0.lock().unwrap().insert(format!("{:?}", thread::current().id()));
    }

    fn all(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn subtasks_run_on_the_workers_that_were_asked_for() {
    let (first, second, third) = (Threads::default(), Threads::default(), Threads::default());
    let (on_first, on_second, on_third) = (first.clone(), second.clone(), third.clone());
    let job = Job::new("workers");
    job.source("numbers", Generator::bounded(5_000, |index| index))
        .map(move |number| {
            on_first.note();
            number
        })
        .map(move |number| {
            on_second.note();
            number
        })
        .first_worker(1)
        .map(move |number| {
            on_third.note();
            number
        })
        .first_worker(4)
        .for_each("nothing", |_| {});
    job.build().unwrap().start(&Options::default().workers(2)).unwrap().wait_blocking().unwrap();
    assert_eq!((first.all().len(), second.all().len()), (1, 1));
    assert!(first.all().is_disjoint(&second.all()), "worker 0 and worker 1 are two threads");
    assert_eq!(first.all(), third.all(), "of two workers, worker 4 is worker 0");
    let here: ThreadId = thread::current().id();
    assert!(!first.all().contains(&format!("{here:?}")));
}

/// How far a producer came, and who waits for it.
#[derive(Clone, Default)]
struct Reached(Arc<(Mutex<u64>, Condvar)>);

impl Reached {
    fn note(&self, number: u64) {
        *self.0.0.lock().unwrap() = number;
        self.0.1.notify_all();
    }

    /// Whether it comes so far before a minute is over.
    fn wait(&self, number: u64) -> bool {
        let reached = self.0.0.lock().unwrap();
        let minute = Duration::from_secs(60);
        !self.0.1.wait_timeout_while(reached, minute, |reached| *reached < number).unwrap().1.timed_out()
    }
}

#[test]
fn a_producer_runs_as_far_ahead_as_the_credits_of_the_edge_allow() {
    // 30 batches of 1,024 records: far more than the 8 that are usual.
    const AHEAD: u64 = 30 * 1_024;
    let reached = Reached::default();
    let (producing, consuming) = (reached.clone(), reached);
    let job = Job::new("credits");
    job.source("numbers", Generator::bounded(100_000, |index| index))
        .map(move |number| {
            producing.note(number);
            number
        })
        .map(move |number| {
            assert!(number > 0 || consuming.wait(AHEAD), "the producer stopped before it was {AHEAD} records ahead");
            number
        })
        .first_worker(1)
        .credits(64)
        .for_each("nothing", |_| {});
    let report = job.build().unwrap().start(&Options::default().workers(2)).unwrap().wait_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Finished);
}

/// Counts numbers by their last digit, in chains or without.
fn counting(output: &std::path::Path, chaining: bool, rate: Option<u64>) -> Graph {
    let job = Job::new("numbers").parallelism(2).chaining(chaining);
    let mut source = Generator::bounded(20_000, |index| index).splits(2);
    if let Some(rate) = rate {
        source = source.rate(rate);
    }
    job.source("numbers", source)
        .filter(|_| true)
        .key_by_value(|number| number % 10)
        .aggregate("counts", 0_u64, |digit, count, _| {
            *count += 1;
            format!("{digit},{count}")
        })
        .map(|line| line)
        .sink("lines", Lines::exactly_once(output).suffix(".csv"));
    job.build().unwrap()
}

#[test]
fn a_job_goes_on_when_its_chains_were_cut_in_between() {
    let place = tempfile::tempdir().unwrap();
    let (store, output) = (place.path().join("store"), place.path().join("output"));
    let options = every_20_ms(&store);
    let handle = counting(&output, true, Some(20_000)).start(&options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle.stop_blocking().unwrap();
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Stopped);
    let written = lines(&output).len();
    assert!(written < 20_000);
    let report = counting(&output, false, None).start(&options).unwrap().wait_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Finished);
    let mut expected: Vec<String> =
        (0..10).flat_map(|digit| (1..=2_000).map(move |count| format!("{digit},{count}"))).collect();
    expected.sort();
    assert_eq!(lines(&output), expected);
}
