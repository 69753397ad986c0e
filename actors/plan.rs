//! What to run: chains, the edges between them, and the sources and sinks at the ends. Made by the product's planner, carried
//! out by the drivers; immutable, so that a restart runs the same thing again.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, OperatorUid, SubtaskId};
use crate::payload::PayloadType;
use crate::ports::sink::SinkCommitterFactory;
use crate::ports::source::EnumeratorFactory;
use crate::ports::store::Manifest;
use crate::ports::task::TaskFactory;

/// A whole job.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The job's name.
    pub job: Arc<str>,
    /// The chains.
    pub nodes: Vec<Node>,
    /// The connections.
    pub edges: Vec<Edge>,
    /// The connections inside of chains, each with its chain.
    pub fused: Vec<(NodeId, EdgeName)>,
    /// A fingerprint of the graph: of its operators and of how they are connected, whatever their widths are.
    pub graph: u64,
    /// The sources' enumerators.
    pub sources: Vec<SourcePlan>,
    /// The sinks' committing sides.
    pub sinks: Vec<SinkPlan>,
}

/// A chain of operators that runs fused, in `parallelism` instances.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name: the names of its operators, joined by arrows.
    pub name: String,
    /// How many subtasks; at least 1.
    pub parallelism: u32,
    /// The number of key groups at a fresh start; at least the parallelism, at most 32,768. See [`Node::key_groups`].
    pub max_parallelism: u32,
    /// Whether that was asked for. If it was not, the number in the restored checkpoint takes its place.
    pub max_parallelism_is_given: bool,
    /// The worker that its first subtask runs on, modulo their number; the others follow on the next ones. If none was asked for,
    /// [placement](crate::protocol::placement) decides.
    pub first_worker: Option<u32>,
    /// Its operators, the head first, by their position in the job.
    pub operators: Vec<u32>,
    /// The uids of its stateful operators, sources and sinks.
    pub uids: Vec<OperatorUid>,
    /// The uids of its operators with a union list.
    pub union_lists: Vec<OperatorUid>,
    /// Builds the task of a subtask.
    pub factory: TaskFactory,
    /// How many inputs its head has; 0 for a source.
    pub inputs: usize,
}

/// A connection from an output of one node to an input of another.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Which operators it connects.
    pub name: EdgeName,
    /// The producer.
    pub from: NodeId,
    /// Which of the producer's outputs; outputs are numbered from 0 without gaps.
    pub output: usize,
    /// The consumer.
    pub to: NodeId,
    /// Which of the consumer's inputs. Several edges may feed one input.
    pub input: usize,
    /// Which subtasks are joined.
    pub pattern: Pattern,
    /// How a record finds its consumer.
    pub routing: Routing,
    /// How many batches may wait between two subtasks before the producer stops; at least 1.
    pub credits: u32,
    /// What it carries.
    pub payload: PayloadType,
}

/// The name of a connection from one operator to another: the same however wide the two are, and whether they run in one chain or in two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeName {
    /// The operator that sends: its uid, or else its kind and its position in the job.
    pub from: OperatorUid,
    /// Which of its outputs: 0 is the main one, its side outputs follow.
    pub port: u32,
    /// The operator that takes.
    pub to: OperatorUid,
    /// Which of its inputs.
    pub input: u32,
    /// The how many-th connection from this output to this input, from 0.
    pub nth: u32,
    /// [`Plan::graph`] where one of the two has no uid, because a position means something in that very graph only; else 0.
    pub graph: u64,
}

impl fmt::Display for EdgeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` to `{}`", self.from, self.to)
    }
}

/// Which subtasks an edge joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Subtask `i` to subtask `i`; both sides have the same parallelism.
    Pointwise,
    /// Every producer to every consumer; the producer's channel `i` leads to consumer `i`.
    AllToAll,
}

/// How a record finds its consumer among the subtasks that an edge joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Routing {
    /// By itself or by chance: any of them may have it.
    Any,
    /// All of them have a copy.
    Copies,
    /// The one that owns the key group of the record's key hash.
    KeyGroup,
    /// A function of the user's decides.
    Custom,
    /// Always the first one.
    First,
}

impl Edge {
    /// Whether no barrier overtakes on it, because what it brings could not be shared out anew: each pair is joined by itself, or each consumer has a copy
    /// (rule 26).
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        self.pattern == Pattern::Pointwise || self.routing == Routing::Copies
    }
}

/// A source of the job.
#[derive(Clone)]
pub struct SourcePlan {
    /// Its uid.
    pub uid: OperatorUid,
    /// The node whose head is its reader.
    pub node: NodeId,
    /// Builds its enumerator.
    pub enumerator: EnumeratorFactory,
}

impl fmt::Debug for SourcePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SourcePlan({} at {})", self.uid, self.node)
    }
}

/// A sink of the job.
#[derive(Clone)]
pub struct SinkPlan {
    /// Its uid.
    pub uid: OperatorUid,
    /// The node whose chain ends in its writer.
    pub node: NodeId,
    /// Builds its committing side.
    pub committer: SinkCommitterFactory,
}

impl fmt::Debug for SinkPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SinkPlan({} at {})", self.uid, self.node)
    }
}

impl Node {
    /// The number of its key groups where it goes on from `restored`: the stored one, unless another was asked for (which is refused then).
    #[must_use]
    pub fn key_groups(&self, restored: Option<&Manifest>) -> u32 {
        key_groups(&self.uids, self.max_parallelism, self.max_parallelism_is_given, restored)
    }
}

/// The number of key groups of a chain, see [`Node::key_groups`]. Keyed state is that of the head, so the first operator that the checkpoint knows decides.
#[must_use]
pub fn key_groups(uids: &[OperatorUid], planned: u32, is_given: bool, restored: Option<&Manifest>) -> u32 {
    let shapes = restored.filter(|_| !is_given).map(|manifest| &manifest.shapes);
    let stored = shapes.and_then(|shapes| uids.iter().find_map(|uid| shapes.iter().find(|shape| shape.uid == *uid)));
    stored.map_or(planned, |shape| shape.max_parallelism)
}

impl Plan {
    /// The node with this id.
    ///
    /// # Panics
    /// When the id is not of this plan.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The names of all connections, inside of chains and between them, each with the chain of the operator that takes, and with how a record finds its consumer.
    pub fn connections(&self) -> impl Iterator<Item = (NodeId, &EdgeName, Routing)> + '_ {
        let between = self.edges.iter().map(|edge| (edge.to, &edge.name, edge.routing));
        between.chain(self.fused.iter().map(|(node, name)| (*node, name, Routing::Any)))
    }

    /// All subtasks, ordered.
    pub fn subtasks(&self) -> impl Iterator<Item = SubtaskId> + '_ {
        self.nodes
            .iter()
            .enumerate()
            .flat_map(|(node, plan)| (0..plan.parallelism).map(move |index| SubtaskId::new(node as u32, index)))
    }
}
