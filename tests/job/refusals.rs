//! What is refused, with the mend in the message, and without touching anything.

use std::time::Duration;

use alluvium::connect::{AtLeastOnce, Collect, Generator, Lines};
use alluvium::{
    CheckpointMode, Job, JobEvent, JobOutcome, LocalRecovery, OptionError, Options, RestartStrategy, StartError,
};

use crate::{assert_exact, every_20_ms, lines, numbers, numbers_named, wait_for};

#[test]
fn options_that_contradict_each_other_are_reported_all_at_once() {
    let errors = Options::default()
        .checkpoint_every(Duration::from_millis(1))
        .checkpoint_timeout(Duration::ZERO)
        .minimum_pause(Duration::from_millis(5))
        .maximum_concurrent_checkpoints(2)
        .maximum_queued_requests(0)
        .tolerable_checkpoint_failures(3)
        .continue_on_checkpoint_errors()
        .retained_checkpoints(0)
        .cancellation_timeout(Duration::ZERO)
        .workers(0)
        .inline_limit(2 << 20)
        .max_increments(0)
        .max_space_amplification(0.9)
        .incremental(true)
        .accept_repeats()
        .restart(RestartStrategy::FailureRate { failures: 0, interval: Duration::ZERO, delay: Duration::ZERO })
        .check()
        .unwrap_err();
    assert_eq!(errors.len(), 14, "{errors:?}");
    assert!(errors.iter().any(|error| matches!(error, OptionError::PauseWithConcurrency { .. })));
    let mut words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(words.iter().all(|words| words.contains(": ")), "each with its mend: {words:?}");
    words.sort();
    words.dedup();
    assert_eq!(words.len(), errors.len());
}

#[test]
fn options_without_effect_are_refused_with_what_is_missing() {
    let second = Duration::from_secs(1);
    let refused = |options: Options| match options.check().unwrap_err().as_slice() {
        [error] => error.clone(),
        errors => panic!("{errors:?}"),
    };
    for (options, option) in [
        (Options::default().max_increments(5), "max_increments(..)"),
        (Options::default().max_space_amplification(2.0), "max_space_amplification(..)"),
    ] {
        assert_eq!(refused(options.clone()), OptionError::WithoutIncrements { option });
        assert!(options.incremental(true).check().is_ok());
    }
    let option = "tolerable_checkpoint_failures(..)";
    let error = refused(Options::default().tolerable_checkpoint_failures(0));
    assert_eq!(error, OptionError::ToleranceWithoutInterval { option });
    let option = "continue_on_checkpoint_errors()";
    let error = refused(Options::default().continue_on_checkpoint_errors());
    assert_eq!(error, OptionError::ToleranceWithoutInterval { option });
    let error = refused(Options::default().minimum_pause(second));
    assert_eq!(error, OptionError::PauseWithoutInterval { pause: second });
    let error = refused(Options::default().checkpoint_every(second).retained_checkpoints(2));
    assert_eq!(error, OptionError::RetainedWithoutStore { retained: 2 });
    let error = refused(Options::default().local_recovery(LocalRecovery::default()));
    assert_eq!(error, OptionError::WithoutStore { option: "local_recovery(..)" });
    let error = refused(Options::default().fall_back_to_older());
    assert_eq!(error, OptionError::WithoutStore { option: "fall_back_to_older()" });
    assert_eq!(refused(Options::default().fresh()), OptionError::WithoutStore { option: "fresh()" });
    let error = refused(Options::default().checkpoint_every(second).maximum_queued_requests(0));
    assert_eq!(error, OptionError::NoQueuedRequest);
    let error = refused(Options::default().cancellation_timeout(Duration::ZERO));
    assert_eq!(error, OptionError::NoTimeToCancel);
}

#[test]
fn the_shortest_interval_and_every_sensible_combination_is_taken() {
    let every = |milliseconds| Options::default().checkpoint_every(Duration::from_millis(milliseconds));
    assert!(every(10).check().is_ok());
    assert!(matches!(every(9).check().unwrap_err()[..], [OptionError::IntervalTooShort { .. }]));
    assert!(every(10).minimum_pause(Duration::from_secs(1)).check().is_ok(), "the pause takes its place");
    assert!(every(10).maximum_concurrent_checkpoints(3).tolerable_checkpoint_failures(0).check().is_ok());
    assert!(every(10).continue_on_checkpoint_errors().checkpoint_history(0).check().is_ok());
    let manual = Options::default().maximum_concurrent_checkpoints(2).maximum_queued_requests(1);
    assert!(manual.checkpoint_timeout(Duration::from_millis(10)).check().is_ok(), "for checkpoints on request");
}

#[test]
fn what_is_wrong_with_the_options_and_with_the_graph_is_reported_together() {
    let job = Job::new("endless");
    job.source("numbers", Generator::unbounded(|index| index)).sink("collect", Collect::new());
    let graph = job.build().unwrap();
    match graph.start(&Options::default().workers(0).retained_checkpoints(0)).unwrap_err() {
        StartError::Options(errors) => {
            assert_eq!(errors.len(), 3, "{errors:?}");
            assert!(matches!(errors[2], OptionError::NeverCommits { .. }));
        }
        other => panic!("{other}"),
    }
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

#[test]
fn an_exactly_once_sink_is_refused_where_checkpoints_count_at_least_once() {
    let job = Job::new("tracked");
    let numbers = job.source("numbers", Generator::bounded(10, |index| index)).parallelism(2).rebalance();
    numbers.sink("first", Collect::new());
    numbers.sink("second", Collect::new());
    numbers.sink("third", AtLeastOnce::new(Collect::new()));
    let graph = job.build().unwrap();
    let options = Options::default().checkpoint_mode(CheckpointMode::AtLeastOnce).retained_checkpoints(0);
    let Err(StartError::Options(errors)) = graph.start(&options) else { panic!("it started") };
    let sinks = ["first", "second"].map(|sink| OptionError::CountsTwice { sink: sink.to_owned() });
    assert_eq!(errors, [[OptionError::NothingRetained].as_slice(), sinks.as_slice()].concat());
    assert!(errors[1].to_string().contains("sink `first`") && errors[1].to_string().contains("AtLeastOnce::new"));
}

#[test]
fn a_job_that_counts_at_least_once_runs_to_its_end() {
    let collect = Collect::new();
    let job = Job::new("tracked");
    let numbers = job.source("numbers", Generator::bounded(1_000, |index| index).splits(3));
    numbers.rebalance().sink("output", AtLeastOnce::new(collect.clone()));
    let options = Options::default().checkpoint_mode(CheckpointMode::AtLeastOnce);
    job.build().unwrap().start(&options).unwrap().wait_blocking().unwrap();
    let mut output = collect.collected();
    output.sort_unstable();
    assert_eq!(output, (0..1_000).collect::<Vec<u64>>());
}
