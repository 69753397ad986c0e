//! Which subtasks had come to the end of their data when a checkpoint was taken, told for a plan that may have other widths than then.
//!
//! Where nothing changed each subtask is what it was. Otherwise subtasks are other ones and so may be the chains: a chain counts as one that had come to its end
//! if all its former subtasks had. One of which only some had runs again, and finds that there is nothing left for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{NodeId, SubtaskId};
use crate::plan::{Edge, Node, Plan};
use crate::ports::store::{Manifest, OperatorSnapshot};
use crate::protocol::mutation::{Mutation, is_active};

/// The subtasks of `plan` that had come to the end of their data before `manifest`, and are not asked for anything again.
#[must_use]
pub fn finished_before(plan: &Plan, manifest: &Manifest) -> BTreeSet<SubtaskId> {
    let former = Former::of(manifest, plan);
    if former.has_the_form_of(plan) {
        return manifest.subtasks.iter().filter(|former| former.finished).map(|former| former.subtask).collect();
    }
    let finished = former.finished_nodes(plan);
    plan.subtasks().filter(|subtask| finished.contains(&subtask.node)).collect()
}

/// The operators, by their position in the job, that had come to the end of their data in all their instances before `manifest`, as far as it tells: of a chain that runs
/// again because it was joined with another one they are not told of that end once more.
#[must_use]
pub fn ended_operators(graph: u64, manifest: &Manifest) -> BTreeSet<u32> {
    let Some(chains) = manifest.chains.as_ref().filter(|chains| chains.graph == graph) else { return BTreeSet::new() };
    let mut ended = vec![false; chains.operators.len()];
    let mut runs = vec![false; chains.operators.len()];
    for subtask in &manifest.subtasks {
        let node = subtask.subtask.node.0 as usize;
        if let (Some(ended), Some(runs)) = (ended.get_mut(node), runs.get_mut(node)) {
            *(if subtask.finished { ended } else { runs }) = true;
        }
    }
    let of_ended = chains.operators.iter().enumerate().filter(|(node, _)| ended[*node] && !runs[*node]);
    of_ended.flat_map(|(_, operators)| operators.iter().copied()).collect()
}

/// The edges from a chain that runs to one that had come to its end before `manifest`: what comes by them could not be taken any more. There are none
/// unless the graph itself was changed.
#[must_use]
pub fn edges_into_the_finished<'a>(plan: &'a Plan, manifest: &Manifest) -> Vec<&'a Edge> {
    let former = Former::of(manifest, plan);
    if former.has_the_form_of(plan) {
        return Vec::new();
    }
    let finished = former.finished_nodes(plan);
    plan.edges.iter().filter(|edge| finished.contains(&edge.to) && !finished.contains(&edge.from)).collect()
}

/// The chains as a checkpoint knows them: by their number then, and by their operators.
struct Former<'a> {
    /// For each subtask, in their order, whether it had come to its end.
    nodes: BTreeMap<NodeId, Vec<bool>>,
    /// Each snapshot with the chain that it is of.
    operators: Vec<(&'a OperatorSnapshot, NodeId)>,
    /// The chain of each operator, by its position in the graph, where the checkpoint says so and the graph is still the same.
    chain_of: Option<BTreeMap<u32, NodeId>>,
    /// The chains of the plan with operators that something was on the way to.
    awaited: BTreeSet<NodeId>,
}

impl<'a> Former<'a> {
    fn of(manifest: &'a Manifest, plan: &Plan) -> Former<'a> {
        let same_graph = manifest.chains.as_ref().filter(|chains| chains.graph == plan.graph);
        let in_flight: BTreeSet<_> = manifest
            .in_flight()
            .flat_map(|(_, in_flight)| &in_flight.edges)
            .filter(|edge| edge.records > 0)
            .map(|edge| &edge.name)
            .collect();
        let awaited = if in_flight.is_empty() {
            BTreeSet::new()
        } else {
            plan.connections().filter(|(_, name, _)| in_flight.contains(name)).map(|(node, ..)| node).collect()
        };
        let chain_of = same_graph.map(|chains| {
            let numbered = chains.operators.iter().enumerate();
            numbered.flat_map(|(node, operators)| operators.iter().map(move |at| (*at, NodeId(node as u32)))).collect()
        });
        let mut former = Former { nodes: BTreeMap::new(), operators: Vec::new(), chain_of, awaited };
        for subtask in &manifest.subtasks {
            let node = subtask.subtask.node;
            former.nodes.entry(node).or_default().push(subtask.finished);
            former.operators.extend(subtask.operators.iter().map(|operator| (operator, node)));
        }
        former
    }

    /// Whether the plan has the same chains, each as wide, with the same operators in them.
    fn has_the_form_of(&self, plan: &Plan) -> bool {
        let widths = plan.nodes.iter().map(|node| node.parallelism as usize);
        if !self.nodes.values().map(Vec::len).eq(widths) {
            return false;
        }
        match &self.chain_of {
            Some(_) => {
                (0..).map(NodeId).zip(&plan.nodes).all(|(id, node)| self.chains_of(node) == BTreeSet::from([id]))
            }
            None => {
                let is_there = |node: NodeId, operator: &OperatorSnapshot| {
                    plan.nodes.get(node.0 as usize).is_some_and(|node| node.uids.contains(&operator.uid))
                };
                self.operators.iter().all(|(operator, node)| is_there(*node, operator))
            }
        }
    }

    /// The former chains that the operators of a chain were in, as far as the checkpoint knows.
    fn chains_of(&self, node: &Node) -> BTreeSet<NodeId> {
        match &self.chain_of {
            Some(chain_of) => node.operators.iter().filter_map(|at| chain_of.get(at).copied()).collect(),
            None => self
                .operators
                .iter()
                .filter(|(found, _)| node.uids.contains(&found.uid))
                .map(|(_, node)| *node)
                .collect(),
        }
    }

    /// The chains of the plan that had come to their end as a whole.
    fn finished_nodes(&self, plan: &Plan) -> BTreeSet<NodeId> {
        let mut finished = BTreeSet::new();
        // Edges lead to later chains.
        for (number, node) in plan.nodes.iter().enumerate() {
            let id = NodeId(number as u32);
            let known = self.chains_of(node);
            let mut before = plan.edges.iter().filter(|edge| edge.to == id).peekable();
            let is_finished = if self.awaited.contains(&id) {
                false
            } else if known.is_empty() {
                // Nothing was kept of it. The end of all that feeds it stood in front of the barrier of that checkpoint, so it had come to its own; unless
                // the barrier overtook that end: then the checkpoint says which chains there were.
                before.peek().is_some() && before.all(|edge| finished.contains(&edge.from))
            } else {
                // At least once a chain may have come to its end before the last barrier reached it, with records in it that stood behind another one:
                // what sent those sends them again.
                let is_fed = self.chain_of.is_some() && before.any(|edge| !finished.contains(&edge.from));
                !is_fed && known.iter().all(|former| self.is_finished(*former))
            };
            if is_finished {
                finished.insert(id);
            }
        }
        finished
    }

    fn is_finished(&self, node: NodeId) -> bool {
        let subtasks = self.nodes.get(&node).map(Vec::as_slice).unwrap_or_default();
        if is_active(Mutation::PartlyFinishedIsFinished) {
            return subtasks.contains(&true);
        }
        // One of which the checkpoint holds nothing is not known to have ended.
        !subtasks.is_empty() && !subtasks.contains(&false)
    }
}
