//! One operator by hand: push records, let time pass, take snapshots, restore them at any parallelism, look at state and output.
//!
//! [`OperatorTest`] says what is tested: an operator as a job would use it, with its keys and its uid. [`OperatorTest::start`] and
//! [`OperatorTest::restore`] give a [`RunningOperator`], which is moved by hand. Everything in between is what runs in production: the planner's chains, the
//! partitioner, the edges, the drivers with their barriers, the table, and the store of checkpoints, in memory.
//!
//! ```
//! use alluvium::operator::{Access, Context, KeyedProcess};
//! use alluvium::state::Value;
//! use alluvium::testing::operator::{OperatorTest, OperatorTestError};
//! use alluvium::{OperatorResult, Stream};
//!
//! /// Counts the records of each key.
//! #[derive(Clone)]
//! struct Count;
//!
//! impl KeyedProcess for Count {
//!     type Key = String;
//!     type In = String;
//!     type Out = (String, u64);
//!     type State = Value<u64>;
//!
//!     fn state(&self) -> Value<u64> {
//!         Value::named("count")
//!     }
//!
//!     fn process(&self, word: String, mut count: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
//!         count.update(|count| *count += 1);
//!         context.emit((word, count.get().copied().unwrap_or_default()));
//!         Ok(())
//!     }
//! }
//!
//! let test = OperatorTest::new(|words: Stream<String>| words.key_by(|word| word).process("count", Count));
//!
//! let mut running = test.start()?;
//! running.push("to".to_owned())?;
//! running.push("be".to_owned())?;
//! let snapshot = running.snapshot()?;
//! running.push("lost with the crash".to_owned())?;
//!
//! let mut restored = test.parallelism(3).restore(&snapshot)?;
//! restored.push("be".to_owned())?;
//! assert_eq!(restored.take_output(), [("be".to_owned(), 2)]);
//! let counts = restored.state("count", Value::<u64>::named("count"))?;
//! assert_eq!(counts.value(&"to".to_owned()), Some(1));
//! assert_eq!(counts.len(), 2);
//! # Ok::<(), OperatorTestError>(())
//! ```
//!
//! Sources and sinks have trials of their own: [`sources`](super::sources), [`sinks`](super::sinks) and the suites in [`conformance`](super::conformance).

mod check;
mod error;
mod instance;
mod operator_state;
mod running;
mod snapshot;
mod state;

use std::fmt;
use std::rc::Rc;

use alluvium_actors::payload::Payload;

use self::instance::{Instance, Roles};
use crate::connect::Generator;
use crate::graph::{Graph, Job, SideTap, Stream};
use crate::job::fit::misfits;
use crate::record::Record;
use crate::record::batch::{Batch, Slice};
use crate::snapshot::{Store, StoreOptions};
use crate::storage::MemoryStorage;

pub use self::check::{RestoreCheck, RestoreError};
pub use self::error::OperatorTestError;
pub use self::operator_state::OperatorStateView;
pub use self::running::RunningOperator;
pub use self::snapshot::Snapshot;
pub use self::state::KeyedStateView;

use alluvium_actors::ports::store::CheckpointStore;
use alluvium_actors::ports::task::{BATCH_RECORDS, SLICE_RECORDS};

/// The job around the operator: what stores and errors call it.
const JOB: &str = "operator under test";

/// The nodes of the plan that are the test's. No user calls an operator so.
const INPUT: &str = "alluvium::testing::operator input ";
const OUTPUT: &str = "alluvium::testing::operator output";
const SIDE: &str = "alluvium::testing::operator side output ";

/// The seed of the keys' hashes and of the host's random numbers, unless a test sets another.
const SEED: u64 = 0x5eed_0fa1_1071_0e55;

/// A record of an operator with two inputs: which of them it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Either<A, B> {
    /// For the left input.
    Left(A),
    /// For the right input.
    Right(B),
}

/// An operator under test, or several in a row: a recipe, of which any number of instances may be started.
///
/// `I` is what is pushed, `U` what it emits. The module has an example.
pub struct OperatorTest<I, U> {
    build: Rc<dyn Fn(&Job) -> Stream<U>>,
    batches: fn(Vec<I>) -> Vec<(usize, Payload)>,
    inputs: usize,
    parallelism: u32,
    max_parallelism: Option<u32>,
    seed: u64,
}

impl<I, U> Clone for OperatorTest<I, U> {
    fn clone(&self) -> OperatorTest<I, U> {
        OperatorTest { build: Rc::clone(&self.build), ..*self }
    }
}

impl<I, U> fmt::Debug for OperatorTest<I, U> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OperatorTest(parallelism {})", self.parallelism)
    }
}

impl<T: Record, U: Record> OperatorTest<T, U> {
    /// Tests what `build` puts behind a stream: an operator with one input, or a piece of a job between two streams. It is called for every instance anew, as
    /// a new process would build its job.
    pub fn new(build: impl Fn(Stream<T>) -> Stream<U> + 'static) -> OperatorTest<T, U> {
        let batches = |records| batches(records).into_iter().map(|batch| (0, batch)).collect();
        OperatorTest::over(1, batches, move |job| build(input(job, 0)))
    }
}

impl<A: Record, B: Record, U: Record> OperatorTest<Either<A, B>, U> {
    /// Tests what `build` makes of two streams.
    ///
    /// ```
    /// use alluvium::Stream;
    /// use alluvium::testing::operator::{Either, OperatorTest, OperatorTestError};
    ///
    /// let test = OperatorTest::with_two_inputs(|numbers: Stream<u64>, texts: Stream<String>| {
    ///     numbers.connect(&texts).map(|number| number.to_string(), |text| text)
    /// });
    /// let mut running = test.start()?;
    /// running.push_left(7)?;
    /// running.push_right("eight".to_owned())?;
    /// running.push(Either::Left(9))?;
    /// assert_eq!(running.take_output(), ["7", "eight", "9"]);
    /// # Ok::<(), OperatorTestError>(())
    /// ```
    pub fn with_two_inputs(
        build: impl Fn(Stream<A>, Stream<B>) -> Stream<U> + 'static,
    ) -> OperatorTest<Either<A, B>, U> {
        OperatorTest::over(2, in_turn, move |job| build(input(job, 0), input(job, 1)))
    }
}

impl<I, U: Record> OperatorTest<I, U> {
    fn over(
        inputs: usize,
        batches: fn(Vec<I>) -> Vec<(usize, Payload)>,
        build: impl Fn(&Job) -> Stream<U> + 'static,
    ) -> OperatorTest<I, U> {
        OperatorTest { build: Rc::new(build), batches, inputs, parallelism: 1, max_parallelism: None, seed: SEED }
    }

    /// The same test with so many subtasks of each operator that sets no number of its own; 1 if not set. Records find their subtask as they do in a job: by
    /// their key, or in turn.
    #[must_use]
    pub fn parallelism(&self, parallelism: u32) -> OperatorTest<I, U> {
        OperatorTest { parallelism, ..self.clone() }
    }

    /// The same test with so many key groups, see [`Job::max_parallelism`]. If not set, those of the snapshot that is restored, and without one what a job
    /// would have.
    #[must_use]
    pub fn max_parallelism(&self, max_parallelism: u32) -> OperatorTest<I, U> {
        OperatorTest { max_parallelism: Some(max_parallelism), ..self.clone() }
    }

    /// The same test with another seed, of the keys' hashes and of what the runtime draws (`shuffle`). A restored instance hashes as its snapshot did.
    #[must_use]
    pub fn seed(&self, seed: u64) -> OperatorTest<I, U> {
        OperatorTest { seed, ..self.clone() }
    }

    /// A new instance without state.
    ///
    /// # Errors
    /// When the graph is wrong, or an operator fails while it is built.
    pub fn start(&self) -> Result<RunningOperator<I, U>, OperatorTestError> {
        let (graph, sides) = self.graph(self.max_parallelism)?;
        let store = Store::new(std::sync::Arc::new(MemoryStorage::new()), None, StoreOptions::new(JOB, self.seed))?;
        self.run(&graph, &sides, store, None)
    }

    /// A new instance that begins with the state in a snapshot, whatever parallelism that was taken at: every subtask gets the key groups that are its own.
    ///
    /// # Errors
    /// When the graph is wrong, when the snapshot is of other operators, states or types, or when it is damaged.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<RunningOperator<I, U>, OperatorTestError> {
        let store = snapshot.unpack(self.seed)?;
        let manifest = store.recover()?.ok_or_else(snapshot::incomplete)?;
        let stored = manifest.shapes.first().map(|shape| shape.max_parallelism);
        let (graph, sides) = self.graph(self.max_parallelism.or(stored))?;
        let problems = misfits(&graph.plan(), &manifest);
        if !problems.is_empty() {
            return Err(OperatorTestError::DoesNotFit { checkpoint: manifest.checkpoint.0, problems });
        }
        self.run(&graph, &sides, store, Some(manifest))
    }

    /// The graph around the operator: a source that is not built, a node for each input, the operator, and taps where its outputs end.
    fn graph(&self, max_parallelism: Option<u32>) -> Result<(Graph, Vec<SideTap>), OperatorTestError> {
        let mut job = Job::new(JOB).parallelism(self.parallelism);
        if let Some(max_parallelism) = max_parallelism {
            job = job.max_parallelism(max_parallelism);
        }
        (self.build)(&job).tap(OUTPUT);
        let sides = job.tap_sides(SIDE);
        let graph = job.build()?;
        match graph.plan().sinks.first() {
            None => Ok((graph, sides)),
            Some(sink) => Err(OperatorTestError::HasSink { uid: sink.uid.to_string() }),
        }
    }

    fn run(
        &self,
        graph: &Graph,
        sides: &[SideTap],
        store: Store,
        restored: Option<alluvium_actors::ports::store::Manifest>,
    ) -> Result<RunningOperator<I, U>, OperatorTestError> {
        let plan = graph.plan();
        let inputs: Vec<String> = (0..self.inputs).map(|number| format!("{INPUT}{number}")).collect();
        let taps: Vec<String> =
            std::iter::once(OUTPUT.to_owned()).chain(sides.iter().map(|tap| tap.node.clone())).collect();
        let roles = Roles { inputs: &inputs, taps: &taps };
        let instance = Instance::start(plan.clone(), &roles, store, restored, self.seed)?;
        Ok(RunningOperator::new(instance, self.batches, &plan, sides))
    }
}

/// A stream of what is pushed into an input: in a chain of its own, behind a source that exists in the plan alone.
fn input<T: Record>(job: &Job, number: usize) -> Stream<T> {
    let nothing = Generator::bounded(0, |_| -> T { unreachable!("a source without records") });
    job.source(&format!("{INPUT}source {number}"), nothing)
        .parallelism(1)
        .disable_chaining()
        .map(|record| record)
        .name(&format!("{INPUT}{number}"))
        .parallelism(1)
        .disable_chaining()
}

/// Records in batches, as a source would send them.
fn batches<T: Record>(records: Vec<T>) -> Vec<Payload> {
    let mut records = records.into_iter().peekable();
    let mut batches = Vec::new();
    while records.peek().is_some() {
        let mut batch = Batch::default();
        while batch.len() < BATCH_RECORDS && records.peek().is_some() {
            let mut slice = Slice::new();
            slice.records.extend(records.by_ref().take(SLICE_RECORDS));
            batch.push(slice);
        }
        batches.push(Box::new(batch) as Payload);
    }
    batches
}

/// Records of two inputs in batches that keep the order between the inputs.
fn in_turn<A: Record, B: Record>(records: Vec<Either<A, B>>) -> Vec<(usize, Payload)> {
    let (mut left, mut right, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        match record {
            Either::Left(record) => {
                all.extend(batches(std::mem::take(&mut right)).into_iter().map(|batch| (1, batch)));
                left.push(record);
            }
            Either::Right(record) => {
                all.extend(batches(std::mem::take(&mut left)).into_iter().map(|batch| (0, batch)));
                right.push(record);
            }
        }
    }
    all.extend(batches(left).into_iter().map(|batch| (0, batch)));
    all.extend(batches(right).into_iter().map(|batch| (1, batch)));
    all
}
