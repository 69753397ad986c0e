//! From a checked job to the plan that the drivers carry out.

use std::sync::Arc;

use alluvium_actors::ids::NodeId;
use alluvium_actors::plan::{Edge, Node, Plan, SinkPlan, SourcePlan};
use alluvium_actors::ports::task::TaskFactory;

use super::builder::{Builder, End};
use super::layout::Layout;
use super::promises::Promises;
use super::{Graph, Planned};
use crate::connect::sink::Guarantee;
use crate::state::StateKind;

/// Plans a job that was checked.
pub(super) fn plan(builder: Builder) -> Graph {
    let job: Arc<str> = builder.name.as_str().into();
    let layout = Arc::new(Layout::new(builder));
    let nodes = (0..layout.chains.len()).map(|chain| node(&layout, chain)).collect();
    let mut edges = Vec::new();
    let mut fused = Vec::new();
    let mut planned_sources = Vec::new();
    let mut planned_sinks = Vec::new();
    let mut unbounded_sources = Vec::new();
    let mut exactly_once_sinks = Vec::new();
    for placed in &layout.operators {
        let node = NodeId(placed.chain as u32);
        let uid = || placed.uid();
        match &placed.operator.end {
            End::Inner => {}
            End::Source { enumerator, unbounded, .. } => {
                planned_sources.push(SourcePlan { uid: uid(), node, enumerator: Arc::clone(enumerator) });
                if *unbounded {
                    unbounded_sources.push(uid());
                }
            }
            End::Sink { committer, promise } => {
                planned_sinks.push(SinkPlan { uid: uid(), node, committer: Arc::clone(committer) });
                if promise.guarantee == Guarantee::ExactlyOnce {
                    exactly_once_sinks.push(uid());
                }
            }
        }
        for consumer in &placed.consumers {
            if consumer.route.edge().is_none() {
                fused.push((node, consumer.name.clone()));
            }
        }
    }
    for (from, consumer) in layout.edges() {
        let Some((output, pattern)) = consumer.route.edge() else { continue };
        let to = &layout.operators[consumer.operator];
        edges.push(Edge {
            name: consumer.name.clone(),
            from: NodeId(from.chain as u32),
            output,
            to: NodeId(to.chain as u32),
            input: consumer.input,
            pattern,
            routing: consumer.route.routing(),
            credits: to.credits,
            payload: to.operator.inputs[consumer.input].stream.payload,
        });
    }
    let graph = layout.graph;
    let plan = Plan { job, nodes, edges, fused, graph, sources: planned_sources, sinks: planned_sinks };
    let promises = Promises::of_plan(&layout, &plan);
    Graph {
        planned: Arc::new(Planned { plan: Arc::new(plan), layout, promises, unbounded_sources, exactly_once_sinks }),
    }
}

fn node(layout: &Arc<Layout>, chain: usize) -> Node {
    let members = layout.chains[chain].iter().map(|index| &layout.operators[*index].operator);
    let union_lists = members
        .filter(|operator| operator.states.iter().any(|state| state.kind == StateKind::UnionList))
        .filter_map(|operator| operator.uid.clone())
        .collect();
    let uids = layout.stateful(chain);
    let head = layout.head(chain);
    let inputs = head.operator.inputs.len();
    let task_layout = Arc::clone(layout);
    let factory = if inputs == 0 {
        TaskFactory::Source(Arc::new(move |task| task_layout.source_task(chain, &task)))
    } else {
        TaskFactory::Operator(Arc::new(move |task| task_layout.operator_task(chain, &task)))
    };
    Node {
        name: layout.chain_name(chain),
        parallelism: head.parallelism,
        max_parallelism: head.max_parallelism,
        max_parallelism_is_given: layout.max_parallelism_is_given(chain),
        first_worker: head.first_worker,
        operators: layout.chains[chain].iter().map(|position| *position as u32).collect(),
        uids,
        union_lists,
        factory,
        inputs,
    }
}
