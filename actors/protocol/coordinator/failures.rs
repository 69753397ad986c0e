//! Counting checkpoints that fail in a row: how many of them an attempt tolerates.

use std::collections::VecDeque;

use crate::ids::CheckpointId;

use super::REMEMBERED;
use super::reason::FailureReason;

/// Counts failed checkpoints up to the next success.
///
/// The rules are those of Apache Flink's `CheckpointFailureManager`: only reasons that [count](FailureReason::counts) do, each
/// checkpoint does once, a success begins anew, and what is older than the last success says nothing any more. The count
/// goes on over attempts, since an attempt that ends does not make snapshots possible; what exceeded it begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FailureCounter {
    /// None tolerates all.
    tolerable: Option<u32>,
    failures: u32,
    /// The last ones that counted since the last success. A report is late by a few checkpoints at most.
    counted: VecDeque<CheckpointId>,
    last_success: Option<CheckpointId>,
}

impl FailureCounter {
    /// Tolerates so many failures in a row; `None` tolerates all and counts nothing.
    #[must_use]
    pub fn new(tolerable: Option<u32>) -> FailureCounter {
        FailureCounter { tolerable, failures: 0, counted: VecDeque::new(), last_success: None }
    }

    /// Takes a failure; without an id if it came before one was handed out. The number of failures in a row, if that is more
    /// than is tolerated.
    pub fn failed(&mut self, checkpoint: Option<CheckpointId>, reason: FailureReason) -> Option<u32> {
        let tolerable = self.tolerable?;
        let is_past = checkpoint.is_some_and(|checkpoint| self.last_success.is_some_and(|last| checkpoint < last));
        let is_counted = checkpoint.is_some_and(|checkpoint| self.counted.contains(&checkpoint));
        if !reason.counts() || is_past || is_counted {
            return None;
        }
        self.counted.extend(checkpoint);
        if self.counted.len() > REMEMBERED {
            self.counted.pop_front();
        }
        self.failures = self.failures.saturating_add(1);
        (self.failures > tolerable).then(|| std::mem::take(&mut self.failures))
    }

    /// Takes a success: what failed before it is forgiven.
    pub fn succeeded(&mut self, checkpoint: CheckpointId) {
        self.failures = 0;
        self.counted.clear();
        self.last_success = self.last_success.max(Some(checkpoint));
    }

    /// How many failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}
