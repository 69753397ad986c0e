//! State comes back exactly as it was at the cut: small in the manifest and large in blobs, cut while records go on, aborted in the middle.

use std::task::Poll;

use alluvium::connect::Generator;
use alluvium::{Graph, Job};
use alluvium_actors::ports::store::PieceContent;

use crate::by_hand::{Seen, World};
use crate::keyed::{Everything, everything, pairs};

fn everything_job(parallelism: u32, seen: &Seen<String>) -> Graph {
    let job = Job::new("test").parallelism(parallelism);
    let note = seen.clone();
    pairs(&job, "pairs")
        .key_by(|pair| &pair.0)
        .process("everything", Everything)
        .for_each("seen", move |line| note.note(line));
    job.build().unwrap()
}

fn blobs(manifest: &alluvium_actors::ports::store::Manifest) -> usize {
    manifest.blobs().count()
}

#[test]
fn a_job_that_goes_on_from_a_checkpoint_emits_what_an_unbroken_one_does() {
    for (parallelism, inline_limit) in [(1, 1024 * 1024), (1, 16), (2, 2_000)] {
        let seen = Seen::new();
        let graph = everything_job(parallelism, &seen);
        let mut world = World::new(inline_limit);
        let mut running = world.start(&graph, None).unwrap();
        for _ in 0..10 {
            running.step().unwrap();
        }
        let manifest = running.checkpoint(1).unwrap();
        let before = seen.in_order();
        assert!(!before.is_empty() && before.len() < 6_000, "{} records before the cut", before.len());
        assert_eq!(blobs(&manifest) > 0, inline_limit < 1024 * 1024, "pieces above the limit are blobs");
        // What comes behind the cut and is lost with the process.
        for _ in 0..5 {
            running.step().unwrap();
        }
        drop(running);
        let after = Seen::new();
        let graph = everything_job(parallelism, &after);
        let mut running = world.start(&graph, Some(manifest)).unwrap();
        running.run_to_end().unwrap();
        let mut all = before;
        all.extend(after.in_order());
        all.sort();
        if parallelism == 1 {
            assert_eq!(all, everything(6_000), "inline limit {inline_limit}");
        }
        assert_eq!(all.len(), 6_000);
        let mut distinct = all.iter().map(|line| line.rsplit_once(' ').unwrap().0).collect::<Vec<_>>();
        distinct.dedup();
        assert_eq!(distinct.len(), 6_000, "each count of each key appears once");
    }
}

#[test]
fn reduce_and_aggregate_come_back() {
    let job = |seen: &Seen<(u64, u64)>| {
        let job = Job::new("test");
        let note = seen.clone();
        job.source("numbers", Generator::bounded(3_000, |index| index))
            .key_by_value(|number| number % 50)
            .reduce("sums", |a, b| a + b)
            .key_by_value(|_| 0_u64)
            .aggregate("count", 0_u64, |_, count, sum| {
                *count += 1;
                (*count, sum)
            })
            .for_each("seen", move |pair| note.note(pair));
        job.build().unwrap()
    };
    let unbroken = Seen::new();
    crate::by_hand::run(&job(&unbroken)).unwrap();
    let before = Seen::new();
    let mut world = World::new(64);
    let mut running = world.start(&job(&before), None).unwrap();
    for _ in 0..4 {
        running.step().unwrap();
    }
    let manifest = running.checkpoint(1).unwrap();
    let mut all = before.in_order();
    assert!(!all.is_empty() && all.len() < 3_000);
    let after = Seen::new();
    world.start(&job(&after), Some(manifest)).unwrap().run_to_end().unwrap();
    all.extend(after.in_order());
    assert_eq!(all, unbroken.in_order());
}

#[test]
fn state_finds_its_operator_again_wherever_chains_begin_and_end() {
    let job = |chaining: bool, seen: &Seen<String>| {
        let job = Job::new("test").chaining(chaining);
        let note = seen.clone();
        pairs(&job, "pairs")
            .filter(|_| true)
            .key_by(|pair| &pair.0)
            .process("everything", Everything)
            .map(|line| line)
            .for_each("seen", move |line| note.note(line));
        job.build().unwrap()
    };
    for chaining in [false, true] {
        let (before, after) = (Seen::new(), Seen::new());
        let (first, second) = (job(chaining, &before), job(!chaining, &after));
        assert_ne!(first.plan().nodes.len(), second.plan().nodes.len());
        let mut world = World::new(64);
        let mut running = world.start(&first, None).unwrap();
        for _ in 0..10 {
            running.step().unwrap();
        }
        let manifest = running.checkpoint(1).unwrap();
        world.start(&second, Some(manifest)).unwrap().run_to_end().unwrap();
        let mut all = [before.in_order(), after.in_order()].concat();
        assert!(!before.in_order().is_empty() && !after.in_order().is_empty());
        all.sort();
        assert_eq!(all, everything(6_000));
    }
}

#[test]
fn what_changes_after_the_cut_is_not_in_the_snapshot() {
    let seen = Seen::new();
    let graph = everything_job(1, &seen);
    let mut world = World::new(16);
    let mut running = world.start(&graph, None).unwrap();
    for _ in 0..10 {
        running.step().unwrap();
    }
    running.settle().unwrap();
    running.cut(1).unwrap();
    let before = seen.in_order();
    // The snapshot is written entry by entry while every entry changes.
    for _ in 0..20 {
        assert!(running.poll_snapshot(1, 1, 3).is_pending(), "three entries are not the whole table");
        running.step().unwrap();
    }
    let manifest = running.write(1).unwrap();
    assert!(seen.in_order().len() > before.len());
    drop(running);

    // The reader was cut at the same moment, so the restored job emits exactly the rest.
    let after = Seen::new();
    world.start(&everything_job(1, &after), Some(manifest)).unwrap().run_to_end().unwrap();
    let mut all = before;
    all.extend(after.in_order());
    all.sort();
    assert_eq!(all, everything(6_000));
}

#[test]
fn several_checkpoints_may_be_open_and_one_of_them_aborted() {
    let seen = Seen::new();
    let graph = everything_job(1, &seen);
    let mut world = World::new(16);
    let mut running = world.start(&graph, None).unwrap();
    let mut counts = Vec::new();
    for checkpoint in 1..=3 {
        for _ in 0..6 {
            running.step().unwrap();
        }
        running.settle().unwrap();
        running.cut(checkpoint).unwrap();
        counts.push(seen.in_order().len());
        assert!(running.poll_snapshot(1, checkpoint, 5).is_pending());
    }
    running.abort(2);
    running.do_work();
    let second = running.poll_snapshot(1, 2, 5);
    assert!(matches!(second, Poll::Ready(Err(_))), "an aborted checkpoint is not written any more");
    let manifest = running.write(3).unwrap();
    drop(running);
    let mut all = seen.in_order()[..counts[2]].to_vec();
    let after = Seen::new();
    world.start(&everything_job(1, &after), Some(manifest)).unwrap().run_to_end().unwrap();
    all.extend(after.in_order());
    all.sort();
    assert_eq!(all, everything(6_000));
}

#[test]
fn a_blob_that_was_finished_before_the_abort_came_is_deleted() {
    let seen = Seen::new();
    let graph = everything_job(1, &seen);
    let mut world = World::new(16);
    let mut running = world.start(&graph, None).unwrap();
    for _ in 0..6 {
        running.step().unwrap();
    }
    // Everything is written, and nobody has looked at the answer.
    running.settle().unwrap();
    running.cut(1).unwrap();
    assert!(running.poll_snapshot(1, 1, usize::MAX).is_pending());
    assert!(running.waiting_work() > 0);
    running.do_work();
    assert!(world.blobs() > 0);
    running.abort(1);
    running.do_work();
    assert_eq!(world.blobs(), 0);
}

#[test]
fn blobs_of_members_that_were_done_go_with_the_aborted_checkpoint() {
    let seen = Seen::new();
    let graph = everything_job(1, &seen);
    let mut world = World::new(1);
    let mut running = world.start(&graph, None).unwrap();
    for _ in 0..6 {
        running.step().unwrap();
    }
    running.settle().unwrap();
    running.cut(1).unwrap();
    assert!(running.poll_snapshot(1, 1, usize::MAX).is_pending());
    // The first piece is written, another still waits.
    running.do_some_work(1);
    assert!(running.poll_snapshot(1, 1, usize::MAX).is_pending());
    assert_eq!((world.blobs(), running.waiting_work()), (1, 1));
    running.abort(1);
    running.do_work();
    assert_eq!(world.blobs(), 0);
}

#[test]
fn a_damaged_piece_of_state_is_an_error_that_no_restart_mends() {
    let seen = Seen::new();
    let graph = everything_job(1, &seen);
    let mut world = World::new(1024 * 1024);
    let mut running = world.start(&graph, None).unwrap();
    for _ in 0..6 {
        running.step().unwrap();
    }
    let mut manifest = running.checkpoint(1).unwrap();
    for operator in manifest.subtasks.iter_mut().flat_map(|subtask| &mut subtask.operators) {
        if operator.uid.as_str() == "everything"
            && let PieceContent::Inline(bytes) = &mut operator.pieces[0].content
        {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }
    let failure = world.start(&graph, Some(manifest)).err().expect("the damage is found");
    assert_eq!(failure.origin, "everything");
    assert_eq!(failure.severity, alluvium_actors::ports::task::Severity::Unrecoverable);
}

#[test]
fn a_piece_that_another_subtask_wrote_is_found_and_not_passed_over() {
    let seen = Seen::new();
    let graph = everything_job(2, &seen);
    let mut world = World::new(1024 * 1024);
    let mut running = world.start(&graph, None).unwrap();
    for _ in 0..6 {
        running.step().unwrap();
    }
    let mut manifest = running.checkpoint(1).unwrap();
    for operator in manifest.subtasks.iter_mut().flat_map(|subtask| &mut subtask.operators) {
        if operator.uid.as_str() == "everything" {
            operator.subtask = 1 - operator.subtask;
        }
    }
    let failure = world.start(&graph, Some(manifest)).err().expect("the exchange is found");
    assert_eq!(failure.origin, "everything");
    assert_eq!(failure.severity, alluvium_actors::ports::task::Severity::Unrecoverable);
    assert!(failure.message.contains("does not belong to this"), "{failure}");
}

#[test]
fn asking_for_a_snapshot_that_was_not_cut_is_an_error() {
    let seen = Seen::new();
    let mut world = World::new(1024);
    let mut running = world.start(&everything_job(1, &seen), None).unwrap();
    assert!(matches!(running.poll_snapshot(1, 7, 1), Poll::Ready(Err(_))));
}
