//! What goes wrong with an operator that is run by hand.

use alluvium_actors::ports::store::StoreError;
use alluvium_actors::ports::task::Failure;
use thiserror::Error;

use crate::graph::BuildErrors;
use crate::state::StateError;

/// Why something that was asked of an operator under test did not happen.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum OperatorTestError {
    /// The graph around the operator is wrong, as [`Job::build`](crate::Job::build) would say.
    #[error(transparent)]
    Build(#[from] BuildErrors),
    /// An operator failed or panicked: [`Failure::origin`] names it, and [`Failure::panicked`] tells which. The instance is gone, as in a job: restore a
    /// snapshot to go on.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The operator was finished: it takes no records any more.
    #[error("the operator has seen the end of its data; start or restore another instance to push records")]
    Finished,
    /// There is a sink among the operators: nobody here would commit what it prepares.
    #[error(
        "`{uid}` is a sink: give back the stream in front of it, and test the sink with `testing::sinks` or `testing::conformance`"
    )]
    HasSink {
        /// The sink.
        uid: String,
    },
    /// The snapshot is not one of this operator.
    #[error("checkpoint {checkpoint} does not fit the operator: {}", problems.join("; "))]
    DoesNotFit {
        /// The number of the snapshot.
        checkpoint: u64,
        /// What does not fit, each with its mend.
        problems: Vec<String>,
    },
    /// The bytes of a snapshot are damaged, or something else.
    #[error("the snapshot cannot be used: {0}")]
    Snapshot(#[from] StoreError),
    /// A state was asked for that is not there.
    #[error("`{uid}` has no state `{state}`; it has {}", listed(stored))]
    NoSuchState {
        /// The uid that was asked for.
        uid: String,
        /// The name that was asked for.
        state: String,
        /// The names of the states that are there.
        stored: Vec<String>,
    },
    /// The operator keeps nothing for keys, or there is none of that uid.
    #[error("there is no keyed state of `{uid}`; there is some of {}", listed(stored))]
    NoSuchOperator {
        /// The uid that was asked for.
        uid: String,
        /// The uids of the operators with keyed state.
        stored: Vec<String>,
    },
    /// The operator keeps no operator state, or there is none of that uid.
    #[error("there is no operator state of `{uid}`; there is some of {}", listed(stored))]
    NoSuchStatefulOperator {
        /// The uid that was asked for.
        uid: String,
        /// The uids of the operators with operator state.
        stored: Vec<String>,
    },
    /// A state was read as of another kind, or its keys or values as of another type.
    #[error("the state of `{uid}` is read as something else than was stored: {error}")]
    StateOfOtherType {
        /// The uid.
        uid: String,
        /// What does not fit.
        error: StateError,
    },
}

impl OperatorTestError {
    /// The failure of the operator, if that is what it is.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        if let OperatorTestError::Failed(failure) = self { Some(failure) } else { None }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
