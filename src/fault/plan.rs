//! One fault, and a list of them.

use std::time::Duration;

use alluvium_actors::ports::points::{Action, Point};

use super::disk_rule::DiskRule;

/// What happens, with what it needs to be known about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// The image of the process is gone.
    Crash(End),
    /// The actor is gone.
    Kill,
    /// What is about to be done fails.
    Error,
    /// The code at the point panics.
    Panic,
    /// It takes so much longer.
    Delay(Duration),
    /// The message is lost.
    Drop,
    /// The message arrives twice.
    Duplicate,
    /// It stands still until somebody reaches this point, but no longer than [`LONGEST_HOLD`].
    Hold(Point),
}

/// How long something that is held stands still at most: then it goes on, as if it had been released.
pub const LONGEST_HOLD: Duration = Duration::from_secs(5);

/// What a crash takes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// What the seed decides. In a real process: the process.
    #[default]
    Any,
    /// The process: what it wrote is there.
    Process,
    /// The machine: what was not synced may be lost or torn. Only in simulation.
    Machine,
}

impl What {
    /// The action that it is.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            What::Crash(_) => Action::Crash,
            What::Kill => Action::Kill,
            What::Error => Action::Error,
            What::Panic => Action::Panic,
            What::Delay(_) => Action::Delay,
            What::Drop => Action::Drop,
            What::Duplicate => Action::Duplicate,
            What::Hold(_) => Action::Hold,
        }
    }
}

/// A fault that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The point does not allow the action.
    #[error("`{action}` cannot happen at `{point}`: possible are {}", possible(*.point))]
    Impossible {
        /// The point.
        point: Point,
        /// What was asked for.
        action: Action,
    },
    /// A probability is a number from 0 to 1.
    #[error("{0} is not a probability: give a number from 0 to 1")]
    NoProbability(f64),
}

fn possible(point: Point) -> String {
    point.actions().iter().map(|action| format!("`{action}`")).collect::<Vec<_>>().join(", ")
}

/// Something that goes wrong: at which point, where, when, what.
///
/// Without a filter it strikes once, when its point is reached for the first time by anybody.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub(super) point: Point,
    pub(super) what: What,
    pub(super) operator: Option<String>,
    pub(super) subtask: Option<u32>,
    pub(super) checkpoint: Option<u64>,
    pub(super) process: Option<u32>,
    pub(super) hit: u64,
    pub(super) times: u64,
    pub(super) probability: Option<f64>,
}

impl Fault {
    /// A fault.
    ///
    /// # Errors
    /// When the point does not allow it.
    pub fn at(point: Point, what: What) -> Result<Fault, FaultError> {
        let action = what.action();
        if !point.actions().contains(action) {
            return Err(FaultError::Impossible { point, action });
        }
        Ok(Fault {
            point,
            what,
            operator: None,
            subtask: None,
            checkpoint: None,
            process: None,
            hit: 1,
            times: 1,
            probability: None,
        })
    }

    /// The process ends there: every point allows that.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn crash(point: Point) -> Fault {
        Fault::at(point, What::Crash(End::Any)).expect("every point allows a crash")
    }

    /// The actor ends there.
    ///
    /// # Errors
    /// When the point belongs to no actor.
    pub fn kill(point: Point) -> Result<Fault, FaultError> {
        Fault::at(point, What::Kill)
    }

    /// What is about to be done there fails.
    ///
    /// # Errors
    /// When nothing can fail there.
    pub fn error(point: Point) -> Result<Fault, FaultError> {
        Fault::at(point, What::Error)
    }

    /// The code there panics.
    ///
    /// # Errors
    /// When a panic there would end the job for good.
    pub fn panic(point: Point) -> Result<Fault, FaultError> {
        Fault::at(point, What::Panic)
    }

    /// It takes longer there: every point allows that.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn delay(point: Point, delay: Duration) -> Fault {
        Fault::at(point, What::Delay(delay)).expect("every point allows a delay")
    }

    /// The message is lost.
    ///
    /// # Errors
    /// When it is not a message, or one that the protocol relies on.
    pub fn drop(point: Point) -> Result<Fault, FaultError> {
        Fault::at(point, What::Drop)
    }

    /// The message arrives twice.
    ///
    /// # Errors
    /// When it is not a message, or one that the protocol relies on.
    pub fn duplicate(point: Point) -> Result<Fault, FaultError> {
        Fault::at(point, What::Duplicate)
    }

    /// It stands still there until somebody reaches the point `until`: every point allows that.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn hold(point: Point, until: Point) -> Fault {
        Fault::at(point, What::Hold(until)).expect("every point allows a hold")
    }

    /// Only at this operator, source or sink, by its name, its uid, or the name of its chain. A message belongs to the subtask that it is about.
    #[must_use]
    pub fn operator(self, operator: impl Into<String>) -> Fault {
        Fault { operator: Some(operator.into()), ..self }
    }

    /// Only at this subtask.
    #[must_use]
    pub fn subtask(self, subtask: u32) -> Fault {
        Fault { subtask: Some(subtask), ..self }
    }

    /// Only for this checkpoint.
    #[must_use]
    pub fn checkpoint(self, checkpoint: u64) -> Fault {
        Fault { checkpoint: Some(checkpoint), ..self }
    }

    /// Only in this process of a simulated run: 1, 2, ...
    #[must_use]
    pub fn process(self, process: u32) -> Fault {
        Fault { process: Some(process.max(1)), ..self }
    }

    /// When the point is reached for the n-th time by whom the filters allow; 1 is the first.
    #[must_use]
    pub fn hit(self, hit: u64) -> Fault {
        Fault { hit: hit.max(1), ..self }
    }

    /// How often it strikes, from that hit on.
    #[must_use]
    pub fn times(self, times: u64) -> Fault {
        Fault { times: times.max(1), ..self }
    }

    /// As often as the point is reached, from the hit on.
    #[must_use]
    pub fn always(self) -> Fault {
        self.times(u64::MAX)
    }

    /// At each hit only with this probability, decided by the seed.
    ///
    /// # Errors
    /// When it is not from 0 to 1.
    pub fn probability(self, probability: f64) -> Result<Fault, FaultError> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(FaultError::NoProbability(probability));
        }
        Ok(Fault { probability: Some(probability), ..self })
    }

    /// Its point.
    #[must_use]
    pub fn point(&self) -> Point {
        self.point
    }

    /// The operator that it is restricted to, if it is to one.
    #[must_use]
    pub fn at_operator(&self) -> Option<&str> {
        self.operator.as_deref()
    }

    /// What happens.
    #[must_use]
    pub fn what(&self) -> &What {
        &self.what
    }
}

/// Faults, in the order in which they are asked: the first that strikes at a hit is the one that happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan {
    pub(super) faults: Vec<Fault>,
    pub(super) disk: Vec<DiskRule>,
}

impl FaultPlan {
    /// These faults.
    #[must_use]
    pub fn of(faults: impl IntoIterator<Item = Fault>) -> FaultPlan {
        FaultPlan { faults: faults.into_iter().collect(), disk: Vec::new() }
    }

    /// The same and one more, which is asked last.
    #[must_use]
    pub fn and(mut self, fault: Fault) -> FaultPlan {
        self.faults.push(fault);
        self
    }

    /// The same and one more rule for the simulated disk.
    #[must_use]
    pub fn and_disk(mut self, rule: DiskRule) -> FaultPlan {
        self.disk.push(rule);
        self
    }

    /// What goes wrong with the simulated disk. No real disk does what they say.
    #[must_use]
    pub fn disk_rules(&self) -> &[DiskRule] {
        &self.disk
    }

    /// The faults at points.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty() && self.disk.is_empty()
    }
}

impl From<DiskRule> for FaultPlan {
    fn from(rule: DiskRule) -> FaultPlan {
        FaultPlan::default().and_disk(rule)
    }
}

impl From<Fault> for FaultPlan {
    fn from(fault: Fault) -> FaultPlan {
        FaultPlan::of([fault])
    }
}
