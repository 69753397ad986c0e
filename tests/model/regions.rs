//! How the regions of a plan are found, and which of them restart.

use std::collections::BTreeSet;

use alluvium_actors::ids::{NodeId, RegionId};
use alluvium_actors::protocol::supervise::{FailoverStrategy, Regions, Scope};

/// The region of each node, by number.
fn found(nodes: usize, edges: &[(u32, u32)]) -> Vec<u32> {
    let regions = Regions::of(nodes, edges.iter().map(|(from, to)| (NodeId(*from), NodeId(*to))));
    let numbers: Vec<u32> = (0..nodes as u32).map(|node| regions.of_node(NodeId(node)).0).collect();
    let all: BTreeSet<RegionId> = numbers.iter().map(|number| RegionId(*number)).collect();
    assert_eq!(regions.all(), all);
    for region in all {
        assert!(regions.nodes(region).all(|node| regions.of_node(node) == region));
    }
    numbers
}

#[test]
fn nodes_that_no_edge_joins_are_regions_of_their_own() {
    assert_eq!(found(3, &[]), [0, 1, 2]);
}

#[test]
fn chains_beside_each_other_are_separate_regions() {
    assert_eq!(found(6, &[(0, 3), (1, 4), (2, 5)]), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn exchanges_join_everything_before_and_behind_them() {
    let edges = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 4), (2, 5), (3, 4), (3, 5)];
    assert_eq!(found(6, &edges), [0; 6]);
}

#[test]
fn a_cascade_of_joins_is_one_region() {
    assert_eq!(found(7, &[(0, 4), (1, 4), (2, 5), (3, 5), (4, 6), (5, 6)]), [0; 7]);
}

#[test]
fn what_comes_from_one_source_is_one_region() {
    assert_eq!(found(7, &[(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6)]), [0; 7]);
}

#[test]
fn a_diamond_is_one_region() {
    assert_eq!(found(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]), [0; 4]);
}

#[test]
fn two_inputs_that_merge_and_one_that_splits_are_one_region() {
    assert_eq!(found(3, &[(0, 1), (1, 2)]), [0; 3]);
    assert_eq!(found(4, &[(0, 2), (1, 2), (2, 3)]), [0; 4]);
    assert_eq!(found(4, &[(0, 1), (1, 2), (1, 3)]), [0; 4]);
}

#[test]
fn the_order_of_the_edges_does_not_matter_and_regions_are_numbered_by_their_first_nodes() {
    let edges = [(1, 3), (3, 5), (0, 4), (2, 6), (4, 6)];
    let mut orders = vec![edges.to_vec()];
    for turn in 1..edges.len() {
        let mut order = edges.to_vec();
        order.rotate_left(turn);
        orders.push(order.iter().rev().copied().collect());
        orders.push(order);
    }
    for order in orders {
        assert_eq!(found(8, &order), [0, 1, 0, 1, 0, 1, 0, 2], "{order:?}");
    }
}

#[test]
fn an_edge_joins_two_regions_whatever_their_size() {
    let parts = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)];
    assert_eq!(found(8, &parts), [0, 0, 0, 0, 1, 1, 1, 1]);
    for (from, to) in (0..4).flat_map(|from| (4..8).map(move |to| (from, to))) {
        let joined: Vec<_> = parts.iter().copied().chain([(to, from)]).collect();
        assert_eq!(found(8, &joined), [0; 8], "{from} and {to}");
    }
}

#[test]
fn a_failure_restarts_its_region_and_nothing_else() {
    let regions = Regions::of(6, [(NodeId(0), NodeId(3)), (NodeId(1), NodeId(4)), (NodeId(2), NodeId(5))]);
    for region in regions.all() {
        assert_eq!(regions.to_restart(FailoverStrategy::Region, Scope::Region(region)), BTreeSet::from([region]));
    }
    assert_eq!(regions.to_restart(FailoverStrategy::Region, Scope::Job), regions.all());
}

#[test]
fn with_the_full_strategy_all_regions_restart_whatever_failed() {
    let regions = Regions::of(3, []);
    for failed in [Scope::Job, Scope::Region(RegionId(0)), Scope::Region(RegionId(2))] {
        assert_eq!(regions.to_restart(FailoverStrategy::Full, failed), regions.all());
    }
}
