//! What must be true of every job's checkpoints over all its processes, judged by what the job tells.

use std::collections::BTreeSet;

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::listener::JobEvent;
use alluvium_actors::protocol::lifecycle::JobState;

/// Follows the checkpoints of a job.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Option<JobState>,
    triggered: BTreeSet<CheckpointId>,
    /// The newest id that was triggered.
    newest: Option<CheckpointId>,
    /// The newest one that is known to be complete.
    complete: Option<CheckpointId>,
    completed: u64,
    run: Option<RunNumber>,
    /// A cancelled job deletes its checkpoints.
    deleting: bool,
    wrong: Option<String>,
}

impl Watch {
    /// A process starts.
    pub(super) fn starts(&mut self) {
        self.state = None;
    }

    pub(super) fn state(&self) -> JobState {
        self.state.unwrap_or(JobState::Restoring)
    }

    pub(super) fn complete(&self) -> Option<CheckpointId> {
        self.complete
    }

    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// # Errors
    /// The first broken promise.
    pub(super) fn verdict(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    pub(super) fn event(&mut self, event: &JobEvent) {
        match event {
            JobEvent::State(state) => self.state = Some(*state),
            JobEvent::RunBegan { run, restored } => self.run_began(*run, *restored),
            JobEvent::Triggered { checkpoint, .. } => {
                if self.newest >= Some(*checkpoint) {
                    self.is_wrong(format!("checkpoint {checkpoint} was triggered after {:?}", self.newest));
                }
                self.newest = Some(*checkpoint);
                self.triggered.insert(*checkpoint);
            }
            JobEvent::Completed { checkpoint, .. } => {
                if !self.triggered.contains(checkpoint) || self.complete >= Some(*checkpoint) {
                    self.is_wrong(format!("checkpoint {checkpoint} was completed after {:?}", self.complete));
                }
                self.complete = Some(*checkpoint);
                self.completed += 1;
            }
            JobEvent::DeletingCheckpoints => self.deleting = true,
            _ => {}
        }
    }

    fn run_began(&mut self, run: RunNumber, restored: Option<CheckpointId>) {
        if self.run >= Some(run) {
            self.is_wrong(format!("run {run} began after run {:?}", self.run));
        }
        self.run = Some(run);
        // A deletion that a crash interrupts has gone through or not: the next start finds the newest checkpoint or none.
        let may_be_gone = self.deleting && restored.is_none();
        if restored < self.complete && !may_be_gone {
            self.is_wrong(format!(
                "a completed checkpoint was lost: run {run} begins with {restored:?}, complete was {:?}",
                self.complete
            ));
        }
        if restored.is_some_and(|restored| !self.triggered.contains(&restored)) {
            self.is_wrong(format!("run {run} begins with {restored:?}, which was never triggered"));
        }
        self.complete = restored;
    }

    fn is_wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}
