//! Jobs of two regions on the actix host: one fails, the other runs on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::{
    FailoverStrategy, Graph, Job, JobError, JobEvent, JobHandle, JobOutcome, JobState, Options, RestartStrategy,
};

const RECORDS: u64 = 5_000;

/// What the user's code of the two sides does with a record, before it counts it.
type Code = Arc<dyn Fn(u64) + Send + Sync>;

fn code(code: impl Fn(u64) + Send + Sync + 'static) -> Code {
    Arc::new(code)
}

/// Two sides that have nothing to do with each other.
fn two_sides(left: Code, right: Code) -> (Graph, [Collect<u64>; 2]) {
    let job = Job::new("two sides").parallelism(2);
    let outputs = [Collect::new(), Collect::new()];
    for ((name, code), output) in [("left", left), ("right", right)].into_iter().zip(&outputs) {
        let seen = move |number| {
            code(number);
            number
        };
        job.source(name, Generator::bounded(RECORDS, |index| index).splits(2).rate(50_000))
            .map(seen)
            .name(&format!("{name}-code"))
            .key_by_value(|number| number % 7)
            .aggregate(&format!("{name}-sums"), 0_u64, |_, sum, number| {
                *sum += 1;
                number
            })
            .sink(&format!("{name}-out"), output.clone());
    }
    (job.build().unwrap(), outputs)
}

fn options(restart: RestartStrategy) -> Options {
    Options::default()
        .checkpoint_every(Duration::from_millis(10))
        // State goes into blobs, whose writes a region that ends refuses.
        .inline_limit(0)
        .restart(restart)
        .workers(2)
}

fn every_record_once(output: &Collect<u64>) {
    let mut numbers = output.collected();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..RECORDS), "{} records", numbers.len());
}

/// Counts records, and tells when the last one has come.
struct Counter {
    seen: AtomicU64,
    all: Mutex<Sender<()>>,
}

impl Counter {
    fn new() -> (Arc<Counter>, Receiver<()>) {
        let (all, told) = channel();
        (Arc::new(Counter { seen: AtomicU64::new(0), all: Mutex::new(all) }), told)
    }

    fn count(&self) {
        if self.seen.fetch_add(1, Ordering::SeqCst) + 1 == RECORDS {
            let _ = self.all.lock().unwrap().send(());
        }
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }
}

/// Panics at the record of this number, so many times.
fn panics_at(record: u64, times: u64) -> Code {
    let left = AtomicU64::new(times);
    code(move |number| {
        let panics =
            number == record && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        assert!(!panics, "the left side does not like {record}");
    })
}

fn ended(handle: &JobHandle) -> JobOutcome {
    handle.wait_blocking().unwrap().outcome
}

#[test]
fn a_region_that_waits_for_its_restart_leaves_the_other_at_work() {
    let (counter, all) = Counter::new();
    let counted = Arc::clone(&counter);
    let (graph, _) = two_sides(panics_at(10, 1), code(move |_| counted.count()));
    let hour = RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_secs(3_600) };
    let handle = graph.start(&options(hour)).unwrap();
    let restarting = handle.events().find(|event| matches!(event, JobEvent::Restarting { .. })).unwrap();
    let JobEvent::Restarting { restart, operators, whole_job, regions, .. } = restarting else { unreachable!() };
    assert_eq!((restart, whole_job, regions.len()), (1, false, 1));
    assert!(operators.iter().all(|name| name.contains("left")), "{operators:?}");
    // The other region reads all that it has to read, while the first one waits for an hour.
    all.recv().unwrap();
    let status = handle.status();
    assert_eq!((status.state, status.restarts), (JobState::Restarting, 0));
    assert!(status.next_restart.is_some());
    assert_eq!(status.regions.iter().map(|region| region.restarting).collect::<Vec<_>>(), [true, false]);
    handle.cancel();
    assert_eq!(ended(&handle), JobOutcome::Cancelled);
    assert_eq!(counter.seen(), RECORDS);
}

#[test]
fn the_code_of_the_region_that_runs_on_sees_every_record_once() {
    let (counter, _all) = Counter::new();
    let counted = Arc::clone(&counter);
    let (graph, outputs) = two_sides(panics_at(1_000, 3), code(move |_| counted.count()));
    let restart = RestartStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(2) };
    let handle = graph.start(&options(restart)).unwrap();
    assert_eq!(ended(&handle), JobOutcome::Finished);
    outputs.iter().for_each(every_record_once);
    assert_eq!(counter.seen(), RECORDS, "nothing of it was replayed");
    let status = handle.status();
    assert_eq!(status.restarts, 3);
    assert_eq!(status.regions.iter().map(|region| region.restarts).collect::<Vec<_>>(), [3, 0]);
    assert!(status.regions[0].operators.iter().any(|name| name.contains("left-code")), "{:?}", status.regions);
}

#[test]
fn with_the_full_strategy_both_regions_restart() {
    let (graph, outputs) = two_sides(panics_at(1_000, 1), code(|_| {}));
    let restart = RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_millis(2) };
    let handle = graph.start(&options(restart).failover(FailoverStrategy::Full)).unwrap();
    assert_eq!(ended(&handle), JobOutcome::Finished);
    outputs.iter().for_each(every_record_once);
    assert_eq!(handle.status().regions.iter().map(|region| region.restarts).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn what_hangs_in_one_region_fails_the_job_by_operator_and_call() {
    let (release, hangs) = channel::<()>();
    let hangs = Mutex::new(hangs);
    let left = code(move |number| match number {
        // Two subtasks: one panics when the other is inside a call that does not return.
        0 => drop(hangs.lock().unwrap().recv()),
        1 => panic!("the other one hangs"),
        _ => {}
    });
    let (graph, _) = two_sides(left, code(|_| {}));
    let restart = RestartStrategy::FixedDelay { attempts: 1, delay: Duration::ZERO };
    let handle = graph.start(&options(restart).cancellation_timeout(Duration::from_millis(50))).unwrap();
    let error = handle.wait_blocking().unwrap_err();
    let JobError::Failed(failure) = &error else { panic!("{error}") };
    assert!(failure.origin.contains("left-code[0] (inside `left-code"), "the operator: {failure}");
    assert!(
        failure.origin.contains(", read)") && !failure.origin.contains("right"),
        "the call, and that alone: {failure}"
    );
    assert!(failure.message.contains("two attempts") && failure.message.contains("the other one hangs"), "{failure}");
    assert_eq!(handle.status().state, JobState::Failed);
    drop(release);
}
