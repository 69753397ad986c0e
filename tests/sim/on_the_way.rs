//! Faults at points, one mechanism at a time: what is late keeps its place, work that stands still holds up its own queue only, whoever is killed is replaced.

use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::testing::faults::Point;
use alluvium::testing::simulation::{Boot, Faults, Next, Report, Scenario, Simulation, Trouble, World};
use alluvium::{CheckpointId, Job, JobState, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::protocol::mutation::{self, Mutation};

use crate::second_job::SecondJob;

const NUMBERS: u64 = 30;

/// A job with every kind of actor: sources, operators with state behind an exchange, a sink.
struct Tale {
    sums: Collect<u64>,
    /// Ends the run with an error, so that its story can be read: when this checkpoint is complete, or with the job. A story has its last lines only.
    tells: Option<CheckpointId>,
}

const TOLD: &str = "the tale is told";

/// Told from its beginning to its end.
const TO_THE_END: u64 = u64::MAX;

impl Scenario for Tale {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("tale").parallelism(2);
        let numbers = Generator::bounded(NUMBERS, |index| index).splits(2).rate(1_000);
        let sums = job.source("numbers", numbers).key_by_value(|number| number % 5).aggregate(
            "sum",
            0_u64,
            |_, sum, number| {
                *sum += 1;
                number * 100 + *sum
            },
        );
        sums.sink("sums", self.sums.clone());
        let graph = job.build().map_err(|errors| errors.to_string())?;
        let options = Options::default()
            .store("/store")
            .inline_limit(0)
            .checkpoint_every(Duration::from_millis(10))
            .continue_on_checkpoint_errors();
        boot.setup(&graph, &options, None).map_err(|error| error.to_string())
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        if self.tells.is_some() && world.complete >= self.tells { Err(TOLD.to_owned()) } else { Ok(()) }
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        let mut collected: Vec<u64> = self.sums.collected().iter().map(|sum| sum / 100).collect();
        collected.sort_unstable();
        if world.state != JobState::Finished || !collected.iter().copied().eq(0..NUMBERS) {
            return Err(format!("the job is {} with {collected:?}", world.state));
        }
        if self.tells.is_some() { Err(TOLD.to_owned()) } else { Ok(Next::Nothing) }
    }
}

fn simulation(seed: u64, plan: &str) -> Simulation {
    Simulation::new(seed).with(Faults::Points(plan.parse().expect("a plan")))
}

/// What a run with these faults comes to; the fault must strike.
fn run(seed: u64, plan: &str) -> Report {
    let build = || Tale { sums: Collect::new(), tells: None };
    let report = simulation(seed, plan).run_twice(build).unwrap_or_else(|trouble| panic!("{trouble}"));
    assert_eq!(report.unstruck, [""; 0], "seed {seed}");
    report
}

/// The last lines of such a run until a checkpoint is complete: the time in milliseconds, and what happened.
fn story(seed: u64, plan: &str, until: u64) -> Vec<(f64, String)> {
    let mut tale = Tale { sums: Collect::new(), tells: Some(CheckpointId(until)) };
    let trouble: Trouble = simulation(seed, plan).run(&mut tale).expect_err("it tells");
    assert_eq!(trouble.reason(), TOLD, "{trouble}");
    let lines = trouble.story().lines().filter_map(|line| {
        let (time, what) = line.split_once(" ms ")?;
        Some((time.trim().parse().ok()?, what.trim().to_owned()))
    });
    lines.collect()
}

/// Where a line that holds all of these words stands, from a position on.
fn find(story: &[(f64, String)], from: usize, words: &[&str]) -> Option<usize> {
    let found = story[from..].iter().position(|(_, line)| words.iter().all(|word| line.contains(word)));
    found.map(|found| from + found)
}

fn told(story: &[(f64, String)]) -> String {
    story.iter().map(|(time, line)| format!("{time:>12.6} {line}\n")).collect()
}

/// The checkpoints of the messages that a source gets from the coordinator, in the order in which they reach it.
fn heard_by_the_source(story: &[(f64, String)]) -> Vec<(String, u64)> {
    let lines =
        story.iter().filter(|(_, line)| line.starts_with("numbers") && line.contains("[0] (attempt 1) receives"));
    lines
        .filter_map(|(_, line)| {
            let message = line.split("receives ").nth(1)?;
            let kind = message.split([' ', '(', '{']).next()?.to_owned();
            let number = message.split("heckpoint").skip(1).find_map(|rest| {
                let digits: String =
                    rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            });
            Some((kind, number?))
        })
        .collect()
}

#[test]
fn a_late_message_keeps_its_place_between_its_sender_and_its_receiver() {
    for plan in [
        "completion.sent[operator=numbers,subtask=0]=delay(30ms)",
        "completion.received[operator=numbers,subtask=0]=delay(30ms)",
        "completion.sent[operator=numbers,subtask=0]=hold(end-of-data.sent)",
        "completion.received[operator=numbers,subtask=0]=hold(end-of-data.sent)",
    ] {
        for seed in 0..8 {
            run(seed, plan);
            let story = story(seed, plan, 2);
            let struck = find(&story, 0, &["** at completion."]).unwrap_or_else(|| panic!("{plan}\n{}", told(&story)));
            let late = find(&story, struck, &["numbers", "[0] (attempt 1)", "receives Completed"]).expect("it arrives");
            if plan.contains("delay") {
                assert!(story[late].0 - story[struck].0 >= 29.999, "{plan}\n{}", told(&story));
            }
            // What the coordinator said after it is not heard before it: the triggers of later checkpoints among it.
            let heard = heard_by_the_source(&story[struck..]);
            assert!(
                heard.iter().any(|(kind, _)| kind == "Trigger"),
                "{plan}, seed {seed}: {heard:?}\n{}",
                told(&story)
            );
            let checkpoints: Vec<u64> = heard.iter().filter(|(kind, _)| kind == "Completed").map(|(_, n)| *n).collect();
            assert!(checkpoints.is_sorted(), "{plan}, seed {seed}: {heard:?}\n{}", told(&story));
            let first = heard.iter().position(|(kind, _)| kind == "Trigger");
            let completed = heard.iter().position(|(kind, _)| kind == "Completed");
            assert!(
                first.is_none_or(|first| completed < Some(first)),
                "{plan}, seed {seed}: {heard:?}\n{}",
                told(&story)
            );
        }
    }
}

#[test]
fn a_message_that_is_lost_does_not_arrive_and_one_that_is_doubled_arrives_twice() {
    // How often the source is told of the first checkpoint.
    let told = |plan: &str, seed| {
        let reached = run(seed, plan).places.into_iter().filter(|(place, _)| {
            place.point == Point::TriggerReceived && place.subtask == Some(0) && place.checkpoint == Some(1)
        });
        reached.map(|(_, times)| times).sum::<u64>()
    };
    for seed in 0..8 {
        assert_eq!(told("run.begins=delay(1us)", seed), 1);
        assert_eq!(told("trigger.sent[operator=numbers,subtask=0,checkpoint=1]=drop", seed), 0);
        assert_eq!(told("trigger.sent[operator=numbers,subtask=0,checkpoint=1]=duplicate", seed), 2);
    }
}

#[test]
fn work_that_stands_still_holds_up_its_own_queue_and_nobody_else() {
    let mut others = 0;
    for seed in 0..8 {
        let plan = "manifest.write[hit=2]=delay(40ms)";
        run(seed, plan);
        let story = story(seed, plan, TO_THE_END);
        let Some(struck) = find(&story, 0, &["** at manifest.write"]) else { panic!("{}", told(&story)) };
        let stands = find(&story, struck, &["Metadata work stands still"]).expect("it stands");
        let goes_on = find(&story, stands, &["at manifest.written"]).expect("it goes on");
        assert!(story[goes_on].0 - story[struck].0 >= 39.999, "{}", told(&story));
        // Others go on meanwhile, if they have anything to do, and no other work of this queue is done.
        others += u64::from(find(&story[..goes_on], stands, &["(attempt 1)"]).is_some());
        assert_eq!(find(&story[..goes_on], stands, &["Metadata work is done"]), None, "{}", told(&story));
    }
    assert!(others > 0, "nobody did anything meanwhile");
}

#[test]
fn held_work_goes_on_when_the_point_that_releases_it_is_reached() {
    for seed in 0..8 {
        let plan = "blob.write[hit=3]=hold(trigger.sent)";
        run(seed, plan);
        let story = story(seed, plan, TO_THE_END);
        let struck = find(&story, 0, &["** at blob.write"]).unwrap_or_else(|| panic!("{}", told(&story)));
        let released = find(&story, struck, &["at trigger.sent"]);
        let goes_on = find(&story, struck, &["at blob.sync"]).expect("it goes on");
        // Nothing but the release, or five seconds.
        let waited = story[goes_on].0 - story[struck].0;
        assert!(released.is_some_and(|released| released < goes_on) || waited >= 4_999.0, "{}", told(&story));
    }
}

#[test]
fn a_crash_ends_work_that_stands_still_and_the_next_process_begins_without_it() {
    for seed in 0..8 {
        let report = run(seed, "manifest.write[hit=2]=hold(restore.manifest); end-of-data.sent=crash(process)");
        assert_eq!((report.processes, report.crashes), (2, 1), "seed {seed}");
    }
}

#[test]
fn an_actor_that_stands_still_twice_stands_still_for_both_times() {
    for seed in 0..8 {
        let plan = "snapshot.synchronous[operator=sum,subtask=0]=delay(20ms); snapshot.asynchronous[operator=sum,subtask=0]=delay(1ms)";
        run(seed, plan);
        let story = story(seed, plan, 1);
        let first = find(&story, 0, &["** at snapshot.synchronous"]).unwrap_or_else(|| panic!("{}", told(&story)));
        let second = find(&story, first, &["** at snapshot.asynchronous"]).expect("it follows");
        let by_itself = |line: &str| line.starts_with("sum -> sums[0]") || line.contains(": sum -> sums[0]");
        let next = story[second..].iter().find(|(time, line)| *time > story[second].0 && by_itself(line));
        let (time, _) = next.expect("it goes on");
        assert!(time - story[first].0 >= 20.999, "{}", told(&story));
    }
}

#[test]
fn every_kind_of_actor_is_replaced_when_it_is_killed_and_when_it_panics() {
    for (actor, point) in [
        ("a source", "trigger.received[hit=2]"),
        ("an operator", "barrier.received[hit=2]"),
        ("an operator in a step", "snapshot.synchronous[operator=sum,hit=2]"),
        ("a committing side", "commit.received[hit=2]"),
        ("the coordinator", "acknowledge.received[hit=3]"),
    ] {
        for action in ["kill", "panic"] {
            for seed in 0..8 {
                let report = run(seed, &format!("{point}={action}"));
                assert_eq!((report.processes, report.struck), (1, 1), "{actor}, {action}, seed {seed}");
            }
        }
    }
}

#[test]
fn the_cut_of_every_edge_is_compared_so_that_a_cut_without_alignment_is_seen_without_any_crash() {
    let calm = |seed| Simulation::new(seed).with(Faults::None).run(&mut SecondJob::new(2));
    let found = mutation::during(Mutation::WithoutAlignment, || (0..10).find_map(|seed| calm(seed).err()));
    let reason = found.expect("no cut was compared").reason().to_owned();
    assert!(reason.contains("records are in both halves"), "{reason}");
}
