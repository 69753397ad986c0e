//! How often and when a job is restarted: each strategy on its own, with Flink's parameters and figures.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::protocol::supervise::{Backoff, ExponentialDelay, RestartStrategy, RestartStrategyError, Verdict};

const MILLISECOND: Duration = Duration::from_millis(1);

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A random number that moves a delay neither up nor down.
const MIDDLE: u64 = u64::MAX / 2;

/// A strategy, the time, and the chance that it is given.
struct Desk {
    backoff: Backoff,
    now: Moment,
    random: u64,
}

impl Desk {
    fn new(strategy: RestartStrategy) -> Desk {
        assert_eq!(strategy.check(), []);
        Desk { backoff: Backoff::new(strategy), now: Moment(1_000_000_000), random: MIDDLE }
    }

    fn exponential(initial: u64, maximum: u64, multiplier: f64, reset: u64, jitter: f64) -> Desk {
        Desk::limited(initial, maximum, multiplier, reset, jitter, None)
    }

    fn limited(initial: u64, maximum: u64, multiplier: f64, reset: u64, jitter: f64, attempts: Option<u32>) -> Desk {
        Desk::new(RestartStrategy::ExponentialDelay(ExponentialDelay {
            initial: milliseconds(initial),
            maximum: milliseconds(maximum),
            multiplier,
            reset_threshold: milliseconds(reset),
            jitter,
            attempts,
        }))
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// The delay after a failure now; `None` if the job fails.
    fn fail(&mut self) -> Option<Duration> {
        match self.backoff.failed(self.now, self.random) {
            Verdict::Restart { at } => {
                assert_eq!(self.backoff.due(), Some(at));
                Some(at.since(self.now))
            }
            Verdict::Fail => None,
        }
    }

    /// The same, then the restart happens: time passes until a moment after it was due.
    fn fail_and_restart(&mut self) -> Option<Duration> {
        let delay = self.fail()?;
        self.pass(delay + Duration::from_nanos(1));
        Some(delay)
    }
}

/// Rounded to whole milliseconds, as Flink counts them.
fn rounded(delay: Option<Duration>) -> Option<u64> {
    delay.map(|delay| delay.as_nanos() as u64 / 1_000_000)
}

#[test]
fn the_first_delay_is_the_initial_one() {
    assert_eq!(Desk::exponential(42, 45, 2.0, 8, 0.0).fail(), Some(milliseconds(42)));
}

#[test]
fn no_delay_is_above_the_longest_one() {
    let mut desk = Desk::exponential(1, 6, 2.0, 8, 0.25);
    for random in [0, MIDDLE, u64::MAX].into_iter().cycle().take(1_000) {
        desk.random = random;
        assert!(desk.fail_and_restart().unwrap() <= milliseconds(6));
    }
}

#[test]
fn each_delay_is_the_one_before_it_times_the_multiplier() {
    let mut desk = Desk::exponential(4, 300, 2.3, 8, 0.0);
    let delays: Vec<_> = (0..3).map(|_| rounded(desk.fail_and_restart()).unwrap()).collect();
    assert_eq!(delays, [4, 9, 21]);
}

/// The whole milliseconds into which the delay after `failures` failures can fall, over evenly spread chance.
fn delays(initial: u64, maximum: u64, jitter: f64, failures: u32) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for step in 0..=1_000 {
        let mut desk = Desk::exponential(initial, maximum, 2.0, 1_000, jitter);
        for _ in 1..failures {
            desk.fail_and_restart();
        }
        desk.random = u64::MAX / 1_000 * step;
        found.extend(rounded(desk.fail()));
    }
    found
}

#[test]
fn chance_moves_a_delay_by_its_share_at_most_and_in_both_directions() {
    assert_eq!(delays(2, 7, 0.25, 2), BTreeSet::from([3, 4, 5]));
    assert_eq!(delays(2, 7, 0.25, 3), BTreeSet::from([6, 7]));
    assert_eq!(delays(2, 7, 0.25, 4), BTreeSet::from([7]));
}

#[test]
fn chance_moves_no_delay_above_the_longest_nor_below_the_first() {
    assert_eq!(delays(1, 7, 1.0, 1), BTreeSet::from([1, 2]));
    assert_eq!(delays(1, 7, 1.0, 2), BTreeSet::from([1, 2, 3, 4]));
    assert_eq!(delays(1, 7, 1.0, 3), BTreeSet::from([1, 2, 3, 4, 5, 6, 7]));
}

#[test]
fn a_number_of_attempts_may_be_used_up() {
    let mut desk = Desk::limited(1, 3, 1.2, 4, 0.25, Some(13));
    for _ in 0..13 {
        assert!(desk.fail_and_restart().is_some());
    }
    assert_eq!(desk.fail_and_restart(), None);
}

#[test]
fn a_quiet_time_begins_delays_and_attempts_anew() {
    let mut desk = Desk::limited(1, 5, 2.0, 8, 0.0, Some(2));
    let first = desk.fail().unwrap();
    desk.pass(first + milliseconds(8) - MILLISECOND);
    let second = desk.fail().unwrap();
    assert_eq!(second, milliseconds(2), "not quiet enough: the delay grows");
    desk.pass(second + milliseconds(8));
    assert_eq!(desk.fail_and_restart(), Some(milliseconds(1)), "quiet: it begins anew");
    assert_eq!(desk.fail_and_restart(), Some(milliseconds(2)), "and so does the count");
    assert_eq!(desk.fail_and_restart(), None);
}

#[test]
fn all_parameters_work_together() {
    let mut desk = Desk::exponential(1, 9, 2.0, 8, 0.25);
    assert_eq!(desk.fail(), Some(milliseconds(1)));
    desk.pass(milliseconds(50));
    assert_eq!(desk.fail(), Some(milliseconds(1)), "a long time passed: the first delay again");
    desk.pass(milliseconds(4));
    desk.random = MIDDLE;
    assert_eq!(rounded(desk.fail()).map(|delay| (1..=2).contains(&delay)), Some(true));
    desk.pass(milliseconds(8 + 9 + 1));
    assert_eq!(desk.fail_and_restart(), Some(milliseconds(1)), "reset");
    assert!(desk.fail_and_restart() > Some(milliseconds(1)), "and growing again");
}

#[test]
fn before_any_failure_no_restart_is_due() {
    for strategy in [
        RestartStrategy::None,
        RestartStrategy::fixed_delay(),
        RestartStrategy::failure_rate(),
        RestartStrategy::default(),
    ] {
        assert_eq!(Backoff::new(strategy).due(), None);
    }
}

#[test]
fn failures_while_a_restart_is_waited_for_are_one_attempt() {
    let mut desk = Desk::limited(10, 1_000, 2.0, 100_000, 0.0, Some(2));
    assert_eq!(desk.fail(), Some(milliseconds(10)));
    for passed in 1..=10 {
        desk.pass(MILLISECOND);
        let left = milliseconds(10 - passed);
        assert_eq!(desk.fail(), Some(left), "the same restart, neither later nor counted");
    }
    desk.pass(MILLISECOND);
    assert_eq!(desk.fail(), Some(milliseconds(20)), "the next one is the second attempt");
    desk.pass(milliseconds(21));
    assert_eq!(desk.fail(), None, "and the third is one too many");
}

#[test]
fn merged_failures_do_not_keep_a_quiet_time_from_beginning_anew() {
    let mut desk = Desk::limited(10, 1_000, 2.0, 50, 0.0, Some(2));
    desk.fail();
    desk.pass(milliseconds(5));
    desk.fail();
    desk.pass(milliseconds(5 + 50));
    assert_eq!(desk.fail_and_restart(), Some(milliseconds(10)), "quiet since the restart was due");
    assert_eq!(desk.fail_and_restart(), Some(milliseconds(20)));
    assert_eq!(desk.fail(), None);
}

#[test]
fn a_fixed_delay_restarts_a_number_of_times() {
    let mut desk = Desk::new(RestartStrategy::FixedDelay { attempts: 3, delay: milliseconds(5) });
    assert_eq!((0..4).map(|_| desk.fail().is_some()).collect::<Vec<_>>(), [true, true, true, false]);
    let mut none = Desk::new(RestartStrategy::FixedDelay { attempts: 0, delay: milliseconds(5) });
    assert_eq!(none.fail(), None);
}

#[test]
fn a_fixed_delay_is_always_the_same() {
    let mut desk = Desk::new(RestartStrategy::FixedDelay { attempts: 100, delay: milliseconds(10_000) });
    for random in 0..100 {
        desk.random = random * (u64::MAX / 100);
        assert_eq!(desk.fail_and_restart(), Some(milliseconds(10_000)));
    }
}

#[test]
fn rare_failures_are_restarted_without_end() {
    let strategy = RestartStrategy::FailureRate { failures: 1, interval: MILLISECOND, delay: Duration::ZERO };
    let mut desk = Desk::new(strategy);
    for _ in 0..100 {
        assert_eq!(desk.fail(), Some(Duration::ZERO));
        desk.pass(MILLISECOND + Duration::from_nanos(1));
    }
}

#[test]
fn more_failures_within_the_interval_than_allowed_fail_the_job() {
    let strategy = RestartStrategy::FailureRate { failures: 3, interval: milliseconds(10_000), delay: MILLISECOND };
    let mut desk = Desk::new(strategy);
    assert_eq!((0..4).map(|_| desk.fail().is_some()).collect::<Vec<_>>(), [true, true, true, false]);

    let mut desk = Desk::new(strategy);
    for _ in 0..3 {
        desk.fail();
        desk.pass(milliseconds(3_000));
    }
    desk.pass(milliseconds(1_000));
    assert_eq!(desk.fail(), None, "the interval is not over at its end");
    let mut desk = Desk::new(strategy);
    for _ in 0..3 {
        desk.fail();
        desk.pass(milliseconds(3_000));
    }
    desk.pass(milliseconds(1_001));
    assert_eq!(desk.fail(), Some(MILLISECOND), "only two of the last three lie within it");
}

#[test]
fn a_failure_rate_has_a_fixed_delay() {
    let strategy = RestartStrategy::FailureRate { failures: 1, interval: MILLISECOND, delay: milliseconds(10_000) };
    assert_eq!(Desk::new(strategy).fail(), Some(milliseconds(10_000)));
}

#[test]
fn without_a_strategy_nothing_is_restarted() {
    assert_eq!(Desk::new(RestartStrategy::None).fail(), None);
}

#[test]
fn the_figures_are_those_of_flink() {
    let second = Duration::from_secs(1);
    assert_eq!(RestartStrategy::fixed_delay(), RestartStrategy::FixedDelay { attempts: 1, delay: second });
    let rate = RestartStrategy::FailureRate { failures: 1, interval: 60 * second, delay: second };
    assert_eq!(RestartStrategy::failure_rate(), rate);
    let exponential = ExponentialDelay {
        initial: second,
        maximum: 60 * second,
        multiplier: 1.5,
        reset_threshold: 3_600 * second,
        jitter: 0.1,
        attempts: None,
    };
    assert_eq!(RestartStrategy::default(), RestartStrategy::ExponentialDelay(exponential));
}

#[test]
fn senseless_parameters_are_all_reported_each_as_what_it_is() {
    let exponential = ExponentialDelay {
        initial: milliseconds(2),
        maximum: MILLISECOND,
        multiplier: 0.5,
        reset_threshold: Duration::ZERO,
        jitter: 1.5,
        attempts: Some(0),
    };
    let expected = [
        RestartStrategyError::MaximumBelowInitial { initial: milliseconds(2), maximum: MILLISECOND },
        RestartStrategyError::Multiplier { multiplier: 0.5 },
        RestartStrategyError::Jitter { jitter: 1.5 },
        RestartStrategyError::NoResetThreshold,
        RestartStrategyError::NoAttempts,
    ];
    assert_eq!(RestartStrategy::ExponentialDelay(exponential).check(), expected);
    let rate = RestartStrategy::FailureRate { failures: 0, interval: Duration::ZERO, delay: Duration::ZERO };
    assert_eq!(rate.check(), [RestartStrategyError::NoFailures, RestartStrategyError::NoInterval]);
    for multiplier in [f64::NAN, f64::INFINITY, -1.0] {
        let odd = ExponentialDelay { multiplier, jitter: f64::NAN, initial: Duration::ZERO, ..Default::default() };
        assert_eq!(RestartStrategy::ExponentialDelay(odd).check().len(), 3, "{multiplier}");
    }
    let constant = ExponentialDelay { multiplier: 1.0, jitter: 0.0, ..Default::default() };
    assert_eq!(RestartStrategy::ExponentialDelay(constant).check(), []);
}
