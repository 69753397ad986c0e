//! How the records of a stream find the subtask of the consumer that takes them.

use std::panic::Location;
use std::sync::Arc;

use super::builder::Exchange;
use super::error::BuildError;
use super::stream::Stream;
use crate::operator::assembly::{AnyPartitioner, PartitionRecipe, Prototype};
use crate::operator::partition::Partition;
use crate::record::Record;

impl<T: Record> Stream<T> {
    /// Spreads the records evenly over the subtasks of the consumer.
    #[must_use]
    pub fn rebalance(&self) -> Stream<T> {
        self.partitioned(Exchange::Rebalance)
    }

    /// Each subtask sends to the consumer's subtask of the same index; both need the same parallelism. The consumer then runs fused with the producer where
    /// it can. That is what happens anyway when nothing is said, but asking for it makes a difference of parallelism an error.
    #[must_use]
    pub fn forward(&self) -> Stream<T> {
        self.partitioned(Exchange::Forward)
    }

    /// Draws a subtask of the consumer for each slice of up to 256 records. [`Stream::rebalance`] spreads more evenly; this one keeps two streams of the same
    /// rhythm from meeting the same subtasks.
    #[must_use]
    pub fn shuffle(&self) -> Stream<T> {
        self.partitioned(Exchange::Shuffle)
    }

    /// Sends every record to every subtask of the consumer.
    ///
    /// ```
    /// use alluvium::Job;
    /// use alluvium::connect::{Collect, Items};
    ///
    /// let job = Job::new("rules");
    /// let rules = job.source("rules", Items::new(vec!["no smoking".to_owned()]));
    /// // Each of the four subtasks gets every rule.
    /// rules.broadcast().map(|rule| rule.len() as u64).parallelism(4).sink("lengths", Collect::new());
    /// job.build()?;
    /// # Ok::<(), alluvium::BuildErrors>(())
    /// ```
    #[must_use]
    pub fn broadcast(&self) -> Stream<T> {
        self.partitioned(Exchange::Broadcast)
    }

    /// Sends every record to the first subtask of the consumer. Where all of it can run in one subtask, a consumer of parallelism 1 says the same.
    #[must_use]
    pub fn global(&self) -> Stream<T> {
        self.partitioned(Exchange::Global)
    }

    /// Sends each record to the subtask of the consumer that `partitioner` names: it gets the record and the number of subtasks, and answers with an index
    /// below that number. Another answer fails the job for good, by a [`PartitionError`](crate::operator::PartitionError).
    ///
    /// The answer is to depend on the record and that number alone. Records that were in flight in a checkpoint whose barriers overtook them
    /// ([`Options::unaligned`](crate::Options::unaligned)) are asked for again when the job goes on at another parallelism, by each subtask of the consumer.
    ///
    /// For state, use [`Stream::key_by`]: what a partitioner of your own sends together is not what a checkpoint can move when the parallelism changes.
    ///
    /// ```
    /// use alluvium::Job;
    /// use alluvium::connect::{Collect, Generator};
    ///
    /// let job = Job::new("ranges");
    /// job.source("numbers", Generator::bounded(100, |index| index))
    ///     .partition(|number, subtasks| (*number as u32 * subtasks) / 100)
    ///     .map(|number| number)
    ///     .parallelism(4)
    ///     .sink("ranges", Collect::new());
    /// job.build()?;
    /// # Ok::<(), alluvium::BuildErrors>(())
    /// ```
    #[track_caller]
    #[must_use]
    pub fn partition(&self, partitioner: impl Fn(&T, u32) -> u32 + Clone + Send + 'static) -> Stream<T> {
        let partitioner = Prototype::new(partitioner);
        let recipe: PartitionRecipe = Arc::new(move |site, target, consumer| {
            AnyPartitioner::new::<T>(Partition::new(partitioner.copy(), target, consumer, site.place))
        });
        self.partitioned(Exchange::Partition { recipe, location: Location::caller() })
    }

    fn partitioned(&self, exchange: Exchange) -> Stream<T> {
        self.refuse_two_partitionings(exchange.name());
        let mut stream = self.clone();
        for upstream in &mut stream.upstreams {
            upstream.exchange = exchange.clone();
        }
        stream
    }

    pub(super) fn partitioned_by_key(&self) -> Stream<T> {
        self.refuse_two_partitionings("key_by");
        self.clone()
    }

    fn refuse_two_partitionings(&self, second: &'static str) {
        let mut builder = self.shared.lock();
        for upstream in &self.upstreams {
            if !matches!(upstream.exchange, Exchange::Automatic) {
                let operator = builder.operators[upstream.operator].label();
                let first = upstream.exchange.name();
                builder.errors.push(BuildError::TwoPartitionings { operator, first, second });
            }
        }
    }
}
