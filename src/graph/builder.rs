//! What a job collects while it is written down: operators, and how their inputs are fed.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::ports::sink::SinkCommitterFactory;
use alluvium_actors::ports::source::EnumeratorFactory;

use super::error::BuildError;
use crate::connect::sink::{Effect, Guarantee, GuaranteeReason};
use crate::connect::source::Replay;
use crate::operator::assembly::{PartitionRecipe, Recipe, StreamType};
use crate::operator::side::DeclaredSide;
use crate::state::StateDescriptor;

/// Where in the user's program something was called.
pub(super) type Place = &'static Location<'static>;

/// A job under construction, shared by its streams.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Builder>>);

/// The operators so far.
#[derive(Clone, Debug)]
pub(super) struct Builder {
    pub(super) name: String,
    pub(super) parallelism: u32,
    pub(super) max_parallelism: Option<u32>,
    /// Whether operators may run fused at all.
    pub(super) chaining: bool,
    pub(super) credits: Option<u32>,
    /// What was declared for every path.
    pub(super) required: Option<Guarantee>,
    /// Upstream operators come before downstream ones.
    pub(super) operators: Vec<Operator>,
    /// What is wrong already.
    pub(super) errors: Vec<BuildError>,
    /// The operators of whose outputs one was asked for wrongly, which is among the errors: that nobody consumes them says nothing.
    pub(super) asked_wrongly: BTreeSet<usize>,
}

/// One operator.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    /// The method that made it.
    pub(super) kind: &'static str,
    pub(super) location: Place,
    pub(super) name: Option<String>,
    pub(super) uid: Option<OperatorUid>,
    pub(super) parallelism: Option<u32>,
    pub(super) max_parallelism: Option<u32>,
    pub(super) chaining: Chaining,
    /// How many batches may wait in each edge that leads to it.
    pub(super) credits: Option<u32>,
    /// The worker that its first subtask runs on.
    pub(super) first_worker: Option<u32>,
    /// For a sink, what was declared for every path to it.
    pub(super) required: Option<Guarantee>,
    pub(super) inputs: Vec<Input>,
    /// The stream that it makes; none for sinks.
    pub(super) output: Option<StreamType>,
    /// What it emits beside it.
    pub(super) sides: Vec<DeclaredSide>,
    pub(super) recipe: Recipe,
    /// What it keeps for each key.
    pub(super) states: Vec<StateDescriptor>,
    pub(super) end: End,
}

/// With which of its neighbours an operator may run fused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chaining {
    /// With those before and behind it.
    #[default]
    Both,
    /// With those behind it only: it begins a chain.
    Head,
    /// With none.
    Never,
}

/// What an operator has to do with the world outside.
#[derive(Clone)]
pub(super) enum End {
    /// Nothing.
    Inner,
    /// It is a source.
    Source { enumerator: EnumeratorFactory, unbounded: bool, replay: Replay },
    /// It is a sink with transactions.
    Sink { committer: SinkCommitterFactory, promise: SinkPromise },
}

/// What a sink says of itself.
#[derive(Clone, Debug)]
pub(super) struct SinkPromise {
    pub(super) guarantee: Guarantee,
    pub(super) effect: Effect,
    pub(super) reason: GuaranteeReason,
}

/// One input of an operator.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) upstreams: Vec<Upstream>,
    pub(super) stream: StreamType,
}

/// An operator whose output feeds an input, and how.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    /// The position of the operator.
    pub(super) operator: usize,
    /// Which of its outputs: 0 is the main one, the side outputs follow in the order of their declaration.
    pub(super) port: usize,
    pub(super) exchange: Exchange,
}

/// How records find their consumer.
#[derive(Clone)]
pub(super) enum Exchange {
    /// Forward where the parallelism is the same, else rebalance.
    Automatic,
    /// To the subtask of the same index.
    Forward,
    /// To all subtasks in turn.
    Rebalance,
    /// Each slice to a subtask that is drawn.
    Shuffle,
    /// To every subtask.
    Broadcast,
    /// To the first subtask.
    Global,
    /// To the subtask that a function names.
    Partition { recipe: PartitionRecipe, location: Place },
    /// To the owner of the key.
    Hash { recipe: PartitionRecipe, location: Place },
}

impl Builder {
    /// Whatever was declared for all paths is declared for each sink.
    pub(super) fn settle_requirements(&mut self) {
        for operator in self.operators.iter_mut().filter(|operator| matches!(operator.end, End::Sink { .. })) {
            operator.required = match (self.required, operator.required) {
                (Some(of_job), Some(of_sink)) => Some(of_job.with(of_sink)),
                (of_job, of_sink) => of_job.or(of_sink),
            };
        }
    }
}

impl Exchange {
    /// The method that asked for it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Exchange::Automatic => "automatic",
            Exchange::Forward => "forward",
            Exchange::Rebalance => "rebalance",
            Exchange::Shuffle => "shuffle",
            Exchange::Broadcast => "broadcast",
            Exchange::Global => "global",
            Exchange::Partition { .. } => "partition",
            Exchange::Hash { .. } => "key_by",
        }
    }
}

impl Operator {
    /// An operator without inputs and settings.
    pub(super) fn new(kind: &'static str, location: Place, uid: Option<&str>, recipe: Recipe) -> Operator {
        Operator {
            kind,
            location,
            name: None,
            uid: uid.map(OperatorUid::new),
            parallelism: None,
            max_parallelism: None,
            chaining: Chaining::Both,
            credits: None,
            first_worker: None,
            required: None,
            inputs: Vec::new(),
            output: None,
            sides: Vec::new(),
            recipe,
            states: Vec::new(),
            end: End::Inner,
        }
    }

    /// The stream of one of its outputs.
    ///
    /// # Panics
    /// When it has no such output, which would be a bug of the graph builder.
    pub(super) fn stream(&self, port: usize) -> StreamType {
        match port.checked_sub(1) {
            None => self.output.expect("sinks have no output"),
            Some(side) => self.sides[side].stream,
        }
    }

    /// Whether a checkpoint holds something of it.
    pub(super) fn is_stateful(&self) -> bool {
        !self.states.is_empty() || !matches!(self.end, End::Inner)
    }

    /// How chains and pictures call it.
    pub(super) fn display_name(&self) -> &str {
        self.name.as_deref().or(self.uid.as_ref().map(OperatorUid::as_str)).unwrap_or(self.kind)
    }

    /// How errors call it: by its uid, and where there is none by the line that made it.
    pub(super) fn label(&self) -> String {
        let shown = |text: &str| if text.is_empty() { None } else { Some(text.to_owned()) };
        let uid = self.uid.as_ref().and_then(|uid| shown(uid.as_str()));
        match (self.name.as_deref().and_then(shown), uid) {
            (Some(name), Some(uid)) if name != uid => format!("{uid} ({name})"),
            (_, Some(uid)) => uid,
            (Some(name), None) => format!("{name} at {}", at(self.location)),
            (None, None) => format!("{} at {}", self.kind, at(self.location)),
        }
    }

    /// How errors about the uid itself call it.
    pub(super) fn origin(&self) -> String {
        format!("{} at {}", self.kind, at(self.location))
    }
}

/// File and line.
pub(super) fn at(location: Place) -> String {
    format!("{}:{}", location.file(), location.line())
}

impl Shared {
    pub(super) fn new(name: &str) -> Shared {
        Shared(Arc::new(Mutex::new(Builder {
            name: name.to_owned(),
            parallelism: 1,
            max_parallelism: None,
            chaining: true,
            credits: None,
            required: None,
            operators: Vec::new(),
            errors: Vec::new(),
            asked_wrongly: BTreeSet::new(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Builder> {
        // No user code runs under the lock, and the builder is consistent after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an operator and gives its position.
    pub(super) fn add(&self, operator: Operator) -> usize {
        let mut builder = self.lock();
        builder.operators.push(operator);
        builder.operators.len() - 1
    }

    /// Whether both belong to the same job; if not, that is remembered as an error.
    pub(super) fn is_same_job(&self, other: &Shared, location: Place) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        let other = other.lock().name.clone();
        let mut builder = self.lock();
        let job = builder.name.clone();
        builder.errors.push(BuildError::OtherJob { job, other, location: at(location) });
        false
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Debug for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Inner => formatter.write_str("End::Inner"),
            End::Source { unbounded, .. } => write!(formatter, "End::Source(unbounded: {unbounded})"),
            End::Sink { promise, .. } => write!(formatter, "End::Sink({})", promise.guarantee),
        }
    }
}
