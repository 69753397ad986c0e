//! Restart strategies: how often a job is restarted after failures, and how long it waits before each restart.
//!
//! The four of Apache Flink, with its parameters and figures (`restart-strategy.*`). What a strategy decides is in [`backoff`](super::backoff).

use std::hash::{Hash, Hasher};
use std::time::Duration;

/// How often, and after what delay, a job is restarted. It counts over the whole job, whichever region of it failed.
///
/// ```
/// use std::time::Duration;
/// use alluvium_actors::protocol::supervise::{ExponentialDelay, RestartStrategy};
///
/// let patient = RestartStrategy::ExponentialDelay(ExponentialDelay { multiplier: 2.0, ..ExponentialDelay::default() });
/// assert!(patient.check().is_empty());
/// let senseless = RestartStrategy::FailureRate { failures: 0, interval: Duration::ZERO, delay: Duration::ZERO };
/// assert_eq!(senseless.check().len(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestartStrategy {
    /// Never: the first failure fails the job.
    None,
    /// A number of times over the whole life of the job, each after the same delay. See [`RestartStrategy::fixed_delay`].
    FixedDelay {
        /// The number of restarts: `restart-strategy.fixed-delay.attempts`.
        attempts: u32,
        /// The time from the failure to the restart, at least: `restart-strategy.fixed-delay.delay`.
        delay: Duration,
    },
    /// As long as failures are rare. See [`RestartStrategy::failure_rate`].
    FailureRate {
        /// So many failures within the interval are restarted, one more fails the job:
        /// `restart-strategy.failure-rate.max-failures-per-interval`, at least 1.
        failures: u32,
        /// The interval: `restart-strategy.failure-rate.failure-rate-interval`, above zero.
        interval: Duration,
        /// The time from the failure to the restart, at least: `restart-strategy.failure-rate.delay`.
        delay: Duration,
    },
    /// After a delay that grows from failure to failure, and begins anew after a quiet time.
    ExponentialDelay(ExponentialDelay),
}

/// The parameters of [`RestartStrategy::ExponentialDelay`]: `restart-strategy.exponential-delay.*`.
///
/// The delay of the first restart is `initial`; each further failure multiplies it, up to `maximum`. A failure while a restart is waited for
/// belongs to that restart and neither counts nor delays it further. When the job ran for `reset_threshold` after its last restart was due, count
/// and delay begin anew.
#[derive(Clone, Copy, Debug)]
pub struct ExponentialDelay {
    /// The first delay: `initial-backoff`, 1 s; at least 1 ms.
    pub initial: Duration,
    /// The longest delay: `max-backoff`, 1 min; at least `initial`.
    pub maximum: Duration,
    /// What a delay is multiplied with for the next one: `backoff-multiplier`, 1.5; at least 1.
    pub multiplier: f64,
    /// The quiet time after which everything begins anew: `reset-backoff-threshold`, 1 h; above zero.
    pub reset_threshold: Duration,
    /// The share of a delay by which chance makes it shorter or longer, so that jobs which fail together do not restart together: `jitter-factor`,
    /// 0.1; from 0 to 1. A delay is never below `initial` and never above `maximum`.
    pub jitter: f64,
    /// How many restarts there may be until a quiet time: `attempts-before-reset-backoff`, without a limit if `None`; at least 1.
    pub attempts: Option<u32>,
}

impl Default for ExponentialDelay {
    /// Flink's figures: 1 s, 1 min, 1.5, 1 h, 0.1, no limit.
    fn default() -> ExponentialDelay {
        ExponentialDelay {
            initial: Duration::from_secs(1),
            maximum: Duration::from_secs(60),
            multiplier: 1.5,
            reset_threshold: Duration::from_secs(60 * 60),
            jitter: 0.1,
            attempts: None,
        }
    }
}

impl ExponentialDelay {
    /// Everything, comparable: two strategies are the same when their figures are the same bits.
    fn parts(&self) -> (Duration, Duration, u64, Duration, u64, Option<u32>) {
        let ExponentialDelay { initial, maximum, multiplier, reset_threshold, jitter, attempts } = *self;
        (initial, maximum, multiplier.to_bits(), reset_threshold, jitter.to_bits(), attempts)
    }
}

impl PartialEq for ExponentialDelay {
    fn eq(&self, other: &ExponentialDelay) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for ExponentialDelay {}

impl Hash for ExponentialDelay {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// The shortest first delay of [`ExponentialDelay`].
pub const SHORTEST_INITIAL: Duration = Duration::from_millis(1);

/// A parameter of a restart strategy that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartStrategyError {
    /// No failure is allowed within the interval.
    #[error("a failure rate of 0 failures restarts nothing: give at least 1, or RestartStrategy::None")]
    NoFailures,
    /// The interval has no length.
    #[error("a failure rate needs an interval above zero: give the time in which the failures are counted")]
    NoInterval,
    /// Delays would shrink.
    #[error("a multiplier of {multiplier} makes delays shorter from failure to failure: give at least 1")]
    Multiplier {
        /// What was given.
        multiplier: f64,
    },
    /// The jitter is no share.
    #[error("a jitter of {jitter} is no share of a delay: give 0 to 1")]
    Jitter {
        /// What was given.
        jitter: f64,
    },
    /// The first delay is too short to grow.
    #[error("an initial delay of {initial:?} is too short: give at least {SHORTEST_INITIAL:?}")]
    Initial {
        /// What was given.
        initial: Duration,
    },
    /// The longest delay is below the first one.
    #[error("the longest delay, {maximum:?}, is below the first one, {initial:?}: raise it, or lower the first one")]
    MaximumBelowInitial {
        /// The first delay.
        initial: Duration,
        /// The longest delay.
        maximum: Duration,
    },
    /// Every failure would begin anew.
    #[error("a reset threshold of zero begins anew at every failure, so that no delay ever grows: give a quiet time")]
    NoResetThreshold,
    /// No restart is allowed.
    #[error("attempts of 0 restart nothing: give at least 1, None for no limit, or RestartStrategy::None")]
    NoAttempts,
}

impl RestartStrategy {
    /// [`FixedDelay`](RestartStrategy::FixedDelay) with Flink's figures: one restart, after one second.
    #[must_use]
    pub const fn fixed_delay() -> RestartStrategy {
        RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_secs(1) }
    }

    /// [`FailureRate`](RestartStrategy::FailureRate) with Flink's figures: one failure a minute, restarted after one second.
    #[must_use]
    pub const fn failure_rate() -> RestartStrategy {
        RestartStrategy::FailureRate { failures: 1, interval: Duration::from_secs(60), delay: Duration::from_secs(1) }
    }

    /// Everything that is wrong with its parameters; empty for a strategy that can be used.
    #[must_use]
    pub fn check(&self) -> Vec<RestartStrategyError> {
        let mut errors = Vec::new();
        match *self {
            RestartStrategy::None | RestartStrategy::FixedDelay { .. } => {}
            RestartStrategy::FailureRate { failures, interval, delay: _ } => {
                if failures == 0 {
                    errors.push(RestartStrategyError::NoFailures);
                }
                if interval.is_zero() {
                    errors.push(RestartStrategyError::NoInterval);
                }
            }
            RestartStrategy::ExponentialDelay(exponential) => exponential.check(&mut errors),
        }
        errors
    }
}

impl Default for RestartStrategy {
    /// [`ExponentialDelay`](RestartStrategy::ExponentialDelay) with Flink's figures.
    fn default() -> RestartStrategy {
        RestartStrategy::ExponentialDelay(ExponentialDelay::default())
    }
}

impl ExponentialDelay {
    fn check(&self, errors: &mut Vec<RestartStrategyError>) {
        let ExponentialDelay { initial, maximum, multiplier, reset_threshold, jitter, attempts } = *self;
        if initial < SHORTEST_INITIAL {
            errors.push(RestartStrategyError::Initial { initial });
        }
        if maximum < initial {
            errors.push(RestartStrategyError::MaximumBelowInitial { initial, maximum });
        }
        // What is not a number is neither.
        if !(multiplier >= 1.0 && multiplier.is_finite()) {
            errors.push(RestartStrategyError::Multiplier { multiplier });
        }
        if !(0.0..=1.0).contains(&jitter) {
            errors.push(RestartStrategyError::Jitter { jitter });
        }
        if reset_threshold.is_zero() {
            errors.push(RestartStrategyError::NoResetThreshold);
        }
        if attempts == Some(0) {
            errors.push(RestartStrategyError::NoAttempts);
        }
    }
}
