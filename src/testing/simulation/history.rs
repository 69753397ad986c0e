//! What a job told over all its processes, with the time: facts for checkers, without a judgement.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use alluvium_actors::ids::{CheckpointId, Moment, RunNumber};
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::listener::JobEvent;
use alluvium_actors::protocol::lifecycle::JobState;

/// What a job told its listener in a simulated run, over all its processes, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<(Moment, JobEvent)>,
    state: Option<JobState>,
    runs: Vec<(RunNumber, Option<CheckpointId>)>,
    /// The newest run when each checkpoint was triggered.
    triggered: BTreeMap<CheckpointId, RunNumber>,
    /// Complete checkpoints, each with the one that the job would otherwise have gone back to.
    complete: BTreeMap<CheckpointId, Complete>,
    /// The checkpoint that a failure at this moment would lead back to.
    basis: Option<CheckpointId>,
    processes: Vec<Moment>,
    records: Vec<Arc<CheckpointRecord>>,
}

#[derive(Clone, Copy, Debug)]
struct Complete {
    at: Moment,
    before: Option<CheckpointId>,
}

impl History {
    /// A process starts.
    pub(in crate::testing) fn process_starts(&mut self, now: Moment) {
        self.processes.push(now);
        self.state = None;
    }

    /// The job told its listener.
    pub(in crate::testing) fn event(&mut self, now: Moment, event: &JobEvent) {
        match event {
            JobEvent::State(state) => self.state = Some(*state),
            JobEvent::RunBegan { run, restored } => {
                // Its completion may have been told to nobody, because the process crashed before.
                if let Some(restored) = restored {
                    self.is_complete(*restored, now);
                }
                self.basis = *restored;
                self.runs.push((*run, *restored));
            }
            JobEvent::Triggered { checkpoint, .. } => {
                self.triggered.extend(self.runs.last().map(|(run, _)| (*checkpoint, *run)));
            }
            JobEvent::Completed { checkpoint, .. } => {
                self.is_complete(*checkpoint, now);
                self.basis = Some(*checkpoint);
            }
            _ => {}
        }
        self.events.push((now, event.clone()));
    }

    /// A checkpoint ended, and said this of itself.
    pub(in crate::testing) fn recorded(&mut self, record: &Arc<CheckpointRecord>) {
        self.records.push(Arc::clone(record));
    }

    fn is_complete(&mut self, checkpoint: CheckpointId, now: Moment) {
        let before = self.basis;
        self.complete.entry(checkpoint).or_insert(Complete { at: now, before });
    }

    /// Everything that was told, in order.
    #[must_use]
    pub fn events(&self) -> &[(Moment, JobEvent)] {
        &self.events
    }

    /// What the checkpoints that ended said of themselves, in the order in which they did.
    #[must_use]
    pub fn records(&self) -> &[Arc<CheckpointRecord>] {
        &self.records
    }

    /// The state of the job in the present process.
    #[must_use]
    pub fn state(&self) -> Option<JobState> {
        self.state
    }

    /// The newest checkpoint that is known to have been complete: announced as such, or restored. It may have been deleted since.
    #[must_use]
    pub fn newest_complete(&self) -> Option<CheckpointId> {
        self.complete.last_key_value().map(|(checkpoint, _)| *checkpoint)
    }

    /// Every checkpoint that is known to have been complete, with the moment at which that was first told; ascending.
    pub fn complete(&self) -> impl DoubleEndedIterator<Item = (CheckpointId, Moment)> + '_ {
        self.complete.iter().map(|(checkpoint, complete)| (*checkpoint, complete.at))
    }

    /// The run in which a checkpoint was triggered. Ids ascend over all runs, so a newer checkpoint of a later run says nothing about an older one of an earlier run.
    #[must_use]
    pub fn run_of(&self, checkpoint: CheckpointId) -> Option<RunNumber> {
        self.triggered.get(&checkpoint).copied()
    }

    /// Whether a checkpoint of this number or a later one, triggered in one of these runs, was known to be complete at a moment. One of which no trigger was told is taken for one of
    /// them.
    #[must_use]
    pub fn is_covered(&self, checkpoint: CheckpointId, runs: &impl RangeBounds<RunNumber>, at: Moment) -> bool {
        let mut newer = self.complete.range(checkpoint..).filter(|(_, complete)| complete.at <= at);
        newer.any(|(newer, _)| self.run_of(*newer).is_none_or(|run| runs.contains(&run)))
    }

    /// The complete checkpoint that lies directly before this one.
    #[must_use]
    pub fn before(&self, checkpoint: CheckpointId) -> Option<CheckpointId> {
        self.complete.get(&checkpoint).and_then(|complete| complete.before)
    }

    /// The runs that began, each with the checkpoint that it began with.
    #[must_use]
    pub fn runs(&self) -> &[(RunNumber, Option<CheckpointId>)] {
        &self.runs
    }

    /// When each process started.
    #[must_use]
    pub fn processes(&self) -> &[Moment] {
        &self.processes
    }
}
