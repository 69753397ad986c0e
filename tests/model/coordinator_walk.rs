//! Every state that a coordinator with its subtasks and its storage can reach, with faults at every step; and rules broken on purpose.

use std::num::{NonZeroU64, NonZeroUsize};

use alluvium_actors::protocol::coordinator::Settings;

use crate::coordinator_world::{Defect, Supplies, World};
use crate::explore::{Bounds, Exploration, explore};

fn walk(name: &str, world: World, states: usize) -> Exploration<String> {
    explore(name, world, Bounds { states, depth: 200 }, World::steps, World::rule)
}

fn settings(concurrent: usize, ids_per_block: u64) -> Settings {
    Settings {
        maximum_concurrent: NonZeroUsize::new(concurrent).unwrap(),
        ids_per_block: NonZeroU64::new(ids_per_block).unwrap(),
        history: 0,
        ..Settings::default()
    }
}

#[test]
fn walk_two_checkpoints_at_a_time_with_every_three_faults() {
    let supplies = Supplies { checkpoints: 2, stops: 0, faults: 3, ends: false };
    let world = World::new(settings(2, 100), 2, supplies, Defect::None);
    walk("coordinator, two at a time", world, 1_000_000).assert_holds_everywhere();
}

#[test]
fn walk_three_subtasks_with_a_request_a_stop_and_every_pair_of_faults() {
    let supplies = Supplies { checkpoints: 1, stops: 1, faults: 2, ends: false };
    let world = World::new(settings(1, 100), 3, supplies, Defect::None);
    walk("coordinator, a stop", world, 1_000_000).assert_holds_everywhere();
}

#[test]
fn walk_the_end_of_all_data_with_every_pair_of_faults() {
    let supplies = Supplies { checkpoints: 0, stops: 1, faults: 2, ends: true };
    let world = World::new(settings(1, 100), 2, supplies, Defect::None);
    walk("coordinator, end of all data", world, 1_000_000).assert_holds_everywhere();
}

#[test]
fn walk_ids_that_are_reserved_one_at_a_time_with_every_pair_of_faults() {
    let supplies = Supplies { checkpoints: 3, stops: 0, faults: 2, ends: false };
    let world = World::new(settings(1, 1), 1, supplies, Defect::None);
    walk("coordinator, one id at a time", world, 1_000_000).assert_holds_everywhere();
}

#[test]
fn walk_failures_that_are_counted_with_every_pair_of_faults() {
    let supplies = Supplies { checkpoints: 3, stops: 0, faults: 2, ends: false };
    for tolerable in [0, 1] {
        let settings = Settings { tolerable_failures: Some(tolerable), ..settings(2, 100) };
        let world = World::new(settings, 1, supplies, Defect::None);
        walk("coordinator, counted failures", world, 1_000_000).assert_holds_everywhere();
    }
}

#[test]
fn walk_three_checkpoints_at_a_time_with_every_pair_of_faults() {
    let supplies = Supplies { checkpoints: 3, stops: 0, faults: 2, ends: false };
    let world = World::new(settings(3, 100), 1, supplies, Defect::None);
    walk("coordinator, three at a time", world, 1_000_000).assert_holds_everywhere();
}

#[test]
fn walk_one_failure_more_than_is_tolerated_is_found() {
    let supplies = Supplies { checkpoints: 2, stops: 0, faults: 2, ends: false };
    let settings = Settings { tolerable_failures: Some(0), ..settings(1, 100) };
    let world = World::new(settings, 1, supplies, Defect::ToleratesOneMore);
    let found = walk("coordinator, tolerates one more", world, 100_000);
    assert!(found.expect_counterexample().violation.contains("and the attempt goes on"));
}

#[test]
fn walk_a_completion_before_the_manifest_is_found() {
    let supplies = Supplies { checkpoints: 1, stops: 0, faults: 1, ends: false };
    let world = World::new(settings(1, 100), 2, supplies, Defect::CompletesBeforeTheManifest);
    let found = walk("coordinator, completes before the manifest", world, 100_000);
    assert!(found.expect_counterexample().violation.contains("its manifest does not exist"));
}

#[test]
fn walk_an_unknown_outcome_that_is_taken_for_a_failed_one_is_found() {
    let supplies = Supplies { checkpoints: 1, stops: 0, faults: 1, ends: false };
    let world = World::new(settings(1, 100), 2, supplies, Defect::UnknownIsTakenForFailed);
    let found = walk("coordinator, unknown is failed", world, 100_000);
    assert!(found.expect_counterexample().violation.contains("and its manifest exists"));
}

#[test]
fn walk_ids_that_are_used_again_after_a_crash_are_found() {
    let supplies = Supplies { checkpoints: 2, stops: 0, faults: 1, ends: false };
    let world = World::new(settings(1, 100), 1, supplies, Defect::IdsBeginAfterTheNewestManifest);
    let found = walk("coordinator, ids are used again", world, 100_000);
    assert!(found.expect_counterexample().violation.contains("is used after"));
}
