//! What is wrong with a job: all of it at once, each naming the operator and the mend.

use std::fmt;

/// A misuse that [`Job::build`](crate::Job::build) found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The job's name is empty.
    #[error("the job has no name: give one to `Job::new`, its checkpoints are found again by it")]
    JobWithoutName,
    /// There is no source.
    #[error("the job has no source: begin with `Job::source`")]
    NoSource,
    /// A uid is empty.
    #[error("{operator}: the uid is empty; give it a name that stays the same over restarts")]
    EmptyUid {
        /// The operator.
        operator: String,
    },
    /// A uid is too long.
    #[error("{operator}: the uid is {length} bytes long; at most {limit} are allowed")]
    LongUid {
        /// The operator.
        operator: String,
        /// The length of the uid in bytes.
        length: usize,
        /// The longest uid allowed.
        limit: usize,
    },
    /// Two operators have the same uid.
    #[error(
        "{second}: the uid `{uid}` belongs to {first} already; state is found again by it, so give each operator its own"
    )]
    DuplicateUid {
        /// The uid.
        uid: String,
        /// The operator that had it first.
        first: String,
        /// The operator that has it too.
        second: String,
    },
    /// A state has no name.
    #[error("{operator}: a state has an empty name; give each state a name of its own")]
    EmptyStateName {
        /// The operator.
        operator: String,
    },
    /// Two states of an operator have the same name.
    #[error("{operator}: two states are called `{state}`; give each state a name of its own")]
    DuplicateState {
        /// The operator.
        operator: String,
        /// The name.
        state: String,
    },
    /// A parallelism of zero.
    #[error("{operator}: the parallelism is 0; it must be at least 1")]
    ZeroParallelism {
        /// The operator, or the job.
        operator: String,
    },
    /// A parallelism above the number of key groups.
    #[error(
        "{operator}: the parallelism {parallelism} is above the max parallelism {max_parallelism}; lower the one or raise the other"
    )]
    ParallelismAboveMax {
        /// The operator.
        operator: String,
        /// Its parallelism.
        parallelism: u32,
        /// Its max parallelism.
        max_parallelism: u32,
    },
    /// A max parallelism out of bounds.
    #[error("{operator}: the max parallelism is {max_parallelism}; it must lie between 1 and 32768")]
    MaxParallelism {
        /// The operator, or the job.
        operator: String,
        /// Its max parallelism.
        max_parallelism: u32,
    },
    /// `forward` between operators of different parallelism.
    #[error(
        "{operator}: `forward` from {upstream} joins subtasks of the same index, but the parallelism is {upstream_parallelism} there and {parallelism} here; \
         make them equal or use `rebalance`"
    )]
    ForwardBetweenDifferentParallelism {
        /// The consumer.
        operator: String,
        /// Its parallelism.
        parallelism: u32,
        /// The producer.
        upstream: String,
        /// The producer's parallelism.
        upstream_parallelism: u32,
    },
    /// A stream was given two partitionings, of which only one could be obeyed.
    #[error("{operator}: its output is partitioned by `{first}` and again by `{second}`; remove one of them")]
    TwoPartitionings {
        /// The operator whose output it is.
        operator: String,
        /// The first.
        first: &'static str,
        /// The second.
        second: &'static str,
    },
    /// A setting of an operator was applied to a stream that stands for several operators.
    #[error(
        "`{setting}` at {location} is applied to a union, which is no operator of its own; apply it to the streams before or after"
    )]
    SettingOfUnion {
        /// The method.
        setting: &'static str,
        /// Where it was called.
        location: String,
    },
    /// Nobody consumes the output of an operator.
    #[error("{operator}: its output ends nowhere; add a sink, or remove the operator")]
    EndsNowhere {
        /// The operator.
        operator: String,
    },
    /// A stream of one job was used in another.
    #[error(
        "a stream of the job `{other}` is used in the job `{job}` at {location}; build each job from its own sources"
    )]
    OtherJob {
        /// This job.
        job: String,
        /// The job that the stream belongs to.
        other: String,
        /// Where it was used.
        location: String,
    },
}

/// Everything that is wrong with a job; at least one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildErrors {
    job: String,
    errors: Vec<BuildError>,
}

impl BuildErrors {
    pub(super) fn new(job: &str, errors: Vec<BuildError>) -> BuildErrors {
        BuildErrors { job: job.to_owned(), errors }
    }

    /// The errors, in the order of the operators.
    #[must_use]
    pub fn errors(&self) -> &[BuildError] {
        &self.errors
    }
}

impl fmt::Display for BuildErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the job `{}` cannot be built:", self.job)?;
        for error in &self.errors {
            write!(formatter, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildErrors {}
