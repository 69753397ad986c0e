//! The life of a job and of its subtasks: the states, and the steps that may be taken between them.
//!
//! ```text
//! Created -> Restoring -> Running -> Finished
//!              ^   |       |    \--> Stopping -> Stopped
//!              |   v       v
//!             Restarting <-+        every state that is not an end -> Cancelling -> Cancelled
//!                                                                  -> Failing    -> Failed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::ids::{Attempt, SubtaskId};

/// The states of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Nothing has been started.
    Created,
    /// The subtasks of an attempt are being built and restored.
    Restoring,
    /// All subtasks run.
    Running,
    /// The checkpoint of a stop is being taken, or its commits are returning.
    Stopping,
    /// An attempt failed: its subtasks end, and the delay of the restart strategy passes.
    Restarting,
    /// A user ended the job; its subtasks end.
    Cancelling,
    /// The job failed for good; its subtasks end.
    Failing,
    /// All input was processed and all output committed.
    Finished,
    /// It was stopped with a checkpoint and can be resumed.
    Stopped,
    /// It was cancelled.
    Cancelled,
    /// It failed for good.
    Failed,
}

impl JobState {
    /// All states.
    pub const ALL: [JobState; 11] = [
        JobState::Created,
        JobState::Restoring,
        JobState::Running,
        JobState::Stopping,
        JobState::Restarting,
        JobState::Cancelling,
        JobState::Failing,
        JobState::Finished,
        JobState::Stopped,
        JobState::Cancelled,
        JobState::Failed,
    ];

    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self.next().is_empty()
    }

    /// The states that may come next.
    #[must_use]
    pub fn next(self) -> &'static [JobState] {
        use JobState::{
            Cancelled, Cancelling, Failed, Failing, Finished, Restarting, Restoring, Running, Stopped, Stopping,
        };
        match self {
            JobState::Created => &[Restoring, Cancelling, Failing],
            // Finished or stopped if the restored checkpoint ended the job: then only its commits are made sure of.
            JobState::Restoring => &[Running, Finished, Stopped, Restarting, Cancelling, Failing],
            JobState::Running => &[Stopping, Finished, Restarting, Cancelling, Failing],
            // Back to running if the checkpoint of the stop was aborted; finished if the input ended first.
            JobState::Stopping => &[Running, Stopped, Finished, Restarting, Cancelling, Failing],
            JobState::Restarting => &[Restoring, Cancelling, Failing],
            // A subtask that does not end in time fails a job that is being cancelled.
            JobState::Cancelling => &[Cancelled, Failing],
            JobState::Failing => &[Failed],
            JobState::Finished | JobState::Stopped | JobState::Cancelled | JobState::Failed => &[],
        }
    }
}

/// The states of a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubtaskState {
    /// It is to be built.
    Created,
    /// Its state is being restored.
    Restoring,
    /// It is restored and waits until all others are.
    Restored,
    /// It processes.
    Running,
    /// It has processed all its data and waits for the final checkpoint.
    EndOfData,
    /// It was told to end.
    Cancelling,
    /// It is gone.
    Ended,
    /// It is gone because of an error.
    Failed,
}

impl SubtaskState {
    /// All states.
    pub const ALL: [SubtaskState; 8] = [
        SubtaskState::Created,
        SubtaskState::Restoring,
        SubtaskState::Restored,
        SubtaskState::Running,
        SubtaskState::EndOfData,
        SubtaskState::Cancelling,
        SubtaskState::Ended,
        SubtaskState::Failed,
    ];

    /// Whether the subtask is gone: nothing that it began is under way any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self.next().is_empty()
    }

    /// The states that may come next.
    #[must_use]
    pub fn next(self) -> &'static [SubtaskState] {
        use SubtaskState::{Cancelling, EndOfData, Ended, Failed, Restored, Restoring, Running};
        match self {
            SubtaskState::Created => &[Restoring, Cancelling, Failed],
            SubtaskState::Restoring => &[Restored, Cancelling, Failed],
            SubtaskState::Restored => &[Running, Cancelling, Failed],
            // A stop ends a subtask without the end of its data.
            SubtaskState::Running => &[EndOfData, Ended, Cancelling, Failed],
            SubtaskState::EndOfData => &[Ended, Cancelling, Failed],
            SubtaskState::Cancelling => &[Ended, Failed],
            SubtaskState::Ended | SubtaskState::Failed => &[],
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl fmt::Display for SubtaskState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// A step that may not be taken. The job is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[non_exhaustive]
pub enum IllegalTransition {
    /// The states of the job do not follow each other.
    #[error("a job that is {from} cannot become {to}")]
    Job {
        /// The state it is in.
        from: JobState,
        /// The state asked for.
        to: JobState,
    },
    /// The states of the subtask do not follow each other.
    #[error("subtask {subtask} is {from} and cannot become {to}")]
    Subtask {
        /// The subtask.
        subtask: SubtaskId,
        /// The state it is in.
        from: SubtaskState,
        /// The state asked for.
        to: SubtaskState,
    },
    /// A subtask keeps the job from the step.
    #[error("a job that is {from} cannot become {to} while subtask {subtask} is {state}")]
    HeldUp {
        /// The state the job is in.
        from: JobState,
        /// The state asked for.
        to: JobState,
        /// The first subtask that is in the way.
        subtask: SubtaskId,
        /// Its state.
        state: SubtaskState,
    },
    /// The subtask is not one of this attempt.
    #[error("subtask {subtask} is not part of attempt {current}, or the message is one of attempt {attempt}")]
    Stranger {
        /// The subtask.
        subtask: SubtaskId,
        /// The attempt it is said to belong to.
        attempt: Attempt,
        /// The attempt of the job.
        current: Attempt,
    },
    /// Attempts only ascend.
    #[error("attempt {attempt} cannot follow attempt {current}")]
    Attempt {
        /// The attempt asked for.
        attempt: Attempt,
        /// The attempt of the job.
        current: Attempt,
    },
}

/// The state of a job and of all its subtasks, each in its current attempt. An attempt is of the whole job or of some regions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    state: JobState,
    /// The newest attempt.
    attempt: Attempt,
    subtasks: BTreeMap<SubtaskId, Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Life {
    attempt: Attempt,
    state: SubtaskState,
}

impl Default for Job {
    fn default() -> Job {
        Job::new()
    }
}

impl Job {
    /// A job that was created and not started. Its first attempt has a number above zero.
    #[must_use]
    pub fn new() -> Job {
        Job { state: JobState::Created, attempt: Attempt(0), subtasks: BTreeMap::new() }
    }

    /// The state of the job.
    #[must_use]
    pub fn state(&self) -> JobState {
        self.state
    }

    /// The newest attempt; zero before the first.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The state of a subtask of the current attempt.
    #[must_use]
    pub fn subtask(&self, subtask: SubtaskId) -> Option<SubtaskState> {
        self.subtasks.get(&subtask).map(|life| life.state)
    }

    /// All subtasks in their current attempts.
    pub fn subtasks(&self) -> impl Iterator<Item = (SubtaskId, SubtaskState)> + '_ {
        self.subtasks.iter().map(|(subtask, life)| (*subtask, life.state))
    }

    /// Begins an attempt of these subtasks: the job is restoring, and they are created. The others run on.
    ///
    /// # Errors
    ///
    /// If the job cannot restore from its state, if one of them is not gone yet (two attempts never run), or if the
    /// attempt is not newer.
    pub fn restore(
        &mut self,
        attempt: Attempt,
        subtasks: impl IntoIterator<Item = SubtaskId>,
    ) -> Result<(), IllegalTransition> {
        self.may_become(JobState::Restoring)?;
        if attempt <= self.attempt {
            return Err(IllegalTransition::Attempt { attempt, current: self.attempt });
        }
        let subtasks: BTreeSet<SubtaskId> = subtasks.into_iter().collect();
        let there =
            self.subtasks.iter().find(|(subtask, life)| subtasks.contains(subtask) && !life.state.is_terminal());
        if let Some((subtask, life)) = there {
            let (from, to) = (self.state, JobState::Restoring);
            return Err(IllegalTransition::HeldUp { from, to, subtask: *subtask, state: life.state });
        }
        self.state = JobState::Restoring;
        self.attempt = attempt;
        let created = Life { attempt, state: SubtaskState::Created };
        self.subtasks.extend(subtasks.into_iter().map(|subtask| (subtask, created)));
        Ok(())
    }

    /// Those that are not there have ended, whatever was known of them: for a supervisor that lost its thread.
    pub fn settle(&mut self, is_there: impl Fn(SubtaskId) -> bool) {
        let gone = self.subtasks.iter_mut().filter(|(subtask, life)| !is_there(**subtask) && !life.state.is_terminal());
        for (_, life) in gone {
            life.state = SubtaskState::Failed;
        }
    }

    /// Takes a step of the job other than the one that [`restore`](Job::restore) takes.
    ///
    /// # Errors
    ///
    /// If the state does not follow the current one; if the job would run (from restoring) and a subtask is not
    /// restored; or if it would be finished, stopped or cancelled and a subtask is not gone. A job fails also over
    /// subtasks that do not end.
    pub fn become_state(&mut self, to: JobState) -> Result<(), IllegalTransition> {
        self.may_become(to)?;
        match to {
            JobState::Created | JobState::Restoring => {
                return Err(IllegalTransition::Job { from: self.state, to });
            }
            JobState::Running => {
                if self.state == JobState::Restoring {
                    // Those of other regions are at work already.
                    self.require_all(to, |state| {
                        matches!(state, SubtaskState::Restored | SubtaskState::Running | SubtaskState::EndOfData)
                    })?;
                    let restored = self.subtasks.values_mut().filter(|life| life.state == SubtaskState::Restored);
                    for life in restored {
                        life.state = SubtaskState::Running;
                    }
                }
            }
            JobState::Finished | JobState::Stopped | JobState::Cancelled => {
                self.require_all(to, SubtaskState::is_terminal)?;
            }
            JobState::Stopping | JobState::Restarting | JobState::Cancelling | JobState::Failing | JobState::Failed => {
            }
        }
        self.state = to;
        Ok(())
    }

    /// Takes a step of one subtask.
    ///
    /// # Errors
    ///
    /// If `attempt` is not the current one of the subtask, or the state does not follow its current one. A subtask runs only because [the job](Job::become_state) runs.
    pub fn subtask_becomes(
        &mut self,
        attempt: Attempt,
        subtask: SubtaskId,
        to: SubtaskState,
    ) -> Result<(), IllegalTransition> {
        let current = self.subtasks.get(&subtask).map_or(self.attempt, |life| life.attempt);
        let stranger = IllegalTransition::Stranger { subtask, attempt, current };
        let life = self.subtasks.get_mut(&subtask).filter(|_| attempt == current).ok_or(stranger)?;
        let with_the_job = to == SubtaskState::Running;
        if with_the_job || !life.state.next().contains(&to) {
            return Err(IllegalTransition::Subtask { subtask, from: life.state, to });
        }
        life.state = to;
        Ok(())
    }

    fn may_become(&self, to: JobState) -> Result<(), IllegalTransition> {
        let from = self.state;
        if from.next().contains(&to) { Ok(()) } else { Err(IllegalTransition::Job { from, to }) }
    }

    fn require_all(&self, to: JobState, holds: impl Fn(SubtaskState) -> bool) -> Result<(), IllegalTransition> {
        match self.subtasks.iter().find(|(_, life)| !holds(life.state)) {
            Some((subtask, life)) => {
                Err(IllegalTransition::HeldUp { from: self.state, to, subtask: *subtask, state: life.state })
            }
            None => Ok(()),
        }
    }
}
