//! How a job comes to its end: its subtasks ended by themselves, or nothing of them is left and none follows.

use super::{Ending, Phase, SupervisorDriver};
use crate::drive::cleanup::CleanupDriver;
use crate::drive::control::Control;
use crate::ids::Attempt;
use crate::ports::host::Address;
use crate::ports::listener::JobEvent;
use crate::ports::store::CheckpointKind;
use crate::ports::task::Failure;
use crate::protocol::cleanup::Leaves;
use crate::protocol::lifecycle::JobState;
use crate::protocol::mutation::{Mutation, is_active};

impl SupervisorDriver {
    /// All subtasks ended after a checkpoint that closes the job.
    pub(super) fn ended_by_itself(&mut self) -> Result<(), Failure> {
        self.ending = match self.closed {
            Some(CheckpointKind::Final) => Some(Ending::Finished),
            Some(CheckpointKind::Stopping) => Some(Ending::Stopped),
            None if is_active(Mutation::SkipTheFinalCheckpoint) => Some(Ending::Finished),
            Some(CheckpointKind::Periodic | CheckpointKind::Manual) | None => {
                return Err(Failure::unrecoverable(
                    "supervisor",
                    "all subtasks ended without a checkpoint that ends the job",
                ));
            }
        };
        self.end_sinks();
        Ok(())
    }

    pub(super) fn end_sinks(&mut self) {
        for sink in &self.sinks {
            self.host.send(Address::Sink(*sink, self.attempt_of_sink(*sink)), Control::Cancel);
        }
        self.phase = Phase::EndingSinks;
    }

    pub(super) fn shut_down(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.phase = Phase::ShuttingDown;
        if self.coordinator_gone {
            self.clean_up();
        } else {
            self.host.send(Address::Coordinator, Control::Shutdown);
        }
    }

    /// Removes the checkpoints that are not to be left (rule 24).
    pub(super) fn clean_up(&mut self) {
        let end = self.final_state();
        let leaves = match self.setup.retention.leaves(end) {
            Leaves::Nothing if self.unsettled => self.leave_all("it is unknown whether a checkpoint was stored"),
            // Perhaps it is the wrong job, the wrong store or the wrong input that could not be started.
            Leaves::Nothing if end == JobState::Failed && !self.has_run => {
                self.leave_all("the job failed before it ran")
            }
            leaves => leaves,
        };
        let fence = self.fences.advance();
        let attempt = Attempt(self.machine.attempt().0 + 1);
        let cleanup = CleanupDriver::begin(self.host.as_ref(), &self.setup, attempt, fence, leaves);
        self.phase = Phase::CleaningUp(Box::new(cleanup));
    }

    /// Nothing is deleted although the setting says so.
    pub(super) fn leave_all(&self, reason: &str) -> Leaves {
        tracing::warn!(reason, "checkpoints that were to be deleted are left");
        self.setup.listener.event(JobEvent::CheckpointsLeft { reason: reason.to_owned() });
        Leaves::Everything
    }

    fn final_state(&self) -> JobState {
        match self.ending {
            Some(Ending::Finished) => JobState::Finished,
            Some(Ending::Stopped) => JobState::Stopped,
            Some(Ending::Cancelled) => JobState::Cancelled,
            Some(Ending::Failed) | None => JobState::Failed,
        }
    }

    pub(super) fn over(&mut self) {
        self.phase = Phase::Over;
        self.enter(self.final_state());
    }
}
