//! Tells sinks apart that share something in memory, as clones of one recipe do.

use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::ports::sink::SinkScope;

/// A sink of a job. Numbers of runs and checkpoints are counted from one in every job, and all its sinks have the same: what they share in memory
/// must not be filed under those alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SinkName {
    pub(crate) job: Arc<str>,
    pub(crate) uid: OperatorUid,
}

impl SinkName {
    pub(crate) fn of(scope: &SinkScope) -> SinkName {
        SinkName { job: Arc::clone(&scope.job), uid: scope.uid.clone() }
    }
}
