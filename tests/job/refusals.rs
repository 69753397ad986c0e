//! What is refused, with the mend in the message, and without touching anything.

use std::time::Duration;

use alluvium::connect::{Collect, Generator, Lines};
use alluvium::{Job, JobError, JobEvent, JobOutcome, OptionError, Options, RestartStrategy, StartError};

use crate::{assert_exact, every_20_ms, lines, numbers, numbers_named, wait_for};

#[test]
fn options_that_contradict_each_other_are_reported_all_at_once() {
    let errors = Options::default()
        .checkpoint_every(Duration::from_millis(1))
        .checkpoint_timeout(Duration::ZERO)
        .minimum_pause(Duration::from_millis(5))
        .maximum_concurrent_checkpoints(2)
        .retained_checkpoints(0)
        .workers(0)
        .inline_limit(2 << 20)
        .accept_repeats()
        .restart(RestartStrategy::FailureRate { failures: 0, interval: Duration::ZERO, delay: Duration::ZERO })
        .check()
        .unwrap_err();
    assert_eq!(errors.len(), 9, "{errors:?}");
    assert!(errors.iter().any(|error| matches!(error, OptionError::PauseWithConcurrency { .. })));
}

#[test]
fn an_exactly_once_sink_behind_an_endless_source_needs_an_interval() {
    let job = Job::new("endless");
    job.source("numbers", Generator::unbounded(|index| index)).sink("collect", Collect::new());
    let error = job.build().unwrap().start(&Options::default()).unwrap_err();
    assert!(error.to_string().contains("checkpoint_every"), "{error}");
}

#[test]
fn a_store_in_use_is_refused_with_a_clear_error() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    let handle = numbers(&output, Some(5_000)).start(&every_20_ms(&store)).unwrap();
    let error = numbers(&output, None).start(&every_20_ms(&store)).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    handle.cancel();
    handle.wait_blocking().unwrap();
}

#[test]
fn a_store_of_another_job_is_refused_by_both_names() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    numbers(&output, None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap();
    let error = numbers_named("others", &output, None, 1).start(&every_20_ms(&store)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`numbers`") && text.contains("`others`"), "{text}");
}

#[test]
fn another_parallelism_is_refused_by_the_operators_name() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    let handle = numbers(&output, Some(20_000)).start(&every_20_ms(&store)).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle.stop_blocking().unwrap();
    let handle = numbers_named("numbers", &output, None, 2).start(&every_20_ms(&store)).unwrap();
    let error = handle.wait_blocking().unwrap_err();
    assert!(
        matches!(&error, JobError::Failed(failure) if failure.message.contains("`counts` has parallelism 2 and had 1")),
        "{error}"
    );
    // Nothing was changed: the right width goes on.
    numbers(&output, None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap();
    assert_exact(&lines(&output));
}

#[test]
fn a_fresh_start_is_refused_over_output_that_the_job_committed_and_deletes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    let handle = numbers(&output, Some(20_000)).start(&every_20_ms(&store)).unwrap();
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle.stop_blocking().unwrap();
    let error = numbers(&output, None).start(&every_20_ms(&store).fresh()).unwrap_err();
    assert!(matches!(error, StartError::Fresh(_)), "{error}");
    numbers(&output, None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap();
    assert_exact(&lines(&output));
}

#[test]
fn a_fresh_start_begins_anew_where_no_output_stands_against_it() {
    let place = tempfile::tempdir().unwrap();
    let (first, second, store) = (place.path().join("first"), place.path().join("second"), place.path().join("store"));
    numbers(&first, None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap();
    let report = numbers(&second, None).start(&every_20_ms(&store).fresh()).unwrap().wait_blocking().unwrap();
    assert_eq!(report.outcome, JobOutcome::Finished);
    assert_eq!(report.status.restored_from, None);
    assert_exact(&lines(&second));
}

#[test]
fn owned_output_without_a_checkpoint_is_an_error_with_the_mend() {
    let place = tempfile::tempdir().unwrap();
    let (output, store) = (place.path().join("output"), place.path().join("store"));
    numbers(&output, None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    let error = numbers(&output, None).start(&every_20_ms(&store)).unwrap().wait_blocking().unwrap_err();
    assert!(error.to_string().contains("lines"), "{error}");
}

#[test]
fn a_missing_input_file_fails_the_job_and_names_the_file() {
    let place = tempfile::tempdir().unwrap();
    let job = Job::new("missing");
    job.source("rows", alluvium::connect::LineFiles::new(place.path().join("nowhere.txt")))
        .sink("lines", Lines::exactly_once(place.path().join("output")));
    let error = job.build().unwrap().start(&Options::default()).unwrap().wait_blocking().unwrap_err();
    assert!(error.to_string().contains("nowhere.txt"), "{error}");
}
