//! Regions: the connected parts of a plan, each of which fails and restarts on its own.
//!
//! Every edge is pipelined, so what an edge joins has to go back together: a region is all that is joined by edges. The subtasks of one
//! node belong together too, also where no edge joins them, because a source's enumerator and a sink's committing side are one for all of them.

use std::collections::BTreeSet;

use crate::ids::{NodeId, RegionId};
use crate::plan::Plan;

/// What restarts when something fails: `jobmanager.execution.failover-strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailoverStrategy {
    /// The region that failed; the others run on. A failure that is nobody's region (of the coordinator, of the supervisor) restarts the whole job.
    #[default]
    Region,
    /// The whole job.
    Full,
}

/// What a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A subtask, a sink or an enumerator of this region.
    Region(RegionId),
    /// The coordinator, the supervisor, or what they share.
    Job,
}

/// The regions of a plan. They are numbered in the order of their first nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Regions {
    of_node: Vec<RegionId>,
    count: u32,
}

impl Regions {
    /// The regions of `nodes` nodes that are joined by `edges`. Edges to nodes that do not exist join nothing.
    #[must_use]
    pub fn of(nodes: usize, edges: impl IntoIterator<Item = (NodeId, NodeId)>) -> Regions {
        // Each node points to one of its part that is not above it; the lowest points to itself.
        let mut lower: Vec<usize> = (0..nodes).collect();
        let lowest = |lower: &[usize], mut node: usize| {
            while lower[node] != node {
                node = lower[node];
            }
            node
        };
        for (from, to) in edges {
            let (from, to) = (from.0 as usize, to.0 as usize);
            if from < nodes && to < nodes {
                let (one, other) = (lowest(&lower, from), lowest(&lower, to));
                lower[one.max(other)] = one.min(other);
            }
        }
        let mut of_node: Vec<RegionId> = Vec::with_capacity(nodes);
        let mut count = 0;
        for node in 0..nodes {
            let first = lowest(&lower, node);
            if first == node {
                of_node.push(RegionId(count));
                count += 1;
            } else {
                of_node.push(of_node[first]);
            }
        }
        Regions { of_node, count }
    }

    /// The regions of a plan.
    #[must_use]
    pub fn of_plan(plan: &Plan) -> Regions {
        Regions::of(plan.nodes.len(), plan.edges.iter().map(|edge| (edge.from, edge.to)))
    }

    /// The region of a node.
    ///
    /// # Panics
    /// When the node is not one of the plan.
    #[must_use]
    pub fn of_node(&self, node: NodeId) -> RegionId {
        self.of_node[node.0 as usize]
    }

    /// All regions.
    #[must_use]
    pub fn all(&self) -> BTreeSet<RegionId> {
        (0..self.count).map(RegionId).collect()
    }

    /// The nodes of a region, ascending.
    pub fn nodes(&self, region: RegionId) -> impl Iterator<Item = NodeId> + '_ {
        self.of_node.iter().enumerate().filter(move |(_, of)| **of == region).map(|(node, _)| NodeId(node as u32))
    }

    /// Which regions restart after a failure.
    #[must_use]
    pub fn to_restart(&self, strategy: FailoverStrategy, failed: Scope) -> BTreeSet<RegionId> {
        match (strategy, failed) {
            (FailoverStrategy::Region, Scope::Region(region)) => BTreeSet::from([region]),
            (FailoverStrategy::Full, _) | (FailoverStrategy::Region, Scope::Job) => self.all(),
        }
    }
}
