//! What follows a failure.

use std::time::Duration;

use alluvium_actors::ids::{Attempt, Moment, SubtaskId};
use alluvium_actors::protocol::machine::Machine;
use alluvium_actors::protocol::supervise::{Effect, Event, Failure, RestartStrategy, Severity, Straggler, Supervisor};

use crate::coordinator::{LEFT, RIGHT, SECOND};
use crate::explore::{AtRest, Bounds, explore};

const PATIENCE: Duration = Duration::from_secs(180);

fn failure(message: &str, severity: Severity) -> Failure {
    Failure { origin: LEFT.to_string(), severity, message: message.to_owned(), panicked: false }
}

fn retryable(message: &str) -> Failure {
    failure(message, Severity::Retryable)
}

struct Desk {
    supervisor: Supervisor,
    now: Moment,
}

impl Desk {
    fn running(strategy: RestartStrategy) -> Desk {
        let mut desk = Desk { supervisor: Supervisor::new(strategy, PATIENCE), now: Moment(0) };
        assert_eq!(desk.deploy(1), []);
        desk
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.supervisor.handle(self.now, event, &mut effects);
        self.supervisor.check().unwrap();
        effects
    }

    fn deploy(&mut self, attempt: u32) -> Vec<Effect> {
        self.tell(Event::Deployed { attempt: Attempt(attempt), subtasks: vec![LEFT, RIGHT] })
    }

    fn fail(&mut self, attempt: u32, failure: Failure) -> Vec<Effect> {
        self.tell(Event::Failed { attempt: Attempt(attempt), failure, random: 0 })
    }

    fn ended(&mut self, attempt: u32, subtask: SubtaskId) -> Vec<Effect> {
        self.tell(Event::SubtaskEnded { attempt: Attempt(attempt), subtask })
    }

    /// Both subtasks are gone and the coordinator is suspended; returns what the last word leads to.
    fn gone(&mut self, attempt: u32) -> Vec<Effect> {
        assert_eq!(self.ended(attempt, LEFT), []);
        assert_eq!(self.ended(attempt, RIGHT), []);
        self.tell(Event::CoordinatorSuspended { attempt: Attempt(attempt) })
    }

    fn pass(&mut self, duration: Duration) -> Vec<Effect> {
        let end = self.now + duration;
        let mut effects = Vec::new();
        while let Some(deadline) = self.supervisor.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            effects.extend(self.tell(Event::Deadline));
            let later = self.supervisor.next_deadline().is_none_or(|next| next > self.now);
            assert!(later, "a deadline that was handled is not named again");
        }
        self.now = end;
        effects
    }
}

fn end_of(attempt: u32) -> Effect {
    Effect::EndAttempt { attempt: Attempt(attempt) }
}

fn restart(attempt: u32) -> Effect {
    Effect::Restart { attempt: Attempt(attempt) }
}

#[test]
fn without_a_strategy_the_first_failure_fails_the_job_once_all_is_gone() {
    let mut desk = Desk::running(RestartStrategy::None);
    assert_eq!(desk.fail(1, retryable("boom")), [end_of(1)]);
    let failed = Effect::FailJob { failures: vec![retryable("boom")], stragglers: Vec::new() };
    assert_eq!(desk.gone(1), [failed]);
    assert_eq!(desk.supervisor.next_deadline(), None);
}

#[test]
fn a_fixed_delay_restarts_as_often_as_it_says_and_always_after_the_same_time() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 3, delay: 5 * SECOND });
    for attempt in 1..=3 {
        assert_eq!(desk.fail(attempt, retryable("boom")), [end_of(attempt)]);
        assert_eq!(desk.gone(attempt), []);
        assert_eq!(desk.pass(5 * SECOND - Duration::from_nanos(1)), []);
        assert_eq!(desk.pass(Duration::from_nanos(1)), [restart(attempt + 1)]);
        assert_eq!(desk.deploy(attempt + 1), []);
    }
    assert_eq!(desk.supervisor.restarts(), 3);
    assert_eq!(desk.fail(4, retryable("the fourth")), [end_of(4)]);
    let failed = Effect::FailJob { failures: vec![retryable("the fourth")], stragglers: Vec::new() };
    assert_eq!(desk.gone(4), [failed]);
}

#[test]
fn a_restart_waits_for_the_last_subtask_and_for_the_coordinator_however_long_the_delay_is_over() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("boom"));
    assert_eq!(desk.pass(100 * SECOND), []);
    assert_eq!(desk.ended(1, LEFT), []);
    assert_eq!(desk.tell(Event::CoordinatorSuspended { attempt: Attempt(1) }), []);
    assert_eq!(desk.ended(7, RIGHT), [], "a word about another attempt counts for nothing");
    assert_eq!(desk.ended(1, RIGHT), [restart(2)]);
}

#[test]
fn an_unrecoverable_failure_is_not_restarted() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 9, delay: SECOND });
    let bad = failure("line 7 of flights.csv is malformed", Severity::Unrecoverable);
    assert_eq!(desk.fail(1, bad.clone()), [end_of(1)]);
    assert_eq!(desk.supervisor.restart_at(), None);
    let failed = Effect::FailJob { failures: vec![bad], stragglers: Vec::new() };
    assert_eq!(desk.gone(1), [failed]);
}

#[test]
fn failures_that_follow_from_the_first_one_count_as_one_restart_and_stand_behind_it() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 1, delay: SECOND });
    assert_eq!(desk.fail(1, retryable("original")), [end_of(1)]);
    assert_eq!(desk.fail(1, retryable("consequence")), []);
    assert_eq!(desk.gone(1), []);
    assert_eq!(desk.pass(SECOND), [restart(2)]);
    desk.deploy(2);
    assert_eq!(desk.fail(1, retryable("late")), [], "a failure of an old attempt is none of this one");
    assert_eq!(desk.fail(2, retryable("second original")), [end_of(2)]);
    desk.fail(2, retryable("second consequence"));
    let failures = vec![retryable("second original"), retryable("second consequence")];
    assert_eq!(desk.gone(2), [Effect::FailJob { failures, stragglers: Vec::new() }]);
}

#[test]
fn an_unrecoverable_failure_during_the_wait_for_a_restart_ends_the_job() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("original"));
    assert!(desk.supervisor.restart_at().is_some());
    let poisoned = failure("the store is poisoned", Severity::Unrecoverable);
    assert_eq!(desk.fail(1, poisoned.clone()), []);
    let failures = vec![retryable("original"), poisoned];
    assert_eq!(desk.gone(1), [Effect::FailJob { failures, stragglers: Vec::new() }]);
}

#[test]
fn a_failed_deployment_counts_and_waits_for_nobody() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 2, delay: SECOND });
    desk.fail(1, retryable("boom"));
    desk.gone(1);
    assert_eq!(desk.pass(SECOND), [restart(2)]);
    let broken = Failure { origin: "deployment".to_owned(), ..retryable("the checkpoint cannot be read") };
    assert_eq!(desk.fail(2, broken.clone()), [], "nothing was built that could be ended");
    assert_eq!(desk.pass(SECOND), [restart(3)]);
    assert_eq!(desk.fail(3, broken.clone()), [Effect::FailJob { failures: vec![broken], stragglers: Vec::new() }]);
}

#[test]
fn what_does_not_end_in_time_fails_the_job_by_name() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("boom"));
    desk.ended(1, LEFT);
    assert_eq!(desk.pass(PATIENCE - Duration::from_nanos(1)), []);
    let stragglers = vec![Straggler::Subtask(RIGHT), Straggler::Coordinator];
    assert_eq!(desk.pass(Duration::from_nanos(1)), [Effect::FailJob { failures: vec![retryable("boom")], stragglers }]);
    assert_eq!(desk.ended(1, RIGHT), [], "it is too late to go on");
}

#[test]
fn a_user_who_cancels_gets_a_cancelled_job_whatever_fails_meanwhile() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    assert_eq!(desk.tell(Event::Cancel), [end_of(1)]);
    assert_eq!(desk.fail(1, retryable("cancelled")), []);
    assert_eq!(desk.gone(1), [Effect::JobCancelled]);

    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("boom"));
    assert_eq!(desk.tell(Event::Cancel), [], "the restart that was planned is dropped");
    assert_eq!(desk.gone(1), [Effect::JobCancelled]);

    let mut desk = Desk::running(RestartStrategy::None);
    desk.fail(1, retryable("boom"));
    desk.tell(Event::Cancel);
    let failed = Effect::FailJob { failures: vec![retryable("boom")], stragglers: Vec::new() };
    assert_eq!(desk.gone(1), [failed], "a job that fails for good is not made a cancelled one");
}

#[test]
fn a_deployment_out_of_turn_is_reported_as_a_defect() {
    let mut supervisor = Supervisor::new(RestartStrategy::fixed_delay(), PATIENCE);
    let deployed = Event::Deployed { attempt: Attempt(2), subtasks: vec![LEFT] };
    supervisor.handle(Moment(0), deployed, &mut Vec::new());
    assert_eq!(supervisor.check().unwrap_err().invariant.id, "supervise.one-attempt");
}

// A walk over every order of failures, ends, cancels and deadlines.

#[derive(Clone, Hash)]
struct World {
    supervisor: Supervisor,
    now: Moment,
    /// The attempts of which subtasks are there, and which.
    there: Vec<(u32, SubtaskId)>,
    coordinator_of: Option<u32>,
    told_to_end: bool,
    failures_left: u8,
    restarts: u32,
    cancels_left: u8,
    outcome: Option<&'static str>,
    broken: Option<String>,
}

impl World {
    fn apply(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.supervisor.handle(self.now, event, &mut effects);
        for effect in effects {
            if let Some(outcome) = self.outcome {
                self.broken = Some(format!("{effect:?} after the job was {outcome}"));
            }
            match effect {
                Effect::EndAttempt { attempt } => {
                    self.told_to_end = true;
                    if attempt != self.supervisor.attempt() {
                        self.broken = Some(format!("attempt {attempt} was told to end, it is not the current one"));
                    }
                }
                Effect::Restart { attempt } => {
                    if !self.there.is_empty() || self.coordinator_of.is_some() {
                        self.broken = Some(format!("attempt {attempt} was asked for while an old one is there"));
                    }
                    self.restarts += 1;
                }
                Effect::JobCancelled => {
                    self.outcome = Some("cancelled");
                    if !self.there.is_empty() {
                        self.broken = Some("cancelled with subtasks still there".to_owned());
                    }
                }
                Effect::FailJob { failures, stragglers } => {
                    self.outcome = Some("failed");
                    if failures.is_empty() && stragglers.is_empty() {
                        self.broken = Some("failed without a reason".to_owned());
                    }
                }
            }
        }
    }
}

fn next(world: &World, successors: &mut Vec<(String, World)>) {
    let mut step = |name: String, change: &dyn Fn(&mut World)| {
        let mut after = world.clone();
        change(&mut after);
        successors.push((name, after));
    };
    if world.outcome.is_some() {
        return;
    }
    let attempt = world.supervisor.attempt();
    let deployed = world.coordinator_of == Some(attempt.0);
    if !deployed && !world.told_to_end && world.supervisor.restart_at().is_none() {
        step(format!("deploy {attempt}"), &|after| {
            after.there.extend([(attempt.0, LEFT), (attempt.0, RIGHT)]);
            after.coordinator_of = Some(attempt.0);
            after.apply(Event::Deployed { attempt, subtasks: vec![LEFT, RIGHT] });
        });
    }
    if world.failures_left > 0 {
        for severity in [Severity::Retryable, Severity::Unrecoverable] {
            // The current attempt, and one that is over.
            for of in [attempt, Attempt(attempt.0 - 1)] {
                step(format!("{severity:?} failure of {of}"), &|after| {
                    after.failures_left -= 1;
                    after.apply(Event::Failed { attempt: of, failure: failure("boom", severity), random: 0 });
                });
            }
        }
    }
    if world.cancels_left > 0 {
        step("cancel".to_owned(), &|after| {
            after.cancels_left -= 1;
            after.apply(Event::Cancel);
        });
    }
    if world.told_to_end {
        for (index, (of, subtask)) in world.there.iter().enumerate() {
            step(format!("{subtask} of {of} ends"), &|after| {
                after.there.remove(index);
                after.told_to_end = after.coordinator_of.is_some() || !after.there.is_empty();
                after.apply(Event::SubtaskEnded { attempt: Attempt(*of), subtask: *subtask });
            });
        }
        if let Some(of) = world.coordinator_of {
            step("the coordinator is suspended".to_owned(), &|after| {
                after.coordinator_of = None;
                after.told_to_end = !after.there.is_empty();
                after.apply(Event::CoordinatorSuspended { attempt: Attempt(of) });
            });
        }
    }
    if let Some(deadline) = world.supervisor.next_deadline() {
        step("deadline".to_owned(), &|after| {
            after.now = after.now.max(deadline);
            after.apply(Event::Deadline);
        });
    }
}

#[test]
fn walk_two_attempts_never_run_and_every_failure_comes_to_an_end() {
    let world = World {
        supervisor: Supervisor::new(RestartStrategy::FixedDelay { attempts: 2, delay: SECOND }, PATIENCE),
        now: Moment(0),
        there: Vec::new(),
        coordinator_of: None,
        told_to_end: false,
        failures_left: 5,
        restarts: 0,
        cancels_left: 1,
        outcome: None,
        broken: None,
    };
    let bounds = Bounds { states: 200_000, depth: 60 };
    let found = explore("supervisor", world, bounds, next, |world, at_rest| {
        world.supervisor.check().map_err(|violation| violation.to_string())?;
        if let Some(broken) = &world.broken {
            return Err(broken.clone());
        }
        if world.restarts > 2 {
            return Err(format!("{} restarts, 2 are allowed", world.restarts));
        }
        let runs = world.coordinator_of == Some(world.supervisor.attempt().0) && !world.told_to_end;
        if at_rest == AtRest(true) && world.outcome.is_none() && !runs {
            return Err("it neither runs nor has come to an end".to_owned());
        }
        Ok(())
    });
    found.assert_holds_everywhere();
}
