//! The names of things: checkpoints, runs, attempts, operators, subtasks, edges, moments.
//!
//! Every identifier is a type of its own, so that a run number cannot be passed where a checkpoint id is wanted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, $format, self.0)
            }
        }
    };
}

number! {
    /// The number of one checkpoint: above zero, strictly ascending over all runs and restarts of a job, never reused.
    CheckpointId(u64), "{}"
}

number! {
    /// The number of one start (or one restore inside a process) of a job: one more than the run before it.
    RunNumber(u64), "{}"
}

number! {
    /// The number of one deployment inside a process, of the whole job or of some regions. Fences messages: one that carries
    /// another attempt than the current one of its region is dropped.
    Attempt(u32), "{}"
}

number! {
    /// An operator chain of the plan: the position of its node in [`Plan::nodes`](crate::plan::Plan::nodes).
    NodeId(u32), "{}"
}

number! {
    /// A region: a connected part of the plan, which fails and restarts on its own.
    RegionId(u32), "{}"
}

number! {
    /// A connection between two nodes: its position in [`Plan::edges`](crate::plan::Plan::edges).
    EdgeId(u32), "{}"
}

number! {
    /// Names one request to the outside; its completion comes back as an event with the same token.
    Token(u64), "{}"
}

impl CheckpointId {
    /// The id after this one.
    #[must_use]
    pub fn next(self) -> CheckpointId {
        CheckpointId(self.0 + 1)
    }
}

/// The stable name that a user gives to an operator, a source or a sink. State is found again by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperatorUid(pub Arc<str>);

impl OperatorUid {
    /// A uid from its text.
    #[must_use]
    pub fn new(text: &str) -> OperatorUid {
        OperatorUid(Arc::from(text))
    }

    /// The text of the uid.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperatorUid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One parallel instance of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The node.
    pub node: NodeId,
    /// The parallel index, from 0 to the node's parallelism, exclusive.
    pub index: u32,
}

impl SubtaskId {
    /// The instance `index` of node `node`.
    #[must_use]
    pub fn new(node: u32, index: u32) -> SubtaskId {
        SubtaskId { node: NodeId(node), index }
    }
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}[{}]", self.node, self.index)
    }
}

/// A moment of the host's monotonic clock, in nanoseconds since the host began. Machines get it as an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The time from `earlier` to this moment, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A moment of the calendar: milliseconds since 1970-01-01T00:00:00Z. Stored and shown, never compared by a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl std::ops::Add<Duration> for WallTime {
    type Output = WallTime;

    fn add(self, duration: Duration) -> WallTime {
        WallTime(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}
