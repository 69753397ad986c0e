//! Whole jobs in this process, on the actix host: what the handle promises, how jobs end, what is refused.

mod buffer_timeout;
mod embedded;
mod endings;
mod explained;
mod externalized;
mod handle;
mod local_recovery;
mod nodes;
mod overtaking;
mod push;
mod refusals;
mod regions;
mod rescaling;
mod shared_sinks;
mod tolerance;
mod union_lists;

use std::path::Path;
use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::{Graph, Job, JobEvent, JobHandle, Options};

/// How many numbers the job of [`numbers`] has.
const NUMBERS: u64 = 30_000;

/// Counts numbers by their last digit and writes a line for each: `digit,count,number`.
fn numbers(output: &Path, rate: Option<u64>) -> Graph {
    numbers_named("numbers", output, rate, 1)
}

fn numbers_named(name: &str, output: &Path, rate: Option<u64>, parallelism: u32) -> Graph {
    let job = Job::new(name).parallelism(parallelism);
    let mut source = Generator::bounded(NUMBERS, |index| index).splits(2);
    if let Some(rate) = rate {
        source = source.rate(rate);
    }
    job.source("numbers", source)
        .key_by_value(|number| number % 10)
        .aggregate("counts", 0_u64, |digit, count, number| {
            *count += 1;
            format!("{digit},{count},{number}")
        })
        .sink("lines", Lines::exactly_once(output).suffix(".csv"));
    job.build().unwrap()
}

fn every_20_ms(store: &Path) -> Options {
    Options::default().store(store).checkpoint_every(Duration::from_millis(20))
}

/// The committed lines, sorted.
fn lines(output: &Path) -> Vec<String> {
    let mut lines: Vec<String> = std::fs::read_dir(output)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .flat_map(|path| std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines.sort();
    lines
}

/// Every number once, and every digit counted without a gap.
fn assert_exact(lines: &[String]) {
    let fields: Vec<Vec<u64>> =
        lines.iter().map(|line| line.split(',').map(|field| field.parse().unwrap()).collect()).collect();
    let mut numbers: Vec<u64> = fields.iter().map(|fields| fields[2]).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..NUMBERS).collect::<Vec<_>>(), "every number once");
    for digit in 0..10 {
        let mut counts: Vec<u64> = fields.iter().filter(|fields| fields[0] == digit).map(|fields| fields[1]).collect();
        counts.sort_unstable();
        assert_eq!(counts, (1..=NUMBERS / 10).collect::<Vec<_>>(), "digit {digit}");
    }
}

/// Waits for the next event that `wanted` accepts.
fn wait_for(handle: &JobHandle, wanted: impl Fn(&JobEvent) -> bool) -> JobEvent {
    handle.events().find(|event| wanted(event)).expect("the job ended before the event came")
}
