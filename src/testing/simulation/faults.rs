//! What goes wrong in a run, and the text of a run.

use std::fmt;
use std::str::FromStr;

use super::Simulation;
use super::schedule::{ParseScheduleError, Schedule};
use crate::fault::{FaultPlan, ParseFaultError};

/// What goes wrong in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Faults {
    /// Nothing.
    None,
    /// One crash, directly before the event of this number; the first event has number 1.
    CrashAtEvent(u64),
    /// One crash, directly before the change of the disk that has this number; the first one has number 1.
    CrashAtEffect(u64),
    /// What the seed decides: several crashes, faults of the disk and, for every second seed, faults at named points; then nothing, for a job has to come to its end.
    Random,
    /// Faults at named points.
    Points(FaultPlan),
    /// What a schedule says, and nothing else.
    Exactly(Schedule),
}

/// Who decides what runs next, and how long things take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The seed.
    #[default]
    Seed,
    /// Nobody: everything has its turn, one after the other, takes everything that waits for it, and takes the same time.
    Plain,
}

/// The text is not that of a [`Simulation`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSimulationError {
    /// It has not the form of one.
    #[error(
        "`{0}` is not a simulation: give a seed, or seed/none, seed/event/number, seed/effect/number, seed/points/faults or seed/exactly/schedule; with seed/plain/... for the plain order"
    )]
    Form(String),
    /// Its faults cannot be read.
    #[error("in `{text}`: {error}")]
    Faults {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: ParseFaultError,
    },
    /// Its schedule cannot be read.
    #[error("in `{text}`: {error}")]
    Schedule {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: ParseScheduleError,
    },
}

impl fmt::Display for Simulation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.seed)?;
        if self.order == Order::Plain {
            formatter.write_str("/plain")?;
        }
        match &self.faults {
            Faults::Random => Ok(()),
            Faults::None => formatter.write_str("/none"),
            Faults::CrashAtEvent(number) => write!(formatter, "/event/{number}"),
            Faults::CrashAtEffect(number) => write!(formatter, "/effect/{number}"),
            Faults::Points(plan) => write!(formatter, "/points/{plan}"),
            Faults::Exactly(schedule) => write!(formatter, "/exactly/{schedule}"),
        }
    }
}

impl FromStr for Simulation {
    type Err = ParseSimulationError;

    fn from_str(text: &str) -> Result<Simulation, ParseSimulationError> {
        let form = || ParseSimulationError::Form(text.to_owned());
        let (seed, rest) = text.split_once('/').map_or((text, None), |(seed, rest)| (seed, Some(rest)));
        let seed = seed.parse().map_err(|_| form())?;
        let (order, rest) = match rest {
            Some("plain") => (Order::Plain, None),
            Some(rest) => match rest.strip_prefix("plain/") {
                Some(rest) => (Order::Plain, Some(rest)),
                None => (Order::Seed, Some(rest)),
            },
            None => (Order::Seed, None),
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| form());
        let faults = match rest.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            None => Faults::Random,
            Some(("none", "")) => Faults::None,
            Some(("event", at)) => Faults::CrashAtEvent(number(at)?),
            Some(("effect", at)) => Faults::CrashAtEffect(number(at)?),
            Some(("points", plan)) => Faults::Points(
                plan.parse().map_err(|error| ParseSimulationError::Faults { text: text.to_owned(), error })?,
            ),
            Some(("exactly", schedule)) => Faults::Exactly(
                schedule.parse().map_err(|error| ParseSimulationError::Schedule { text: text.to_owned(), error })?,
            ),
            Some(_) => return Err(form()),
        };
        Ok(Simulation::new(seed).with(faults).in_order(order))
    }
}
