//! What is sent over one edge: frames of random kinds, the same for the producer that sends and the consumer that compares.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use alluvium_actors::drive::edge::{Barrier, EdgeSender, Frame};
use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::ports::store::CheckpointKind;

use crate::payload::Numbered;

/// How many barriers lie between the end of the data and the end of the channel.
const BARRIERS_AFTER_DATA: u64 = 3;

/// A seeded generator of random numbers (splitmix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A random number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// True once in `times`.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// One frame of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    /// A batch, sent when there is credit.
    Batch,
    /// A batch, sent whatever the credit says.
    ForcedBatch,
    Barrier,
    Cancel,
    EndOfData,
    EndOfChannel,
}

/// The frames of one edge, in order.
pub(crate) struct Script {
    chance: Chance,
    next: u64,
    length: u64,
}

impl Script {
    /// `length` frames, the two ends among them.
    pub(crate) fn new(seed: u64, length: u64) -> Script {
        assert!(length > BARRIERS_AFTER_DATA + 2, "a script has room for its ends");
        Script { chance: Chance(seed), next: 0, length }
    }

    /// The next frame, with its number.
    pub(crate) fn next(&mut self) -> Option<(u64, Planned)> {
        let number = self.next;
        let left = self.length.checked_sub(number + 1)?;
        self.next += 1;
        let planned = match left {
            0 => Planned::EndOfChannel,
            left if left <= BARRIERS_AFTER_DATA => Planned::Barrier,
            left if left == BARRIERS_AFTER_DATA + 1 => Planned::EndOfData,
            _ => match self.chance.below(32) {
                0 => Planned::Barrier,
                1 => Planned::Cancel,
                2 => Planned::ForcedBatch,
                _ => Planned::Batch,
            },
        };
        Some((number, planned))
    }

    /// Whether all frames are out.
    pub(crate) fn is_over(&self) -> bool {
        self.next == self.length
    }

    /// How many frames are out.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }
}

/// The frame number `number` of an edge. A batch reuses a buffer that came back, if there is one.
pub(crate) fn frame(number: u64, planned: Planned, sender: &EdgeSender, alive: &Arc<AtomicUsize>) -> Frame {
    match planned {
        Planned::Batch | Planned::ForcedBatch => Frame::Batch(match sender.take_returned() {
            Some(emptied) => {
                let mut batch = Numbered::from_payload(emptied);
                assert!(batch.number < number, "a buffer came back before it was sent");
                batch.number = number;
                batch
            }
            None => Numbered::payload(number, alive),
        }),
        Planned::Barrier => Frame::Barrier(Barrier {
            checkpoint: CheckpointId(number),
            kind: CheckpointKind::Periodic,
            triggered: Moment(number),
            overtakes: None,
        }),
        Planned::Cancel => Frame::Cancel(CheckpointId(number)),
        Planned::EndOfData => Frame::EndOfData,
        Planned::EndOfChannel => Frame::EndOfChannel,
    }
}

/// Whether a frame that arrived is the planned one.
pub(crate) fn is_planned(frame: &Frame, number: u64, planned: Planned) -> bool {
    match (frame, planned) {
        // The number of a batch is inside; the caller opens it.
        (Frame::Batch(_), Planned::Batch | Planned::ForcedBatch) => true,
        (Frame::Barrier(barrier), Planned::Barrier) => barrier.checkpoint == CheckpointId(number),
        (Frame::Cancel(checkpoint), Planned::Cancel) => *checkpoint == CheckpointId(number),
        (Frame::EndOfData, Planned::EndOfData) | (Frame::EndOfChannel, Planned::EndOfChannel) => true,
        _ => false,
    }
}
