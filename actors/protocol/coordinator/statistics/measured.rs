//! What a subtask measures of its part of a checkpoint.

use std::time::Duration;

use crate::ids::SubtaskId;
use crate::ports::calls::Busy;
use crate::protocol::align::Channel;

/// What a subtask measured of its part of a checkpoint: how large it is, and where the time went.
///
/// All durations begin at the trigger and follow each other: the start delay, the alignment, the synchronous part, the asynchronous part, and the
/// acknowledgement that travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubtaskFigures {
    /// The length of all its pieces in bytes: what a restore reads.
    pub bytes: u64,
    /// How much of it this checkpoint had to write: its new blobs, and all that stands in the manifest itself. The rest is in blobs of earlier checkpoints; there is none where checkpoints are not incremental.
    pub written_bytes: u64,
    /// The bytes of the records in front of it that are part of the checkpoint, because the subtask cut ahead of them; part of both lengths above.
    pub in_flight_bytes: u64,
    /// How many records these are.
    pub in_flight_records: u64,
    /// Whether the subtask cut ahead of records: of those in front of markers that its barrier overtook, or of those that a restore had brought back and that it had not
    /// processed. Only then is anything of it in flight.
    pub unaligned: bool,
    /// How its barrier overtook, if it did.
    pub overtook: Option<Overtook>,
    /// From the trigger until the subtask first heard of the checkpoint: long when it, or one in front of it, was busy in a user call.
    pub notice_delay: Duration,
    /// From the trigger until the first marker was at the head of a channel; until the cut where there is none. Long under back-pressure.
    pub start_delay: Duration,
    /// From the first marker until the cut: how long channels were blocked. Zero for a single channel.
    pub alignment: Duration,
    /// How long the subtask stood still for its snapshot: the synchronous part.
    pub synchronous: Duration,
    /// From there until its part was durable, while it went on: the asynchronous part.
    pub asynchronous: Duration,
    /// The marker that came last. It decided when the subtask cut; of those that a barrier overtook, when everything in front of them was collected. None for a source.
    pub last_marker: Option<LastMarker>,
    /// The user code that took the most time between the trigger and the cut, if there were calls of a millisecond or more.
    pub busy: Option<Busy>,
    /// How long it could not hand on what it had, between the notice and the cut.
    pub held_up: Option<HeldUp>,
}

impl SubtaskFigures {
    /// From the trigger until the cut.
    #[must_use]
    pub fn cut_after(&self) -> Duration {
        self.start_delay + self.alignment
    }

    /// From the trigger until the barrier was sent on.
    #[must_use]
    pub fn sent_after(&self) -> Duration {
        self.cut_after() + self.synchronous
    }

    /// From the trigger until the acknowledgement was sent.
    #[must_use]
    pub fn acknowledged_after(&self) -> Duration {
        self.sent_after() + self.asynchronous
    }
}

/// The marker of a barrier that came last of all channels of a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LastMarker {
    /// By which channel it came.
    pub channel: Channel,
    /// Who sent it.
    pub producer: SubtaskId,
    /// How many batches waited in front of it when the subtask heard of it.
    pub batches: u32,
}

/// A subtask cut ahead of markers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Overtook {
    /// By whom it heard of the checkpoint first; none where the coordinator told it.
    pub heard_from: Option<SubtaskId>,
    /// From the cut until the last of these markers was seen, and all in front of them collected: what other systems call the alignment of an unaligned
    /// checkpoint. Part of the asynchronous part.
    pub collecting: Duration,
}

/// A subtask could not hand on what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldUp {
    /// Who took nothing, the last time.
    pub consumer: SubtaskId,
    /// How long, all times together.
    pub lasts: Duration,
}
