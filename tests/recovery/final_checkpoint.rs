//! The last checkpoint, at the end of all input and at a stop: killed at every point of it and of the commit behind it, the output is exact.

use alluvium::testing::faults::Point;

use crate::killing::Victim;
use crate::random_kills::SecondJob;
use crate::seed::Seed;

/// Operations on files from the trigger of the last checkpoint to the end of the process.
const POINTS: [&str; 27] = [
    "during-append-blobs:1",
    "before-rename-blobs:1",
    "after-sync-directory-blobs:1",
    "before-sync-unprepared:1",
    "after-sync-unprepared:1",
    "before-rename-pending:1",
    "after-rename-pending:1",
    "after-rename-pending:2",
    "before-create-manifests:1",
    "during-append-manifests:1",
    "before-sync-manifests:1",
    "after-sync-manifests:1",
    "before-rename-manifests:1",
    "after-rename-manifests:1",
    "before-sync-directory-manifests:1",
    "after-sync-directory-manifests:1",
    "before-rename-output:1",
    "after-rename-output:1",
    "before-sync-directory-output:1",
    "after-sync-directory-output:1",
    "before-rename-output:2",
    "after-rename-output:2",
    "after-sync-directory-output:2",
    "before-remove-manifests:1",
    "after-remove-manifests:1",
    "before-remove-blobs:1",
    "after-remove-blobs:1",
];

/// The named points of the last checkpoint, and how often each is reached in it before the process ends.
const NAMED: [(Point, u64); 22] = [
    (Point::TriggerSent, 1),
    (Point::TriggerReceived, 2),
    (Point::BarrierSent, 1),
    (Point::BarrierMarked, 3),
    (Point::BarrierReceived, 2),
    (Point::AlignmentEnds, 1),
    (Point::SnapshotSynchronous, 4),
    (Point::SnapshotAsynchronous, 4),
    (Point::PreCommitBegins, 1),
    (Point::PreCommitted, 2),
    (Point::AcknowledgeSent, 4),
    (Point::AcknowledgeReceived, 1),
    (Point::AcknowledgeReceived, 7),
    (Point::ManifestWrite, 1),
    (Point::ManifestWritten, 1),
    (Point::ClosingSent, 1),
    (Point::ClosingReceived, 3),
    (Point::CommitSent, 1),
    (Point::CommitReceived, 2),
    (Point::CommitBegins, 2),
    (Point::CommitDone, 1),
    (Point::CommittedReceived, 1),
];

/// So many hundredths of their speed, and the sources are read at once.
const QUICK: u64 = 2_000;

fn every_piece_is_a_blob() -> Vec<String> {
    ["--memory-threshold", "0"].map(str::to_owned).to_vec()
}

fn quick_job(seed: &mut Seed, parallelism: u32) -> SecondJob {
    let mut job = SecondJob::new(seed, 10, parallelism);
    (job.speed, job.work, job.interval) = (QUICK, 10, 10);
    job.more = every_piece_is_a_blob();
    job
}

/// Kills there, then lets the job end. True if the process came there.
fn kill_in_the_last_checkpoint(job: &mut SecondJob, point: &str, how: &[&str]) -> bool {
    let ended = job.start_with(how).wait();
    let passed_by = ended.expect_success_or_kill(point);
    job.check().unwrap_or_else(|fault| panic!("killed at {point}: {fault}\n{}", ended.output));
    job.speed = QUICK;
    job.start().wait().expect_success(&format!("the start after {point}"));
    job.check_complete().unwrap_or_else(|fault| panic!("killed at {point}, in the end: {fault}"));
    let before = job.scratch.picture();
    let again = job.start().wait();
    again.expect_success("a start after the end");
    assert!(again.output.contains("Finished before"), "killed at {point}: {}", again.output);
    assert!(job.scratch.picture() == before, "killed at {point}: a start after the end changed a file");
    !passed_by
}

/// Kills a new job at each point. The last checkpoint has these points always, unless they begin as one of `perhaps`, or hold it behind a hyphen.
fn kill_at_every_point_of_the_last_checkpoint(make: impl Fn(&mut Seed) -> SecondJob, more: &[&str], perhaps: &[&str]) {
    let mut seed = Seed::draw("the last checkpoint");
    let files = POINTS.iter().map(|point| ("--kill-at", format!("final/{point}")));
    let named = NAMED.iter().map(|(point, hit)| ("--faults-in-last", format!("{point}[hit={hit}]=crash")));
    for (argument, point) in files.chain(named) {
        let reached = kill_in_the_last_checkpoint(&mut make(&mut seed), &point, &[more, &[argument, &point]].concat());
        let may_miss = perhaps.iter().any(|word| point.starts_with(word) || point.contains(&format!("-{word}")));
        assert!(reached || may_miss, "{point} is never reached");
    }
}

/// All output belongs to the last checkpoint, which is the only one.
fn kill_in_the_only_checkpoint(parallelism: u32) {
    let make = |seed: &mut Seed| SecondJob { interval: 0, ..quick_job(seed, parallelism) };
    kill_at_every_point_of_the_last_checkpoint(make, &[], &["remove-"]);
}

/// How much output is left for the last of several checkpoints, time decides: whether there is any to prepare and to commit.
const OUTPUT: [&str; 5] = ["unprepared:", "pending:", "output:", "commit.", "committed."];

#[test]
fn at_the_end_of_input_a_kill_at_every_point_of_the_only_checkpoint_is_survived() {
    kill_in_the_only_checkpoint(1);
}

#[test]
fn in_two_instances_a_kill_at_every_point_of_the_only_checkpoint_is_survived() {
    kill_in_the_only_checkpoint(2);
}

#[test]
fn at_the_end_of_input_a_kill_at_every_point_of_the_last_of_several_checkpoints_is_survived() {
    let make = |seed: &mut Seed| quick_job(seed, 2);
    // Also whether there is a checkpoint before it that has to be removed.
    kill_at_every_point_of_the_last_checkpoint(make, &[], &[&OUTPUT[..], &["remove-"]].concat());
}

#[test]
fn at_a_stop_a_kill_at_every_point_of_its_checkpoint_is_survived() {
    let make = |seed: &mut Seed| {
        let parallelism = 1 + seed.next() % 2;
        // Far from its end when it is stopped.
        let job = SecondJob::new(seed, 400, parallelism as u32);
        SecondJob { speed: 4, work: 10, interval: 10, more: every_piece_is_a_blob(), ..job }
    };
    kill_at_every_point_of_the_last_checkpoint(make, &["--stop-after", "2"], &OUTPUT);
}
