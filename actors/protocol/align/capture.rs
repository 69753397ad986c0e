//! What a checkpoint holds of the channels that its barrier overtook: the frames in front of each channel's marker.
//!
//! The driver shows the machine every frame of the owing channels once, in the order of each channel: those that wait in the edge, and those that
//! leave it before they were looked at. The machine says what belongs to the checkpoint, and when nothing more does.

use std::collections::BTreeSet;

use super::{CancelReason, Channel};
use crate::ids::{CheckpointId, Moment};
use crate::protocol::invariant;
use crate::protocol::machine::{Machine, Violation};
use crate::protocol::mutation::{Mutation, is_active};

/// The next frame of a channel, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    /// Records.
    Records(Channel),
    /// The marker of a barrier.
    Marker(Channel, CheckpointId),
    /// The mark of a checkpoint that the producer does not cut.
    CancelMarker(Channel, CheckpointId),
    /// Nothing follows.
    EndOfChannel(Channel),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Captured {
    /// The records that were just shown belong to the checkpoint: encode them before anybody works on them.
    Keep(Channel),
    /// Nothing more of this channel does: look at it no longer.
    Ended(Channel),
    /// All channels have ended: what was kept is all.
    Complete,
    /// Some channel will not bring its marker: the checkpoint cannot be completed here. What was kept is of no use.
    GivenUp(CancelReason),
}

/// The capture of one checkpoint at one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Capture {
    checkpoint: CheckpointId,
    owing: BTreeSet<Channel>,
    /// Whether it was said that it is complete or given up.
    over: bool,
}

impl Capture {
    /// Of the checkpoint that was cut, with the channels that its cut named. One without channels is complete from the beginning, and says nothing.
    #[must_use]
    pub fn new(checkpoint: CheckpointId, channels: impl IntoIterator<Item = Channel>) -> Capture {
        let owing = channels.into_iter().collect::<BTreeSet<_>>();
        Capture { checkpoint, over: owing.is_empty(), owing }
    }

    /// Which checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Whether the frames of this channel are to be shown.
    #[must_use]
    pub fn owes(&self, channel: Channel) -> bool {
        self.owing.contains(&channel)
    }

    /// The channels whose frames are to be shown, in ascending order.
    pub fn owing(&self) -> impl Iterator<Item = Channel> + '_ {
        self.owing.iter().copied()
    }

    /// Whether nothing more is to be shown.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn end(&mut self, channel: Channel, effects: &mut Vec<Captured>) {
        self.owing.remove(&channel);
        effects.push(Captured::Ended(channel));
        if self.owing.is_empty() {
            self.over = true;
            effects.push(Captured::Complete);
        }
    }

    fn give_up(&mut self, reason: CancelReason, effects: &mut Vec<Captured>) {
        self.owing.clear();
        self.over = true;
        effects.push(Captured::GivenUp(reason));
    }
}

impl Machine for Capture {
    type Event = Seen;
    type Effect = Captured;

    fn handle(&mut self, _now: Moment, event: Seen, effects: &mut Vec<Captured>) {
        let (Seen::Records(channel)
        | Seen::Marker(channel, _)
        | Seen::CancelMarker(channel, _)
        | Seen::EndOfChannel(channel)) = event;
        if !self.owes(channel) {
            return;
        }
        match event {
            Seen::Records(_) if is_active(Mutation::CaptureNothing) => {}
            Seen::Records(_) => effects.push(Captured::Keep(channel)),
            Seen::Marker(_, checkpoint) => {
                if checkpoint == self.checkpoint {
                    self.end(channel, effects);
                } else if checkpoint > self.checkpoint {
                    self.give_up(CancelReason::Subsumed, effects);
                }
                // An older one was given up before the cut.
            }
            Seen::CancelMarker(_, checkpoint) => {
                if checkpoint == self.checkpoint {
                    self.give_up(CancelReason::CancelledUpstream, effects);
                } else if checkpoint > self.checkpoint {
                    self.give_up(CancelReason::Subsumed, effects);
                }
            }
            Seen::EndOfChannel(_) => self.end(channel, effects),
        }
    }

    /// None: the coordinator gives up a checkpoint that takes too long.
    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn check(&self) -> Result<(), Violation> {
        invariant::capture_is_owed(self.over, self.owing.len())
    }
}
