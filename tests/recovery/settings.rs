//! The second job in other settings, ended at named points: where records may count again, and with a second region beside it.

use alluvium::testing::faults::{Fault, FaultPlan, Point};

use crate::child::{Ended, PATIENCE};
use crate::input;
use crate::killing::Victim;
use crate::oracle::ApartOracle;
use crate::random_kills::SecondJob;
use crate::seed::Seed;

fn job(seed: &mut Seed, more: &[&str]) -> SecondJob {
    let mut job = SecondJob::long(seed, 2);
    job.more.extend(more.iter().map(|more| (*more).to_owned()));
    job
}

/// Where a process ends, and the how many-th time that it comes there: some checkpoints are complete by then. A region that fails in the first one is back.
const ENDS: [(Point, u64); 8] = [
    (Point::CompletionReceived, 40),
    (Point::BarrierArrived, 90),
    (Point::BarrierMarked, 90),
    (Point::AcknowledgeReceived, 60),
    (Point::ManifestWrite, 3),
    (Point::ManifestWritten, 2),
    (Point::CommitReceived, 4),
    (Point::CommittedReceived, 3),
];

/// Ends that come at the latest with the first checkpoint that prepares something, and before if a restore commits again what the last process left.
const EARLY_ENDS: [(Point, u64); 2] = [(Point::CommitBegins, 2), (Point::CommitDone, 1)];

/// Lets the job run to such an end, behind other faults.
fn end_at(job: &SecondJob, before: &str, (point, hit): (Point, u64)) -> Ended {
    let before: FaultPlan = before.parse().expect("a plan");
    let plan = before.and(Fault::crash(point).hit(hit)).to_string();
    let ended = job.start_with_faults(&[], &plan).wait();
    assert!(ended.was_ended_at(point), "{plan}: {}\n{}\n{}", ended.status, ended.output, ended.errors);
    ended
}

#[test]
fn at_least_once_every_record_is_out_in_the_end_whatever_ends_the_process() {
    let mut seed = Seed::draw("at least once");
    let mut job = job(&mut seed, &["--at-least-once"]);
    for end in ENDS.into_iter().chain(EARLY_ENDS) {
        end_at(&job, "", end);
    }
    job.hurry();
    job.start().wait().expect_success("the start after the last end");
    let again = job.oracle.check_at_least_once().unwrap();
    println!("{again} records came again");
    job.scratch.check_tidy();
}

/// So many records has the second region: it lasts as long as the first one.
const APART: u64 = input::RATE_APART / 10 * 2 * PATIENCE.as_secs();

/// That one region failed and was restored, and only that one: its operators, and checkpoints of the whole job behind it.
fn expect_restart_of(operator: &str, others: &str, ended: &Ended) {
    let told = &ended.output;
    let restarts: Vec<&str> = told.lines().filter(|line| line.starts_with("restarting")).collect();
    let [restart] = restarts.as_slice() else { panic!("{} restarts instead of one:\n{told}", restarts.len()) };
    assert!(restart.contains(operator) && !restart.contains(others), "`{restart}`:\n{told}");
    assert!(!told.contains("restarting the job"), "the other region did not run on:\n{told}");
    let behind = told.split_once(restart).map_or("", |(_, behind)| behind);
    assert!(behind.contains("\ncompleted"), "no checkpoint is complete after the restart:\n{told}");
}

#[test]
fn two_regions_are_exact_when_one_restarts_and_then_the_process_ends() {
    let mut seed = Seed::draw("two regions");
    let mut job = job(&mut seed, &["--apart", &APART.to_string()]);
    let mut apart = ApartOracle::new(APART, &job.scratch.output());
    for (number, end) in ENDS.into_iter().chain(EARLY_ENDS).enumerate() {
        // One region fails in its first checkpoint and is restored alone, in turns the one and the other.
        let regions = ["counting apart", "join"];
        let (fails, runs_on) = (regions[number % 2], regions[(number + 1) % 2]);
        let ended = end_at(&job, &format!("snapshot.synchronous[operator={fails},hit=2]=panic"), end);
        if ENDS.contains(&end) {
            expect_restart_of(fails, runs_on, &ended);
        }
        job.check().unwrap_or_else(|fault| panic!("{fails}, {end:?}: {fault}"));
        apart.check(false).unwrap_or_else(|fault| panic!("{fails}, {end:?}: {fault}"));
    }
    job.hurry();
    job.start().wait().expect_success("the start after the last end");
    job.check_complete().unwrap();
    apart.check(true).unwrap();
    job.scratch.check_tidy();
}
