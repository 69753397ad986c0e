//! What follows a failure or a cancellation: everything of the attempt ends, then the machine says how it goes on.

use super::{Ending, Phase, SupervisorDriver};
use crate::drive::control::Control;
use crate::ids::SubtaskId;
use crate::ports::host::Address;
use crate::ports::listener::JobEvent;
use crate::ports::task::Failure;
use crate::protocol::lifecycle::{JobState, SubtaskState};
use crate::protocol::supervise::{Event, Straggler};

impl SupervisorDriver {
    /// Something failed. The first failure of an attempt decides, later ones are its consequences: the machine sorts that out.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.setup.listener.event(JobEvent::Failed(failure.clone()));
        tracing::warn!(%failure, "the attempt failed");
        if matches!(self.phase, Phase::Over | Phase::Tidying(_) | Phase::ShuttingDown) {
            return;
        }
        let random = self.host.random();
        self.handle(Event::Failed { attempt: self.attempt, failure, random });
        self.show_why_it_ends();
    }

    /// The job's state while an attempt is ending.
    pub(super) fn show_why_it_ends(&mut self) {
        if !matches!(self.phase, Phase::Cancelling | Phase::Settling | Phase::Waiting) {
            return;
        }
        if let Some(at) = self.machine.restart_at() {
            self.enter(JobState::Restarting);
            self.setup.listener.event(JobEvent::Restarting { delay: at.since(self.host.now()) });
        } else if self.machine.is_cancelling() {
            self.enter(JobState::Cancelling);
        } else {
            self.enter(JobState::Failing);
        }
    }

    /// Ends everything of the attempt. From here on no effect of it begins.
    pub(super) fn end_attempt(&mut self) {
        self.ending = None;
        let _ = self.fences.advance();
        self.phase = Phase::Cancelling;
        self.subtasks_never_started();
        for subtask in self.subtasks.clone() {
            self.subtask_becomes(subtask, SubtaskState::Cancelling);
            self.host.send(Address::Subtask(subtask, self.attempt), Control::Cancel);
        }
        for sink in &self.sinks {
            self.host.send(Address::Sink(*sink, self.attempt), Control::Cancel);
        }
    }

    /// Subtasks of the attempt that were never started count as ended.
    pub(super) fn subtasks_never_started(&mut self) {
        let created: Vec<SubtaskId> = self
            .job
            .subtasks()
            .filter(|(_, state)| *state == SubtaskState::Created)
            .map(|(subtask, _)| subtask)
            .collect();
        for subtask in created {
            self.subtask_becomes(subtask, SubtaskState::Cancelling);
            self.subtask_ended(subtask);
        }
    }

    pub(super) fn subtask_ended(&mut self, subtask: SubtaskId) {
        self.subtasks.remove(&subtask);
        let ends_too_early = matches!(
            self.job.subtask(subtask),
            Some(SubtaskState::Created | SubtaskState::Restoring | SubtaskState::Restored)
        );
        // A subtask that could not be built or restored: its failure came before.
        self.subtask_becomes(subtask, if ends_too_early { SubtaskState::Failed } else { SubtaskState::Ended });
        self.handle(Event::SubtaskEnded { attempt: self.attempt, subtask });
    }

    /// An actor is gone without having said that it ends.
    pub(super) fn driver_gone(&mut self, address: Address, failure: impl FnOnce(&str) -> Failure) {
        match address {
            Address::Coordinator => {
                self.coordinator_gone = true;
                self.fail(failure("coordinator"));
                // Nobody is left who could answer.
                self.settled();
            }
            Address::Subtask(subtask, attempt) if attempt == self.attempt => {
                self.fail(failure(&self.setup.plan.node(subtask.node).name.clone()));
                self.subtask_ended(subtask);
            }
            Address::Sink(sink, attempt) if attempt == self.attempt => {
                self.sinks.remove(&sink);
                self.fail(failure(self.setup.plan.sinks[sink as usize].uid.clone().as_str()));
            }
            Address::Subtask(..) | Address::Sink(..) | Address::Supervisor => {}
        }
    }

    /// The coordinator has settled everything.
    pub(super) fn settled(&mut self) {
        match self.phase {
            Phase::Settling => {
                self.phase = Phase::Waiting;
                self.handle(Event::CoordinatorSuspended { attempt: self.attempt });
            }
            Phase::ShuttingDown => self.tidy(),
            Phase::Recovering(_)
            | Phase::OpeningSinks { .. }
            | Phase::Restoring { .. }
            | Phase::Running
            | Phase::EndingSinks
            | Phase::Cancelling
            | Phase::Waiting
            | Phase::Tidying(_)
            | Phase::Over => {}
        }
    }

    /// The job fails: no restart helps, or is allowed, or something of the old attempt does not end (rule 22: two attempts must never run).
    pub(super) fn failed_for_good(&mut self, failures: &[Failure], stragglers: &[Straggler]) {
        self.enter(JobState::Failing);
        if stragglers.is_empty() {
            self.shut_down(Ending::Failed);
            return;
        }
        let mut stuck: Vec<String> = self
            .subtasks
            .iter()
            .map(|subtask| format!("{}[{}]", self.setup.plan.node(subtask.node).name, subtask.index))
            .collect();
        stuck.extend(self.sinks.iter().map(|sink| self.setup.plan.sinks[*sink as usize].uid.as_str().to_owned()));
        let stuck = if stuck.is_empty() { "blocking work of a connector".to_owned() } else { stuck.join(", ") };
        let first =
            failures.first().map(|failure| format!("; it was told to because of: {failure}")).unwrap_or_default();
        let message = format!(
            "still inside a call {} s after it was told to end; the job cannot be restarted beside it{first}",
            self.setup.cancellation_timeout.as_secs()
        );
        self.setup.listener.event(JobEvent::Failed(Failure::unrecoverable(stuck, message)));
        self.ending = Some(Ending::Failed);
        self.over();
    }
}
