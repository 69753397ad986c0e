//! A graph as data: what its text, its picture and its JSON are made of.

use serde::{Deserialize, Serialize};

use alluvium_actors::plan::Pattern;

use super::Graph;
use super::builder::End;
use super::guarantee::{GuaranteeReport, LISTED_PATHS};
use super::layout::{Layout, Placed, Route};
use crate::connect::sink::Guarantee;
use crate::connect::source::Replay;
use crate::state::StateKind;

/// A graph as data: chains, the operators in them, and how records get from one to the other. Stable: the same job gives the same description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GraphDescription {
    /// The job's name.
    pub job: String,
    /// The chains, by number: what runs fused. Each has as many subtasks as its parallelism says.
    pub chains: Vec<ChainDescription>,
    /// The operators, by number: in the order in which the job was written down.
    pub operators: Vec<OperatorDescription>,
    /// How records get from operator to operator: inside a chain by a call, between chains by edges.
    pub edges: Vec<EdgeDescription>,
    /// What is promised from each source to each sink, under the best options.
    pub guarantees: GuaranteeReport,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChainDescription {
    /// Its number.
    pub chain: usize,
    /// The names of its operators, joined by arrows.
    pub name: String,
    /// How many subtasks it has.
    pub parallelism: u32,
    /// How many key groups.
    pub max_parallelism: u32,
    /// The worker of its first subtask, if one was asked for.
    pub first_worker: Option<u32>,
    /// The numbers of its operators, the head first.
    pub operators: Vec<usize>,
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperatorDescription {
    /// Its number.
    pub operator: usize,
    /// The method that made it.
    pub kind: String,
    /// Its name, or else its uid, or else its kind.
    pub name: String,
    /// Its uid, if it has one.
    pub uid: Option<String>,
    /// The chain that it runs in.
    pub chain: usize,
    /// The type of records that it emits; none for sinks.
    pub emits: Option<String>,
    /// What it emits beside that.
    pub side_outputs: Vec<SideOutputDescription>,
    /// What it keeps for each key.
    pub states: Vec<StateDescription>,
    /// What it is as a source.
    pub source: Option<SourceDescription>,
    /// What it is as a sink.
    pub sink: Option<SinkDescription>,
    /// What has become of settings that do not do what they seem to say.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A side output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SideOutputDescription {
    /// Its name.
    pub name: String,
    /// The type of records.
    pub record: String,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StateDescription {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: StateKind,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceDescription {
    /// Whether it ends by itself.
    pub bounded: bool,
    /// Whether it can be read again.
    pub replay: Replay,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SinkDescription {
    /// What it promises.
    pub guarantee: Guarantee,
    /// What was declared for its paths.
    pub required: Option<Guarantee>,
}

/// How records get from one operator to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EdgeDescription {
    /// The number of the producer.
    pub from: usize,
    /// The side output that it carries; none for the main output.
    pub side_output: Option<String>,
    /// The number of the consumer.
    pub to: usize,
    /// Which of the consumer's inputs.
    pub input: usize,
    /// How records find their subtask: `fused`, `forward`, `rebalance`, `shuffle`, `broadcast`, `global`, `partition` or `hash`.
    pub partitioning: String,
    /// Which subtasks are joined.
    pub joins: Joins,
    /// How many batches may wait between two subtasks; none inside a chain.
    pub credits: Option<u32>,
    /// The type of records.
    pub record: String,
}

/// Which subtasks an edge joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Joins {
    /// None: producer and consumer run in the same chain.
    SameSubtask,
    /// Those of the same index.
    Pointwise,
    /// Every one of the producer with every one of the consumer.
    AllToAll,
}

impl Graph {
    /// The graph as data, for tools of your own.
    #[must_use]
    pub fn describe(&self) -> GraphDescription {
        let layout = &self.planned.layout;
        GraphDescription {
            job: self.name().to_owned(),
            chains: (0..layout.chains.len()).map(|chain| describe_chain(layout, chain)).collect(),
            operators: layout
                .operators
                .iter()
                .enumerate()
                .map(|(index, placed)| describe_operator(layout, index, placed))
                .collect(),
            edges: describe_edges(layout),
            guarantees: self.first_guarantees(None, LISTED_PATHS),
        }
    }

    /// The graph as JSON, in the form of [`GraphDescription`].
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.describe()).expect("texts, numbers and lists of them always serialize")
    }
}

fn describe_chain(layout: &Layout, chain: usize) -> ChainDescription {
    let head = layout.head(chain);
    ChainDescription {
        chain,
        name: layout.chain_name(chain),
        parallelism: head.parallelism,
        max_parallelism: head.max_parallelism,
        first_worker: head.first_worker,
        operators: layout.chains[chain].clone(),
    }
}

fn describe_operator(layout: &Layout, index: usize, placed: &Placed) -> OperatorDescription {
    let operator = &placed.operator;
    let (source, sink) = match &operator.end {
        End::Inner => (None, None),
        End::Source { unbounded, replay, .. } => {
            (Some(SourceDescription { bounded: !unbounded, replay: *replay }), None)
        }
        End::Sink { promise, .. } => {
            (None, Some(SinkDescription { guarantee: promise.guarantee, required: operator.required }))
        }
    };
    let side = |name: &str, record: &str| SideOutputDescription { name: name.to_owned(), record: record.to_owned() };
    OperatorDescription {
        operator: index,
        kind: operator.kind.to_owned(),
        name: operator.display_name().to_owned(),
        uid: operator.uid.as_ref().map(ToString::to_string),
        chain: placed.chain,
        emits: operator.output.map(|stream| stream.payload.type_name.to_owned()),
        side_outputs: operator.sides.iter().map(|of| side(&of.name, of.stream.payload.type_name)).collect(),
        states: operator
            .states
            .iter()
            .map(|state| StateDescription { name: state.name.clone(), kind: state.kind })
            .collect(),
        source,
        sink,
        notes: notes(layout, index, placed),
    }
}

fn notes(layout: &Layout, index: usize, placed: &Placed) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(credits) = placed.operator.credits
        && layout.chains[placed.chain][0] != index
    {
        notes.push(format!(
            "credits {credits} without effect: no edge leads here, it runs fused with the one before it"
        ));
    }
    if let Some(worker) = placed.operator.first_worker.filter(|worker| *worker > 0) {
        notes.push(format!("first worker {worker}: with fewer workers, counted from the first one again"));
    }
    notes
}

fn describe_edges(layout: &Layout) -> Vec<EdgeDescription> {
    let mut edges = Vec::new();
    for (from, placed) in layout.operators.iter().enumerate() {
        for consumer in &placed.consumers {
            let to = &layout.operators[consumer.operator];
            let joins = match consumer.route.edge() {
                None => Joins::SameSubtask,
                Some((_, Pattern::Pointwise)) => Joins::Pointwise,
                Some((_, Pattern::AllToAll)) => Joins::AllToAll,
            };
            let fused = matches!(consumer.route, Route::Fused);
            edges.push(EdgeDescription {
                from,
                side_output: consumer.port.checked_sub(1).map(|side| placed.operator.sides[side].name.to_string()),
                to: consumer.operator,
                input: consumer.input,
                partitioning: consumer.route.name().to_owned(),
                joins,
                credits: (!fused).then_some(to.credits),
                record: placed.operator.stream(consumer.port).payload.type_name.to_owned(),
            });
        }
    }
    edges
}
