//! Which operators run fused, and which edges join the chains.

use alluvium::connect::Items;
use alluvium::{Graph, Job, Stream};
use alluvium_actors::plan::Pattern;

fn numbers(job: &Job, uid: &str) -> Stream<u64> {
    job.source(uid, Items::new(vec![1_u64, 2, 3]))
}

fn chains(graph: &Graph) -> Vec<String> {
    graph.plan().nodes.iter().map(|node| node.name.clone()).collect()
}

/// From, output, to, input, pattern.
fn edges(graph: &Graph) -> Vec<(u32, usize, u32, usize, Pattern)> {
    let plan = graph.plan();
    plan.edges.iter().map(|edge| (edge.from.0, edge.output, edge.to.0, edge.input, edge.pattern)).collect()
}

#[test]
fn operators_of_one_input_and_the_same_parallelism_run_fused() {
    let job = Job::new("fused");
    numbers(&job, "numbers").map(|number| number + 1).name("plus one").filter(|_| true).for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["numbers -> plus one -> filter -> seen"]);
    assert!(edges(&graph).is_empty());
    let node = &graph.plan().nodes[0];
    assert_eq!((node.inputs, node.parallelism, node.max_parallelism), (0, 1, 128));
    assert_eq!(node.uids.iter().map(|uid| uid.as_str()).collect::<Vec<_>>(), ["numbers", "seen"]);
}

#[test]
fn several_consumers_of_a_stream_run_in_its_chain() {
    let job = Job::new("tee");
    let source = numbers(&job, "numbers");
    source.map(|number| number).for_each("a", |_| {});
    source.for_each("b", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["numbers -> map -> a -> b"]);
}

#[test]
fn a_key_cuts_the_chain_and_leads_to_every_subtask() {
    let job = Job::new("keyed").parallelism(2);
    let source = numbers(&job, "numbers");
    source.key_by(|number| number).reduce("sum", |a, b| a + b).map(|sum| sum).for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["numbers", "sum -> map -> seen"]);
    assert_eq!(edges(&graph), [(0, 0, 1, 0, Pattern::AllToAll)]);
}

#[test]
fn a_change_of_parallelism_cuts_the_chain_and_rebalances() {
    let job = Job::new("wider");
    numbers(&job, "numbers").map(|number| number).parallelism(3).for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["numbers", "map", "seen"]);
    assert_eq!(edges(&graph), [(0, 0, 1, 0, Pattern::AllToAll), (1, 0, 2, 0, Pattern::AllToAll)]);
    assert_eq!(graph.plan().nodes[1].parallelism, 3);
}

#[test]
fn rebalance_cuts_the_chain_and_forward_does_not() {
    let job = Job::new("explicit");
    let source = numbers(&job, "numbers");
    source.rebalance().for_each("rebalanced", |_| {});
    source.forward().for_each("forwarded", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["numbers -> forwarded", "rebalanced"]);
    assert_eq!(edges(&graph), [(0, 0, 1, 0, Pattern::AllToAll)]);
}

#[test]
fn a_union_has_an_edge_from_each_stream_to_one_input() {
    let job = Job::new("union");
    let (a, b) = (numbers(&job, "a"), numbers(&job, "b"));
    a.union(&[&b, &a]).for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["a", "b", "seen"]);
    assert_eq!(
        edges(&graph),
        [(0, 0, 2, 0, Pattern::Pointwise), (0, 1, 2, 0, Pattern::Pointwise), (1, 0, 2, 0, Pattern::Pointwise)]
    );
}

#[test]
fn connected_streams_are_two_inputs_of_one_chain() {
    let job = Job::new("connected");
    let (a, b) = (numbers(&job, "a"), numbers(&job, "b").map(|number| number.to_string()));
    a.connect(&b).map(|number| number.to_string(), |text| text).for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["a", "b -> map", "connected map -> seen"]);
    assert_eq!(edges(&graph), [(0, 0, 2, 0, Pattern::Pointwise), (1, 0, 2, 1, Pattern::Pointwise)]);
    assert_eq!(graph.plan().nodes[2].inputs, 2);
}

#[test]
fn a_max_parallelism_of_its_own_cuts_the_chain() {
    let job = Job::new("groups").max_parallelism(64);
    numbers(&job, "numbers").map(|number| number).max_parallelism(512).for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(graph.plan().nodes.iter().map(|node| node.max_parallelism).collect::<Vec<_>>(), [64, 512, 64]);
}

#[test]
fn the_default_max_parallelism_follows_the_parallelism() {
    let job = Job::new("groups");
    numbers(&job, "numbers").map(|number| number).parallelism(100).for_each("seen", |_| {}).parallelism(100);
    let graph = job.build().unwrap();
    assert_eq!(graph.plan().nodes.iter().map(|node| node.max_parallelism).collect::<Vec<_>>(), [128, 256]);
}

#[test]
fn sinks_are_numbered_in_the_order_of_their_definition() {
    let job = Job::new("sinks");
    let source = numbers(&job, "numbers");
    source.rebalance().for_each("a", |_| {});
    source.for_each("b", |_| {});
    let plan = job.build().unwrap().plan();
    let sinks: Vec<_> = plan.sinks.iter().map(|sink| (sink.uid.as_str(), sink.node.0)).collect();
    assert_eq!(sinks, [("a", 1), ("b", 0)]);
    assert_eq!(plan.sources.len(), 1);
}

#[test]
fn a_graph_is_cheap_to_share_between_threads() {
    fn shareable<T: Clone + Send + Sync + 'static>() {}
    shareable::<Graph>();
    shareable::<Stream<u64>>();
}
