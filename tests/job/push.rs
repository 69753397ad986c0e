//! Records pushed into a running job, and what their receipts promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use alluvium::connect::push::{NotCovered, PushError};
use alluvium::connect::{Collect, Deliver, Delivery, Push};
use alluvium::{Graph, Job, JobOutcome, JobState, Options, RestartStrategy};
use futures::FutureExt as _;
use futures::executor::block_on;

/// Only the checkpoints that are asked for.
fn by_hand() -> Options {
    Options::default().checkpoint_every(Duration::from_secs(3_600))
}

/// Tells each record that is processed.
fn telling(pushed: Push<u64>) -> (Graph, mpsc::Receiver<u64>, Collect<u64>) {
    let (tell, told) = mpsc::channel();
    let kept = Collect::new();
    let job = Job::new("pushed");
    job.source("numbers", pushed)
        .map(move |number: u64| {
            let _ = tell.send(number);
            number
        })
        .sink("kept", kept.clone());
    (job.build().unwrap(), told, kept)
}

#[test]
fn a_push_is_acknowledged_by_the_checkpoint_that_covers_it_and_not_before() {
    let (pusher, pushed) = Push::channel(10);
    let (graph, told, kept) = telling(pushed);
    let handle = graph.start(&by_hand()).unwrap();
    let mut first = block_on(pusher.push(1)).unwrap();
    assert_eq!(told.recv().unwrap(), 1);
    assert_eq!((&mut first).now_or_never(), None, "processed, and not covered");
    handle.trigger_checkpoint_blocking().unwrap();
    assert_eq!(block_on(first), Ok(()));
    let mut second = pusher.try_push(2).unwrap();
    assert_eq!(told.recv().unwrap(), 2);
    assert_eq!((&mut second).now_or_never(), None, "the checkpoint before it does not cover it");
    // A stop covers everything that was read.
    handle.stop_blocking().unwrap();
    assert_eq!(block_on(second), Ok(()));
    assert_eq!(kept.collected(), [1, 2]);
}

#[test]
fn a_restart_inside_the_process_fails_open_pushes_and_a_repeated_push_arrives() {
    let (pusher, pushed) = Push::channel(10);
    let failures = Arc::new(AtomicU32::new(0));
    let (once, kept) = (Arc::clone(&failures), Collect::new());
    let (tell, told) = mpsc::channel();
    let job = Job::new("fails");
    job.source("numbers", pushed)
        .map(move |number: u64| {
            assert!(number != 3 || once.fetch_add(1, Ordering::SeqCst) > 0, "three is not liked at first");
            let _ = tell.send(number);
            number
        })
        .sink("kept", kept.clone());
    let restart = RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_millis(1) };
    let handle = job.build().unwrap().start(&by_hand().restart(restart)).unwrap();
    let covered = block_on(pusher.push(1)).unwrap();
    assert_eq!(told.recv().unwrap(), 1);
    handle.trigger_checkpoint_blocking().unwrap();
    assert_eq!(block_on(covered), Ok(()));
    let lost = block_on(pusher.push(2)).unwrap();
    assert_eq!(told.recv().unwrap(), 2);
    let failing = block_on(pusher.push(3)).unwrap();
    assert_eq!(block_on(lost), Err(NotCovered::AttemptEnded));
    assert_eq!(block_on(failing), Err(NotCovered::AttemptEnded));
    let again = [block_on(pusher.push(2)).unwrap(), block_on(pusher.push(3)).unwrap()];
    assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (2, 3));
    handle.stop_blocking().unwrap();
    for receipt in again {
        assert_eq!(block_on(receipt), Ok(()));
    }
    assert_eq!(kept.collected(), [1, 2, 3]);
    assert_eq!(failures.load(Ordering::SeqCst), 2);
}

#[test]
fn a_full_queue_answers_full_and_a_push_that_waits_goes_on_when_there_is_room() {
    let (pusher, pushed) = Push::channel(2);
    let (graph, told, kept) = telling(pushed);
    let receipts = [pusher.try_push(1).unwrap(), pusher.try_push(2).unwrap()];
    let full = pusher.try_push(3).unwrap_err();
    assert_eq!(full, PushError::Full(3));
    assert!(full.to_string().contains("full"));
    let mut waits = pusher.push(full.into_record());
    assert!((&mut waits).now_or_never().is_none(), "there is no room");
    assert_eq!((pusher.waiting(), pusher.capacity()), (2, 2));
    // The job makes room.
    let handle = graph.start(&by_hand()).unwrap();
    let third = block_on(waits).unwrap();
    for number in 1..=3 {
        assert_eq!(told.recv().unwrap(), number);
    }
    handle.stop_blocking().unwrap();
    for receipt in receipts.into_iter().chain([third]) {
        assert_eq!(block_on(receipt), Ok(()));
    }
    assert_eq!(kept.collected(), [1, 2, 3]);
}

#[test]
fn a_push_that_is_given_up_while_it_waits_pushes_nothing() {
    let (pusher, pushed) = Push::channel(1);
    let _receipt = pusher.try_push(1_u64).unwrap();
    let mut waits = pusher.push(2);
    assert!((&mut waits).now_or_never().is_none());
    drop(waits);
    drop(pushed);
    assert_eq!(pusher.waiting(), 0);
}

#[test]
fn closing_the_pusher_finishes_the_job() {
    let (pusher, pushed) = Push::channel(100);
    let (graph, _told, kept) = telling(pushed);
    let handle = graph.start(&by_hand()).unwrap();
    let receipts: Vec<_> = (0..50).map(|number| pusher.try_push(number).unwrap()).collect();
    let clone = pusher.clone();
    clone.close();
    assert_eq!(pusher.try_push(50).unwrap_err(), PushError::Closed(50));
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Finished);
    for receipt in receipts {
        assert_eq!(block_on(receipt), Ok(()));
    }
    assert_eq!(kept.collected(), (0..50).collect::<Vec<_>>());
}

#[test]
fn with_more_readers_than_one_records_keep_their_order_and_the_job_ends() {
    let (pusher, pushed) = Push::<u64>::channel(1_000);
    let kept = Collect::new();
    let job = Job::new("wide").parallelism(3);
    job.source("numbers", pushed).sink("kept", kept.clone());
    let handle = job.build().unwrap().start(&by_hand()).unwrap();
    for number in 0..500 {
        // Nobody waits for these.
        drop(block_on(pusher.push(number)).unwrap());
    }
    pusher.close();
    handle.wait_blocking().unwrap();
    assert_eq!(kept.collected(), (0..500).collect::<Vec<_>>());
}

#[test]
fn what_waits_when_the_source_is_gone_says_so() {
    let (pusher, pushed) = Push::<u64>::channel(10);
    let waiting = pusher.try_push(1).unwrap();
    drop(pushed);
    assert_eq!(block_on(waiting), Err(NotCovered::SourceGone));
    assert_eq!(block_on(pusher.push(2)).unwrap_err(), PushError::Closed(2));
}

#[test]
fn a_cancelled_job_fails_its_open_pushes() {
    let (pusher, pushed) = Push::channel(10);
    let (graph, told, _kept) = telling(pushed);
    let handle = graph.start(&by_hand()).unwrap();
    let open = pusher.try_push(1).unwrap();
    told.recv().unwrap();
    handle.cancel();
    assert_eq!(block_on(open), Err(NotCovered::AttemptEnded));
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Cancelled);
}

#[test]
fn one_push_source_is_not_read_by_two_jobs() {
    let (pusher, pushed) = Push::channel(10);
    let (graph, told, _kept) = telling(pushed);
    let first = graph.start(&by_hand()).unwrap();
    let _receipt = pusher.try_push(1).unwrap();
    told.recv().unwrap();
    let error = graph.start(&by_hand()).unwrap().wait_blocking().unwrap_err().to_string();
    assert!(error.contains("another job reads this push source") && error.contains("channel for each"), "{error}");
    assert_eq!(first.status().state, JobState::Running);
    first.cancel();
    first.wait_blocking().unwrap();
}

#[test]
fn a_receiver_that_is_gone_fails_the_job_and_says_what_to_do() {
    let (pusher, pushed) = Push::<u64>::channel(10);
    let (results, arrived) = mpsc::sync_channel::<Delivery<u64>>(10);
    drop(arrived);
    let job = Job::new("deaf");
    job.source("numbers", pushed).sink("results", Deliver::committed(results));
    let handle = job.build().unwrap().start(&by_hand()).unwrap();
    let _receipt = pusher.try_push(1).unwrap();
    pusher.close();
    let error = handle.wait_blocking().unwrap_err().to_string();
    assert!(error.contains("results") && error.contains("keep it for as long as the job"), "{error}");
}
