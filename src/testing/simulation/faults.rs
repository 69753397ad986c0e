//! What goes wrong in a run, and when: decided by the seed before each process starts.

use std::fmt;
use std::str::FromStr;

use alluvium_actors::ports::files::FileOperation;

use super::Simulation;
use crate::fault::{End, FaultPlan, ParseFaultError};
use crate::testing::disk::{DiskFault, DiskRule, SimulatedDisk};
use crate::testing::random::Random;

/// What goes wrong in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Faults {
    /// Nothing.
    None,
    /// One crash, directly before the event of this number; the first event has number 1.
    CrashAtEvent(u64),
    /// One crash, directly before the change of the disk that has this number; the first one has number 1.
    CrashAtEffect(u64),
    /// Several crashes and faults of the disk, then none: a job has to come to its end.
    Random,
    /// Faults at named points.
    Points(FaultPlan),
}

/// The text is not that of a [`Simulation`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSimulationError {
    /// It has not the form of one.
    #[error(
        "`{0}` is not a simulation: give a seed, or seed/none, seed/event/number, seed/effect/number or seed/points/faults"
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
}

impl fmt::Display for Simulation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.faults {
            Faults::Random => write!(formatter, "{}", self.seed),
            Faults::None => write!(formatter, "{}/none", self.seed),
            Faults::CrashAtEvent(number) => write!(formatter, "{}/event/{number}", self.seed),
            Faults::CrashAtEffect(number) => write!(formatter, "{}/effect/{number}", self.seed),
            Faults::Points(plan) => write!(formatter, "{}/points/{plan}", self.seed),
        }
    }
}

impl FromStr for Simulation {
    type Err = ParseSimulationError;

    fn from_str(text: &str) -> Result<Simulation, ParseSimulationError> {
        let number = |text: &str| text.parse::<u64>().ok();
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        let parsed = match parts.as_slice() {
            [seed] => number(seed).map(|seed| (seed, Faults::Random)),
            [seed, "none"] => number(seed).map(|seed| (seed, Faults::None)),
            [seed, "event", at] => number(seed).zip(number(at)).map(|(seed, at)| (seed, Faults::CrashAtEvent(at))),
            [seed, "effect", at] => number(seed).zip(number(at)).map(|(seed, at)| (seed, Faults::CrashAtEffect(at))),
            [seed, "points", plan] => {
                let plan =
                    plan.parse().map_err(|error| ParseSimulationError::Faults { text: text.to_owned(), error })?;
                number(seed).map(|seed| (seed, Faults::Points(plan)))
            }
            _ => None,
        };
        let (seed, faults) = parsed.ok_or_else(|| ParseSimulationError::Form(text.to_owned()))?;
        Ok(Simulation::new(seed).with(faults))
    }
}

/// How far into a process its faults lie, at most: about as far as small jobs come.
const EFFECTS: u64 = 120;
const EVENTS: u64 = 1024;

/// After so many processes with faults, at most, nothing goes wrong any more.
const FAULTY_PROCESSES: u64 = 8;

/// The faults of a disk that a job has to live with.
const DISK_FAULTS: [DiskFault; 4] =
    [DiskFault::Error, DiskFault::ErrorAfterwards, DiskFault::FullDisk, DiskFault::FailedSync];

/// What may fail beside changes of the disk.
const READS: [FileOperation; 5] =
    [FileOperation::Open, FileOperation::Read, FileOperation::List, FileOperation::Metadata, FileOperation::Lock];

/// Carries out what goes wrong.
pub(super) struct Schedule {
    faults: Faults,
    random: Random,
    /// How many processes to come have random faults.
    faulty: u64,
    /// Before this event the current process crashes.
    crash_at: Option<u64>,
    /// Before this event an actor of the current process panics.
    panic_at: Option<u64>,
    /// Whether the disk of the current process fails: then the job may fail too.
    meddled: bool,
}

impl Schedule {
    pub(super) fn new(faults: Faults, mut random: Random) -> Schedule {
        let faulty = 1 + random.below(FAULTY_PROCESSES);
        Schedule { faults, random, faulty, crash_at: None, panic_at: None, meddled: false }
    }

    /// Plans what goes wrong in the process that starts now, after `events` events.
    pub(super) fn process_starts(&mut self, events: u64, disk: &SimulatedDisk) {
        self.crash_at = None;
        self.panic_at = None;
        self.meddled = false;
        match self.faults {
            Faults::None => {}
            Faults::Points(ref plan) => self.meddled = plan.disk_rules().iter().any(DiskRule::may_fail_a_job),
            Faults::CrashAtEvent(number) => self.crash_at = Some(number).filter(|number| *number > events),
            Faults::CrashAtEffect(number) => {
                if number > disk.effects() {
                    disk.fail_at_effect(number, DiskFault::PowerCut);
                }
            }
            Faults::Random => {
                if self.faulty > 0 {
                    self.faulty -= 1;
                    self.plan(events, disk);
                }
            }
        }
    }

    fn plan(&mut self, events: u64, disk: &SimulatedDisk) {
        if self.random.below(3) == 0 {
            self.meddled = true;
            for _ in 0..=self.random.below(2) {
                let fault = DISK_FAULTS[self.random.below(DISK_FAULTS.len() as u64) as usize];
                let effect = disk.effects() + 1 + self.random.below(EFFECTS);
                disk.fail_at_effect(effect, fault);
            }
        }
        if self.random.below(6) == 0 {
            self.meddled = true;
            let operation = READS[self.random.below(READS.len() as u64) as usize];
            disk.fail_at(operation, disk.count(operation) + self.soon(64), DiskFault::Error);
        }
        if self.random.below(6) == 0 {
            self.panic_at = Some(events + 1 + self.random.below(EVENTS));
        }
        match self.random.below(8) {
            // It comes to its end, or fails by a fault of the disk.
            0 => {}
            1..4 => {
                let effect = disk.effects() + 1 + self.random.below(EFFECTS);
                disk.fail_at_effect(effect, DiskFault::PowerCut);
            }
            4..6 => self.crash_at = Some(events + 1 + self.random.below(EVENTS)),
            _ => self.crash_at = Some(events + self.soon(EVENTS)),
        }
    }

    /// A number from 1 to about `most`, small ones as likely as large ones: many crashes come while a job starts.
    fn soon(&mut self, most: u64) -> u64 {
        let magnitude = self.random.below(u64::from(most.ilog2()) + 1);
        (1 << magnitude) + self.random.below(1 << magnitude)
    }

    /// Whether the process crashes before its next event, after `events` events.
    pub(super) fn crashes_before(&self, events: u64) -> bool {
        self.crash_at.is_some_and(|at| events + 1 >= at)
    }

    /// Whether an actor panics before the next event, after `events` events.
    pub(super) fn panics_before(&mut self, events: u64) -> bool {
        self.panic_at.take_if(|at| events + 1 >= *at).is_some()
    }

    /// Whether the job may fail: its disk does.
    pub(super) fn may_fail(&self) -> bool {
        self.meddled
    }

    /// Ends a process, of itself or by a crash, which may say what it takes along. Every handle of the disk that it had fails from now on. What a machine loses was not synced;
    /// what only a process loses is memory. True says that it was the machine.
    pub(super) fn process_ends(&mut self, disk: &SimulatedDisk, end: End) -> (SimulatedDisk, bool) {
        disk.clear_numbered_faults();
        let drawn = self.random.below(2) == 0;
        let machine = match end {
            End::Any => drawn,
            End::Process => false,
            End::Machine => true,
        };
        (if machine { disk.crash(self.random.next()) } else { disk.kill_process() }, machine)
    }
}
