//! Sources and sinks at the ends of chains: positions come back, and prepared transactions stay until their commit returned.

use alluvium::Job;
use alluvium::connect::{Collect, Generator};
use alluvium_actors::ports::sink::PreparedCheckpoint;
use alluvium_actors::ports::store::{COMMITTABLES, Manifest, PieceContent};

use crate::by_hand::{Seen, World, run};

fn collecting(collect: &Collect<u64>) -> alluvium::Graph {
    let job = Job::new("test");
    job.source("numbers", Generator::bounded(4_000, |index| index).splits(3)).sink("collected", collect.clone());
    job.build().unwrap()
}

/// The checkpoints whose transactions a manifest holds.
fn held(manifest: &Manifest) -> Vec<u64> {
    let Some(piece) = manifest.operators().find_map(|operator| operator.piece(COMMITTABLES)) else { return Vec::new() };
    let PieceContent::Inline(bytes) = &piece.content else { panic!("small") };
    let prepared: Vec<PreparedCheckpoint> = rmp_serde::from_slice(bytes).unwrap();
    prepared.iter().map(|prepared| prepared.checkpoint.0).collect()
}

fn steps(running: &mut crate::by_hand::Running, count: usize) {
    for _ in 0..count {
        running.step().unwrap();
    }
}

#[test]
fn nothing_is_visible_before_its_checkpoint_is_complete() {
    let collect = Collect::new();
    let mut world = World::new(1024 * 1024);
    let mut running = world.start(&collecting(&collect), None).unwrap();
    steps(&mut running, 3);
    let manifest = running.checkpoint(1).unwrap();
    assert!(collect.collected().is_empty());
    assert_eq!(running.complete(&manifest), [1]);
    assert!(!collect.collected().is_empty());
}

#[test]
fn a_transaction_of_an_aborted_checkpoint_is_committed_with_the_next_complete_one() {
    let collect = Collect::new();
    let mut world = World::new(1024 * 1024);
    let mut running = world.start(&collecting(&collect), None).unwrap();
    steps(&mut running, 2);
    assert_eq!(held(&running.checkpoint(1).unwrap()), [1]);
    running.abort(1);
    steps(&mut running, 2);
    // Aborted before anybody asked for what was prepared: it must not be forgotten either.
    running.settle().unwrap();
    running.cut(2).unwrap();
    running.abort(2);
    steps(&mut running, 2);
    let manifest = running.checkpoint(3).unwrap();
    assert_eq!(held(&manifest), [1, 2, 3]);
    assert_eq!(running.complete(&manifest), [1, 2, 3]);
    steps(&mut running, 1);
    assert_eq!(held(&running.checkpoint(4).unwrap()), [4], "what was committed is not held any more");
}

#[test]
fn a_lost_notice_is_made_up_by_the_next_one() {
    let collect = Collect::new();
    let mut world = World::new(1024 * 1024);
    let mut running = world.start(&collecting(&collect), None).unwrap();
    steps(&mut running, 2);
    running.checkpoint(1).unwrap();
    steps(&mut running, 2);
    let manifest = running.checkpoint(2).unwrap();
    assert_eq!(running.complete(&manifest), [1, 2]);
    assert_eq!(running.complete(&manifest), [0_u64; 0], "a repeated notice commits nothing again");
}

#[test]
fn a_checkpoint_without_records_holds_no_committables() {
    let collect = Collect::new();
    let mut world = World::new(1024 * 1024);
    let mut running = world.start(&collecting(&collect), None).unwrap();
    let manifest = running.checkpoint(1).unwrap();
    assert!(!manifest.has_committables());
    assert_eq!(running.complete(&manifest), [0_u64; 0]);
}

#[test]
fn readers_go_on_behind_the_last_record_of_the_cut() {
    for inline_limit in [1024 * 1024, 1] {
        let job = |seen: &Seen<u64>| {
            let job = Job::new("test");
            let note = seen.clone();
            job.source("numbers", Generator::bounded(9_000, |index| index).splits(5))
                .parallelism(2)
                .for_each("seen", move |number| note.note(number))
                .parallelism(2);
            job.build().unwrap()
        };
        let before = Seen::new();
        let mut world = World::new(inline_limit);
        let mut running = world.start(&job(&before), None).unwrap();
        steps(&mut running, 5);
        let manifest = running.checkpoint(1).unwrap();
        let mut all = before.in_order();
        assert!(!all.is_empty() && all.len() < 9_000);
        steps(&mut running, 5);
        drop(running);
        let after = Seen::new();
        world.start(&job(&after), Some(manifest)).unwrap().run_to_end().unwrap();
        all.extend(after.in_order());
        all.sort();
        assert_eq!(all, (0..9_000).collect::<Vec<_>>(), "inline limit {inline_limit}");
    }
}

#[test]
fn the_last_records_are_committed_by_the_final_checkpoint() {
    let collect = Collect::new();
    run(&collecting(&collect)).unwrap();
    let mut collected = collect.collected();
    collected.sort_unstable();
    assert_eq!(collected, (0..4_000).collect::<Vec<_>>());
}
