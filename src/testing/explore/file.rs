//! A failing schedule as a small text file, which runs as a regression test for ever. The format is in `docs/formats.md`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::testing::simulation::{Faults, Order, ParseScheduleError, Schedule, Simulation};

/// The version of the format.
const VERSION: u32 = 1;

/// What a file begins with.
const HEADER: &str = "alluvium schedule";

/// How the names of schedule files end.
pub const EXTENSION: &str = "schedule";

/// One run that once failed: what a schedule file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleFile {
    /// The name of the scenario.
    pub scenario: String,
    /// What was wrong, in one line.
    pub reason: String,
    /// The command that repeats the run outside of the file, if one is known.
    pub repeat: Option<String>,
    /// The seed.
    pub seed: u64,
    /// Who decides what runs next.
    pub order: Order,
    /// What goes wrong.
    pub schedule: Schedule,
}

/// A schedule file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleFileError {
    /// It cannot be read or written.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It does not begin like a schedule file.
    #[error("this is not a schedule file: its first line reads `alluvium schedule {VERSION}`")]
    NoHeader,
    /// It was written by another version.
    #[error(
        "this is a schedule file of version {found}, and this build reads version {VERSION}: find the failure again with this build, or run it with the one that wrote it"
    )]
    Version {
        /// The version.
        found: String,
    },
    /// A line is missing.
    #[error("the line `{0}: ...` is missing")]
    Missing(&'static str),
    /// A line cannot be understood.
    #[error("line {line}, `{text}`: {reason}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A fault cannot be read.
    #[error("line {line}: {error}")]
    Fault {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        error: ParseScheduleError,
    },
}

impl ScheduleFile {
    /// The run that it describes.
    #[must_use]
    pub fn simulation(&self) -> Simulation {
        Simulation::new(self.seed).in_order(self.order).with(Faults::Exactly(self.schedule.clone()))
    }

    /// Its text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
        let mut text =
            format!("{HEADER} {VERSION}\nscenario: {}\nreason: {}\n", line(&self.scenario), line(&self.reason));
        if let Some(repeat) = &self.repeat {
            let _ = writeln!(text, "repeat: {}", line(repeat));
        }
        let order = match self.order {
            Order::Seed => "seed",
            Order::Plain => "plain",
        };
        let _ = writeln!(text, "seed: {}\norder: {order}\nfaults:", self.seed);
        for fault in self.schedule.faults() {
            let _ = writeln!(text, "{fault}");
        }
        text
    }

    /// Reads the text of one. Empty lines, and lines that begin with `#`, say nothing.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<ScheduleFile, ScheduleFileError> {
        let mut lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
        let mut lines = lines.by_ref().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let (_, header) = lines.next().ok_or(ScheduleFileError::NoHeader)?;
        let version = header.strip_prefix(HEADER).ok_or(ScheduleFileError::NoHeader)?.trim();
        if version != VERSION.to_string() {
            return Err(ScheduleFileError::Version { found: version.to_owned() });
        }
        let (mut scenario, mut reason, mut repeat, mut seed, mut order) = (None, None, None, None, None);
        let mut faults = None;
        for (line, text) in lines {
            let wrong =
                |reason: &str| ScheduleFileError::Line { line, text: text.to_owned(), reason: reason.to_owned() };
            if let Some(faults) = &mut faults {
                let fault = text.parse().map_err(|error| ScheduleFileError::Fault { line, error })?;
                Vec::push(faults, fault);
                continue;
            }
            let (name, value) =
                text.split_once(':').ok_or_else(|| wrong("a line before the faults reads `name: value`"))?;
            let value = value.trim();
            match name {
                "scenario" => scenario = Some(value.to_owned()),
                "reason" => reason = Some(value.to_owned()),
                "repeat" => repeat = Some(value.to_owned()),
                "seed" => seed = Some(value.parse().map_err(|_| wrong("a seed is a whole number"))?),
                "order" => {
                    order = Some(match value {
                        "seed" => Order::Seed,
                        "plain" => Order::Plain,
                        _ => return Err(wrong("the order is `seed` or `plain`")),
                    });
                }
                "faults" if value.is_empty() => faults = Some(Vec::new()),
                _ => return Err(wrong("known are scenario, reason, repeat, seed, order and, at last, faults")),
            }
        }
        Ok(ScheduleFile {
            scenario: scenario.ok_or(ScheduleFileError::Missing("scenario"))?,
            reason: reason.unwrap_or_default(),
            repeat,
            seed: seed.ok_or(ScheduleFileError::Missing("seed"))?,
            order: order.ok_or(ScheduleFileError::Missing("order"))?,
            schedule: Schedule::of(faults.ok_or(ScheduleFileError::Missing("faults"))?),
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or something is wrong with it.
    pub fn read(path: &Path) -> Result<ScheduleFile, ScheduleFileError> {
        let text = fs::read_to_string(path).map_err(|error| ScheduleFileError::Io { path: path.to_owned(), error })?;
        ScheduleFile::parse(&text)
    }

    /// Writes it into a directory, which is made if it is not there, under a name that its content decides: the same failure is saved once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, directory: &Path) -> Result<PathBuf, ScheduleFileError> {
        let text = self.to_text();
        let path = directory.join(self.file_name());
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, text));
        written.map_err(|error| ScheduleFileError::Io { path: path.clone(), error })?;
        Ok(path)
    }

    fn file_name(&self) -> String {
        let plain =
            |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' };
        let scenario: String = self.scenario.chars().map(plain).collect();
        // FNV-1a over what decides the run; the reason may be worded better later.
        let run = self.simulation().to_string();
        let hash = run
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        format!("{scenario}-{:08x}.{EXTENSION}", hash >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ScheduleFile {
        ScheduleFile {
            scenario: "second job".to_owned(),
            reason: "id 17 came out twice".to_owned(),
            repeat: Some("ALLUVIUM_SIMULATION_SEED='3/plain/...' cargo test second".to_owned()),
            seed: 3,
            order: Order::Plain,
            schedule: "event[process=1,hit=40]=crash(machine); acknowledge.sent[process=2]=drop".parse().unwrap(),
        }
    }

    #[test]
    fn a_file_is_read_back_as_it_was_written() {
        let file = example();
        assert_eq!(ScheduleFile::parse(&file.to_text()).unwrap(), file);
        assert_eq!(
            file.to_text(),
            "alluvium schedule 1\nscenario: second job\nreason: id 17 came out twice\n\
             repeat: ALLUVIUM_SIMULATION_SEED='3/plain/...' cargo test second\nseed: 3\norder: plain\nfaults:\n\
             event[process=1,hit=40]=crash(machine)\nacknowledge.sent[process=2]=drop\n"
        );
        let commented = file.to_text().replace("faults:", "# found on a Friday\n\nfaults:");
        assert_eq!(ScheduleFile::parse(&commented).unwrap(), file);
    }

    #[test]
    fn the_same_failure_is_saved_once() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path().join("found");
        let path = example().save(&there).unwrap();
        let worded = ScheduleFile { reason: "worded better".to_owned(), ..example() };
        assert_eq!(worded.save(&there).unwrap(), path);
        let other = ScheduleFile { seed: 4, ..example() };
        assert_ne!(other.save(&there).unwrap(), path);
        assert_eq!(ScheduleFile::read(&path).unwrap(), worded);
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("second-job-"), "{path:?}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let text = example().to_text();
        for (text, says) in [
            (String::new(), "its first line reads `alluvium schedule 1`"),
            ("something else".to_owned(), "its first line reads `alluvium schedule 1`"),
            (text.replace("schedule 1", "schedule 2"), "of version 2, and this build reads version 1"),
            (text.replace("seed: 3\n", ""), "the line `seed: ...` is missing"),
            (text.replace("scenario: second job\n", ""), "the line `scenario: ...` is missing"),
            (text.replace("seed: 3", "seed: x"), "line 5, `seed: x`: a seed is a whole number"),
            (text.replace("order: plain", "order: fast"), "line 6, `order: fast`: the order is `seed` or `plain`"),
            (text.replace("order: plain", "speed: 1"), "known are scenario, reason"),
            (
                text.replace("acknowledge.sent", "acknowledge.lost"),
                "line 9: there is no fault point `acknowledge.lost`",
            ),
            (text.replace("hit=40", "hit=x"), "line 8: `event[process=1,hit=x]=crash(machine)` is not a fault"),
        ] {
            let error = ScheduleFile::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(says), "{text}\n{error}");
        }
    }
}
