//! The life of a checkpoint: acknowledged, declined, expired, subsumed, written, in doubt.

use std::num::NonZeroUsize;
use std::time::Duration;

use alluvium_actors::ids::{Attempt, Moment, SubtaskId, Token};
use alluvium_actors::protocol::coordinator::CheckpointKind::{Manual, Stopping};
use alluvium_actors::protocol::coordinator::{
    Acknowledgement, CheckpointStatus, DeclineReason, Effect, Event, FailureReason, JobFailure, Outcome, ReadBack,
    RequestId, RequestKind, Settings,
};
use alluvium_actors::protocol::machine::Machine;

use crate::coordinator::{
    Desk, FIRST, LEFT, RIGHT, SECOND, SINK, aborted, at_most, completed, discarded, discarded_one, done, every, id,
    refused, subtask, trigger, write_token,
};

const STRANGER: SubtaskId = subtask(9, 9);

#[test]
fn a_checkpoint_completes_on_the_last_acknowledgement_once_its_manifest_is_written() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    assert_eq!(desk.coordinator.next_deadline(), Some(Moment(0) + Settings::default().timeout));
    assert_eq!(desk.acknowledge(LEFT, 1), []);
    assert_eq!(desk.acknowledge(LEFT, 1), [], "a repeated acknowledgement counts once");
    assert_eq!(desk.acknowledge(RIGHT, 1), []);
    let effects = desk.acknowledge(SINK, 1);
    let write = Effect::WriteManifest {
        token: Token(1),
        attempt: FIRST,
        checkpoint: id(1),
        kind: Manual,
        finished: Vec::new(),
    };
    assert_eq!(effects, [write], "nothing is complete before its manifest is");
    assert_eq!(desk.coordinator.next_deadline(), None, "the timeout is over");
    assert_eq!(desk.written(&effects, 1, Outcome::Done), [completed(1, Manual), done(1, 1)]);
    assert_eq!(desk.coordinator.last_completed(), Some(id(1)));

    desk.trigger(2);
    let effects = desk.acknowledge_all(2);
    let token = write_token(&effects, 2);
    assert_eq!(
        desk.tell(Event::WriteFinished { token, outcome: Outcome::Done }),
        [completed(2, Manual), done(2, 2), Effect::DeleteCheckpoint { checkpoint: id(1) }],
        "the second one takes the place of the first"
    );
    let again = Event::WriteFinished { token, outcome: Outcome::Failed };
    assert_eq!(desk.tell(again), [], "a repeated answer of the storage means nothing");
}

#[test]
fn a_decline_aborts_at_once_and_later_words_about_that_checkpoint_are_ignored() {
    for (reason, named) in [
        (DeclineReason::SynchronousPart, FailureReason::TaskCheckpointFailure),
        (DeclineReason::AsynchronousPart, FailureReason::CheckpointAsyncException),
        (DeclineReason::Subsumed, FailureReason::CheckpointDeclinedSubsumed),
        (DeclineReason::CancelledUpstream, FailureReason::CheckpointDeclinedOnCancellationBarrier),
        (DeclineReason::Declined, FailureReason::CheckpointDeclined),
    ] {
        let mut desk = Desk::running(Settings::default());
        desk.trigger(1);
        desk.acknowledge(LEFT, 1);
        let effects = desk.decline(RIGHT, 1, reason);
        assert_eq!(effects, [aborted(1, None, named), discarded(1), refused(1, named)]);
        assert_eq!(desk.coordinator.next_deadline(), None, "its timeout is over");
        assert_eq!(desk.decline(SINK, 1, reason), []);
        assert_eq!(desk.decline(RIGHT, 1, reason), []);
        assert_eq!(desk.acknowledge(SINK, 1), [discarded_one(SINK, 1)]);
    }
}

#[test]
fn a_decline_of_the_first_of_two_leaves_the_second_alone() {
    let mut desk = Desk::running(at_most(2));
    desk.trigger(1);
    desk.now = desk.now + SECOND;
    desk.trigger(2);
    desk.acknowledge(LEFT, 1);
    desk.acknowledge(LEFT, 2);
    let reason = FailureReason::CheckpointDeclined;
    let effects = desk.decline(RIGHT, 1, DeclineReason::Declined);
    assert_eq!(effects, [aborted(1, None, reason), discarded(1), refused(1, reason)]);
    let timeout = Settings::default().timeout + SECOND;
    assert_eq!(desk.coordinator.next_deadline(), Some(Moment(0) + timeout), "that of the second");
    assert_eq!(desk.decline(SINK, 1, DeclineReason::Declined), []);
    assert_eq!(desk.acknowledge(RIGHT, 2), []);
    let effects = desk.acknowledge(SINK, 2);
    assert_eq!(desk.written(&effects, 2, Outcome::Done), [completed(2, Manual), done(2, 2)]);
}

#[test]
fn a_decline_of_a_stranger_or_of_another_attempt_changes_nothing() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    assert_eq!(desk.decline(STRANGER, 1, DeclineReason::Declined), []);
    let other =
        Event::Declined { attempt: Attempt(7), subtask: LEFT, checkpoint: id(1), reason: DeclineReason::Declined };
    assert_eq!(desk.run(other), []);
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1)]);
}

#[test]
fn a_newer_checkpoint_that_completes_first_subsumes_the_older_one() {
    let mut desk = Desk::running(at_most(2));
    desk.trigger(1);
    desk.trigger(2);
    desk.acknowledge(LEFT, 1);
    let reason = FailureReason::CheckpointSubsumed;
    assert_eq!(
        desk.complete(2),
        [completed(2, Manual), aborted(1, Some(2), reason), discarded(1), refused(1, reason), done(2, 2)],
        "enumerators and subtasks hear of the end of 1 and of the completion of 2"
    );
    assert_eq!(desk.acknowledge(RIGHT, 1), [discarded_one(RIGHT, 1)]);
}

#[test]
fn a_checkpoint_that_is_ready_waits_for_the_manifest_of_another_and_is_subsumed_or_written() {
    for outcome in [Outcome::Done, Outcome::Failed] {
        let mut desk = Desk::running(at_most(2));
        desk.trigger(1);
        desk.trigger(2);
        let two = desk.acknowledge_all(2);
        assert_eq!(desk.acknowledge_all(1), [], "the manifest of 2 is being written");
        assert_eq!(desk.coordinator.next_deadline(), None, "all is done that a timeout could speed up");
        let after = desk.written(&two, 2, outcome);
        if outcome == Outcome::Done {
            let reason = FailureReason::CheckpointSubsumed;
            let subsumed = [aborted(1, Some(2), reason), discarded(1), refused(1, reason)];
            assert_eq!(after[1..4], subsumed);
        } else {
            let reason = FailureReason::FinalizeCheckpointFailure;
            assert_eq!(after[..3], [aborted(2, None, reason), discarded(2), refused(2, reason)]);
            assert_eq!(desk.written(&after, 1, Outcome::Done), [completed(1, Manual), done(1, 1)]);
        }
    }
}

#[test]
fn a_checkpoint_that_is_not_acknowledged_in_time_expires_without_a_word_of_completion() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    desk.acknowledge(LEFT, 1);
    let timeout = Settings::default().timeout;
    assert_eq!(desk.pass(timeout - Duration::from_nanos(1)), []);
    let reason = FailureReason::CheckpointExpired;
    let effects = desk.pass(Duration::from_nanos(1));
    assert_eq!(effects, [aborted(1, None, reason), discarded(1), refused(1, reason)]);
    assert_eq!(desk.acknowledge(RIGHT, 1), [discarded_one(RIGHT, 1)]);
    assert_eq!(desk.acknowledge(SINK, 1), [discarded_one(SINK, 1)]);
}

#[test]
fn words_about_what_is_not_known_have_no_effect_but_that_their_snapshots_go() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    assert_eq!(desk.acknowledge(LEFT, 9), [discarded_one(LEFT, 9)]);
    assert_eq!(desk.acknowledge(STRANGER, 1), [discarded_one(STRANGER, 1)]);
    assert_eq!(desk.decline(LEFT, 9, DeclineReason::Declined), []);
    assert_eq!(desk.run(Event::EndOfData { attempt: FIRST, subtask: STRANGER }), []);
    assert_eq!(desk.run(Event::SubtaskEnded { attempt: FIRST, subtask: STRANGER }), []);
    assert_eq!(desk.run(Event::WriteFinished { token: Token(77), outcome: Outcome::Done }), []);
    assert_eq!(desk.run(Event::ReadBackFinished { token: Token(77), answer: ReadBack::Unknown }), []);
    assert_eq!(desk.run(Event::Deleted { checkpoint: id(77), outcome: Outcome::Failed }), []);
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1)]);
}

#[test]
fn an_acknowledgement_is_told_apart_from_those_that_only_look_like_it() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    let judge = |desk: &Desk, attempt, subtask, checkpoint| desk.coordinator.judge(attempt, subtask, id(checkpoint));
    assert_eq!(judge(&desk, FIRST, LEFT, 1), Acknowledgement::Accepted);
    assert_eq!(judge(&desk, Attempt(2), LEFT, 1), Acknowledgement::WrongAttempt);
    assert_eq!(judge(&desk, FIRST, STRANGER, 1), Acknowledgement::UnknownSubtask);
    assert_eq!(judge(&desk, FIRST, LEFT, 2), Acknowledgement::UnknownCheckpoint);
    desk.acknowledge(LEFT, 1);
    assert_eq!(judge(&desk, FIRST, LEFT, 1), Acknowledgement::Duplicate);
    desk.decline(RIGHT, 1, DeclineReason::Declined);
    assert_eq!(judge(&desk, FIRST, RIGHT, 1), Acknowledgement::Late);
    desk.trigger(2);
    desk.complete(2);
    assert_eq!(judge(&desk, FIRST, LEFT, 2), Acknowledgement::Duplicate, "its blobs are those of the checkpoint");
    assert_eq!(desk.acknowledge(LEFT, 2), []);
}

#[test]
fn a_message_of_an_old_attempt_never_counts_and_never_takes_blobs_that_may_be_in_use() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    desk.complete(1);
    desk.trigger(2);
    desk.acknowledge(LEFT, 2);
    desk.tell(Event::Suspend);
    desk.start(2, Some(1), &[1]);
    let effects = desk.request(RequestKind::Checkpoint);
    assert_eq!(effects, [Effect::Trigger { attempt: Attempt(2), checkpoint: id(3), kind: Manual }]);
    assert_eq!(desk.acknowledge(RIGHT, 1), [], "1 is what a restore takes");
    assert_eq!(desk.acknowledge(RIGHT, 2), [discarded_one(RIGHT, 2)]);
    assert_eq!(desk.acknowledge(RIGHT, 3), [], "3 is pending");
    assert_eq!(desk.coordinator.statistics(id(3)).unwrap().acknowledged, 0);
    assert_eq!(desk.run(Event::EndOfData { attempt: FIRST, subtask: LEFT }), []);
    assert_eq!(desk.run(Event::SubtaskEnded { attempt: FIRST, subtask: LEFT }), []);
    let old = Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(3), outcome: Outcome::Failed, bytes: 0 };
    assert_eq!(desk.run(old), []);
    assert_eq!(desk.pending(), [3]);
}

#[test]
fn the_last_sixteen_aborted_ids_are_remembered() {
    let mut desk = Desk::running(Settings::default());
    for checkpoint in 1..=17 {
        desk.trigger(checkpoint);
        desk.decline(LEFT, checkpoint, DeclineReason::Declined);
    }
    assert_eq!(desk.coordinator.judge(FIRST, LEFT, id(1)), Acknowledgement::UnknownCheckpoint);
    for checkpoint in 2..=17 {
        assert_eq!(desk.coordinator.judge(FIRST, LEFT, id(checkpoint)), Acknowledgement::Late);
    }
}

#[test]
fn never_more_are_pending_than_may_be_and_one_more_begins_when_one_is_done() {
    for limit in [1, 2, 5] {
        let mut desk = Desk::running(at_most(limit));
        let limit = u64::try_from(limit).unwrap();
        for checkpoint in 1..=limit {
            desk.trigger(checkpoint);
        }
        assert_eq!(desk.request(RequestKind::Checkpoint), []);
        let after = desk.complete(1);
        assert_eq!(after.last(), Some(&trigger(limit + 1, Manual)));
        assert_eq!(u64::try_from(desk.pending().len()).unwrap(), limit);
    }
}

#[test]
fn a_subtask_that_ends_after_it_was_told_aborts_and_the_others_hear_of_it() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    desk.acknowledge(LEFT, 1);
    let reason = FailureReason::CheckpointDeclinedTaskClosing;
    let ended = |subtask| Event::SubtaskEnded { attempt: FIRST, subtask };
    assert_eq!(desk.run(ended(LEFT)), [], "it had acknowledged");
    assert_eq!(desk.run(ended(RIGHT)), [aborted(1, None, reason), discarded(1), refused(1, reason)]);
}

#[test]
fn a_subtask_that_ends_before_it_was_told_counts_as_having_acknowledged() {
    let mut desk = Desk::running(Settings::default());
    desk.run(Event::SubtaskEnded { attempt: FIRST, subtask: LEFT });
    desk.tell(Event::Request { request: RequestId(1), kind: RequestKind::Checkpoint });
    desk.tell(Event::SubtaskEnded { attempt: FIRST, subtask: RIGHT });
    let answer = Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(1), outcome: Outcome::Done, bytes: 0 };
    assert_eq!(desk.tell(answer), [trigger(1, Manual)]);
    let statistics = desk.coordinator.statistics(id(1)).unwrap();
    assert_eq!((statistics.acknowledged, statistics.subtasks, statistics.missing), (2, 3, vec![SINK]));
    let effects = desk.acknowledge(SINK, 1);
    let Some(Effect::WriteManifest { finished, .. }) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(*finished, [LEFT, RIGHT]);
}

#[test]
fn the_enumerators_of_a_source_must_answer_before_a_subtask_is_told() {
    let mut desk = Desk::running(Settings::default());
    desk.tell(Event::Request { request: RequestId(1), kind: RequestKind::Checkpoint });
    // An acknowledgement of a subtask that cannot have heard of it is not taken.
    assert_eq!(desk.acknowledge(LEFT, 1), [discarded_one(LEFT, 1)]);
    assert_eq!(desk.coordinator.statistics(id(1)).unwrap().subtasks, 0);
    let answer = Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(1), outcome: Outcome::Done, bytes: 0 };
    assert_eq!(desk.tell(answer.clone()), [trigger(1, Manual)]);
    assert_eq!(desk.tell(answer), [], "a repeated word triggers once");
    assert_eq!(desk.complete(1), [completed(1, Manual), done(1, 1)]);
}

#[test]
fn an_abort_before_the_word_of_the_enumerators_triggers_nothing() {
    let mut desk = Desk::running(Settings::default());
    desk.tell(Event::Request { request: RequestId(1), kind: RequestKind::Checkpoint });
    let reason = FailureReason::CheckpointCoordinatorSuspend;
    let suspended = Effect::Suspended { last_completed: None, closed: None };
    assert_eq!(desk.tell(Event::Suspend), [discarded(1), refused(1, reason), suspended]);
    let answer = Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(1), outcome: Outcome::Done, bytes: 0 };
    assert_eq!(desk.tell(answer), []);
}

#[test]
fn a_manifest_that_is_not_written_aborts_with_its_own_reason() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    desk.complete(1);
    desk.trigger(2);
    let effects = desk.acknowledge_all(2);
    let reason = FailureReason::FinalizeCheckpointFailure;
    assert_eq!(
        desk.written(&effects, 2, Outcome::Failed),
        [aborted(2, Some(1), reason), discarded(2), refused(2, reason)]
    );
    assert_eq!(desk.coordinator.retained().into_iter().collect::<Vec<_>>(), [id(1)], "the old one is not touched");
    assert_eq!(desk.coordinator.statistics(id(2)).unwrap().status, CheckpointStatus::Failed(reason));
    desk.trigger(3);
}

#[test]
fn while_a_manifest_is_in_doubt_nothing_begins_nothing_is_written_and_nothing_deleted() {
    for answer in [ReadBack::Present, ReadBack::Absent] {
        let mut desk = Desk::running(at_most(3));
        desk.trigger(1);
        desk.complete(1);
        desk.trigger(2);
        desk.trigger(3);
        let effects = desk.acknowledge_all(2);
        let doubt = desk.written(&effects, 2, Outcome::Unknown);
        assert_eq!(doubt, [Effect::ReadBack { token: Token(3), checkpoint: id(2) }]);
        assert!(desk.coordinator.is_unsettled());
        assert_eq!(desk.request(RequestKind::Checkpoint), [], "no id is handed out");
        assert_eq!(desk.acknowledge_all(3), [], "no other manifest is written");
        assert_eq!(desk.decline(LEFT, 2, DeclineReason::Declined), [], "it cannot be declined any more");
        assert_eq!(desk.pass(2 * Settings::default().timeout), [], "nor expire");
        let after = desk.read_back(&doubt, answer);
        match answer {
            ReadBack::Present => {
                let end = [completed(2, Manual), done(2, 2)];
                assert_eq!(after[..2], end);
                assert!(after.contains(&trigger(4, Manual)));
            }
            ReadBack::Absent | ReadBack::Unknown => {
                let reason = FailureReason::FinalizeCheckpointFailure;
                assert_eq!(after[..3], [aborted(2, Some(1), reason), discarded(2), refused(2, reason)]);
            }
        }
        assert!(
            after
                .iter()
                .any(|effect| matches!(effect, Effect::WriteManifest { checkpoint, .. } if *checkpoint == id(3)))
        );
    }
}

#[test]
fn a_doubt_that_cannot_be_settled_fails_the_job_and_touches_nothing() {
    let mut desk = Desk::running(at_most(3));
    desk.trigger(1);
    desk.trigger(2);
    desk.acknowledge(LEFT, 2);
    let effects = desk.acknowledge_all(1);
    let doubt = desk.written(&effects, 1, Outcome::Unknown);
    desk.request(RequestKind::Checkpoint);
    let reason = FailureReason::CheckpointUnsettled;
    let failure = JobFailure::Unsettled { checkpoint: id(1) };
    assert_eq!(
        desk.read_back(&doubt, ReadBack::Unknown),
        [refused(1, reason), refused(2, reason), refused(3, reason), Effect::FailJob { failure }]
    );
    assert_eq!(desk.acknowledge(RIGHT, 2), [], "not even the snapshot of a late word is deleted");
    assert_eq!(desk.coordinator.judge(FIRST, RIGHT, id(2)), Acknowledgement::Ignored);
    assert_eq!(desk.request(RequestKind::Stop), [refused(4, reason)]);
    assert_eq!(desk.pass(2 * Settings::default().timeout), []);
    let suspended = Effect::Suspended { last_completed: None, closed: None };
    assert_eq!(desk.run(Event::Suspend), [suspended]);
}

#[test]
fn an_abort_notice_carries_the_last_completed_checkpoint_also_a_restored_one() {
    let mut desk = Desk::new(Settings::default());
    desk.start(1, Some(7), &[7]);
    let reason = FailureReason::CheckpointDeclined;
    let first = 8;
    desk.trigger(first);
    assert_eq!(desk.decline(LEFT, first, DeclineReason::Declined)[0], aborted(first, Some(7), reason));
    desk.trigger(first + 1);
    desk.complete(first + 1);
    desk.trigger(first + 2);
    let effects = desk.decline(LEFT, first + 2, DeclineReason::Declined);
    assert_eq!(effects[0], aborted(first + 2, Some(first + 1), reason));
}

// The end of an attempt.

#[test]
fn a_suspension_aborts_what_is_pending_and_waits_for_what_is_being_written() {
    let mut desk = Desk::running(at_most(2));
    desk.trigger(1);
    desk.trigger(2);
    desk.request(RequestKind::Checkpoint);
    let effects = desk.acknowledge_all(1);
    let reason = FailureReason::CheckpointCoordinatorSuspend;
    assert_eq!(
        desk.tell(Event::Suspend),
        [aborted(2, None, reason), discarded(2), refused(2, reason), refused(3, reason)]
    );
    let suspended = Effect::Suspended { last_completed: Some(id(1)), closed: None };
    assert_eq!(desk.written(&effects, 1, Outcome::Done), [completed(1, Manual), done(1, 1), suspended]);
}

#[test]
fn a_suspension_waits_until_a_doubt_is_settled() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    let effects = desk.acknowledge_all(1);
    desk.tell(Event::Suspend);
    let doubt = desk.written(&effects, 1, Outcome::Unknown);
    assert_eq!(doubt, [Effect::ReadBack { token: Token(2), checkpoint: id(1) }]);
    let suspended = Effect::Suspended { last_completed: Some(id(1)), closed: None };
    let effects = desk.read_back(&doubt, ReadBack::Present);
    assert_eq!(effects, [completed(1, Manual), done(1, 1), suspended]);
}

#[test]
fn a_suspension_waits_for_a_deletion_and_a_reservation_under_way() {
    let mut desk = Desk::running(Settings::default());
    desk.trigger(1);
    desk.complete(1);
    desk.trigger(2);
    let effects = desk.acknowledge_all(2);
    let token = write_token(&effects, 2);
    let effects = desk.tell(Event::WriteFinished { token, outcome: Outcome::Done });
    assert_eq!(effects.last(), Some(&Effect::DeleteCheckpoint { checkpoint: id(1) }));
    assert_eq!(desk.tell(Event::Suspend), []);
    let suspended = Effect::Suspended { last_completed: Some(id(2)), closed: None };
    let deleted = Event::Deleted { checkpoint: id(1), outcome: Outcome::Failed };
    assert_eq!(desk.tell(deleted), [suspended]);
}

#[test]
fn an_attempt_that_starts_while_another_runs_is_reported_as_a_defect() {
    let mut desk = Desk::running(Settings::default());
    let start = alluvium_actors::protocol::coordinator::Start {
        attempt: Attempt(2),
        subtasks: vec![LEFT],
        first_id: id(50),
        reserved_until: id(60),
        restored: None,
        retained: Vec::new(),
        whole_job: true,
        random: 0,
    };
    let mut effects = Vec::new();
    desk.coordinator.handle(desk.now, Event::Start(start), &mut effects);
    assert_eq!(effects, []);
    let violation = desk.coordinator.check().unwrap_err();
    assert_eq!(violation.invariant.id, "coordinator.started-in-turn");
}

// Stopping.

#[test]
fn a_stop_is_taken_when_the_running_checkpoint_is_done_and_nothing_follows_it() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    assert_eq!(desk.request(RequestKind::Stop), []);
    assert_eq!(desk.request(RequestKind::Stop), [], "two stops are one checkpoint");
    let after = desk.complete(1);
    assert_eq!(after[1..], [trigger(2, Stopping)]);
    assert_eq!(desk.request(RequestKind::Checkpoint), []);
    assert_eq!(
        desk.complete(2),
        [completed(2, Stopping), done(1, 2), done(2, 2), done(3, 2)],
        "sources did not go on after 2, so it serves the request that came meanwhile too"
    );
    assert_eq!(desk.pass(1_000 * SECOND), []);
    assert_eq!(desk.request(RequestKind::Stop), [done(4, 2)]);
    assert_eq!(desk.end_of_data(), []);
    let suspended = Effect::Suspended { last_completed: Some(id(2)), closed: Some(Stopping) };
    assert_eq!(desk.run(Event::Shutdown), [suspended]);
}

#[test]
fn a_stop_whose_checkpoint_is_aborted_lets_the_sources_and_the_schedule_go_on() {
    let mut desk = Desk::running(every(10));
    desk.pass(Duration::ZERO);
    desk.complete(1);
    assert_eq!(desk.request(RequestKind::Stop), [trigger(2, Stopping)]);
    let effects = desk.acknowledge_all(2);
    let reason = FailureReason::FinalizeCheckpointFailure;
    let go_on = Effect::SourcesGoOn { attempt: FIRST, checkpoint: id(2) };
    assert_eq!(
        desk.written(&effects, 2, Outcome::Failed),
        [aborted(2, Some(1), reason), discarded(2), go_on, refused(1, reason)]
    );
    let next = desk.pass(10 * SECOND);
    assert_eq!(next, [trigger(3, alluvium_actors::protocol::coordinator::CheckpointKind::Periodic)]);
}

#[test]
fn a_stop_that_expires_lets_the_sources_go_on() {
    let mut desk = Desk::running(Settings::default());
    assert_eq!(desk.request(RequestKind::Stop), [trigger(1, Stopping)]);
    let reason = FailureReason::CheckpointExpired;
    let go_on = Effect::SourcesGoOn { attempt: FIRST, checkpoint: id(1) };
    let effects = desk.pass(Settings::default().timeout);
    assert_eq!(effects, [aborted(1, None, reason), discarded(1), go_on, refused(1, reason)]);
}

#[test]
fn an_attempt_that_fails_after_its_stop_was_stored_says_that_only_commits_are_owed() {
    let mut desk = Desk::running(Settings::default());
    desk.request(RequestKind::Stop);
    let effects = desk.acknowledge_all(1);
    assert_eq!(desk.run(Event::Suspend), []);
    let suspended = Effect::Suspended { last_completed: Some(id(1)), closed: Some(Stopping) };
    assert_eq!(desk.written(&effects, 1, Outcome::Done), [completed(1, Stopping), done(1, 1), suspended]);
}

// Retention.

#[test]
fn the_oldest_beyond_the_number_retained_are_deleted_one_at_a_time_and_never_the_newest() {
    let mut desk = Desk::new(Settings { retained: NonZeroUsize::new(2).unwrap(), ..at_most(9) });
    desk.start(1, Some(8), &[8, 3, 5]);
    let kept = |desk: &Desk| desk.coordinator.retained().into_iter().map(|checkpoint| checkpoint.0).collect::<Vec<_>>();
    assert_eq!(kept(&desk), [3, 5, 8], "nothing goes before the next one is complete");
    let first = 9;
    desk.tell(Event::Request { request: RequestId(9), kind: RequestKind::Checkpoint });
    desk.run(Event::EnumeratorsSnapshotted { attempt: FIRST, checkpoint: id(first), outcome: Outcome::Done, bytes: 0 });
    let effects = desk.acknowledge_all(first);
    let token = write_token(&effects, first);
    let effects = desk.tell(Event::WriteFinished { token, outcome: Outcome::Done });
    assert_eq!(effects.last(), Some(&Effect::DeleteCheckpoint { checkpoint: id(3) }));
    assert_eq!(kept(&desk), [8, first]);
    let deleted = |checkpoint, outcome| Event::Deleted { checkpoint: id(checkpoint), outcome };
    let next = desk.tell(deleted(3, Outcome::Failed));
    assert_eq!(next, [Effect::DeleteCheckpoint { checkpoint: id(5) }]);
    assert_eq!(desk.tell(deleted(5, Outcome::Done)), []);
    // What could not be deleted is tried again after the next completion.
    desk.requests_from(9);
    desk.trigger(first + 1);
    let effects = desk.acknowledge_all(first + 1);
    let token = write_token(&effects, first + 1);
    let effects = desk.tell(Event::WriteFinished { token, outcome: Outcome::Done });
    assert_eq!(effects.last(), Some(&Effect::DeleteCheckpoint { checkpoint: id(3) }));
    assert_eq!(desk.tell(deleted(3, Outcome::Done)), [Effect::DeleteCheckpoint { checkpoint: id(8) }]);
}

#[test]
fn a_repeated_acknowledgement_of_a_checkpoint_that_is_to_be_deleted_takes_no_blob_before_the_manifest() {
    let mut desk = Desk::running(at_most(9));
    for checkpoint in [1, 2, 3] {
        desk.trigger(checkpoint);
        let effects = desk.acknowledge_all(checkpoint);
        let token = write_token(&effects, checkpoint);
        desk.tell(Event::WriteFinished { token, outcome: Outcome::Done });
    }
    assert_eq!(desk.acknowledge(LEFT, 1), [], "it is being deleted");
    assert_eq!(desk.acknowledge(LEFT, 2), [], "it waits to be deleted");
    desk.tell(Event::Suspend);
    assert_eq!(desk.acknowledge(LEFT, 2), [], "also when its deletion is put off");
    desk.tell(Event::Deleted { checkpoint: id(1), outcome: Outcome::Done });
    assert_eq!(desk.acknowledge(LEFT, 1), [discarded_one(LEFT, 1)], "it is gone");
}

#[test]
fn a_deletion_that_is_next_waits_while_a_manifest_is_in_doubt() {
    let mut desk = Desk::running(at_most(2));
    let finish = |desk: &mut Desk, checkpoint, outcome| {
        let effects = desk.acknowledge_all(checkpoint);
        let token = write_token(&effects, checkpoint);
        desk.tell(Event::WriteFinished { token, outcome })
    };
    for checkpoint in [1, 2] {
        desk.trigger(checkpoint);
        finish(&mut desk, checkpoint, Outcome::Done);
    }
    desk.trigger(3);
    desk.trigger(4);
    finish(&mut desk, 3, Outcome::Done);
    let doubt = finish(&mut desk, 4, Outcome::Unknown);
    let deleted = |checkpoint| Event::Deleted { checkpoint: id(checkpoint), outcome: Outcome::Done };
    assert_eq!(desk.tell(deleted(1)), [], "2 is next, and waits");
    let [Effect::ReadBack { token, checkpoint: _ }] = doubt[..] else { panic!("{doubt:?}") };
    let settled = desk.tell(Event::ReadBackFinished { token, answer: ReadBack::Present });
    assert_eq!(settled, [completed(4, Manual), done(4, 4), Effect::DeleteCheckpoint { checkpoint: id(2) }]);
}

// What can be seen.

#[test]
fn the_figures_of_a_checkpoint_can_be_read_while_it_is_pending_and_afterwards() {
    let mut desk = Desk::running(Settings::default());
    desk.now = Moment(5);
    desk.trigger(1);
    desk.now = Moment(25);
    desk.acknowledge(RIGHT, 1);
    let statistics = desk.coordinator.statistics(id(1)).unwrap();
    assert_eq!((statistics.acknowledged, statistics.subtasks), (1, 3));
    assert_eq!(statistics.missing, [LEFT, SINK]);
    assert_eq!(statistics.duration(desk.now), Duration::from_nanos(20));
    assert_eq!(statistics.status, CheckpointStatus::InProgress);
    desk.decline(LEFT, 1, DeclineReason::Declined);
    desk.now = Moment(100);
    desk.acknowledge(SINK, 1);
    let statistics = desk.coordinator.statistics(id(1)).unwrap();
    assert_eq!(statistics.status, CheckpointStatus::Failed(FailureReason::CheckpointDeclined));
    assert_eq!((statistics.late, statistics.latest_acknowledgement), (1, Some(Moment(100))));
    assert_eq!(statistics.duration(desk.now), Duration::from_nanos(20), "it ended at 25");
    desk.trigger(2);
    desk.complete(2);
    let statistics = desk.coordinator.statistics(id(2)).unwrap();
    assert_eq!((statistics.status, statistics.acknowledged), (CheckpointStatus::Completed, 3));
}
