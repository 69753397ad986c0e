//! How a job comes to its end: its subtasks ended by themselves, or nothing of them is left and none follows.

use std::sync::Arc;

use super::{Ending, Phase, SupervisorDriver};
use crate::drive::control::Control;
use crate::ports::blocking::{Lane, Promise};
use crate::ports::host::Address;
use crate::ports::store::CheckpointKind;
use crate::ports::task::Failure;
use crate::protocol::lifecycle::JobState;

impl SupervisorDriver {
    /// All subtasks ended after a checkpoint that closes the job.
    pub(super) fn ended_by_itself(&mut self) -> Result<(), Failure> {
        self.ending = match self.closed {
            Some(CheckpointKind::Final) => Some(Ending::Finished),
            Some(CheckpointKind::Stopping) => Some(Ending::Stopped),
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
            self.tidy();
        } else {
            self.host.send(Address::Coordinator, Control::Shutdown);
        }
    }

    /// A finished job keeps its final marker and nothing else (rule 24).
    pub(super) fn tidy(&mut self) {
        if self.ending != Some(Ending::Finished) {
            self.over();
            return;
        }
        let store = Arc::clone(&self.setup.store);
        let fence = self.fences.advance();
        self.phase = Phase::Tidying(Promise::start(self.host.blocking().as_ref(), Lane::Metadata, move || {
            let known = store.list().unwrap_or_default();
            for summary in known.iter().filter(|summary| summary.kind != CheckpointKind::Final) {
                if let Err(error) = store.delete_checkpoint(&fence, summary.checkpoint) {
                    tracing::warn!(%error, checkpoint = %summary.checkpoint, "a checkpoint of the finished job was not removed");
                }
            }
            // Also what an earlier process could not delete any more: no run will begin that does.
            if let Err(error) = store.remove_orphans(&fence) {
                tracing::warn!(%error, "files that nobody refers to stay behind the finished job");
            }
        }));
    }

    pub(super) fn over(&mut self) {
        self.phase = Phase::Over;
        let state = match self.ending {
            Some(Ending::Finished) => JobState::Finished,
            Some(Ending::Stopped) => JobState::Stopped,
            Some(Ending::Cancelled) => JobState::Cancelled,
            Some(Ending::Failed) | None => JobState::Failed,
        };
        self.enter(state);
    }
}
