//! What the supervisor hears and what it asks for.

use std::collections::BTreeSet;

use super::regions::Scope;
use crate::ids::{Attempt, RegionId, SubtaskId};
use crate::ports::task::Failure;

/// What an attempt of a region consists of. A region is gone when all its parts have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A subtask.
    Subtask(SubtaskId),
    /// The committing side of a sink, by its number in the plan.
    Sink(u32),
    /// All blocking work that its subtasks, sinks and enumerators began. It ends last: who ended begins none.
    Work,
}

/// What did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Straggler {
    /// A part of a region: it is in a call.
    Part(RegionId, Part),
    /// The coordinator, with something in flight in the storage.
    Coordinator,
}

/// What may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A part is about to be built. From here on it is waited for.
    Started {
        /// The attempt of its region: the one that asked for it.
        attempt: Attempt,
        /// Its region.
        region: RegionId,
        /// Which part.
        part: Part,
    },
    /// All that was asked for runs.
    Running {
        /// The attempt.
        attempt: Attempt,
    },
    /// Something failed. A part that failed is gone only when [`Ended`](Event::Ended) says so.
    Failed {
        /// What it concerns.
        scope: Scope,
        /// The attempt of the region, or the newest one that the coordinator knew.
        attempt: Attempt,
        /// What happened.
        failure: Failure,
        /// A random number: the jitter of the restart strategy is made of it.
        random: u64,
    },
    /// A part is gone: nothing that it began is under way any more.
    Ended {
        /// The attempt of its region.
        attempt: Attempt,
        /// Its region.
        region: RegionId,
        /// Which part.
        part: Part,
    },
    /// The coordinator has nothing in flight and begins nothing.
    CoordinatorSuspended {
        /// The suspension that it answers.
        suspension: u32,
        /// Whether the last completed checkpoint is one that nothing follows.
        closed: bool,
    },
    /// A checkpoint that ends the job is complete. Nothing is processed any more; what a failure leaves open are commits.
    Closed,
    /// A user ends the job now.
    Cancel,
    /// The deadline that the machine named has passed.
    Deadline,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// From here on no effect of these regions may begin; tell all their parts to end.
    End {
        /// The regions.
        regions: BTreeSet<RegionId>,
    },
    /// Let the coordinator abort what is pending and settle what is in flight, and end the enumerators of these regions.
    Suspend {
        /// Comes back with the answer.
        suspension: u32,
        /// The regions.
        regions: BTreeSet<RegionId>,
    },
    /// Restore these regions from the last completed checkpoint, as this attempt.
    Restart {
        /// The new attempt.
        attempt: Attempt,
        /// The regions: all of them, or those that do not run.
        regions: BTreeSet<RegionId>,
    },
    /// The job is cancelled: nothing of it is left.
    JobCancelled,
    /// The job has failed for good.
    FailJob {
        /// The failures since the job ran last, in the order in which they came: the original one first. Empty only if a user cancelled and
        /// something did not end.
        failures: Vec<Failure>,
        /// What is still there, because it did not end in time.
        stragglers: Vec<Straggler>,
    },
}
