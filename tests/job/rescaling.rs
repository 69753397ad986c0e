//! A job that goes on wider or narrower than it was.

use std::path::Path;

use alluvium::connect::{Generator, Lines};
use alluvium::{Graph, Job, JobError, JobEvent, JobOutcome, Options};

use crate::{NUMBERS, assert_exact, every_20_ms, lines, numbers_named, wait_for};

/// Stops a job when something of it is committed.
fn stop_in_the_middle(graph: &Graph, options: &Options) {
    let handle = graph.start(options).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    assert_eq!(handle.stop_blocking().unwrap().outcome, JobOutcome::Stopped);
}

/// Why a job fails that goes on from its checkpoint.
fn refusal(graph: &Graph, store: &Path) -> String {
    match graph.start(&every_20_ms(store)).unwrap().wait_blocking().unwrap_err() {
        JobError::Failed(failure) => failure.message,
        other => panic!("{other}"),
    }
}

/// The counts of [`numbers_named`], in so many key groups.
fn counts(output: &Path, rate: u64, parallelism: u32, max_parallelism: Option<u32>) -> Graph {
    let job = Job::new("numbers").parallelism(parallelism);
    let job = match max_parallelism {
        Some(max_parallelism) => job.max_parallelism(max_parallelism),
        None => job,
    };
    job.source("numbers", Generator::bounded(NUMBERS, |index| index).splits(2).rate(rate))
        .parallelism(1)
        .key_by_value(|number| number % 10)
        .aggregate("counts", 0_u64, |digit, count, number| {
            *count += 1;
            format!("{digit},{count},{number}")
        })
        .sink("lines", Lines::exactly_once(output).suffix(".csv"));
    job.build().unwrap()
}

#[test]
fn a_stopped_job_goes_on_wider_and_narrower_and_every_record_counts_once() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    for parallelism in [2, 5, 1, 3, 2] {
        stop_in_the_middle(&numbers_named("numbers", &output, Some(20_000), parallelism), &every_20_ms(&store));
    }
    let last = numbers_named("numbers", &output, None, 4).start(&every_20_ms(&store)).unwrap();
    let report = last.wait_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Finished);
    assert!(report.status.restored_from.is_some());
    assert_exact(&lines(&output));
    // One that has finished has nothing to do, however wide it is.
    let again = numbers_named("numbers", &output, None, 3).start(&every_20_ms(&store)).unwrap();
    assert_eq!(again.wait_blocking().unwrap().outcome, JobOutcome::Finished);
    assert_exact(&lines(&output));
}

#[test]
fn max_parallelism_that_is_not_given_comes_from_the_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    stop_in_the_middle(&counts(&output, 10_000, 1, Some(90)), &every_20_ms(&store));
    // At a fresh start it would be 256 key groups; so wide it cannot get by with fewer than 88.
    let wide = counts(&output, 10_000, 88, None);
    assert!(wide.describe().chains.iter().any(|chain| chain.max_parallelism == 256), "{wide}");
    stop_in_the_middle(&wide, &every_20_ms(&store));
    // And it is still 90.
    let error = refusal(&counts(&output, 10_000, 91, None), &store);
    assert!(error.contains("`counts` has parallelism 91 and max parallelism 90 in the checkpoint"), "{error}");
    assert!(error.contains("at most 90"), "{error}");
    let last = counts(&output, 1_000_000, 2, Some(90)).start(&every_20_ms(&store)).unwrap();
    last.wait_blocking().unwrap();
    assert_exact(&lines(&output));
}

#[test]
fn another_max_parallelism_is_refused_by_the_operators_name_with_both_numbers_and_the_mend() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    stop_in_the_middle(&counts(&output, 10_000, 2, None), &every_20_ms(&store));
    let error = refusal(&counts(&output, 10_000, 2, Some(64)), &store);
    assert!(error.contains("`counts` has max parallelism 64 and had 128 in the checkpoint"), "{error}");
    assert!(error.contains("set it to 128"), "{error}");
    // Nothing was changed: as it was, it goes on.
    counts(&output, 1_000_000, 3, None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap();
    assert_exact(&lines(&output));
}
