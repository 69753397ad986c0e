//! The second job, killed around every kind of operation on a file: between the named points of `named_points.rs`, also where bytes are half written.
//! `second_job/kill.rs` says how such a place is written.

use crate::killing::Victim;
use crate::matrix::Setting;
use crate::random_kills::SecondJob;
use crate::seed::Seed;

/// Points that only the first start has: the store and the directories are new.
const FIRST_START: [&str; 6] = [
    "after-create-runs:1",
    "during-append-runs:1",
    "before-sync-directory-runs:1",
    "before-rename-owner:1",
    "after-rename-owner:1",
    "after-rename-owner:2",
];

/// Points of every start, and of every checkpoint while records flow.
const WHILE_RUNNING: [&str; 44] = [
    // A run begins: its record comes before everything else.
    "before-create-runs:1",
    "during-append-runs:1",
    "before-sync-runs:1",
    "after-sync-runs:1",
    "before-rename-runs:1",
    "after-rename-runs:1",
    "after-sync-directory-runs:2",
    // A piece of state is written.
    "before-create-blobs:1",
    "during-append-blobs:1",
    "before-sync-blobs:1",
    "after-sync-blobs:2",
    "before-rename-blobs:1",
    "after-rename-blobs:2",
    "before-sync-directory-blobs:1",
    "after-sync-directory-blobs:3",
    // A file of lines is written and prepared.
    "after-create-unprepared:1",
    "during-append-unprepared:1",
    "during-append-unprepared:4",
    "before-sync-unprepared:1",
    "after-sync-unprepared:2",
    "before-rename-pending:1",
    "after-rename-pending:1",
    "after-rename-pending:3",
    // The manifest is published: the one commit point.
    "before-create-manifests:2",
    "during-append-manifests:1",
    "after-append-manifests:2",
    "before-sync-manifests:1",
    "after-sync-manifests:2",
    "before-rename-manifests:1",
    "before-rename-manifests:3",
    "after-rename-manifests:1",
    "after-rename-manifests:2",
    "before-sync-directory-manifests:2",
    "after-sync-directory-manifests:3",
    // What was prepared is committed.
    "before-rename-output:1",
    "before-rename-output:2",
    "after-rename-output:1",
    "after-rename-output:3",
    "before-sync-directory-output:2",
    "after-sync-directory-output:5",
    // The checkpoint before it is removed, manifest first.
    "before-remove-manifests:1",
    "after-remove-manifests:2",
    "before-remove-blobs:1",
    "after-remove-blobs:3",
];

/// A job that takes long enough to be killed at any point. It was killed once: some points need what an earlier start left behind.
fn long_job(seed: &mut Seed, parallelism: u32, setting: Setting) -> SecondJob {
    let mut job = SecondJob::long(seed, parallelism).with(setting, seed);
    assert!(kill_at(&mut job, "after-sync-directory-manifests:2", seed), "a long job has several checkpoints");
    job
}

fn kill_at_every_point(parallelism: u32, setting: Setting) {
    let mut seed = Seed::draw("every point");
    let mut points = WHILE_RUNNING;
    for last in (1..points.len()).rev() {
        points.swap(last, seed.within(0..last as u64 + 1) as usize);
    }
    for first in FIRST_START {
        let mut job = SecondJob::new(&mut seed, 1, parallelism).with(setting, &mut seed);
        assert!(kill_at(&mut job, first, &mut seed), "{first} is never reached");
        finish(&mut job, &mut seed);
    }
    let mut job = long_job(&mut seed, parallelism, setting);
    for point in points {
        if kill_at(&mut job, point, &mut seed) {
            continue;
        }
        // After many starts it came to its end: a new one has a longer way in front of it than anybody waits.
        job.check_complete().unwrap_or_else(|fault| panic!("in the end: {fault}"));
        job = long_job(&mut seed, parallelism, setting);
        assert!(kill_at(&mut job, point, &mut seed), "{point} is never reached");
    }
    finish(&mut job, &mut seed);
}

/// Whether the job was killed there, and not at its end before.
fn kill_at(job: &mut SecondJob, point: &str, seed: &mut Seed) -> bool {
    job.change(seed);
    let ended = job.start_with(&["--kill-at", point]).wait();
    let finished = ended.expect_success_or_kill(point);
    job.check().unwrap_or_else(|fault| panic!("killed at {point}: {fault}\n{}", ended.output));
    !finished
}

fn finish(job: &mut SecondJob, seed: &mut Seed) {
    job.hurry();
    job.change(seed);
    job.start().wait().expect_success("the start after the last kill");
    job.check_complete().unwrap_or_else(|fault| panic!("in the end: {fault}"));
    job.scratch.check_tidy();
}

#[test]
fn the_second_job_survives_a_kill_around_every_operation_on_a_file() {
    kill_at_every_point(1, Setting::Usual);
}

#[test]
fn the_second_job_in_two_instances_survives_a_kill_around_every_operation_on_a_file() {
    kill_at_every_point(2, Setting::Usual);
}

#[test]
fn the_second_job_survives_a_kill_around_every_operation_on_a_file_while_barriers_overtake() {
    kill_at_every_point(2, Setting::Overtaking);
}

#[test]
fn the_second_job_survives_a_kill_around_every_operation_on_a_file_with_increments() {
    kill_at_every_point(2, Setting::Incremental);
}

#[test]
fn the_second_job_survives_a_kill_around_every_operation_on_a_file_and_goes_on_at_other_parallelisms() {
    kill_at_every_point(1, Setting::Rescaled);
}
