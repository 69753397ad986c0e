//! Incremental checkpoints of whole jobs: an operator that knows what must stand under each key, under crashes and faults, with chains that are folded often.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium::operator::{Access, Context, KeyedProcess};
use alluvium::state::{List, Map, Value};
use alluvium::testing::check::{ExactlyOnce, Progress};
use alluvium::testing::simulation::{Faults, Simulation};
use alluvium::testing::{JobTest, TestProcess, TestRun};
use alluvium::{Job, OperatorError, OperatorResult, Options, RestartStrategy};
use alluvium_actors::protocol::mutation::{self, Mutation};
use serde::{Deserialize, Serialize};

use crate::schedules::quiet;

const RECORDS: u64 = 1_600;
/// Keys that come again and again, and keys that come now and then.
const HOT: u64 = 6;
const COLD: u64 = 90;
/// After so many records of a key nothing stands under it any more.
const LIFE: u64 = 5;

/// A record that knows how many of its key come before it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Visit {
    number: u64,
    key: u64,
    before: u64,
}

/// Mostly hot keys. What is stored of the others does not change from one checkpoint to the next.
fn visits() -> Vec<Visit> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let visits = (0..RECORDS).map(|number| {
        let key = if number < COLD || number % 9 == 0 { number * 7 % COLD } else { COLD + number % HOT };
        let count = counts.entry(key).or_default();
        *count += 1;
        Visit { number, key, before: *count - 1 }
    });
    visits.collect()
}

/// Looks whether what stands under the key is what the records before have left there.
#[derive(Clone)]
struct Visits;

type States = (Value<u64>, List<u64>, Map<u64, u64>);

impl KeyedProcess for Visits {
    type Key = u64;
    type In = Visit;
    type Out = u64;
    type State = States;

    fn state(&self) -> States {
        (Value::named("last"), List::named("all"), Map::named("recent"))
    }

    fn process(
        &self,
        visit: Visit,
        (mut last, mut all, mut recent): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        let Visit { number, key, before } = visit;
        let since = before - before % LIFE;
        let expected: Vec<u64> = (since..before).collect();
        let found: Vec<u64> = all.iter().copied().collect();
        let mut entries: Vec<(u64, u64)> = recent.iter().map(|(key, value)| (*key, *value)).collect();
        entries.sort_unstable();
        let recently: Vec<(u64, u64)> = (since.max(before.saturating_sub(2))..before).map(|n| (n, n)).collect();
        if last.get().copied() != expected.last().copied() || found != expected || entries != recently {
            return Err(OperatorError::unrecoverable(format!(
                "under key {key} stand {:?}, {found:?} and {entries:?} before visit {before}",
                last.get()
            )));
        }
        if before % LIFE == LIFE - 1 {
            last.clear();
            all.clear();
            recent.clear();
        } else {
            last.set(before);
            all.push(before);
            recent.insert(before, before);
            if before >= 2 {
                recent.remove(&(before - 2));
            }
        }
        context.emit(number);
        Ok(())
    }
}

/// A process with increments as a rule, folded early.
pub(crate) fn options(process: &mut TestProcess<'_, '_>) -> Options {
    let mut any = |of: &[u64]| of[process.random() as usize % of.len()];
    let options = Options::default()
        .inline_limit(any(&[1, 300]) as usize)
        .checkpoint_every(Duration::from_millis(any(&[10, 10, 20])))
        .checkpoint_timeout(Duration::from_millis(any(&[12, 60, 10_000])))
        .retained_checkpoints(any(&[1, 1, 3]) as usize)
        .maximum_concurrent_checkpoints(any(&[1, 2, 3]) as usize)
        .continue_on_checkpoint_errors()
        .restart(RestartStrategy::FixedDelay { attempts: 100, delay: Duration::from_millis(3) });
    let incremental = any(&[0, 1, 1, 1, 1, 1]) == 1;
    let (increments, space) = (any(&[1, 2, 3, 8]) as usize, [1.2, 1.5, 3.0][any(&[0, 1, 2]) as usize]);
    match incremental {
        true => options.incremental(true).max_increments(increments).max_space_amplification(space),
        false => options,
    }
}

/// The job, under these options, with what else a test wants of the run.
pub(crate) fn test(prepare: fn(&mut TestRun), options: fn(&mut TestProcess<'_, '_>) -> Options) -> JobTest<'static> {
    JobTest::new(move |run| {
        let visits = visits();
        let records = run.records("visits", RECORDS, move |index| visits[index as usize]).splits(1).rate(8_000);
        let seen = run.ledger("seen");
        run.check(ExactlyOnce::new(&records, |visit: &Visit| visit.number, &seen, |number: &u64| *number));
        run.check(Progress::within(Duration::from_secs(30)));
        prepare(run);
        run.job(move |process| {
            let chosen = options(process);
            process.options(chosen);
            let job = Job::new("visits").parallelism(1);
            let visits = job.source("visits", records.clone());
            visits.key_by(|visit| &visit.key).process("visits-by-key", Visits).sink("seen", seen.clone());
            job.build()
        });
    })
    .once()
}

pub(crate) fn simulations(from: u64, count: u64) -> impl Iterator<Item = Simulation> {
    (from..from + count).map(|number| match number % 4 {
        0 => Simulation::new(number).with(Faults::CrashAtEffect(20 + number * 3)),
        1 => Simulation::new(number).with(Faults::CrashAtEvent(200 + number * 41)),
        _ => Simulation::new(number),
    })
}

#[test]
fn what_was_changed_and_removed_comes_back_from_chains_of_increments() {
    quiet::install();
    for simulation in simulations(0, 120) {
        if let Err(trouble) = quiet::during(|| test(|_| {}, options).try_run(&simulation)) {
            panic!("{trouble}");
        }
    }
}

/// The seed of the first simulation that finds a broken rule.
fn found(mutation: Mutation) -> Option<String> {
    simulations(0, 400).find_map(|simulation| {
        let outcome = mutation::during(mutation, || quiet::during(|| test(|_| {}, options).try_run(&simulation)));
        outcome.err().map(|trouble| format!("seed {}: {}", simulation.seed(), trouble.reason()))
    })
}

#[test]
fn an_increment_without_removals_is_found() {
    println!("{}", found(Mutation::IncrementWithoutRemovals).expect("removed keys came back, and nobody saw it"));
}

#[test]
fn a_base_that_is_not_complete_is_found() {
    println!("{}", found(Mutation::BaseNotComplete).expect("changes were lost, and nobody saw it"));
}

#[test]
fn a_shared_blob_that_is_deleted_with_the_older_checkpoint_is_found() {
    println!("{}", found(Mutation::DeleteASharedBlob).expect("shared blobs are gone, and nobody saw it"));
}

#[test]
fn a_fold_that_keeps_the_oldest_is_found() {
    println!("{}", found(Mutation::FoldKeepsTheOldest).expect("old values came back, and nobody saw it"));
}
