//! What a restart strategy says to one more failure: when to restart, or that the job fails.

use std::collections::VecDeque;
use std::time::Duration;

use super::strategy::{ExponentialDelay, RestartStrategy};
use crate::ids::Moment;

/// The answer to a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Restart at this moment, or later if something has to end first.
    Restart {
        /// The moment.
        at: Moment,
    },
    /// No restart is left.
    Fail,
}

/// A restart strategy with what it remembers of the failures so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    strategy: RestartStrategy,
    /// The failures that counted: over the whole life (fixed delay), or since the last quiet time (exponential delay).
    counted: u32,
    /// The last failures, oldest first, as many as are allowed within the interval (failure rate).
    recent: VecDeque<Moment>,
    /// When the last restart was due.
    due: Option<Moment>,
}

impl Backoff {
    /// A strategy that has not seen a failure. Its parameters are taken as they are: [`RestartStrategy::check`] is for where a job is built.
    #[must_use]
    pub fn new(strategy: RestartStrategy) -> Backoff {
        Backoff { strategy, counted: 0, recent: VecDeque::new(), due: None }
    }

    /// When the last restart that it allowed was due; `None` before the first failure.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Takes a failure and decides. `random` is a number of the host: the jitter is made of it.
    pub fn failed(&mut self, now: Moment, random: u64) -> Verdict {
        let at = match self.strategy {
            RestartStrategy::None => None,
            RestartStrategy::FixedDelay { attempts, delay } => (self.counted < attempts).then(|| {
                self.counted += 1;
                now + delay
            }),
            RestartStrategy::FailureRate { failures, interval, delay } => {
                self.is_rare(now, failures, interval).then(|| now + delay)
            }
            RestartStrategy::ExponentialDelay(exponential) => self.exponential(now, random, exponential),
        };
        match at {
            Some(at) => {
                self.due = Some(at);
                Verdict::Restart { at }
            }
            None => Verdict::Fail,
        }
    }

    /// Whether the failure that lies `failures` back, if there is one, is longer ago than the interval.
    fn is_rare(&mut self, now: Moment, failures: u32, interval: Duration) -> bool {
        let full = self.recent.len() >= failures as usize;
        let earliest = if full { self.recent.pop_front() } else { None };
        self.recent.push_back(now);
        !full || earliest.is_some_and(|earliest| now.since(earliest) > interval)
    }

    fn exponential(&mut self, now: Moment, random: u64, exponential: ExponentialDelay) -> Option<Moment> {
        if let Some(due) = self.due {
            // It belongs to the restart that is waited for.
            if now <= due {
                return Some(due);
            }
            if now.since(due) >= exponential.reset_threshold {
                self.counted = 0;
            }
        }
        if exponential.attempts.is_some_and(|attempts| self.counted >= attempts) {
            return None;
        }
        let delay = delay(exponential, self.counted, random);
        self.counted = self.counted.saturating_add(1);
        Some(now + delay)
    }
}

/// The delay after `before` failures: grown, then moved by chance, then kept within its bounds.
fn delay(exponential: ExponentialDelay, before: u32, random: u64) -> Duration {
    let ExponentialDelay { initial, maximum, multiplier, jitter, .. } = exponential;
    let grown = initial.as_secs_f64() * multiplier.powi(i32::try_from(before).unwrap_or(i32::MAX));
    // From -1 to 1.
    let chance = random as f64 / u64::MAX as f64 * 2.0 - 1.0;
    let moved = grown + grown * jitter * chance;
    if moved.is_nan() || moved >= maximum.as_secs_f64() {
        return maximum;
    }
    Duration::from_secs_f64(moved.max(0.0)).max(initial).min(maximum)
}
