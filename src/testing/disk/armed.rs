//! The faults that wait for their operation, and those that struck.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use alluvium_actors::ports::files::FileOperation;

use crate::fault::{CERTAIN, DiskFault, DiskRule, OPERATIONS, Random, is_effect, operation_name};

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    /// At which operation.
    pub operation: FileOperation,
    /// On which path; for a rename the new one.
    pub path: PathBuf,
    /// What.
    pub fault: DiskFault,
}

impl fmt::Display for Struck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {} {}", self.fault, operation_name(self.operation), self.path.display())
    }
}

/// What happens at an operation: it takes time, and perhaps one thing goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    pub(super) slow: Option<Duration>,
    pub(super) fault: Option<DiskFault>,
}

#[derive(Debug)]
struct ArmedRule {
    rule: DiskRule,
    /// How many operations fitted so far.
    fitted: u64,
    struck: u64,
}

impl ArmedRule {
    fn strikes(&mut self, random: &mut Random) -> bool {
        self.fitted += 1;
        let is_wanted = self.fitted >= self.rule.hit && self.struck < self.rule.times;
        let strikes =
            is_wanted && self.rule.chance.is_none_or(|chance| random.below(u64::from(CERTAIN)) < u64::from(chance.0));
        self.struck += u64::from(strikes);
        strikes
    }
}

/// Counts operations, and knows what goes wrong at which.
#[derive(Debug, Default)]
pub(super) struct Armed {
    /// Somebody only looks: nothing is counted, and nothing goes wrong.
    pub(super) is_off: bool,
    effects: u64,
    counts: [u64; OPERATIONS.len()],
    at_effect: BTreeMap<u64, DiskFault>,
    at_operation: BTreeMap<(FileOperation, u64), DiskFault>,
    rules: Vec<ArmedRule>,
}

impl Armed {
    pub(super) fn effects(&self) -> u64 {
        self.effects
    }

    pub(super) fn count(&self, operation: FileOperation) -> u64 {
        self.counts[operation as usize]
    }

    pub(super) fn at_effect(&mut self, number: u64, fault: DiskFault) {
        self.at_effect.insert(number, fault);
    }

    pub(super) fn at_operation(&mut self, operation: FileOperation, number: u64, fault: DiskFault) {
        self.at_operation.insert((operation, number), fault);
    }

    pub(super) fn rule(&mut self, rule: DiskRule) {
        self.rules.push(ArmedRule { rule, fitted: 0, struck: 0 });
    }

    /// The rules that never struck.
    pub(super) fn unstruck(&self) -> impl Iterator<Item = &DiskRule> {
        self.rules.iter().filter(|armed| armed.struck == 0).map(|armed| &armed.rule)
    }

    /// Forgets what was to happen at a number.
    pub(super) fn clear_numbers(&mut self) {
        self.at_effect.clear();
        self.at_operation.clear();
    }

    pub(super) fn clear_rules(&mut self) {
        self.rules.clear();
    }

    /// Counts an operation and says what happens to it.
    pub(super) fn next(&mut self, operation: FileOperation, path: &[u8], process: u32, random: &mut Random) -> Verdict {
        let mut verdict = Verdict::default();
        if self.is_off {
            return verdict;
        }
        let count = &mut self.counts[operation as usize];
        *count += 1;
        let mut add = |fault: DiskFault| match fault {
            DiskFault::Slow(time) => verdict.slow = Some(verdict.slow.unwrap_or_default() + time),
            other => verdict.fault = verdict.fault.or(Some(other)),
        };
        if is_effect(operation) {
            self.effects += 1;
            self.at_effect.remove(&self.effects).map(&mut add);
        }
        if !self.at_operation.is_empty() {
            self.at_operation.remove(&(operation, *count)).map(&mut add);
        }
        for armed in &mut self.rules {
            if armed.rule.fits(operation, path, process) && armed.strikes(random) {
                add(armed.rule.fault);
            }
        }
        verdict
    }
}
