//! What is wrong with a job: all of it at once, each naming the operator and the mend.

use std::fmt;

use super::guarantee::GuaranteeNotHeld;

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
    /// An operator was given a uid twice.
    #[error("{operator}: it has the uid `{first}` already, and is given `{second}`; remove one of them")]
    TwoUids {
        /// The operator.
        operator: String,
        /// The uid that it has.
        first: String,
        /// The uid that it is given.
        second: String,
    },
    /// The number of batches that may wait in an edge is out of bounds.
    #[error("{operator}: {batches} batches may wait in an edge; the number must lie between 1 and 1024")]
    Credits {
        /// The operator, or the job.
        operator: String,
        /// What was set.
        batches: u32,
    },
    /// Credits of a source, which has no input.
    #[error(
        "{operator}: `credits` bounds the edges that lead to an operator, and none leads to a source; set it on the operators behind it"
    )]
    CreditsOfSource {
        /// The source.
        operator: String,
    },
    /// A side output has no name.
    #[error("{operator}: a side output has an empty name; give each side output a name of its own")]
    EmptySideOutputName {
        /// The operator.
        operator: String,
    },
    /// Two side outputs of an operator have the same name.
    #[error("{operator}: two side outputs are called `{side}`; give each side output a name of its own")]
    DuplicateSideOutput {
        /// The operator.
        operator: String,
        /// The name.
        side: String,
    },
    /// A stream of a side output was asked for that the operator does not declare.
    #[error(
        "{operator}: the side output `{side}` that is asked for at {location} is not declared, so nothing is ever emitted to it; add it to what `side_outputs` \
         of the operator gives"
    )]
    UndeclaredSideOutput {
        /// The operator.
        operator: String,
        /// The side output.
        side: String,
        /// Where it was asked for.
        location: String,
    },
    /// A stream of a side output was asked for with another type of records.
    #[error(
        "{operator}: the side output `{side}` carries {declared}, and {asked} is asked for at {location}; use the tag that the operator declares"
    )]
    SideOutputOfOtherType {
        /// The operator.
        operator: String,
        /// The side output.
        side: String,
        /// The type that the operator declares.
        declared: &'static str,
        /// The type that was asked for.
        asked: &'static str,
        /// Where it was asked for.
        location: String,
    },
    /// A side output was asked for of something that is not the main output of one operator.
    #[error(
        "the side output `{side}` is asked for at {location} of a union, a partitioning or another side output; ask for it on the stream that the operator makes"
    )]
    SideOutputOfNoOperator {
        /// The side output.
        side: String,
        /// Where it was asked for.
        location: String,
    },
    /// A union of nothing.
    #[error("the union at {location} is of no stream at all; give it at least one")]
    EmptyUnion {
        /// Where it was made.
        location: String,
    },
    /// A setting of an operator was applied behind a partitioning.
    #[error(
        "`{setting}` at {location} is applied behind `{partitioning}`, which is no operator of its own; apply it before `{partitioning}` for the operator before it, or \
         behind the next operator for that one"
    )]
    SettingOfPartitioning {
        /// The method.
        setting: &'static str,
        /// The partitioning.
        partitioning: &'static str,
        /// Where it was called.
        location: String,
    },
    /// A setting of an operator was applied to one of its side outputs.
    #[error(
        "`{setting}` at {location} is applied to the side output `{side}` of {operator}; apply it to the main output of the operator"
    )]
    SettingOfSideOutput {
        /// The method.
        setting: &'static str,
        /// The operator.
        operator: String,
        /// The side output.
        side: String,
        /// Where it was called.
        location: String,
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
    /// A declared guarantee does not hold, whatever the options are.
    #[error(transparent)]
    GuaranteeNotHeld(GuaranteeNotHeld),
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
