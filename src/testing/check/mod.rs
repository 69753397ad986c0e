//! Checkers: what must be true of a job's outside and of its checkpoints, looked at while it runs and at its end, each in a file of its own.
//!
//! A checker belongs to one run. What it finds wrong is a sentence about the user's records; the story of the run follows it in the message of a failed test.

mod at_least_once;
mod checkpoint_records;
mod commits;
mod cut;
mod effects;
mod exactly_once;
mod ids;
mod lineage;
mod order;
mod orphans;
mod output;
mod progress;
mod sink_files;
mod store_files;

use std::fmt;
use std::path::Path;

use alluvium_actors::ids::Moment;

use super::simulation::{History, World};

pub use at_least_once::AtLeastOnce;
pub use checkpoint_records::{CheckpointRecords, Compared};
pub use commits::Commits;
pub use cut::CutConsistency;
pub use effects::{Effect, Effects, FileLines, Given};
pub use exactly_once::ExactlyOnce;
pub use ids::MonotoneIds;
pub use order::PerKeyOrder;
pub use orphans::orphans;
pub use output::Output;
pub use progress::Progress;
pub use sink_files::SinkFiles;
pub use store_files::StoreFiles;

/// What a checker may look at.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The disk, the state of the job, the time.
    pub world: &'a World<'a>,
    /// What the job has told.
    pub history: &'a History,
    /// The name of the job.
    pub job: &'a str,
    /// Where it keeps its checkpoints on the simulated disk; nothing if it keeps them in memory.
    pub store: Option<&'a Path>,
}

/// Something that must be true.
pub trait Check {
    /// The rule as a few words, for the message of a violation: "exactly once".
    fn rule(&self) -> &str;

    /// Looks while the job runs: after changes of the disk, and at least once a second.
    ///
    /// # Errors
    /// What is wrong: the run ends with it.
    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let _ = scene;
        Ok(())
    }

    /// Looks when the job has come to the end that ends the run: finished, or stopped for good.
    ///
    /// # Errors
    /// What is wrong: the run ends with it.
    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation>;
}

/// What a checker says at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Kept,
    /// Something is left over that the next start of the job removes. When nothing went wrong around the job, that is a violation; otherwise it is started once more.
    LeftOver(String),
}

/// What is wrong, in terms of the user's records.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// As a sentence.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Violation {
        Violation(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<String> for Violation {
    fn from(what: String) -> Violation {
        Violation(what)
    }
}

impl std::error::Error for Violation {}

/// A moment as the story shows it.
fn shown(moment: Moment) -> String {
    format!("{:.3} ms", moment.0 as f64 / 1e6)
}

/// The first few of many, as text.
fn few(texts: impl IntoIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let texts: Vec<String> = texts.into_iter().collect();
    let more = texts.len().saturating_sub(SHOWN);
    let shown = texts[..texts.len().min(SHOWN)].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
