//! Where chains begin and end, and what can be set on each operator.

use alluvium::connect::Generator;
use alluvium::{BuildError, Graph, Job, Stream};
use alluvium_actors::plan::Pattern;

use crate::by_hand::{Seen, run};

fn numbers(job: &Job, uid: &str) -> Stream<u64> {
    job.source(uid, Generator::bounded(3_000, |index| index))
}

fn chains(graph: &Graph) -> Vec<String> {
    graph.plan().nodes.iter().map(|node| node.name.clone()).collect()
}

fn patterns(graph: &Graph) -> Vec<Pattern> {
    graph.plan().edges.iter().map(|edge| edge.pattern).collect()
}

/// numbers -> a -> b -> c -> seen
fn line(job: &Job, change: impl Fn(&str, Stream<u64>) -> Stream<u64>, seen: &Seen<u64>) -> Graph {
    let mut stream = numbers(job, "numbers");
    for name in ["a", "b", "c"] {
        stream = change(name, stream.map(|number| number + 1).name(name));
    }
    let note = seen.clone();
    stream.for_each("seen", move |number| note.note(number));
    job.build().unwrap()
}

#[test]
fn chaining_switched_off_gives_every_operator_a_subtask_of_its_own() {
    let (job, seen) = (Job::new("apart").chaining(false).parallelism(2), Seen::new());
    let graph = line(&job, |_, stream| stream, &seen);
    assert_eq!(chains(&graph), ["numbers", "a", "b", "c", "seen"]);
    assert_eq!(patterns(&graph), [Pattern::Pointwise; 4]);
    run(&graph).unwrap();
    assert_eq!(seen.sorted(), (3..3_003).collect::<Vec<_>>());
}

#[test]
fn a_new_chain_begins_at_an_operator_and_goes_on_behind_it() {
    let (job, seen) = (Job::new("two"), Seen::new());
    let graph = line(&job, |name, stream| if name == "b" { stream.start_new_chain() } else { stream }, &seen);
    assert_eq!(chains(&graph), ["numbers -> a", "b -> c -> seen"]);
    run(&graph).unwrap();
    assert!(seen.in_order().into_iter().eq(3..3_003));
}

#[test]
fn an_operator_without_chaining_stands_alone() {
    let (job, seen) = (Job::new("three"), Seen::new());
    let graph = line(&job, |name, stream| if name == "b" { stream.disable_chaining() } else { stream }, &seen);
    assert_eq!(chains(&graph), ["numbers -> a", "b", "c -> seen"]);
    run(&graph).unwrap();
    assert!(seen.in_order().into_iter().eq(3..3_003));
}

#[test]
fn a_sink_and_a_source_can_stand_alone() {
    let job = Job::new("ends");
    numbers(&job, "numbers").disable_chaining().map(|number| number).for_each("seen", |_| {}).disable_chaining();
    assert_eq!(chains(&job.build().unwrap()), ["numbers", "map", "seen"]);
}

#[test]
fn asking_for_forward_does_not_overrule_what_was_said_about_chains() {
    let job = Job::new("forward").parallelism(2);
    numbers(&job, "numbers").forward().map(|number| number).start_new_chain().for_each("seen", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(chains(&graph), ["numbers", "map -> seen"]);
    assert_eq!(patterns(&graph), [Pattern::Pointwise]);
}

#[test]
fn another_first_worker_forces_operators_apart_and_those_behind_follow() {
    let (job, seen) = (Job::new("workers"), Seen::new());
    let graph = line(&job, |name, stream| if name == "b" { stream.first_worker(1) } else { stream }, &seen);
    assert_eq!(chains(&graph), ["numbers -> a", "b -> c -> seen"]);
    assert_eq!(graph.plan().nodes.iter().map(|node| node.first_worker).collect::<Vec<_>>(), [None, Some(1)]);
    let job = Job::new("workers");
    numbers(&job, "numbers").first_worker(3).map(|number| number).first_worker(3).for_each("seen", |_| {});
    assert_eq!(chains(&job.build().unwrap()), ["numbers -> map -> seen"]);
}

#[test]
fn every_node_has_its_own_parameters() {
    let job = Job::new("parameters").credits(2);
    numbers(&job, "numbers")
        .name("source of numbers")
        .map(|number| number)
        .uid("mapped")
        .name("plus nothing")
        .parallelism(3)
        .max_parallelism(60)
        .credits(100)
        .for_each("seen", |_| {})
        .name("watched")
        .parallelism(2)
        .max_parallelism(20)
        .first_worker(1);
    let plan = job.build().unwrap().plan();
    let facts: Vec<_> = plan
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node.parallelism, node.max_parallelism, node.first_worker))
        .collect();
    assert_eq!(
        facts,
        [("source of numbers", 1, 128, None), ("plus nothing", 3, 60, None), ("watched", 2, 20, Some(1))]
    );
    assert_eq!(plan.edges.iter().map(|edge| edge.credits).collect::<Vec<_>>(), [100, 2]);
    // What a checkpoint must find again are states, sources and sinks, not whatever has a uid.
    let uids: Vec<Vec<&str>> =
        plan.nodes.iter().map(|node| node.uids.iter().map(|uid| uid.as_str()).collect()).collect();
    assert_eq!(uids, [vec!["numbers"], vec![], vec!["seen"]]);
}

#[test]
fn an_edge_of_one_credit_is_enough() {
    let (job, seen) = (Job::new("narrow").credits(1).chaining(false), Seen::new());
    let graph = line(&job, |_, stream| stream, &seen);
    run(&graph).unwrap();
    assert!(seen.in_order().into_iter().eq(3..3_003));
}

#[test]
fn everything_wrong_with_settings_is_reported_at_once() {
    let job = Job::new("wrong").credits(0);
    let (left, right) = (numbers(&job, "left"), numbers(&job, "right").credits(4));
    left.uid("again").union(&[&right]).name("both").map(|number| number).credits(1_025).for_each("a", |_| {});
    left.rebalance().parallelism(7).map(|number| number).uid("a").for_each("b", |_| {});
    let none: [Stream<u64>; 0] = [];
    job.union(none).for_each("c", |_| {});
    let errors = job.build().unwrap_err();
    let text = errors.to_string();
    for expected in [
        "the job: 0 batches may wait in an edge; the number must lie between 1 and 1024",
        "source at tests/api/chaining.rs:",
        "it has the uid `left` already, and is given `again`",
        "right: `credits` bounds the edges that lead to an operator, and none leads to a source",
        "`name` at tests/api/chaining.rs:",
        "is applied to a union",
        "1025 batches may wait in an edge",
        "`parallelism` at tests/api/chaining.rs:",
        "is applied behind `rebalance`, which is no operator of its own",
        "the uid `a` belongs to for_each at",
        "is of no stream at all",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    assert!(errors.errors().iter().any(|error| matches!(error, BuildError::EmptyUnion { .. })));
    assert_eq!(errors.errors().len(), 8, "{text}");
}

#[test]
fn parts_of_a_job_can_be_made_in_a_loop() {
    let (job, seen) = (Job::new("loop"), Seen::new());
    let mut parts = Vec::new();
    for part in 0..4_u64 {
        let stream = job.source(&format!("numbers-{part}"), Generator::bounded(100, move |index| part * 100 + index));
        parts.push(stream.key_by_value(|number| number % 7).reduce(&format!("last-{part}"), |_, last| last));
    }
    let note = seen.clone();
    job.union(parts).map(|number| number).for_each("seen", move |number| note.note(number));
    let graph = job.build().unwrap();
    let plan = graph.plan();
    assert_eq!(plan.sources.len(), 4);
    let uids: Vec<_> = plan.nodes.iter().flat_map(|node| &node.uids).map(|uid| uid.as_str().to_owned()).collect();
    assert!((0..4).all(|part| uids.contains(&format!("last-{part}"))), "{uids:?}");
    run(&graph).unwrap();
    assert_eq!(seen.sorted(), (0..400).collect::<Vec<_>>());
}
