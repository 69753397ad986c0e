//! What follows a failure: of one region, of two, of the whole job. Every order of what can happen is walked in `supervise_walk`.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_actors::ids::{Attempt, Moment, NodeId, RegionId};
use alluvium_actors::protocol::machine::Machine;
use alluvium_actors::protocol::supervise::{
    Effect, Event, FailoverStrategy, Failure, Part, Regions, RestartStrategy, Scope, Severity, Straggler, Supervisor,
};

use crate::coordinator::{LEFT, RIGHT, SECOND};

pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The first region, and the only one where there is one.
pub(crate) const ONE: RegionId = RegionId(0);
pub(crate) const OTHER: RegionId = RegionId(1);

/// What the attempts of the desk consist of: the same in each region.
const PARTS: [Part; 4] = [Part::Work, Part::Sink(0), Part::Subtask(LEFT), Part::Subtask(RIGHT)];

pub(crate) fn failure(message: &str, severity: Severity) -> Failure {
    Failure { origin: LEFT.to_string(), severity, message: message.to_owned(), panicked: false, storage: false }
}

fn retryable(message: &str) -> Failure {
    failure(message, Severity::Retryable)
}

fn regions(count: usize) -> Regions {
    Regions::of(count, [])
}

struct Desk {
    supervisor: Supervisor,
    now: Moment,
}

impl Desk {
    /// A job of one region that runs.
    fn running(strategy: RestartStrategy) -> Desk {
        Desk::with(1, FailoverStrategy::Region, strategy)
    }

    /// A job of two regions that run.
    fn two(strategy: RestartStrategy) -> Desk {
        Desk::with(2, FailoverStrategy::Region, strategy)
    }

    fn with(count: usize, failover: FailoverStrategy, strategy: RestartStrategy) -> Desk {
        let supervisor = Supervisor::new(regions(count), failover, strategy, PATIENCE);
        let mut desk = Desk { supervisor, now: Moment(0) };
        desk.deploy(1, &(0..count as u32).map(RegionId).collect::<Vec<_>>());
        desk
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.supervisor.handle(self.now, event, &mut effects);
        self.supervisor.check().unwrap();
        effects
    }

    /// All parts of these regions are started, and run.
    fn deploy(&mut self, attempt: u32, regions: &[RegionId]) {
        for region in regions {
            for part in PARTS {
                let started = Event::Started { attempt: Attempt(attempt), region: *region, part };
                assert_eq!(self.tell(started), []);
            }
        }
        assert_eq!(self.tell(Event::Running { attempt: Attempt(attempt) }), []);
    }

    fn fail(&mut self, attempt: u32, failure: Failure) -> Vec<Effect> {
        self.fail_in(Scope::Region(ONE), attempt, failure)
    }

    fn fail_in(&mut self, scope: Scope, attempt: u32, failure: Failure) -> Vec<Effect> {
        self.tell(Event::Failed { scope, attempt: Attempt(attempt), failure, random: 0 })
    }

    fn ended(&mut self, attempt: u32, part: Part) -> Vec<Effect> {
        self.ended_in(ONE, attempt, part)
    }

    fn ended_in(&mut self, region: RegionId, attempt: u32, part: Part) -> Vec<Effect> {
        self.tell(Event::Ended { attempt: Attempt(attempt), region, part })
    }

    fn suspended(&mut self, suspension: u32) -> Vec<Effect> {
        self.tell(Event::CoordinatorSuspended { suspension, closed: false })
    }

    /// Every part of a region is gone; returns what the last word leads to.
    fn region_gone(&mut self, region: RegionId, attempt: u32) -> Vec<Effect> {
        for part in [Part::Subtask(LEFT), Part::Subtask(RIGHT), Part::Sink(0)] {
            assert_eq!(self.ended_in(region, attempt, part), []);
        }
        self.ended_in(region, attempt, Part::Work)
    }

    /// The same, and the coordinator is suspended for the n-th time.
    fn gone(&mut self, attempt: u32, suspension: u32) -> Vec<Effect> {
        assert_eq!(self.region_gone(ONE, attempt), []);
        self.suspended(suspension)
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

fn end_of(suspension: u32, regions: &[RegionId]) -> Vec<Effect> {
    let regions: BTreeSet<RegionId> = regions.iter().copied().collect();
    vec![Effect::Suspend { suspension, regions: regions.clone() }, Effect::End { regions }]
}

fn restart(attempt: u32, regions: &[RegionId]) -> Effect {
    Effect::Restart { attempt: Attempt(attempt), regions: regions.iter().copied().collect() }
}

fn failed(failures: Vec<Failure>) -> Effect {
    Effect::FailJob { failures, stragglers: Vec::new() }
}

#[test]
fn without_a_strategy_the_first_failure_fails_the_job_once_all_is_gone() {
    let mut desk = Desk::running(RestartStrategy::None);
    assert_eq!(desk.fail(1, retryable("boom")), end_of(1, &[ONE]));
    assert_eq!(desk.gone(1, 1), [failed(vec![retryable("boom")])]);
    assert_eq!(desk.supervisor.next_deadline(), None);
}

#[test]
fn a_fixed_delay_restarts_as_often_as_it_says_and_always_after_the_same_time() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 3, delay: 5 * SECOND });
    for attempt in 1..=3 {
        assert_eq!(desk.fail(attempt, retryable("boom")), end_of(attempt, &[ONE]));
        assert_eq!(desk.gone(attempt, attempt), []);
        assert_eq!(desk.pass(5 * SECOND - Duration::from_nanos(1)), []);
        assert_eq!(desk.pass(Duration::from_nanos(1)), [restart(attempt + 1, &[ONE])]);
        desk.deploy(attempt + 1, &[ONE]);
    }
    assert_eq!(desk.supervisor.restarts(), 3);
    assert_eq!(desk.fail(4, retryable("the fourth")), end_of(4, &[ONE]));
    assert_eq!(desk.gone(4, 4), [failed(vec![retryable("the fourth")])]);
}

#[test]
fn a_restart_waits_for_the_last_part_and_for_the_coordinator_however_long_the_delay_is_over() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("boom"));
    assert_eq!(desk.pass(100 * SECOND), []);
    assert_eq!(desk.ended(1, Part::Subtask(LEFT)), []);
    assert_eq!(desk.ended(1, Part::Sink(0)), []);
    assert_eq!(desk.suspended(1), []);
    assert_eq!(desk.supervisor.waits_for_work(), []);
    assert_eq!(desk.ended(7, Part::Subtask(RIGHT)), [], "a word about another attempt counts for nothing");
    assert_eq!(desk.ended(1, Part::Subtask(RIGHT)), []);
    assert_eq!(desk.supervisor.waits_for_work(), [ONE], "who could begin work is gone");
    assert_eq!(desk.ended(1, Part::Work), [restart(2, &[ONE])]);
}

#[test]
fn an_unrecoverable_failure_is_not_restarted() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 9, delay: SECOND });
    let bad = failure("line 7 of flights.csv is malformed", Severity::Unrecoverable);
    assert_eq!(desk.fail(1, bad.clone()), end_of(1, &[ONE]));
    assert_eq!(desk.supervisor.restart_at(), None);
    assert_eq!(desk.gone(1, 1), [failed(vec![bad])]);
    assert_eq!(desk.supervisor.restarts(), 0);
}

#[test]
fn failures_that_follow_from_the_first_one_count_as_one_restart_and_stand_behind_it() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 1, delay: SECOND });
    assert_eq!(desk.fail(1, retryable("original")), end_of(1, &[ONE]));
    assert_eq!(desk.fail(1, retryable("consequence")), []);
    assert_eq!(desk.gone(1, 1), []);
    assert_eq!(desk.pass(SECOND), [restart(2, &[ONE])]);
    desk.deploy(2, &[ONE]);
    assert_eq!(desk.fail(1, retryable("late")), [], "a failure of an old attempt is none of this one");
    assert_eq!(desk.fail(2, retryable("second original")), end_of(2, &[ONE]));
    desk.fail(2, retryable("second consequence"));
    let failures = vec![retryable("second original"), retryable("second consequence")];
    assert_eq!(desk.gone(2, 2), [failed(failures)]);
}

#[test]
fn an_unrecoverable_failure_during_the_wait_for_a_restart_ends_the_job() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("original"));
    assert!(desk.supervisor.restart_at().is_some());
    let poisoned = failure("the store is poisoned", Severity::Unrecoverable);
    assert_eq!(desk.fail(1, poisoned.clone()), []);
    assert_eq!(desk.gone(1, 1), [failed(vec![retryable("original"), poisoned])]);
}

#[test]
fn a_failed_deployment_counts_and_waits_for_what_of_it_was_started() {
    let mut desk = Desk::running(RestartStrategy::FixedDelay { attempts: 2, delay: SECOND });
    desk.fail(1, retryable("boom"));
    desk.gone(1, 1);
    assert_eq!(desk.pass(SECOND), [restart(2, &[ONE])]);
    let broken = Failure { origin: "deployment".to_owned(), ..retryable("the checkpoint cannot be read") };
    assert_eq!(desk.tell(Event::Started { attempt: Attempt(2), region: ONE, part: Part::Work }), []);
    assert_eq!(desk.fail(2, broken.clone()), end_of(2, &[ONE]));
    assert_eq!(desk.suspended(2), []);
    assert_eq!(desk.ended(2, Part::Work), []);
    assert_eq!(desk.pass(SECOND), [restart(3, &[ONE])]);
    assert_eq!(desk.fail(3, broken.clone()), end_of(3, &[ONE]));
    assert_eq!(desk.suspended(3), [failed(vec![broken])], "nothing was built that could be ended");
}

#[test]
fn what_does_not_end_in_time_fails_the_job_by_name() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("boom"));
    desk.ended(1, Part::Subtask(LEFT));
    desk.ended(1, Part::Sink(0));
    assert_eq!(desk.pass(PATIENCE - Duration::from_nanos(1)), []);
    let stragglers =
        vec![Straggler::Part(ONE, Part::Subtask(RIGHT)), Straggler::Part(ONE, Part::Work), Straggler::Coordinator];
    assert_eq!(desk.pass(Duration::from_nanos(1)), [Effect::FailJob { failures: vec![retryable("boom")], stragglers }]);
    assert_eq!(desk.ended(1, Part::Subtask(RIGHT)), [], "it is too late to go on");
}

#[test]
fn a_user_who_cancels_gets_a_cancelled_job_whatever_fails_meanwhile() {
    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    assert_eq!(desk.tell(Event::Cancel), end_of(1, &[ONE]));
    assert_eq!(desk.fail(1, retryable("cancelled")), []);
    assert_eq!(desk.gone(1, 1), [Effect::JobCancelled]);

    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.fail(1, retryable("boom"));
    assert_eq!(desk.tell(Event::Cancel), [], "the restart that was planned is dropped");
    assert_eq!(desk.gone(1, 1), [Effect::JobCancelled]);

    let mut desk = Desk::running(RestartStrategy::None);
    desk.fail(1, retryable("boom"));
    desk.tell(Event::Cancel);
    let failed = failed(vec![retryable("boom")]);
    assert_eq!(desk.gone(1, 1), [failed], "a job that fails for good is not made a cancelled one");
}

#[test]
fn a_part_that_is_started_out_of_turn_is_reported_as_a_defect() {
    let started = |attempt| Event::Started { attempt: Attempt(attempt), region: ONE, part: Part::Subtask(LEFT) };
    let mut supervisor =
        Supervisor::new(regions(1), FailoverStrategy::Region, RestartStrategy::fixed_delay(), PATIENCE);
    supervisor.handle(Moment(0), started(2), &mut Vec::new());
    assert_eq!(supervisor.check().unwrap_err().invariant.id, "supervise.one-attempt");

    let mut desk = Desk::running(RestartStrategy::fixed_delay());
    desk.supervisor.handle(Moment(0), started(1), &mut Vec::new());
    assert_eq!(desk.supervisor.check().unwrap_err().invariant.id, "supervise.one-attempt", "it runs already");
}

// Regions.

#[test]
fn a_failure_ends_and_restarts_its_region_alone() {
    let mut desk = Desk::two(RestartStrategy::fixed_delay());
    assert_eq!(desk.fail_in(Scope::Region(OTHER), 1, retryable("boom")), end_of(1, &[OTHER]));
    assert_eq!(desk.supervisor.ending(), BTreeSet::from([OTHER]));
    assert_eq!(desk.region_gone(OTHER, 1), []);
    assert_eq!(desk.suspended(1), []);
    assert_eq!(desk.pass(SECOND), [restart(2, &[OTHER])]);
    assert_eq!((desk.supervisor.attempt_of(ONE), desk.supervisor.attempt_of(OTHER)), (Attempt(1), Attempt(2)));
    desk.deploy(2, &[OTHER]);
    assert_eq!(desk.fail_in(Scope::Region(OTHER), 1, retryable("late")), [], "an old attempt of the region");
    assert_eq!(desk.fail_in(Scope::Region(ONE), 2, retryable("foreign")), [], "the region has no such attempt");
    assert_eq!(desk.supervisor.restarts(), 1);
}

#[test]
fn the_strategy_counts_over_all_regions() {
    let mut desk = Desk::two(RestartStrategy::FixedDelay { attempts: 1, delay: SECOND });
    desk.fail_in(Scope::Region(OTHER), 1, retryable("first"));
    desk.region_gone(OTHER, 1);
    desk.suspended(1);
    assert_eq!(desk.pass(SECOND), [restart(2, &[OTHER])]);
    desk.deploy(2, &[OTHER]);
    assert_eq!(desk.fail_in(Scope::Region(ONE), 1, retryable("second")), end_of(2, &[ONE, OTHER]));
    assert_eq!(desk.region_gone(ONE, 1), []);
    assert_eq!(desk.region_gone(OTHER, 2), []);
    assert_eq!(desk.suspended(2), [failed(vec![retryable("second")])]);
}

#[test]
fn a_failure_of_nobodys_region_restarts_the_whole_job() {
    let mut desk = Desk::two(RestartStrategy::fixed_delay());
    assert_eq!(desk.fail_in(Scope::Job, 1, retryable("the coordinator panicked")), end_of(1, &[ONE, OTHER]));
    assert_eq!(desk.region_gone(ONE, 1), []);
    assert_eq!(desk.region_gone(OTHER, 1), []);
    assert_eq!(desk.suspended(1), []);
    assert_eq!(desk.pass(SECOND), [restart(2, &[ONE, OTHER])]);
}

#[test]
fn with_the_full_strategy_every_failure_restarts_the_whole_job() {
    let mut desk = Desk::with(2, FailoverStrategy::Full, RestartStrategy::fixed_delay());
    assert_eq!(desk.fail_in(Scope::Region(OTHER), 1, retryable("boom")), end_of(1, &[ONE, OTHER]));
}

#[test]
fn a_region_that_fails_while_another_ends_joins_its_restart_and_counts() {
    let mut desk = Desk::two(RestartStrategy::FixedDelay { attempts: 2, delay: 5 * SECOND });
    desk.fail_in(Scope::Region(ONE), 1, retryable("first"));
    desk.region_gone(ONE, 1);
    desk.suspended(1);
    assert_eq!(desk.pass(3 * SECOND), []);
    assert_eq!(desk.fail_in(Scope::Region(OTHER), 1, retryable("second")), end_of(2, &[OTHER]));
    assert_eq!(desk.pass(3 * SECOND), [], "the later of the two moments counts, and the old attempt is there");
    assert_eq!(desk.region_gone(OTHER, 1), []);
    assert_eq!(desk.suspended(1), [], "the answer to the first suspension, late");
    assert_eq!(desk.suspended(2), []);
    assert_eq!(desk.pass(2 * SECOND), [restart(2, &[ONE, OTHER])]);
    desk.deploy(2, &[ONE, OTHER]);
    assert_eq!(desk.fail_in(Scope::Region(ONE), 2, retryable("third")), end_of(3, &[ONE, OTHER]), "used up");
}

#[test]
fn a_region_that_fails_while_another_is_deployed_ends_it_again_and_both_restart() {
    let mut desk = Desk::two(RestartStrategy::FixedDelay { attempts: 9, delay: SECOND });
    desk.fail_in(Scope::Region(ONE), 1, retryable("first"));
    desk.region_gone(ONE, 1);
    desk.suspended(1);
    assert_eq!(desk.pass(SECOND), [restart(2, &[ONE])]);
    desk.tell(Event::Started { attempt: Attempt(2), region: ONE, part: Part::Work });
    assert_eq!(desk.fail_in(Scope::Region(OTHER), 1, retryable("second")), end_of(2, &[ONE, OTHER]));
    assert_eq!(desk.ended(2, Part::Work), []);
    assert_eq!(desk.region_gone(OTHER, 1), []);
    assert_eq!(desk.suspended(2), []);
    assert_eq!(desk.pass(SECOND), [restart(3, &[ONE, OTHER])]);
}

#[test]
fn an_unrecoverable_failure_of_one_region_fails_the_whole_job() {
    let mut desk = Desk::two(RestartStrategy::fixed_delay());
    let bad = failure("malformed", Severity::Unrecoverable);
    assert_eq!(desk.fail_in(Scope::Region(ONE), 1, bad.clone()), end_of(1, &[ONE, OTHER]));
    desk.region_gone(ONE, 1);
    desk.region_gone(OTHER, 1);
    assert_eq!(desk.suspended(1), [failed(vec![bad])]);
}

#[test]
fn once_a_checkpoint_has_closed_the_job_every_region_ends_and_only_commits_are_left() {
    let mut desk = Desk::two(RestartStrategy::fixed_delay());
    assert_eq!(desk.tell(Event::Closed), []);
    assert_eq!(desk.fail_in(Scope::Region(ONE), 1, retryable("a commit failed")), end_of(1, &[ONE, OTHER]));

    let mut desk = Desk::two(RestartStrategy::fixed_delay());
    assert_eq!(desk.fail_in(Scope::Region(ONE), 1, retryable("boom")), end_of(1, &[ONE]));
    // The final checkpoint was being written when the region failed.
    let closed = Event::CoordinatorSuspended { suspension: 1, closed: true };
    assert_eq!(desk.tell(closed), end_of(2, &[OTHER]));
    // Parts of the other region come to their end by themselves, as they were about to.
    desk.region_gone(OTHER, 1);
    desk.region_gone(ONE, 1);
    assert_eq!(desk.suspended(2), []);
    assert_eq!(desk.pass(SECOND), [restart(2, &[ONE, OTHER])]);
}

#[test]
fn what_does_not_end_in_one_region_ends_the_others_before_the_job_fails() {
    let mut desk = Desk::two(RestartStrategy::fixed_delay());
    desk.fail_in(Scope::Region(ONE), 1, retryable("boom"));
    for part in [Part::Subtask(LEFT), Part::Sink(0), Part::Work] {
        desk.ended(1, part);
    }
    desk.suspended(1);
    assert_eq!(desk.pass(PATIENCE), end_of(2, &[OTHER]), "the others are told to end");
    assert_eq!(desk.region_gone(OTHER, 1), []);
    let stragglers = vec![Straggler::Part(ONE, Part::Subtask(RIGHT))];
    assert_eq!(desk.suspended(2), [Effect::FailJob { failures: vec![retryable("boom")], stragglers }]);
}

#[test]
fn the_node_of_a_region_is_found_again() {
    let found = Regions::of(3, [(NodeId(0), NodeId(2))]);
    assert_eq!(found.nodes(ONE).collect::<Vec<_>>(), [NodeId(0), NodeId(2)]);
    assert_eq!(found.of_node(NodeId(1)), OTHER);
}
