#![doc = include_str!("../README.md")]
#![warn(unreachable_pub, clippy::unwrap_used)]

pub mod connect;
pub mod error;
pub mod fault;
pub mod graph;
pub mod job;
pub mod operator;
pub mod record;
pub mod snapshot;
pub mod state;
pub mod storage;
pub mod testing;

pub use alluvium_actors::ids::{self, CheckpointId, OperatorUid, RunNumber};
pub use alluvium_actors::plan::Plan;
pub use alluvium_actors::ports;
pub use alluvium_actors::ports::history::{CheckpointRecord, PartRecord};
pub use alluvium_actors::ports::listener::{JobEvent, Listener};
pub use alluvium_actors::ports::store::CheckpointKind;
pub use alluvium_actors::ports::task::{Failure, Severity};
pub use alluvium_actors::protocol::align::CheckpointMode;
pub use alluvium_actors::protocol::cleanup::ExternalizedCheckpointRetention;
pub use alluvium_actors::protocol::coordinator::{
    CheckpointStatistics, CheckpointStatus, FailureReason, StatisticsSnapshot,
};
pub use alluvium_actors::protocol::lifecycle::JobState;
pub use alluvium_actors::protocol::story::{Link, LinkKind, Story};
pub use alluvium_actors::protocol::supervise::{
    ExponentialDelay, FailoverStrategy, RestartStrategy, RestartStrategyError,
};

pub use error::{OperatorError, OperatorResult};
#[cfg(feature = "fault-injection")]
pub use job::drill;

pub use graph::{BuildError, BuildErrors, Graph, Job, KeyedStream, Stream};
pub use job::{
    Arbiters, CheckpointFigures, CheckpointResult, Events, EventsTo, JobError, JobHandle, JobOutcome, JobReport,
    JobStatus, LocalRecovery, NoArbiter, OptionError, Options, RegionStatus, StartError,
};
