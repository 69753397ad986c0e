//! How the barriers of a subtask are treated: one of two machines, chosen for the whole job.

use super::{Aligner, Channel, Effect, Event, Tracker};
use crate::ids::{CheckpointId, Moment};
use crate::protocol::machine::{Machine, Violation};

/// What a checkpoint promises about the effect of a record on the state after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CheckpointMode {
    /// Every record counts exactly once: a subtask takes nothing from a channel whose barrier came until all barriers came.
    #[default]
    ExactlyOnce,
    /// Every record counts at least once: no channel ever waits for another, and after a failure some records count again.
    ///
    /// For results where a repeat does no harm (a maximum, a set, a row that is written by its key) and a slow input must not hold up a fast
    /// one. A subtask with a single input channel counts exactly once in this mode too.
    AtLeastOnce,
}

/// The machine of one subtask's barriers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// Blocks channels.
    ExactlyOnce(Aligner),
    /// Counts barriers.
    AtLeastOnce(Tracker),
}

impl Alignment {
    /// The machine for a subtask with the channels 0 to `channels`, exclusive; 0 for a source.
    #[must_use]
    pub fn new(mode: CheckpointMode, channels: u32) -> Alignment {
        match mode {
            CheckpointMode::ExactlyOnce => Alignment::ExactlyOnce(Aligner::new(channels)),
            CheckpointMode::AtLeastOnce => Alignment::AtLeastOnce(Tracker::new(channels)),
        }
    }

    /// Whether nothing may be taken from `channel` now.
    #[must_use]
    pub fn is_blocked(&self, channel: Channel) -> bool {
        match self {
            Alignment::ExactlyOnce(aligner) => aligner.is_blocked(channel),
            Alignment::AtLeastOnce(_) => false,
        }
    }

    /// The checkpoints that wait for the markers of some channels, oldest first.
    #[must_use]
    pub fn pending(&self) -> Vec<CheckpointId> {
        match self {
            Alignment::ExactlyOnce(aligner) => aligner.pending().into_iter().collect(),
            Alignment::AtLeastOnce(tracker) => tracker.pending().collect(),
        }
    }

    /// The highest id that was cut, subsumed or cancelled; 0 before the first. Nothing at or below it has an effect.
    #[must_use]
    pub fn resolved(&self) -> CheckpointId {
        match self {
            Alignment::ExactlyOnce(aligner) => aligner.resolved(),
            Alignment::AtLeastOnce(tracker) => tracker.resolved(),
        }
    }

    /// How many channels have not ended.
    #[must_use]
    pub fn open_channels(&self) -> u32 {
        match self {
            Alignment::ExactlyOnce(aligner) => aligner.open_channels(),
            Alignment::AtLeastOnce(tracker) => tracker.open_channels(),
        }
    }
}

impl From<Aligner> for Alignment {
    fn from(aligner: Aligner) -> Alignment {
        Alignment::ExactlyOnce(aligner)
    }
}

impl From<Tracker> for Alignment {
    fn from(tracker: Tracker) -> Alignment {
        Alignment::AtLeastOnce(tracker)
    }
}

impl Machine for Alignment {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match self {
            Alignment::ExactlyOnce(aligner) => aligner.handle(now, event, effects),
            Alignment::AtLeastOnce(tracker) => tracker.handle(now, event, effects),
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        match self {
            Alignment::ExactlyOnce(aligner) => aligner.next_deadline(),
            Alignment::AtLeastOnce(tracker) => tracker.next_deadline(),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        match self {
            Alignment::ExactlyOnce(aligner) => aligner.check(),
            Alignment::AtLeastOnce(tracker) => tracker.check(),
        }
    }
}
