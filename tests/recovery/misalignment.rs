//! The proof of the proof: with alignment switched off, the oracle finds records that count twice.

use crate::killing::Victim;
use crate::oracle::Verdict;
use crate::random_kills::SecondJob;
use crate::seed::Seed;

/// Kills the job ten times, each time after a checkpoint, and gives the first fault.
fn ten_kills(job: &mut SecondJob, more: &[&str]) -> Verdict {
    for kill in 1..=10 {
        let mut process = job.start_with(more);
        assert!(process.wait_for("completed", 2), "the job does not end before");
        process.kill().expect_success_or_kill("a kill after a checkpoint");
        job.check().map_err(|fault| format!("kill {kill}: {fault}"))?;
    }
    job.hurry();
    job.start_with(more).wait().expect_success("the start after the last kill");
    job.check_complete()
}

/// A job whose slow side always has a queue in front of its barriers: more comes in there than is done.
fn skewed(seed: &mut Seed, parallelism: u32) -> SecondJob {
    let mut job = SecondJob::long(seed, parallelism);
    (job.work, job.interval) = (40_000, 20);
    job
}

#[test]
fn without_alignment_ten_kills_find_records_that_count_twice() {
    for parallelism in [1, 2] {
        let mut seed = Seed::draw("without alignment");
        let mut job = skewed(&mut seed, parallelism);
        let fault = ten_kills(&mut job, &["--without-alignment"]).expect_err("the oracle must notice");
        println!("parallelism {parallelism}: {fault}");
    }
}

#[test]
fn with_alignment_the_same_job_is_exact() {
    let mut seed = Seed::draw("with alignment");
    ten_kills(&mut skewed(&mut seed, 2), &[]).unwrap();
}
