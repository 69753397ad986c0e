//! What a job promises of the records on the way from each source to each sink, and why.
//!
//! Two things can happen to the effect of a record: it is lost, or it takes place again. A path promises what all its links let through: the source (can it
//! be read again?), the checkpoints (are barriers aligned, do they outlive the process?), the sink (does it commit, or repeat?). The graph knows the ends, the
//! options the middle; what only the graph decides is checked when the job is built, the rest when it is started. Here is what a report consists of;
//! `promises.rs` judges.

use std::fmt;

use alluvium_actors::ids::OperatorUid;
use serde::{Deserialize, Serialize};

use super::Graph;
use super::print::one_line;
use crate::connect::sink::Guarantee;

/// What a job promises, path by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuaranteeReport {
    /// The job's name.
    pub job: String,
    /// How checkpoints are taken; `None` when the report is of the graph alone: then it says what holds under the best options.
    pub checkpoints: Option<CheckpointBasis>,
    /// One for each source and each sink that its records reach.
    pub paths: Vec<PathGuarantee>,
    /// How many more paths there are: only the description of a graph leaves some out, see [`LISTED_PATHS`].
    #[serde(default)]
    pub left_out: usize,
}

/// So many paths the description of a graph lists, and with it its text and its JSON: a job has up to as many as its sources times its sinks.
/// [`Graph::guarantees`] lists all of them.
pub const LISTED_PATHS: usize = 1_000;

/// What a guarantee depends on in the options of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointBasis {
    /// Whether barriers are aligned: the mode exactly-once. Without it, records of one channel overtake the barrier of another.
    pub aligned: bool,
    /// The time from one periodic checkpoint to the next in milliseconds, if there are periodic checkpoints.
    pub interval_millis: Option<u64>,
    /// Whether checkpoints outlive the process.
    pub durable: bool,
    /// Whether a start may pass over a damaged checkpoint although that repeats output that was committed: both
    /// [`Options::fall_back_to_older`](crate::Options::fall_back_to_older) and [`Options::accept_repeats`](crate::Options::accept_repeats).
    #[serde(default)]
    pub accepts_repeats: bool,
}

/// What is promised of the records on the way from one source to one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PathGuarantee {
    /// The uid of the source.
    pub source: String,
    /// The uid of the sink.
    pub sink: String,
    /// The operators on any way from the one to the other, both included, in the order of the job.
    pub operators: Vec<String>,
    /// What holds.
    pub guarantee: Guarantee,
    /// What was declared for the sink or for the job.
    pub required: Option<Guarantee>,
    /// Why: what each part of the path lets through.
    pub links: Vec<GuaranteeLink>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// One part of a path, and what it lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuaranteeLink {
    /// The operator, or the part of the options.
    pub subject: String,
    /// What it lets through at best.
    pub guarantee: Guarantee,
    /// Why.
    pub reason: String,
    /// What would make it better.
    pub mend: Option<String>,
}

/// A declared guarantee that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path}: {required} is declared, but what holds is {held}: {weakest} {reason}; {mend}, or declare no more than {held}"
)]
#[non_exhaustive]
pub struct GuaranteeNotHeld {
    /// Source and sink, `source -> sink`.
    pub path: String,
    /// What was declared.
    pub required: Guarantee,
    /// What holds.
    pub held: Guarantee,
    /// The first link of the path that does not let the declared guarantee through.
    pub weakest: String,
    /// Why it does not.
    pub reason: String,
    /// What would mend it.
    pub mend: String,
}

impl GuaranteeReport {
    /// Every declared guarantee that does not hold.
    #[must_use]
    pub fn unmet(&self) -> Vec<GuaranteeNotHeld> {
        self.paths.iter().filter_map(PathGuarantee::unmet).collect()
    }
}

impl CheckpointBasis {
    /// The facts of a run that accepts no repeats.
    #[must_use]
    pub const fn new(aligned: bool, interval_millis: Option<u64>, durable: bool) -> CheckpointBasis {
        CheckpointBasis { aligned, interval_millis, durable, accepts_repeats: false }
    }

    /// The same, and whether a start may repeat output that was committed.
    #[must_use]
    pub const fn accepting_repeats(mut self, accepts_repeats: bool) -> CheckpointBasis {
        self.accepts_repeats = accepts_repeats;
        self
    }
}

impl PathGuarantee {
    /// The declared guarantee, if it does not hold.
    #[must_use]
    pub fn unmet(&self) -> Option<GuaranteeNotHeld> {
        let required = self.required.filter(|required| !self.guarantee.includes(*required))?;
        let weakest = self.links.iter().find(|link| !link.guarantee.includes(required))?;
        Some(GuaranteeNotHeld {
            path: format!("{} -> {}", self.source, self.sink),
            required,
            held: self.guarantee,
            weakest: weakest.subject.clone(),
            reason: weakest.reason.clone(),
            mend: weakest.mend.clone().unwrap_or_else(|| "use another one".to_owned()),
        })
    }
}

impl Graph {
    /// What the job promises on each path from a source to a sink: under the best options, if `checkpoints` is `None`, or with checkpoints as given.
    /// [`Graph::guarantees_with`] takes them from options.
    ///
    /// ```
    /// use alluvium::Job;
    /// use alluvium::connect::sink::Guarantee;
    /// use alluvium::connect::{Collect, Generator};
    ///
    /// let job = Job::new("numbers");
    /// let numbers = job.source("numbers", Generator::bounded(10, |index| index));
    /// numbers.sink("collected", Collect::new()).requires(Guarantee::ExactlyOnce);
    /// numbers.for_each("printed", |number| println!("{number}"));
    /// let report = job.build()?.guarantees(None);
    /// assert_eq!(report.paths[0].guarantee, Guarantee::ExactlyOnce);
    /// assert_eq!(report.paths[1].guarantee, Guarantee::AtLeastOnce);
    /// println!("{report}");
    /// # Ok::<(), alluvium::BuildErrors>(())
    /// ```
    #[must_use]
    pub fn guarantees(&self, checkpoints: Option<CheckpointBasis>) -> GuaranteeReport {
        self.first_guarantees(checkpoints, usize::MAX)
    }

    /// What it promises on the first `most` paths.
    pub(super) fn first_guarantees(&self, checkpoints: Option<CheckpointBasis>, most: usize) -> GuaranteeReport {
        let promises = &self.planned.promises;
        let paths = promises.report(checkpoints, most);
        let left_out = promises.count().saturating_sub(paths.len());
        GuaranteeReport { job: self.name().to_owned(), checkpoints, paths, left_out }
    }

    /// As [`GuaranteeReport::unmet`] of [`Graph::guarantees`], without the rest of the report.
    pub(crate) fn unmet_guarantees(&self, checkpoints: CheckpointBasis) -> Vec<GuaranteeNotHeld> {
        self.planned.promises.unmet(Some(checkpoints))
    }

    /// The sinks that promise exactly once and get records that were counted again, because the checkpoints do not align what comes to them.
    pub(crate) fn sinks_behind_unaligned(&self, checkpoints: CheckpointBasis) -> Vec<OperatorUid> {
        self.planned.promises.sinks_behind_unaligned(checkpoints).map(|sink| self.planned.layout.uid(sink)).collect()
    }
}

impl fmt::Display for GuaranteeReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let basis = if self.checkpoints.is_some() { "" } else { " (under the best options)" };
        writeln!(formatter, "guarantees of {}{basis}", one_line(&self.job))?;
        for path in &self.paths {
            write!(formatter, "  {} -> {}: {}", one_line(&path.source), one_line(&path.sink), path.guarantee)?;
            match path.required {
                None => writeln!(formatter)?,
                Some(required) if path.guarantee.includes(required) => writeln!(formatter, ", as declared")?,
                Some(required) => writeln!(formatter, ", NOT {required} as declared")?,
            }
            for link in &path.links {
                writeln!(formatter, "    {}: {} {}", link.guarantee, one_line(&link.subject), link.reason)?;
            }
            for note in &path.notes {
                writeln!(formatter, "    note: {}", one_line(note))?;
            }
        }
        if self.left_out > 0 {
            writeln!(formatter, "  and {} more paths: `Graph::guarantees` lists all of them", self.left_out)?;
        }
        Ok(())
    }
}
