//! A drill: armed while the job runs, disarmed by hand, by time, by number, and asked what it did.

use std::time::Duration;

use alluvium::drill::{Arming, DrillError, FaultDrill};
use alluvium::testing::faults::{Fault, FaultPlan, Point};
use alluvium::{JobEvent, JobHandle};

use crate::{Numbers, PATIENCE, is_completed, options};

/// Waits until so many more checkpoints are complete, from now on. The job has no end, so they come.
fn completed(handle: &JobHandle, count: usize) {
    assert_eq!(handle.events().filter(is_completed).take(count).count(), count, "the job ended before");
}

#[test]
fn a_job_is_disturbed_while_it_runs_and_the_record_says_by_what() {
    let drill = FaultDrill::new();
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill));
    completed(&handle, 2);
    assert!(drill.strikes().is_empty() && drill.armed().is_empty());
    assert!(drill.reached(Point::AcknowledgeSent) >= 4, "points are counted, armed or not");

    let plan: FaultPlan = "commit.begins=error; snapshot.synchronous[operator=counts,subtask=1]=panic".parse().unwrap();
    let mut events = handle.events();
    drill.arm(plan.clone()).unwrap();
    assert_eq!(drill.armed(), plan);
    let failed = events.find(|event| matches!(event, JobEvent::Failed(_)));
    let Some(JobEvent::Failed(failure)) = failed else { panic!("the job does not fail") };
    assert!(failure.message.contains("an injected panic at snapshot.synchronous"), "{failure}");
    assert!(drill.wait_for_strikes(2, PATIENCE));
    numbers.finish(&handle);

    let strikes = drill.strikes();
    assert_eq!(strikes.iter().map(|struck| struck.number).collect::<Vec<_>>(), [1, 2]);
    assert!(strikes[0].at <= strikes[1].at && strikes.iter().all(|struck| struck.job == "numbers"));
    let panicked = strikes.iter().find(|struck| struck.fault == plan.faults()[1]).unwrap();
    assert!(panicked.place.contains("counts") && panicked.place.contains("[1], checkpoint"), "{panicked}");
    assert!(drill.unstruck().is_empty());
}

#[test]
fn what_is_disarmed_strikes_no_more_and_what_stood_still_goes_on() {
    let drill = FaultDrill::new();
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill).checkpoint_timeout(20 * PATIENCE));
    // Each acknowledgement of one subtask would take a quarter of an hour.
    drill
        .arm("acknowledge.received[operator=numbers,subtask=1,always]=delay(900s)".parse::<FaultPlan>().unwrap())
        .unwrap();
    assert!(drill.wait_for_strikes(1, PATIENCE));
    // It is the only one of its checkpoint, and there is no other checkpoint while that is open.
    assert_eq!((drill.standing(), drill.strikes().len()), (1, 1));
    drill.disarm();
    assert!(drill.armed().is_empty() && drill.standing() == 0);
    completed(&handle, 3);
    assert_eq!(drill.strikes().len(), 1);
    numbers.finish(&handle);
}

#[test]
fn a_hold_ends_at_its_point_or_by_hand() {
    let drill = FaultDrill::new();
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill).checkpoint_timeout(20 * PATIENCE));
    // Nobody declines: only the hand can release it before the longest hold is over. It is blocking work, so a thread waits.
    drill.arm(Fault::hold(Point::ManifestWrite, Point::DeclineSent)).unwrap();
    assert!(drill.wait_for_strikes(1, PATIENCE));
    assert_eq!((drill.standing(), drill.release(), drill.standing()), (1, 1, 0));
    completed(&handle, 1);
    // A message, released by the next trigger: the checkpoint before it is complete without the notice.
    drill.arm(Fault::hold(Point::CompletionSent, Point::TriggerSent)).unwrap();
    assert!(drill.wait_for_strikes(2, PATIENCE));
    completed(&handle, 2);
    assert_eq!(drill.standing(), 0);
    numbers.finish(&handle);
}

#[test]
fn a_drill_ends_by_itself_after_a_number_of_strikes() {
    let drill = FaultDrill::new();
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill));
    let plan: FaultPlan = "completion.sent[always]=drop; completion.received[always]=duplicate".parse().unwrap();
    drill.arm(Arming::of(plan).strikes(3)).unwrap();
    assert!(drill.wait_for_strikes(3, PATIENCE));
    assert!(drill.armed().is_empty());
    numbers.finish(&handle);
    assert_eq!(drill.strikes().len(), 3);
}

#[test]
fn a_drill_ends_by_itself_after_a_time_and_releases_what_it_holds() {
    let drill = FaultDrill::new();
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill).checkpoint_timeout(20 * PATIENCE));
    let blocked: FaultPlan = "blob.write[always]=delay(900s); trigger.sent[always]=delay(900s)".parse().unwrap();
    let mut time = Duration::from_millis(30);
    let arm = |time| drill.arm(Arming::of(blocked.clone()).at_most(time)).unwrap();
    arm(time);
    // Where nobody comes by in so short a time, it is armed for a longer one.
    while !drill.wait_for_strikes(1, time) {
        time *= 2;
        arm(time);
    }
    // It would take a quarter of an hour. One checkpoint may have been past its blobs; the next one was triggered after the end.
    completed(&handle, 2);
    assert!(drill.armed().is_empty());
    numbers.finish(&handle);
}

#[test]
fn a_plan_that_is_armed_takes_the_place_of_the_one_before() {
    let drill = FaultDrill::new();
    drill.arm(Fault::drop(Point::TriggerSent).unwrap().always()).unwrap();
    drill.arm(Fault::duplicate(Point::TriggerSent).unwrap()).unwrap();
    assert_eq!(drill.armed().to_string(), "trigger.sent=duplicate");
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill));
    assert!(drill.wait_for_strikes(1, PATIENCE));
    completed(&handle, 1);
    numbers.finish(&handle);
    assert_eq!(drill.strikes().len(), 1);
}

#[test]
fn an_operator_that_no_job_has_is_refused_with_the_names_that_there_are() {
    let drill = FaultDrill::new();
    let at = |operator| FaultPlan::from(Fault::crash(Point::RestoreSubtask).operator(operator));
    let numbers = Numbers::endless();
    let handle = numbers.start(&options(&drill));
    let error = drill.arm(at("count")).unwrap_err();
    assert!(matches!(error, DrillError::UnknownOperator { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("`count`") && text.contains("`counts`") && text.contains("`collect`"), "{text}");
    assert!(drill.armed().is_empty());
    drill.arm(at("counts")).unwrap();
    drill.disarm();
    numbers.finish(&handle);
}
