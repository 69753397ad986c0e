//! What is wrong with the options of a job: all of it at once, each with its mend.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_actors::protocol::align::CheckpointMode;
use alluvium_actors::protocol::supervise::{RestartStrategy, RestartStrategyError};

use super::Options;
use crate::graph::GuaranteeNotHeld;
use crate::snapshot::LARGEST_INLINE_LIMIT;

/// The shortest interval between periodic checkpoints, and the shortest timeout.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The highest value of [`Options::max_space_amplification`].
pub const GREATEST_AMPLIFICATION: f64 = 1_000.0;

impl Options {
    /// Everything that is wrong with these options, apart from what depends on the graph.
    ///
    /// # Errors
    /// All of it at once.
    pub fn check(&self) -> Result<(), Vec<OptionError>> {
        let mut errors = self.check_schedule();
        errors.extend(self.check_failures());
        errors.extend(self.check_store());
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
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_schedule(&self) -> Vec<OptionError> {
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
        if self.unaligned {
            if self.mode == CheckpointMode::AtLeastOnce {
                errors.push(OptionError::UnalignedAtLeastOnce);
            }
            if self.maximum_concurrent > 1 {
                errors.push(OptionError::UnalignedWithConcurrency { maximum_concurrent: self.maximum_concurrent });
            }
        } else if let Some(timeout) = self.aligned_timeout {
            errors.push(OptionError::TimeoutWithoutUnaligned { timeout });
        }
        if self.interval.is_none() && !self.minimum_pause.is_zero() {
            errors.push(OptionError::PauseWithoutInterval { pause: self.minimum_pause });
        }
        if self.maximum_queued_requests == 0 {
            errors.push(OptionError::NoQueuedRequest);
        }
        errors
    }

    fn check_failures(&self) -> Vec<OptionError> {
        let mut errors = Vec::new();
        if let Some(failures) = self.tolerable_failures.filter(|_| self.continue_on_errors) {
            errors.push(OptionError::ToleranceTwice { failures });
        }
        if self.interval.is_none() {
            let given = [
                ("tolerable_checkpoint_failures(..)", self.tolerable_failures.is_some()),
                ("continue_on_checkpoint_errors()", self.continue_on_errors),
            ];
            let given = given.into_iter().filter(|(_, given)| *given);
            errors.extend(given.map(|(option, _)| OptionError::ToleranceWithoutInterval { option }));
        }
        if self.cancellation_timeout.is_zero() {
            errors.push(OptionError::NoTimeToCancel);
        }
        errors.extend(self.restart.iter().flat_map(RestartStrategy::check).map(OptionError::Restart));
        errors
    }

    fn check_store(&self) -> Vec<OptionError> {
        let mut errors = Vec::new();
        if self.retained == 0 {
            errors.push(OptionError::NothingRetained);
        }
        if self.inline_limit > LARGEST_INLINE_LIMIT {
            errors.push(OptionError::InlineLimit { bytes: self.inline_limit });
        }
        if self.max_increments == Some(0) {
            errors.push(OptionError::NoIncrement);
        }
        if let Some(amplification) = self.max_space_amplification
            && !(amplification > 1.0 && amplification <= GREATEST_AMPLIFICATION)
        {
            errors.push(OptionError::SpaceAmplification { amplification });
        }
        let chains = [
            ("max_increments(..)", self.max_increments.is_some()),
            ("max_space_amplification(..)", self.max_space_amplification.is_some()),
        ];
        let given = chains.into_iter().filter(|(_, given)| *given && !self.incremental);
        errors.extend(given.map(|(option, _)| OptionError::WithoutIncrements { option }));
        errors.extend(self.check_local_recovery());
        if self.accept_repeats && !self.fall_back_to_older {
            errors.push(OptionError::RepeatsWithoutFallBack);
        }
        if self.store.is_none() {
            if self.retained > 1 {
                errors.push(OptionError::RetainedWithoutStore { retained: self.retained });
            }
            let given = [
                ("externalized_checkpoints(..)", self.externalized.is_some()),
                ("fall_back_to_older()", self.fall_back_to_older),
                ("fresh()", self.fresh),
                ("local_recovery(..)", self.local_recovery.is_some()),
            ];
            let given = given.into_iter().filter(|(_, given)| *given);
            errors.extend(given.map(|(option, _)| OptionError::WithoutStore { option }));
        }
        errors
    }

    fn check_local_recovery(&self) -> Vec<OptionError> {
        let Some(local) = &self.local_recovery else { return Vec::new() };
        let mut errors = Vec::new();
        if local.memory == 0 && local.directories.is_empty() {
            errors.push(OptionError::NoPlaceForCopies);
        }
        for (number, directory) in local.directories.iter().enumerate() {
            if local.directories[..number].contains(directory) {
                errors.push(OptionError::CopiesTwiceInOnePlace { directory: directory.clone() });
            }
            if self.store.as_ref().is_some_and(|store| directory.starts_with(store)) {
                errors.push(OptionError::CopiesInTheStore { directory: directory.clone() });
            }
        }
        errors
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
    /// Where no channel waits there is nothing to overtake.
    #[error(
        "unaligned() and CheckpointMode::AtLeastOnce exclude each other: at least once, no barrier waits for another; leave one of them out"
    )]
    UnalignedAtLeastOnce,
    /// What is in flight belongs to one checkpoint.
    #[error(
        "unaligned() and maximum_concurrent_checkpoints({maximum_concurrent}) exclude each other: allow one checkpoint at a time, or leave out unaligned()"
    )]
    UnalignedWithConcurrency {
        /// What was given.
        maximum_concurrent: usize,
    },
    /// Without unaligned checkpoints nothing ever overtakes.
    #[error(
        "aligned_checkpoint_timeout({timeout:?}) has no effect without unaligned(): give that too, or leave it out"
    )]
    TimeoutWithoutUnaligned {
        /// What was given.
        timeout: Duration,
    },
    /// A pause between periodic checkpoints that are off.
    #[error(
        "minimum_pause({pause:?}) has no effect without periodic checkpoints: give checkpoint_every(..), or leave it out"
    )]
    PauseWithoutInterval {
        /// What was given.
        pause: Duration,
    },
    /// No checkpoint would be kept.
    #[error("retained_checkpoints(0) keeps nothing to recover from: give at least 1")]
    NothingRetained,
    /// Several checkpoints are to be kept, and the newest is the only one that is ever used.
    #[error(
        "retained_checkpoints({retained}) has no effect without a store: what is in memory ends with the process; give store(..), or leave it out"
    )]
    RetainedWithoutStore {
        /// What was given.
        retained: usize,
    },
    /// No request could wait.
    #[error("maximum_queued_requests(0) refuses every request that has to wait, a stop too: give at least 1")]
    NoQueuedRequest,
    /// A number and no limit at once.
    #[error(
        "tolerable_checkpoint_failures({failures}) and continue_on_checkpoint_errors() exclude each other: give a limit, or none"
    )]
    ToleranceTwice {
        /// What was given.
        failures: u32,
    },
    /// Failures are tolerated of periodic checkpoints that are off.
    #[error(
        "{option} has no effect without periodic checkpoints, since a request that fails is answered: give checkpoint_every(..), or leave it out"
    )]
    ToleranceWithoutInterval {
        /// Which option was given.
        option: &'static str,
    },
    /// The job would fail at each end of an attempt.
    #[error(
        "cancellation_timeout(0) fails the job whenever an attempt has to end: give the time that user calls may take"
    )]
    NoTimeToCancel,
    /// What is to be done about the checkpoints of a store that there is not.
    #[error("{option} has no effect without a store: give store(..), or leave it out")]
    WithoutStore {
        /// Which option was given.
        option: &'static str,
    },
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
    /// A chain without increments.
    #[error("max_increments(0) leaves no room for an increment: give at least 1, or incremental(false)")]
    NoIncrement,
    /// A chain is never smaller than its full piece.
    #[error(
        "max_space_amplification({amplification}) is not above 1 and at most {GREATEST_AMPLIFICATION}: give 1.5 for half as much again as the full state"
    )]
    SpaceAmplification {
        /// What was given.
        amplification: f64,
    },
    /// What is to be done about increments that there are not.
    #[error("{option} has no effect where every checkpoint is self-contained: give incremental(true), or leave it out")]
    WithoutIncrements {
        /// Which option was given.
        option: &'static str,
    },
    /// No local copy could be kept.
    #[error(
        "local_recovery(..) with memory_limit(0) and without a directory keeps nothing: give bytes, or a directory"
    )]
    NoPlaceForCopies,
    /// One directory for local copies stands there more than once.
    #[error("local_recovery(..) names the directory {} more than once: give it once", .directory.display())]
    CopiesTwiceInOnePlace {
        /// Which one.
        directory: PathBuf,
    },
    /// Local copies would lie among the checkpoints.
    #[error("the directory {} of local_recovery(..) lies in the store: give one beside it", .directory.display())]
    CopiesInTheStore {
        /// Which one.
        directory: PathBuf,
    },
    /// Repeats are accepted, but only a fall-back causes them.
    #[error("accept_repeats() has no effect without fall_back_to_older(): give both, or neither")]
    RepeatsWithoutFallBack,
    /// A declared guarantee does not hold with these options.
    #[error(transparent)]
    GuaranteeNotHeld(GuaranteeNotHeld),
    /// The sink promises more than the checkpoints do.
    #[error(
        "the sink `{sink}` promises exactly once, and with CheckpointMode::AtLeastOnce the state in front of it may count a record twice: leave the mode at CheckpointMode::ExactlyOnce, or wrap the sink in AtLeastOnce::new(..)"
    )]
    CountsTwice {
        /// The exactly-once sink.
        sink: String,
    },
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
