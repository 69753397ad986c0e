//! A job under construction.

use std::panic::Location;
use std::sync::Arc;

use alluvium_actors::ids::OperatorUid;

use super::builder::{End, Operator, Shared, at};
use super::check;
use super::error::{BuildError, BuildErrors};
use super::stream::Stream;
use super::{Graph, planner};
use crate::connect::adapter::enumerator_factory;
use crate::connect::sink::Guarantee;
use crate::connect::source::{Boundedness, Source};
use crate::connect::source_task::SourceHead;
use crate::operator::assembly::{Next, Recipe, StreamType};
use crate::operator::chain::Chain;
use crate::record::Record;

/// A job under construction: begin with [`Job::source`], end with sinks, then [`Job::build`].
///
/// ```
/// use alluvium::Job;
/// use alluvium::connect::{Collect, Items};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Flight {
///     tailnum: String,
///     delay: Option<i64>,
/// }
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Total {
///     sequence: u64,
///     delay: i64,
/// }
///
/// # let flights: Vec<Flight> = Vec::new();
/// let job = Job::new("flights").parallelism(2);
/// job.source("flights", Items::new(flights))
///     .filter(|flight| flight.delay.is_some())
///     .key_by(|flight| &flight.tailnum)
///     .aggregate("total-delay", Total::default(), |tailnum, total, flight| {
///         total.sequence += 1;
///         total.delay += flight.delay.unwrap_or(0);
///         format!("{tailnum},{},{}", total.sequence, total.delay)
///     })
///     .sink("lines", Collect::new());
/// let graph = job.build()?;
/// assert!(graph.to_string().contains("total-delay -> lines"));
/// # Ok::<(), alluvium::BuildErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    pub(super) shared: Shared,
}

impl Job {
    /// A job without operators. Its checkpoints are found again by its name.
    #[must_use]
    pub fn new(name: &str) -> Job {
        Job { shared: Shared::new(name) }
    }

    /// How many subtasks an operator has that sets no parallelism of its own; 1 if not set.
    ///
    /// It may be another one at each start, higher or lower, up to the max parallelism that the job's state was first stored with: the job goes on from its checkpoint,
    /// and its state, the splits of its sources and what its sinks still have to commit are shared out anew.
    #[must_use]
    pub fn parallelism(self, parallelism: u32) -> Job {
        let mut builder = self.shared.lock();
        builder.parallelism = parallelism;
        if parallelism == 0 {
            builder.errors.push(BuildError::ZeroParallelism { operator: "the job".to_owned() });
        }
        drop(builder);
        self
    }

    /// How many key groups an operator has that sets no max parallelism of its own, 1 to 32,768. It cannot change while the job's state is kept, and
    /// no parallelism can go above it: another one than the checkpoint's is refused at the start. If not set: that of the checkpoint; for a job that begins anew 1.5 times the operator's
    /// parallelism, rounded up to a power of two, at least 128.
    #[must_use]
    pub fn max_parallelism(self, max_parallelism: u32) -> Job {
        let mut builder = self.shared.lock();
        builder.max_parallelism = Some(max_parallelism);
        if let Err(error) = check::max_parallelism("the job", max_parallelism) {
            builder.errors.push(error);
        }
        drop(builder);
        self
    }

    /// Whether operators may run fused in chains; they may if this is not called. Without chains every operator is a subtask of its own and every record crosses
    /// an edge: to see where time goes, or to find out whether a fault lies in chaining.
    #[must_use]
    pub fn chaining(self, chaining: bool) -> Job {
        self.shared.lock().chaining = chaining;
        self
    }

    /// How many batches may wait in each edge that leads to an operator which sets no [credits](Stream::credits) of its own, 1 to 1,024; 8 if not set.
    #[must_use]
    pub fn credits(self, batches: u32) -> Job {
        let mut builder = self.shared.lock();
        builder.credits = Some(batches);
        builder.errors.extend(check::credits("the job", batches).err());
        drop(builder);
        self
    }

    /// Declares what every path from a source to a sink has to promise, as [`StreamEnd::requires`](crate::graph::StreamEnd::requires) does for one sink.
    #[must_use]
    pub fn requires(self, guarantee: Guarantee) -> Job {
        self.shared.lock().required = Some(guarantee);
        self
    }

    /// All these streams together, as [`Stream::union`]: for parts of a job that are made in a loop. Without any stream it is an error when the job is built.
    ///
    /// ```
    /// use alluvium::Job;
    /// use alluvium::connect::{Collect, Generator};
    ///
    /// let job = Job::new("sensors");
    /// let sensors = (0..3_u64).map(|sensor| {
    ///     job.source(&format!("sensor-{sensor}"), Generator::bounded(100, move |index| sensor * 1_000 + index))
    ///         .map(|reading| reading * 2)
    ///         .uid(&format!("doubled-{sensor}"))
    /// });
    /// job.union(sensors).sink("readings", Collect::new());
    /// assert_eq!(job.build()?.plan().sources.len(), 3);
    /// # Ok::<(), alluvium::BuildErrors>(())
    /// ```
    #[track_caller]
    pub fn union<T: Record>(&self, streams: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let location = Location::caller();
        let mut upstreams = Vec::new();
        let mut count = 0;
        for stream in streams {
            count += 1;
            if self.shared.is_same_job(&stream.shared, location) {
                upstreams.extend(stream.upstreams);
            }
        }
        if count == 0 {
            self.shared.lock().errors.push(BuildError::EmptyUnion { location: at(location) });
        }
        Stream::of_upstreams(&self.shared, upstreams)
    }

    /// A stream of the records of `source`. Its state is found again by `uid`.
    #[track_caller]
    pub fn source<S: Source>(&self, uid: &str, source: S) -> Stream<S::Record> {
        let source = Arc::new(source);
        let key = OperatorUid::new(uid);
        let unbounded = source.boundedness() == Boundedness::Unbounded;
        let replay = source.replay();
        let enumerator = enumerator_factory(Arc::clone(&source), key.clone());
        let recipe = Recipe::Source(Arc::new(move |site, next: Next, parts| {
            let task = site.task.clone();
            let head = SourceHead::new(&source, key.clone(), next.into_link::<S::Record>(), site)?;
            Ok(Box::new(Chain::new(head, parts, task)))
        }));
        let mut operator = Operator::new("source", Location::caller(), Some(uid), recipe);
        operator.output = Some(StreamType::of::<S::Record>());
        operator.end = End::Source { enumerator, unbounded, replay };
        Stream::of_operator(&self.shared, operator)
    }

    /// Checks the job and plans it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each error naming the operator and the mend.
    pub fn build(&self) -> Result<Graph, BuildErrors> {
        let mut builder = self.shared.lock().clone();
        builder.settle_requirements();
        let errors = check::check(&builder);
        if errors.is_empty() { Ok(planner::plan(builder)) } else { Err(BuildErrors::new(&builder.name, errors)) }
    }
}
