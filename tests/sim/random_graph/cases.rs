//! The random graphs themselves: the seeds draw everything there is, and the oracle notices whatever is wrong with an output.

use std::collections::{BTreeMap, BTreeSet};

use alluvium::CheckpointMode;
use alluvium::testing::simulation::{Faults, Simulation};

use super::RandomGraph;
use super::record::Item;
use super::shape::{Kind, Shape};

/// The words of a debug text that name something.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.starts_with(char::is_uppercase))
}

#[test]
fn the_shapes_of_some_hundred_seeds_have_everything_there_is() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let (mut sources, mut sinks, mut unions, mut widths) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for seed in 0..300 {
        let shape = Shape::of(seed);
        assert_eq!(format!("{shape:?}"), format!("{:?}", Shape::of(seed)), "one seed makes one shape");
        for name in names(&format!("{shape:?}")) {
            *seen.entry(name.to_owned()).or_default() += 1;
        }
        sources.insert(shape.nodes.iter().filter(|node| matches!(node.kind, Kind::Source { .. })).count());
        sinks.insert(shape.nodes.iter().filter(|node| matches!(node.kind, Kind::Sink { .. })).count());
        unions.extend(shape.nodes.iter().flat_map(|node| &node.inputs).map(Vec::len));
        widths.extend(shape.nodes.iter().map(|node| node.parallelism));
    }
    println!("drawn: {seen:?}");
    let wanted = "Generator Items Files Map Filter FlatMap Process Split Connect Keyed Join Numbered Ruled Sink Two Five List Aggregate Reduce \
                  Collection Lines Item Note Head Never Forward Rebalance Shuffle Broadcast Global Partition ByKey \
                  ExactlyOnce AtLeastOnce Region Full";
    for name in wanted.split_whitespace() {
        assert!(seen.get(name).is_some_and(|count| *count >= 10), "{name} is drawn {:?} times", seen.get(name));
    }
    assert!(sources.is_superset(&(1..=3).collect()) && sinks.is_superset(&(1..=4).collect()), "{sources:?} {sinks:?}");
    assert!(unions.is_superset(&(1..=3).collect()) && widths == (1..=4).collect(), "{unions:?} {widths:?}");
}

/// What a graph with a mark in its output came to without a fault.
fn played(seed: u64) -> Option<(RandomGraph, BTreeMap<usize, Vec<Item>>)> {
    let mut graph = RandomGraph::new(seed);
    if graph.shape.mode != CheckpointMode::ExactlyOnce {
        return None;
    }
    let mut played = None;
    let mut watched = super::Watched { graph: &mut graph, outputs: &mut played };
    Simulation::new(seed).with(Faults::None).run(&mut watched).unwrap_or_else(|trouble| panic!("{trouble}"));
    Some((graph, played?))
}

/// Breaks one thing in the output of many graphs; the oracle must say `words` each time.
fn broken(words: &[&str], least: usize, mut damage: impl FnMut(&RandomGraph, &mut BTreeMap<usize, Vec<Item>>) -> bool) {
    let mut tried = 0;
    for (graph, mut outputs) in (0..60).filter_map(played) {
        if !damage(&graph, &mut outputs) {
            continue;
        }
        tried += 1;
        let wrong = graph.flows.check(&graph.shape, &outputs).expect_err("nothing was noticed");
        assert!(words.iter().any(|word| wrong.contains(word)), "{wrong}\n{}", graph.shape);
    }
    assert!(tried >= least, "only {tried} graphs could be damaged so");
}

/// The longest output.
fn longest(outputs: &mut BTreeMap<usize, Vec<Item>>) -> &mut Vec<Item> {
    outputs.values_mut().max_by_key(|records| records.len()).expect("there is a sink")
}

#[test]
fn a_record_that_is_missing_is_named() {
    broken(&["1 missing: n"], 30, |_, outputs| longest(outputs).pop().is_some());
}

#[test]
fn a_record_that_came_twice_is_named() {
    broken(&["1 too many: n"], 30, |_, outputs| {
        let records = longest(outputs);
        records.push(records[0].clone());
        true
    });
}

#[test]
fn a_record_that_a_state_met_twice_is_named() {
    broken(&["1 never to come here: n"], 20, |_, outputs| {
        let mut marked = outputs.values_mut().flatten().filter(|item| !item.marks.is_empty());
        let Some(item) = marked.next() else { return false };
        let at = usize::from(item.marks[0].at) - 1;
        item.id.trail[at].times += 100;
        true
    });
}

#[test]
fn a_number_that_a_state_gave_twice_is_named() {
    broken(&["gave the number", "gave n", "met n", "has met"], 15, |graph, outputs| {
        let mut given = BTreeMap::new();
        for item in outputs.values_mut().flatten() {
            let id = item.id.clone();
            let keys: Vec<_> = item.marks.iter().map(|mark| graph.flows.key_of(item, mark)).collect();
            for (mark, key) in item.marks.iter_mut().zip(keys) {
                // The number that another record has from the same state.
                let (other, number) = given.entry(key).or_insert_with(|| (id.clone(), mark.sequence));
                if *other != id && *number != mark.sequence {
                    mark.sequence = *number;
                    return true;
                }
            }
        }
        false
    });
}

#[test]
fn two_records_of_one_way_that_changed_places_are_named() {
    broken(&["which took the same way earlier"], 15, |graph, outputs| {
        for (sink, records) in outputs {
            let ways: Vec<_> = records.iter().map(|item| graph.flows.way(*sink, &item.id)).collect();
            for first in 0..records.len() {
                let same = (first + 1..records.len()).find(|at| ways[first].is_some() && ways[*at] == ways[first]);
                if let Some(second) = same {
                    records.swap(first, second);
                    return true;
                }
            }
        }
        false
    });
}
