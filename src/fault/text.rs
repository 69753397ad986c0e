//! The text form of faults: `acknowledge.sent[operator=join,subtask=1,checkpoint=3,hit=2]=drop`, several of them with `;` between.
//!
//! ```text
//! fault  = point [ "[" filter { "," filter } "]" ] "=" what
//! filter = "operator=" name | "subtask=" n | "checkpoint=" n | "process=" n | "hit=" n | "times=" n | "always" | "probability=" p
//! what   = "crash" | "crash(process)" | "crash(machine)" | "kill" | "error" | "panic" | "delay(" duration ")" | "drop" | "duplicate" | "hold(" point ")"
//! ```
//!
//! What goes wrong with a simulated disk stands among them, in the form that `disk_rule.rs` tells: `disk[operation=sync,path=manifests/*]=failed-sync`.
//!
//! A duration is a whole number with `ns`, `us`, `ms` or `s`. In the name of an operator `,`, `]`, `;`, `%` and line ends are written as `%` and two hexadecimal digits.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use alluvium_actors::ports::points::{Point, UnknownPoint};

use super::disk_rule::{DiskRule, ParseDiskRuleError};
use super::plan::{End, Fault, FaultError, FaultPlan, What};

/// A text is not a fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseFaultError {
    /// It has not the form of one.
    #[error(
        "`{text}` is not a fault: {reason}; a fault reads `acknowledge.sent[operator=join,checkpoint=3,hit=2]=crash`"
    )]
    Form {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such point.
    #[error(transparent)]
    Point(#[from] UnknownPoint),
    /// It cannot happen there.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// It is not a rule for a disk.
    #[error(transparent)]
    Disk(#[from] ParseDiskRuleError),
}

fn form(text: &str, reason: impl Into<String>) -> ParseFaultError {
    ParseFaultError::Form { text: text.to_owned(), reason: reason.into() }
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Crash(End::Process) => formatter.write_str("crash(process)"),
            What::Crash(End::Machine) => formatter.write_str("crash(machine)"),
            What::Delay(delay) => write!(formatter, "delay({})", DurationText(*delay)),
            What::Hold(until) => write!(formatter, "hold({until})"),
            What::Crash(End::Any) | What::Kill | What::Error | What::Panic | What::Drop | What::Duplicate => {
                formatter.write_str(self.action().name())
            }
        }
    }
}

/// A duration as a whole number of the largest unit that it is one of.
pub(super) struct DurationText(pub(super) Duration);

const UNITS: [(&str, u128); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

impl fmt::Display for DurationText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let fits = UNITS.iter().find(|(_, length)| nanoseconds.is_multiple_of(*length));
        let (unit, length) = fits.copied().unwrap_or(("ns", 1));
        write!(formatter, "{}{unit}", nanoseconds / length)
    }
}

/// Reads a duration, `5ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let nanoseconds = number.parse::<u128>().ok()?.checked_mul(*length)?;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

/// What stands in brackets of its own in the text of a fault.
const RESERVED: &[char] = &[',', ']', ';', '%', '\n', '\r'];

fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if RESERVED.contains(&character) {
            text.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            text.push(character);
        }
    }
    text
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        name.push(char::from(u8::from_str_radix(code, 16).ok()?));
        name.push_str(rest);
    }
    Some(name)
}

impl FromStr for What {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<What, ParseFaultError> {
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => {
                let argument = rest.strip_suffix(')').ok_or_else(|| form(text, "a `)` is missing"))?;
                (name, Some(argument))
            }
            None => (text, None),
        };
        Ok(match (name, argument) {
            ("crash", None) => What::Crash(End::Any),
            ("crash", Some("process")) => What::Crash(End::Process),
            ("crash", Some("machine")) => What::Crash(End::Machine),
            ("kill", None) => What::Kill,
            ("error", None) => What::Error,
            ("panic", None) => What::Panic,
            ("drop", None) => What::Drop,
            ("duplicate", None) => What::Duplicate,
            ("delay", Some(argument)) => {
                What::Delay(duration(argument).ok_or_else(|| form(text, "a delay reads `delay(5ms)`"))?)
            }
            ("hold", Some(until)) => What::Hold(until.parse::<Point>()?),
            ("hold", None) => return Err(form(text, "a hold names the point that releases it: `hold(abort.sent)`")),
            _ => {
                let known = "crash, kill, error, panic, delay(5ms), drop, duplicate or hold(point)";
                return Err(form(text, format!("what happens is one of {known}")));
            }
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut filters = Vec::new();
        filters.extend(self.operator.as_deref().map(|name| format!("operator={}", escape(name))));
        filters.extend(self.subtask.map(|subtask| format!("subtask={subtask}")));
        filters.extend(self.checkpoint.map(|checkpoint| format!("checkpoint={checkpoint}")));
        filters.extend(turns(self.process, self.hit, self.times));
        filters.extend(self.probability.map(|probability| format!("probability={probability}")));
        write!(formatter, "{}", self.point)?;
        if !filters.is_empty() {
            write!(formatter, "[{}]", filters.join(","))?;
        }
        write!(formatter, "={}", self.what)
    }
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Fault, ParseFaultError> {
        let text = text.trim();
        let (head, filters, what) = match text.split_once('[') {
            Some((head, rest)) => {
                let (filters, rest) = rest.split_once(']').ok_or_else(|| form(text, "a `]` is missing"))?;
                let what = rest.strip_prefix('=').ok_or_else(|| form(text, "behind `]` a `=` is missing"))?;
                (head, filters, what)
            }
            None => {
                let (head, what) = text.split_once('=').ok_or_else(|| form(text, "a `=` is missing"))?;
                (head, "", what)
            }
        };
        let mut fault = Fault::at(head.trim().parse()?, what.trim().parse()?)?;
        for filter in filters.split(',').map(str::trim).filter(|filter| !filter.is_empty()) {
            fault = filtered(fault, filter).unwrap_or_else(|| Err(form(text, format!("`{filter}` is no filter"))))?;
        }
        Ok(fault)
    }
}

/// The fault with one filter more; nothing if it is none.
fn filtered(fault: Fault, filter: &str) -> Option<Result<Fault, ParseFaultError>> {
    if filter == "always" {
        return Some(Ok(fault.always()));
    }
    let (name, value) = filter.split_once('=')?;
    Some(Ok(match name {
        "operator" => fault.operator(unescape(value)?),
        "subtask" => fault.subtask(value.parse().ok()?),
        "checkpoint" => fault.checkpoint(value.parse().ok()?),
        "process" => fault.process(value.parse().ok().filter(|process| *process > 0)?),
        "hit" => fault.hit(value.parse().ok().filter(|hit| *hit > 0)?),
        "times" => fault.times(value.parse().ok().filter(|times| *times > 0)?),
        "probability" => return Some(fault.probability(value.parse().ok()?).map_err(ParseFaultError::from)),
        _ => return None,
    }))
}

/// In which process, from which hit on and how often, as far as it is not the usual: of faults at points and of rules of the disk.
pub(super) fn turns(process: Option<u32>, hit: u64, times: u64) -> impl Iterator<Item = String> {
    let process = process.map(|process| format!("process={process}"));
    let hit = (hit != 1).then(|| format!("hit={hit}"));
    let times = match times {
        1 => None,
        u64::MAX => Some("always".to_owned()),
        times => Some(format!("times={times}")),
    };
    [process, hit, times].into_iter().flatten()
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|fault| fault as &dyn fmt::Display);
        for (position, fault) in faults.chain(self.disk.iter().map(|rule| rule as &dyn fmt::Display)).enumerate() {
            if position > 0 {
                formatter.write_str("; ")?;
            }
            write!(formatter, "{fault}")?;
        }
        Ok(())
    }
}

impl FromStr for FaultPlan {
    type Err = ParseFaultError;

    /// Faults with `;` or line ends between them.
    fn from_str(text: &str) -> Result<FaultPlan, ParseFaultError> {
        let mut plan = FaultPlan::default();
        for part in text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
            if part.starts_with("disk[") || part.starts_with("disk=") {
                plan.disk.push(part.parse::<DiskRule>()?);
            } else {
                plan.faults.push(part.parse()?);
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_that_a_point_allows_is_read_back_as_it_was_written() {
        let mut plan = FaultPlan::default();
        for point in Point::ALL {
            for what in [
                What::Crash(End::Any),
                What::Crash(End::Process),
                What::Crash(End::Machine),
                What::Kill,
                What::Error,
                What::Panic,
                What::Delay(Duration::from_micros(1500)),
                What::Drop,
                What::Duplicate,
                What::Hold(Point::AbortSent),
            ] {
                let allowed = point.actions().contains(what.action());
                match Fault::at(*point, what.clone()) {
                    Ok(fault) => {
                        assert!(allowed, "{fault}");
                        let fault = fault.operator("a, b]; 100%\n").subtask(2).checkpoint(7).process(3).hit(9);
                        plan.faults.push(fault.clone().always());
                        plan.faults.push(fault.times(4).probability(0.25).unwrap());
                    }
                    Err(FaultError::Impossible { action, .. }) => assert!(!allowed && action == what.action()),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        plan.disk.push("disk[operation=sync,path=manifests/*,hit=2]=failed-sync".parse().unwrap());
        assert_eq!(plan.to_string().parse::<FaultPlan>(), Ok(plan));
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        for (text, says) in [
            ("x.y=crash", "there is no fault point `x.y`"),
            ("barrier.sent", "a `=` is missing"),
            ("barrier.sent[subtask=1=crash", "a `]` is missing"),
            ("barrier.sent[subtask=x]=crash", "`subtask=x` is no filter"),
            ("barrier.sent[hit=0]=crash", "`hit=0` is no filter"),
            ("barrier.sent=explode", "what happens is one of"),
            ("barrier.sent=delay(5)", "a delay reads"),
            ("barrier.sent=hold", "a hold names the point"),
            ("barrier.sent=error", "`error` cannot happen at `barrier.sent`: possible are `crash`, `kill`"),
            ("barrier.sent[probability=2]=crash", "2 is not a probability"),
            ("disk[operation=write]=error", "`write` is no operation of a disk"),
        ] {
            let error = text.parse::<FaultPlan>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
