//! Whether a checkpoint fits a graph: every state finds its operator, with as many key groups as it was stored with. Operators may be wider or narrower than then.

use std::collections::BTreeMap;

use alluvium_actors::drive::finished::edges_into_the_finished;
use alluvium_actors::plan::{EdgeName, Plan, Routing};
use alluvium_actors::ports::store::Manifest;
use alluvium_actors::ports::task::Failure;

/// Compares the shapes in a manifest with those of a plan.
///
/// # Errors
/// Every mismatch at once, each with its mend. Unrecoverable: another attempt would find the same.
pub(super) fn check_fit(plan: &Plan, manifest: &Manifest) -> Result<(), Failure> {
    let mut problems = misfits(plan, manifest);
    for edge in edges_into_the_finished(plan, manifest) {
        let (from, to) = (&plan.node(edge.from).name, &plan.node(edge.to).name);
        problems.push(format!(
            "`{to}` had come to the end of its data, and `{from}`, which feeds it now, has not: nothing that runs can be put before it; give `{from}` an operator of \
             its own behind it, or start afresh"
        ));
    }
    problems.extend(stranded(plan, manifest));
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!("checkpoint {} does not fit the job: {}", manifest.checkpoint, problems.join("; "));
    Err(Failure::unrecoverable("restore", message))
}

/// The edges with something in flight that the job does not have, or on which nobody could say whose the records are.
fn stranded(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let in_flight = manifest.in_flight().flat_map(|(_, in_flight)| &in_flight.edges).filter(|edge| edge.records > 0);
    let mut edges: BTreeMap<&EdgeName, (u64, Routing)> = BTreeMap::new();
    for edge in in_flight {
        edges.entry(&edge.name).or_insert((0, edge.routing)).0 += edge.records;
    }
    if edges.is_empty() {
        return Vec::new();
    }
    let now: BTreeMap<_, _> = plan.connections().map(|(_, name, routing)| (name, routing)).collect();
    let stranded = edges.into_iter().filter_map(|(name, (records, former))| {
        let what = match now.get(name) {
            Some(routing) if *routing == former && former != Routing::Copies => return None,
            Some(_) => "records find their way on it in another manner now",
            None => "the job does not have that edge any more",
        };
        Some(format!(
            "{records} records were in flight from {name}, and {what}: start the job as it was and stop it, which leaves nothing in flight, before it is changed"
        ))
    });
    stranded.collect()
}

/// What keeps the state in a checkpoint from being restored, each with its mend.
pub(crate) fn misfits(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    for stored in &manifest.shapes {
        let Some(node) = plan.nodes.iter().find(|node| node.uids.contains(&stored.uid)) else {
            problems.push(format!(
                "the checkpoint holds state of `{}`, which the job does not have: give the operator its former uid back, or start afresh",
                stored.uid
            ));
            continue;
        };
        if node.max_parallelism_is_given && node.max_parallelism != stored.max_parallelism {
            problems.push(format!(
                "`{}` has max parallelism {} and had {} in the checkpoint: it can never change, because the keys of stored state are divided by it; set it to {}, \
                 or leave it out, and it is taken from the checkpoint",
                stored.uid, node.max_parallelism, stored.max_parallelism, stored.max_parallelism
            ));
            continue;
        }
        // Of a chain the head's counts, once: the others have no keys.
        let most = node.key_groups(Some(manifest));
        let decides = node.uids.iter().find(|uid| manifest.shapes.iter().any(|shape| shape.uid == **uid));
        if node.parallelism > most && decides == Some(&stored.uid) {
            problems.push(format!(
                "`{}` has parallelism {} and max parallelism {most} in the checkpoint, above which no parallelism can go: start it with at most {most}; a greater max \
                 parallelism can only be set (`max_parallelism(..)`) when the job begins anew",
                stored.uid, node.parallelism
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alluvium_actors::ids::{CheckpointId, RunNumber, SubtaskId, WallTime};
    use alluvium_actors::plan::{EdgeName, Routing};
    use alluvium_actors::ports::store::{
        Chains, CheckpointKind, InFlight, InFlightEdge, Manifest, PieceContent, SubtaskSnapshot,
    };
    use alluvium_actors::ports::task::Severity;

    use super::*;
    use crate::connect::{Collect, Generator};
    use crate::{Graph, Job};

    fn graph(parallelism: u32, extra: bool) -> Graph {
        let job = Job::new("fits");
        let mut numbers = job.source("numbers", Generator::bounded(10, |index| index)).parallelism(2);
        if extra {
            numbers = numbers.filter(|number| *number > 0).parallelism(2);
        }
        let kept = numbers.map(|number| number).parallelism(parallelism);
        let summed = kept.key_by_value(|number| *number).reduce("sum", |one, other| one + other).parallelism(2);
        summed.sink("sink", Collect::new()).parallelism(3);
        job.build().unwrap()
    }

    /// A checkpoint with so many records in flight on an edge.
    fn manifest(plan: &Plan, name: &EdgeName, routing: Routing, records: u64) -> Manifest {
        let edges = vec![InFlightEdge { name: name.clone(), records, producers: 2, routing }];
        let content = PieceContent::Inline(Vec::new());
        let subtask = |index| SubtaskSnapshot {
            subtask: SubtaskId::new(1, index),
            finished: false,
            operators: Vec::new(),
            in_flight: Some(InFlight { records, content: content.clone(), parallelism: 2, edges: edges.clone() }),
        };
        Manifest {
            job: "fits".to_owned(),
            hash_seed: 1,
            run: RunNumber(1),
            checkpoint: CheckpointId(7),
            kind: CheckpointKind::Periodic,
            triggered: WallTime(0),
            completed: WallTime(0),
            shapes: Vec::new(),
            enumerators: Vec::new(),
            subtasks: vec![subtask(0), subtask(1)],
            chains: Some(Chains::of(plan)),
            attributes: BTreeMap::new(),
        }
    }

    fn named<'a>(plan: &'a Plan, to: &str) -> (&'a EdgeName, Routing) {
        let found = plan.connections().find(|(_, name, _)| name.to.as_str() == to);
        let (_, name, routing) = found.expect("the job has the edge");
        (name, routing)
    }

    #[test]
    fn records_on_an_edge_that_became_part_of_a_chain_fit() {
        let wide = graph(3, false).plan();
        let (name, routing) = named(&wide, "map #1");
        let manifest = manifest(&wide, name, routing, 5);
        for parallelism in [1, 2, 3] {
            check_fit(&graph(parallelism, false).plan(), &manifest).unwrap();
        }
    }

    #[test]
    fn records_on_an_edge_that_is_gone_are_refused_by_its_name_with_the_mend() {
        let plan = graph(3, false).plan();
        let (name, routing) = named(&plan, "map #1");
        let failure = check_fit(&graph(3, true).plan(), &manifest(&plan, name, routing, 5)).unwrap_err();
        assert_eq!(failure.severity, Severity::Unrecoverable);
        let wanted = "checkpoint 7 does not fit the job: 10 records were in flight from `numbers` to `map #1`, and the job does not have that edge any more: start the job \
                      as it was and stop it";
        assert!(failure.message.starts_with(wanted), "{failure}");
        // Nothing was on it: it may go.
        check_fit(&graph(3, true).plan(), &manifest(&plan, name, routing, 0)).unwrap();
    }

    #[test]
    fn records_between_operators_with_uids_survive_a_change_of_the_graph_and_no_other_routing() {
        let plan = graph(3, false).plan();
        let (name, routing) = named(&plan, "sink");
        check_fit(&graph(3, true).plan(), &manifest(&plan, name, routing, 5)).unwrap();
        let failure = check_fit(&plan, &manifest(&plan, name, Routing::KeyGroup, 5)).unwrap_err();
        assert!(failure.message.contains("find their way on it in another manner now"), "{failure}");
    }
}
