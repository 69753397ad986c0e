//! What becomes of the completed checkpoints when a job ends: all kept, all but the mark of the end deleted, or all deleted.
//!
//! A completed checkpoint may owe something to sinks: what it covers is output only when it is committed. So before all are
//! deleted, the newest is read back, the sinks commit what it holds, and only then does it go. Whatever stands in the way of
//! that keeps everything, and is told.
//!
//! ```text
//! ReadNewest -> OpenSinks -> all committed -> EndSinks -> all ended -> Delete -> Over
//!      |             \-> a commit failed, or time is up -> EndSinks -----------/  (with what was in the way)
//!      \-> unreadable ---------------------------------------------------------/
//! ```

use std::time::Duration;

use crate::ids::Moment;
use crate::protocol::lifecycle::JobState;
use crate::protocol::machine::{Invariant, Machine, Violation};

/// Every invariant of the clean-up.
pub const INVARIANTS: [&Invariant; 1] = [&COMMITTED_FIRST];

static COMMITTED_FIRST: Invariant = Invariant {
    id: "cleanup.committed-first",
    statement: "checkpoints that may owe commits are deleted only after all of these have returned, and nothing stood in the way",
};

/// Which completed checkpoints a job that does not finish leaves behind: Apache Flink's `ExternalizedCheckpointRetention`.
///
/// A job that finishes leaves the mark of its end and nothing else, one that is stopped leaves what it can go on from, and a
/// process that crashes leaves everything, whatever the setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExternalizedCheckpointRetention {
    /// Checkpoints serve restarts inside the process: they are deleted when the job is cancelled and when it fails for good.
    NoExternalizedCheckpoints,
    /// Deleted when the job is cancelled, kept when it fails for good.
    DeleteOnCancellation,
    /// Kept when the job is cancelled and when it fails for good; the next start goes on from the newest.
    #[default]
    RetainOnCancellation,
}

impl ExternalizedCheckpointRetention {
    /// Every setting.
    pub const ALL: [ExternalizedCheckpointRetention; 3] = [
        ExternalizedCheckpointRetention::NoExternalizedCheckpoints,
        ExternalizedCheckpointRetention::DeleteOnCancellation,
        ExternalizedCheckpointRetention::RetainOnCancellation,
    ];

    /// What a job leaves behind that comes to this end. A state that is no end leaves everything.
    #[must_use]
    pub fn leaves(self, end: JobState) -> Leaves {
        use ExternalizedCheckpointRetention::{DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation};
        match (end, self) {
            (JobState::Finished, _) => Leaves::FinalMarker,
            (JobState::Cancelled, NoExternalizedCheckpoints | DeleteOnCancellation)
            | (JobState::Failed, NoExternalizedCheckpoints) => Leaves::Nothing,
            (JobState::Cancelled, RetainOnCancellation)
            | (JobState::Failed, DeleteOnCancellation | RetainOnCancellation)
            | (JobState::Stopped, _) => Leaves::Everything,
            (
                JobState::Created
                | JobState::Restoring
                | JobState::Running
                | JobState::Stopping
                | JobState::Restarting
                | JobState::Cancelling
                | JobState::Failing,
                _,
            ) => Leaves::Everything,
        }
    }
}

/// What is left in the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaves {
    /// All that is there.
    Everything,
    /// The final checkpoint.
    FinalMarker,
    /// No checkpoint. A final one stays all the same: its job has read and committed everything, whatever ended it.
    Nothing,
}

/// What is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delete {
    /// All checkpoints: the next start begins anew.
    All,
    /// All but the final one.
    AllButFinal,
}

/// The checkpoint that a restore would take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Newest {
    /// There is none.
    Absent,
    /// One that a start would go on from.
    Resumable,
    /// The mark that the job has come to its end.
    Final,
    /// It cannot be found out, or does not fit the job.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// What may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Nothing of the job is under way any more.
    Begin,
    /// The answer to [`Effect::ReadNewest`].
    Read(Newest),
    /// Every sink has committed what the newest checkpoint holds of it, and removed what no checkpoint holds.
    Committed,
    /// A sink could not commit.
    NotCommitted {
        /// Why.
        reason: String,
    },
    /// No sink is there any more, and nothing that one began is under way.
    SinksEnded,
    /// The answer to [`Effect::Delete`].
    Deleted {
        /// What went wrong. Some may be gone all the same: those that are left are never taken again.
        error: Option<String>,
    },
    /// The deadline that the machine named has passed.
    Deadline,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Find the checkpoint that a restore would take.
    ReadNewest,
    /// Open the committing side of every sink with what that checkpoint holds.
    OpenSinks,
    /// End the sinks that are there.
    EndSinks,
    /// Delete: manifests first, then blobs.
    Delete(Delete),
    /// It is over.
    Over {
        /// Why checkpoints are left that were to be deleted, if that is so.
        left: Option<String>,
    },
}

/// The clean-up behind one job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cleanup {
    leaves: Leaves,
    patience: Duration,
    step: Step,
    /// What is to be deleted once it may be.
    delete: Delete,
    /// When the step that is under way has taken too long.
    deadline: Option<Moment>,
    /// What stands in the way of deleting.
    obstacle: Option<String>,
    /// Whether the newest checkpoint owes nothing.
    settled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Before,
    Reading,
    Committing,
    EndingSinks,
    Deleting,
    Over,
}

impl Cleanup {
    /// A clean-up that has not begun. Each of its steps may take as long as `patience`.
    #[must_use]
    pub fn new(leaves: Leaves, patience: Duration) -> Cleanup {
        Cleanup {
            leaves,
            patience,
            step: Step::Before,
            delete: Delete::All,
            deadline: None,
            obstacle: None,
            settled: false,
        }
    }

    fn enter(&mut self, now: Moment, step: Step, effect: Effect, effects: &mut Vec<Effect>) {
        self.step = step;
        self.deadline = match step {
            Step::Reading | Step::Committing | Step::EndingSinks | Step::Deleting => Some(now + self.patience),
            Step::Before | Step::Over => None,
        };
        effects.push(effect);
    }

    fn over(&mut self, now: Moment, left: Option<String>, effects: &mut Vec<Effect>) {
        self.enter(now, Step::Over, Effect::Over { left }, effects);
    }

    fn begin(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        match self.leaves {
            Leaves::Everything => self.over(now, None, effects),
            // A job that finished has committed everything: its subtasks ended after their commits.
            Leaves::FinalMarker => {
                self.settled = true;
                self.delete(now, Delete::AllButFinal, effects);
            }
            Leaves::Nothing => self.enter(now, Step::Reading, Effect::ReadNewest, effects),
        }
    }

    fn read(&mut self, now: Moment, newest: Newest, effects: &mut Vec<Effect>) {
        match newest {
            Newest::Absent => {
                self.settled = true;
                self.delete(now, Delete::All, effects);
            }
            Newest::Resumable => {
                self.delete = Delete::All;
                self.enter(now, Step::Committing, Effect::OpenSinks, effects);
            }
            Newest::Final => {
                self.delete = Delete::AllButFinal;
                self.enter(now, Step::Committing, Effect::OpenSinks, effects);
            }
            Newest::Unreadable { reason } => self.over(now, Some(reason), effects),
        }
    }

    fn delete(&mut self, now: Moment, what: Delete, effects: &mut Vec<Effect>) {
        self.delete = what;
        self.enter(now, Step::Deleting, Effect::Delete(what), effects);
    }

    fn late(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let left = |what: &str| Some(format!("{what} has not returned in time"));
        match self.step {
            Step::Reading => self.over(now, left("reading the newest checkpoint"), effects),
            Step::Committing => {
                self.obstacle = left("the commit of a sink");
                self.enter(now, Step::EndingSinks, Effect::EndSinks, effects);
            }
            // Its thread is left behind. What it may still do was prepared by the checkpoint, which therefore stays.
            Step::EndingSinks => {
                let left = self.obstacle.take().or_else(|| left("the end of a sink"));
                self.over(now, left, effects);
            }
            Step::Deleting => self.over(now, left("deleting checkpoints"), effects),
            Step::Before | Step::Over => {}
        }
    }
}

impl Machine for Cleanup {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match (event, self.step) {
            (Event::Begin, Step::Before) => self.begin(now, effects),
            (Event::Read(newest), Step::Reading) => self.read(now, newest, effects),
            (Event::Committed, Step::Committing) => {
                self.settled = true;
                self.enter(now, Step::EndingSinks, Effect::EndSinks, effects);
            }
            (Event::NotCommitted { reason }, Step::Committing) => {
                self.obstacle = Some(reason);
                self.enter(now, Step::EndingSinks, Effect::EndSinks, effects);
            }
            (Event::SinksEnded, Step::EndingSinks) => match self.obstacle.take() {
                Some(obstacle) => self.over(now, Some(obstacle), effects),
                None => self.delete(now, self.delete, effects),
            },
            (Event::Deleted { error }, Step::Deleting) => self.over(now, error, effects),
            (Event::Deadline, _) => {
                if self.deadline.is_some_and(|deadline| deadline <= now) {
                    self.late(now, effects);
                }
            }
            // Answers that nobody waits for any more.
            (
                Event::Begin
                | Event::Read(_)
                | Event::Committed
                | Event::NotCommitted { .. }
                | Event::SinksEnded
                | Event::Deleted { .. },
                Step::Before | Step::Reading | Step::Committing | Step::EndingSinks | Step::Deleting | Step::Over,
            ) => {}
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        self.deadline
    }

    fn check(&self) -> Result<(), Violation> {
        COMMITTED_FIRST
            .require(self.step != Step::Deleting || (self.settled && self.obstacle.is_none()), || format!("{self:?}"))
    }
}
