//! A fault concerns whom it strikes: other actors of the same arbiter go on, and a panic outside of a step ends one actor alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::drill::FaultDrill;
use alluvium::testing::faults::{Fault, FaultPlan, Point, What};
use alluvium::{Job, JobEvent, JobOutcome};

use crate::{Numbers, PATIENCE, options};

const RECORDS: u64 = 2_000;

/// Tells when so many have passed.
fn tell_after(records: u64, all: Sender<()>) -> impl Fn(u64) -> u64 + Clone + Send + 'static {
    let seen = Arc::new(AtomicU64::new(0));
    move |number| {
        if seen.fetch_add(1, Ordering::SeqCst) + 1 == records {
            let _ = all.send(());
        }
        number
    }
}

#[test]
fn an_actor_that_waits_does_not_hold_up_the_others_of_its_arbiter() {
    let job = Job::new("two sides");
    let outputs = [Collect::new(), Collect::new()];
    let (told, all) = channel();
    let generator = |rate| Generator::bounded(RECORDS, |index| index).rate(rate);
    job.source("left", generator(40_000)).sink("left-out", outputs[0].clone());
    job.source("right", generator(40_000)).map(tell_after(RECORDS, told)).sink("right-out", outputs[1].clone());
    let drill = FaultDrill::new();
    // The left side gets its first barrier, and waits for a minute. Everything runs on one thread.
    let wait = Fault::at(Point::SnapshotSynchronous, What::Delay(PATIENCE)).unwrap().operator("left");
    drill.arm(wait).unwrap();
    let handle = job.build().unwrap().start(&options(&drill).workers(1).checkpoint_timeout(2 * PATIENCE)).unwrap();
    assert!(drill.wait_for_strikes(1, PATIENCE));
    all.recv_timeout(PATIENCE / 2).expect("the right side reads on while the left side waits");
    assert_eq!(drill.standing(), 1);
    drill.release();
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Finished);
    for output in outputs {
        let mut numbers = output.collected();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..RECORDS));
    }
}

#[test]
fn a_panic_where_a_message_is_sent_or_taken_in_ends_one_actor_and_is_reported() {
    for (text, says) in [
        ("trigger.received[operator=numbers]=panic", "an injected panic at trigger.received"),
        ("acknowledge.received=panic", "an injected panic at acknowledge.received"),
        ("commit.received=kill", "an injected fault killed the actor"),
        ("barrier.sent=kill", "an injected fault killed the actor"),
        ("restored.sent=panic", "an injected panic at restored.sent"),
    ] {
        let drill = FaultDrill::new();
        drill.arm(text.parse::<FaultPlan>().unwrap()).unwrap();
        let numbers = Numbers::new(4_000, 40_000);
        let handle = numbers.start(&options(&drill));
        let mut failures = handle.events().filter_map(|event| match event {
            JobEvent::Failed(failure) => Some(failure.to_string()),
            _ => None,
        });
        let first = failures.next().unwrap_or_else(|| panic!("{text}: the job does not hear of it"));
        assert!(first.contains(says), "{text}: {first}");
        numbers.finish(&handle);
        // Its arbiter lives: the job did not end with it, and says so.
        let status = handle.status();
        assert!(status.restarts >= 1 && status.attempts >= 2, "{text}: {status:?}");
        assert_eq!(drill.strikes().len(), 1, "{text}");
    }
}

#[test]
fn what_was_delayed_between_two_actors_keeps_its_order() {
    let drill = FaultDrill::new();
    // Barriers and completions come late to some, and nothing overtakes them: a completion would be heard before the barrier of its checkpoint.
    let plan = "barrier.sent[probability=0.3,always]=delay(3ms); trigger.sent[probability=0.3,always]=delay(3ms); \
                completion.received[probability=0.3,always]=delay(3ms); acknowledge.sent[probability=0.3,always]=delay(3ms)";
    drill.arm(plan.parse::<FaultPlan>().unwrap()).unwrap();
    let numbers = Numbers::new(8_000, 20_000);
    let handle = numbers.start(&options(&drill).checkpoint_timeout(Duration::from_secs(10)));
    numbers.finish(&handle);
    assert!(drill.strikes().len() > 10, "{}", drill.strikes().len());
    let status = handle.status();
    assert_eq!((status.restarts, status.checkpoints_aborted), (0, 0), "{status:?}");
}
