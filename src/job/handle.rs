//! The handle of a running job: cloneable, `Send + Sync`, works from any thread and any runtime.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium_actors::drive::control::{Control, Reply};
use alluvium_actors::drive::overview::Overview;
use alluvium_actors::ids::{CheckpointId, RegionId, RunNumber, WallTime};
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::listener::JobEvent;
use alluvium_actors::ports::store::CheckpointKind;
use alluvium_actors::ports::task::Failure;
use alluvium_actors::protocol::coordinator::{FailureReason, StatisticsSnapshot};
use alluvium_actors::protocol::lifecycle::JobState;
use alluvium_actors::protocol::story::Story;
use alluvium_actors::run::{RunningJob, RunsHere};
use futures::Stream;
use futures::channel::{mpsc, oneshot};
use futures::executor::block_on;

use super::monitor::{Monitor, cause};

/// A running job. Clones are the same job. Dropping all handles does not end it.
#[derive(Clone, Debug)]
pub struct JobHandle {
    pub(super) running: RunningJob,
    pub(super) monitor: Arc<Monitor>,
    pub(super) overview: Arc<Overview>,
}

/// How a job is doing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobStatus {
    /// Its state.
    pub state: JobState,
    /// The run that it is in: one per start and per restart.
    pub run: Option<RunNumber>,
    /// How often its subtasks were deployed in this process.
    pub attempts: u32,
    /// The checkpoint that this process began with; `None` if it began anew.
    pub restored_from: Option<CheckpointId>,
    /// The checkpoint that the current attempt began with.
    pub last_restored: Option<CheckpointId>,
    /// How many checkpoints were completed in this process.
    pub checkpoints_completed: u64,
    /// How many were aborted.
    pub checkpoints_aborted: u64,
    /// The last completed checkpoint, the restored one included.
    pub last_completed: Option<CheckpointId>,
    /// The cause of the last failure.
    pub failure: Option<Failure>,
    /// How often the job was restarted in this process, as a whole or in part.
    pub restarts: u32,
    /// When the next restart is due, while one is waited for.
    pub next_restart: Option<WallTime>,
    /// The parts of the job that fail and restart on their own: what edges connect. One for a job that hangs together.
    pub regions: Vec<RegionStatus>,
    /// Why checkpoints are left that were to be deleted when the job ended, if that is so.
    pub checkpoints_left: Option<String>,
    pub(super) failed_attempt: Option<u32>,
}

impl Default for JobStatus {
    fn default() -> JobStatus {
        JobStatus {
            state: JobState::Created,
            run: None,
            attempts: 0,
            restored_from: None,
            last_restored: None,
            checkpoints_completed: 0,
            checkpoints_aborted: 0,
            last_completed: None,
            failure: None,
            restarts: 0,
            next_restart: None,
            regions: Vec::new(),
            checkpoints_left: None,
            failed_attempt: None,
        }
    }
}

/// How a region of the job is doing: a connected part, which fails and restarts on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatus {
    /// Its number.
    pub region: RegionId,
    /// The names of its chains of operators.
    pub operators: Vec<String>,
    /// How often it was restarted in this process, alone or with others.
    pub restarts: u32,
    /// Whether it is being restarted: it failed, or restarts with what failed, and does not run yet.
    pub restarting: bool,
}

/// What is known of one checkpoint of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointFigures {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// How many subtasks have acknowledged it.
    pub acknowledged: usize,
    /// How it ended, if it has.
    pub result: Option<CheckpointResult>,
    /// What it says of itself, in one sentence, if it has ended.
    pub story: Option<String>,
}

/// How a checkpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointResult {
    /// Its manifest is published.
    Completed {
        /// From the trigger to the published manifest.
        duration: Duration,
        /// The bytes of all its pieces.
        bytes: u64,
    },
    /// It was given up.
    Aborted {
        /// Why.
        reason: FailureReason,
    },
}

impl CheckpointFigures {
    pub(super) fn triggered(checkpoint: CheckpointId, kind: CheckpointKind) -> CheckpointFigures {
        CheckpointFigures { checkpoint, kind, acknowledged: 0, result: None, story: None }
    }

    pub(super) fn complete(&mut self, duration: Duration, bytes: u64) {
        self.result = Some(CheckpointResult::Completed { duration, bytes });
    }

    pub(super) fn abort(&mut self, reason: FailureReason) {
        self.result = Some(CheckpointResult::Aborted { reason });
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobReport {
    /// How.
    pub outcome: JobOutcome,
    /// The status at the end.
    pub status: JobStatus,
}

impl JobReport {
    /// Whether the job had finished before this start, which then changed nothing.
    #[must_use]
    pub fn was_finished_before(&self) -> bool {
        self.outcome == JobOutcome::Finished && self.status.run.is_none()
    }
}

/// The good ends of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// All input was processed and all output committed.
    Finished,
    /// It was stopped with a checkpoint; the next start goes on from there.
    Stopped,
    /// It was cancelled.
    Cancelled,
}

/// A job failed, or did not do what was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// It failed for good.
    #[error("the job failed: {0}")]
    Failed(Failure),
    /// The checkpoint that was asked for did not complete.
    #[error("no checkpoint was taken: {reason}")]
    NoCheckpoint {
        /// Why.
        reason: String,
    },
    /// An arbiter, or the whole `System`, that the job ran on was stopped, and the job ended with it. Nothing that was completed is lost.
    #[error(
        "the arbiter or System that the job ran on was stopped, and the job ended with it; the next start goes on from {}",
        last_completed.map_or("the beginning".to_owned(), |checkpoint| format!("checkpoint {checkpoint}"))
    )]
    ArbiterStopped {
        /// The last completed checkpoint.
        last_completed: Option<CheckpointId>,
    },
    /// A blocking call on a thread that runs the job's own actors.
    #[error(
        "this thread runs actors of the job, so that blocking it for the job would never end: await {instead}, or call it on another thread"
    )]
    WouldBlockItself {
        /// What to await.
        instead: &'static str,
    },
    /// The job ended before it could answer.
    #[error("the job ended before it answered: ask for its status")]
    Ended,
}

impl JobHandle {
    /// How the job is doing.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.monitor.known().status.clone()
    }

    /// The last checkpoints of this process, oldest first, at most 1,000, in short. More of fewer is in [`JobHandle::checkpoint_statistics`].
    #[must_use]
    pub fn checkpoints(&self) -> Vec<CheckpointFigures> {
        self.monitor.known().checkpoints.iter().cloned().collect()
    }

    /// All that is known of the checkpoints: how many there were, how long they took and how large they were, the last ones with every subtask's part,
    /// and the latest that was completed, that failed, that was restored. A copy that never changes; also after the job has ended.
    ///
    /// ```
    /// use alluvium::connect::Generator;
    /// use alluvium::{Job, Options};
    ///
    /// let job = Job::new("numbers");
    /// job.source("numbers", Generator::bounded(1_000, |index| index)).for_each("nothing", |_| ());
    /// let handle = job.build()?.start(&Options::default())?;
    /// handle.wait_blocking()?;
    /// let statistics = handle.checkpoint_statistics();
    /// assert_eq!((statistics.counts.completed, statistics.counts.failed), (1, 0));
    /// let last = statistics.latest_completed.as_ref().expect("the final one");
    /// assert_eq!(last.acknowledged, last.subtasks);
    /// assert_eq!(statistics.summary.bytes.maximum(), Some(last.bytes));
    /// println!("half of them took at most {:?}", statistics.summary.duration.quantile(0.5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn checkpoint_statistics(&self) -> Arc<StatisticsSnapshot> {
        Arc::clone(&self.monitor.known().statistics)
    }

    /// The records of the last checkpoints that ended, completed or not, oldest first: how long they took and why, in one sentence, and the times and sizes of the subtasks that
    /// acknowledged last. With a [`store`](crate::Options::store) those of earlier processes are among them. At most as many as
    /// [`Options::recorded_checkpoints`](crate::Options::recorded_checkpoints) says.
    ///
    /// ```
    /// use alluvium::connect::Generator;
    /// use alluvium::{Job, Options};
    ///
    /// let job = Job::new("numbers");
    /// job.source("numbers", Generator::bounded(1_000, |index| index)).for_each("nothing", |_| ());
    /// let handle = job.build()?.start(&Options::default())?;
    /// handle.wait_blocking()?;
    /// for record in handle.checkpoint_history() {
    ///     // checkpoint 1 took 1 ms: waited 612 µs for channel 0 of `nothing[0]` (from `numbers[0]`), behind 0 batches
    ///     println!("{}", record.story);
    ///     assert_eq!((record.failure.as_ref(), record.parts.len()), (None, record.subtasks));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn checkpoint_history(&self) -> Vec<Arc<CheckpointRecord>> {
        self.monitor.known().history.iter().cloned().collect()
    }

    /// Why the oldest checkpoint that is under way is not complete yet: who has not acknowledged it, what that subtask waits for, and which operator is inside of which
    /// call since when. None if no checkpoint is under way. Asks no actor, so it also answers while one hangs; from any thread.
    ///
    /// ```
    /// use alluvium::connect::Generator;
    /// use alluvium::{Job, Options};
    ///
    /// let job = Job::new("numbers");
    /// job.source("numbers", Generator::bounded(1_000, |index| index)).for_each("nothing", |_| ());
    /// let handle = job.build()?.start(&Options::default())?;
    /// if let Some(story) = handle.explain_checkpoint() {
    ///     // checkpoint 7 has been under way for 812 ms: 1 of 4 subtasks has not acknowledged; `join[0]` has waited 812 ms for
    ///     // channel 3 (from `enrich[1]`), behind 41 batches; `join` has been inside a user call (records) for 790 ms
    ///     println!("{story}");
    /// }
    /// handle.wait_blocking()?;
    /// assert_eq!(handle.explain_checkpoint(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain_checkpoint(&self) -> Option<Story> {
        self.overview.explain(self.running.now())
    }

    /// Every event from now on, in order. Ends when the job has ended.
    #[must_use]
    pub fn events(&self) -> Events {
        Events { receiver: self.monitor.subscribe(), running: self.running.clone() }
    }

    /// Takes a checkpoint now, whatever the interval and the minimum pause say.
    ///
    /// # Errors
    /// When it was aborted, or the job ended.
    pub async fn trigger_checkpoint(&self) -> Result<CheckpointId, JobError> {
        self.ask(Address::Coordinator, Control::TakeCheckpoint).await
    }

    /// Stops the job with a checkpoint: what was read is committed, nothing is lost, the next start goes on from there. Returns when that checkpoint is complete;
    /// [`JobHandle::wait`] tells when all has ended.
    ///
    /// # Errors
    /// When the checkpoint was aborted (the job then goes on), or the job ended.
    pub async fn stop(&self) -> Result<CheckpointId, JobError> {
        self.ask(Address::Supervisor, Control::Stop).await
    }

    /// Ends the job now, without a checkpoint. Whether those that were completed are kept is a setting: see
    /// [`Options::externalized_checkpoints`](crate::Options::externalized_checkpoints).
    pub fn cancel(&self) {
        self.running.send(Address::Supervisor, Control::CancelJob);
    }

    /// Waits until the job has ended and holds nothing any more: its store is free, its last thread is about to end.
    ///
    /// # Errors
    /// When the job failed for good; the failure names the operator.
    pub async fn wait(&self) -> Result<JobReport, JobError> {
        let _ = self.monitor.wait().await;
        self.report()
    }

    /// [`JobHandle::wait`] for code that is not asynchronous.
    ///
    /// # Errors
    /// As [`JobHandle::wait`], and [`JobError::WouldBlockItself`] on a thread that runs actors of the job.
    pub fn wait_blocking(&self) -> Result<JobReport, JobError> {
        self.may_block("wait()")?;
        self.monitor.wait_blocking();
        self.running.join();
        self.report()
    }

    /// [`JobHandle::stop`], then [`JobHandle::wait`], for code that is not asynchronous. A job that ends by itself meanwhile is no error.
    ///
    /// # Errors
    /// As both.
    pub fn stop_blocking(&self) -> Result<JobReport, JobError> {
        self.may_block("stop()")?;
        match block_on(self.stop()) {
            Ok(_) | Err(JobError::Ended) => self.wait_blocking(),
            Err(error) => Err(error),
        }
    }

    /// [`JobHandle::trigger_checkpoint`] for code that is not asynchronous.
    ///
    /// # Errors
    /// As [`JobHandle::trigger_checkpoint`].
    pub fn trigger_checkpoint_blocking(&self) -> Result<CheckpointId, JobError> {
        self.may_block("trigger_checkpoint()")?;
        block_on(self.trigger_checkpoint())
    }

    /// Refuses to block one of the job's own threads.
    fn may_block(&self, instead: &'static str) -> Result<(), JobError> {
        if self.monitor.known().ended {
            return Ok(());
        }
        match self.running.runs_here() {
            RunsHere::No => Ok(()),
            RunsHere::Yes | RunsHere::Unknown => Err(JobError::WouldBlockItself { instead }),
        }
    }

    async fn ask(
        &self,
        to: Address,
        message: impl FnOnce(Reply<CheckpointId>) -> Control,
    ) -> Result<CheckpointId, JobError> {
        let (answer, answered) = oneshot::channel();
        let reply = Reply(Box::new(move |result| {
            let _ = answer.send(result);
        }));
        self.running.send(to, message(reply));
        match answered.await {
            Ok(Ok(checkpoint)) => Ok(checkpoint),
            Ok(Err(reason)) => Err(JobError::NoCheckpoint { reason }),
            Err(oneshot::Canceled) => Err(JobError::Ended),
        }
    }

    fn report(&self) -> Result<JobReport, JobError> {
        let status = self.status();
        if status.state == JobState::Failed && self.monitor.known().arbiter_stopped {
            return Err(JobError::ArbiterStopped { last_completed: status.last_completed });
        }
        let outcome = match status.state {
            JobState::Finished => JobOutcome::Finished,
            JobState::Stopped => JobOutcome::Stopped,
            JobState::Cancelled => JobOutcome::Cancelled,
            JobState::Failed
            | JobState::Failing
            | JobState::Created
            | JobState::Restoring
            | JobState::Running
            | JobState::Stopping
            | JobState::Restarting
            | JobState::Cancelling => return Err(JobError::Failed(cause(&status))),
        };
        Ok(JobReport { outcome, status })
    }
}

/// The events of a job: a `Stream`, and an `Iterator` that blocks (and panics where it would wait for its own thread: on one that runs the job's actors).
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::UnboundedReceiver<JobEvent>,
    running: RunningJob,
}

impl Stream for Events {
    type Item = JobEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

impl Iterator for Events {
    type Item = JobEvent;

    fn next(&mut self) -> Option<JobEvent> {
        use futures::{FutureExt as _, StreamExt as _};
        if let Some(event) = self.receiver.next().now_or_never() {
            return event;
        }
        assert!(
            self.running.runs_here() != RunsHere::Yes,
            "this thread runs actors of the job, so that blocking it for the job's events would never end: use Events as a Stream here"
        );
        block_on(self.receiver.next())
    }
}
