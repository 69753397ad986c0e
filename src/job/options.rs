//! How a job is run: where its checkpoints go, when they are taken, what follows a failure.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_actors::ports::files::Files;
use alluvium_actors::ports::listener::Listener;
use alluvium_actors::ports::store::ChainLimits;
use alluvium_actors::protocol::align::CheckpointMode;
use alluvium_actors::protocol::cleanup::ExternalizedCheckpointRetention;
use alluvium_actors::protocol::coordinator::Settings;
use alluvium_actors::protocol::supervise::{FailoverStrategy, RestartStrategy};
use alluvium_actors::run::Arbiters;

use crate::snapshot::DEFAULT_INLINE_LIMIT;
use crate::storage::SystemFiles;

mod check;
mod local_recovery;

pub use check::{GREATEST_AMPLIFICATION, OptionError, SHORTEST_INTERVAL};
pub use local_recovery::LocalRecovery;

/// Of how many checkpoints a record is kept if nothing is said.
const RECORDS: usize = 100;

/// After what time a word is said of a checkpoint if nothing else is asked for.
const SLOW_AFTER: Duration = Duration::from_secs(30);

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
    pub(super) mode: CheckpointMode,
    pub(super) timeout: Duration,
    pub(super) minimum_pause: Duration,
    pub(super) maximum_concurrent: usize,
    pub(super) retained: usize,
    pub(super) externalized: Option<ExternalizedCheckpointRetention>,
    pub(super) maximum_queued_requests: usize,
    pub(super) tolerable_failures: Option<u32>,
    pub(super) continue_on_errors: bool,
    pub(super) history: usize,
    pub(super) records: usize,
    pub(super) slow_after: Option<Duration>,
    pub(super) restart: Option<RestartStrategy>,
    pub(super) failover: FailoverStrategy,
    pub(super) workers: Option<usize>,
    pub(super) buffer_timeout: Duration,
    pub(super) arbiters: Option<Arbiters>,
    pub(super) inline_limit: usize,
    pub(super) unaligned: bool,
    pub(super) aligned_timeout: Option<Duration>,
    pub(super) incremental: bool,
    pub(super) max_increments: Option<usize>,
    pub(super) max_space_amplification: Option<f64>,
    pub(super) local_recovery: Option<LocalRecovery>,
    pub(super) fall_back_to_older: bool,
    pub(super) accept_repeats: bool,
    pub(super) fresh: bool,
    pub(super) cancellation_timeout: Duration,
    pub(super) files: Arc<dyn Files>,
    pub(super) listener: Option<Arc<dyn Listener>>,
    #[cfg(feature = "fault-injection")]
    pub(super) faults: Option<super::drill::FaultDrill>,
}

impl Default for Options {
    fn default() -> Options {
        let settings = Settings::default();
        Options {
            store: None,
            interval: None,
            mode: CheckpointMode::ExactlyOnce,
            timeout: settings.timeout,
            minimum_pause: Duration::ZERO,
            maximum_concurrent: 1,
            retained: 1,
            externalized: None,
            maximum_queued_requests: settings.maximum_queued_requests.get(),
            tolerable_failures: None,
            continue_on_errors: false,
            history: settings.history,
            records: RECORDS,
            slow_after: Some(SLOW_AFTER),
            restart: None,
            failover: FailoverStrategy::default(),
            workers: None,
            buffer_timeout: alluvium_actors::protocol::buffer_timeout::DEFAULT_BUFFER_TIMEOUT,
            arbiters: None,
            inline_limit: DEFAULT_INLINE_LIMIT,
            unaligned: false,
            aligned_timeout: None,
            incremental: false,
            max_increments: None,
            max_space_amplification: None,
            local_recovery: None,
            fall_back_to_older: false,
            accept_repeats: false,
            fresh: false,
            cancellation_timeout: alluvium_actors::drive::supervisor::CANCELLATION_TIMEOUT,
            files: Arc::new(SystemFiles::new()),
            listener: None,
            #[cfg(feature = "fault-injection")]
            faults: None,
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

    /// What checkpoints promise of each record; exactly once if not given.
    ///
    /// At least once, no channel ever waits for another: a slow input does not hold up a fast one, and after a failure some records count again.
    /// Sinks that promise exactly once are refused then, where an operator in front of them takes records of several channels, because its state may have counted a record twice;
    /// [`AtLeastOnce`](crate::connect::AtLeastOnce) takes the promise from such a sink.
    ///
    /// ```
    /// use alluvium::{CheckpointMode, Options};
    ///
    /// let options = Options::default().checkpoint_mode(CheckpointMode::AtLeastOnce);
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn checkpoint_mode(mut self, mode: CheckpointMode) -> Options {
        self.mode = mode;
        self
    }

    /// Lets barriers overtake the records that wait in front of them, so that a checkpoint completes however long the queues are: what was overtaken
    /// becomes part of the checkpoint, and is processed first after a restore, at any parallelism.
    ///
    /// For jobs under back-pressure. A checkpoint is larger then, by at most what the edges hold. Exactly once only, and one checkpoint at a time. A stop, and
    /// the last checkpoint of a job, are always aligned: nothing is in flight in them. Edges that join pairs of subtasks, and those that
    /// [`broadcast`](crate::Stream::broadcast), are aligned too: the cut behind them waits for their barriers.
    ///
    /// Records that are overtaken go through serde: what their `Serialize` writes, their `Deserialize` must read. A function given to
    /// [`partition`](crate::Stream::partition) is asked again where the parallelism has changed: one that answers by chance or by a clock would lose or double records.
    ///
    /// ```
    /// use alluvium::Options;
    /// use std::time::Duration;
    ///
    /// // Aligned as a rule, and never felt behind a queue.
    /// let options = Options::default()
    ///     .checkpoint_every(Duration::from_secs(1))
    ///     .unaligned()
    ///     .aligned_checkpoint_timeout(Duration::from_millis(100));
    /// assert!(options.check().is_ok());
    /// ```
    ///
    /// Flink: `execution.checkpointing.unaligned.enabled`.
    #[must_use]
    pub fn unaligned(mut self) -> Options {
        self.unaligned = true;
        self
    }

    /// Aligns each checkpoint of an [`unaligned`](Options::unaligned) job until this time has passed since its trigger; only then barriers overtake, wherever
    /// they still wait. Zero if not given: they overtake at once.
    ///
    /// Flink: `execution.checkpointing.aligned-checkpoint-timeout`.
    #[must_use]
    pub fn aligned_checkpoint_timeout(mut self, timeout: Duration) -> Options {
        self.aligned_timeout = Some(timeout);
        self
    }

    /// Aborts a checkpoint that is not complete after this time; 10 minutes if not given, at least 10 ms.
    #[must_use]
    pub fn checkpoint_timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout;
        self
    }

    /// Lets at least this time pass from the completion of a checkpoint to the next periodic one; none if not given. A pause longer than the interval
    /// takes its place. Manual checkpoints do not wait for it. It excludes more than one checkpoint at a time.
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

    /// What becomes of completed checkpoints when the job is cancelled or fails for good; all are kept if not given
    /// ([`RetainOnCancellation`](ExternalizedCheckpointRetention::RetainOnCancellation)), so that the next start goes on from the newest. A job that finishes
    /// leaves the mark of its end, one that is stopped what it can go on from, a crash everything, whatever the setting.
    ///
    /// Before checkpoints are deleted, the sinks commit what the newest one holds: output that a completed checkpoint covers is never lost. The
    /// next start then begins anew, and a sink that finds the output of this job refuses to write it a second time: give it another place,
    /// or move the output away. What cannot be deleted, and why, is in
    /// [`JobStatus::checkpoints_left`](crate::JobStatus::checkpoints_left).
    ///
    /// ```
    /// use alluvium::{ExternalizedCheckpointRetention, Options};
    ///
    /// let options = Options::default()
    ///     .store("state")
    ///     .checkpoint_every(std::time::Duration::from_secs(1))
    ///     .externalized_checkpoints(ExternalizedCheckpointRetention::DeleteOnCancellation);
    /// assert!(options.check().is_ok());
    /// ```
    #[must_use]
    pub fn externalized_checkpoints(mut self, retention: ExternalizedCheckpointRetention) -> Options {
        self.externalized = Some(retention);
        self
    }

    /// Lets so many periodic and manual checkpoints fail in a row; one more fails the attempt, and the restart strategy decides. None
    /// is tolerated if not given. A checkpoint fails in a way that counts when it expires, when the asynchronous part of a snapshot
    /// fails, when it is declined, when its id cannot be reserved, or when its manifest cannot be written (Apache Flink's
    /// `execution.checkpointing.tolerable-failed-checkpoints`). A completed checkpoint begins the count anew.
    ///
    /// The checkpoints of a stop and of the end of all data do not count: a stop that fails is answered and the job goes on, the final
    /// one has ten tries of its own. A failed *synchronous* part of a snapshot fails the attempt whatever is tolerated.
    #[must_use]
    pub fn tolerable_checkpoint_failures(mut self, failures: u32) -> Options {
        self.tolerable_failures = Some(failures);
        self
    }

    /// Goes on however many checkpoints fail in a row: without this, and without
    /// [`tolerable_checkpoint_failures`](Options::tolerable_checkpoint_failures), the first one that fails fails the attempt. A job whose
    /// checkpoints never complete commits nothing and begins where it began: watch
    /// [`JobHandle::checkpoint_statistics`](crate::JobHandle::checkpoint_statistics).
    #[must_use]
    pub fn continue_on_checkpoint_errors(mut self) -> Options {
        self.continue_on_errors = true;
        self
    }

    /// Lets so many requests for checkpoints and stops wait for their turn; 1,000 if not given. Beyond that the last in order is refused: a stop
    /// goes before a checkpoint, and what was asked for earlier before what was asked for later.
    #[must_use]
    pub fn maximum_queued_requests(mut self, requests: usize) -> Options {
        self.maximum_queued_requests = requests;
        self
    }

    /// Keeps the figures of so many checkpoints, those under way included, in [`JobHandle::checkpoint_statistics`](crate::JobHandle::checkpoint_statistics); 10 if not
    /// given. With 0 only the counts, the summary and the latest ones are kept. All of them are copied when something changes, so thousands cost time.
    #[must_use]
    pub fn checkpoint_history(mut self, checkpoints: usize) -> Options {
        self.history = checkpoints;
        self
    }

    /// Keeps a record of so many checkpoints that ended, completed or not, for [`JobHandle::checkpoint_history`](crate::JobHandle::checkpoint_history); 100 if not given, none with 0.
    /// With a [`store`](Options::store) they survive the process. They lie in its catalogue, beside everything that counts: losing them loses history
    /// only.
    ///
    /// ```
    /// use alluvium::Options;
    ///
    /// let options = Options::default().store("state").recorded_checkpoints(1_000);
    /// assert!(options.check().is_ok());
    /// ```
    #[must_use]
    pub fn recorded_checkpoints(mut self, checkpoints: usize) -> Options {
        self.records = checkpoints;
        self
    }

    /// Tells why, by `tracing` and as [`JobEvent::TakesLong`](crate::JobEvent::TakesLong), when a checkpoint has been under way for so long: who has not acknowledged it, and
    /// what that subtask waits for or is doing. After 30 s if not given. Zero never tells. A checkpoint that expires says so in any case.
    ///
    /// ```
    /// use std::time::Duration;
    /// use alluvium::Options;
    ///
    /// let options = Options::default().warn_of_slow_checkpoints(Duration::from_secs(2));
    /// assert!(options.check().is_ok());
    /// ```
    #[must_use]
    pub fn warn_of_slow_checkpoints(mut self, after: Duration) -> Options {
        self.slow_after = (!after.is_zero()).then_some(after);
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

    /// Lets a busy subtask hold back a batch that is not full for so long at most; 100 ms if not given. It is the last resort: a batch leaves at once when it is
    /// full, before a barrier, and when its producer has nothing else to do. Zero lets it leave after every step of about half a millisecond.
    #[must_use]
    pub fn buffer_timeout(mut self, timeout: Duration) -> Options {
        self.buffer_timeout = timeout;
        self
    }

    /// Puts pieces of state shorter than this, in bytes, into the manifest itself; 20 kB if not given, 1 MB at most.
    #[must_use]
    pub fn inline_limit(mut self, bytes: usize) -> Options {
        self.inline_limit = bytes;
        self
    }

    /// Whether a checkpoint writes only what changed in keyed state (lists, unions and broadcast maps of an operator are always written whole) since the last complete one, and what was removed, and shares the rest with it: Apache Flink's
    /// `execution.checkpointing.incremental`. Off if not given, as there: then every checkpoint is self-contained.
    ///
    /// It saves most where little of a large state changes from one checkpoint to the next. It costs the memory of what was removed since, a restore that reads
    /// a little more, and blobs that several checkpoints share: none of them can be taken away as a file by itself. Chains of increments are folded in the background, as
    /// [`Options::max_increments`] and [`Options::max_space_amplification`] say. State that is so small that it lies in the manifest is written whole all the same, and a checkpoint that would not be
    /// much smaller than everything too.
    ///
    /// A job can be started again with the other setting.
    ///
    /// ```
    /// use alluvium::Options;
    ///
    /// let options = Options::default().store("state").incremental(true).max_increments(20);
    /// assert!(options.check().is_ok());
    /// ```
    #[must_use]
    pub fn incremental(mut self, incremental: bool) -> Options {
        self.incremental = incremental;
        self
    }

    /// With so many increments over a full piece of state some of them are folded into one, in the background; 10 if not given, so that a restore opens few files. At least 1.
    #[must_use]
    pub fn max_increments(mut self, increments: usize) -> Options {
        self.max_increments = Some(increments);
        self
    }

    /// When a chain of increments with its full piece has so many times the bytes of the full piece, all of it is folded into a new full piece, in the background; 1.5 if not
    /// given, so that a restore reads at most about half as much again as it has to. Above 1. More lets less be written, and takes more space.
    #[must_use]
    pub fn max_space_amplification(mut self, amplification: f64) -> Options {
        self.max_space_amplification = Some(amplification);
        self
    }

    /// How long chains of increments may become.
    pub(super) fn chains(&self) -> Option<ChainLimits> {
        let limits = ChainLimits::default();
        self.incremental.then(|| ChainLimits {
            increments: self.max_increments.unwrap_or(limits.increments),
            space_amplification: self
                .max_space_amplification
                .map_or(limits.space_amplification, |amplification| (amplification * 100.0) as u32),
        })
    }

    /// Keeps what subtasks write into checkpoints near at hand as well, so that a restart in this process reads its state from there instead of the store: in memory up to a limit, beyond it
    /// in files. Off if not given.
    ///
    /// Copies are tried first and verified as they are read; one that is missing, damaged or cannot be read is ignored, with a warning, and the store is read. They are of the newest
    /// completed checkpoint, and of the one that is being written: so room is wanted for both. They cost the processor's time to copy what is written, and end with the process: the next
    /// one reads from the store. Needs a [`store`](Options::store).
    ///
    /// ```
    /// use alluvium::{LocalRecovery, Options};
    ///
    /// let options = Options::default()
    ///     .store("state")
    ///     .local_recovery(LocalRecovery::default().memory_limit(64 << 20).directory("/var/tmp/local-state"));
    /// assert!(options.check().is_ok());
    /// ```
    ///
    /// Flink: `state.backend.local-recovery`, which covers keyed state only; here all state of subtasks. What sinks have prepared is always read from the store.
    #[must_use]
    pub fn local_recovery(mut self, local: LocalRecovery) -> Options {
        self.local_recovery = Some(local);
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

    /// Lets faults happen in the job where this drill says so, for tests and drills: see [`drill`](crate::drill). Only with the feature `fault-injection`.
    #[cfg(feature = "fault-injection")]
    #[must_use]
    pub fn faults(mut self, drill: super::drill::FaultDrill) -> Options {
        self.faults = Some(drill);
        self
    }

    /// Where checkpoints are kept, if not in memory.
    pub(crate) fn store_directory(&self) -> Option<&Path> {
        self.store.as_deref()
    }

    /// The listener that was given.
    pub(crate) fn given_listener(&self) -> Option<Arc<dyn Listener>> {
        self.listener.clone()
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            interval: self.interval,
            timeout: self.timeout,
            minimum_pause: self.minimum_pause,
            overtake_after: self.unaligned.then(|| self.aligned_timeout.unwrap_or_default()),
            maximum_concurrent: NonZeroUsize::new(self.maximum_concurrent).unwrap_or(NonZeroUsize::MIN),
            retained: NonZeroUsize::new(self.retained).unwrap_or(NonZeroUsize::MIN),
            maximum_queued_requests: NonZeroUsize::new(self.maximum_queued_requests).unwrap_or(NonZeroUsize::MIN),
            tolerable_failures: self.tolerance(),
            history: self.history,
            records: self.records,
            slow_after: self.slow_after,
            ..Settings::default()
        }
    }

    /// How many checkpoints may fail in a row; none for any number. Without a schedule only requests of users fail, and those are answered.
    fn tolerance(&self) -> Option<u32> {
        let counts = self.interval.is_some() && !self.continue_on_errors;
        counts.then(|| self.tolerable_failures.unwrap_or(0))
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
