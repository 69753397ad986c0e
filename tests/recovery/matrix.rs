//! The settings with which the same bodies are run: how barriers travel, what a snapshot holds, and at which parallelism a job goes on.

use std::fmt;

use alluvium::testing::faults::Point;

use crate::seed::Seed;

/// How the checkpoints of a job are taken, and whether it goes on at other parallelisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// As it is if nobody says anything.
    Usual,
    /// Barriers overtake from the beginning.
    Overtaking,
    /// Barriers begin to overtake in the middle of the alignment.
    Switching,
    /// A snapshot holds what has changed, and a chain is folded soon.
    Incremental,
    /// As incremental, with local copies, in memory and in files.
    LocalCopies,
    /// Each start has another parallelism, and changes from full snapshots to increments, from aligned barriers to such that overtake, and back.
    Rescaled,
}

/// What one start of a job is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) arguments: &'static [&'static str],
    /// If it is not the one that the job has.
    pub(crate) parallelism: Option<u32>,
}

impl Chosen {
    pub(crate) const USUAL: Chosen = Chosen { arguments: NONE, parallelism: None };

    /// The parallelism of a job that has this one if nothing else was chosen.
    pub(crate) fn parallelism(self, usual: u32) -> u32 {
        self.parallelism.unwrap_or(usual)
    }
}

const NONE: &[&str] = &[];
const OVERTAKING: &[&str] = &["--unaligned"];
const SWITCHING: &[&str] = &["--unaligned", "--aligned-checkpoint-timeout", "2ms"];
const INCREMENTAL: &[&str] = &["--incremental", "--max-increments", "2"];
const LOCAL_COPIES: &[&str] = &["--incremental", "--max-increments", "2", "--local-recovery"];

impl Setting {
    /// What the next start is told.
    pub(crate) fn choose(self, seed: &mut Seed) -> Chosen {
        let always = |arguments| Chosen { arguments, parallelism: None };
        match self {
            Setting::Usual => Chosen::USUAL,
            Setting::Overtaking => always(OVERTAKING),
            Setting::Switching => always(SWITCHING),
            Setting::Incremental => always(INCREMENTAL),
            Setting::LocalCopies => always(LOCAL_COPIES),
            Setting::Rescaled => Chosen {
                arguments: [NONE, INCREMENTAL, OVERTAKING, SWITCHING][seed.within(0..4) as usize],
                parallelism: Some(seed.within(1..5) as u32),
            },
        }
    }

    /// Whether a job with several channels reaches a point with it, always.
    pub(crate) fn reaches(self, point: Point) -> bool {
        match point {
            Point::CaptureEnds => self == Setting::Overtaking,
            Point::LocalWrite | Point::LocalRead => self == Setting::LocalCopies,
            _ => true,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Setting::Usual => "usual",
            Setting::Overtaking => "overtaking",
            Setting::Switching => "switching",
            Setting::Incremental => "incremental",
            Setting::LocalCopies => "local copies",
            Setting::Rescaled => "rescaled",
        })
    }
}
