//! The typed graph: how a job is written down.
//!
//! A [`Job`] collects operators; a [`Stream`] is a handle to the output of one (or of several, after a union) and costs nothing to clone.
//! [`Job::build`] checks everything at once and gives a [`Graph`]: an immutable recipe that can be run as often as wanted.

mod broadcast;
mod builder;
mod check;
mod connected;
mod describe;
mod error;
mod guarantee;
mod job;
mod keyed;
mod layout;
mod naming;
mod partitioning;
mod paths;
mod planner;
mod print;
mod promises;
mod settings;
mod sides;
mod stream;
mod taps;

use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::plan::Plan;

pub use broadcast::{BroadcastConnectedKeyedStreams, BroadcastConnectedStreams};
pub use connected::{ConnectedKeyedStreams, ConnectedStreams};
pub use describe::{
    ChainDescription, EdgeDescription, GraphDescription, Joins, OperatorDescription, SideOutputDescription,
    SinkDescription, SourceDescription, StateDescription,
};
pub use error::{BuildError, BuildErrors};
pub use guarantee::{CheckpointBasis, GuaranteeLink, GuaranteeNotHeld, GuaranteeReport, LISTED_PATHS, PathGuarantee};
pub use job::Job;
pub use keyed::KeyedStream;
pub use stream::{Stream, StreamEnd};
pub(crate) use taps::SideTap;

/// A job that was built: chains, edges, sources and sinks. Immutable; cheap to clone.
#[derive(Clone, Debug)]
pub struct Graph {
    planned: Arc<Planned>,
}

/// What the planner made of a job.
#[derive(Debug)]
pub(crate) struct Planned {
    plan: Arc<Plan>,
    layout: Arc<layout::Layout>,
    promises: promises::Promises,
    unbounded_sources: Vec<OperatorUid>,
    exactly_once_sinks: Vec<OperatorUid>,
}

impl Graph {
    /// What the runtime carries out.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.planned.plan)
    }

    /// The job's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.planned.plan.job
    }

    /// The sources that do not end by themselves.
    #[must_use]
    pub fn unbounded_sources(&self) -> &[OperatorUid] {
        &self.planned.unbounded_sources
    }

    /// The sinks whose output appears when a checkpoint completes. Together with an unbounded source they need periodic checkpoints.
    #[must_use]
    pub fn exactly_once_sinks(&self) -> &[OperatorUid] {
        &self.planned.exactly_once_sinks
    }
}
