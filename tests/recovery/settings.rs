//! The second job in other settings, ended at named points: where records may count again, and with a second region beside it.

use crate::killing::Victim;
use crate::oracle::ApartOracle;
use crate::random_kills::SecondJob;
use crate::seed::Seed;

fn job(seed: &mut Seed, more: &[&str]) -> SecondJob {
    let mut job = SecondJob::new(seed, 100, 2);
    (job.speed, job.interval) = (50, 15);
    job.more = more.iter().map(|more| (*more).to_owned()).collect();
    job
}

/// Where a process ends, as often as there are.
const ENDS: [&str; 8] = [
    "completion.received[hit=20]=crash",
    "alignment.begins[hit=9]=crash",
    "barrier.marked[hit=30]=crash",
    "acknowledge.received[hit=12]=crash",
    "manifest.write[hit=3]=crash",
    "manifest.written[hit=2]=crash",
    "commit.begins[hit=4]=crash",
    "commit.done[hit=3]=crash",
];

#[test]
fn at_least_once_every_record_is_out_in_the_end_whatever_ends_the_process() {
    let mut seed = Seed::draw("at least once");
    let mut job = job(&mut seed, &["--at-least-once"]);
    let mut ends = 0;
    for end in ENDS {
        let ended = job.start_with_faults(&[], end).wait();
        ends += usize::from(!ended.expect_success_or_kill(end));
    }
    assert!(ends >= 4, "the job was ended {ends} times only");
    job.speed = 1_000;
    job.start().wait().expect_success("the start after the last end");
    let again = job.oracle.check_at_least_once().unwrap();
    println!("{again} records came again");
    job.scratch.check_tidy();
}

/// So many records has the second region.
const APART: u64 = 5_000;

#[test]
fn two_regions_are_exact_when_one_restarts_and_then_the_process_ends() {
    let mut seed = Seed::draw("two regions");
    let mut job = job(&mut seed, &["--apart", &APART.to_string()]);
    let mut apart = ApartOracle::new(APART, &job.scratch.output());
    let mut ends = 0;
    for (number, end) in ENDS.into_iter().enumerate() {
        // One region fails and is restored alone, in turns the one and the other.
        let first = ["counting apart", "join"][number % 2];
        let faults = format!("snapshot.synchronous[operator={first},hit=2]=panic; {end}");
        let ended = job.start_with_faults(&[], &faults).wait();
        ends += usize::from(!ended.expect_success_or_kill(&faults));
        job.check().unwrap_or_else(|fault| panic!("{faults}: {fault}"));
        apart.check(false).unwrap_or_else(|fault| panic!("{faults}: {fault}"));
    }
    assert!(ends >= 4, "the job was ended {ends} times only");
    job.speed = 1_000;
    job.start().wait().expect_success("the start after the last end");
    job.check_complete().unwrap();
    apart.check(true).unwrap();
    job.scratch.check_tidy();
}
