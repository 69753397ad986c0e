//! What follows a failure or a cancellation: the regions that it concerns end, then the machine says how it goes on.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use super::{Announced, Ending, Phase, SupervisorDriver};
use crate::drive::control::{Control, Origin};
use crate::ids::{Attempt, CheckpointId, RegionId, SubtaskId};
use crate::ports::calls::Call;
use crate::ports::host::Address;
use crate::ports::listener::JobEvent;
use crate::ports::store::CheckpointKind;
use crate::ports::task::Failure;
use crate::protocol::cleanup::Leaves;
use crate::protocol::lifecycle::{JobState, SubtaskState};
use crate::protocol::supervise::{Event, Part, Scope, Straggler};

impl SupervisorDriver {
    /// Something failed. Whether it is the first failure or the consequence of one, and what restarts, the machine sorts out.
    pub(super) fn fail(&mut self, scope: Scope, attempt: Attempt, failure: Failure) {
        self.setup.listener.event(JobEvent::Failed(failure.clone()));
        tracing::warn!(%failure, "something of the job failed");
        if matches!(self.phase, Phase::Over | Phase::CleaningUp(_) | Phase::ShuttingDown) {
            return;
        }
        let random = self.host.random();
        self.handle(Event::Failed { scope, attempt, failure, random });
        self.show_why_it_ends();
    }

    /// What a failure concerns, by who tells of it.
    pub(super) fn scope_of(&self, origin: Origin) -> Scope {
        match origin {
            Origin::Subtask(subtask) => Scope::Region(self.regions.of_node(subtask.node)),
            Origin::Sink(sink) => Scope::Region(self.region_of_sink(sink)),
            Origin::Enumerator(node) => Scope::Region(self.regions.of_node(node)),
            Origin::Coordinator => Scope::Job,
        }
    }

    /// The job's state while something of it is ending.
    pub(super) fn show_why_it_ends(&mut self) {
        if !matches!(self.phase, Phase::Ending) {
            return;
        }
        if let Some(at) = self.machine.restart_at() {
            self.enter(JobState::Restarting);
            let announced = Announced { at, regions: self.machine.ending() };
            if self.announced.as_ref() != Some(&announced) {
                self.setup.listener.event(self.restarting(&announced));
                self.announced = Some(announced);
            }
        } else if self.machine.is_cancelling() {
            self.enter(JobState::Cancelling);
        } else {
            self.enter(JobState::Failing);
        }
    }

    fn restarting(&self, announced: &Announced) -> JobEvent {
        let delay = announced.at.since(self.host.now());
        let operators = announced.regions.iter().flat_map(|region| self.regions.nodes(*region));
        JobEvent::Restarting {
            delay,
            at: self.host.wall() + delay,
            restart: self.machine.restarts() + 1,
            operators: operators.map(|node| self.setup.plan.node(node).name.clone()).collect(),
            regions: announced.regions.iter().copied().collect(),
            whole_job: announced.regions == self.regions.all(),
        }
    }

    /// Ends everything of these regions. From here on no effect of theirs begins.
    pub(super) fn end_regions(&mut self, regions: &BTreeSet<RegionId>) {
        self.ending = None;
        for region in regions {
            if let Some(rights) = self.rights.get(region) {
                let _ = rights.fences.advance();
            }
        }
        if self.machine.ending() == self.regions.all() {
            // Nothing runs on: the coordinator's effects end with the rest.
            let _ = self.fences.advance();
        }
        self.phase = Phase::Ending;
        self.subtasks_never_started(regions);
        for subtask in self.subtasks_of(regions).filter(|subtask| self.subtasks.contains(subtask)).collect::<Vec<_>>() {
            // Told twice, if a supervisor that panicked had told it before.
            if self.job.subtask(subtask) != Some(SubtaskState::Cancelling) {
                self.subtask_becomes(subtask, SubtaskState::Cancelling);
            }
            self.host.send(Address::Subtask(subtask, self.attempt_of(subtask)), Control::Cancel);
        }
        for sink in self.sinks_of(regions).filter(|sink| self.sinks.contains(sink)) {
            self.host.send(Address::Sink(sink, self.attempt_of_sink(sink)), Control::Cancel);
        }
    }

    /// Subtasks that were never started count as ended.
    pub(super) fn subtasks_never_started(&mut self, regions: &BTreeSet<RegionId>) {
        let created: Vec<SubtaskId> = self
            .subtasks_of(regions)
            .filter(|subtask| self.job.subtask(*subtask) == Some(SubtaskState::Created))
            .collect();
        for subtask in created {
            self.subtask_becomes(subtask, SubtaskState::Cancelling);
            self.subtask_becomes(subtask, SubtaskState::Ended);
        }
    }

    pub(super) fn subtask_ended(&mut self, subtask: SubtaskId) {
        self.subtasks.remove(&subtask);
        let ends_too_early =
            matches!(self.job.subtask(subtask), Some(SubtaskState::Restoring | SubtaskState::Restored));
        // A subtask that could not be built or restored: its failure came before.
        self.subtask_becomes(subtask, if ends_too_early { SubtaskState::Failed } else { SubtaskState::Ended });
        let (attempt, region) = (self.attempt_of(subtask), self.regions.of_node(subtask.node));
        self.handle(Event::Ended { attempt, region, part: Part::Subtask(subtask) });
    }

    pub(super) fn sink_ended(&mut self, sink: u32) {
        self.sinks.remove(&sink);
        let (attempt, region) = (self.attempt_of_sink(sink), self.region_of_sink(sink));
        self.handle(Event::Ended { attempt, region, part: Part::Sink(sink) });
    }

    /// An actor is gone without having said that it ends.
    pub(super) fn driver_gone(&mut self, address: Address, failure: impl FnOnce(&str) -> Failure) {
        match address {
            Address::Coordinator => {
                self.coordinator_gone = true;
                // It is nobody's region: the whole job restarts.
                self.fail(Scope::Job, self.machine.attempt(), failure("coordinator"));
                // If everything was ending already, the failure asks for no further suspension, and the one before is waited for.
                if let Some(suspension) = self.machine.awaited_suspension() {
                    self.handle(Event::CoordinatorSuspended { suspension, closed: self.closed.is_some() });
                    self.show_why_it_ends();
                }
                if matches!(self.phase, Phase::ShuttingDown) {
                    // Nobody is left who could answer.
                    self.clean_up();
                }
            }
            Address::Subtask(subtask, attempt) if attempt == self.attempt_of(subtask) => {
                let name = self.setup.plan.node(subtask.node).name.clone();
                self.fail(self.scope_of(Origin::Subtask(subtask)), attempt, failure(&name));
                self.subtask_ended(subtask);
            }
            Address::Sink(sink, attempt) if attempt == self.attempt_of_sink(sink) => {
                let name = self.setup.plan.sinks[sink as usize].uid.clone();
                self.fail(self.scope_of(Origin::Sink(sink)), attempt, failure(name.as_str()));
                self.sink_ended(sink);
            }
            Address::Subtask(..) | Address::Sink(..) | Address::Supervisor => {}
        }
    }

    /// The coordinator has settled everything, or has nothing more to do.
    pub(super) fn coordinator_suspended(
        &mut self,
        suspension: u32,
        last_completed: Option<CheckpointId>,
        closed: Option<CheckpointKind>,
    ) {
        self.closed = closed.or(self.closed);
        if matches!(self.phase, Phase::ShuttingDown) {
            return self.clean_up();
        }
        self.last_completed = last_completed;
        self.handle(Event::CoordinatorSuspended { suspension, closed: self.closed.is_some() });
        self.show_why_it_ends();
    }

    /// The job fails: no restart helps, or is allowed, or something does not end (rule 22: two attempts must never run).
    pub(super) fn failed_for_good(&mut self, failures: &[Failure], stragglers: &[Straggler]) {
        self.enter(JobState::Failing);
        if stragglers.is_empty() {
            self.shut_down(Ending::Failed);
            return;
        }
        // Those that are inside a call: what shares their thread, and their work, only waits for them.
        let inside: Vec<Straggler> =
            stragglers.iter().copied().filter(|straggler| self.is_inside(*straggler)).collect();
        let named = if inside.is_empty() { stragglers } else { &inside };
        let stuck: Vec<String> = named.iter().map(|straggler| self.describe(*straggler)).collect();
        let first =
            failures.first().map(|failure| format!("; it was told to because of: {failure}")).unwrap_or_default();
        let message = format!(
            "did not end within {:?} after it was told to; nothing can be restarted beside it, since two attempts must never run{first}",
            self.setup.cancellation_timeout
        );
        self.setup.listener.event(JobEvent::Failed(Failure::unrecoverable(stuck.join(", "), message)));
        if self.setup.retention.leaves(JobState::Failed) == Leaves::Nothing {
            self.leave_all("something of the job has not ended");
        }
        self.ending = Some(Ending::Failed);
        self.over();
    }

    fn is_inside(&self, straggler: Straggler) -> bool {
        let call = match straggler {
            Straggler::Part(region, Part::Subtask(subtask)) => {
                self.call_of(region, Address::Subtask(subtask, self.attempt_of(subtask)))
            }
            Straggler::Part(region, Part::Sink(sink)) => {
                self.call_of(region, Address::Sink(sink, self.attempt_of_sink(sink)))
            }
            Straggler::Part(_, Part::Work) => None,
            Straggler::Coordinator => return true,
        };
        call.is_some_and(|(call, _)| call != Call::None)
    }

    /// The call that a subtask or a sink is in.
    fn call_of(&self, region: RegionId, address: Address) -> Option<(Call, Option<Arc<str>>)> {
        let watches = self.deployments.get(&region)?.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.get(&address).map(|watch| watch.current())
    }

    /// What does not end, by its name.
    fn describe(&self, straggler: Straggler) -> String {
        match straggler {
            Straggler::Part(region, Part::Subtask(subtask)) => {
                let name = format!("{}[{}]", self.setup.plan.node(subtask.node).name, subtask.index);
                match self.call_of(region, Address::Subtask(subtask, self.attempt_of(subtask))) {
                    Some((call, Some(operator))) => format!("{name} (inside `{operator}`, {call})"),
                    Some((call, None)) => format!("{name} ({call})"),
                    None => name,
                }
            }
            Straggler::Part(region, Part::Sink(sink)) => {
                let name = &self.setup.plan.sinks[sink as usize].uid;
                match self.call_of(region, Address::Sink(sink, self.attempt_of_sink(sink))) {
                    Some((call, _)) => format!("{name} ({call})"),
                    None => name.to_string(),
                }
            }
            Straggler::Part(region, Part::Work) => {
                let operators: Vec<&str> =
                    self.regions.nodes(region).map(|node| self.setup.plan.node(node).name.as_str()).collect();
                format!("blocking work of {}", operators.join(", "))
            }
            Straggler::Coordinator => "the checkpoint store".to_owned(),
        }
    }
}
