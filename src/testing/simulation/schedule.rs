//! Everything that goes wrong in a run, named one by one: what a run by chance amounts to, and what a schedule file holds.
//!
//! ```text
//! fault    = point fault | event | effect | disk rule | end
//! event    = "event[process=" n ",hit=" n "]=" ( "crash" | "crash(process)" | "crash(machine)" | "panic" )
//! effect   = "effect[process=" n ",hit=" n "]=" disk fault
//! end      = "end[process=" n "]=machine"
//! ```
//!
//! The texts of point faults and of disk rules are those of [`Fault`](crate::testing::faults::Fault) and [`DiskRule`]. Events and effects are counted from the start of their process, so that
//! a fault keeps its place when one in another process is left out.

use std::fmt;
use std::str::FromStr;

use crate::fault::{DiskFault, DiskRule, End, Fault, FaultPlan, ParseDiskRuleError, ParseFaultError};

/// What happens directly before an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFault {
    /// The image of the process is gone.
    Crash(End),
    /// One of the actors panics outside of user code; the seed decides which.
    Panic,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScheduledFault {
    /// At a named point.
    Point(Fault),
    /// Directly before an event of a process; the first event of a process has number 1.
    Event {
        /// The process: 1, 2, ...
        process: u32,
        /// The event.
        event: u64,
        /// What happens.
        what: EventFault,
    },
    /// At a change of the disk; the first one that a process asks for has number 1.
    Effect {
        /// The process: 1, 2, ...
        process: u32,
        /// The change.
        effect: u64,
        /// What happens.
        fault: DiskFault,
    },
    /// At operations of the disk.
    Disk(DiskRule),
    /// When this process ends, by a crash or in order, the machine goes too: what was not synced may be lost or torn.
    End {
        /// The process: 1, 2, ...
        process: u32,
    },
}

impl ScheduledFault {
    /// The process in which it happens; none when that may be any.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        match self {
            ScheduledFault::Point(fault) => fault.only_in_process(),
            ScheduledFault::Event { process, .. }
            | ScheduledFault::Effect { process, .. }
            | ScheduledFault::End { process } => Some(*process),
            ScheduledFault::Disk(rule) => rule.only_in_process(),
        }
    }

    /// The same in another process.
    #[must_use]
    pub fn in_process(&self, number: u32) -> ScheduledFault {
        let mut moved = self.clone();
        match &mut moved {
            ScheduledFault::Point(fault) => *fault = fault.clone().process(number),
            ScheduledFault::Event { process, .. }
            | ScheduledFault::Effect { process, .. }
            | ScheduledFault::End { process } => *process = number,
            ScheduledFault::Disk(rule) => *rule = rule.clone().process(number),
        }
        moved
    }
}

/// What goes wrong in a run, one by one, and nothing else: a process takes along nothing but its memory where no fault says otherwise.
///
/// ```
/// use alluvium::testing::simulation::Schedule;
///
/// let text = "event[process=1,hit=40]=crash(machine); acknowledge.sent[process=2,hit=3]=drop; disk[operation=sync,process=2,hit=5]=failed-sync";
/// let schedule: Schedule = text.parse()?;
/// assert_eq!(schedule.faults().len(), 3);
/// assert_eq!(schedule.to_string(), text);
/// # Ok::<(), alluvium::testing::simulation::ParseScheduleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    faults: Vec<ScheduledFault>,
}

impl Schedule {
    /// These faults.
    #[must_use]
    pub fn of(faults: impl IntoIterator<Item = ScheduledFault>) -> Schedule {
        Schedule { faults: faults.into_iter().collect() }
    }

    /// The same without these; of several equal ones the last go.
    #[must_use]
    pub(super) fn without(mut self, faults: impl Iterator<Item = ScheduledFault>) -> Schedule {
        for fault in faults {
            if let Some(position) = self.faults.iter().rposition(|listed| *listed == fault) {
                self.faults.remove(position);
            }
        }
        self
    }

    /// The faults.
    #[must_use]
    pub fn faults(&self) -> &[ScheduledFault] {
        &self.faults
    }

    /// Those at points.
    #[must_use]
    pub fn points(&self) -> FaultPlan {
        FaultPlan::of(self.faults.iter().filter_map(|fault| match fault {
            ScheduledFault::Point(fault) => Some(fault.clone()),
            _ => None,
        }))
    }
}

impl From<FaultPlan> for Schedule {
    fn from(plan: FaultPlan) -> Schedule {
        let points = plan.faults().iter().cloned().map(ScheduledFault::Point);
        Schedule::of(points.chain(plan.disk_rules().iter().cloned().map(ScheduledFault::Disk)))
    }
}

impl fmt::Display for ScheduledFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScheduledFault::Point(fault) => write!(formatter, "{fault}"),
            ScheduledFault::Event { process, event, what } => {
                let what = match what {
                    EventFault::Crash(End::Any) => "crash",
                    EventFault::Crash(End::Process) => "crash(process)",
                    EventFault::Crash(End::Machine) => "crash(machine)",
                    EventFault::Panic => "panic",
                };
                write!(formatter, "event[process={process},hit={event}]={what}")
            }
            ScheduledFault::Effect { process, effect, fault } => {
                write!(formatter, "effect[process={process},hit={effect}]={fault}")
            }
            ScheduledFault::Disk(rule) => write!(formatter, "{rule}"),
            ScheduledFault::End { process } => write!(formatter, "end[process={process}]=machine"),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.faults.iter().enumerate() {
            let between = if position > 0 { "; " } else { "" };
            write!(formatter, "{between}{fault}")?;
        }
        Ok(())
    }
}

/// A text is not a schedule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseScheduleError {
    /// A fault at a point cannot be read.
    #[error(transparent)]
    Point(#[from] ParseFaultError),
    /// A fault of the disk cannot be read.
    #[error(transparent)]
    Disk(#[from] ParseDiskRuleError),
    /// Another fault cannot be read.
    #[error("`{text}` is not a fault of a schedule: write `{form}`")]
    Form {
        /// The text.
        text: String,
        /// How it reads.
        form: &'static str,
    },
}

/// The numbers `process` and, where it is there, `hit` between brackets, and what stands behind them.
fn numbers(text: &str) -> Option<(u32, Option<u64>, &str)> {
    let (filters, what) = text.strip_prefix('[')?.split_once("]=")?;
    let (mut process, mut hit) = (None, None);
    for filter in filters.split(',') {
        match filter.trim().split_once('=')? {
            ("process", number) => process = Some(number.parse().ok().filter(|number| *number > 0)?),
            ("hit", number) => hit = Some(number.parse().ok().filter(|number| *number > 0)?),
            _ => return None,
        }
    }
    Some((process?, hit, what))
}

fn event(rest: &str) -> Option<ScheduledFault> {
    let (process, event, what) = numbers(rest)?;
    let what = match what {
        "crash" => EventFault::Crash(End::Any),
        "crash(process)" => EventFault::Crash(End::Process),
        "crash(machine)" => EventFault::Crash(End::Machine),
        "panic" => EventFault::Panic,
        _ => return None,
    };
    Some(ScheduledFault::Event { process, event: event?, what })
}

impl FromStr for ScheduledFault {
    type Err = ParseScheduleError;

    fn from_str(text: &str) -> Result<ScheduledFault, ParseScheduleError> {
        let text = text.trim();
        let form = |form| ParseScheduleError::Form { text: text.to_owned(), form };
        let kind = text.split(['[', '=']).next().unwrap_or_default();
        let rest = &text[kind.len()..];
        Ok(match kind {
            "event" => event(rest).ok_or_else(|| form("event[process=1,hit=40]=crash(machine)"))?,
            "effect" => {
                let (process, effect, fault) =
                    numbers(rest).ok_or_else(|| form("effect[process=1,hit=40]=power-cut"))?;
                let effect = effect.ok_or_else(|| form("effect[process=1,hit=40]=power-cut"))?;
                ScheduledFault::Effect { process, effect, fault: fault.parse()? }
            }
            "end" => match numbers(rest) {
                Some((process, None, "machine")) => ScheduledFault::End { process },
                _ => return Err(form("end[process=1]=machine")),
            },
            "disk" => ScheduledFault::Disk(text.parse()?),
            _ => ScheduledFault::Point(text.parse()?),
        })
    }
}

impl FromStr for Schedule {
    type Err = ParseScheduleError;

    /// Faults with `;` or line ends between them.
    fn from_str(text: &str) -> Result<Schedule, ParseScheduleError> {
        let parts = text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty());
        Ok(Schedule { faults: parts.map(str::parse).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_read_back_as_it_was_written() {
        let text = "event[process=1,hit=7]=crash; event[process=2,hit=8]=crash(process); event[process=3,hit=9]=crash(machine); \
                    event[process=4,hit=10]=panic; effect[process=1,hit=3]=power-cut; effect[process=2,hit=4]=slow(2ms); \
                    disk[operation=read,process=2,hit=6]=error; end[process=2]=machine; barrier.sent[operator=a b,hit=2]=drop";
        let schedule: Schedule = text.parse().unwrap();
        assert_eq!(schedule.to_string(), text);
        assert_eq!(schedule.to_string().parse(), Ok(schedule.clone()));
        let processes: Vec<_> = schedule.faults().iter().map(ScheduledFault::process).collect();
        assert_eq!(processes, [Some(1), Some(2), Some(3), Some(4), Some(1), Some(2), Some(2), Some(2), None]);
        for fault in schedule.faults() {
            assert_eq!(fault.in_process(7).process(), Some(7), "{fault}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        for (text, says) in [
            ("event[process=1]=crash", "write `event[process=1,hit=40]=crash(machine)`"),
            ("event[process=0,hit=1]=crash", "is not a fault of a schedule"),
            ("event[process=1,hit=4]=drop", "is not a fault of a schedule"),
            ("effect[hit=4]=error", "write `effect[process=1,hit=40]=power-cut`"),
            ("effect[process=1,hit=4]=explode", "no fault of a disk"),
            ("end[process=1]=process", "write `end[process=1]=machine`"),
            ("disk[operation=sing]=error", "no operation of a disk"),
            ("barrier.lost=drop", "there is no fault point `barrier.lost`"),
        ] {
            let error = text.parse::<Schedule>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
