//! What every [`Source`](crate::connect::source::Source) and every [`Sink`](crate::connect::sink::Sink) has to do, as suites that a stranger's can run:
//! [`check_source`] and [`check_sink`]. What every door to files has to do is [`check_files`].
//!
//! The first two play the runtime: they call a connector as the runtime does, in every order in which that may happen, let it die between any two calls, and compare records.
//! What they find is told as a story (which calls, in which order) with the records that are missing or there twice.

mod count;
mod doors;
mod emitted;
mod files;
mod sink;
mod sink_process;
mod sink_scenes;
mod source;
mod source_process;

use std::fmt;

pub use files::check_files;
pub use sink::{SinkReport, SinkUnderTest, check_sink};
pub use source::{SourceReport, SourceUnderTest, check_source};

/// A rule that a connector breaks.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What happened before, in order.
    pub story: Vec<String>,
    /// What is wrong.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\n  found: {}", self.rule, self.found)?;
        if !self.story.is_empty() {
            write!(formatter, "\n  after: {}", self.story.join("; "))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A connector that does not do what it has to: every rule that it breaks, once each.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonconformance(pub Vec<Violation>);

impl std::error::Error for Nonconformance {}

impl fmt::Display for Nonconformance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, violation) in self.0.iter().enumerate() {
            if number > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{}. {violation}", number + 1)?;
        }
        Ok(())
    }
}

/// As it is displayed, so that `unwrap` shows it well.
impl fmt::Debug for Nonconformance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\n{self}")
    }
}

impl Nonconformance {
    /// Whether one of the broken rules, or what was found, contains this text.
    #[must_use]
    pub fn tells(&self, text: &str) -> bool {
        self.0.iter().any(|violation| violation.to_string().contains(text))
    }
}

/// The violations of one suite, the first of each rule.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn note(&mut self, outcome: Result<(), Violation>) {
        if let Err(violation) = outcome
            && !self.broken(violation.rule)
        {
            self.0.push(violation);
        }
    }

    fn broken(&self, rule: &str) -> bool {
        self.0.iter().any(|known| known.rule == rule)
    }

    fn verdict<T>(self, report: T) -> Result<T, Nonconformance> {
        if self.0.is_empty() { Ok(report) } else { Err(Nonconformance(self.0)) }
    }
}
