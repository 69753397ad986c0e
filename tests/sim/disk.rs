//! A disk that is slow, or whose bits flip, under a whole job: time that an operation takes is seen by the job, and a flipped bit never reaches an output.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::testing::catalogue::{CatalogueFate, SimulatedCatalogue};
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::faults::{DiskFault, DiskRule, FaultPlan};
use alluvium::testing::simulation::{Boot, Faults, Next, Scenario, Simulation, World};
use alluvium::{Graph, Job, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ports::files::FileOperation;
use alluvium_actors::protocol::lifecycle::JobState;

use crate::{files, schedules};

const KEYS: u64 = 5;
const RECORDS: u64 = 200;
const OUTPUT: &str = "/out";

/// Counts by key, into files.
struct Counted {
    plan: FaultPlan,
    options: Options,
    /// Whether a bit of the newest manifest flips when the second process starts.
    flips_newest: bool,
    /// Found in another state, and more or less slow, by each process.
    catalogue: Option<SimulatedCatalogue>,
    /// The processes that did not start, and why.
    refused: Vec<String>,
    /// What the end of the run is judged by.
    seen: Seen,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    failed: bool,
    /// How often each fault struck, by its text.
    struck: BTreeMap<String, u32>,
}

fn graph() -> Graph {
    let job = Job::new("counted").parallelism(2);
    // Two readers: 200 ms.
    job.source("numbers", Generator::bounded(RECORDS, |index| index).rate(500))
        .key_by_value(|number| number % KEYS)
        .aggregate("count", 0_u64, |key, count, _| {
            *count += 1;
            format!("{key},{count}")
        })
        .sink("lines", Lines::exactly_once(OUTPUT).suffix(".csv"));
    job.build().expect("the job is right")
}

impl Counted {
    fn new(plan: &str, options: Options) -> Counted {
        let plan = plan.parse().unwrap_or_else(|error| panic!("{plan}: {error}"));
        Counted {
            plan,
            options: options.store("/store"),
            flips_newest: false,
            catalogue: None,
            refused: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn check(&mut self, disk: &SimulatedDisk, state: JobState) -> Result<(), String> {
        self.seen.failed = state != JobState::Finished;
        for struck in disk.struck() {
            *self.seen.struck.entry(struck.fault.to_string()).or_default() += 1;
        }
        let mut found = files::lines(disk, OUTPUT)?;
        found.sort_unstable();
        let mut wanted: Vec<String> =
            (0..RECORDS).map(|number| format!("{},{}", number % KEYS, number / KEYS + 1)).collect();
        wanted.sort_unstable();
        if self.seen.failed {
            // What was committed before is right all the same: each line at most once, and no other.
            let mut left = wanted.iter();
            return match found.iter().find(|line| !left.any(|wanted| wanted == *line)) {
                Some(line) => Err(format!("{line} is wrong or there twice, in a job that failed")),
                None => Ok(()),
            };
        }
        if found == wanted { Ok(()) } else { Err(format!("{} lines instead of {}", found.len(), wanted.len())) }
    }
}

impl Scenario for Counted {
    fn prepare(&mut self, disk: &SimulatedDisk) {
        disk.arm(self.plan.disk_rules().iter().cloned());
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        if self.flips_newest && boot.number() == 2 {
            let mut manifests = boot.disk().files().into_iter().filter(|path| path.starts_with("/store/manifests"));
            let newest = manifests.next_back().ok_or("there is no manifest")?;
            // Behind its mark: a file that does not begin as a manifest does is taken for somebody else's, and refused as such.
            assert!(boot.disk().flip_bit(&newest, 64 + boot.random() % 700), "a manifest is that long");
        }
        if let Some(catalogue) = &self.catalogue {
            let fate = CatalogueFate::ALL[boot.random() as usize % CatalogueFate::ALL.len()];
            catalogue.open_again(fate, boot.random());
            catalogue.set_slow(Duration::from_micros(boot.random() % 4_000), &boot.disk());
        }
        let catalogue = self.catalogue.clone().map(|catalogue| Arc::new(catalogue) as _);
        let setup = boot.setup(&graph(), &self.options, catalogue).map_err(|error| error.to_string());
        self.refused.extend(setup.as_ref().err().cloned());
        setup
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        self.check(world.disk, world.state)?;
        if self.flips_newest && self.seen.failed {
            return Err("the job failed".to_owned());
        }
        Ok(Next::Nothing)
    }
}

fn every(milliseconds: u64) -> Options {
    Options::default().checkpoint_every(Duration::from_millis(milliseconds))
}

#[test]
fn a_slow_disk_makes_a_job_slower_and_nothing_wrong() {
    let run = |plan: &str| {
        let play = || Counted::new(plan, every(10));
        Simulation::new(3).with(Faults::None).run_twice(play).unwrap_or_else(|trouble| panic!("{trouble}"))
    };
    let (fast, slow) = (run(""), run("disk[operation=sync,always]=slow(40ms)"));
    assert!(slow.completed > 0 && slow.completed * 2 < fast.completed, "{} and {}", slow.completed, fast.completed);
    assert!(slow.time > fast.time, "{:?} and {:?}", slow.time, fast.time);
}

#[test]
fn a_write_that_takes_longer_than_the_checkpoint_timeout_fails_that_checkpoint_only() {
    let plan = "disk[operation=sync,path=manifests/*,hit=3]=slow(5s)";
    let options = every(10).checkpoint_timeout(Duration::from_secs(1)).tolerable_checkpoint_failures(3);
    let play = || Counted::new(plan, options.clone());
    let report = Simulation::new(5).with(Faults::None).run_twice(play).unwrap_or_else(|trouble| panic!("{trouble}"));
    assert!(report.time > Duration::from_secs(5), "{report:?}");
    assert_eq!((report.processes, report.failures), (1, 0));
}

#[test]
fn what_was_carried_out_and_not_answered_survives_a_crash_in_between() {
    // Every piece of work has a time in which it is done and nobody knows it: crashes come into it.
    let slow = "disk[always]=slow(300us)";
    let plans = (0..60).map(Simulation::new);
    let tally = schedules::run("a slow disk", plans, || Counted::new(slow, every(10)));
    assert!(tally.is_asked || tally.crashes > 60, "{tally:?}");
}

#[test]
fn a_catalogue_costs_time_and_nothing_else_in_whatever_state_it_is_found() {
    let tally = schedules::run("any catalogue", (0..60).map(Simulation::new), || Counted {
        catalogue: Some(SimulatedCatalogue::new()),
        ..Counted::new("", every(10).retained_checkpoints(2))
    });
    assert!(tally.is_asked || tally.crashes > 60, "{tally:?}");
}

/// Runs with crashes, and flips of this sort in the store.
fn flips(name: &str, plan: impl Fn() -> FaultPlan, options: &Options) -> (u32, u32, u32) {
    let (mut struck, mut failed, mut refused) = (0, 0, 0);
    for seed in 0..150 {
        let mut job = Counted { plan: plan(), ..Counted::new("", options.clone()) };
        let outcome = Simulation::new(seed).run(&mut job);
        match outcome {
            Ok(report) => failed += u32::from(job.seen.failed || report.failures > 0),
            Err(trouble) => {
                // A start that is refused must name a file of the store.
                let reason = trouble.reason();
                let names_a_file = reason.contains("/store/") && reason.contains("damaged");
                assert!(names_a_file && !reason.contains("panicked"), "{name}, seed {seed}: {trouble}");
                refused += 1;
            }
        }
        struck += job.seen.struck.values().sum::<u32>();
    }
    println!("{name}: {struck} faults, {failed} jobs failed, {refused} starts were refused");
    (struck, failed, refused)
}

#[test]
fn a_flipped_bit_in_the_store_is_an_error_that_names_the_file_and_never_an_output() {
    let at_rest = |operation| {
        let flip = DiskRule::new(DiskFault::FlipAtRest).operation(operation).path("/store/**").always();
        move |chance| FaultPlan::from(flip.clone().probability(chance))
    };
    for (operation, chance) in [(FileOperation::Open, 0.05), (FileOperation::Sync, 0.25)] {
        let (_, failed, refused) = flips("at rest", || at_rest(operation)(chance), &every(10));
        assert!(failed + refused > 10, "{operation:?}: {failed} {refused}");
    }
    let on_read = DiskRule::new(DiskFault::FlipOnRead).path("/store/**").probability(0.05).always();
    // The same schedules without it: their own faults of the disk make jobs fail, too.
    let (_, without, _) = flips("none", FaultPlan::default, &every(10));
    let (_, failed, refused) = flips("on reads", || FaultPlan::from(on_read.clone()), &every(10));
    assert!(failed + refused > without + 10, "{failed} {refused}, and {without} without flips");
}

#[test]
fn a_flip_in_the_newest_manifest_fails_the_start_unless_an_older_checkpoint_may_be_taken() {
    let outcome = |options: Options, seed: u64| {
        let cut = format!("disk[operation=create,path=manifests/*,hit={}]=power-cut", 3 + seed % 3);
        let mut job = Counted { flips_newest: true, ..Counted::new(&cut, options) };
        let outcome = Simulation::new(seed).with(Faults::None).run(&mut job);
        (outcome.map_err(|trouble| trouble.to_string()), job.refused)
    };
    for seed in 0..6 {
        let (refused, _) = outcome(every(10).retained_checkpoints(3), seed);
        let reason = refused.expect_err("without leave to fall back the start is refused");
        assert!(reason.contains("/store/manifests/") && reason.contains("damaged"), "{reason}");
        // The simulation itself calls what a fall-back does the loss of a completed checkpoint, which it is: the run begins all the same.
        let options = every(10).retained_checkpoints(3).fall_back_to_older().accept_repeats();
        let (lost, refused) = outcome(options, seed);
        let lost = lost.expect_err("a completed checkpoint is lost");
        assert!(lost.contains("a completed checkpoint was lost: run 2 begins with checkpoint"), "{lost}");
        assert!(refused.is_empty(), "{refused:?}");
    }
}
