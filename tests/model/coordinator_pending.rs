//! One pending checkpoint, and the checkpoints of a job whose data ends.

use std::num::NonZeroU32;
use std::time::Duration;

use alluvium_actors::protocol::coordinator::CheckpointKind::{Final, Manual, Periodic, Stopping};
use alluvium_actors::protocol::coordinator::{
    DeclineReason, Effect, Event, FailureReason, JobFailure, Outcome, RequestId, RequestKind, Settings,
};

use crate::coordinator::{
    Desk, FIRST, LEFT, RIGHT, SECOND, SINK, aborted, at_most, completed, discarded, done, every, id, refused, trigger,
    write_token,
};

#[test]
fn a_checkpoint_that_closes_the_job_is_never_subsumed_because_none_begins_beside_it() {
    let mut desk = Desk::running(at_most(5));
    desk.trigger(1);
    desk.trigger(2);
    assert_eq!(desk.request(RequestKind::Stop), []);
    assert_eq!(desk.request(RequestKind::Checkpoint), [], "two of five places are taken, and yet it waits");
    desk.complete(1);
    assert_eq!(desk.complete(2), [completed(2, Manual), done(2, 2), trigger(3, Stopping)]);
    assert_eq!(desk.request(RequestKind::Checkpoint), []);
    assert_eq!(desk.pending(), [3]);
}

#[test]
fn the_requester_hears_once_how_its_checkpoint_ended() {
    let reason = FailureReason::CheckpointDeclined;
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    assert!(desk.acknowledge(LEFT, 1).is_empty(), "nothing is said while acknowledgements are missing");
    assert_eq!(desk.decline(LEFT, 1, DeclineReason::Declined).last(), Some(&refused(1, reason)));
    assert_eq!(desk.decline(LEFT, 1, DeclineReason::Declined), []);
    desk.trigger(2);
    assert_eq!(desk.pass(Settings::default().timeout).last(), Some(&refused(2, FailureReason::CheckpointExpired)));
    desk.trigger(3);
    assert_eq!(desk.complete(3).last(), Some(&done(3, 3)));
}

#[test]
fn an_abort_takes_the_timeout_with_it() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    desk.decline(LEFT, 1, DeclineReason::Declined);
    assert_eq!(desk.pass(2 * Settings::default().timeout), []);
}

#[test]
fn the_state_of_the_enumerators_goes_with_the_checkpoint_in_every_step() {
    let mut desk = Desk::running(Settings::default());
    desk.tell(Event::Request { request: RequestId(1), kind: RequestKind::Checkpoint });
    desk.now = desk.now + Settings::default().timeout;
    assert!(desk.tell(Event::Deadline).contains(&discarded(1)), "taken in part");
    desk.requests_from(1);
    desk.trigger(2);
    assert!(desk.decline(LEFT, 2, DeclineReason::Declined).contains(&discarded(2)), "taken");
}

#[test]
fn the_manifest_names_the_subtasks_that_had_finished() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    desk.acknowledge_in(FIRST, LEFT, 1, true);
    desk.acknowledge_in(FIRST, RIGHT, 1, false);
    let effects = desk.acknowledge_in(FIRST, SINK, 1, true);
    let Some(Effect::WriteManifest { finished, .. }) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(*finished, [LEFT, SINK]);
}

#[test]
fn a_completed_final_checkpoint_leaves_no_other_and_a_stop_leaves_what_is_to_be_retained() {
    let three = std::num::NonZeroUsize::new(3).unwrap();
    let mut desk = Desk::running(Settings { retained: three, ..Settings::default() });
    for checkpoint in 1..=3 {
        desk.trigger(checkpoint);
        desk.complete(checkpoint);
    }
    desk.end_of_data();
    let effects = desk.acknowledge_all(4);
    let token = write_token(&effects, 4);
    let effects = desk.tell(Event::WriteFinished { token, outcome: Outcome::Done });
    assert_eq!(effects, [completed(4, Final), Effect::DeleteCheckpoint { checkpoint: id(1) }]);
    assert_eq!(desk.tell(Event::Shutdown), [], "a shutdown waits for the deletions");
    let deleted = |checkpoint| Event::Deleted { checkpoint: id(checkpoint), outcome: Outcome::Done };
    assert_eq!(desk.tell(deleted(1)), [Effect::DeleteCheckpoint { checkpoint: id(2) }]);
    assert_eq!(desk.tell(deleted(2)), [Effect::DeleteCheckpoint { checkpoint: id(3) }]);
    let end = Effect::Suspended { last_completed: Some(id(4)), closed: Some(Final) };
    assert_eq!(desk.tell(deleted(3)), [end]);
    assert_eq!(desk.coordinator.retained().into_iter().collect::<Vec<_>>(), [id(4)]);

    let mut desk = Desk::running(Settings { retained: three, ..Settings::default() });
    desk.trigger(1);
    desk.complete(1);
    desk.request(RequestKind::Stop);
    desk.complete(2);
    assert_eq!(desk.coordinator.retained().into_iter().collect::<Vec<_>>(), [id(1), id(2)]);
}

// The end of all data.

#[test]
fn checkpoints_go_on_while_some_subtasks_have_reached_the_end_of_their_data() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    desk.complete(1);
    assert_eq!(desk.run(Event::EndOfData { attempt: FIRST, subtask: LEFT }), []);
    assert_eq!(desk.pass(10 * SECOND), [trigger(2, Periodic)]);
    desk.acknowledge_in(FIRST, LEFT, 2, true);
    desk.acknowledge(RIGHT, 2);
    let effects = desk.acknowledge(SINK, 2);
    assert_eq!(desk.written(&effects, 2, Outcome::Done), [completed(2, Periodic)]);
}

#[test]
fn one_final_checkpoint_is_taken_when_all_data_has_ended_also_without_a_schedule() {
    for settings in [Settings::default(), every(10)] {
        let scheduled = settings.interval.is_some();
        let mut desk = Desk::running(settings);
        if scheduled {
            desk.pass(Duration::ZERO);
            desk.complete(1);
        }
        let last = if scheduled { 2 } else { 1 };
        assert_eq!(desk.end_of_data(), [trigger(last, Final)]);
        assert_eq!(desk.run(Event::EndOfData { attempt: FIRST, subtask: SINK }), [], "a repeated word");
        assert_eq!(desk.pass(30 * SECOND), [], "the schedule is silent beside it");
        let after = desk.complete(last);
        assert_eq!(after, [completed(last, Final)]);
        assert_eq!(desk.pass(100 * SECOND), [], "and after it");
        assert_eq!(desk.request(RequestKind::Stop), [done(1, last)]);
    }
}

#[test]
fn a_subtask_that_acknowledges_as_finished_has_reached_its_end_whatever_became_of_its_word() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    desk.acknowledge_in(FIRST, LEFT, 1, true);
    desk.acknowledge_in(FIRST, RIGHT, 1, true);
    let effects = desk.acknowledge_in(FIRST, SINK, 1, true);
    // The words of the ends never come: the next checkpoint is the final one all the same.
    let after = desk.written(&effects, 1, Outcome::Done);
    assert!(after.contains(&trigger(2, Final)), "{after:?}");
}

#[test]
fn the_final_checkpoint_waits_for_a_running_one_which_is_not_it() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    desk.acknowledge(LEFT, 1);
    assert_eq!(desk.end_of_data(), []);
    desk.acknowledge(RIGHT, 1);
    let effects = desk.acknowledge(SINK, 1);
    let after = desk.written(&effects, 1, Outcome::Done);
    assert_eq!(after, [completed(1, Periodic), trigger(2, Final)]);
}

#[test]
fn an_aborted_final_checkpoint_is_tried_again_after_a_growing_delay() {
    let mut desk = Desk::running(Settings { timeout: 100 * SECOND, ..Settings::default() });
    desk.end_of_data();
    let delays = [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000];
    for (checkpoint, delay) in (1..).zip(delays.map(Duration::from_millis)) {
        let reason = FailureReason::CheckpointDeclined;
        let effects = desk.decline(LEFT, checkpoint, DeclineReason::Declined);
        assert_eq!(effects, [aborted(checkpoint, None, reason), discarded(checkpoint)]);
        assert_eq!(desk.pass(delay - Duration::from_nanos(1)), []);
        assert_eq!(desk.pass(Duration::from_nanos(1)), [trigger(checkpoint + 1, Final)]);
    }
    assert_eq!(desk.complete(10), [completed(10, Final)], "the tenth and last try succeeds");
}

#[test]
fn a_final_checkpoint_that_cannot_be_taken_fails_the_job_after_the_last_try() {
    let mut desk = Desk::running(Settings { final_attempts: NonZeroU32::new(2).unwrap(), ..Settings::default() });
    desk.end_of_data();
    desk.decline(LEFT, 1, DeclineReason::AsynchronousPart);
    assert_eq!(desk.request(RequestKind::Stop), [], "a stop waits for the final checkpoint");
    assert_eq!(desk.pass(SECOND), [trigger(2, Final)]);
    let reason = FailureReason::CheckpointAsyncException;
    let failure = JobFailure::FinalCheckpoint { attempts: 2, reason };
    assert_eq!(
        desk.decline(LEFT, 2, DeclineReason::AsynchronousPart),
        [aborted(2, None, reason), discarded(2), refused(1, reason), Effect::FailJob { failure }]
    );
    assert_eq!(desk.pass(1_000 * SECOND), []);
    let suspended = Effect::Suspended { last_completed: None, closed: None };
    assert_eq!(desk.run(Event::Suspend), [suspended]);
    // Another attempt begins to count anew.
    desk.start(2, None, &[]);
    for subtask in [LEFT, RIGHT, SINK] {
        desk.run(Event::EndOfData { attempt: alluvium_actors::ids::Attempt(2), subtask });
    }
    assert_eq!(desk.pending(), [3]);
}

#[test]
fn a_final_checkpoint_without_an_id_is_tried_again() {
    let mut desk = Desk::new(Settings::default());
    desk.tell(Event::Start(alluvium_actors::protocol::coordinator::Start {
        attempt: FIRST,
        subtasks: vec![LEFT],
        first_id: id(1),
        reserved_until: id(1),
        restored: None,
        retained: Vec::new(),
        whole_job: true,
        random: 0,
    }));
    let reserve = |token| Effect::ReserveIds { token: alluvium_actors::ids::Token(token), up_to: id(1_025) };
    let answer = |token, outcome| Event::IdsReserved { token: alluvium_actors::ids::Token(token), outcome };
    assert_eq!(desk.run(Event::EndOfData { attempt: FIRST, subtask: LEFT }), [reserve(1)]);
    let reason = FailureReason::IoException;
    assert_eq!(desk.run(answer(1, Outcome::Failed)), [Effect::NotTriggered { kind: Final, reason }]);
    assert_eq!(desk.pass(Duration::from_millis(100)), [reserve(2)]);
    assert_eq!(desk.run(answer(2, Outcome::Done)), [trigger(1, Final)]);
}

#[test]
fn subtasks_that_are_gone_take_part_in_the_final_checkpoint_as_finished() {
    let mut desk = Desk::running(Settings::default());
    let ended = |subtask| Event::SubtaskEnded { attempt: FIRST, subtask };
    assert_eq!(desk.run(ended(LEFT)), []);
    assert_eq!(desk.run(ended(RIGHT)), []);
    let effects = desk.run(ended(SINK));
    let Some(Effect::WriteManifest { finished, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(*finished, [LEFT, RIGHT, SINK]);
    assert_eq!(desk.written(&effects, 1, Outcome::Done), [completed(1, Final)]);
}

#[test]
fn a_stop_that_was_begun_before_the_end_of_all_data_ends_the_job_as_stopped() {
    let mut desk = Desk::running(Settings::default());
    assert_eq!(desk.request(RequestKind::Stop), [trigger(1, Stopping)]);
    assert_eq!(desk.end_of_data(), []);
    assert_eq!(desk.complete(1), [completed(1, Stopping), done(1, 1)]);

    let mut desk = Desk::running(Settings::default());
    desk.request(RequestKind::Stop);
    desk.end_of_data();
    let effects = desk.decline(LEFT, 1, DeclineReason::Declined);
    assert_eq!(effects.last(), Some(&trigger(2, Final)), "an aborted one leaves the way to the final checkpoint");
}

#[test]
fn a_stop_that_waits_when_all_data_has_ended_is_answered_by_the_final_checkpoint() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    assert_eq!(desk.request(RequestKind::Stop), []);
    assert_eq!(desk.end_of_data(), []);
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1), trigger(2, Final)]);
    assert_eq!(desk.complete(2), [completed(2, Final), done(2, 2)]);
}
