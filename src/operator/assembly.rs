//! How links of different record types are put together: each operator is kept as a recipe without type parameters, and the types meet again
//! inside the recipes.
//!
//! A chain is built from its tail to its head on the arbiter where it will run: the recipe of an operator gets the link behind it and gives the link
//! that begins with it. The typed graph makes recipes only for streams of fitting types, so the casts are invariants.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_actors::payload::{Payload, PayloadType};
use alluvium_actors::ports::host::Host;
use alluvium_actors::ports::task::{Failure, OperatorTask, SourceTask, TaskContext};

use super::broadcast::Broadcast;
use super::chain::Chain;
use super::discard::Discard;
use super::forward::Forward;
use super::head::OneInput;
use super::in_flight::{ChainParts, InnerInlet};
use super::link::{Link, Partitioner};
use super::place::Place;
use super::rebalance::Rebalance;
use super::shuffle::Shuffle;
use super::side::{self, Outlet, Sides};
use super::tee::Tee;
use crate::record::Record;
use crate::record::batch::Batch;

/// A link whose record type is known to those who made it.
pub(crate) struct AnyLink(Box<dyn Any>);

impl AnyLink {
    /// Erases the record type.
    pub(crate) fn new<T: Record>(link: impl Link<T> + 'static) -> AnyLink {
        let link: Box<dyn Link<T>> = Box::new(link);
        AnyLink(Box::new(link))
    }

    /// The link behind the erasure.
    ///
    /// # Panics
    /// When the type is another one, which would be a bug of the graph builder.
    pub(crate) fn into_link<T: Record>(self) -> Box<dyn Link<T>> {
        *self.0.downcast().unwrap_or_else(|_| panic!("{}", wrong_type::<T>("link")))
    }
}

/// A partitioner whose record type is known to those who made it.
pub(crate) struct AnyPartitioner(Box<dyn Any>);

impl AnyPartitioner {
    /// Erases the record type.
    pub(crate) fn new<T: Record>(partitioner: impl Partitioner<T> + 'static) -> AnyPartitioner {
        let partitioner: Box<dyn Partitioner<T>> = Box::new(partitioner);
        AnyPartitioner(Box::new(partitioner))
    }

    /// The partitioner as the end of a chain.
    fn into_link<T: Record>(self) -> AnyLink {
        let partitioner: Box<dyn Partitioner<T>> =
            *self.0.downcast().unwrap_or_else(|_| panic!("{}", wrong_type::<T>("partitioner")));
        let link: Box<dyn Link<T>> = partitioner;
        AnyLink(Box::new(link))
    }

    /// Keeps of a batch, whose records come again from a checkpoint, what belongs to one channel.
    fn owned<T: Record>(&mut self, payload: Payload, channel: usize) -> Result<Option<Payload>, Failure> {
        let partitioner: &mut Box<dyn Partitioner<T>> =
            self.0.downcast_mut().unwrap_or_else(|| panic!("{}", wrong_type::<T>("partitioner")));
        let mut batch = Batch::<T>::from_payload(payload);
        let (mut kept, mut channels) = (Batch::<T>::default(), Vec::new());
        while let Some(mut slice) = batch.pop() {
            channels.clear();
            partitioner.channels(&mut slice, &mut channels)?;
            slice.retain(|position| channels[position] == channel);
            if !slice.is_empty() {
                kept.push(slice);
            }
        }
        Ok((!kept.is_empty()).then(|| Box::new(kept) as Payload))
    }
}

fn wrong_type<T>(what: &str) -> String {
    format!("a {what} of {} was expected: a bug in the graph builder", std::any::type_name::<T>())
}

/// What stands behind an operator: the link of its main output and those of its side outputs.
pub(crate) struct Next {
    main: AnyLink,
    sides: Vec<Outlet>,
}

impl Next {
    /// Behind the main output stands `main`, behind the side outputs, in the order in which they were declared, `sides`.
    pub(crate) fn new(main: AnyLink, sides: Vec<Outlet>) -> Next {
        Next { main, sides }
    }

    /// The link of the main output, for operators without side outputs.
    pub(crate) fn into_link<T: Record>(self) -> Box<dyn Link<T>> {
        self.main.into_link()
    }

    /// The links of all outputs.
    pub(crate) fn into_links<T: Record>(self) -> (Box<dyn Link<T>>, Sides) {
        (self.main.into_link(), Sides::new(self.sides))
    }
}

/// What an operator instance is told when it is built.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The place where its task runs.
    pub(crate) task: TaskContext,
    /// Its place in the chain.
    pub(crate) place: Place,
    /// Its number among the sinks of the plan; of no meaning for others.
    pub(crate) sink: u32,
}

/// Builds an operator with one input, in front of the link behind it.
pub(crate) type LinkRecipe = Arc<dyn Fn(Site, Next) -> Result<AnyLink, Failure> + Send + Sync>;

/// Builds an operator that ends a chain.
pub(crate) type TailRecipe = Arc<dyn Fn(Site) -> Result<AnyLink, Failure> + Send + Sync>;

/// Builds the whole task whose head is a source reader.
pub(crate) type SourceRecipe =
    Arc<dyn Fn(Site, Next, ChainParts) -> Result<Box<dyn SourceTask>, Failure> + Send + Sync>;

/// Builds the whole task whose head has two inputs.
pub(crate) type JoinRecipe =
    Arc<dyn Fn(Site, Next, ChainParts) -> Result<Box<dyn OperatorTask>, Failure> + Send + Sync>;

/// Builds the partitioner of an edge in which user code decides: by key, or by a function. Is told how the consumer is called.
pub(crate) type PartitionRecipe = Arc<dyn Fn(Site, Target, Arc<str>) -> AnyPartitioner + Send + Sync>;

/// How an operator instance is built.
#[derive(Clone)]
pub(crate) enum Recipe {
    /// No input, one output.
    Source(SourceRecipe),
    /// One input, one output.
    Link(LinkRecipe),
    /// Two inputs, one output.
    Join(JoinRecipe),
    /// One input, no output.
    Tail(TailRecipe),
}

impl fmt::Debug for Recipe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Recipe::Source(_) => "Recipe::Source",
            Recipe::Link(_) => "Recipe::Link",
            Recipe::Join(_) => "Recipe::Join",
            Recipe::Tail(_) => "Recipe::Tail",
        })
    }
}

/// Where the partitioner of an edge sends records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The output of the task.
    pub(crate) output: usize,
    /// How many channels it has.
    pub(crate) channels: u32,
    /// The number of key groups of the consumer.
    pub(crate) max_parallelism: u32,
}

/// What can be done with streams of one record type, without naming the type.
#[derive(Clone, Copy)]
pub(crate) struct StreamType {
    /// What an edge of such a stream carries.
    pub(crate) payload: PayloadType,
    /// Links that all get every record.
    pub(crate) tee: fn(Vec<AnyLink>, Place) -> AnyLink,
    /// A partitioner to the subtask of the same index.
    pub(crate) forward: fn(usize) -> AnyLink,
    /// A partitioner that takes turns, beginning with the channel of the subtask's own index.
    pub(crate) rebalance: fn(Target, u32) -> AnyLink,
    /// A partitioner that draws a consumer for each slice.
    pub(crate) shuffle: fn(Target, Rc<dyn Host>) -> AnyLink,
    /// A partitioner that gives every record to every consumer. The place is that of the operator whose output it is.
    pub(crate) broadcast: fn(Target, Place) -> AnyLink,
    /// The end of an output that nobody reads.
    pub(crate) discard: fn() -> AnyLink,
    /// A side output of that name.
    pub(crate) outlet: fn(Cow<'static, str>, AnyLink) -> Outlet,
    /// A task whose head takes batches of the type.
    pub(crate) head: fn(AnyLink, ChainParts, TaskContext) -> Box<dyn OperatorTask>,
    /// A link by which records that were in flight enter in front of another one, with its number.
    pub(crate) inlet: fn(AnyLink, usize) -> AnyLink,
    /// A partitioner as the end of a chain.
    pub(crate) partitioner: fn(AnyPartitioner) -> AnyLink,
    /// Keeps of a batch, whose records come again from a checkpoint, what belongs to one channel.
    pub(crate) owned: fn(&mut AnyPartitioner, Payload, usize) -> Result<Option<Payload>, Failure>,
}

impl StreamType {
    /// The type of streams of `T`.
    pub(crate) fn of<T: Record>() -> StreamType {
        StreamType {
            payload: Batch::<T>::payload_type(),
            tee: |links, place| {
                AnyLink::new::<T>(Tee::new(links.into_iter().map(AnyLink::into_link::<T>).collect(), place))
            },
            forward: |output| AnyLink::new::<T>(Forward::new(output)),
            rebalance: |target, first| AnyLink::new::<T>(Rebalance::new(target, first)),
            shuffle: |target, host| AnyLink::new::<T>(Shuffle::new(target, host)),
            broadcast: |target, place| AnyLink::new::<T>(Broadcast::new(target, place)),
            discard: || AnyLink::new::<T>(Discard),
            outlet: |name, link| side::outlet::<T>(name, link.into_link::<T>()),
            head: |link, parts, task| Box::new(Chain::new(OneInput::new(link.into_link::<T>()), parts, task)),
            inlet: |link, number| AnyLink::new::<T>(InnerInlet::new(number, link.into_link::<T>())),
            partitioner: AnyPartitioner::into_link::<T>,
            owned: AnyPartitioner::owned::<T>,
        }
    }
}

impl fmt::Debug for StreamType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StreamType({})", self.payload.type_name)
    }
}

/// A user's closure (or operator) as the recipe keeps it: cloned for every instance. The lock makes it `Sync`, so that users need only `Send`.
#[derive(Debug)]
pub(crate) struct Prototype<F>(Mutex<F>);

impl<F: Clone> Prototype<F> {
    /// Keeps the original.
    pub(crate) fn new(original: F) -> Prototype<F> {
        Prototype(Mutex::new(original))
    }

    /// A copy for one instance.
    pub(crate) fn copy(&self) -> F {
        // A `Clone` that panicked leaves the original as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
