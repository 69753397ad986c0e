//! The last checkpoints, each at the place of its trigger.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::CheckpointId;

use super::CheckpointStatistics;

/// One place of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Under way: what is known of it is with the coordinator.
    Pending(CheckpointId),
    Ended(Arc<CheckpointStatistics>),
}

/// As many places as were asked for; the oldest one goes when a checkpoint begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    size: usize,
    places: VecDeque<Place>,
}

impl History {
    pub(super) fn new(size: usize) -> History {
        History { size, places: VecDeque::new() }
    }

    pub(super) fn begin(&mut self, checkpoint: CheckpointId) {
        self.places.push_back(Place::Pending(checkpoint));
        while self.places.len() > self.size {
            self.places.pop_front();
        }
    }

    /// Puts one that ended at the place that it had, if it still has one.
    pub(super) fn end(&mut self, ended: &Arc<CheckpointStatistics>) {
        let begun = Place::Pending(ended.checkpoint);
        if let Some(place) = self.places.iter_mut().find(|place| **place == begun) {
            *place = Place::Ended(Arc::clone(ended));
        }
    }

    pub(super) fn find(&mut self, checkpoint: CheckpointId) -> Option<&mut Arc<CheckpointStatistics>> {
        self.places.iter_mut().find_map(|place| match place {
            Place::Ended(ended) if ended.checkpoint == checkpoint => Some(ended),
            Place::Ended(_) | Place::Pending(_) => None,
        })
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = &CheckpointStatistics> {
        self.places.iter().filter_map(|place| match place {
            Place::Pending(_) => None,
            Place::Ended(ended) => Some(ended.as_ref()),
        })
    }

    /// All places, oldest first.
    pub(super) fn all(
        &self,
        pending: impl Fn(CheckpointId) -> Option<Arc<CheckpointStatistics>>,
    ) -> impl Iterator<Item = Arc<CheckpointStatistics>> {
        self.places.iter().filter_map(move |place| match place {
            Place::Pending(checkpoint) => pending(*checkpoint),
            Place::Ended(ended) => Some(Arc::clone(ended)),
        })
    }
}
