//! Counting failed checkpoints: which count, how many in a row are tolerated, and what follows.

use std::time::Duration;

use alluvium_actors::ids::Token;
use alluvium_actors::protocol::coordinator::CheckpointKind::{Final, Manual, Periodic, Stopping};
use alluvium_actors::protocol::coordinator::{
    DeclineReason, Effect, Event, FailureCounter, FailureReason, JobFailure, Outcome, RequestKind, Settings,
};
use alluvium_actors::protocol::machine::Machine;

use crate::coordinator::{
    Desk, FIRST, LEFT, SECOND, aborted, at_most, completed, discarded, done, every, id, refused, trigger,
};

fn tolerating(failures: u32) -> Settings {
    Settings { tolerable_failures: Some(failures), ..Settings::default() }
}

fn fails(failures: u32, tolerable: u32, reason: FailureReason) -> Effect {
    Effect::FailJob { failure: JobFailure::ExceededTolerableFailures { failures, tolerable, reason } }
}

/// A checkpoint of a user that a subtask declines.
fn failed(desk: &mut Desk, checkpoint: u64) -> Vec<Effect> {
    desk.trigger(checkpoint);
    desk.decline(LEFT, checkpoint, DeclineReason::AsynchronousPart)
}

const ASYNCHRONOUS: FailureReason = FailureReason::CheckpointAsyncException;

// The counter by itself.

#[test]
fn exactly_five_of_all_reasons_count() {
    let counting: Vec<FailureReason> = FailureReason::ALL.into_iter().filter(|reason| reason.counts()).collect();
    assert_eq!(
        counting,
        [
            FailureReason::CheckpointExpired,
            FailureReason::CheckpointDeclined,
            FailureReason::CheckpointAsyncException,
            FailureReason::IoException,
            FailureReason::FinalizeCheckpointFailure,
        ]
    );
    let mut counter = FailureCounter::new(Some(100));
    for (checkpoint, reason) in (1..).zip(FailureReason::ALL) {
        assert_eq!(counter.failed(Some(id(checkpoint)), reason), None);
    }
    assert_eq!(counter.failures(), 5);
}

#[test]
fn every_reason_has_words_of_its_own_and_appears_once_in_the_list() {
    let mut words: Vec<String> = FailureReason::ALL.iter().map(ToString::to_string).collect();
    words.sort();
    words.dedup();
    assert_eq!(words.len(), FailureReason::ALL.len());
    let mut reasons = FailureReason::ALL.to_vec();
    reasons.sort();
    reasons.dedup();
    assert_eq!(reasons.len(), FailureReason::ALL.len());
}

#[test]
fn what_is_older_than_the_last_success_does_not_count() {
    let mut counter = FailureCounter::new(Some(0));
    counter.succeeded(id(5));
    assert_eq!(counter.failed(Some(id(4)), FailureReason::CheckpointExpired), None);
    counter.succeeded(id(3));
    assert_eq!(counter.failed(Some(id(4)), FailureReason::CheckpointExpired), None, "an older success changes nothing");
    assert_eq!(counter.failures(), 0);
    assert_eq!(counter.failed(Some(id(6)), FailureReason::CheckpointExpired), Some(1));
}

#[test]
fn one_more_than_is_tolerated_exceeds_once_and_the_count_begins_anew() {
    let mut counter = FailureCounter::new(Some(2));
    let reason = FailureReason::CheckpointDeclined;
    assert_eq!(counter.failed(Some(id(1)), reason), None);
    assert_eq!(counter.failed(Some(id(2)), FailureReason::CheckpointSubsumed), None, "it does not count");
    assert_eq!(counter.failed(Some(id(3)), reason), None);
    assert_eq!(counter.failed(Some(id(4)), FailureReason::TooManyCheckpointRequests), None, "nor does it");
    assert_eq!(counter.failed(Some(id(5)), reason), Some(3));
    assert_eq!(counter.failures(), 0);
    assert_eq!(counter.failed(Some(id(6)), reason), None);
}

#[test]
fn a_success_in_between_forgives_all_before_it() {
    let mut counter = FailureCounter::new(Some(1));
    assert_eq!(counter.failed(Some(id(1)), ASYNCHRONOUS), None);
    counter.succeeded(id(2));
    assert_eq!(counter.failed(Some(id(3)), ASYNCHRONOUS), None);
    assert_eq!(counter.failed(Some(id(4)), ASYNCHRONOUS), Some(2));
}

#[test]
fn many_reports_of_one_checkpoint_count_once() {
    let mut counter = FailureCounter::new(Some(1));
    for _ in 0..5 {
        assert_eq!(counter.failed(Some(id(1)), ASYNCHRONOUS), None);
    }
    assert_eq!(counter.failures(), 1);
    assert_eq!(counter.failed(Some(id(2)), ASYNCHRONOUS), Some(2));
    assert_eq!(counter.failed(Some(id(2)), ASYNCHRONOUS), None, "also after it exceeded");
    assert_eq!(counter.failures(), 0);
}

#[test]
fn what_failed_before_it_had_an_id_counts_each_time() {
    let mut counter = FailureCounter::new(Some(1));
    assert_eq!(counter.failed(None, FailureReason::IoException), None);
    assert_eq!(counter.failed(None, FailureReason::IoException), Some(2));
}

#[test]
fn without_a_limit_nothing_ever_exceeds() {
    let mut counter = FailureCounter::new(None);
    for checkpoint in 1..100 {
        assert_eq!(counter.failed(Some(id(checkpoint)), FailureReason::CheckpointExpired), None);
    }
}

// The counter in the coordinator.

#[test]
fn with_none_tolerated_the_first_asynchronous_failure_fails_the_attempt() {
    let mut desk = Desk::running(tolerating(0));
    let effects = failed(&mut desk, 1);
    assert_eq!(
        effects,
        [aborted(1, None, ASYNCHRONOUS), discarded(1), refused(1, ASYNCHRONOUS), fails(1, 0, ASYNCHRONOUS)],
        "the requester hears of its checkpoint first"
    );
}

#[test]
fn the_attempt_fails_with_the_reason_of_the_last_failure_and_how_many_there_were() {
    let mut desk = Desk::running(tolerating(2));
    assert!(!failed(&mut desk, 1).iter().any(|effect| matches!(effect, Effect::FailJob { .. })));
    desk.trigger(2);
    let effects = desk.acknowledge_all(2);
    let effects = desk.written(&effects, 2, Outcome::Failed);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::FailJob { .. })));
    assert_eq!(desk.coordinator.failures_in_a_row(), 2);
    desk.trigger(3);
    let effects = desk.pass(Settings::default().timeout);
    assert_eq!(effects.last(), Some(&fails(3, 2, FailureReason::CheckpointExpired)));
}

#[test]
fn a_checkpoint_that_completes_begins_the_count_anew() {
    let mut desk = Desk::running(tolerating(1));
    failed(&mut desk, 1);
    desk.trigger(2);
    desk.complete(2);
    assert_eq!(desk.coordinator.failures_in_a_row(), 0);
    failed(&mut desk, 3);
    assert_eq!(failed(&mut desk, 4).last(), Some(&fails(2, 1, ASYNCHRONOUS)));
}

#[test]
fn a_manifest_that_cannot_be_written_counts() {
    let mut desk = Desk::running(tolerating(0));
    desk.trigger(1);
    let effects = desk.acknowledge_all(1);
    let effects = desk.written(&effects, 1, Outcome::Failed);
    assert_eq!(effects.last(), Some(&fails(1, 0, FailureReason::FinalizeCheckpointFailure)));
}

#[test]
fn an_id_that_cannot_be_reserved_counts_for_requests_and_for_the_schedule() {
    for scheduled in [false, true] {
        let settings = Settings { tolerable_failures: Some(1), ..if scheduled { every(10) } else { tolerating(1) } };
        let mut desk = Desk::new(settings);
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
        let reason = FailureReason::IoException;
        for round in 1..=2 {
            let asked = if scheduled { desk.pass(10 * SECOND) } else { desk.request(RequestKind::Checkpoint) };
            let reserve = Effect::ReserveIds { token: Token(round), up_to: id(1_025) };
            assert_eq!(asked, [reserve]);
            let effects = desk.tell(Event::IdsReserved { token: Token(round), outcome: Outcome::Failed });
            let told = if scheduled { Effect::NotTriggered { kind: Periodic, reason } } else { refused(round, reason) };
            let expected = if round == 1 { vec![told] } else { vec![told, fails(2, 1, reason)] };
            assert_eq!(effects, expected);
        }
        let counts = desk.coordinator.snapshot_statistics().counts;
        assert_eq!((counts.triggered, counts.failed), (2, 2), "they are seen as failed checkpoints");
    }
}

#[test]
fn a_failed_synchronous_part_counts_nothing_because_the_subtask_fails_with_it() {
    let mut desk = Desk::running(tolerating(0));
    desk.trigger(1);
    let reason = FailureReason::TaskCheckpointFailure;
    let effects = desk.decline(LEFT, 1, DeclineReason::SynchronousPart);
    assert_eq!(effects, [aborted(1, None, reason), discarded(1), refused(1, reason)]);
}

#[test]
fn what_a_newer_checkpoint_subsumes_and_what_an_end_of_the_attempt_aborts_counts_nothing() {
    let mut desk = Desk::running(Settings { tolerable_failures: Some(0), ..at_most(3) });
    desk.trigger(1);
    desk.trigger(2);
    let reason = FailureReason::CheckpointSubsumed;
    assert_eq!(
        desk.complete(2),
        [completed(2, Manual), aborted(1, Some(2), reason), discarded(1), refused(1, reason), done(2, 2)]
    );
    desk.trigger(3);
    assert!(!desk.tell(Event::Suspend).iter().any(|effect| matches!(effect, Effect::FailJob { .. })));
    assert_eq!(desk.coordinator.failures_in_a_row(), 0);
}

#[test]
fn failures_go_on_counting_over_a_restart_for_another_reason() {
    let mut desk = Desk::running(tolerating(1));
    failed(&mut desk, 1);
    desk.tell(Event::Suspend);
    desk.start(2, None, &[]);
    assert_eq!(desk.coordinator.failures_in_a_row(), 1);
}

#[test]
fn after_too_many_failures_the_schedule_is_silent_and_the_next_attempt_counts_anew() {
    let mut desk = Desk::running(Settings { tolerable_failures: Some(0), ..every(10) });
    assert_eq!(desk.pass(Duration::ZERO), [trigger(1, Periodic)]);
    let effects = desk.decline(LEFT, 1, DeclineReason::Declined);
    assert_eq!(effects.last(), Some(&fails(1, 0, FailureReason::CheckpointDeclined)));
    assert_eq!(desk.coordinator.next_deadline(), None);
    desk.tell(Event::Suspend);
    desk.start(2, None, &[]);
    assert_eq!(desk.coordinator.failures_in_a_row(), 0);
    assert!(desk.coordinator.next_deadline().is_some());
}

#[test]
fn a_final_checkpoint_has_tries_of_its_own_and_a_stop_is_answered_whatever_is_tolerated() {
    let mut desk = Desk::running(tolerating(0));
    assert_eq!(desk.request(RequestKind::Stop), [trigger(1, Stopping)]);
    let effects = desk.decline(LEFT, 1, DeclineReason::Declined);
    let reason = FailureReason::CheckpointDeclined;
    let go_on = Effect::SourcesGoOn { attempt: FIRST, checkpoint: id(1) };
    assert_eq!(effects, [aborted(1, None, reason), discarded(1), go_on, refused(1, reason)]);
    assert_eq!(desk.end_of_data(), [trigger(2, Final)]);
    assert_eq!(desk.decline(LEFT, 2, DeclineReason::Declined), [aborted(2, None, reason), discarded(2)]);
    assert_eq!(desk.coordinator.failures_in_a_row(), 0);
    assert_eq!(desk.pass(SECOND), [trigger(3, Final)]);
    assert_eq!(desk.complete(3), [completed(3, Final)]);
}
