//! Jobs that end themselves, as by SIGKILL, at every named point that there is: the faults come from the environment of the process.
//!
//! That every point is reached depends on no clock: a job goes on for longer than anybody waits for it, what has to go wrong before goes wrong every time, and every piece of
//! state is a blob.

use alluvium::testing::faults::{Action, Fault, FaultPlan, Point};

use crate::child::{Ended, PATIENCE, Process, program};
use crate::flights::{Flights, real_input};
use crate::killing::Victim;
use crate::matrix::Setting;
use crate::random_kills::SecondJob;
use crate::seed::Seed;

/// How a point is reached.
struct Way {
    /// What has to go wrong before, every time: a job may have other reasons not to complete a checkpoint.
    before: &'static str,
    /// Whether checkpoints are given up soon. Elsewhere they are not: on a slow machine none would be complete.
    gives_up: bool,
    /// Only a job that begins anew, or one that ends, comes there: a short one does both.
    short: bool,
    /// Each start comes there as often at least.
    hits: u64,
}

fn way(point: Point) -> Way {
    let often = Way { before: "", gives_up: false, short: false, hits: 3 };
    match point {
        Point::RunBegins | Point::RunBegan | Point::IdsReserved | Point::RestoreManifest => Way { hits: 1, ..often },
        Point::RestoreSink | Point::RestoreEnumerator | Point::RestoreSubtask | Point::SinkCleanUp => {
            Way { hits: 1, ..often }
        }
        Point::RestoreBlob | Point::RestoredSent | Point::RestoredReceived => Way { hits: 1, ..often },
        // A job that keeps local copies reads them when it restarts: here behind some checkpoints of its own.
        Point::LocalRead => Way { before: "snapshot.synchronous[operator=join,hit=9]=error", hits: 1, ..often },
        Point::SplitsSent | Point::SplitsReceived => Way { short: true, hits: 1, ..often },
        Point::DeclineSent | Point::DeclineReceived => {
            Way { before: "snapshot.asynchronous[hit=4,always]=error", hits: 1, ..often }
        }
        Point::AbortSent | Point::AbortReceived | Point::BlobsDelete => {
            // One subtask is not heard, the others were: their blobs are of no use.
            Way { before: "acknowledge.sent[operator=rare,always]=drop", gives_up: true, hits: 1, ..often }
        }
        Point::ManifestReadBack => Way { before: "manifest.written[always]=error", hits: 1, ..often },
        Point::EndOfDataSent | Point::EndOfDataReceived => Way { short: true, hits: 2, ..often },
        Point::ClosingSent | Point::ClosingReceived => Way { short: true, hits: 2, ..often },
        _ => often,
    }
}

/// The points at which a process may end, in the order of the seed.
fn points(seed: &mut Seed) -> Vec<Point> {
    let mut points: Vec<Point> =
        Point::ALL.iter().copied().filter(|point| point.actions().contains(Action::Crash)).collect();
    for last in (1..points.len()).rev() {
        points.swap(last, seed.within(0..last as u64 + 1) as usize);
    }
    points
}

/// A job that is ended where its environment says.
trait Armed: Victim {
    fn start_armed(&self, faults: &str, gives_up: bool) -> Process;

    fn setting(&self) -> Setting;

    /// From now on it comes to its end as fast as it can.
    fn hurry(&mut self);
}

impl Armed for SecondJob {
    fn start_armed(&self, faults: &str, gives_up: bool) -> Process {
        let more: &[&str] = if gives_up { &["--timeout", "300"] } else { &[] };
        self.start_with_faults(more, faults)
    }

    fn setting(&self) -> Setting {
        self.setting
    }

    fn hurry(&mut self) {
        SecondJob::hurry(self);
    }
}

impl Armed for Flights {
    fn start_armed(&self, faults: &str, gives_up: bool) -> Process {
        assert!(!gives_up, "flights give a checkpoint up after ten minutes");
        self.start_with_faults(faults)
    }

    fn setting(&self) -> Setting {
        self.setting
    }

    fn hurry(&mut self) {
        self.rate = 1_000_000_000;
    }
}

/// Whether the job ended there, and not well before.
fn end_at(job: &mut impl Armed, point: Point, hit: u64, seed: &mut Seed) -> bool {
    let Way { before, gives_up, .. } = way(point);
    let plan: FaultPlan = before.parse().unwrap();
    let plan = plan.and(Fault::crash(point).hit(hit)).to_string();
    job.change(seed);
    let ended = job.start_armed(&plan, gives_up).wait();
    if !ended.expect_success_or_kill(&plan) {
        assert!(ended.was_ended_at(point), "{plan}: it was killed, and not by its fault\n{}", ended.errors);
    }
    job.check().unwrap_or_else(|fault| panic!("{plan}: {fault}\n{}", ended.output));
    ended.was_killed()
}

/// Ends a job at every point, one start after the other. `long` makes one that has been running, `short` one that comes to its end.
fn end_at_every_point<J: Armed>(
    seed: &mut Seed,
    long: impl Fn(&mut Seed) -> J,
    short: impl Fn(&mut Seed) -> J,
    never: &[Point],
) {
    let mut job = long(seed);
    for point in points(seed) {
        let Way { short: is_short, hits, .. } = way(point);
        if never.contains(&point) || !job.setting().reaches(point) {
            continue;
        }
        let hit = 1 + seed.next() % hits;
        if is_short {
            let mut short = short(seed);
            assert!(end_at(&mut short, point, hit, seed), "{point} is never reached");
            finish(&mut short, point, seed);
            continue;
        }
        if !end_at(&mut job, point, hit, seed) {
            // After many starts it came to its end: a new one has a longer way in front of it than anybody waits.
            job.check_complete().unwrap_or_else(|fault| panic!("{point}, in the end: {fault}"));
            job = long(seed);
            assert!(end_at(&mut job, point, 1, seed), "{point} is never reached");
        }
    }
    finish(&mut job, Point::RunBegins, seed);
}

fn finish(job: &mut impl Armed, last: Point, seed: &mut Seed) {
    job.hurry();
    job.change(seed);
    job.start_armed("", false).wait().expect_success("the start after the last fault");
    job.check_complete().unwrap_or_else(|fault| panic!("{last}, in the end: {fault}"));
    job.scratch().check_tidy();
}

/// A second job that was ended once with checkpoints behind it: a restore needs what an earlier start left behind.
fn long_second_job(seed: &mut Seed, parallelism: u32, setting: Setting) -> SecondJob {
    let mut job = SecondJob::long(seed, parallelism).with(setting, seed);
    assert!(end_at(&mut job, Point::CompletionReceived, 12, seed), "a long job has several checkpoints");
    job
}

fn short_second_job(seed: &mut Seed, parallelism: u32, setting: Setting) -> SecondJob {
    let mut job = SecondJob::new(seed, 10, parallelism).with(setting, seed);
    (job.speed, job.work, job.interval) = (2_000, 10, 10);
    job.more = ["--memory-threshold", "0"].map(str::to_owned).to_vec();
    job
}

fn end_the_second_job(test: &str, parallelism: u32, setting: Setting) {
    let mut seed = Seed::draw(test);
    let long = |seed: &mut Seed| long_second_job(seed, parallelism, setting);
    let short = |seed: &mut Seed| short_second_job(seed, parallelism, setting);
    end_at_every_point(&mut seed, long, short, &[]);
}

#[test]
fn the_second_job_survives_its_end_at_every_named_point() {
    end_the_second_job("named points, one instance", 1, Setting::Usual);
}

#[test]
fn the_second_job_in_two_instances_survives_its_end_at_every_named_point() {
    end_the_second_job("named points, two instances", 2, Setting::Usual);
}

#[test]
fn the_second_job_survives_its_end_at_every_named_point_while_barriers_overtake() {
    end_the_second_job("named points, overtaking", 2, Setting::Overtaking);
}

#[test]
fn the_second_job_survives_its_end_at_every_named_point_while_barriers_begin_to_overtake_after_a_time() {
    end_the_second_job("named points, switching", 2, Setting::Switching);
}

#[test]
fn the_second_job_survives_its_end_at_every_named_point_with_increments() {
    end_the_second_job("named points, incremental", 2, Setting::Incremental);
}

#[test]
fn the_second_job_survives_its_end_at_every_named_point_and_goes_on_at_other_parallelisms() {
    end_the_second_job("named points, rescaled", 1, Setting::Rescaled);
}

#[test]
fn the_second_job_with_local_copies_survives_its_end_at_every_named_point() {
    end_the_second_job("named points, local copies", 2, Setting::LocalCopies);
}

fn new_flights(seed: &mut Seed, text: &str, parallelism: u32, setting: Setting) -> Flights {
    let mut flights = Flights::new(text, "flights.csv", parallelism).with(setting, seed);
    (flights.interval, flights.memory_threshold) = (seed.within(10..30), Some(0));
    flights
}

fn end_flights(test: &str, parallelism: u32, setting: Setting) {
    let mut seed = Seed::draw(test);
    let text = real_input();
    let start: String = text.split_inclusive('\n').take(3_000).collect();
    // Several times the same flights, in twice the time that anybody waits.
    let (header, rows) = text.split_once('\n').expect("a header");
    let text = format!("{header}\n{}", rows.repeat(4));
    let rate = text.lines().count() as u64 / (2 * PATIENCE.as_secs());
    let long = |seed: &mut Seed| {
        let mut flights = new_flights(seed, &text, parallelism, setting);
        flights.rate = rate;
        assert!(end_at(&mut flights, Point::CompletionReceived, 4, seed), "flights have several checkpoints");
        flights
    };
    let short = |seed: &mut Seed| new_flights(seed, &start, parallelism, setting);
    // A checkpoint that loses its acknowledgements is given up after ten minutes. One file is one channel: there may be nothing to overtake.
    let never = [Point::AbortSent, Point::AbortReceived, Point::BlobsDelete, Point::CaptureEnds];
    end_at_every_point(&mut seed, long, short, &never);
}

#[test]
fn flights_survive_their_end_at_every_named_point_but_those_of_a_checkpoint_that_is_given_up() {
    end_flights("flights at named points, one instance", 1, Setting::Usual);
}

#[test]
fn flights_in_two_instances_survive_their_end_at_every_named_point_but_those_of_a_checkpoint_that_is_given_up() {
    end_flights("flights at named points, two instances", 2, Setting::Usual);
}

#[test]
fn flights_survive_their_end_at_named_points_while_barriers_overtake() {
    end_flights("flights at named points, overtaking", 2, Setting::Overtaking);
}

#[test]
fn flights_survive_their_end_at_named_points_with_increments() {
    end_flights("flights at named points, incremental", 2, Setting::Incremental);
}

#[test]
fn flights_survive_their_end_at_named_points_and_go_on_at_other_parallelisms() {
    end_flights("flights at named points, rescaled", 1, Setting::Rescaled);
}

fn refused(faults: &str, says: &[&str]) {
    let text: String = real_input().split_inclusive('\n').take(100).collect();
    let flights = Flights::new(&text, "flights.csv", 1);
    let ended: Ended = flights.start_with_faults(faults).wait();
    ended.expect_error(says);
    assert!(!flights.scratch.store().exists(), "nothing was begun");
}

#[test]
fn a_variable_that_is_no_plan_of_faults_refuses_the_start_and_says_why() {
    refused("manifest.written=explode", &["ALLUVIUM_FAULTS", "explode", "crash, kill, error"]);
    refused("no.such.point=crash", &["ALLUVIUM_FAULTS", "no.such.point"]);
    refused("barrier.sent=error", &["ALLUVIUM_FAULTS", "possible are"]);
    refused("commit.done=crash(machine)", &["commit.done=crash(machine)", "simulated"]);
}

#[test]
fn a_program_that_was_built_without_the_feature_has_no_faults() {
    let text: String = real_input().split_inclusive('\n').take(500).collect();
    let mut flights = Flights::new(&text, "flights.csv", 1);
    let bytes = |program| std::fs::read(program).expect("a program can be read");
    let names = |bytes: &[u8]| bytes.windows(b"ALLUVIUM_FAULTS".len()).any(|bytes| bytes == b"ALLUVIUM_FAULTS");
    assert!(names(&bytes(crate::child::armed_program("flights"))));
    assert!(!names(&bytes(program("flights"))), "the variable is not even named in it");
    let ended = flights.start_plain("run.begins=crash").wait();
    ended.expect_success("nobody reads the variable");
    flights.check_complete().unwrap();
}
