//! Why a checkpoint takes, or took, so long: made of figures, for people.
//!
//! One that is complete has a *path*: what the subtask that acknowledged last waited for, link by link back to the trigger. Its slowest link is what to
//! mend. One that is under way is asked: who has not acknowledged, what does that subtask wait for, and what is whoever it waits for doing. The answer is one
//! sentence, and the links that it was made of.
//!
//! Nothing decides by it, and nothing here looks at a clock: figures and observations come in, words go out.

mod ended;
mod under_way;
mod words;

use std::fmt;
use std::time::Duration;

use crate::ids::{CheckpointId, Moment, SubtaskId};
use crate::ports::calls::{Busy, Call};
use crate::protocol::align::Channel;

pub use ended::{Declined, completed, failed};
pub use under_way::under_way;
pub use words::length;

/// What a checkpoint says of itself.
///
/// Shown it is one sentence: what it is about, and the slowest link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// How far it is, or how it ended: "checkpoint 7 took 830 ms".
    pub outcome: String,
    /// The slowest link, or what is in the way: "waited 812 ms for channel 3 of `join[0]` (from `parse[1]`), behind 41 batches".
    pub reason: String,
    /// What the time went into, from the trigger on: of a completed one everything on the path, of one under way what is known of it.
    pub links: Vec<Link>,
}

impl fmt::Display for Story {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            return formatter.write_str(&self.outcome);
        }
        write!(formatter, "{}: {}", self.outcome, self.reason)
    }
}

/// A stretch of the way of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// How long it took, or has taken so far.
    pub lasts: Duration,
}

/// What the time of a checkpoint can go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkKind {
    /// A source had not taken up the trigger.
    Trigger {
        /// The source.
        subtask: SubtaskId,
    },
    /// A barrier was in an edge.
    Channel {
        /// Who takes from the edge.
        subtask: SubtaskId,
        /// Which of its channels.
        channel: Channel,
        /// Who had sent the barrier.
        producer: SubtaskId,
        /// How many batches were in front of it.
        batches: u32,
    },
    /// A subtask cut ahead of its markers, on the message of a barrier or because it had waited long enough for them.
    Overtaking {
        /// Which.
        subtask: SubtaskId,
        /// By whom it heard of the checkpoint first; none where the coordinator told it.
        producer: Option<SubtaskId>,
    },
    /// A subtask collected what its cut was ahead of, up to the marker that came last.
    Collecting {
        /// Who takes from the edge.
        subtask: SubtaskId,
        /// Which of its channels.
        channel: Channel,
        /// Who sends the marker.
        producer: SubtaskId,
        /// How many batches are in front of it.
        batches: u32,
    },
    /// A subtask stood still for its snapshot.
    Synchronous {
        /// Which.
        subtask: SubtaskId,
    },
    /// A snapshot was being written.
    Asynchronous {
        /// Whose.
        subtask: SubtaskId,
        /// Its length in bytes; not known before it is there.
        bytes: Option<u64>,
    },
    /// An acknowledgement was on its way.
    Acknowledgement {
        /// Whose.
        subtask: SubtaskId,
    },
    /// The manifest was being written, after all acknowledgements.
    Manifest,
    /// A subtask is not there: it starts, or has ended.
    Absent {
        /// Which.
        subtask: SubtaskId,
    },
}

/// How subtasks and operators are called.
pub trait Names {
    /// A subtask: `join[1]`.
    fn subtask(&self, subtask: SubtaskId) -> String;

    /// An operator of a subtask's chain by its position, or the whole chain: `join`.
    fn operator(&self, subtask: SubtaskId, position: Option<u16>) -> String;
}

/// Sees what subtasks are doing.
pub trait Observe {
    /// What a subtask is doing at this moment, for this checkpoint and otherwise. None if it is not there.
    fn observe(&self, subtask: SubtaskId, checkpoint: CheckpointId, now: Moment) -> Option<Observed>;
}

/// What a subtask is doing while a checkpoint is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// How far it is with the checkpoint.
    pub stage: Stage,
    /// What else it is doing.
    pub doing: Doing,
    /// The channels whose markers are missing, as long as it waits for them or collects what is in front of them.
    pub owing: Vec<Owing>,
}

/// How far a subtask is with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not heard of it, or waits for markers.
    Waiting,
    /// It takes its cut.
    Synchronous {
        /// Since when.
        since: Moment,
    },
    /// Its snapshot is being written.
    Asynchronous {
        /// Since when.
        since: Moment,
    },
    /// It has cut ahead of markers, and collects what is in front of them.
    Collecting {
        /// Since when.
        since: Moment,
    },
    /// It has sent its acknowledgement.
    Acknowledged {
        /// When.
        at: Moment,
    },
}

/// A channel whose marker is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owing {
    /// Which.
    pub channel: Channel,
    /// Who sends into it.
    pub producer: SubtaskId,
    /// How many batches wait in it: in front of the marker, if that was sent.
    pub batches: u32,
    /// Whether the marker is in it.
    pub sent: bool,
}

/// What a subtask is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is inside of user code.
    Inside {
        /// The position of the operator in its chain, where that is known.
        operator: Option<u16>,
        /// What it was asked.
        call: Call,
        /// Since when.
        since: Moment,
    },
    /// It cannot hand on what it has.
    HeldUp {
        /// Who takes nothing.
        consumer: SubtaskId,
        /// Since when.
        since: Moment,
    },
    /// An operator of its chain takes no records for now, for a reason of its own.
    Refuses {
        /// The position of the operator that said so, where that is known.
        operator: Option<u16>,
        /// Since when.
        since: Moment,
    },
    /// It works, between two calls, or has nothing to do.
    Nothing,
}

/// "`enrich` was inside a user call (records) for 790 ms".
fn was_inside(names: &dyn Names, subtask: SubtaskId, busy: &Busy) -> String {
    let calls = match busy.calls {
        1 => "a user call".to_owned(),
        calls => format!("{calls} user calls"),
    };
    let operator = names.operator(subtask, busy.operator);
    format!("`{operator}` was inside {calls} ({}) for {}", busy.call, length(busy.inside))
}

/// "behind 41 batches".
fn behind(count: u32) -> String {
    match count {
        0 => "with nothing in front of it".to_owned(),
        1 => "behind 1 batch".to_owned(),
        count => format!("behind {count} batches"),
    }
}
