//! What a job promises of the records on the way from each source to each sink, and why.
//!
//! Two things can happen to the effect of a record: it is lost, or it takes place again. A path promises what all its links let through: the source (can it
//! be read again?), the checkpoints (are barriers aligned, do they outlive the process?), the sink (does it commit, or repeat?). The graph knows the ends, the
//! options the middle; what only the graph decides is checked when the job is built, the rest when it is started.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Graph;
use super::builder::{Builder, End};
use super::error::BuildError;
use super::paths::{self, Path};
use super::print::one_line;
use crate::connect::sink::Guarantee;
use crate::connect::source::Replay;

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
}

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
    /// The facts of a run.
    #[must_use]
    pub const fn new(aligned: bool, interval_millis: Option<u64>, durable: bool) -> CheckpointBasis {
        CheckpointBasis { aligned, interval_millis, durable }
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

/// What a report needs to know of a path, whatever the options.
#[derive(Clone, Debug)]
pub(super) struct PathFacts {
    source: String,
    sink: String,
    operators: Vec<String>,
    replay: Replay,
    sink_kind: &'static str,
    sink_guarantee: Guarantee,
    required: Option<Guarantee>,
    /// The chains on the path that take records of several channels, with their number.
    wide: Vec<(String, u32)>,
    /// The first exchange on the path by which a repeated record may go another way.
    scattering: Option<(String, &'static str)>,
}

impl PathFacts {
    /// The facts of a path, but for those that only a plan knows.
    fn new(builder: &Builder, path: &Path) -> PathFacts {
        let operator = |index: usize| &builder.operators[index];
        let name =
            |index: usize| operator(index).uid.as_ref().map_or_else(|| operator(index).label(), ToString::to_string);
        let (source, sink) = (operator(path.source), operator(path.sink));
        let replay = match &source.end {
            End::Source { replay, .. } => *replay,
            End::Inner | End::Sink { .. } => Replay::FromStoredPosition,
        };
        let sink_guarantee = match &sink.end {
            End::Sink { guarantee, .. } => *guarantee,
            End::Inner | End::Source { .. } => Guarantee::ExactlyOnce,
        };
        let scattering = path.operators.iter().find_map(|index| {
            let upstreams = operator(*index).inputs.iter().flat_map(|input| &input.upstreams);
            let mut on_path = upstreams.filter(|upstream| path.operators.contains(&upstream.operator));
            let scattering = on_path.find(|upstream| upstream.exchange.scatters())?;
            Some((operator(*index).label(), scattering.exchange.name()))
        });
        PathFacts {
            source: name(path.source),
            sink: name(path.sink),
            operators: path.operators.iter().map(|index| operator(*index).display_name().to_owned()).collect(),
            replay,
            sink_kind: sink.kind,
            sink_guarantee,
            required: sink.required,
            wide: Vec::new(),
            scattering,
        }
    }

    fn report(&self, checkpoints: Option<CheckpointBasis>) -> PathGuarantee {
        let mut links = vec![self.source_link()];
        links.extend(checkpoints.into_iter().flat_map(|basis| self.checkpoint_links(basis)));
        links.push(self.sink_link());
        let guarantee = links.iter().fold(Guarantee::ExactlyOnce, |held, link| held.and(link.guarantee));
        let mut notes = Vec::new();
        if guarantee.repeats()
            && let Some((operator, exchange)) = &self.scattering
        {
            notes.push(format!(
                "what is repeated may come to another subtask of {operator} than before, by `{exchange}`, and in another order"
            ));
        }
        PathGuarantee {
            source: self.source.clone(),
            sink: self.sink.clone(),
            operators: self.operators.clone(),
            guarantee,
            required: self.required,
            links,
            notes,
        }
    }

    fn source_link(&self) -> GuaranteeLink {
        let (guarantee, reason, mend) = match self.replay {
            Replay::FromStoredPosition => {
                (Guarantee::ExactlyOnce, "is read again from the position in the checkpoint", None)
            }
            Replay::Never => (
                Guarantee::AtMostOnce,
                "cannot be read again: what came since the last checkpoint is lost with a failure",
                Some("read from what keeps its records, such as files or a log"),
            ),
            Replay::ByTheProgram => (
                Guarantee::AtMostOnce,
                "cannot be read again: what came since the last checkpoint is lost with a failure, unless the program pushes it again",
                Some(
                    "wait for the receipt of each push and repeat those that fail: then every record counts at least once",
                ),
            ),
        };
        link(&self.source, guarantee, reason, mend)
    }

    fn sink_link(&self) -> GuaranteeLink {
        let (reason, mend) = match self.sink_guarantee {
            Guarantee::ExactlyOnce => ("commits what a checkpoint prepared when that checkpoint is complete", None),
            Guarantee::AtLeastOnce => (
                "lets records take effect again that are replayed after a failure",
                Some("use a sink with transactions, such as `Lines::exactly_once`"),
            ),
            Guarantee::AtMostOnce => ("may lose records", Some("use a sink that loses none")),
            Guarantee::BestEffort => ("may lose records and repeat others", Some("use a sink with transactions")),
        };
        let subject =
            if self.sink_kind == "sink" { self.sink.clone() } else { format!("{} ({})", self.sink, self.sink_kind) };
        link(&subject, self.sink_guarantee, reason, mend)
    }

    fn checkpoint_links(&self, basis: CheckpointBasis) -> Vec<GuaranteeLink> {
        let mut links = Vec::new();
        let rhythm = match basis.interval_millis {
            Some(millis) => format!("are taken every {millis} ms"),
            None => "are not taken periodically, only the final one: a failure repeats everything since the start"
                .to_owned(),
        };
        if basis.aligned {
            let reason = format!("{rhythm}, with aligned barriers");
            links.push(link("checkpoints", Guarantee::ExactlyOnce, &reason, None));
        } else if self.wide.is_empty() {
            let reason =
                format!("{rhythm}, in at-least-once mode; but nothing on this path has several channels to align");
            links.push(link("checkpoints", Guarantee::ExactlyOnce, &reason, None));
        } else {
            for (chain, channels) in &self.wide {
                let reason = format!(
                    "takes records of {channels} channels without aligning them, since checkpoints, which {rhythm}, are in at-least-once mode"
                );
                let mend = "use `CheckpointMode::ExactlyOnce`";
                links.push(link(chain, Guarantee::AtLeastOnce, &reason, Some(mend)));
            }
        }
        if !basis.durable {
            links.push(link(
                "the store",
                Guarantee::AtLeastOnce,
                "is in memory and ends with the process: another process begins again at the start",
                Some("give a directory by `Options::store`"),
            ));
        }
        links
    }
}

fn link(subject: &str, guarantee: Guarantee, reason: &str, mend: Option<&str>) -> GuaranteeLink {
    GuaranteeLink {
        subject: subject.to_owned(),
        guarantee,
        reason: reason.to_owned(),
        mend: mend.map(ToOwned::to_owned),
    }
}

/// The facts of all paths of a job. `wide` tells the chain of an operator and its number of channels, where it has several.
pub(super) fn facts(builder: &Builder, wide: impl Fn(usize) -> Option<(String, u32)>) -> Vec<PathFacts> {
    paths::all(&builder.operators)
        .iter()
        .map(|path| {
            let mut facts = PathFacts::new(builder, path);
            facts.wide = path.operators.iter().filter_map(|index| wide(*index)).collect();
            facts.wide.dedup();
            facts
        })
        .collect()
}

/// The declared guarantees that hold under no options.
pub(super) fn check(builder: &Builder) -> Vec<BuildError> {
    let facts = facts(builder, |_| None);
    facts.iter().filter_map(|path| path.report(None).unmet()).map(BuildError::GuaranteeNotHeld).collect()
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
        let paths = self.planned.paths.iter().map(|facts| facts.report(checkpoints)).collect();
        GuaranteeReport { job: self.name().to_owned(), checkpoints, paths }
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
        Ok(())
    }
}
