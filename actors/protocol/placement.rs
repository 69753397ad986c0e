//! Which worker runs which subtask: a pure function of the plan's form and the number of workers.
//!
//! Subtasks with the same parallel index belong together: between them runs what crosses no thread. While a job is as wide as there are workers
//! (or wider), each index has one worker, and nothing but a real exchange crosses threads. A narrower job would leave workers idle;
//! there the chains are dealt out in groups of neighbours, so that a producer and its consumer work at the same time and as few edges as possible
//! cross threads.

use crate::ids::SubtaskId;

/// The form of a plan, as far as placement wants to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How many chains there are, numbered from sources to sinks.
    pub nodes: u32,
    /// The largest parallelism of any of them.
    pub widest: u32,
}

impl Form {
    /// The worker, below `workers`, on which a subtask runs.
    #[must_use]
    pub fn worker_of(self, subtask: SubtaskId, workers: u32) -> u32 {
        let (workers, widest) = (workers.max(1), self.widest.max(1));
        // How many workers an index may have; at most one for each chain.
        let groups = (workers / widest).clamp(1, self.nodes.max(1));
        let group = (u64::from(subtask.node.0) * u64::from(groups) / u64::from(self.nodes.max(1))) as u32;
        (subtask.index + group * widest) % workers
    }
}
