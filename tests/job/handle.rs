//! What the handle of a running job promises.

use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::{CheckpointResult, Job, JobEvent, JobHandle, JobOutcome, JobState, Options};

use crate::{assert_exact, every_20_ms, lines, numbers_named, wait_for};

fn endless() -> alluvium::Graph {
    let job = Job::new("endless");
    job.source("numbers", Generator::unbounded(|index| index).rate(10_000)).for_each("nothing", |_| ());
    job.build().unwrap()
}

#[test]
fn the_handle_works_from_any_thread() {
    fn assert_shared<T: Clone + Send + Sync + 'static>() {}
    assert_shared::<JobHandle>();
}

#[test]
fn a_manual_checkpoint_completes_with_the_periodic_ones_off() {
    let handle = endless().start(&Options::default()).unwrap();
    let checkpoint = loop {
        // Refused as long as the subtasks do not run.
        if let Ok(checkpoint) = handle.trigger_checkpoint_blocking() {
            break checkpoint;
        }
    };
    let figures = handle.checkpoints().into_iter().find(|figures| figures.checkpoint == checkpoint).unwrap();
    assert!(matches!(figures.result, Some(CheckpointResult::Completed { .. })), "{figures:?}");
    assert_eq!(handle.status().last_completed, Some(checkpoint));
    handle.cancel();
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Cancelled);
}

#[test]
fn events_come_in_the_order_of_what_happened_and_end_with_the_job() {
    let collected = Collect::<u64>::new();
    let job = Job::new("events");
    job.source("numbers", Generator::bounded(1_000, |index| index)).sink("collect", collected.clone());
    let handle = job.build().unwrap().start(&Options::default()).unwrap();
    let events: Vec<JobEvent> = handle.events().collect();
    let position = |wanted: fn(&JobEvent) -> bool| events.iter().position(wanted);
    let triggered = position(|event| matches!(event, JobEvent::Triggered { .. }));
    let completed = position(|event| matches!(event, JobEvent::Completed { .. }));
    let finished = position(|event| *event == JobEvent::State(JobState::Finished));
    // Subscribed after the start: the first events may be over, the last cannot.
    assert!(finished.is_some(), "{events:?}");
    assert!(triggered < completed && completed < finished, "{events:?}");
    assert_eq!(finished, Some(events.len() - 1), "nothing comes after the end");
    handle.wait_blocking().unwrap();
    assert_eq!(collected.collected().len(), 1_000);
}

#[test]
fn checkpoint_ids_ascend_over_all_starts() {
    let place = tempfile::tempdir().unwrap();
    let options = Options::default().store(place.path()).checkpoint_every(Duration::from_millis(10));
    let mut ids = Vec::new();
    for _ in 0..3 {
        let handle = endless().start(&options).unwrap();
        wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
        handle.stop_blocking().unwrap();
        ids.extend(handle.checkpoints().into_iter().map(|figures| figures.checkpoint));
    }
    assert!(ids.len() >= 6 && ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

#[test]
fn two_jobs_and_two_stores_live_in_one_process() {
    let place = tempfile::tempdir().unwrap();
    let jobs: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let output = place.path().join(format!("{name}-output"));
            let graph = numbers_named(name, &output, None, 2);
            (graph.start(&every_20_ms(&place.path().join(name))).unwrap(), output)
        })
        .collect();
    for (handle, output) in jobs {
        assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Finished);
        assert_exact(&lines(&output));
    }
}

#[test]
fn waiting_is_asynchronous_on_any_runtime() {
    let job = Job::new("waits");
    job.source("numbers", Generator::bounded(100, |index| index)).for_each("nothing", |_| ());
    let handle = job.build().unwrap().start(&Options::default()).unwrap();
    let report = futures::executor::block_on(handle.wait()).unwrap();
    assert_eq!(report.outcome, JobOutcome::Finished);
}
