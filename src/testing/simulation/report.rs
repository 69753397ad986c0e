//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Simulation;
use super::story::Story;
use crate::fault::{Action, Point};
use crate::testing::repeat::repeat_command;

/// Where, when and for what a point was reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The point.
    pub point: Point,
    /// The operator or sink that reached it, as a filter of a fault names it; none when it was the job as a whole.
    pub operator: Option<String>,
    /// Which of its subtasks.
    pub subtask: Option<u32>,
    /// The checkpoint, where it is for one.
    pub checkpoint: Option<u64>,
    /// The process: 1, 2, ...
    pub process: u32,
}

/// What happened in a run that went well.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The number of events.
    pub events: u64,
    /// The number of changes of the disk that were asked for.
    pub effects: u64,
    /// The number of processes that were started.
    pub processes: u32,
    /// How many of them were ended by a crash.
    pub crashes: u32,
    /// How many were ended by a failure that faults are the cause of: of the disk, or more of them than the job may restart for.
    pub failures: u32,
    /// The number of checkpoints that were completed.
    pub completed: u64,
    /// The time that passed.
    pub time: Duration,
    /// A hash over everything that happened, without encoded records.
    pub fingerprint: u64,
    /// How often each fault point was reached, those that were reached at all.
    pub reached: BTreeMap<Point, u64>,
    /// The same, by who reached it, when and for what.
    pub places: BTreeMap<Place, u64>,
    /// How often a fault struck at a point.
    pub struck: u64,
    /// The same, by point and action.
    pub struck_at: BTreeMap<(Point, Action), u64>,
    /// The faults that never struck, as text: at a point that nobody reached whom the filters allow, at an operation of the disk that was not asked for, at an event or
    /// a change of the disk to which their process did not come.
    pub unstruck: Vec<String>,
    /// The same run with everything that goes wrong in it named one by one: what the seed decided is written out.
    pub exactly: Simulation,
}

/// A run that did not go well.
#[derive(Clone, Debug)]
pub struct Trouble(Box<Told>);

/// What is told of it.
#[derive(Clone, Debug)]
struct Told {
    simulation: Simulation,
    exactly: Simulation,
    reason: String,
    story: String,
    events: u64,
}

impl Trouble {
    pub(super) fn new(simulation: Simulation, exactly: Simulation, reason: String, story: &Story) -> Trouble {
        Trouble(Box::new(Told { simulation, exactly, reason, story: story.last_events(), events: story.events() }))
    }

    /// One that no run made, for tests of what is done with them.
    #[cfg(test)]
    pub(crate) fn said(simulation: &Simulation, reason: &str) -> Trouble {
        Trouble::new(simulation.clone(), simulation.clone(), reason.to_owned(), &Story::default())
    }

    /// What is wrong.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What happened before, in order: the last events, one a line.
    #[must_use]
    pub fn story(&self) -> &str {
        &self.0.story
    }

    /// How many events there were until then.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.0.events
    }

    /// The run that found it.
    #[must_use]
    pub fn simulation(&self) -> Simulation {
        self.0.simulation.clone()
    }

    /// The same run with everything that goes wrong in it named one by one: what the seed decided is written out.
    #[must_use]
    pub fn exactly(&self) -> Simulation {
        self.0.exactly.clone()
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { simulation, reason, story, .. } = &*self.0;
        write!(
            formatter,
            "{reason}\n\nwhat happened before:\n{story}\nsimulation {simulation}: {reason}\nto repeat it: {}",
            repeat_command(simulation, "(the same test)")
        )
    }
}

impl std::error::Error for Trouble {}
