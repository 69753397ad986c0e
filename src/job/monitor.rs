//! What is known of a running job: fed by its events, read by its handles.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::plan::Plan;
use alluvium_actors::ports::blocking::panic_text;
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::listener::{JobEvent, Listener};
use alluvium_actors::ports::task::Failure;
use alluvium_actors::protocol::coordinator::StatisticsSnapshot;
use alluvium_actors::protocol::lifecycle::JobState;
use alluvium_actors::protocol::supervise::Regions;
use futures::channel::{mpsc, oneshot};

use super::handle::{CheckpointFigures, JobStatus, RegionStatus};

/// Of how many checkpoints the figures are kept.
const CHECKPOINTS_KEPT: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Monitor {
    known: Mutex<Known>,
    over: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) status: JobStatus,
    pub(super) checkpoints: VecDeque<CheckpointFigures>,
    pub(super) statistics: Arc<StatisticsSnapshot>,
    /// The checkpoints that ended, of earlier processes too, oldest first; at most `records`.
    pub(super) history: VecDeque<Arc<CheckpointRecord>>,
    records: usize,
    subscribers: Vec<mpsc::UnboundedSender<JobEvent>>,
    waiting: Vec<oneshot::Sender<()>>,
    /// The job's threads have ended: its store is free again.
    pub(super) ended: bool,
    /// The job ended because an arbiter was stopped, and not for a reason of its own.
    pub(super) arbiter_stopped: bool,
}

impl Monitor {
    /// Knows the regions of the plan and the history of earlier processes, and nothing else yet.
    pub(super) fn of(plan: &Plan, records: usize, earlier: Vec<CheckpointRecord>) -> Monitor {
        let regions = Regions::of_plan(plan);
        let status = |region| RegionStatus {
            region,
            operators: regions.nodes(region).map(|node| plan.node(node).name.clone()).collect(),
            restarts: 0,
            restarting: false,
        };
        let monitor = Monitor::default();
        let mut known = monitor.known();
        known.status.regions = regions.all().into_iter().map(status).collect();
        known.records = records;
        let surplus = earlier.len().saturating_sub(records);
        known.history = earlier.into_iter().skip(surplus).map(Arc::new).collect();
        drop(known);
        monitor
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job's threads have ended.
    pub(super) fn ended(&self) {
        let mut known = self.known();
        known.ended = true;
        known.subscribers.clear();
        for waiting in known.waiting.drain(..) {
            let _ = waiting.send(());
        }
        self.over.notify_all();
    }

    pub(super) fn wait_blocking(&self) {
        let mut known = self.known();
        while !known.ended {
            known = self.over.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Resolves when the job's threads have ended.
    pub(super) fn wait(&self) -> oneshot::Receiver<()> {
        let (told, waiting) = oneshot::channel();
        let mut known = self.known();
        if known.ended {
            let _ = told.send(());
        } else {
            known.waiting.push(told);
        }
        waiting
    }

    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<JobEvent> {
        let (sender, receiver) = mpsc::unbounded();
        let mut known = self.known();
        if !known.ended {
            known.subscribers.push(sender);
        }
        receiver
    }
}

impl Known {
    fn note(&mut self, event: &JobEvent) {
        if *event == JobEvent::ArbiterStopped {
            self.arbiter_stopped |= self.status.failed_attempt != Some(self.status.attempts);
        }
        let status = &mut self.status;
        match event {
            JobEvent::State(state) => {
                status.state = *state;
                if *state == JobState::Restoring {
                    status.attempts += 1;
                    if status.next_restart.take().is_some() {
                        status.restarts += 1;
                        for region in status.regions.iter_mut().filter(|region| region.restarting) {
                            region.restarts += 1;
                        }
                    }
                }
                if *state == JobState::Running || state.is_terminal() {
                    status.next_restart = None;
                    status.regions.iter_mut().for_each(|region| region.restarting = false);
                }
            }
            JobEvent::RunBegan { run, restored } => {
                status.run = Some(*run);
                if status.attempts <= 1 {
                    status.restored_from = *restored;
                }
                status.last_restored = *restored;
                status.last_completed = status.last_completed.max(*restored);
            }
            JobEvent::Restarting { at, regions, .. } => {
                status.next_restart = Some(*at);
                for region in status.regions.iter_mut().filter(|region| regions.contains(&region.region)) {
                    region.restarting = true;
                }
            }
            JobEvent::Triggered { checkpoint, kind } => {
                if self.checkpoints.len() == CHECKPOINTS_KEPT {
                    self.checkpoints.pop_front();
                }
                self.checkpoints.push_back(CheckpointFigures::triggered(*checkpoint, *kind));
            }
            JobEvent::Acknowledged { checkpoint, .. } => {
                if let Some(figures) = self.figures(*checkpoint) {
                    figures.acknowledged += 1;
                }
            }
            JobEvent::Completed { checkpoint, duration, bytes, .. } => {
                status.checkpoints_completed += 1;
                status.last_completed = Some(*checkpoint);
                if let Some(figures) = self.figures(*checkpoint) {
                    figures.complete(*duration, *bytes);
                }
            }
            JobEvent::Aborted { checkpoint, reason, .. } => {
                status.checkpoints_aborted += 1;
                if let Some(figures) = self.figures(*checkpoint) {
                    figures.abort(*reason);
                }
            }
            JobEvent::CheckpointsLeft { reason } => status.checkpoints_left = Some(reason.clone()),
            JobEvent::Failed(failure) => {
                // The first failure of an attempt is the cause, what follows are its consequences.
                if status.failed_attempt != Some(status.attempts) {
                    status.failed_attempt = Some(status.attempts);
                    status.failure = Some(failure.clone());
                } else if failure.severity > status.failure.as_ref().map_or(failure.severity, |first| first.severity) {
                    status.failure = Some(failure.clone());
                }
            }
            _ => {}
        }
    }

    fn record(&mut self, record: &Arc<CheckpointRecord>) {
        if let Some(figures) = self.figures(record.checkpoint) {
            figures.story = Some(record.story.clone());
        }
        self.history.push_back(Arc::clone(record));
        while self.history.len() > self.records {
            self.history.pop_front();
        }
    }

    fn figures(&mut self, checkpoint: CheckpointId) -> Option<&mut CheckpointFigures> {
        self.checkpoints.iter_mut().rev().find(|figures| figures.checkpoint == checkpoint)
    }
}

/// The listener of one job.
pub(super) struct Feed {
    pub(super) monitor: Arc<Monitor>,
    /// The user's own listener.
    pub(super) also: Option<Arc<dyn Listener>>,
}

impl Listener for Feed {
    fn event(&self, event: JobEvent) {
        trace(&event);
        if let Some(also) = &self.also {
            // It only watches: what it does wrong is no failure of the job.
            let heard = catch_unwind(AssertUnwindSafe(|| also.event(event.clone())));
            if let Err(panic) = heard {
                tracing::error!(?event, text = panic_text(panic.as_ref()), "the job's listener panicked");
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            }
        }
        let mut known = self.monitor.known();
        known.note(&event);
        known.subscribers.retain(|subscriber| subscriber.unbounded_send(event.clone()).is_ok());
    }

    fn statistics(&self, statistics: &Arc<StatisticsSnapshot>) {
        if let Some(also) = &self.also {
            let heard = catch_unwind(AssertUnwindSafe(|| also.statistics(statistics)));
            if let Err(panic) = heard {
                tracing::error!(text = panic_text(panic.as_ref()), "the job's listener panicked");
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            }
        }
        self.monitor.known().statistics = Arc::clone(statistics);
    }

    fn recorded(&self, record: &Arc<CheckpointRecord>) {
        tracing::debug!(story = record.story, "checkpoint");
        if let Some(also) = &self.also {
            let heard = catch_unwind(AssertUnwindSafe(|| also.recorded(record)));
            if let Err(panic) = heard {
                tracing::error!(text = panic_text(panic.as_ref()), "the job's listener panicked");
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            }
        }
        self.monitor.known().record(record);
    }
}

fn trace(event: &JobEvent) {
    match event {
        JobEvent::State(state) => tracing::info!(%state, "job"),
        JobEvent::RunBegan { run, restored } => tracing::info!(%run, ?restored, "run"),
        JobEvent::Completed { checkpoint, duration, bytes, .. } => {
            tracing::debug!(%checkpoint, ?duration, bytes, "checkpoint complete");
        }
        JobEvent::Aborted { checkpoint, reason, story } => {
            tracing::warn!(%checkpoint, %reason, story, "checkpoint aborted");
        }
        JobEvent::TakesLong { checkpoint, story } => tracing::warn!(%checkpoint, story, "checkpoint takes long"),
        JobEvent::Failed(failure) => tracing::error!(%failure, "job failed"),
        JobEvent::ArbiterStopped => tracing::warn!("an arbiter that the job runs on was stopped"),
        JobEvent::Restarting { delay, restart, operators, .. } => {
            tracing::warn!(?delay, restart, operators = operators.join(", "), "job restarts");
        }
        JobEvent::Triggered { checkpoint, kind } => tracing::debug!(%checkpoint, ?kind, "checkpoint triggered"),
        other => tracing::trace!(?other, "job event"),
    }
}

/// The failure that ended a job.
pub(super) fn cause(status: &JobStatus) -> Failure {
    status.failure.clone().unwrap_or_else(|| Failure::unrecoverable("job", "it failed without a reason"))
}
