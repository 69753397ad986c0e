//! A fault concerns whom it strikes: other actors of the same arbiter go on, and a panic outside of a step ends one actor alone.

use std::sync::mpsc::{Receiver, sync_channel};

use alluvium::connect::{Collect, Generator};
use alluvium::drill::FaultDrill;
use alluvium::testing::faults::{Fault, FaultPlan, Point, What};
use alluvium::{Job, JobEvent, JobOutcome};

use crate::{Numbers, PATIENCE, heard_options, is_completed, options, stop};

/// A step that tells of each number that passes, if somebody waits to hear of it.
fn telling() -> (impl Fn(u64) -> u64 + Clone + Send + 'static, Receiver<u64>) {
    let (tell, told) = sync_channel(1);
    let step = move |number| {
        // Nobody may be listening just now, or no more.
        let _ = tell.try_send(number);
        number
    };
    (step, told)
}

#[test]
fn an_actor_that_waits_does_not_hold_up_the_others_of_its_arbiter() {
    let job = Job::new("two sides");
    let outputs = [Collect::new(), Collect::new()];
    let (step, told) = telling();
    let generator = || Generator::unbounded(|index| index).splits(1).rate(40_000);
    job.source("left", generator()).sink("left-out", outputs[0].clone());
    job.source("right", generator()).map(step).sink("right-out", outputs[1].clone());
    let drill = FaultDrill::new();
    // The left side gets its first barrier, and waits for longer than anybody. Everything runs on one thread.
    let wait = Fault::at(Point::SnapshotSynchronous, What::Delay(10 * PATIENCE)).unwrap().operator("left");
    drill.arm(wait).unwrap();
    let handle = job.build().unwrap().start(&options(&drill).workers(1).checkpoint_timeout(20 * PATIENCE)).unwrap();
    assert!(drill.wait_for_strikes(1, PATIENCE));
    for _ in 0..1_000 {
        told.recv_timeout(PATIENCE).expect("the right side reads on while the left side waits");
    }
    assert_eq!(drill.standing(), 1);
    drill.release();
    stop(&handle);
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Stopped);
    for output in outputs {
        let mut numbers = output.collected();
        numbers.sort_unstable();
        assert!(!numbers.is_empty());
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
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
        let numbers = Numbers::endless();
        let (options, heard) = heard_options(&drill);
        let handle = numbers.start(&options);
        let failed = heard.wait_for(0, 1, |event| matches!(event, JobEvent::Failed(_)));
        let Some((position, JobEvent::Failed(failure))) = failed else { panic!("{text}: the job does not hear of it") };
        let failure = failure.to_string();
        assert!(failure.contains(says), "{text}: {failure}");
        // Its arbiter lives: the job does not end with it, and goes on.
        assert!(heard.wait_for(position, 1, is_completed).is_some(), "{text}: no checkpoint is complete after it");
        numbers.finish(&handle);
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
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill));
    assert!(drill.wait_for_strikes(100, PATIENCE), "{}", drill.strikes().len());
    numbers.finish(&handle);
    let status = handle.status();
    assert_eq!((status.restarts, status.checkpoints_aborted), (0, 0), "{status:?}");
}
