//! When a checkpoint is triggered, and which request goes next.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use alluvium_actors::ids::{Attempt, Moment, Token};
use alluvium_actors::protocol::coordinator::CheckpointKind::{Final, Manual, Periodic, Stopping};
use alluvium_actors::protocol::coordinator::{
    Coordinator, Effect, Event, FailureReason, Outcome, RequestId, RequestKind, Settings, Start,
};
use alluvium_actors::protocol::machine::Machine;

use crate::coordinator::{
    Desk, FIRST, LEFT, RIGHT, SECOND, SINK, aborted, at_most, completed, discarded, done, enumerators, every, id,
    refused, trigger,
};

/// A periodic checkpoint was due within the pause.
const TOO_EARLY: Effect = Effect::NotTriggered { kind: Periodic, reason: FailureReason::MinimumTimeBetweenCheckpoints };

fn start(first: u64, reserved_until: u64, random: u64) -> Event {
    Event::Start(Start {
        attempt: FIRST,
        subtasks: vec![LEFT, RIGHT, SINK],
        first_id: id(first),
        reserved_until: id(reserved_until),
        restored: None,
        retained: Vec::new(),
        whole_job: true,
        random,
    })
}

#[test]
fn the_schedule_triggers_ascending_checkpoints_until_it_is_suspended_and_again_after_a_start() {
    let mut desk = Desk::running(every(10));
    // The random number is 0 and there is no pause: the first one comes at once.
    assert_eq!(desk.pass(Duration::ZERO), [trigger(1, Periodic)]);
    assert_eq!(desk.complete(1), [completed(1, Periodic)]);
    assert_eq!(desk.pass(9 * SECOND), []);
    assert_eq!(desk.pass(SECOND), [trigger(2, Periodic)]);
    assert_eq!(desk.complete(2), [completed(2, Periodic)]);
    assert_eq!(desk.tell(Event::Suspend), [Effect::Suspended { last_completed: Some(id(2)), closed: None }]);
    assert_eq!(desk.coordinator.next_deadline(), None);
    assert_eq!(desk.pass(100 * SECOND), []);
    desk.start(2, Some(2), &[2]);
    let again = Effect::Trigger { attempt: Attempt(2), checkpoint: id(3), kind: Periodic };
    assert_eq!(desk.pass(Duration::ZERO), [again]);
}

#[test]
fn the_first_periodic_trigger_comes_at_random_between_the_pause_and_the_interval() {
    let settings = Settings { minimum_pause: 4 * SECOND, ..every(10) };
    for (random, expected) in [(0, 4_000_000_000), (6_000_000_000, 10_000_000_000), (6_000_000_001, 4_000_000_000)] {
        let mut coordinator = Coordinator::new(settings.clone());
        coordinator.handle(Moment(0), start(1, 100, random), &mut Vec::new());
        assert_eq!(coordinator.next_deadline(), Some(Moment(expected)));
    }
}

#[test]
fn an_interval_shorter_than_the_pause_is_raised_to_it() {
    let mut desk = Desk::running(Settings { minimum_pause: 30 * SECOND, ..every(10) });
    assert_eq!(desk.coordinator.next_deadline(), Some(Moment(0) + 30 * SECOND));
    assert_eq!(desk.pass(30 * SECOND), [trigger(1, Periodic)]);
    desk.complete(1);
    assert_eq!(desk.pass(29 * SECOND), []);
    assert_eq!(desk.pass(SECOND), [trigger(2, Periodic)]);
}

#[test]
fn the_interval_is_a_schedule_so_the_next_one_starts_right_after_a_late_one() {
    let mut desk = Desk::running(every(10));
    assert_eq!(desk.pass(Duration::ZERO), [trigger(1, Periodic)]);
    assert_eq!(desk.pass(34 * SECOND), [], "three moments of the schedule pass while 1 is pending");
    let effects = desk.complete(1);
    assert_eq!(effects, [completed(1, Periodic), trigger(2, Periodic)], "one of them is made up for");
    assert_eq!(desk.complete(2), [completed(2, Periodic)]);
    assert_eq!(desk.pass(5 * SECOND), []);
    assert_eq!(desk.pass(SECOND), [trigger(3, Periodic)], "and the next comes at 40 s");
}

#[test]
fn the_next_periodic_trigger_is_not_before_the_completion_of_the_last_plus_the_pause() {
    let mut desk = Desk::running(Settings { minimum_pause: 8 * SECOND, ..every(10) });
    assert_eq!(desk.pass(8 * SECOND), [trigger(1, Periodic)]);
    assert_eq!(desk.pass(5 * SECOND), []);
    assert_eq!(desk.complete(1), [completed(1, Periodic)], "completed at 13 s");
    assert_eq!(desk.pass(7 * SECOND), [TOO_EARLY], "18 s is within the pause: dropped");
    assert_eq!(desk.coordinator.next_deadline(), Some(Moment(0) + 21 * SECOND));
    assert_eq!(desk.pass(SECOND), [trigger(2, Periodic)]);
    desk.complete(2);
    assert_eq!(desk.pass(10 * SECOND), [trigger(3, Periodic)], "the schedule goes on from there");
}

#[test]
fn a_periodic_one_that_waited_for_the_limit_still_keeps_the_pause() {
    let mut desk = Desk::running(Settings { minimum_pause: 8 * SECOND, ..every(10) });
    desk.pass(8 * SECOND);
    assert_eq!(desk.pass(15 * SECOND), []);
    assert_eq!(desk.complete(1), [completed(1, Periodic), TOO_EARLY], "completed at 23 s, one is due");
    assert_eq!(desk.pass(7 * SECOND), []);
    assert_eq!(desk.pass(SECOND), [trigger(2, Periodic)]);
}

#[test]
fn a_request_of_a_user_ignores_the_pause() {
    let mut desk = Desk::running(Settings { minimum_pause: 8 * SECOND, ..every(10) });
    desk.pass(8 * SECOND);
    desk.complete(1);
    desk.trigger(2);
    assert_eq!(desk.complete(2), [completed(2, Manual), done(1, 2)]);
}

#[test]
fn requests_of_users_work_without_a_schedule_and_beside_it() {
    for settings in [Settings::default(), every(1_000)] {
        let mut desk = Desk::new(settings);
        desk.tell(start(1, 9_000, 999_999_999_999));
        desk.trigger(1);
        assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1)]);
        desk.trigger(2);
    }
}

#[test]
fn no_request_is_served_before_the_start_after_a_suspension_or_after_the_shutdown() {
    let mut desk = Desk::new(every(10));
    let request = RequestKind::Checkpoint;
    assert_eq!(desk.request(request), [refused(1, FailureReason::NotAllRequiredTasksRunning)]);
    desk.start(1, None, &[]);
    desk.trigger(1);
    desk.tell(Event::Suspend);
    assert_eq!(desk.request(request), [refused(3, FailureReason::NotAllRequiredTasksRunning)]);
    desk.tell(Event::Shutdown);
    assert_eq!(desk.request(request), [refused(4, FailureReason::CheckpointCoordinatorShutdown)]);
    assert_eq!(desk.pass(100 * SECOND), []);
}

#[test]
fn a_start_triggers_only_what_the_schedule_says_once_the_subtasks_run() {
    let mut desk = Desk::new(every(10));
    assert_eq!(desk.coordinator.next_deadline(), None);
    assert_eq!(desk.pass(100 * SECOND), []);
    desk.start(1, None, &[]);
    assert_eq!(desk.pass(Duration::ZERO), [trigger(1, Periodic)]);
}

#[test]
fn a_request_during_the_trigger_phase_of_another_is_queued_and_served_after_it() {
    let mut desk = Desk::running(at_most(2));
    let ask = |request| Event::Request { request: RequestId(request), kind: RequestKind::Checkpoint };
    let snapshotted =
        |checkpoint, outcome| Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint, outcome, bytes: 0 };
    assert_eq!(desk.tell(ask(1)), [enumerators(1, Manual)]);
    assert_eq!(desk.tell(ask(2)), [], "the trigger phase of 1 is not over");
    let effects = desk.tell(snapshotted(id(1), Outcome::Done));
    assert_eq!(effects, [trigger(1, Manual), enumerators(2, Manual)]);
    assert_eq!(desk.tell(snapshotted(id(2), Outcome::Done)), [trigger(2, Manual)]);
}

#[test]
fn a_failed_trigger_phase_fails_one_request_and_the_queued_ones_are_served() {
    let mut desk = Desk::running(Settings::default());
    let ask = |request| Event::Request { request: RequestId(request), kind: RequestKind::Checkpoint };
    assert_eq!(desk.tell(ask(1)), [enumerators(1, Manual)]);
    assert_eq!(desk.tell(ask(2)), []);
    assert_eq!(desk.tell(ask(3)), []);
    for outcome in [Outcome::Failed, Outcome::Unknown] {
        let failed = desk.pending()[0];
        let event = Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(failed), outcome, bytes: 0 };
        let reason = FailureReason::TriggerCheckpointFailure;
        assert_eq!(
            desk.tell(event),
            [discarded(failed), refused(failed, reason), enumerators(failed + 1, Manual)],
            "no subtask was told of {failed}, so none hears of its end"
        );
    }
}

#[test]
fn an_expired_trigger_phase_frees_its_place_without_a_word_to_the_subtasks() {
    let mut desk = Desk::running(Settings::default());
    desk.tell(Event::Request { request: RequestId(1), kind: RequestKind::Checkpoint });
    desk.now = Moment(0) + Settings::default().timeout;
    let reason = FailureReason::CheckpointExpired;
    assert_eq!(desk.tell(Event::Deadline), [discarded(1), refused(1, reason)]);
    let answer = Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(1), outcome: Outcome::Done, bytes: 0 };
    assert_eq!(desk.tell(answer), [], "the late word of the enumerators triggers nothing");
    desk.requests_from(1);
    desk.trigger(2);
}

#[test]
fn a_job_whose_ids_cannot_be_reserved_fails_one_request_at_a_time() {
    let mut desk = Desk::new(Settings { ids_per_block: NonZeroU64::new(4).unwrap(), ..Settings::default() });
    desk.tell(start(7, 7, 0));
    let ask = |request| Event::Request { request: RequestId(request), kind: RequestKind::Checkpoint };
    let reserve = |token, up_to| Effect::ReserveIds { token: Token(token), up_to: id(up_to) };
    let reserved = |token, outcome| Event::IdsReserved { token: Token(token), outcome };
    assert_eq!(desk.tell(ask(1)), [reserve(1, 11)]);
    assert_eq!(desk.tell(ask(2)), [], "the reservation is under way");
    let reason = FailureReason::IoException;
    assert_eq!(desk.tell(reserved(1, Outcome::Failed)), [refused(1, reason), reserve(2, 11)]);
    assert_eq!(desk.tell(reserved(1, Outcome::Done)), [], "an old token answers nothing");
    assert_eq!(desk.tell(reserved(2, Outcome::Done)), [enumerators(7, Manual)]);
}

#[test]
fn a_periodic_checkpoint_without_an_id_is_tried_again_at_the_next_moment_of_the_schedule() {
    let mut desk = Desk::new(every(10));
    desk.tell(start(1, 1, 0));
    let reserve = |token| Effect::ReserveIds { token: Token(token), up_to: id(1_025) };
    assert_eq!(desk.pass(Duration::ZERO), [reserve(1)]);
    let dropped = Effect::NotTriggered { kind: Periodic, reason: FailureReason::IoException };
    assert_eq!(desk.tell(Event::IdsReserved { token: Token(1), outcome: Outcome::Unknown }), [dropped]);
    assert_eq!(desk.pass(9 * SECOND), []);
    assert_eq!(desk.pass(SECOND), [reserve(2)]);
    assert_eq!(desk.run(Event::IdsReserved { token: Token(2), outcome: Outcome::Done }), [trigger(1, Periodic)]);
}

#[test]
fn ids_are_above_zero_ascend_by_one_and_are_reserved_before_they_are_used() {
    let mut desk = Desk::new(Settings { ids_per_block: NonZeroU64::new(4).unwrap(), ..Settings::default() });
    desk.tell(start(0, 5, 0));
    let mut reserved = 5;
    for expected in 1..=20 {
        for effect in desk.request(RequestKind::Checkpoint) {
            match effect {
                Effect::ReserveIds { token, up_to } => {
                    assert!(up_to > id(reserved));
                    reserved = up_to.0;
                    desk.tell(Event::IdsReserved { token, outcome: Outcome::Done });
                }
                other => assert_eq!(other, trigger(expected, Manual)),
            }
        }
        assert!(expected < reserved);
        assert_eq!(desk.complete(expected), [completed(expected, Manual), done(expected, expected)]);
    }
}

#[test]
fn ids_go_on_where_the_run_says_and_never_back() {
    let mut desk = Desk::new(Settings::default());
    desk.tell(start(100, 9_000, 0));
    desk.trigger(100);
    desk.tell(Event::Suspend);
    // A start that names an id already handed out does not bring it back.
    let mut again = Start { attempt: Attempt(2), ..start_of(start(90, 9_000, 0)) };
    again.subtasks = vec![LEFT];
    desk.tell(Event::Start(again));
    let effects = desk.request(RequestKind::Checkpoint);
    assert_eq!(effects, [Effect::Trigger { attempt: Attempt(2), checkpoint: id(101), kind: Manual }]);
}

fn start_of(event: Event) -> Start {
    match event {
        Event::Start(start) => start,
        other => panic!("not a start: {other:?}"),
    }
}

#[test]
fn the_coordinator_ends_with_the_job_and_begins_nothing_afterwards() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    desk.acknowledge(LEFT, 1);
    let reason = FailureReason::CheckpointCoordinatorShutdown;
    let end = Effect::Suspended { last_completed: None, closed: None };
    assert_eq!(desk.tell(Event::Shutdown), [aborted(1, None, reason), discarded(1), end]);
    assert_eq!(desk.pass(1_000 * SECOND), []);
    assert_eq!(desk.pending(), [] as [u64; 0]);
}

#[test]
fn a_deadline_during_shutdown_is_harmless() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    let effects = desk.acknowledge_all(1);
    assert_eq!(desk.run(Event::Shutdown), [], "the manifest is being written");
    desk.now = desk.now + 1_000 * SECOND;
    assert_eq!(desk.run(Event::Deadline), []);
    let end = Effect::Suspended { last_completed: Some(id(1)), closed: None };
    assert_eq!(desk.written(&effects, 1, Outcome::Done), [completed(1, Periodic), end]);
}

#[test]
fn suspending_is_safe_when_there_is_no_schedule_and_nothing_is_pending() {
    let mut desk = Desk::running(Settings::default());
    let suspended = Effect::Suspended { last_completed: None, closed: None };
    assert_eq!(desk.tell(Event::Suspend), std::slice::from_ref(&suspended));
    assert_eq!(desk.tell(Event::Suspend), [suspended], "once more answers once more");
}

#[test]
fn it_works_without_a_history_and_with_a_subtask_that_finished() {
    let mut desk = Desk::running(Settings { history: 0, ..Settings::default() });
    desk.run(Event::EndOfData { attempt: FIRST, subtask: LEFT });
    desk.trigger(1);
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1)]);
    assert_eq!(desk.coordinator.history().count(), 0);
}

// Which request goes next.

#[test]
fn at_the_limit_requests_wait_and_run_when_one_is_done() {
    let mut desk = Desk::running(at_most(2));
    desk.trigger(1);
    desk.trigger(2);
    assert_eq!(desk.request(RequestKind::Checkpoint), []);
    let effects = desk.complete(1);
    assert_eq!(effects, [completed(1, Manual), done(1, 1), trigger(3, Manual)]);
    assert_eq!(desk.pending(), [2, 3]);
}

#[test]
fn while_more_old_checkpoints_are_being_deleted_than_may_be_concurrent_none_begins() {
    let mut desk = Desk::running(Settings::default());
    for checkpoint in 1..=3 {
        let effects = {
            desk.trigger(checkpoint);
            desk.acknowledge_all(checkpoint)
        };
        let token = crate::coordinator::write_token(&effects, checkpoint);
        // Deletions are asked for and not answered.
        desk.tell(Event::WriteFinished { token, outcome: Outcome::Done });
    }
    assert_eq!(desk.request(RequestKind::Checkpoint), [], "1 is being deleted and 2 waits");
    let deleted = Event::Deleted { checkpoint: id(1), outcome: Outcome::Done };
    assert_eq!(desk.tell(deleted), [enumerators(4, Manual), Effect::DeleteCheckpoint { checkpoint: id(2) }]);
}

#[test]
fn a_stop_goes_before_requests_and_requests_before_the_schedule() {
    let mut desk = Desk::running(Settings { interval: Some(SECOND), ..Settings::default() });
    assert_eq!(desk.pass(Duration::ZERO), [trigger(1, Periodic)]);
    assert_eq!(desk.pass(3 * SECOND), [], "a periodic one is due");
    assert_eq!(desk.request(RequestKind::Checkpoint), []);
    assert_eq!(desk.request(RequestKind::Stop), []);
    assert_eq!(desk.complete(1), [completed(1, Periodic), trigger(2, Stopping)]);
    let effects = desk.decline(LEFT, 2, alluvium_actors::protocol::coordinator::DeclineReason::Declined);
    let reason = FailureReason::CheckpointDeclined;
    let go_on = Effect::SourcesGoOn { attempt: FIRST, checkpoint: id(2) };
    assert_eq!(effects, [aborted(2, Some(1), reason), discarded(2), go_on, refused(2, reason), trigger(3, Manual)]);
    assert_eq!(desk.complete(3), [completed(3, Manual), done(1, 3), trigger(4, Periodic)]);
}

#[test]
fn over_the_limit_of_waiting_requests_the_last_in_order_is_refused() {
    let limit = NonZeroUsize::new(1).unwrap();
    let mut desk = Desk::running(Settings { maximum_queued_requests: limit, ..every(1) });
    desk.trigger(1);
    let reason = FailureReason::TooManyCheckpointRequests;
    assert_eq!(desk.request(RequestKind::Checkpoint), []);
    assert_eq!(desk.request(RequestKind::Checkpoint), [refused(3, reason)], "the newer of two equals");
    assert_eq!(desk.pass(10 * SECOND), [], "the schedule pushes nobody out");
    assert_eq!(desk.request(RequestKind::Stop), [refused(2, reason)], "a stop pushes a request out");
    assert_eq!(desk.request(RequestKind::Stop), [refused(5, reason)]);
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1), trigger(2, Stopping)]);
}

#[test]
fn the_final_checkpoint_waits_for_every_pending_one_and_lets_nothing_in_front_of_it() {
    let mut desk = Desk::running(at_most(3));
    desk.trigger(1);
    desk.trigger(2);
    assert_eq!(desk.end_of_data(), []);
    assert_eq!(desk.request(RequestKind::Checkpoint), []);
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1)]);
    assert_eq!(desk.complete(2), [completed(2, Manual), done(2, 2), trigger(3, Final)]);
    assert_eq!(desk.complete(3), [completed(3, Final), done(3, 3)], "it serves the request that waited");
}

#[test]
fn a_request_that_a_stop_pushes_out_is_told_so_and_the_limit_is_a_setting() {
    for limit in [1, 2, 7] {
        let settings = Settings { maximum_queued_requests: NonZeroUsize::new(limit).unwrap(), ..Settings::default() };
        let mut desk = Desk::running(settings);
        desk.trigger(1);
        for _ in 0..limit {
            assert_eq!(desk.request(RequestKind::Checkpoint), [], "there is room for {limit}");
        }
        let newest = limit as u64 + 1;
        let reason = FailureReason::TooManyCheckpointRequests;
        assert_eq!(desk.request(RequestKind::Stop), [refused(newest, reason)], "the newest that is no stop");
    }
}

#[test]
fn a_periodic_one_that_is_due_is_no_request_and_takes_no_place_of_the_queue() {
    let limit = NonZeroUsize::new(1).unwrap();
    let mut desk = Desk::running(Settings { maximum_queued_requests: limit, ..every(1) });
    desk.pass(Duration::ZERO);
    assert_eq!(desk.pass(10 * SECOND), [], "ten moments of the schedule pass, one is due");
    assert_eq!(desk.request(RequestKind::Checkpoint), [], "and there is room for the request");
    assert_eq!(desk.complete(1), [completed(1, Periodic), trigger(2, Manual)], "which goes first");
    assert_eq!(desk.complete(2), [completed(2, Manual), done(1, 2), trigger(3, Periodic)]);
}

#[test]
fn requests_of_users_are_served_in_the_order_in_which_they_came() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    for _ in 0..3 {
        assert_eq!(desk.request(RequestKind::Checkpoint), []);
    }
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1), trigger(2, Manual)]);
    assert_eq!(desk.complete(2), [completed(2, Manual), done(2, 2), trigger(3, Manual)]);
    assert_eq!(desk.complete(3), [completed(3, Manual), done(3, 3), trigger(4, Manual)]);
    assert_eq!(desk.complete(4), [completed(4, Manual), done(4, 4)]);
}

#[test]
fn the_pause_is_counted_from_the_last_completion_also_of_a_manual_one() {
    let mut desk = Desk::running(Settings { minimum_pause: 8 * SECOND, ..every(10) });
    desk.pass(8 * SECOND);
    desk.complete(1);
    desk.pass(7 * SECOND);
    desk.trigger(2);
    assert_eq!(desk.complete(2), [completed(2, Manual), done(1, 2)], "at 15 s");
    assert_eq!(desk.pass(3 * SECOND), [TOO_EARLY], "18 s was due, and is within the pause of 2");
    assert_eq!(desk.pass(5 * SECOND), [trigger(3, Periodic)]);
}

#[test]
fn a_restart_of_some_regions_goes_on_with_the_schedule_and_takes_up_the_moment_that_was_missed() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    desk.complete(1);
    let restart = |attempt| {
        let again = start_of(start(1, 9_000, 5_000_000_000));
        Event::Start(Start { attempt: Attempt(attempt), whole_job: false, ..again })
    };
    let triggered = |attempt, checkpoint| {
        [Effect::Trigger { attempt: Attempt(attempt), checkpoint: id(checkpoint), kind: Periodic }]
    };
    desk.pass(4 * SECOND);
    desk.run(Event::Suspend);
    assert_eq!(desk.pass(2 * SECOND), []);
    assert_eq!(desk.run(restart(2)), []);
    assert_eq!(desk.pass(4 * SECOND), triggered(2, 2), "ten seconds after the first, and not at another random moment");
    desk.run(Event::Suspend);
    assert_eq!(desk.pass(13 * SECOND), []);
    assert_eq!(desk.run(restart(3)), triggered(3, 3), "the moment at 20 s was missed");
    assert_eq!(desk.coordinator.next_deadline().map(|at| at.0 / 1_000_000_000), Some(30));
}
