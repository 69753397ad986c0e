//! What a run knows of its job by what the job tells, and what it holds against every job: see [`MonotoneIds`].

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::listener::JobEvent;
use alluvium_actors::protocol::lifecycle::JobState;

use crate::testing::check::MonotoneIds;

/// Follows the checkpoints of a job.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Option<JobState>,
    restarts: u32,
    ids: MonotoneIds,
    completed: u64,
}

impl Watch {
    /// A process starts.
    pub(super) fn starts(&mut self) {
        self.state = None;
        self.restarts = 0;
    }

    /// How many restarts there were in the current process.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    pub(super) fn state(&self) -> JobState {
        self.state.unwrap_or(JobState::Restoring)
    }

    pub(super) fn complete(&self) -> Option<CheckpointId> {
        self.ids.complete()
    }

    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// # Errors
    /// The first broken promise.
    pub(super) fn verdict(&self) -> Result<(), String> {
        self.ids.verdict().map_err(|violation| violation.to_string())
    }

    pub(super) fn event(&mut self, event: &JobEvent) {
        match event {
            JobEvent::State(state) => self.state = Some(*state),
            JobEvent::Restarting { restart, .. } => self.restarts = *restart,
            JobEvent::Completed { .. } => self.completed += 1,
            _ => {}
        }
        self.ids.event(event);
    }
}
