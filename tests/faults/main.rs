//! Faults at named points on real threads: every action where it is allowed, and drills in a running job. `tests/recovery` has the crashes.

mod actions;
mod actors;
mod drills;
mod refusals;

use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::drill::FaultDrill;
use alluvium::{Graph, Job, JobHandle, JobOutcome, Options, RestartStrategy};

/// So long it is waited for something that comes as a rule at once.
const PATIENCE: Duration = Duration::from_secs(60);

const KEYS: u64 = 7;

/// Counts numbers by key in two instances, in front of a collecting sink.
struct Numbers {
    graph: Graph,
    output: Collect<(u64, u64)>,
    records: u64,
}

impl Numbers {
    fn new(records: u64, rate: u64) -> Numbers {
        let job = Job::new("numbers").parallelism(2);
        let output = Collect::new();
        job.source("numbers", Generator::bounded(records, |index| index).splits(2).rate(rate))
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

    /// What is wrong with the output: every number has to be there once, and every key counted without a gap.
    fn fault(&self) -> Option<String> {
        let mut output = self.output.collected();
        output.sort_unstable();
        if !output.iter().map(|(number, _)| *number).eq(0..self.records) {
            return Some(format!("{} records of {}, or not each once", output.len(), self.records));
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

    /// Waits for the end, and looks at the output.
    fn finish(&self, handle: &JobHandle) {
        assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Finished);
        assert_eq!(self.fault(), None);
    }
}

/// Often interrupted, never for long. State goes into blobs.
fn options(drill: &FaultDrill) -> Options {
    Options::default()
        .checkpoint_every(Duration::from_millis(10))
        .checkpoint_timeout(Duration::from_millis(100))
        .continue_on_checkpoint_errors()
        .inline_limit(0)
        .restart(RestartStrategy::FixedDelay { attempts: 50, delay: Duration::from_millis(1) })
        .workers(2)
        .faults(drill.clone())
}
