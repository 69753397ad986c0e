//! How a job is run: where its checkpoints go, when they are taken, what follows a failure.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_actors::ports::files::Files;
use alluvium_actors::ports::listener::Listener;
use alluvium_actors::protocol::coordinator::Settings;
use alluvium_actors::protocol::supervise::{FailoverStrategy, RestartStrategy, RestartStrategyError};
use alluvium_actors::run::Arbiters;

use crate::snapshot::{DEFAULT_INLINE_LIMIT, LARGEST_INLINE_LIMIT};
use crate::storage::SystemFiles;

/// The shortest interval between periodic checkpoints, and the shortest timeout.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// How a job is run. Everything has a default; [`Graph::start`](crate::Graph::start) checks all of it at once.
///
/// ```
/// use std::time::Duration;
/// use alluvium::Options;
///
/// let options = Options::default()
///     .store("state")
///     .checkpoint_every(Duration::from_secs(1))
///     .minimum_pause(Duration::from_millis(100));
/// assert!(options.check().is_ok());
/// ```
#[derive(Clone)]
pub struct Options {
    pub(super) store: Option<PathBuf>,
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) minimum_pause: Duration,
    pub(super) maximum_concurrent: usize,
    pub(super) retained: usize,
    pub(super) restart: Option<RestartStrategy>,
    pub(super) failover: FailoverStrategy,
    pub(super) workers: Option<usize>,
    pub(super) arbiters: Option<Arbiters>,
    pub(super) inline_limit: usize,
    pub(super) fall_back_to_older: bool,
    pub(super) accept_repeats: bool,
    pub(super) fresh: bool,
    pub(super) cancellation_timeout: Duration,
    pub(super) files: Arc<dyn Files>,
    pub(super) listener: Option<Arc<dyn Listener>>,
}

impl Default for Options {
    fn default() -> Options {
        let settings = Settings::default();
        Options {
            store: None,
            interval: None,
            timeout: settings.timeout,
            minimum_pause: Duration::ZERO,
            maximum_concurrent: 1,
            retained: 1,
            restart: None,
            failover: FailoverStrategy::default(),
            workers: None,
            arbiters: None,
            inline_limit: DEFAULT_INLINE_LIMIT,
            fall_back_to_older: false,
            accept_repeats: false,
            fresh: false,
            cancellation_timeout: alluvium_actors::drive::supervisor::CANCELLATION_TIMEOUT,
            files: Arc::new(SystemFiles::new()),
            listener: None,
        }
    }
}

impl Options {
    /// Keeps checkpoints in this directory, which is created if missing and belongs to this job alone. Without it they are kept in memory and
    /// end with the process.
    #[must_use]
    pub fn store(mut self, directory: impl AsRef<Path>) -> Options {
        self.store = Some(directory.as_ref().to_owned());
        self
    }

    /// Takes a checkpoint at this interval, at least 10 ms. Without it periodic checkpoints are off; the final one at the end of all input is taken in any case.
    #[must_use]
    pub fn checkpoint_every(mut self, interval: Duration) -> Options {
        self.interval = Some(interval);
        self
    }

    /// Aborts a checkpoint that is not complete after this time; 10 minutes if not given, at least 10 ms.
    #[must_use]
    pub fn checkpoint_timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout;
        self
    }

    /// Lets at least this time pass from the completion of a checkpoint to the next periodic one; none if not given. Excludes more than one checkpoint at a time.
    #[must_use]
    pub fn minimum_pause(mut self, pause: Duration) -> Options {
        self.minimum_pause = pause;
        self
    }

    /// Allows so many checkpoints under way at once; 1 if not given.
    #[must_use]
    pub fn maximum_concurrent_checkpoints(mut self, checkpoints: usize) -> Options {
        self.maximum_concurrent = checkpoints;
        self
    }

    /// Keeps so many completed checkpoints; 1 if not given.
    #[must_use]
    pub fn retained_checkpoints(mut self, checkpoints: usize) -> Options {
        self.retained = checkpoints;
        self
    }

    /// What follows a failure. If not given: with periodic checkpoints restarts without end after a delay that grows from 1 s to 1 min
    /// ([`ExponentialDelay`](crate::ExponentialDelay)), without them none.
    #[must_use]
    pub fn restart(mut self, strategy: RestartStrategy) -> Options {
        self.restart = Some(strategy);
        self
    }

    /// What restarts after a failure. If not given, the region that failed: the part of the job that edges connect with what failed, while the others run on.
    #[must_use]
    pub fn failover(mut self, strategy: FailoverStrategy) -> Options {
        self.failover = strategy;
        self
    }

    /// Runs the subtasks on so many threads; one per core if not given.
    #[must_use]
    pub fn workers(mut self, threads: usize) -> Options {
        self.workers = Some(threads);
        self
    }

    /// Runs all actors of the job there: on arbiters that are handed over, beside the actors that they have already. Without it the job has threads of its own.
    /// Blocking work (the store, files, commits) has threads of its own in any case.
    ///
    /// When an arbiter or the whole `System` is stopped, the job ends with it: [`JobHandle::wait`](crate::JobHandle::wait) answers
    /// [`JobError::ArbiterStopped`](crate::JobError::ArbiterStopped), the store is free, and the next start goes on from the last completed checkpoint. To lose no
    /// work, [stop](crate::JobHandle::stop) the job before.
    ///
    /// ```
    /// use alluvium::connect::{Collect, Generator};
    /// use alluvium::{Arbiters, Job, Options};
    ///
    /// let numbers = Collect::new();
    /// let job = Job::new("numbers");
    /// job.source("numbers", Generator::bounded(10, |index| index)).sink("numbers-kept", numbers.clone());
    /// let graph = job.build()?;
    /// actix_rt::System::new().block_on(async {
    ///     let handle = graph.start(&Options::default().arbiters(Arbiters::current()?))?;
    ///     handle.wait().await?;
    ///     Ok::<_, Box<dyn std::error::Error>>(())
    /// })?;
    /// assert_eq!(numbers.collected().len(), 10);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn arbiters(mut self, arbiters: Arbiters) -> Options {
        self.arbiters = Some(arbiters);
        self
    }

    /// Puts pieces of state shorter than this, in bytes, into the manifest itself; 20 kB if not given, 1 MB at most.
    #[must_use]
    pub fn inline_limit(mut self, bytes: usize) -> Options {
        self.inline_limit = bytes;
        self
    }

    /// Lets a start pass over a damaged checkpoint to an older one that is still kept. Refused while it runs if a sink may have committed output of the newer one.
    #[must_use]
    pub fn fall_back_to_older(mut self) -> Options {
        self.fall_back_to_older = true;
        self
    }

    /// Lets [`Options::fall_back_to_older`] repeat output that may have been committed.
    #[must_use]
    pub fn accept_repeats(mut self) -> Options {
        self.accept_repeats = true;
        self
    }

    /// Starts anew: every checkpoint in the store is deleted first. Sinks refuse to start over output that the job had committed.
    #[must_use]
    pub fn fresh(mut self) -> Options {
        self.fresh = true;
        self
    }

    /// Fails the job for good if a subtask is still inside a user call this long after it was told to end; 180 s if not given.
    #[must_use]
    pub fn cancellation_timeout(mut self, timeout: Duration) -> Options {
        self.cancellation_timeout = timeout;
        self
    }

    /// Uses this file door for the store, file sources and file sinks; the operating system's if not given. For tests: a door that fails, or a simulated disk.
    #[must_use]
    pub fn files(mut self, files: Arc<dyn Files>) -> Options {
        self.files = files;
        self
    }

    /// Calls this listener with every event of the job, on the job's own threads and before anything follows from the event. It must not block.
    /// [`JobHandle::events`](crate::JobHandle::events) is the way for everybody who need not be synchronous.
    #[must_use]
    pub fn listener(mut self, listener: Arc<dyn Listener>) -> Options {
        self.listener = Some(listener);
        self
    }

    /// Everything that is wrong with these options, apart from what depends on the graph.
    ///
    /// # Errors
    /// All of it at once.
    pub fn check(&self) -> Result<(), Vec<OptionError>> {
        let mut errors = Vec::new();
        if let Some(interval) = self.interval.filter(|interval| *interval < SHORTEST_INTERVAL) {
            errors.push(OptionError::IntervalTooShort { interval });
        }
        if self.timeout < SHORTEST_INTERVAL {
            errors.push(OptionError::TimeoutTooShort { timeout: self.timeout });
        }
        if self.maximum_concurrent == 0 {
            errors.push(OptionError::NoConcurrentCheckpoint);
        }
        if self.maximum_concurrent > 1 && !self.minimum_pause.is_zero() {
            errors.push(OptionError::PauseWithConcurrency { maximum_concurrent: self.maximum_concurrent });
        }
        if self.retained == 0 {
            errors.push(OptionError::NothingRetained);
        }
        if self.workers == Some(0) {
            errors.push(OptionError::NoWorker);
        }
        if let Some(arbiters) = &self.arbiters {
            if self.workers.is_some() {
                errors.push(OptionError::WorkersAndArbiters);
            }
            if arbiters.is_empty() {
                errors.push(OptionError::NoArbiter);
            }
        }
        if self.inline_limit > LARGEST_INLINE_LIMIT {
            errors.push(OptionError::InlineLimit { bytes: self.inline_limit });
        }
        if self.accept_repeats && !self.fall_back_to_older {
            errors.push(OptionError::RepeatsWithoutFallBack);
        }
        errors.extend(self.restart.iter().flat_map(RestartStrategy::check).map(OptionError::Restart));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            interval: self.interval,
            timeout: self.timeout,
            minimum_pause: self.minimum_pause,
            maximum_concurrent: NonZeroUsize::new(self.maximum_concurrent).unwrap_or(NonZeroUsize::MIN),
            retained: NonZeroUsize::new(self.retained).unwrap_or(NonZeroUsize::MIN),
            final_attempts: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            ..Settings::default()
        }
    }

    /// Where the actors run.
    pub(super) fn placement(&self) -> Arbiters {
        match (&self.arbiters, self.workers) {
            (Some(arbiters), _) => arbiters.clone(),
            (None, Some(workers)) => Arbiters::own(workers),
            (None, None) => Arbiters::default(),
        }
    }

    pub(super) fn restart_strategy(&self) -> RestartStrategy {
        match self.restart {
            Some(strategy) => strategy,
            None if self.interval.is_some() => RestartStrategy::default(),
            None => RestartStrategy::None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("store", &self.store)
            .field("interval", &self.interval)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// Something is wrong with the options of a job.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A parameter of the restart strategy makes no sense.
    #[error("the restart strategy: {0}")]
    Restart(#[source] RestartStrategyError),
    /// The interval is below 10 ms.
    #[error("a checkpoint interval of {interval:?} is too short: give at least {SHORTEST_INTERVAL:?}")]
    IntervalTooShort {
        /// What was given.
        interval: Duration,
    },
    /// The timeout is below 10 ms.
    #[error("a checkpoint timeout of {timeout:?} is too short: give at least {SHORTEST_INTERVAL:?}")]
    TimeoutTooShort {
        /// What was given.
        timeout: Duration,
    },
    /// No checkpoint may run.
    #[error("maximum_concurrent_checkpoints(0) allows no checkpoint: give at least 1")]
    NoConcurrentCheckpoint,
    /// A minimum pause implies one checkpoint at a time.
    #[error(
        "a minimum pause and maximum_concurrent_checkpoints({maximum_concurrent}) exclude each other: leave out the pause, or allow one at a time"
    )]
    PauseWithConcurrency {
        /// What was given.
        maximum_concurrent: usize,
    },
    /// No checkpoint would be kept.
    #[error("retained_checkpoints(0) keeps nothing to recover from: give at least 1")]
    NothingRetained,
    /// No thread would run subtasks.
    #[error("workers(0) leaves no thread for the subtasks: give at least 1")]
    NoWorker,
    /// Two places for the subtasks.
    #[error("workers(..) makes threads and arbiters(..) hands them over: give one of them")]
    WorkersAndArbiters,
    /// No arbiter was handed over.
    #[error("arbiters(..) hands over no arbiter: give at least 1")]
    NoArbiter,
    /// The inline limit is above 1 MB.
    #[error("inline_limit({bytes}) is above {LARGEST_INLINE_LIMIT} bytes: give less")]
    InlineLimit {
        /// What was given.
        bytes: usize,
    },
    /// Repeats are accepted, but only a fall-back causes them.
    #[error("accept_repeats() has no effect without fall_back_to_older(): give both, or neither")]
    RepeatsWithoutFallBack,
    /// Output would never appear.
    #[error(
        "the sink `{sink}` commits when a checkpoint completes and the source `{source_uid}` never ends: without checkpoint_every(..) no output would ever appear"
    )]
    NeverCommits {
        /// The exactly-once sink.
        sink: String,
        /// The unbounded source.
        source_uid: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_strategy_failures_are_restarted_if_there_are_periodic_checkpoints_and_else_not() {
        assert_eq!(Options::default().restart_strategy(), RestartStrategy::None);
        let periodic = Options::default().checkpoint_every(Duration::from_secs(1));
        assert_eq!(periodic.restart_strategy(), RestartStrategy::default());
    }

    #[test]
    fn a_strategy_that_was_given_is_taken_with_and_without_periodic_checkpoints() {
        for strategy in [
            RestartStrategy::None,
            RestartStrategy::fixed_delay(),
            RestartStrategy::failure_rate(),
            RestartStrategy::default(),
        ] {
            let options = Options::default().restart(strategy);
            assert_eq!(options.restart_strategy(), strategy);
            assert_eq!(options.checkpoint_every(Duration::from_secs(1)).restart_strategy(), strategy);
        }
    }
}
