//! The numbers of runs and checkpoints only ever grow, and what was complete is not lost.

use std::collections::BTreeSet;

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::listener::JobEvent;

use super::{Check, Scene, Verdict, Violation};

/// Follows the numbers of runs and checkpoints over all processes of a job. Every simulated run is checked so, whether it asks for it or not.
#[derive(Debug, Default)]
pub struct MonotoneIds {
    triggered: BTreeSet<CheckpointId>,
    /// The newest id that was triggered.
    newest: Option<CheckpointId>,
    /// The newest one that is known to be complete.
    complete: Option<CheckpointId>,
    run: Option<RunNumber>,
    /// A cancelled job deletes its checkpoints.
    deleting: bool,
    wrong: Option<Violation>,
    read: usize,
}

impl MonotoneIds {
    /// A checker that has heard nothing.
    #[must_use]
    pub fn new() -> MonotoneIds {
        MonotoneIds::default()
    }

    /// The newest checkpoint that is known to be complete.
    #[must_use]
    pub fn complete(&self) -> Option<CheckpointId> {
        self.complete
    }

    /// # Errors
    /// The first broken promise.
    pub fn verdict(&self) -> Result<(), Violation> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// The job told something.
    pub fn event(&mut self, event: &JobEvent) {
        match event {
            JobEvent::RunBegan { run, restored } => self.run_began(*run, *restored),
            JobEvent::Triggered { checkpoint, .. } => {
                if self.newest >= Some(*checkpoint) {
                    self.is_wrong(format!("checkpoint {checkpoint} was triggered after {}", shown(self.newest)));
                }
                self.newest = Some(*checkpoint);
                self.triggered.insert(*checkpoint);
            }
            JobEvent::Completed { checkpoint, .. } => {
                if !self.triggered.contains(checkpoint) {
                    self.is_wrong(format!("checkpoint {checkpoint} was completed and never triggered"));
                }
                if self.complete >= Some(*checkpoint) {
                    self.is_wrong(format!("checkpoint {checkpoint} was completed after {}", shown(self.complete)));
                }
                self.complete = Some(*checkpoint);
            }
            JobEvent::DeletingCheckpoints => self.deleting = true,
            _ => {}
        }
    }

    fn run_began(&mut self, run: RunNumber, restored: Option<CheckpointId>) {
        if let Some(before) = self.run.filter(|before| *before >= run) {
            self.is_wrong(format!("run {run} began after run {before}"));
        }
        self.run = Some(run);
        // A deletion that a crash interrupts has gone through or not: the next start finds the newest checkpoint or none.
        let may_be_gone = self.deleting && restored.is_none();
        if restored < self.complete && !may_be_gone {
            self.is_wrong(format!(
                "a completed checkpoint was lost: run {run} begins with {}, complete was {}",
                shown(restored),
                shown(self.complete)
            ));
        }
        if let Some(restored) = restored.filter(|restored| !self.triggered.contains(restored)) {
            self.is_wrong(format!("run {run} begins with checkpoint {restored}, which was never triggered"));
        }
        self.complete = restored;
    }

    fn is_wrong(&mut self, what: String) {
        self.wrong.get_or_insert(Violation::new(what));
    }
}

fn shown(checkpoint: Option<CheckpointId>) -> String {
    checkpoint.map_or("no checkpoint".to_owned(), |checkpoint| format!("checkpoint {checkpoint}"))
}

impl Check for MonotoneIds {
    fn rule(&self) -> &str {
        "numbers that grow"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        for (_, event) in &scene.history.events()[self.read..] {
            self.event(event);
        }
        self.read = scene.history.events().len();
        self.verdict()
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.observe(scene).map(|()| Verdict::Kept)
    }
}
