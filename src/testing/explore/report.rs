//! What an exploration came to, and what it did not come past.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::{Action, Point};
use crate::testing::simulation::Report;

/// A part of an exploration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stage {
    /// What its runs have in common.
    pub name: &'static str,
    /// How many runs there were to make.
    pub planned: u64,
    /// How many were made.
    pub made: u64,
}

/// What an exploration came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplorationReport {
    /// Its parts, in order.
    pub stages: Vec<Stage>,
    /// How often each point was reached, over all runs.
    pub reached: BTreeMap<Point, u64>,
    /// How often each action struck at each point, over all runs.
    pub struck: BTreeMap<(Point, Action), u64>,
    /// The number of processes that were started.
    pub processes: u64,
    /// How many of them were ended by a crash.
    pub crashes: u64,
    /// How many were ended by a failure that faults are the cause of.
    pub failures: u64,
    /// The number of checkpoints that were completed.
    pub completed: u64,
    /// The number of events.
    pub events: u64,
    /// Whether the time was over before all runs were made.
    pub is_out_of_time: bool,
}

impl ExplorationReport {
    /// The number of runs.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.stages.iter().map(|stage| stage.made).sum()
    }

    /// The points that no run came past: what was not tested. The protocol does not come past some of them in every job; a job without a keyed state reads no blobs.
    #[must_use]
    pub fn never_reached(&self) -> Vec<Point> {
        Point::ALL.iter().copied().filter(|point| !self.reached.contains_key(point)).collect()
    }

    /// The actions that a point allows and that never struck there, of points that were reached.
    #[must_use]
    pub fn never_struck(&self) -> Vec<(Point, Action)> {
        let reached = self.reached.keys();
        let all = reached.flat_map(|point| point.actions().iter().map(|action| (*point, action)));
        all.filter(|pair| !self.struck.contains_key(pair)).collect()
    }

    /// Adds the runs of another one, but for its parts.
    pub(super) fn merge(&mut self, other: &ExplorationReport) {
        for (point, hits) in &other.reached {
            *self.reached.entry(*point).or_default() += hits;
        }
        for (pair, times) in &other.struck {
            *self.struck.entry(*pair).or_default() += times;
        }
        self.processes += other.processes;
        self.crashes += other.crashes;
        self.failures += other.failures;
        self.completed += other.completed;
        self.events += other.events;
        self.is_out_of_time |= other.is_out_of_time;
    }

    pub(super) fn add(&mut self, report: &Report) {
        for (point, hits) in &report.reached {
            *self.reached.entry(*point).or_default() += hits;
        }
        for (pair, times) in &report.struck_at {
            *self.struck.entry(*pair).or_default() += times;
        }
        self.processes += u64::from(report.processes);
        self.crashes += u64::from(report.crashes);
        self.failures += u64::from(report.failures);
        self.completed += report.completed;
        self.events += report.events;
    }
}

impl fmt::Display for ExplorationReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExplorationReport { processes, crashes, failures, completed, events, .. } = self;
        writeln!(
            formatter,
            "{} runs: {processes} processes, {crashes} crashed, {failures} failed by faults; {completed} checkpoints, {events} events",
            self.runs()
        )?;
        for Stage { name, planned, made } in &self.stages {
            let of = if made == planned { String::new() } else { format!(" of {planned}") };
            writeln!(formatter, "  {name}: {made}{of}")?;
        }
        if self.is_out_of_time {
            writeln!(formatter, "the time was over before all runs were made")?;
        }
        writeln!(formatter, "{:24} {:>10}  struck", "point", "reached")?;
        for (point, reached) in &self.reached {
            let struck = point
                .actions()
                .iter()
                .map(|action| format!("{action} {}", self.struck.get(&(*point, action)).copied().unwrap_or(0)));
            writeln!(formatter, "{:24} {reached:>10}  {}", point.name(), struck.collect::<Vec<_>>().join(", "))?;
        }
        let names: Vec<&str> = self.never_reached().into_iter().map(Point::name).collect();
        if names.is_empty() {
            writeln!(formatter, "every point was reached")
        } else {
            writeln!(formatter, "never reached, so not tested: {}", names.join(", "))
        }
    }
}
