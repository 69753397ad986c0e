//! Which operations of a simulated disk go wrong: by operation, path, count and chance, as text that stands in a plan beside faults at points.
//!
//! ```text
//! disk[operation=sync,path=manifests/*,hit=2]=failed-sync
//! disk[path=blobs/*,probability=0.01]=flip-at-rest
//! disk[operation=append,hit=5,times=20]=full-disk
//! disk[always]=slow(2ms)
//! ```

use std::fmt;
use std::str::FromStr;

use alluvium_actors::ports::files::FileOperation;

use super::disk_fault::{DiskFault, OPERATIONS, operation_name};
use super::text::turns;

/// Which paths a rule is about. `*` stands for any part of a name, `?` for one byte, a part `**` for any number of directories. A pattern that
/// does not begin with `/` is compared with the end of the path: `manifests/*` is every file directly in a directory `manifests`, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern(String);

impl PathPattern {
    /// Whether a path fits.
    #[must_use]
    pub fn matches(&self, path: &std::path::Path) -> bool {
        self.matches_bytes(path.as_os_str().as_encoded_bytes())
    }

    pub(crate) fn matches_bytes(&self, path: &[u8]) -> bool {
        let path: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        let pattern = self.0.as_bytes();
        let parts: Vec<&[u8]> = pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        if pattern.first() == Some(&b'/') {
            return matches_all(&parts, &path);
        }
        (0..=path.len()).any(|from| matches_all(&parts, &path[from..]))
    }
}

fn matches_all(pattern: &[&[u8]], path: &[&[u8]]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((&b"**", rest)) => (0..=path.len()).any(|from| matches_all(rest, &path[from..])),
        Some((part, rest)) => {
            path.split_first().is_some_and(|(name, below)| matches_part(part, name) && matches_all(rest, below))
        }
    }
}

fn matches_part(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|from| matches_part(rest, &name[from..])),
        Some((b'?', rest)) => name.split_first().is_some_and(|(_, after)| matches_part(rest, after)),
        Some((byte, rest)) => {
            name.split_first().is_some_and(|(found, after)| byte == found && matches_part(rest, after))
        }
    }
}

impl FromStr for PathPattern {
    type Err = ParseDiskRuleError;

    fn from_str(text: &str) -> Result<PathPattern, ParseDiskRuleError> {
        if text.is_empty() || text.contains([',', '[', ']', ';', '=', '\n']) {
            return Err(ParseDiskRuleError(format!(
                "`{text}` is not a pattern for paths: it is empty or holds one of , ; [ ] = (let ? or * stand for them)"
            )));
        }
        Ok(PathPattern(text.to_owned()))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A chance, in parts of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Chance(pub(crate) u32);

/// What [`Chance`] counts as certain.
pub(crate) const CERTAIN: u32 = 1_000_000;

/// A fault of a disk and where it strikes: at the `hit`th operation that fits, and then at each one up to `times` of them.
///
/// ```
/// use alluvium::testing::faults::{DiskFault, DiskRule};
/// use alluvium::ports::files::FileOperation;
///
/// let rule: DiskRule = "disk[operation=sync,path=manifests/*,hit=2]=failed-sync".parse()?;
/// assert_eq!(rule, DiskRule::new(DiskFault::FailedSync).operation(FileOperation::Sync).path("manifests/*").hit(2));
/// # Ok::<(), alluvium::testing::faults::ParseDiskRuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskRule {
    pub(crate) operation: Option<FileOperation>,
    pub(crate) path: Option<PathPattern>,
    pub(crate) process: Option<u32>,
    pub(crate) hit: u64,
    /// How often it strikes at most.
    pub(crate) times: u64,
    pub(crate) chance: Option<Chance>,
    pub(crate) fault: DiskFault,
}

impl DiskRule {
    /// At the first operation at which this fault can happen.
    #[must_use]
    pub fn new(fault: DiskFault) -> DiskRule {
        DiskRule { operation: None, path: None, process: None, hit: 1, times: 1, chance: None, fault }
    }

    /// Only at this operation.
    ///
    /// # Panics
    /// When the fault cannot happen there: see [`DiskFault::applies_to`].
    #[must_use]
    pub fn operation(mut self, operation: FileOperation) -> DiskRule {
        self.operation = Some(operation);
        self.check().unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// Only on paths that fit, as [`PathPattern`] says. A rename is judged by its new name.
    ///
    /// # Panics
    /// When it is not a pattern.
    #[must_use]
    pub fn path(mut self, pattern: &str) -> DiskRule {
        self.path = Some(pattern.parse().unwrap_or_else(|error| panic!("{error}")));
        self
    }

    /// Only in the process of this number. The first one, until a crash or the end of the process, has number 1.
    #[must_use]
    pub fn process(self, number: u32) -> DiskRule {
        DiskRule { process: Some(number), ..self }
    }

    /// First at this one of the operations that fit; the first has number 1.
    #[must_use]
    pub fn hit(self, number: u64) -> DiskRule {
        DiskRule { hit: number.max(1), ..self }
    }

    /// At so many of them: without a chance directly one after the other.
    #[must_use]
    pub fn times(self, times: u64) -> DiskRule {
        DiskRule { times, ..self }
    }

    /// At all of them, from the first hit on.
    #[must_use]
    pub fn always(self) -> DiskRule {
        self.times(u64::MAX)
    }

    /// At each of them with this chance, from 0 to 1, counted in millionths. How often then is [`DiskRule::times`]: once, if nothing else is said.
    ///
    /// # Panics
    /// When it is below 0 or above 1.
    #[must_use]
    pub fn probability(self, chance: f64) -> DiskRule {
        assert!((0.0..=1.0).contains(&chance), "a probability lies between 0 and 1: {chance}");
        DiskRule { chance: Some(Chance((chance * f64::from(CERTAIN)).round() as u32)), ..self }
    }

    /// The fault.
    #[must_use]
    pub fn fault(&self) -> DiskFault {
        self.fault
    }

    /// The only process in which it strikes, if there is one.
    #[must_use]
    pub fn only_in_process(&self) -> Option<u32> {
        self.process
    }

    /// The operation that fits from which on it strikes.
    #[must_use]
    pub fn first_hit(&self) -> u64 {
        self.hit
    }

    /// How often it strikes, at most.
    #[must_use]
    pub fn strikes(&self) -> u64 {
        self.times
    }

    /// Whether chance decides at each operation that fits.
    #[must_use]
    pub fn has_a_chance(&self) -> bool {
        self.chance.is_some()
    }

    /// The same without a chance.
    #[must_use]
    pub fn certainly(self) -> DiskRule {
        DiskRule { chance: None, ..self }
    }

    /// Whether an operation is one that the rule counts.
    pub(crate) fn fits(&self, operation: FileOperation, path: &[u8], process: u32) -> bool {
        self.operation.map_or_else(|| self.fault.applies_to(operation), |wanted| wanted == operation)
            && self.process.is_none_or(|wanted| wanted == process)
            && self.path.as_ref().is_none_or(|pattern| pattern.matches_bytes(path))
    }

    fn check(&self) -> Result<(), ParseDiskRuleError> {
        match self.operation {
            Some(operation) if !self.fault.applies_to(operation) => Err(ParseDiskRuleError(format!(
                "`{}` cannot happen at `{}`: give one of {}",
                self.fault.name(),
                operation_name(operation),
                self.fault.where_it_applies()
            ))),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for DiskRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut filters: Vec<String> = Vec::new();
        filters.extend(self.operation.map(|operation| format!("operation={}", operation_name(operation))));
        filters.extend(self.path.as_ref().map(|path| format!("path={path}")));
        filters.extend(turns(self.process, self.hit, self.times));
        filters.extend(self.chance.map(|chance| format!("probability={}", f64::from(chance.0) / f64::from(CERTAIN))));
        formatter.write_str("disk")?;
        if !filters.is_empty() {
            write!(formatter, "[{}]", filters.join(","))?;
        }
        write!(formatter, "={}", self.fault)
    }
}

/// A text that is not a rule for a disk; it says what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseDiskRuleError(pub(crate) String);

impl FromStr for DiskRule {
    type Err = ParseDiskRuleError;

    fn from_str(text: &str) -> Result<DiskRule, ParseDiskRuleError> {
        let malformed = || {
            ParseDiskRuleError(format!(
                "`{text}` is not a rule for a disk: write disk[filter=value,...]=fault, as in disk[operation=sync]=error"
            ))
        };
        let rest = text.trim().strip_prefix("disk").ok_or_else(malformed)?;
        let (filters, fault) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once("]=").ok_or_else(malformed)?,
            None => ("", rest.strip_prefix('=').ok_or_else(malformed)?),
        };
        let mut rule = DiskRule::new(fault.parse()?);
        for filter in filters.split(',').map(str::trim).filter(|filter| !filter.is_empty()) {
            match filter.split_once('=') {
                Some((name, value)) => rule.filter(name, value)?,
                None if filter == "always" => rule.times = u64::MAX,
                None => return Err(malformed()),
            }
        }
        rule.check()?;
        Ok(rule)
    }
}

impl DiskRule {
    fn filter(&mut self, name: &str, value: &str) -> Result<(), ParseDiskRuleError> {
        let number = || {
            let number = value.parse::<u64>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| ParseDiskRuleError(format!("`{name}={value}`: give a whole number from 1 on")))
        };
        match name {
            "operation" => {
                let found = OPERATIONS.into_iter().find(|operation| operation_name(*operation) == value);
                self.operation = Some(found.ok_or_else(|| {
                    let known = OPERATIONS.map(operation_name).join(", ");
                    ParseDiskRuleError(format!("`{value}` is no operation of a disk: give one of {known}"))
                })?);
            }
            "path" => self.path = Some(value.parse()?),
            "process" => self.process = Some(u32::try_from(number()?).unwrap_or(u32::MAX)),
            "hit" => self.hit = number()?,
            "times" => self.times = number()?,
            "probability" => {
                let chance = value.parse::<f64>().ok().filter(|chance| (0.0..=1.0).contains(chance));
                let chance = chance
                    .ok_or_else(|| ParseDiskRuleError(format!("`{name}={value}`: give a number between 0 and 1")))?;
                *self = self.clone().probability(chance);
            }
            other => {
                return Err(ParseDiskRuleError(format!(
                    "`{other}` is no filter of a disk's rule: give operation, path, process, hit, times, always or probability"
                )));
            }
        }
        Ok(())
    }
}
