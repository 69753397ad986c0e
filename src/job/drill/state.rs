//! What a drill knows: what is armed, what has struck, what stands still.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Instant, SystemTime};

use alluvium_actors::ports::points::{Hit, Point};

use super::{DrillError, LONGEST_RECORD, Struck};
use crate::fault::{Armed, End, Fault, FaultPlan, LONGEST_HOLD, Names, Random, What};

/// Everything of a drill that changes.
pub(super) struct State {
    armed: Armed,
    plan: FaultPlan,
    /// When it is disarmed by itself.
    until: Option<Instant>,
    /// After how many more strikes.
    strikes_left: Option<u64>,
    random: Random,
    waits: BTreeMap<u64, Wait>,
    last_wait: u64,
    record: VecDeque<Struck>,
    struck: u64,
    reached: BTreeMap<Point, u64>,
    took_environment: bool,
    jobs: Vec<Weak<Names>>,
}

/// Something stands still.
struct Wait {
    /// Reaching this point lets it go on.
    until: Option<Point>,
    /// When it goes on by itself.
    at: Instant,
    wakers: Vec<Waker>,
}

/// What came of reaching a point.
pub(super) struct Reached {
    /// Of what goes on because the point was reached.
    pub(super) wakers: Vec<Waker>,
    /// What strikes, and until when it makes wait.
    pub(super) struck: Option<(Struck, Option<(u64, Instant)>)>,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            armed: Armed::new(&FaultPlan::default()),
            plan: FaultPlan::default(),
            until: None,
            strikes_left: None,
            random: Random::new(seed),
            waits: BTreeMap::new(),
            last_wait: 0,
            record: VecDeque::new(),
            struck: 0,
            reached: BTreeMap::new(),
            took_environment: false,
            jobs: Vec::new(),
        }
    }

    /// A job has these names.
    pub(super) fn attach(&mut self, names: &Arc<Names>) {
        self.jobs.retain(|job| job.strong_count() > 0);
        self.jobs.push(Arc::downgrade(names));
    }

    /// Arms what the environment asks for, once in the life of a drill: not again when its job is started again.
    ///
    /// # Errors
    /// A fault cannot happen in a real process: then nothing is armed, and the next start asks again.
    pub(super) fn take_from_environment(&mut self, asked: &FaultPlan) -> Result<(), DrillError> {
        if asked.is_empty() {
            return Ok(());
        }
        self.check_possible(asked)?;
        if !std::mem::replace(&mut self.took_environment, true) {
            self.add(asked);
        }
        Ok(())
    }

    /// # Errors
    /// A fault cannot happen in a real process.
    pub(super) fn check_possible(&self, plan: &FaultPlan) -> Result<(), DrillError> {
        if let Some(rule) = plan.disk_rules().first() {
            return Err(DrillError::OnlySimulated { fault: rule.to_string() });
        }
        for fault in plan.faults() {
            if fault.only_in_process().is_some() || *fault.what() == What::Crash(End::Machine) {
                return Err(DrillError::OnlySimulated { fault: fault.to_string() });
            }
            if cfg!(panic = "abort") && matches!(fault.what(), What::Kill | What::Panic) {
                return Err(DrillError::Aborts { fault: fault.to_string() });
            }
        }
        Ok(())
    }

    /// # Errors
    /// A fault cannot happen in a real process, or not in the jobs of this drill.
    pub(super) fn check(&self, plan: &FaultPlan) -> Result<(), DrillError> {
        self.check_possible(plan)?;
        let jobs: Vec<Arc<Names>> = self.jobs.iter().filter_map(Weak::upgrade).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        for operator in plan.faults().iter().filter_map(Fault::at_operator) {
            if !jobs.iter().any(|names| names.knows(operator)) {
                let known = jobs.iter().map(|names| names.known()).collect::<Vec<_>>().join(", ");
                return Err(DrillError::UnknownOperator { operator: operator.to_owned(), known });
            }
        }
        Ok(())
    }

    /// Arms a plan instead of the one that is armed.
    #[must_use]
    pub(super) fn arm(&mut self, plan: &FaultPlan, until: Option<Instant>, strikes: Option<u64>) -> Vec<Waker> {
        self.armed = Armed::new(plan);
        self.plan = plan.clone();
        self.until = until;
        self.strikes_left = strikes;
        self.release(|_| true)
    }

    /// Arms more faults, asked behind those that are armed.
    fn add(&mut self, plan: &FaultPlan) {
        self.plan = plan.faults().iter().cloned().fold(self.plan.clone(), FaultPlan::and);
        self.armed = Armed::new(&self.plan);
    }

    /// What is armed.
    pub(super) fn plan(&self, now: Instant) -> FaultPlan {
        if self.is_over(now) { FaultPlan::default() } else { self.plan.clone() }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.strikes_left == Some(0) || self.until.is_some_and(|until| now >= until)
    }

    pub(super) fn unstruck(&self) -> Vec<Fault> {
        self.armed.unstruck().cloned().collect()
    }

    pub(super) fn strikes(&self) -> Vec<Struck> {
        self.record.iter().cloned().collect()
    }

    pub(super) fn struck(&self) -> u64 {
        self.struck
    }

    pub(super) fn reached(&self, point: Point) -> u64 {
        self.reached.get(&point).copied().unwrap_or(0)
    }

    /// How much stands still.
    pub(super) fn standing(&self, now: Instant) -> usize {
        self.waits.values().filter(|wait| now < wait.at).count()
    }

    /// Lets go on what `goes` says.
    #[must_use]
    pub(super) fn release(&mut self, goes: impl Fn(Option<Point>) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        self.waits.retain(|_, wait| {
            let stays = !goes(wait.until);
            if !stays {
                wakers.append(&mut wait.wakers);
            }
            stays
        });
        wakers
    }

    /// Whether what waits under this number may go on.
    pub(super) fn is_released(&mut self, number: u64, waker: &Waker) -> bool {
        let Some(wait) = self.waits.get_mut(&number) else { return true };
        if !wait.wakers.iter().any(|known| known.will_wake(waker)) {
            wait.wakers.push(waker.clone());
        }
        false
    }

    /// Somebody is at a point. What is to wait begins to at `from`: now, or when what waits already may go on.
    pub(super) fn reach(
        &mut self,
        hit: &Hit<'_>,
        names: &Names,
        job: &str,
        (now, from): (Instant, Instant),
        calendar: impl FnOnce() -> SystemTime,
    ) -> Reached {
        *self.reached.entry(hit.point).or_default() += 1;
        self.waits.retain(|_, wait| now < wait.at);
        let wakers = self.release(|until| until == Some(hit.point));
        if self.is_over(now) {
            return Reached { wakers, struck: None };
        }
        let State { armed, random, .. } = self;
        let strike = armed.strike_in(names, hit, &mut || random.unit());
        let struck = strike.map(|strike| {
            self.strikes_left = self.strikes_left.map(|left| left.saturating_sub(1));
            self.struck += 1;
            let fault = self.plan.faults()[strike.position].clone();
            let wait = self.wait(&strike.what, from);
            let struck =
                Struck { number: self.struck, at: calendar(), job: job.to_owned(), fault, place: names.tell(hit) };
            if self.record.len() == LONGEST_RECORD {
                self.record.pop_front();
            }
            self.record.push_back(struck.clone());
            (struck, wait)
        });
        Reached { wakers, struck }
    }

    /// Makes something wait from this moment on, if that is what strikes. No longer than the plan is armed.
    fn wait(&mut self, what: &What, from: Instant) -> Option<(u64, Instant)> {
        let (longest, until) = match what {
            What::Delay(delay) => (*delay, None),
            What::Hold(until) => (LONGEST_HOLD, Some(*until)),
            What::Crash(_) | What::Kill | What::Error | What::Panic | What::Drop | What::Duplicate => return None,
        };
        let at = self.until.map_or(from + longest, |end| end.min(from + longest));
        self.last_wait += 1;
        self.waits.insert(self.last_wait, Wait { until, at, wakers: Vec::new() });
        Some((self.last_wait, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_asks_for_is_armed_once_and_not_lost_by_a_start_that_is_refused() {
        let plan = |text: &str| text.parse::<FaultPlan>().unwrap();
        let mut state = State::new(1);
        let refused = state.take_from_environment(&plan("commit.done=crash(machine)")).unwrap_err();
        assert!(matches!(refused, DrillError::OnlySimulated { .. }), "{refused}");
        assert!(state.plan(Instant::now()).is_empty());
        for _ in 0..2 {
            state.take_from_environment(&plan("commit.done=crash")).unwrap();
            assert_eq!(state.plan(Instant::now()).to_string(), "commit.done=crash");
        }
    }
}
