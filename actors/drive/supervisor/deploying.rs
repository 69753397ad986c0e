//! How an attempt begins: recover, run record, sinks, subtasks, start. Each step is durable before the next one acts.

use std::sync::Arc;

use super::{Ending, Phase, SupervisorDriver};
use crate::drive::attempt::WorkCount;
use crate::drive::control::{Control, Resume};
use crate::drive::deploy::Deployment;
use crate::drive::recovery::{self, Recovered};
use crate::ids::{Attempt, SubtaskId};
use crate::ports::blocking::{Lane, Promise};
use crate::ports::host::Address;
use crate::ports::listener::JobEvent;
use crate::ports::store::CheckpointKind;
use crate::protocol::lifecycle::{JobState, SubtaskState};
use crate::protocol::supervise::Event;

impl SupervisorDriver {
    /// Asks the store where to begin, and writes the run record before anything else of the run (rule 7).
    pub(super) fn recover(&mut self, attempt: Attempt) {
        self.attempt = attempt;
        let subtasks: Vec<SubtaskId> = self.setup.plan.subtasks().collect();
        let restores = self.job.restore(attempt, subtasks.iter().copied());
        self.report(restores);
        self.setup.listener.event(JobEvent::State(JobState::Restoring));
        self.handle(Event::Deployed { attempt, subtasks });
        let fence = self.fences.advance();
        let stopped = self.closed == Some(CheckpointKind::Stopping);
        let (setup, started) = (self.setup.clone(), self.host.wall());
        let work = move || recovery::recover(&setup, fence, started, stopped);
        let promise = Promise::start(self.host.blocking().as_ref(), Lane::Metadata, work);
        self.phase = Phase::Recovering(promise);
    }

    /// The store answered: open the sinks, which commit what the checkpoint had prepared.
    pub(super) fn recovered(&mut self, recovered: Recovered) {
        let Recovered { manifest, run, retained, sinks, fence } = recovered;
        let number = run.as_ref().map(|run| run.run).or(manifest.as_ref().map(|manifest| manifest.run));
        let seed = run.as_ref().map(|run| run.hash_seed).or(manifest.as_ref().map(|manifest| manifest.hash_seed));
        let deployment = Deployment {
            plan: Arc::clone(&self.setup.plan),
            attempt: self.attempt,
            run: number.expect("a run without a record has a manifest"),
            hash_seed: seed.expect("a run without a record has a manifest"),
            restored: manifest.clone(),
            store: Arc::clone(&self.setup.store),
            files: Arc::clone(&self.setup.files),
            fence: fence.clone(),
            work: Arc::new(WorkCount::default()),
        };
        if let Some(run) = &run {
            let restored = manifest.as_ref().map(|manifest| manifest.checkpoint);
            self.setup.listener.event(JobEvent::RunBegan { run: run.run, restored });
        }
        let resume =
            run.map(|run| Box::new(Resume { attempt: self.attempt, run, restored: manifest, retained, fence }));
        deployment.spawn_sinks(self.host.as_ref(), sinks);
        self.sinks = (0..self.setup.plan.sinks.len() as u32).collect();
        self.phase = Phase::OpeningSinks { waiting: self.sinks.clone(), resume };
        self.deployment = Some(deployment);
        self.sinks_progressed();
    }

    /// When every sink is ready: deploy the subtasks, or end if the restored checkpoint was the final one.
    pub(super) fn sinks_progressed(&mut self) {
        let Phase::OpeningSinks { waiting, resume } = &mut self.phase else { return };
        if !waiting.is_empty() {
            return;
        }
        let Some(resume) = resume.take() else {
            // The job had finished, or was stopped; what was left to commit is committed now.
            let stopped = self.closed == Some(CheckpointKind::Stopping);
            self.ending = Some(if stopped { Ending::Stopped } else { Ending::Finished });
            self.subtasks_never_started();
            self.end_sinks();
            return;
        };
        self.host.send(Address::Coordinator, Control::Resume(resume));
        self.subtasks = self.setup.plan.subtasks().collect();
        for subtask in self.subtasks.clone() {
            self.subtask_becomes(subtask, SubtaskState::Restoring);
        }
        self.phase = Phase::Restoring { waiting: self.subtasks.clone() };
        let deployment = self.deployment.as_ref().expect("sinks belong to a deployment");
        deployment.spawn_subtasks(self.host.as_ref());
    }

    pub(super) fn restored(&mut self, subtask: SubtaskId) {
        let Phase::Restoring { waiting } = &mut self.phase else { return };
        let known = waiting.remove(&subtask);
        let all = waiting.is_empty();
        if known {
            self.subtask_becomes(subtask, SubtaskState::Restored);
        }
        if !all {
            return;
        }
        self.phase = Phase::Running;
        self.enter(JobState::Running);
        for subtask in &self.subtasks {
            self.host.send(Address::Subtask(*subtask, self.attempt), Control::Start);
        }
        self.host.send(Address::Coordinator, Control::Running { attempt: self.attempt });
        self.try_stop();
    }

    pub(super) fn try_stop(&mut self) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        for reply in std::mem::take(&mut self.stops) {
            self.enter(JobState::Stopping);
            self.host.send(Address::Coordinator, Control::TakeStoppingCheckpoint(reply));
        }
    }
}
