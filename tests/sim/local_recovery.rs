//! Restarts from local copies: a task that fails in a living process gets its state back without the store, whatever is wrong with the copies costs a read from the store and nothing
//! else, and no copy stays that is of no use.

use std::path::PathBuf;
use std::time::Duration;

use alluvium::testing::TestProcess;
use alluvium::testing::check::{Check, Scene, Verdict, Violation};
use alluvium::testing::faults::Point;
use alluvium::testing::simulation::{Faults, Report, Simulation};
use alluvium::{LocalRecovery, Options, RestartStrategy};
use alluvium_actors::ports::store::parse_blob_name;
use alluvium_actors::protocol::mutation::{self, Mutation};

use crate::chance::{LOCAL, local_copies};
use crate::increments::{self, simulations};
use crate::schedules::quiet;

/// The files of copies are of the newest complete checkpoint and later ones; where checkpoints are self-contained the names say so.
struct CopiesInFiles;

impl Check for CopiesInFiles {
    fn rule(&self) -> &str {
        "no local copy stays that is of no use"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let Some(complete) = scene.world.complete.filter(|_| scene.world.calm) else { return Ok(()) };
        for file in copies(scene) {
            let name = file.to_string_lossy();
            let parts = parse_blob_name(&name).ok_or_else(|| format!("{name} is no copy of a blob"))?;
            if parts.checkpoint < complete {
                return Err(format!("checkpoint {complete} is complete and {name} is there still").into());
            }
        }
        Ok(())
    }

    fn ended(&mut self, _: &Scene<'_>) -> Result<Verdict, Violation> {
        Ok(Verdict::Kept)
    }
}

fn copies(scene: &Scene<'_>) -> Vec<PathBuf> {
    scene.world.disk.files().into_iter().filter(|file| file.starts_with(LOCAL)).collect()
}

/// Two failures of the operator with state, in a process that lives on.
const FAILURES: &str = "snapshot.synchronous[operator=visits-by-key,hit=4]=error; snapshot.synchronous[operator=visits-by-key,hit=9]=error";

/// All state in blobs, every checkpoint self-contained, one at a time.
fn plain(local: LocalRecovery) -> Options {
    Options::default()
        .inline_limit(1)
        .checkpoint_every(Duration::from_millis(10))
        .continue_on_checkpoint_errors()
        .restart(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(3) })
        .local_recovery(local)
}

fn in_memory(_: &mut TestProcess<'_, '_>) -> Options {
    plain(LocalRecovery::default())
}

fn in_files(_: &mut TestProcess<'_, '_>) -> Options {
    plain(LocalRecovery::default().memory_limit(0).directory(LOCAL))
}

fn by_chance(process: &mut TestProcess<'_, '_>) -> Options {
    let options = increments::options(process);
    local_copies(options, 3 + process.random() as usize % 3)
}

/// Runs the job under these faults, in one process that lives to the end of it.
fn run(options: fn(&mut TestProcess<'_, '_>) -> Options, faults: &str) -> Result<Report, String> {
    quiet::install();
    let faults = format!("{FAILURES}; {faults}");
    let simulation = Simulation::new(1).with(Faults::Points(faults.parse().expect("a plan")));
    let test = increments::test(|run| run.check(CopiesInFiles), options);
    let report = quiet::during(|| test.try_run(&simulation)).map_err(|trouble| trouble.to_string())?;
    if (report.processes, report.failures, report.unstruck.len()) == (1, 0, 0) {
        return Ok(report);
    }
    Err(format!("{} processes, {} failures, unstruck: {:?}", report.processes, report.failures, report.unstruck))
}

fn reached(report: &Report, point: Point) -> u64 {
    report.reached.get(&point).copied().unwrap_or(0)
}

/// How often copies were read, and how often the store.
#[track_caller]
fn reads(options: fn(&mut TestProcess<'_, '_>) -> Options, faults: &str) -> (u64, u64) {
    let report = run(options, faults).unwrap_or_else(|trouble| panic!("{trouble}"));
    (reached(&report, Point::LocalRead), reached(&report, Point::RestoreBlob))
}

#[test]
fn a_task_that_fails_in_a_living_process_gets_its_state_back_without_the_store() {
    for options in [in_memory, in_files] {
        let (local, store) = reads(options, "");
        assert!(local > 0 && store == 0, "{local} reads of copies, {store} of the store");
    }
}

#[test]
fn copies_that_cannot_be_read_are_ignored() {
    for options in [in_memory, in_files] {
        let (local, store) = reads(options, "local.read[always]=error");
        assert!(local > 0 && store > local, "{local} reads of copies, {store} of the store");
        // Of several blobs one.
        let (local, store) = reads(options, "local.read=error");
        assert!(local > 1 && store > 0, "{local} reads of copies, {store} of the store");
    }
}

#[test]
fn copies_that_cannot_be_written_are_given_up() {
    for options in [in_memory, in_files] {
        let (local, store) = reads(options, "local.write[always]=error");
        assert!(local == 0 && store > 0, "{local} reads of copies, {store} of the store");
    }
}

/// On a disk whose copies lose a bit whenever they are read.
const DAMAGE: &str = "disk[operation=read,path=local/**,always]=flip-on-read";

#[test]
fn damaged_copies_are_ignored() {
    let (local, store) = reads(in_files, DAMAGE);
    assert!(local > 0 && store > 0, "{local} reads of copies, {store} of the store");
}

#[test]
fn a_new_process_reads_the_store_and_removes_the_copies_of_the_former_one() {
    quiet::install();
    let faults = "acknowledge.sent[operator=visits-by-key,hit=5]=crash(process)";
    let simulation = Simulation::new(1).with(Faults::Points(faults.parse().expect("a plan")));
    let test = increments::test(|run| run.check(CopiesInFiles), in_files);
    let report = quiet::during(|| test.try_run(&simulation)).unwrap_or_else(|trouble| panic!("{trouble}"));
    assert_eq!(report.processes, 2);
    assert_eq!((reached(&report, Point::LocalRead), reached(&report, Point::RestoreBlob) > 0), (0, true));
}

#[test]
fn with_chains_folds_and_concurrent_checkpoints_nothing_else_comes_out_whatever_happens() {
    quiet::install();
    for simulation in simulations(2_000, 120) {
        let test = increments::test(|_| {}, by_chance);
        if let Err(trouble) = quiet::during(|| test.try_run(&simulation)) {
            panic!("{trouble}");
        }
    }
}

#[test]
fn a_copy_of_another_checkpoint_is_found() {
    quiet::install();
    let found = simulations(2_000, 400).find_map(|simulation| {
        let test = increments::test(|_| {}, by_chance);
        mutation::during(Mutation::StaleLocalCopy, || quiet::during(|| test.try_run(&simulation))).err()
    });
    println!("{}", found.expect("state of another checkpoint came back, and nobody saw it").reason());
}

#[test]
fn a_copy_that_is_not_verified_is_found() {
    let outcome = mutation::during(Mutation::UnverifiedLocalCopy, || run(in_files, DAMAGE));
    println!("{}", outcome.expect_err("damaged copies came back, and nobody saw it"));
}
