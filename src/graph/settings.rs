//! The settings of one operator, made on the stream that it makes, or on the end of a stream for sinks.

use std::panic::Location;

use alluvium_actors::ids::OperatorUid;

use super::builder::{Chaining, Exchange, Operator, Place, at};
use super::error::BuildError;
use super::stream::{Stream, StreamEnd};
use crate::connect::sink::Guarantee;
use crate::record::Record;

/// Each of these sets something of the operator that makes the stream. A union is no operator, and neither is a partitioning: to set something there is an
/// error when the job is built.
impl<T: Record> Stream<T> {
    /// Sets how many subtasks the operator has that makes this stream.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn parallelism(&self, parallelism: u32) -> Stream<T> {
        self.set("parallelism", Location::caller(), |operator| operator.parallelism = Some(parallelism))
    }

    /// Sets how many key groups the operator has that makes this stream, 1 to 32,768. It cannot change while the job's state is kept: see
    /// [`Job::max_parallelism`](crate::Job::max_parallelism).
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn max_parallelism(&self, max_parallelism: u32) -> Stream<T> {
        self.set("max_parallelism", Location::caller(), |operator| operator.max_parallelism = Some(max_parallelism))
    }

    /// Names the operator that makes this stream: for people, nothing is found by it.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn name(&self, name: &str) -> Stream<T> {
        self.set("name", Location::caller(), |operator| operator.name = Some(name.to_owned()))
    }

    /// Gives the operator that makes this stream a uid, by which errors, reports and pictures name it. Operators with state get theirs where they are made,
    /// because their state is found again by it; a second one is an error.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn uid(&self, uid: &str) -> Stream<T> {
        let mut second = None;
        let stream = self.set("uid", Location::caller(), |operator| match &operator.uid {
            None => operator.uid = Some(OperatorUid::new(uid)),
            Some(first) => {
                let (operator, first, second_uid) = (operator.origin(), first.to_string(), uid.to_owned());
                second = Some(BuildError::TwoUids { operator, first, second: second_uid });
            }
        });
        self.shared.lock().errors.extend(second);
        stream
    }

    /// Begins a chain at the operator that makes this stream: it does not run fused with what is before it, but may with what is behind it.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn start_new_chain(&self) -> Stream<T> {
        self.set("start_new_chain", Location::caller(), |operator| operator.chaining = Chaining::Head)
    }

    /// Lets the operator that makes this stream run fused with no other.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn disable_chaining(&self) -> Stream<T> {
        self.set("disable_chaining", Location::caller(), |operator| operator.chaining = Chaining::Never)
    }

    /// Sets how many batches may wait in each edge that leads to the operator that makes this stream, 1 to 1,024; 8 if neither this nor
    /// [`Job::credits`](crate::Job::credits) says. Where the operator runs fused with the one before it, nothing waits, and the
    /// printed graph notes that. A source has no such edge: an error.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn credits(&self, batches: u32) -> Stream<T> {
        self.set("credits", Location::caller(), |operator| operator.credits = Some(batches))
    }

    /// Sets the worker thread on which the first subtask runs of the operator that makes this stream; the others follow on the next ones, and after the last
    /// worker comes the first: a worker that is not there is counted from the first one again, which the printed graph notes and the start logs. If not set, that of the operator with which it runs fused, or else one that the runtime chooses: the same for equal indices while the job
    /// is as wide as there are workers, and else so that no worker idles. An operator with another first worker than the one
    /// before it does not run fused with it.
    #[track_caller]
    #[must_use = "settings are made on the operator, but the stream is needed to go on"]
    pub fn first_worker(&self, worker: u32) -> Stream<T> {
        self.set("first_worker", Location::caller(), |operator| operator.first_worker = Some(worker))
    }

    fn set(&self, setting: &'static str, location: Place, change: impl FnOnce(&mut Operator)) -> Stream<T> {
        let mut builder = self.shared.lock();
        let error = match &self.upstreams[..] {
            [only] => {
                let operator = &mut builder.operators[only.operator];
                if !matches!(only.exchange, Exchange::Automatic) {
                    let partitioning = only.exchange.name();
                    Some(BuildError::SettingOfPartitioning { setting, partitioning, location: at(location) })
                } else if let Some(side) = only.port.checked_sub(1) {
                    let side = operator.sides[side].name.to_string();
                    let operator = operator.label();
                    Some(BuildError::SettingOfSideOutput { setting, operator, side, location: at(location) })
                } else {
                    change(operator);
                    None
                }
            }
            // What made a stream of nothing is among the errors already.
            [] => None,
            _ => Some(BuildError::SettingOfUnion { setting, location: at(location) }),
        };
        builder.errors.extend(error);
        drop(builder);
        self.clone()
    }
}

impl StreamEnd {
    /// Sets how many subtasks the sink has.
    pub fn parallelism(self, parallelism: u32) -> StreamEnd {
        self.set(|operator| operator.parallelism = Some(parallelism))
    }

    /// Sets how many key groups the sink has, 1 to 32,768: it keeps none, but runs fused only with operators that have as many.
    pub fn max_parallelism(self, max_parallelism: u32) -> StreamEnd {
        self.set(|operator| operator.max_parallelism = Some(max_parallelism))
    }

    /// Names the sink: for people, nothing is found by it.
    pub fn name(self, name: &str) -> StreamEnd {
        self.set(|operator| operator.name = Some(name.to_owned()))
    }

    /// Lets the sink run fused with no other operator.
    pub fn disable_chaining(self) -> StreamEnd {
        self.set(|operator| operator.chaining = Chaining::Never)
    }

    /// Declares what every path from a source to this sink has to promise. What the graph cannot keep is an error when the job is built, and what the options
    /// do not keep when it is started: [`Graph::guarantees`](crate::Graph::guarantees) says why.
    pub fn requires(self, guarantee: Guarantee) -> StreamEnd {
        self.set(|operator| operator.required = Some(guarantee))
    }

    /// As [`Stream::credits`].
    pub fn credits(self, batches: u32) -> StreamEnd {
        self.set(|operator| operator.credits = Some(batches))
    }

    /// As [`Stream::first_worker`].
    pub fn first_worker(self, worker: u32) -> StreamEnd {
        self.set(|operator| operator.first_worker = Some(worker))
    }

    fn set(self, change: impl FnOnce(&mut Operator)) -> StreamEnd {
        change(&mut self.shared.lock().operators[self.operator]);
        self
    }
}
