//! Every order of failures, ends, cancels and deadlines, over one region and over two.

use std::collections::BTreeSet;

use alluvium_actors::ids::{Attempt, Moment, RegionId};
use alluvium_actors::protocol::machine::Machine;
use alluvium_actors::protocol::supervise::{
    Effect, Event, FailoverStrategy, Part, Regions, RestartStrategy, Scope, Severity, Straggler, Supervisor,
};

use crate::coordinator::{LEFT, SECOND};
use crate::explore::{AtRest, Bounds, Exploration, explore};
use crate::supervise::{ONE, PATIENCE, failure};

/// A rule that is broken on purpose, to see that the walk finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Defect {
    None,
    /// The driver takes a part for ended as soon as it was told to end.
    BelievesInEndsTooEarly,
    /// The driver takes failures of an old attempt for current ones.
    TakesLateFailures,
    /// The driver does not answer in place of a coordinator that is gone.
    WaitsForNobody,
}

#[derive(Clone, Hash)]
struct World {
    supervisor: Supervisor,
    defect: Defect,
    now: Moment,
    /// What is there: region, attempt, part.
    there: BTreeSet<(RegionId, Attempt, Part)>,
    /// The regions that were asked for and not built, and those that are built and do not run yet.
    to_build: BTreeSet<RegionId>,
    building: BTreeSet<RegionId>,
    told_to_end: BTreeSet<(RegionId, Attempt)>,
    /// Whether the coordinator works for the job, and the suspensions that it has to answer.
    resumed: bool,
    suspensions: Vec<u32>,
    /// Whether the coordinator is gone, and whether it may go.
    gone: bool,
    may_go: bool,
    failures_left: u8,
    late_left: u8,
    closings_left: u8,
    cancels_left: u8,
    restarts: u32,
    /// The attempts that failed, and so may be replaced: nobody else's parts may be told to end.
    failed: BTreeSet<RegionId>,
    whole: bool,
    outcome: Option<&'static str>,
    broken: Option<String>,
}

const SMALL: [Part; 2] = [Part::Work, Part::Subtask(LEFT)];

impl World {
    fn new(regions: u32, strategy: RestartStrategy, defect: Defect) -> World {
        let all: BTreeSet<RegionId> = (0..regions).map(RegionId).collect();
        let found = Regions::of(regions as usize, []);
        World {
            supervisor: Supervisor::new(found, FailoverStrategy::Region, strategy, PATIENCE),
            defect,
            now: Moment(0),
            there: BTreeSet::new(),
            to_build: all,
            building: BTreeSet::new(),
            told_to_end: BTreeSet::new(),
            resumed: false,
            suspensions: Vec::new(),
            gone: false,
            may_go: true,
            failures_left: 3,
            late_left: 1,
            closings_left: 1,
            cancels_left: 1,
            restarts: 0,
            failed: BTreeSet::new(),
            whole: false,
            outcome: None,
            broken: None,
        }
    }

    fn breaks(&mut self, words: String) {
        self.broken.get_or_insert(words);
    }

    fn apply(&mut self, event: Event) {
        let (mut effects, mut answered) = (Vec::new(), false);
        self.supervisor.handle(self.now, event, &mut effects);
        for effect in effects {
            if let Some(outcome) = self.outcome {
                self.breaks(format!("{effect:?} after the job was {outcome}"));
            }
            match effect {
                Effect::End { regions } => {
                    for region in regions {
                        if !self.failed.contains(&region) && !self.whole {
                            self.breaks(format!("region {region} is told to end, and nothing of it failed"));
                        }
                        let attempt = self.supervisor.attempt_of(region);
                        self.told_to_end.insert((region, attempt));
                        self.to_build.remove(&region);
                        self.building.remove(&region);
                    }
                }
                Effect::Suspend { suspension, regions: _ } => {
                    self.suspensions.push(suspension);
                    answered |= self.gone;
                }
                Effect::Restart { attempt, regions } => {
                    self.restarts += 1;
                    let old = self.there.iter().find(|(region, ..)| regions.contains(region)).copied();
                    if old.is_some() && self.defect == Defect::None {
                        self.breaks(format!("{regions:?} are asked for as {attempt}, and {old:?} is there"));
                    }
                    if self.resumed {
                        self.breaks("a restart is asked for while the coordinator works".to_owned());
                    }
                    self.failed.clear();
                    self.gone = false;
                    self.to_build = regions;
                }
                Effect::JobCancelled => {
                    self.outcome = Some("cancelled");
                    if !self.there.is_empty() {
                        self.breaks("cancelled with something still there".to_owned());
                    }
                }
                Effect::FailJob { failures, stragglers } => {
                    self.outcome = Some("failed");
                    if self.gone && stragglers.contains(&Straggler::Coordinator) {
                        self.breaks("the job waits for a coordinator that is gone".to_owned());
                    }
                    if failures.is_empty() && stragglers.is_empty() {
                        self.breaks("failed without a reason".to_owned());
                    }
                    if stragglers.is_empty() && !self.there.is_empty() && self.defect == Defect::None {
                        self.breaks("failed with something there that is not named".to_owned());
                    }
                }
            }
        }
        if answered {
            self.answers_for_the_coordinator();
        }
    }

    /// What the driver does in place of a coordinator that is gone.
    fn answers_for_the_coordinator(&mut self) {
        self.suspensions.clear();
        if let Some(suspension) = self.supervisor.awaited_suspension() {
            self.apply(Event::CoordinatorSuspended { suspension, closed: false });
        }
    }

    fn build(&mut self, region: RegionId) {
        let attempt = self.supervisor.attempt_of(region);
        for part in SMALL {
            if let Some(old) = self.there.iter().find(|(of, ..)| *of == region).filter(|(_, of, _)| *of != attempt) {
                let words = format!("{part:?} of {attempt} is built beside {old:?}");
                self.breaks(words);
            }
            self.apply(Event::Started { attempt, region, part });
            self.there.insert((region, attempt, part));
        }
        self.to_build.remove(&region);
        self.building.insert(region);
    }

    fn fail(&mut self, scope: Scope, attempt: Attempt, severity: Severity) {
        let current = match scope {
            Scope::Region(region) => self.supervisor.attempt_of(region) == attempt,
            Scope::Job => true,
        };
        if current {
            match scope {
                Scope::Region(region) => drop(self.failed.insert(region)),
                Scope::Job => self.whole = true,
            }
            self.failed.extend(self.building.iter().chain(&self.to_build).copied());
            // The job may fail for good: by the severity, or by the strategy.
            self.whole |= severity == Severity::Unrecoverable || self.restarts + 1 >= 2;
        }
        let attempt = match (self.defect, scope) {
            (Defect::TakesLateFailures, Scope::Region(region)) => self.supervisor.attempt_of(region),
            _ => attempt,
        };
        self.apply(Event::Failed { scope, attempt, failure: failure("boom", severity), random: 0 });
    }

    fn steps(&self, successors: &mut Vec<(String, World)>) {
        let mut step = |name: String, change: &dyn Fn(&mut World)| {
            let mut after = self.clone();
            change(&mut after);
            successors.push((name, after));
        };
        if self.outcome.is_some() {
            return;
        }
        if let Some(region) = self.to_build.first().copied() {
            step(format!("region {region} is built"), &|after| after.build(region));
        } else if !self.building.is_empty() {
            step("it runs".to_owned(), &|after| {
                after.building.clear();
                after.resumed = true;
                after.apply(Event::Running { attempt: after.supervisor.attempt() });
            });
        }
        let all: Vec<RegionId> = self.regions();
        if self.failures_left > 0 {
            for region in &all {
                for severity in [Severity::Retryable, Severity::Unrecoverable] {
                    let attempt = self.supervisor.attempt_of(*region);
                    step(format!("{severity:?} failure in region {region}"), &|after| {
                        after.failures_left -= 1;
                        after.fail(Scope::Region(*region), attempt, severity);
                    });
                }
            }
            let attempt = self.supervisor.attempt();
            step("failure of the coordinator".to_owned(), &|after| {
                after.failures_left -= 1;
                after.fail(Scope::Job, attempt, Severity::Retryable);
            });
        }
        if self.may_go && self.failures_left > 0 {
            let attempt = self.supervisor.attempt();
            step("the coordinator is gone".to_owned(), &|after| {
                after.failures_left -= 1;
                (after.gone, after.may_go, after.resumed) = (true, false, false);
                after.suspensions.clear();
                after.fail(Scope::Job, attempt, Severity::Retryable);
                if after.defect != Defect::WaitsForNobody {
                    after.answers_for_the_coordinator();
                }
            });
        }
        if self.late_left > 0 {
            for region in &all {
                let attempt = Attempt(self.supervisor.attempt_of(*region).0 - 1);
                step(format!("late failure of region {region}"), &|after| {
                    after.late_left -= 1;
                    after.fail(Scope::Region(*region), attempt, Severity::Retryable);
                });
            }
        }
        if self.cancels_left > 0 {
            step("cancel".to_owned(), &|after| {
                after.cancels_left -= 1;
                after.whole = true;
                after.apply(Event::Cancel);
            });
        }
        for gone in &self.there {
            let (region, attempt, part) = *gone;
            let work_is_last = part == Part::Work && !self.supervisor.waits_for_work().contains(&region);
            if self.told_to_end.contains(&(region, attempt)) && !work_is_last {
                step(format!("{part:?} of region {region} ends"), &|after| {
                    if after.defect != Defect::BelievesInEndsTooEarly {
                        after.there.remove(gone);
                    }
                    after.apply(Event::Ended { attempt, region, part });
                });
            }
        }
        if let Some(suspension) = self.suspensions.first().copied() {
            for closed in [false, true] {
                if !closed || (self.closings_left > 0 && self.resumed) {
                    step(format!("suspended ({suspension}), closed: {closed}"), &|after| {
                        after.suspensions.remove(0);
                        after.resumed = false;
                        if closed {
                            after.closings_left -= 1;
                            after.whole = true;
                        }
                        after.apply(Event::CoordinatorSuspended { suspension, closed });
                    });
                }
            }
        }
        if let Some(deadline) = self.supervisor.next_deadline() {
            step("deadline".to_owned(), &|after| {
                after.now = after.now.max(deadline);
                // What hangs fails the job.
                after.whole |= after.supervisor.restart_at() != Some(deadline);
                after.apply(Event::Deadline);
            });
        }
    }

    fn regions(&self) -> Vec<RegionId> {
        (0..2).map(RegionId).filter(|region| self.has(*region)).collect()
    }

    fn has(&self, region: RegionId) -> bool {
        region == ONE || self.supervisor_has_two()
    }

    fn supervisor_has_two(&self) -> bool {
        self.supervisor.regions().all().len() == 2
    }

    fn rule(&self, at_rest: AtRest) -> Result<(), String> {
        self.supervisor.check().map_err(|violation| violation.to_string())?;
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if self.restarts > 2 {
            return Err(format!("{} restarts, 2 are allowed", self.restarts));
        }
        let runs = self.to_build.is_empty() && self.building.is_empty() && self.supervisor.ending().is_empty();
        if at_rest == AtRest(true) && self.outcome.is_none() && !runs {
            return Err("it neither runs nor has come to an end".to_owned());
        }
        Ok(())
    }
}

fn walk(name: &str, world: World) -> Exploration<String> {
    explore(name, world, Bounds { states: 1_500_000, depth: 80 }, World::steps, World::rule)
}

#[test]
fn walk_two_attempts_never_run_and_every_failure_comes_to_an_end() {
    let strategy = RestartStrategy::FixedDelay { attempts: 2, delay: SECOND };
    walk("supervisor, one region", World::new(1, strategy, Defect::None)).assert_holds_everywhere();
}

#[test]
fn walk_two_regions_that_fail_at_any_moment_each_alone_or_together() {
    let strategy = RestartStrategy::FixedDelay { attempts: 2, delay: SECOND };
    walk("supervisor, two regions", World::new(2, strategy, Defect::None)).assert_holds_everywhere();
}

#[test]
fn walk_a_late_failure_that_counts_is_found() {
    let strategy = RestartStrategy::FixedDelay { attempts: 2, delay: SECOND };
    let found = walk("supervisor, late failures count", World::new(2, strategy, Defect::TakesLateFailures));
    assert!(found.expect_counterexample().violation.contains("nothing of it failed"));
}

#[test]
fn walk_a_region_that_is_built_beside_its_old_attempt_is_found() {
    let strategy = RestartStrategy::FixedDelay { attempts: 2, delay: SECOND };
    let mut world = World::new(2, strategy, Defect::BelievesInEndsTooEarly);
    world.failures_left = 1;
    world.late_left = 0;
    world.cancels_left = 0;
    let found = walk("supervisor, beside the old one", world);
    assert!(found.expect_counterexample().violation.contains("is built beside"));
}

#[test]
fn walk_a_wait_for_a_coordinator_that_is_gone_is_found() {
    let strategy = RestartStrategy::FixedDelay { attempts: 2, delay: SECOND };
    let mut world = World::new(1, strategy, Defect::WaitsForNobody);
    world.late_left = 0;
    let found = walk("supervisor, nobody answers", world);
    assert!(found.expect_counterexample().violation.contains("waits for a coordinator that is gone"));
}
