//! A plan of faults under way: which of them strikes at a hit. Decides only; hosts carry out.

use alluvium_actors::ports::points::Hit;

use super::names::Names;
use super::plan::{Fault, FaultPlan, What};

/// A plan, with how often each fault was met and has struck.
#[derive(Clone, Debug)]
pub(crate) struct Armed {
    faults: Vec<Watched>,
    names: Names,
    process: u32,
}

#[derive(Clone, Debug)]
struct Watched {
    fault: Fault,
    met: u64,
    struck: u64,
}

/// A fault strikes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strike {
    /// What happens.
    pub(crate) what: What,
    /// The fault, by its position in the plan.
    pub(crate) position: usize,
}

impl Armed {
    /// Nothing has struck yet.
    pub(crate) fn new(plan: &FaultPlan) -> Armed {
        let faults = plan.faults.iter().map(|fault| Watched { fault: fault.clone(), met: 0, struck: 0 });
        Armed { faults: faults.collect(), names: Names::default(), process: 1 }
    }

    /// A process begins, with a job whose operators have these names.
    pub(crate) fn process_begins(&mut self, process: u32, names: Names) {
        self.process = process;
        self.names = names;
    }

    /// The names of the job.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// A point is reached. The first fault that strikes is the answer; every fault that is met counts the hit. `random` gives numbers from 0 below 1.
    pub(crate) fn strike(&mut self, hit: &Hit<'_>, random: &mut dyn FnMut() -> f64) -> Option<Strike> {
        let Armed { faults, names, process } = self;
        strike(faults, names, *process, hit, random)
    }

    /// The same where several jobs have the same plan: in the one whose operators have these names.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn strike_in(
        &mut self,
        names: &Names,
        hit: &Hit<'_>,
        random: &mut dyn FnMut() -> f64,
    ) -> Option<Strike> {
        strike(&mut self.faults, names, self.process, hit, random)
    }

    /// The faults that have never struck, as they stand in the plan.
    pub(crate) fn unstruck(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|watched| watched.struck == 0).map(|watched| &watched.fault)
    }
}

fn strike(
    faults: &mut [Watched],
    names: &Names,
    process: u32,
    hit: &Hit<'_>,
    random: &mut dyn FnMut() -> f64,
) -> Option<Strike> {
    let mut strike = None;
    for (position, watched) in faults.iter_mut().enumerate() {
        let fault = &watched.fault;
        if !is_met(fault, names, process, hit) {
            continue;
        }
        watched.met += 1;
        let is_its_turn = watched.met >= fault.hit && watched.struck < fault.times;
        if is_its_turn && strike.is_none() && fault.probability.is_none_or(|probability| random() < probability) {
            watched.struck += 1;
            strike = Some(Strike { what: fault.what.clone(), position });
        }
    }
    strike
}

fn is_met(fault: &Fault, names: &Names, process: u32, hit: &Hit<'_>) -> bool {
    fault.point == hit.point
        && fault.process.is_none_or(|wanted| wanted == process)
        && fault.checkpoint.is_none_or(|wanted| hit.checkpoint.is_some_and(|checkpoint| checkpoint.0 == wanted))
        && fault.subtask.is_none_or(|wanted| names.subtask(hit) == Some(wanted))
        && fault.operator.as_deref().is_none_or(|operator| names.is_at(operator, hit))
}

#[cfg(test)]
mod tests {
    use alluvium_actors::ids::{Attempt, CheckpointId, SubtaskId};
    use alluvium_actors::ports::host::Address;
    use alluvium_actors::ports::points::{Point, Who};

    use super::*;

    fn hit(node: u32, index: u32, checkpoint: u64) -> Hit<'static> {
        let subtask = Address::Subtask(SubtaskId::new(node, index), Attempt(1));
        let who = Who::Sender { from: subtask, to: Address::Coordinator };
        Hit::work(Point::AcknowledgeSent, who).checkpoint(CheckpointId(checkpoint))
    }

    fn struck(armed: &mut Armed, hits: &[Hit<'_>]) -> Vec<usize> {
        let mut positions = Vec::new();
        for (position, hit) in hits.iter().enumerate() {
            positions.extend(armed.strike(hit, &mut || 0.5).map(|_| position));
        }
        positions
    }

    fn armed(text: &str) -> Armed {
        Armed::new(&text.parse().unwrap())
    }

    #[test]
    fn a_fault_strikes_at_the_hit_that_all_its_filters_allow() {
        let hits = [hit(0, 0, 1), hit(0, 1, 1), hit(0, 0, 2), hit(0, 1, 2), hit(0, 1, 3), hit(0, 1, 4)];
        assert_eq!(struck(&mut armed("acknowledge.sent=drop"), &hits), [0]);
        assert_eq!(struck(&mut armed("acknowledge.sent[subtask=1]=drop"), &hits), [1]);
        assert_eq!(struck(&mut armed("acknowledge.sent[checkpoint=2]=drop"), &hits), [2]);
        assert_eq!(struck(&mut armed("acknowledge.sent[subtask=1,checkpoint=2]=drop"), &hits), [3]);
        assert_eq!(struck(&mut armed("acknowledge.sent[subtask=1,hit=3]=drop"), &hits), [4]);
        assert_eq!(struck(&mut armed("acknowledge.sent[subtask=1,hit=2,times=2]=drop"), &hits), [3, 4]);
        assert_eq!(struck(&mut armed("acknowledge.sent[hit=5,always]=drop"), &hits), [4, 5]);
        assert_eq!(struck(&mut armed("acknowledge.sent[probability=0.4,always]=drop"), &hits), [0; 0]);
        assert_eq!(struck(&mut armed("acknowledge.sent[probability=0.6,times=2]=drop"), &hits), [0, 1]);
        assert_eq!(struck(&mut armed("acknowledge.sent[process=2]=drop"), &hits), [0; 0]);
        assert_eq!(struck(&mut armed("acknowledge.received=drop"), &hits), [0; 0]);
        assert_eq!(struck(&mut armed("acknowledge.sent[operator=join]=drop"), &hits), [0; 0]);
    }

    #[test]
    fn of_two_faults_at_one_hit_the_first_strikes_and_both_have_met_it() {
        let mut armed = armed("acknowledge.sent=drop; acknowledge.sent[hit=2]=duplicate");
        assert_eq!(armed.strike(&hit(0, 0, 1), &mut || 0.0).map(|strike| strike.position), Some(0));
        assert_eq!(armed.strike(&hit(0, 0, 1), &mut || 0.0).map(|strike| strike.position), Some(1));
        assert_eq!(armed.unstruck().count(), 0);
    }
}
