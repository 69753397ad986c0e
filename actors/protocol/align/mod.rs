//! The barriers of a subtask: when it blocks a channel, when it takes its cut, and when it gives up.
//!
//! One machine serves all inputs of a subtask, whose channels are numbered through from 0. A source is a subtask
//! without channels. The driver feeds it with what reaches the *head* of each channel (barrier markers, cancel markers,
//! the end of the channel), with the messages of the mailbox (announcements of barriers, triggers and abort notices of
//! the coordinator), and carries out what it asks for.
//!
//! There are two, of the same events and effects, and an [`Alignment`] is one of them: the [`Aligner`], exactly once, and the [`Tracker`], at least once.
//!
//! The rules of the aligner:
//!
//! * A marker blocks its channel until every open channel has delivered the marker of the same checkpoint; then the subtask
//!   cuts, and all channels go on. An ended channel counts as delivered. A barrier and the end of one channel count once.
//! * A marker or cancel marker with a newer id subsumes the pending checkpoint: channels are ordered, so the older one can no
//!   longer be delivered by that channel.
//! * The message of a barrier and its marker are one event. In aligned mode the message never blocks and never subsumes; it
//!   tells when the subtask first heard of the checkpoint.
//! * What is *resolved* (cut, subsumed or cancelled) stays so: any event of an id at or below the highest resolved one, or
//!   below the pending one, does nothing.
//! * The coordinator's abort ends the pending checkpoint at once. An abort that runs ahead of the barriers is
//!   remembered for its id alone, since older checkpoints may still be on their way; the barriers of that id then pass without
//!   blocking.
//! * Every id that the subtask heard of is resolved once, and the resolutions leave in ascending order: on each output
//!   the barriers and cancel markers therefore ascend too, which is what the subsuming rule of the next subtask builds on.
//!
//! A barrier may *overtake* from a moment on ([`Event::Overtakes`], rules 3, 26 and 28):
//!
//! * From that moment the subtask no longer waits: it cuts at once, on the message alone if no marker came, and every open channel that
//!   still owes the marker is captured: the frames in front of its marker belong to the checkpoint ([`Effect::Capture`], [`Capture`]).
//!   Until that moment all is as above, and a channel that delivered is blocked.
//! * A channel whose order is kept ([`Aligner::keeping_order`]: what it brings could not be shared out anew) is never overtaken: the cut
//!   waits for its marker.
//! * An overtaking barrier subsumes every older checkpoint as soon as it cuts, since nothing of them can be captured any more.
//!
//! The tracker keeps these, but for what it means to wait:
//!
//! * It never blocks a channel. It cuts when every open channel has come to the marker; records that came behind a marker are in the cut too.
//! * So several checkpoints may be under way. A channel that goes on to a newer one without the marker of an older one ends the older one.
//! * A checkpoint that is given up is resolved when all older ones are. At the end of a channel several may be complete: the newest is cut, since
//!   the others would be the same cut.

mod aligner;
mod alignment;
mod capture;
mod channels;
mod heard;
mod tracker;

use std::fmt;
use std::time::Duration;

use crate::ids::{CheckpointId, Moment};
use crate::protocol::coordinator::DeclineReason;

pub use aligner::Aligner;
pub use alignment::{Alignment, CheckpointMode};
pub use capture::{Capture, Captured, Seen};
pub use heard::REMEMBERED_IDS;
pub use tracker::{TRACKED_CHECKPOINTS, Tracker};

/// One input channel of a subtask: the consumer's end of one edge, numbered from 0 over all inputs of the subtask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u32);

impl Channel {
    /// The number as a position in a list of channels.
    #[must_use]
    pub fn position(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// What happens to an [`Alignment`]. Messages of another attempt are dropped before they get here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A barrier marker reached the head of `channel`, and the driver has taken it off.
    Marker {
        /// Where.
        channel: Channel,
        /// The checkpoint of the barrier.
        checkpoint: CheckpointId,
        /// When the coordinator triggered the checkpoint; travels with the barrier.
        triggered: Moment,
    },
    /// The message of a barrier came through the mailbox, from whichever producer.
    Announcement {
        /// The checkpoint of the barrier.
        checkpoint: CheckpointId,
    },
    /// The barrier of `checkpoint` may overtake from a moment on. Follows directly on the [`Event::Marker`], the [`Event::Announcement`] or the
    /// [`Event::Trigger`] of such a barrier.
    Overtakes {
        /// The checkpoint of the barrier.
        checkpoint: CheckpointId,
        /// When the coordinator triggered the checkpoint.
        triggered: Moment,
        /// From when on.
        from: Moment,
    },
    /// The time is [`next_deadline`](crate::protocol::machine::Machine::next_deadline).
    Deadline,
    /// A cancel marker reached the head of `channel`: the producer will not deliver the barrier of `checkpoint`.
    CancelMarker {
        /// Where.
        channel: Channel,
        /// The checkpoint that was given up.
        checkpoint: CheckpointId,
    },
    /// The end of `channel` reached its head: nothing comes any more.
    ChannelEnded {
        /// Which.
        channel: Channel,
    },
    /// The coordinator tells this subtask directly to take part: it is a source, or its producers have ended.
    ///
    /// With channels still open (their ends are on the way) the cut waits for their barriers or ends.
    Trigger {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// When the coordinator triggered it.
        triggered: Moment,
    },
    /// The coordinator gave the checkpoint up.
    AbortNotice {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The cut that was asked for could not be taken, and its barrier was not forwarded.
    ///
    /// Counts only before the next cut is asked for: after that the newer barrier subsumes it everywhere downstream.
    CutFailed {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
}

/// What an [`Alignment`] asks for, to be done in the given order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Take nothing from this channel until it is unblocked.
    Block(Channel),
    /// Take from this channel again.
    Unblock(Channel),
    /// The checkpoint that is cut next, and directly after this, holds of this channel what comes in front of its marker.
    Capture(Channel),
    /// Take the snapshot now, before anything else is taken from any channel, and forward the barrier.
    Cut {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// When its parts happened.
        timing: Timing,
    },
    /// The subtask takes no cut for this checkpoint: send a cancel marker to every output, and decline to the coordinator
    /// where the reason says so.
    ForwardCancel {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: CancelReason,
    },
}

/// The durations of one alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timing {
    /// From the trigger until the subtask first heard of the checkpoint, by message or by marker: long when the
    /// subtask or a producer was busy in a user call.
    pub notice_delay: Duration,
    /// From the trigger until the first marker reached the head of its channel (or, without any, until the cut): long
    /// when the inputs are back-pressured.
    pub start_delay: Duration,
    /// From the first marker until the cut: how long channels were blocked. Zero for a single channel.
    pub alignment: Duration,
}

/// Why a subtask takes no cut for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CancelReason {
    /// A newer barrier or cancel marker came before the last barrier of this one.
    Subsumed,
    /// A producer sent a cancel marker.
    CancelledUpstream,
    /// The coordinator sent an abort notice.
    AbortedByCoordinator,
    /// The driver reported that the cut failed.
    CutFailed,
}

impl CancelReason {
    /// The decline by which the coordinator is to be told, if it does not know yet.
    ///
    /// A failed cut is declined by whoever saw it fail, with the error.
    #[must_use]
    pub fn decline(self) -> Option<DeclineReason> {
        match self {
            CancelReason::Subsumed => Some(DeclineReason::Subsumed),
            CancelReason::CancelledUpstream => Some(DeclineReason::CancelledUpstream),
            CancelReason::AbortedByCoordinator | CancelReason::CutFailed => None,
        }
    }
}

impl fmt::Display for CancelReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CancelReason::Subsumed => "subsumed by a newer checkpoint",
            CancelReason::CancelledUpstream => "cancelled by a producer",
            CancelReason::AbortedByCoordinator => "aborted by the coordinator",
            CancelReason::CutFailed => "the snapshot failed",
        })
    }
}
