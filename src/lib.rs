//! alluvium: a stream-processing runtime that a service embeds.

pub mod connect;
pub mod error;
pub mod graph;
pub mod job;
pub(crate) mod operator;
pub mod record;
pub mod snapshot;
pub mod state;
pub mod storage;
pub mod testing;

pub use error::{OperatorError, OperatorResult};
pub use graph::{BuildError, BuildErrors, Graph, Job, KeyedStream, Stream};
pub use job::{JobError, JobHandle, JobOutcome, JobReport, JobStatus, OptionError, Options, StartError};
