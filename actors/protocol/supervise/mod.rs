//! What follows a failure: another attempt of what failed after a delay, or the end of the job.
//!
//! A failure ends the attempt of its [region](regions): subtasks, sinks, blocking work. The next one begins when the delay of the restart
//! strategy has passed *and* every part of the old attempt is gone *and* the coordinator has settled what it had in flight: two attempts never run
//! side by side. The other regions run on meanwhile. What does not end in time fails the job for good.
//!
//! There is one restart at a time. A region that fails while another is being restarted joins it: the set of regions grows, and what of it was built
//! already ends again. Attempts are numbered over the whole job, so the number that a region's parts carry tells them from all older ones.
//!
//! ```text
//! Deploying(regions) -> Running -> Ending(regions) -> Deploying(regions) -> ...
//!        |                             ^   |
//!        +------- failure -------------+   +--> Over
//! ```

pub mod backoff;
mod check;
pub mod message;
pub mod regions;
pub mod strategy;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{Attempt, Moment, RegionId};
use crate::protocol::machine::{Machine, Violation};
use crate::protocol::mutation::{Mutation, is_active};

pub use self::backoff::{Backoff, Verdict};
pub use self::check::INVARIANTS;
pub use self::message::{Effect, Event, Part, Straggler};
pub use self::regions::{FailoverStrategy, Regions, Scope};
pub use self::strategy::{ExponentialDelay, RestartStrategy, RestartStrategyError};
pub use crate::ports::task::{Failure, Severity};

/// How many failures of one restart are kept beside the first.
const KEPT_FAILURES: usize = 8;

/// The supervisor of one job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Supervisor {
    regions: Regions,
    failover: FailoverStrategy,
    backoff: Backoff,
    cancellation_timeout: Duration,
    /// The newest attempt, of whichever regions.
    attempt: Attempt,
    restarts: u32,
    deployed: BTreeMap<RegionId, Region>,
    /// A checkpoint that ends the job is complete.
    closed: bool,
    /// How often the coordinator was asked to suspend.
    suspensions: u32,
    phase: Phase,
    misuse: Option<Violation>,
}

/// A region in its current attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Region {
    attempt: Attempt,
    /// Its parts that are there.
    parts: BTreeSet<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// These regions were asked for and do not run yet. The others do.
    Deploying(BTreeSet<RegionId>),
    /// All run, or come to their end by themselves.
    Running,
    /// Some end, or all.
    Ending(Ending),
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ending {
    goal: Goal,
    /// The regions that end, each with the moment when the patience with what is still there of it ends.
    regions: BTreeMap<RegionId, Moment>,
    /// When the patience with the coordinator ends; none once it has settled.
    coordinator: Option<Moment>,
    /// What was not gone in time. It is not waited for any more, and the job fails because of it.
    overdue: BTreeSet<Straggler>,
    failures: Vec<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Goal {
    Restart { at: Moment },
    Fail,
    Cancel,
}

impl Supervisor {
    /// A supervisor of a job with these regions, which waits for the deployment of attempt 1 of all of them. What does not end within
    /// `cancellation_timeout` (180 s, if nothing else is wanted) after it was told to fails the job.
    #[must_use]
    pub fn new(
        regions: Regions,
        failover: FailoverStrategy,
        strategy: RestartStrategy,
        cancellation_timeout: Duration,
    ) -> Supervisor {
        let attempt = Attempt(1);
        let all = regions.all();
        let deployed = all.iter().map(|region| (*region, Region { attempt, parts: BTreeSet::new() })).collect();
        Supervisor {
            regions,
            failover,
            backoff: Backoff::new(strategy),
            cancellation_timeout,
            attempt,
            restarts: 0,
            deployed,
            closed: false,
            suspensions: 0,
            phase: Phase::Deploying(all),
            misuse: None,
        }
    }

    /// The same supervisor with a clear head: its driver panicked, so that what it was doing is not to be trusted. What is there says `there`; the
    /// strategy, the attempts and what is known of the end of the job are kept. It is to be told of the failure next.
    #[must_use]
    pub fn recovered(&self, there: &BTreeSet<(RegionId, Part)>) -> Supervisor {
        let deployed = self.deployed.iter().map(|(region, before)| {
            let parts = there.iter().filter(|(of, _)| of == region).map(|(_, part)| *part).collect();
            (*region, Region { attempt: before.attempt, parts })
        });
        Supervisor { deployed: deployed.collect(), phase: Phase::Running, misuse: None, ..self.clone() }
    }

    /// The regions of the job.
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The newest attempt: deployed, to be deployed, or ending. Regions that were not restarted with it have [an older one](Supervisor::attempt_of).
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The attempt of a region.
    ///
    /// # Panics
    /// When the region is not one of the job.
    #[must_use]
    pub fn attempt_of(&self, region: RegionId) -> Attempt {
        self.deployed[&region].attempt
    }

    /// How often the job was restarted, as a whole or in part.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When the next attempt may begin, if one is planned. It begins later if the old one is not gone by then.
    #[must_use]
    pub fn restart_at(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Ending(Ending { goal: Goal::Restart { at }, .. }) => Some(*at),
            Phase::Ending(_) | Phase::Deploying(_) | Phase::Running | Phase::Over => None,
        }
    }

    /// The regions that end, in order to be restarted or with the job.
    #[must_use]
    pub fn ending(&self) -> BTreeSet<RegionId> {
        match &self.phase {
            Phase::Ending(ending) => ending.regions.keys().copied().collect(),
            Phase::Deploying(_) | Phase::Running | Phase::Over => BTreeSet::new(),
        }
    }

    /// The regions of which nothing is left but blocking work, now that nobody is there who begins any: whoever drives the machine finds out
    /// when it has ended.
    #[must_use]
    pub fn waits_for_work(&self) -> Vec<RegionId> {
        match &self.phase {
            // The enumerators of a region end when the coordinator is suspended.
            Phase::Ending(Ending { coordinator: None, regions, .. }) => {
                let only_work = |region: &RegionId| self.deployed[region].parts.iter().eq([&Part::Work]);
                regions.keys().copied().filter(only_work).collect()
            }
            Phase::Ending(_) | Phase::Deploying(_) | Phase::Running | Phase::Over => Vec::new(),
        }
    }

    /// The suspension that the coordinator has not answered. One that is gone never does: whoever drives the machine then answers in its place, since
    /// nothing is in flight of it any more.
    #[must_use]
    pub fn awaited_suspension(&self) -> Option<u32> {
        match &self.phase {
            Phase::Ending(ending) => ending.coordinator.map(|_| self.suspensions),
            Phase::Deploying(_) | Phase::Running | Phase::Over => None,
        }
    }

    /// Whether the job is ending because a user cancelled it.
    #[must_use]
    pub fn is_cancelling(&self) -> bool {
        match &self.phase {
            Phase::Ending(ending) => ending.goal == Goal::Cancel,
            Phase::Deploying(_) | Phase::Running | Phase::Over => false,
        }
    }

    /// What the strategy says to one more failure.
    fn decide(&mut self, now: Moment, severity: Severity, random: u64) -> Goal {
        match severity {
            Severity::Unrecoverable => Goal::Fail,
            Severity::Retryable => match self.backoff.failed(now, random) {
                Verdict::Restart { at } => Goal::Restart { at },
                Verdict::Fail => Goal::Fail,
            },
        }
    }

    fn started(&mut self, attempt: Attempt, region: RegionId, part: Part) {
        let deploying = match &self.phase {
            Phase::Deploying(regions) => regions.contains(&region),
            Phase::Running | Phase::Ending(_) | Phase::Over => false,
        };
        match self.deployed.get_mut(&region).filter(|region| deploying && region.attempt == attempt) {
            Some(region) => {
                region.parts.insert(part);
            }
            None => self.misuse = check::started_out_of_turn(attempt, region, part).err(),
        }
    }

    fn ended(&mut self, attempt: Attempt, region: RegionId, part: Part) {
        if let Some(region) = self.deployed.get_mut(&region).filter(|region| region.attempt == attempt) {
            region.parts.remove(&part);
        }
    }

    /// Whether a failure is one of what runs or is ending now, and not of an attempt that is over.
    fn is_current(&self, scope: Scope, attempt: Attempt) -> bool {
        match scope {
            Scope::Region(region) => self.deployed.get(&region).is_some_and(|region| region.attempt == attempt),
            // Something is left of the attempts that it could be about.
            Scope::Job => self.deployed.values().any(|region| region.attempt <= attempt),
        }
    }

    fn failed(&mut self, now: Moment, scope: Scope, failure: Failure, random: u64, effects: &mut Vec<Effect>) {
        let mut concerned = self.regions.to_restart(self.failover, scope);
        match &mut self.phase {
            Phase::Ending(ending) => {
                let severity = failure.severity;
                if ending.failures.len() <= KEPT_FAILURES {
                    ending.failures.push(failure);
                }
                let Goal::Restart { at } = ending.goal else { return };
                // It follows from the end of its region and changes nothing, unless no attempt helps.
                let follows = concerned.iter().all(|region| ending.regions.contains_key(region));
                if follows && severity == Severity::Retryable {
                    return;
                }
                let goal = match self.decide(now, severity, random) {
                    Goal::Restart { at: later } => Goal::Restart { at: at.max(later) },
                    other @ (Goal::Fail | Goal::Cancel) => other,
                };
                self.end(now, goal, concerned, Vec::new(), effects);
            }
            Phase::Deploying(deploying) => {
                concerned.extend(deploying.iter().copied());
                let goal = self.decide(now, failure.severity, random);
                self.end(now, goal, concerned, vec![failure], effects);
            }
            Phase::Running => {
                let goal = self.decide(now, failure.severity, random);
                self.end(now, goal, concerned, vec![failure], effects);
            }
            Phase::Over => {}
        }
    }

    /// Ends `concerned`, and everything if no restart follows or nothing is left to process. What is ending already gets another goal at most.
    fn end(
        &mut self,
        now: Moment,
        goal: Goal,
        mut concerned: BTreeSet<RegionId>,
        failures: Vec<Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let patience = now + self.cancellation_timeout;
        let mut ending = match std::mem::replace(&mut self.phase, Phase::Over) {
            // A job that fails for good is not made a cancelled one.
            Phase::Ending(ending) if ending.goal == Goal::Fail => ending,
            Phase::Ending(ending) => Ending { goal, ..ending },
            Phase::Deploying(_) | Phase::Running => Ending {
                goal,
                regions: BTreeMap::new(),
                coordinator: None,
                overdue: BTreeSet::new(),
                failures: Vec::new(),
            },
            Phase::Over => return,
        };
        ending.failures.extend(failures);
        if self.closed || !matches!(ending.goal, Goal::Restart { .. }) {
            concerned = self.regions.all();
        }
        concerned.retain(|region| !ending.regions.contains_key(region));
        if !concerned.is_empty() {
            self.suspensions += 1;
            ending.regions.extend(concerned.iter().map(|region| (*region, patience)));
            ending.coordinator = Some(patience);
            // The coordinator first: what fails because the rights of these regions end is then no failure of a checkpoint.
            effects.push(Effect::Suspend { suspension: self.suspensions, regions: concerned.clone() });
            effects.push(Effect::End { regions: concerned });
        }
        self.phase = Phase::Ending(ending);
    }

    fn suspended(&mut self, now: Moment, suspension: u32, closed: bool, effects: &mut Vec<Effect>) {
        self.closed |= closed;
        if let Phase::Ending(ending) = &mut self.phase
            && suspension == self.suspensions
        {
            ending.coordinator = None;
        }
        self.end_all_if_closed(now, effects);
    }

    /// Once a checkpoint has closed the job nothing is rebuilt: what a failure left open are commits, and the restored checkpoint holds all of them.
    fn end_all_if_closed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if let Phase::Ending(Ending { goal: goal @ Goal::Restart { .. }, .. }) = self.phase
            && self.closed
        {
            self.end(now, goal, BTreeSet::new(), Vec::new(), effects);
        }
    }

    /// What is still there of what ends and is waited for.
    fn awaited(&self, ending: &Ending) -> Vec<(Straggler, Moment)> {
        let parts = ending.regions.iter().flat_map(|(region, patience)| {
            self.deployed[region].parts.iter().map(|part| (Straggler::Part(*region, *part), *patience))
        });
        let is_work = |straggler: &Straggler| matches!(straggler, Straggler::Part(_, Part::Work));
        let parts = parts.filter(move |(part, _)| !is_work(part) || !is_active(Mutation::AttemptsOverlap));
        let coordinator = ending.coordinator.map(|patience| (Straggler::Coordinator, patience));
        parts.chain(coordinator).filter(|(straggler, _)| !ending.overdue.contains(straggler)).collect()
    }

    /// Goes on when nothing is left of what ends, or patience ends.
    fn proceed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Phase::Ending(ending) = &self.phase else { return };
        let awaited = self.awaited(ending);
        let overdue: Vec<Straggler> =
            awaited.iter().filter(|(_, patience)| *patience <= now).map(|(straggler, _)| *straggler).collect();
        if !overdue.is_empty() {
            return self.give_up(now, overdue, effects);
        }
        if !awaited.is_empty() {
            return;
        }
        match ending.goal {
            Goal::Restart { at } if at > now => {}
            Goal::Restart { .. } => {
                let regions: BTreeSet<RegionId> = ending.regions.keys().copied().collect();
                self.restarts += 1;
                self.attempt = Attempt(self.attempt.0 + 1);
                for region in &regions {
                    self.deployed.insert(*region, Region { attempt: self.attempt, parts: BTreeSet::new() });
                }
                self.phase = Phase::Deploying(regions.clone());
                effects.push(Effect::Restart { attempt: self.attempt, regions });
            }
            Goal::Fail => self.fail_job(effects),
            Goal::Cancel => {
                self.phase = Phase::Over;
                effects.push(Effect::JobCancelled);
            }
        }
    }

    /// Something does not end in time: the job fails for good, when what can still be ended has ended.
    fn give_up(&mut self, now: Moment, overdue: Vec<Straggler>, effects: &mut Vec<Effect>) {
        if let Phase::Ending(ending) = &mut self.phase {
            ending.overdue.extend(overdue);
            ending.goal = Goal::Fail;
        }
        self.end(now, Goal::Fail, BTreeSet::new(), Vec::new(), effects);
        self.proceed(now, effects);
    }

    fn fail_job(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Ending(ending) = std::mem::replace(&mut self.phase, Phase::Over) else { return };
        // What came to its end after all is none.
        let is_there = |straggler: &Straggler| match straggler {
            Straggler::Part(region, part) => self.deployed[region].parts.contains(part),
            Straggler::Coordinator => ending.coordinator.is_some(),
        };
        let stragglers = ending.overdue.iter().copied().filter(is_there).collect();
        effects.push(Effect::FailJob { failures: ending.failures, stragglers });
    }
}

impl Machine for Supervisor {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Started { attempt, region, part } => self.started(attempt, region, part),
            Event::Running { attempt } => {
                if attempt == self.attempt && matches!(self.phase, Phase::Deploying(_)) {
                    self.phase = Phase::Running;
                }
            }
            Event::Failed { scope, attempt, failure, random } => {
                if self.is_current(scope, attempt) {
                    self.failed(now, scope, failure, random, effects);
                }
            }
            Event::Ended { attempt, region, part } => self.ended(attempt, region, part),
            Event::CoordinatorSuspended { suspension, closed } => self.suspended(now, suspension, closed, effects),
            Event::Closed => {
                self.closed = true;
                self.end_all_if_closed(now, effects);
            }
            Event::Cancel => self.end(now, Goal::Cancel, BTreeSet::new(), Vec::new(), effects),
            Event::Deadline => {}
        }
        self.proceed(now, effects);
    }

    fn next_deadline(&self) -> Option<Moment> {
        let Phase::Ending(ending) = &self.phase else { return None };
        let patience = self.awaited(ending).into_iter().map(|(_, patience)| patience).min();
        match ending.goal {
            Goal::Restart { at } => Some(patience.unwrap_or(at)),
            Goal::Fail | Goal::Cancel => patience,
        }
    }

    fn check(&self) -> Result<(), Violation> {
        check::check(self)
    }
}
