//! Which nodes of a random graph may have another parallelism in each process, and which one they have.
//!
//! Where the oracle counts subtasks, behind a broadcast, and where it knows which instance gets a record, at a node that numbers them by its instances, a node keeps its
//! parallelism. Nodes whose records keep their order because subtask `i` sends to subtask `i` change
//! together.

use super::shape::{Exchange, Kind, Shape};

/// The widest that a node may become.
const WIDEST: u64 = 4;

/// For each node the first one of those that change together with it.
fn groups(shape: &Shape) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..shape.nodes.len()).collect();
    for (number, node) in shape.nodes.iter().enumerate() {
        for upstream in node.inputs.iter().flatten() {
            let pointwise = matches!(upstream.exchange, Exchange::Automatic | Exchange::Forward)
                && shape.nodes[upstream.node].parallelism == node.parallelism;
            if pointwise {
                let (one, other) = (groups[upstream.node], groups[number]);
                groups.iter_mut().filter(|group| **group == one.max(other)).for_each(|group| *group = one.min(other));
            }
        }
    }
    groups
}

/// Lets every node change its parallelism that may.
pub(super) fn set_free(shape: &mut Shape) {
    let groups = groups(shape);
    let counted = |node: &super::shape::Node| {
        let copies = node.inputs.iter().flatten().any(|upstream| upstream.exchange == Exchange::Broadcast);
        copies || matches!(node.kind, Kind::Numbered)
    };
    let fixed: Vec<usize> =
        shape.nodes.iter().zip(&groups).filter(|(node, _)| counted(node)).map(|(_, group)| *group).collect();
    for (node, group) in shape.nodes.iter_mut().zip(&groups) {
        node.is_fixed = fixed.contains(group);
    }
}

/// The shape as a process has it.
pub(super) fn drawn(shape: &Shape, mut random: impl FnMut() -> u64) -> Shape {
    let groups = groups(shape);
    let mut drawn = shape.clone();
    for (number, group) in groups.iter().enumerate() {
        if shape.nodes[number].is_fixed {
            continue;
        }
        drawn.nodes[number].parallelism =
            if *group == number { 1 + (random() % WIDEST) as u32 } else { drawn.nodes[*group].parallelism };
    }
    drawn
}

#[test]
fn most_graphs_have_nodes_that_change_and_some_that_do_not() {
    let (mut change, mut stay) = (0, 0);
    for seed in 0..200 {
        let mut shape = Shape::of(seed);
        let mut nothing = || -> u64 { panic!("nothing changes before it is set free") };
        assert_eq!(format!("{:?}", drawn(&shape, &mut nothing)), format!("{shape:?}"));
        set_free(&mut shape);
        let mut number = 0;
        let other = drawn(&shape, || {
            number += 1;
            number
        });
        for (before, after) in shape.nodes.iter().zip(&other.nodes) {
            assert!(!before.is_fixed || before.parallelism == after.parallelism, "{shape}\n{other}");
            change += usize::from(before.parallelism != after.parallelism);
            stay += usize::from(before.is_fixed);
        }
    }
    assert!(change > 400 && stay > 50, "{change} change, {stay} stay");
}
