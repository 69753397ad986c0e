//! Faults at named points on real threads: every action where it is allowed, and drills in a running job. `tests/recovery` has the crashes.
//!
//! What is waited for is certain to come, however slow the machine: a job runs until it is stopped, and its events are heard from the first one on.

mod actions;
mod actors;
mod drills;
mod refusals;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::drill::FaultDrill;
use alluvium::{Graph, Job, JobError, JobEvent, JobHandle, JobOutcome, Listener, Options, RestartStrategy};

/// So long it is waited for something that comes as a rule at once.
const PATIENCE: Duration = Duration::from_secs(60);

const KEYS: u64 = 7;

/// In so many splits numbers are read: split `s` has the numbers `s`, `s + SPLITS`, `s + 2 * SPLITS` and so on.
const SPLITS: u64 = 2;

/// Counts numbers by key in two instances, in front of a collecting sink.
struct Numbers {
    graph: Graph,
    output: Collect<(u64, u64)>,
    /// How many there are; without an end the job goes on until it is stopped, so that what has to happen in it always has the time.
    records: Option<u64>,
}

impl Numbers {
    /// Comes to its end by itself.
    fn bounded(records: u64, rate: u64) -> Numbers {
        Numbers::build(Some(records), rate)
    }

    /// Runs until it is stopped.
    fn endless() -> Numbers {
        Numbers::build(None, 20_000)
    }

    fn build(records: Option<u64>, rate: u64) -> Numbers {
        let job = Job::new("numbers").parallelism(2);
        let output = Collect::new();
        let produce = |index| index;
        let numbers = records.map_or_else(|| Generator::unbounded(produce), |count| Generator::bounded(count, produce));
        job.source("numbers", numbers.splits(SPLITS as u32).rate(rate))
            .key_by_value(|number| number % KEYS)
            .aggregate("counts", 0_u64, |_, count, number| {
                *count += 1;
                (number, *count)
            })
            .sink("collect", output.clone());
        Numbers { graph: job.build().unwrap(), output, records }
    }

    fn start(&self, options: &Options) -> JobHandle {
        self.graph.start(options).unwrap()
    }

    /// What is wrong with the output of a job that has ended: every number that was read has to be there once, and every key counted without a gap.
    fn fault(&self) -> Option<String> {
        let mut output = self.output.collected();
        output.sort_unstable();
        if let Some(records) = self.records
            && output.len() as u64 != records
        {
            return Some(format!("{} records of {records}", output.len()));
        }
        for split in 0..SPLITS {
            let read = output.iter().map(|(number, _)| *number).filter(|number| number % SPLITS == split);
            if let Some((wanted, found)) =
                (split..).step_by(SPLITS as usize).zip(read).find(|(one, other)| one != other)
            {
                return Some(format!("{found} came out where {wanted} had to come"));
            }
        }
        for key in 0..KEYS {
            let mut counts: Vec<u64> =
                output.iter().filter(|(number, _)| number % KEYS == key).map(|(_, count)| *count).collect();
            counts.sort_unstable();
            if !counts.iter().copied().eq(1..=counts.len() as u64) {
                return Some(format!("key {key} is counted {counts:?}"));
            }
        }
        None
    }

    /// Brings the job to its end, and looks at the output.
    fn finish(&self, handle: &JobHandle) {
        assert_eq!(self.try_finish(handle), None);
    }

    /// The same. What is wrong.
    fn try_finish(&self, handle: &JobHandle) -> Option<String> {
        if self.records.is_none() {
            stop(handle);
        }
        match handle.wait_blocking() {
            Err(error) => Some(error.to_string()),
            Ok(report) if (report.outcome == JobOutcome::Finished) == self.records.is_some() => self.fault(),
            Ok(report) => Some(format!("the job is {:?}", report.outcome)),
        }
    }
}

/// Stops a job. A checkpoint of a stop may be lost by a fault, as any other: then the job goes on, and it is asked once more.
fn stop(handle: &JobHandle) {
    while let Err(JobError::NoCheckpoint { .. }) = handle.stop_blocking() {}
}

/// Hears every event of a job, from the first one on.
#[derive(Default)]
struct Heard {
    events: Mutex<Vec<JobEvent>>,
    more: Condvar,
}

impl Listener for Heard {
    fn event(&self, event: JobEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.more.notify_all();
    }
}

impl Heard {
    /// How many events there were so far.
    fn count(&self) -> usize {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for the `count`-th of such events behind the first `from`: its position, or none if it does not come.
    fn wait_for(&self, from: usize, count: usize, is_such: impl Fn(&JobEvent) -> bool) -> Option<(usize, JobEvent)> {
        let find = |events: &[JobEvent]| {
            let such = events.iter().enumerate().skip(from).filter(|(_, event)| is_such(event));
            such.map(|(position, event)| (position, event.clone())).nth(count - 1)
        };
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.more.wait_timeout_while(events, PATIENCE, |events| find(events).is_none());
        find(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// Often interrupted, never for long. State goes into blobs.
fn options(drill: &FaultDrill) -> Options {
    Options::default()
        .checkpoint_every(Duration::from_millis(10))
        .checkpoint_timeout(PATIENCE)
        .continue_on_checkpoint_errors()
        .inline_limit(0)
        .restart(RestartStrategy::FixedDelay { attempts: 50, delay: Duration::from_millis(1) })
        .workers(2)
        .faults(drill.clone())
}

/// The same, and heard.
fn heard_options(drill: &FaultDrill) -> (Options, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    (options(drill).listener(Arc::clone(&heard) as Arc<dyn Listener>), heard)
}

fn is_completed(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Completed { .. })
}
