//! Every state that a source, a two-phase sink and the coordinator can reach, with faults at every step; and rules broken on purpose.

use crate::commit_world::{Defect, Supplies, World};
use crate::explore::{Bounds, Exploration, explore};

fn walk(name: &str, supplies: Supplies, concurrent: usize, defect: Defect, states: usize) -> Exploration<String> {
    let world = World::new(supplies, concurrent, defect);
    explore(name, world, Bounds { states, depth: 200 }, World::steps, World::rule)
}

#[test]
fn walk_every_record_is_outside_exactly_once_with_every_pair_of_faults() {
    let supplies = Supplies { records: 2, checkpoints: 1, faults: 2 };
    walk("sink, pairs of faults", supplies, 1, Defect::None, 1_000_000).assert_holds_everywhere();
}

#[test]
fn walk_every_record_is_outside_exactly_once_with_two_checkpoints_at_a_time() {
    let supplies = Supplies { records: 1, checkpoints: 2, faults: 1 };
    walk("sink, two checkpoints at a time", supplies, 2, Defect::None, 1_000_000).assert_holds_everywhere();
}

#[test]
fn walk_a_commit_before_the_completion_is_found() {
    let supplies = Supplies { records: 1, checkpoints: 1, faults: 1 };
    let found = walk("sink, commits what is prepared", supplies, 1, Defect::CommitsWhatIsPrepared, 200_000);
    assert!(found.expect_counterexample().violation.contains("the newest complete checkpoint is"));
}

#[test]
fn walk_an_abort_that_drops_what_was_prepared_is_found() {
    let supplies = Supplies { records: 1, checkpoints: 1, faults: 1 };
    let found = walk("sink, an abort drops", supplies, 1, Defect::AbortDropsPrepared, 200_000);
    assert!(found.expect_counterexample().violation.contains("neither pending nor committed"));
}

#[test]
fn walk_a_snapshot_without_the_commits_under_way_is_found() {
    let supplies = Supplies { records: 1, checkpoints: 2, faults: 1 };
    let defect = Defect::SnapshotWithoutCommitsUnderWay;
    let found = walk("sink, a snapshot without commits under way", supplies, 1, defect, 200_000);
    assert!(found.expect_counterexample().violation.contains("are outside"));
}

#[test]
fn walk_a_restore_that_does_not_commit_again_is_found() {
    let supplies = Supplies { records: 1, checkpoints: 1, faults: 1 };
    let found = walk("sink, a restore forgets", supplies, 1, Defect::RestoreForgetsPrepared, 200_000);
    assert!(found.expect_counterexample().violation.contains("are outside"));
}
