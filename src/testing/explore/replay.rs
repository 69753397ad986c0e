//! Runs every schedule file of a directory: what failed once must not fail again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::file::{EXTENSION, ScheduleFile, ScheduleFileError};
use super::{Play, first_line};
use crate::testing::job_test::JobTest;
use crate::testing::simulation::{Report, Scenario, Simulation, Trouble};

/// The schedule files of a directory, and the scenarios that they are about.
///
/// ```
/// use alluvium::Job;
/// use alluvium::testing::JobTest;
/// use alluvium::testing::explore::Replay;
///
/// let billing = JobTest::new(|run| {
///     let orders = run.records("orders", 20, |index| index);
///     let bills = run.ledger("bills");
///     run.job(move |_| {
///         let job = Job::new("billing");
///         job.source("orders", orders.clone()).sink("bills", bills.clone());
///         job.build()
///     });
/// });
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let replayed = Replay::of(directory).job("billing", &billing).run(); // Of("tests/schedules") as a rule.
/// assert_eq!(replayed.files, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Replay<'a> {
    directory: PathBuf,
    scenarios: BTreeMap<String, Box<Play<'a>>>,
}

impl fmt::Debug for Replay<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Replay({})", self.directory.display())
    }
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// How many files were run.
    pub files: u64,
}

/// Why a replay fails: what is wrong with each file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The directory cannot be listed.
    #[error("the schedule files in {directory} cannot be listed: {error}; a relative directory is looked for where `cargo test` runs, in that of the package", directory = .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file cannot be read.
    #[error("the schedule file {path} cannot be read: {error}; give this user the right to read it, or remove it if it is no schedule", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file cannot be used.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: ScheduleFileError,
    },
    /// The run goes well, and something that should have gone wrong in it did not.
    #[error(
        "{path}: the run went well, and tested less than it was to: never struck: {faults}; since it was saved the job has changed, so that it does not come past there any more: remove these lines if what is left is still the case, or find the failure again (when it was saved it said: {reason})",
        path = .path.display(), faults = .faults.join("; ")
    )]
    NeverStruck {
        /// The file.
        path: PathBuf,
        /// The faults that did not strike, as text.
        faults: Vec<String>,
        /// What it said when it was saved.
        reason: String,
    },
    /// No scenario has the name.
    #[error("{path}: there is no scenario `{name}`; known are {known}: was it renamed?", path = .path.display())]
    UnknownScenario {
        /// The file.
        path: PathBuf,
        /// The name in the file.
        name: String,
        /// The names that were given.
        known: String,
    },
    /// A run fails, as it did when it was saved or in another way.
    #[error("{path}: {trouble}\nwhen it was saved it said: {reason}", path = .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What it said when it was saved.
        reason: String,
        /// What is wrong.
        trouble: Box<Trouble>,
    },
}

impl<'a> Replay<'a> {
    /// The files with the extension `schedule` in this directory. A relative one is looked for where `cargo test` runs: in the directory of the package.
    #[must_use]
    pub fn of(directory: impl Into<PathBuf>) -> Replay<'a> {
        Replay { directory: directory.into(), scenarios: BTreeMap::new() }
    }

    /// Files with this scenario are about this test.
    #[must_use]
    pub fn job(self, name: impl Into<String>, test: &'a JobTest<'a>) -> Replay<'a> {
        self.playing(name, move |simulation| test.try_run(simulation))
    }

    /// Files with this scenario are about this one, which is built anew for each run.
    #[must_use]
    pub fn scenario<S: Scenario>(self, name: impl Into<String>, build: impl Fn() -> S + Sync + 'a) -> Replay<'a> {
        self.playing(name, move |simulation| simulation.run_twice(&build))
    }

    /// Files with this scenario are run by `play`.
    #[must_use]
    pub fn playing(
        mut self,
        name: impl Into<String>,
        play: impl Fn(&Simulation) -> Result<Report, Trouble> + Sync + 'a,
    ) -> Replay<'a> {
        self.scenarios.insert(name.into(), Box::new(play));
        self
    }

    /// Runs every file.
    ///
    /// # Panics
    /// When a file cannot be used, its run fails, or a fault of it strikes nothing: then the file tests nothing any more.
    pub fn run(&self) -> Replayed {
        self.try_run().unwrap_or_else(|errors| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!(
                "{} of the schedule files in {} fail:\n{}",
                errors.len(),
                self.directory.display(),
                texts.join("\n\n")
            )
        })
    }

    /// Runs every file.
    ///
    /// # Errors
    /// What is wrong with each file that fails, in the order of their names.
    pub fn try_run(&self) -> Result<Replayed, Vec<ReplayError>> {
        let paths = self.paths().map_err(|error| vec![error])?;
        let errors: Vec<ReplayError> = paths.iter().filter_map(|path| self.replay(path).err()).collect();
        if errors.is_empty() { Ok(Replayed { files: paths.len() as u64 }) } else { Err(errors) }
    }

    fn paths(&self) -> Result<Vec<PathBuf>, ReplayError> {
        let failed = |error| ReplayError::Directory { directory: self.directory.clone(), error };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn replay(&self, path: &Path) -> Result<(), ReplayError> {
        let path = || path.to_owned();
        let file = ScheduleFile::read(&path()).map_err(|error| match error {
            ScheduleFileError::Io { error, .. } => ReplayError::Unreadable { path: path(), error },
            error => ReplayError::File { path: path(), error },
        })?;
        let play = self.scenarios.get(&file.scenario).ok_or_else(|| {
            let known: Vec<String> = self.scenarios.keys().map(|name| format!("`{name}`")).collect();
            ReplayError::UnknownScenario { path: path(), name: file.scenario.clone(), known: known.join(", ") }
        })?;
        let reason = first_line(&file.reason);
        match play(&file.simulation()) {
            Ok(Report { mut unstruck, .. }) => {
                unstruck.retain(|fault| has_to_strike(fault));
                if unstruck.is_empty() {
                    Ok(())
                } else {
                    Err(ReplayError::NeverStruck { path: path(), faults: unstruck, reason })
                }
            }
            Err(trouble) => Err(ReplayError::Failed { path: path(), reason, trouble: Box::new(trouble) }),
        }
    }
}

/// Whether a fault that was saved strikes where nothing has changed. One with a probability may not: it is saved for the numbers that are drawn for it, which decide about others.
fn has_to_strike(fault: &str) -> bool {
    !fault.contains("probability=")
}
