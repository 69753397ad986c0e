//! Which request goes next, and whether it may go now.

use std::collections::VecDeque;

use crate::ids::Moment;

use super::message::{CheckpointKind, RequestId, RequestKind};

/// The requests of users that wait for their turn. Periodic and final checkpoints do not queue: they are due or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Requests {
    stops: VecDeque<RequestId>,
    manual: VecDeque<RequestId>,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub now: Moment,
    /// Subtasks run, nothing closed the job, and no manifest is in doubt.
    pub open: bool,
    /// A checkpoint has begun that its subtasks have not heard of, or one is pending that nothing may follow.
    pub exclusive: bool,
    /// How many checkpoints are pending.
    pub pending: usize,
    /// How many may be.
    pub maximum_concurrent: usize,
    /// How many old checkpoints wait to be deleted.
    pub cleaning: usize,
    /// What the end of all data asks for.
    pub end: EndOfAllData,
    /// Whether the schedule asks for a periodic checkpoint.
    pub periodic: bool,
    /// The end of the pause after the last completion.
    pub pause_ends: Option<Moment>,
}

/// What the end of all data asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndOfAllData {
    /// It has not come, or the final checkpoint was given up.
    No,
    /// The final checkpoint is to be taken.
    Due,
    /// The final checkpoint waits for its next try; nothing else is taken.
    Waiting,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing may begin now.
    Wait,
    /// A checkpoint of this kind begins.
    Begin(CheckpointKind),
    /// A periodic one would be too early: it is dropped, the schedule goes on at the end of the pause.
    TooEarly {
        /// The end of the pause.
        until: Moment,
    },
}

impl Requests {
    /// Decides: the final checkpoint first, then stops, then other requests of users, then the schedule.
    ///
    /// A checkpoint that closes the job begins when no other is pending, and nothing is let in front of it meanwhile:
    /// otherwise a job with a short interval could never be stopped.
    pub(super) fn decide(&self, facts: Facts) -> Decision {
        if !facts.open || facts.exclusive {
            return Decision::Wait;
        }
        let closing = match facts.end {
            EndOfAllData::Due => Some(CheckpointKind::Final),
            EndOfAllData::Waiting => return Decision::Wait,
            EndOfAllData::No if self.stops.is_empty() => None,
            EndOfAllData::No => Some(CheckpointKind::Stopping),
        };
        if let Some(kind) = closing {
            return if facts.pending == 0 { Decision::Begin(kind) } else { Decision::Wait };
        }
        if facts.pending >= facts.maximum_concurrent || facts.cleaning > facts.maximum_concurrent {
            return Decision::Wait;
        }
        if !self.manual.is_empty() {
            return Decision::Begin(CheckpointKind::Manual);
        }
        match facts.pause_ends {
            _ if !facts.periodic => Decision::Wait,
            Some(until) if facts.now < until => Decision::TooEarly { until },
            Some(_) | None => Decision::Begin(CheckpointKind::Periodic),
        }
    }

    /// Queues a request. Over the limit the last in order is given back: the newest that is no stop, or the new one.
    pub(super) fn push(&mut self, request: RequestId, kind: RequestKind, limit: usize) -> Option<RequestId> {
        match kind {
            RequestKind::Checkpoint => self.manual.push_back(request),
            RequestKind::Stop => self.stops.push_back(request),
        }
        if self.stops.len() + self.manual.len() <= limit {
            return None;
        }
        self.manual.pop_back().or_else(|| self.stops.pop_back())
    }

    /// Takes the requests that a checkpoint of this kind serves: one of a user, or all stops.
    pub(super) fn take(&mut self, kind: CheckpointKind) -> Vec<RequestId> {
        match kind {
            CheckpointKind::Manual => self.manual.pop_front().into_iter().collect(),
            CheckpointKind::Stopping => self.stops.drain(..).collect(),
            CheckpointKind::Periodic | CheckpointKind::Final => Vec::new(),
        }
    }

    /// Takes all.
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        self.stops.drain(..).chain(self.manual.drain(..)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stops.is_empty() && self.manual.is_empty()
    }
}
