//! Which subtasks had come to the end of their data, told for a job that is wider, narrower or another one than the checkpoint's.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium::Job;
use alluvium::connect::{Collect, Generator};
use alluvium_actors::drive::finished::{edges_into_the_finished, finished_before};
use alluvium_actors::ids::{CheckpointId, NodeId, OperatorUid, RunNumber, SubtaskId, WallTime};
use alluvium_actors::plan::Plan;
use alluvium_actors::ports::store::{
    Chains, CheckpointKind, InFlight, InFlightEdge, Manifest, OperatorSnapshot, PieceContent, SubtaskSnapshot,
};

/// `numbers`, then a chain that keeps nothing, then `sink`: three chains, each as wide.
fn three_chains(parallelism: u32) -> Arc<Plan> {
    let job = Job::new("ends").parallelism(parallelism);
    let numbers = job.source("numbers", Generator::bounded(10, |index| index)).rebalance();
    numbers.map(|number| number).rebalance().sink("sink", Collect::new());
    job.build().unwrap().plan()
}

/// A source of some width before a sink in one subtask: one chain, or two.
fn into_one(parallelism: u32) -> Arc<Plan> {
    let job = Job::new("ends");
    let numbers = job.source("numbers", Generator::bounded(10, |index| index)).parallelism(parallelism);
    numbers.sink("sink", Collect::new()).parallelism(1);
    job.build().unwrap().plan()
}

/// A checkpoint of chains: for each subtask whether it had come to its end, and the operators that left something.
fn manifest(chains: &[(&[bool], &[&str])]) -> Manifest {
    let mut subtasks = Vec::new();
    for (node, (ends, uids)) in chains.iter().enumerate() {
        for (index, finished) in ends.iter().enumerate() {
            let subtask = SubtaskId { node: NodeId(node as u32), index: index as u32 };
            let uids = uids.iter().map(|uid| OperatorUid::new(uid));
            let operators = uids.map(|uid| OperatorSnapshot { uid, subtask: subtask.index, pieces: Vec::new() });
            subtasks.push(SubtaskSnapshot {
                subtask,
                finished: *finished,
                operators: operators.collect(),
                in_flight: None,
            });
        }
    }
    Manifest {
        job: "ends".to_owned(),
        hash_seed: 1,
        run: RunNumber(1),
        checkpoint: CheckpointId(4),
        kind: CheckpointKind::Periodic,
        triggered: WallTime(0),
        completed: WallTime(0),
        shapes: Vec::new(),
        enumerators: Vec::new(),
        subtasks,
        chains: None,
        attributes: BTreeMap::new(),
    }
}

/// Those that had come to their end, as (chain, index).
fn finished(plan: &Plan, manifest: &Manifest) -> Vec<(u32, u32)> {
    assert!(edges_into_the_finished(plan, manifest).is_empty());
    finished_before(plan, manifest).iter().map(|subtask| (subtask.node.0, subtask.index)).collect()
}

#[test]
fn where_nothing_changed_each_subtask_is_what_it_was() {
    let former = manifest(&[(&[true, false], &["numbers"]), (&[false, true], &[]), (&[false, false], &["sink"])]);
    assert_eq!(finished(&three_chains(2), &former), [(0, 0), (1, 1)]);
}

#[test]
fn a_chain_that_had_come_to_its_end_in_part_runs_again_at_another_parallelism() {
    let former = manifest(&[(&[true, false], &["numbers"]), (&[false, false], &[]), (&[false, false], &["sink"])]);
    for parallelism in [1, 3] {
        assert!(finished(&three_chains(parallelism), &former).is_empty(), "{parallelism}");
    }
}

#[test]
fn a_chain_that_had_come_to_its_end_as_a_whole_stays_so_however_wide_it_is() {
    let all = manifest(&[(&[true, true], &["numbers"]), (&[true, true], &[]), (&[true, true], &["sink"])]);
    assert_eq!(finished(&three_chains(1), &all), [(0, 0), (1, 0), (2, 0)]);
    assert_eq!(finished(&three_chains(3), &all).len(), 9);
    let one_sink_not = manifest(&[(&[true, true], &["numbers"]), (&[true, true], &[]), (&[true, false], &["sink"])]);
    // Nothing is kept of the chain in the middle: what feeds it tells.
    assert_eq!(finished(&three_chains(1), &one_sink_not), [(0, 0), (1, 0)]);
}

#[test]
fn chains_that_were_joined_or_parted_are_known_by_their_operators() {
    let joined = manifest(&[(&[true], &["numbers", "sink"])]);
    assert_eq!(finished(&into_one(1), &joined), [(0, 0)]);
    assert_eq!(finished(&into_one(2), &joined), [(0, 0), (0, 1), (1, 0)]);
    let parted = manifest(&[(&[true, true], &["numbers"]), (&[false], &["sink"])]);
    assert!(finished(&into_one(1), &parted).is_empty(), "one of its operators had not come to its end");
    assert_eq!(finished(&into_one(3), &parted), [(0, 0), (0, 1), (0, 2)]);
}

#[test]
fn what_runs_before_what_had_come_to_its_end_is_told() {
    let former = manifest(&[(&[true, true], &["numbers"]), (&[true], &["sink"])]);
    let job = Job::new("ends");
    let numbers = job.source("numbers", Generator::bounded(10, |index| index)).parallelism(2);
    let more = job.source("more", Generator::bounded(10, |index| index));
    numbers.union(&[&more]).sink("sink", Collect::new()).parallelism(1);
    let plan = job.build().unwrap().plan();
    let edges = edges_into_the_finished(&plan, &former);
    let names: Vec<_> =
        edges.iter().map(|edge| (plan.node(edge.from).name.as_str(), plan.node(edge.to).name.as_str())).collect();
    assert_eq!(names, [("more", "sink")]);
}

#[test]
fn a_chain_whose_end_a_barrier_overtook_runs_again_though_nothing_is_kept_of_it() {
    // Both readers had come to their end, and the barrier overtook it: the chain in the middle had not heard of it.
    let mut former = manifest(&[(&[true, true], &["numbers"]), (&[false, false], &[]), (&[false, false], &["sink"])]);
    former.chains = Some(Chains::of(&three_chains(2)));
    for parallelism in [1, 3] {
        let ended: Vec<_> = (0..parallelism).map(|index| (0, index)).collect();
        assert_eq!(finished(&three_chains(parallelism), &former), ended);
    }
}

#[test]
fn a_chain_that_something_is_on_the_way_to_runs_again_whatever_else_is_known_of_it() {
    let plan = three_chains(2);
    let mut former = manifest(&[(&[true, true], &["numbers"]), (&[false, false], &[]), (&[false, false], &["sink"])]);
    let edge =
        InFlightEdge { name: plan.edges[0].name.clone(), records: 1, producers: 2, routing: plan.edges[0].routing };
    let content = PieceContent::Inline(Vec::new());
    former.subtasks[2].in_flight = Some(InFlight { records: 1, content, parallelism: 2, edges: vec![edge] });
    assert_eq!(finished(&three_chains(1), &former), [(0, 0)]);
}

#[test]
fn the_chains_of_a_checkpoint_tell_where_nothing_changed() {
    let mut former = manifest(&[(&[true, false], &["numbers"]), (&[false, true], &[]), (&[false, false], &["sink"])]);
    former.chains = Some(Chains::of(&three_chains(2)));
    assert_eq!(finished(&three_chains(2), &former), [(0, 0), (1, 1)]);
}

#[test]
fn at_least_once_what_had_come_to_its_end_before_the_last_barrier_runs_again_behind_what_has_not() {
    // One barrier came, the records behind it and the end of all data came, then the other barrier.
    let mut former = manifest(&[(&[true, false], &["numbers"]), (&[true, true], &[]), (&[true, true], &["sink"])]);
    former.chains = Some(Chains::of(&three_chains(2)));
    for parallelism in [1, 3] {
        assert!(finished(&three_chains(parallelism), &former).is_empty(), "{parallelism}");
    }
}
