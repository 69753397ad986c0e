//! How an attempt begins: recover, run record, sinks, subtasks, start. Each step is durable before the next one acts.
//!
//! An attempt is of the whole job or of the regions that failed. Then the other regions run on: their subtasks, sinks and enumerators are not
//! touched, and the run that begins is theirs too as far as checkpoints go. What they have named already keeps the run that they were built in.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Ending, Phase, Rights, SupervisorDriver};
use crate::drive::attempt::WorkCount;
use crate::drive::control::{Control, Resume, ResumedRegion};
use crate::drive::deploy::Deployment;
use crate::drive::finished::finished_before;
use crate::drive::recovery::{self, Recovered, Trouble};
use crate::ids::{Attempt, RegionId, SubtaskId};
use crate::ports::blocking::{Lane, Promise};
use crate::ports::host::Address;
use crate::ports::listener::JobEvent;
use crate::ports::store::CheckpointKind;
use crate::protocol::lifecycle::{JobState, SubtaskState};
use crate::protocol::mutation::{Mutation, is_active};
use crate::protocol::supervise::{Event, Part, Scope};

impl SupervisorDriver {
    /// Asks the store where to begin, and writes the run record before anything else of the run (rule 7).
    pub(super) fn recover(&mut self, attempt: Attempt, regions: BTreeSet<RegionId>) {
        let whole = regions == self.regions.all();
        let subtasks: Vec<SubtaskId> = self.subtasks_of(&regions).collect();
        let restores = self.job.restore(attempt, subtasks);
        self.report(restores);
        self.setup.listener.event(JobEvent::State(JobState::Restoring));
        if whole {
            self.fence = self.fences.advance();
        }
        for region in &regions {
            let fences = self.rights.remove(region).map(|rights| rights.fences).unwrap_or_default();
            let (fence, work) = (fences.advance(), Arc::new(WorkCount::default()));
            self.rights.insert(*region, Rights { fences, fence, work });
            self.handle(Event::Started { attempt, region: *region, part: Part::Work });
        }
        let stopped = self.closed == Some(CheckpointKind::Stopping);
        // What runs on has committed up to there.
        let expected = (!whole).then_some(self.last_completed);
        let wanted: BTreeSet<u32> = self.sinks_of(&regions).collect();
        let (setup, fence, started) = (self.setup.clone(), self.fence.clone(), self.host.wall());
        let work = move || recovery::recover(&setup, &fence, started, stopped, expected, &wanted);
        let promise = Promise::start(self.host.blocking().as_ref(), Lane::Metadata, work);
        self.phase = Phase::Recovering { promise, attempt, regions };
    }

    /// The store failed, or holds something else than what the regions that run on have gone on from.
    pub(super) fn not_recovered(&mut self, trouble: Trouble, regions: &BTreeSet<RegionId>) {
        match trouble {
            // Another try of the same regions may find it better.
            Trouble::Store(failure) => {
                let scope = regions.first().map_or(Scope::Job, |region| Scope::Region(*region));
                self.fail(scope, self.machine.attempt(), failure);
            }
            Trouble::OtherCheckpoint(failure) => self.fail(Scope::Job, self.machine.attempt(), failure),
        }
    }

    /// The store answered: open the sinks, which commit what the checkpoint had prepared.
    pub(super) fn recovered(&mut self, attempt: Attempt, regions: BTreeSet<RegionId>, recovered: Recovered) {
        let Recovered { manifest, run, retained, mut sinks } = recovered;
        let number = run.as_ref().map(|run| run.run).or(manifest.as_ref().map(|manifest| manifest.run));
        let seed = run.as_ref().map(|run| run.hash_seed).or(manifest.as_ref().map(|manifest| manifest.hash_seed));
        if let Some(run) = &run {
            let restored = manifest.as_ref().map(|manifest| manifest.checkpoint);
            self.setup.listener.event(JobEvent::RunBegan { run: run.run, restored });
        }
        let finished = manifest.as_ref().map(|manifest| finished_before(&self.setup.plan, manifest));
        let finished = Arc::new(finished.unwrap_or_default());
        let mut waiting = BTreeSet::new();
        for region in &regions {
            let Rights { fence, work, .. } = &self.rights[region];
            let deployment = Deployment {
                plan: Arc::clone(&self.setup.plan),
                regions: self.regions.clone(),
                region: *region,
                attempt,
                mode: self.setup.checkpoint_mode,
                buffer_timeout: self.setup.buffer_timeout,
                run: number.expect("a run without a record has a manifest"),
                hash_seed: seed.expect("a run without a record has a manifest"),
                restored: manifest.clone(),
                finished: Arc::clone(&finished),
                store: Arc::clone(&self.setup.store),
                files: Arc::clone(&self.setup.files),
                fence: fence.clone(),
                work: Arc::clone(work),
                watches: Arc::default(),
                overview: Arc::clone(&self.setup.overview),
            };
            for sink in self.sinks_of(&BTreeSet::from([*region])).collect::<Vec<_>>() {
                self.handle(Event::Started { attempt, region: *region, part: Part::Sink(sink) });
                self.sinks.insert(sink);
                waiting.insert(sink);
                self.roster.insert(Address::Sink(sink, attempt));
                deployment.spawn_sink(self.host.as_ref(), sink, sinks.remove(&sink).unwrap_or_default());
            }
            self.deployments.insert(*region, deployment);
        }
        let resume = run.map(|run| {
            let regions = regions.iter().map(|region| {
                let Rights { fence, work, .. } = &self.rights[region];
                ResumedRegion { region: *region, fence: fence.clone(), work: Arc::clone(work) }
            });
            let regions = regions.collect();
            Box::new(Resume { attempt, run, restored: manifest, retained, fence: self.fence.clone(), regions })
        });
        self.phase = Phase::OpeningSinks { waiting, resume, attempt, regions };
        self.sinks_progressed();
    }

    /// When every sink is ready: deploy the subtasks, or end if the restored checkpoint was the final one.
    pub(super) fn sinks_progressed(&mut self) {
        let Phase::OpeningSinks { waiting, resume, attempt, regions } = &mut self.phase else { return };
        if !waiting.is_empty() && !is_active(Mutation::RecordsBeforeCommits) {
            return;
        }
        let (attempt, regions) = (*attempt, regions.clone());
        let Some(resume) = resume.take() else {
            // The job had finished, or was stopped; what was left to commit is committed now.
            let stopped = self.closed == Some(CheckpointKind::Stopping);
            self.ending = Some(if stopped { Ending::Stopped } else { Ending::Finished });
            self.subtasks_never_started(&regions);
            self.end_sinks();
            return;
        };
        self.host.send(Address::Coordinator, Control::Resume(resume));
        let subtasks: BTreeSet<SubtaskId> = self.subtasks_of(&regions).collect();
        for subtask in &subtasks {
            let region = self.regions.of_node(subtask.node);
            self.handle(Event::Started { attempt, region, part: Part::Subtask(*subtask) });
            self.subtasks.insert(*subtask);
            self.roster.insert(Address::Subtask(*subtask, attempt));
            self.subtask_becomes(*subtask, SubtaskState::Restoring);
        }
        self.phase = Phase::Restoring { waiting: subtasks, attempt, regions: regions.clone() };
        for region in &regions {
            self.deployments[region].spawn_subtasks(self.host.as_ref());
        }
    }

    pub(super) fn restored(&mut self, subtask: SubtaskId) {
        let Phase::Restoring { waiting, attempt, regions } = &mut self.phase else { return };
        let known = waiting.remove(&subtask);
        let all = waiting.is_empty().then(|| (*attempt, std::mem::take(regions)));
        if known {
            self.subtask_becomes(subtask, SubtaskState::Restored);
        }
        let Some((attempt, regions)) = all else { return };
        self.phase = Phase::Running;
        self.has_run = true;
        self.announced = None;
        self.handle(Event::Running { attempt });
        self.enter(JobState::Running);
        // Before a subtask can begin: whoever has seen a record and asks for a checkpoint then finds the coordinator at work.
        self.host.send(Address::Coordinator, Control::Running { attempt });
        for subtask in self.subtasks_of(&regions) {
            self.host.send(Address::Subtask(subtask, attempt), Control::Start);
        }
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
