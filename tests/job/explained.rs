//! What checkpoints of a real job say of themselves: while one hangs, and after a restart of the process.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::connect::Generator;
use alluvium::{Graph, Job, JobError, JobEvent, Options};

use crate::{every_20_ms, numbers, wait_for};

/// A job whose first record is held until the sender is dropped. Who sends waits until the record is there.
fn held(inside: mpsc::Sender<()>, released: mpsc::Receiver<()>) -> Graph {
    let (inside, released) = (Arc::new(Mutex::new(inside)), Arc::new(Mutex::new(released)));
    let job = Job::new("held");
    job.source("numbers", Generator::unbounded(|index| index).rate(1_000))
        .key_by_value(|number| number % 3)
        .aggregate("stuck", 0_u64, move |_, count, _| {
            *count += 1;
            let _ = inside.lock().unwrap().send(());
            let _ = released.lock().unwrap().recv();
            *count
        })
        .for_each("nothing", |_| ());
    job.build().unwrap()
}

#[test]
fn a_checkpoint_that_hangs_behind_a_user_call_names_it_from_outside_and_by_an_event() {
    let (inside, is_inside) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let options = Options::default().warn_of_slow_checkpoints(Duration::from_millis(200));
    let handle = held(inside, released).start(&options).unwrap();
    assert_eq!(handle.explain_checkpoint(), None);
    let mut events = handle.events();
    is_inside.recv().unwrap();
    let asks = handle.clone();
    let asked = std::thread::spawn(move || asks.trigger_checkpoint_blocking());
    let story = events
        .find_map(|event| match event {
            JobEvent::TakesLong { story, .. } => Some(story),
            _ => None,
        })
        .unwrap();
    let now = handle.explain_checkpoint().expect("it is under way").to_string();
    for story in [story, now] {
        assert!(story.starts_with("checkpoint 1 has been under way for "), "{story}");
        assert!(story.contains(" of 2 subtasks ha"), "{story}");
        assert!(story.contains("has been inside a user call (records) for "), "{story}");
        assert!(story.contains("`stuck"), "{story}");
    }
    drop(release);
    asked.join().unwrap().unwrap();
    let history = handle.checkpoint_history();
    let record = history.first().expect("the one that hung");
    assert!(record.story.starts_with("checkpoint 1 took "), "{record:?}");
    assert_eq!(handle.checkpoints()[0].story.as_ref(), Some(&record.story));
    handle.cancel();
    handle.wait_blocking().unwrap();
}

#[test]
fn the_refusal_of_a_checkpoint_that_expired_says_what_was_in_the_way() {
    let (inside, is_inside) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let options = Options::default().checkpoint_timeout(Duration::from_millis(200));
    let handle = held(inside, released).start(&options).unwrap();
    is_inside.recv().unwrap();
    let JobError::NoCheckpoint { reason } = handle.trigger_checkpoint_blocking().unwrap_err() else { panic!() };
    assert!(reason.starts_with("the checkpoint expired before it was completed: "), "{reason}");
    assert!(reason.contains("has been inside a user call (records) for "), "{reason}");
    drop(release);
    handle.cancel();
    handle.wait_blocking().unwrap();
}

#[test]
fn the_history_survives_the_process_and_is_as_long_as_was_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let (store, output) = (place.path().join("store"), place.path().join("output"));
    let start = |records| {
        let options = every_20_ms(&store).recorded_checkpoints(records);
        numbers(&output, Some(30_000)).start(&options).unwrap()
    };
    let handle = start(100);
    wait_for(&handle, |event| matches!(event, JobEvent::Completed { .. }));
    handle.stop_blocking().unwrap();
    let first = handle.checkpoint_history();
    assert!(first.iter().all(|record| !record.story.is_empty() && record.triggered.0 > 0), "{first:?}");
    drop(handle);
    let handle = start(100);
    let found = handle.checkpoint_history();
    assert_eq!(found[..first.len()], first, "before anything else, those of the earlier process");
    handle.wait_blocking().unwrap();
    let second = handle.checkpoint_history();
    assert!(second.len() > first.len());
    let ids: Vec<_> = second.iter().map(|record| (record.run, record.checkpoint)).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    drop(handle);
    let handle = start(2);
    assert_eq!(handle.checkpoint_history(), second[second.len() - 2..]);
    handle.wait_blocking().unwrap();
}

/// A job with much state of which little changes, and nothing but the options between its two forms.
fn figures(options: &Options) -> alluvium::CheckpointStatistics {
    let job = Job::new("few of many");
    job.source("numbers", Generator::unbounded(|index| index).rate(20_000))
        .key_by_value(|number| if *number < 4_000 { *number } else { number % 10 })
        .aggregate("count", 0_u64, |_, count, _| {
            *count += 1;
            *count
        })
        .for_each("nothing", |_| ());
    let handle = job.build().unwrap().start(options).unwrap();
    // The first ones hold all that there is so far; when nothing new comes, those behind it write little.
    let completed = handle.events().filter(|event| matches!(event, JobEvent::Completed { .. })).nth(29);
    assert!(completed.is_some(), "the job ended before");
    let last = handle.checkpoint_statistics().latest_completed.clone().unwrap();
    handle.cancel();
    handle.wait_blocking().unwrap();
    alluvium::CheckpointStatistics::clone(&last)
}

#[test]
fn an_incremental_checkpoint_says_how_little_of_it_was_written_and_a_self_contained_one_that_all_was() {
    let place = tempfile::tempdir().unwrap();
    let options = |name: &str| every_20_ms(&place.path().join(name)).inline_limit(64);
    let all = figures(&options("all"));
    assert!(all.bytes > 20_000 && all.written_bytes == all.bytes, "{all:?}");
    let few = figures(&options("few").incremental(true));
    assert!(few.bytes > 20_000 && few.written_bytes < few.bytes / 4, "{} of {}", few.written_bytes, few.bytes);
}
