//! Checkpoints that a subtask has heard of by message, before the first of their markers: a bounded memory.

use std::collections::BTreeMap;

use crate::ids::{CheckpointId, Moment};

/// How many checkpoints ahead of the barriers a subtask remembers. More than that are open only if the coordinator
/// gave up as many in a row; forgetting one costs an exact figure, or a wasted alignment, never consistency.
pub const REMEMBERED_IDS: usize = 16;

/// What is known of one checkpoint whose first marker has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Notice {
    /// When the first message came.
    pub(super) at: Moment,
    /// The trigger moment, if the coordinator told this subtask directly to take part.
    pub(super) triggered: Option<Moment>,
    /// From when on its barrier overtakes, and when it was triggered.
    pub(super) overtakes: Option<Overtaking>,
    /// Whether the coordinator gave it up.
    pub(super) aborted: bool,
}

/// When a barrier overtakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Overtaking {
    /// From when on.
    pub(super) from: Moment,
    /// When its checkpoint was triggered.
    pub(super) triggered: Moment,
}

/// The notices, by id. All ids are above the highest resolved and above the pending one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Heard {
    notices: BTreeMap<CheckpointId, Notice>,
}

impl Heard {
    /// The notice of `checkpoint`, made at `now` if this is the first message. Above the bound the oldest id is forgotten.
    pub(super) fn note(&mut self, now: Moment, checkpoint: CheckpointId, change: impl FnOnce(&mut Notice)) {
        change(self.notices.entry(checkpoint).or_insert(Notice {
            at: now,
            triggered: None,
            overtakes: None,
            aborted: false,
        }));
        if self.notices.len() > REMEMBERED_IDS {
            self.notices.pop_first();
        }
    }

    /// Takes out the notice of `checkpoint`.
    pub(super) fn take(&mut self, checkpoint: CheckpointId) -> Option<Notice> {
        self.notices.remove(&checkpoint)
    }

    /// Takes out the oldest notice below `checkpoint`.
    pub(super) fn take_below(&mut self, checkpoint: CheckpointId) -> Option<(CheckpointId, Notice)> {
        let (&oldest, _) = self.notices.first_key_value()?;
        if oldest < checkpoint { self.notices.pop_first() } else { None }
    }

    /// The oldest checkpoint that this subtask was told directly to take part in.
    pub(super) fn first_triggered(&self) -> Option<(CheckpointId, Moment)> {
        self.notices.iter().find_map(|(&checkpoint, notice)| Some((checkpoint, notice.triggered?)))
    }

    /// The newest checkpoint whose barrier overtakes by now.
    pub(super) fn newest_overtaking(&self, now: Moment) -> Option<(CheckpointId, Overtaking)> {
        let overtaking =
            |notice: &Notice| notice.overtakes.filter(|overtakes| !notice.aborted && overtakes.from <= now);
        self.notices.iter().rev().find_map(|(&checkpoint, notice)| Some((checkpoint, overtaking(notice)?)))
    }

    /// The first moment at which a barrier overtakes.
    pub(super) fn next_overtaking(&self) -> Option<Moment> {
        self.notices.values().filter(|notice| !notice.aborted).filter_map(|notice| Some(notice.overtakes?.from)).min()
    }

    /// The oldest checkpoint.
    pub(super) fn first(&self) -> Option<CheckpointId> {
        self.notices.keys().next().copied()
    }

    /// How many are remembered, and the oldest.
    pub(super) fn extent(&self) -> (usize, Option<CheckpointId>) {
        (self.notices.len(), self.first())
    }
}
