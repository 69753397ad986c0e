//! A graph as text.

use std::fmt;

use alluvium_actors::plan::Pattern;

use super::Graph;

/// What the plan does not say of an edge.
#[derive(Debug)]
pub(super) struct EdgeText {
    /// The operator whose output it carries.
    pub(super) producer: String,
    /// How records find their consumer.
    pub(super) partitioning: &'static str,
}

/// The chains and the edges between them, one a line.
impl fmt::Display for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.planned.plan;
        writeln!(formatter, "job {}", plan.job)?;
        for (index, node) in plan.nodes.iter().enumerate() {
            writeln!(
                formatter,
                "  [{index}] {}  (parallelism {}, max parallelism {})",
                node.name, node.parallelism, node.max_parallelism
            )?;
        }
        for (edge, text) in plan.edges.iter().zip(&self.planned.edges) {
            let pattern = match edge.pattern {
                Pattern::Pointwise => "pointwise",
                Pattern::AllToAll => "all to all",
            };
            write!(formatter, "  [{}] {} -> [{}]", edge.from, text.producer, edge.to)?;
            if plan.node(edge.to).inputs > 1 {
                write!(formatter, " input {}", edge.input)?;
            }
            writeln!(formatter, "  ({}, {pattern}, {})", text.partitioning, edge.payload.type_name)?;
        }
        Ok(())
    }
}
