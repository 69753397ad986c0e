//! What flights cannot show, since one file is one channel: four sources of very different speed, exchanges by key and by turns, an operator with two
//! inputs, two sinks; every record has an id, and each id is in the state and in the output exactly once.
//!
//! ```text
//! fast, brisk ----------------------- by key --+
//!                                              join --+-------------------- all
//! slow, rare -- in turns -- checked -- by key --+      +-- odd, in turns -- odd
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::operator::{CoAccess, CoContext, KeyedCoProcess};
use alluvium::state::{Map, Value};
use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium::{Job, LocalRecovery, OperatorResult};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use serde::{Deserialize, Serialize};

use crate::{chance, files, schedules};

/// Name, number of records, records per second.
const SOURCES: [(&str, u64, u64); 4] =
    [("fast", 500, 20_000), ("brisk", 150, 5_000), ("slow", 40, 1_000), ("rare", 6, 100)];

const KEYS: u64 = 7;

/// Ids tell where they come from: the source times this, plus the index in it.
const STRIDE: u64 = 10_000;

const ALL: &str = "/output/all";
const ODD: &str = "/output/odd";

fn key(id: u64) -> u64 {
    (id ^ (id >> 5)) % KEYS
}

/// A record of the left side. The right side is a bare id.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Left {
    id: u64,
    key: u64,
}

/// Numbers the records of a key over both sides, and remembers every id.
#[derive(Clone, Debug)]
struct Join(chance::Fuse);

impl Join {
    fn number(&self, id: u64, key: u64, (mut last, mut ids): CoAccess<'_, Join>) -> Joined {
        self.0.burn();
        let sequence = last.get().copied().unwrap_or(0) + 1;
        last.set(sequence);
        ids.insert(id, sequence);
        Joined { key, sequence, different: ids.len() as u64, id }
    }
}

/// What the state says of a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Joined {
    key: u64,
    /// The how many-th record of its key it is.
    sequence: u64,
    /// How many different ids of its key have come, itself included.
    different: u64,
    id: u64,
}

impl KeyedCoProcess for Join {
    type Key = u64;
    type Left = Left;
    type Right = u64;
    type Out = Joined;
    type State = (Value<u64>, Map<u64, u64>);

    fn state(&self) -> Self::State {
        (Value::named("sequence"), Map::named("ids"))
    }

    fn process_left(&self, left: Left, state: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        let joined = self.number(left.id, *context.key(), state);
        context.emit(joined);
        Ok(())
    }

    fn process_right(&self, id: u64, state: CoAccess<'_, Self>, mut context: CoContext<'_, Self>) -> OperatorResult {
        let joined = self.number(id, *context.key(), state);
        context.emit(joined);
        Ok(())
    }
}

pub(crate) struct SecondJob {
    parallelism: u32,
    /// How much faster the fastest source is, and how many more records it has.
    factor: u64,
    settled: bool,
    /// Whether its barriers overtake.
    overtaking: bool,
    catalogue: SimulatedCatalogue,
    promises: chance::Promises,
}

impl SecondJob {
    pub(crate) fn new(parallelism: u32) -> SecondJob {
        SecondJob {
            parallelism,
            factor: 1,
            settled: false,
            overtaking: false,
            catalogue: SimulatedCatalogue::new(),
            promises: chance::Promises::default(),
        }
    }

    /// As it always is: its state lies in blobs, and a checkpoint that something is lost of is given up.
    pub(crate) fn settled() -> SecondJob {
        SecondJob { settled: true, ..SecondJob::new(1) }
    }

    /// The same, and its barriers overtake from the beginning.
    pub(crate) fn overtaking() -> SecondJob {
        SecondJob { overtaking: true, ..SecondJob::settled() }
    }

    /// With so much state that a snapshot takes several slices.
    pub(crate) fn larger() -> SecondJob {
        SecondJob { factor: 16, ..SecondJob::new(1) }
    }
}

/// Every id of the job.
fn ids(factor: u64) -> impl Iterator<Item = u64> {
    let count = move |source: usize| SOURCES[source].1 * if source == 0 { factor } else { 1 };
    (0..SOURCES.len()).flat_map(move |source| (0..count(source)).map(move |index| source as u64 * STRIDE + index))
}

/// Each id once; under each key the numbers from 1 on, each once; nothing seen twice by the state.
fn check_all(lines: &[String], factor: u64) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let mut sequences: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in lines {
        let fields: Vec<u64> = line.split(',').filter_map(|field| field.parse().ok()).collect();
        let [of, sequence, different, id] = fields[..] else {
            return Err(format!("`{line}` is not a line of the job"));
        };
        if of != key(id) || sequence != different {
            return Err(format!("`{line}`: the key of {id} is {}, the state has seen {different} ids", key(id)));
        }
        if !seen.insert(id) {
            return Err(format!("id {id} came out twice"));
        }
        sequences.entry(of).or_default().push(sequence);
    }
    if let Some(missing) = ids(factor).find(|id| !seen.contains(id)) {
        return Err(format!("id {missing} is missing, {} came out", seen.len()));
    }
    for (key, mut sequence) in sequences {
        sequence.sort_unstable();
        if !sequence.iter().copied().eq(1..=sequence.len() as u64) {
            return Err(format!("key {key} was counted {sequence:?}"));
        }
    }
    Ok(())
}

impl Scenario for SecondJob {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("second job").parallelism(self.parallelism);
        let source = |number: usize| {
            let (name, count, rate) = SOURCES[number];
            let factor = if number == 0 { self.factor } else { 1 };
            let records = Generator::bounded(count * factor, move |index| number as u64 * STRIDE + index);
            job.source(name, records.rate(rate * factor))
        };
        let (checking, joining) = (chance::Fuse::new(boot, 46), chance::Fuse::new(boot, 600));
        let left = source(0).union(&[&source(1)]).map(|id| Left { id, key: key(id) }).key_by(|left| &left.key);
        let right = source(2).union(&[&source(3)]).rebalance().map(move |id| {
            checking.burn();
            id
        });
        let right = right.key_by_value(|id| key(*id));
        let joined = left.connect(&right).process("join", Join(joining));
        let line = |joined: Joined| format!("{},{},{},{}", joined.key, joined.sequence, joined.different, joined.id);
        joined.map(line).sink("all", Lines::exactly_once(ALL).suffix(".csv"));
        let odd = joined.filter(|joined| joined.id % 2 == 1).rebalance().map(|joined| joined.id.to_string());
        odd.sink("odd", Lines::exactly_once(ODD).suffix(".csv"));
        let graph = job.build().map_err(|errors| errors.to_string())?;
        chance::users(boot, &self.promises);
        let mut options = chance::options(boot);
        if self.settled {
            options = options.inline_limit(64).checkpoint_timeout(Duration::from_millis(100));
            options = options.local_recovery(LocalRecovery::default());
        }
        if self.overtaking {
            options = options.maximum_concurrent_checkpoints(1).unaligned().aligned_checkpoint_timeout(Duration::ZERO);
        }
        let catalogue = chance::catalogue(boot, &self.catalogue);
        boot.setup(&graph, &options, catalogue.map(|catalogue| catalogue as _)).map_err(|error| error.to_string())
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.promises.are_kept(world)?;
        files::output_is_of_complete_checkpoints(world, ALL)?;
        files::output_is_of_complete_checkpoints(world, ODD)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        check_all(&files::lines(world.disk, ALL)?, self.factor)?;
        let mut odd: Vec<u64> = files::lines(world.disk, ODD)?.iter().filter_map(|line| line.parse().ok()).collect();
        odd.sort_unstable();
        if !odd.iter().copied().eq(ids(self.factor).filter(|id| id % 2 == 1)) {
            return Err(format!("the odd ids are {odd:?}"));
        }
        chance::cleaned_up(world, files::nothing_is_left_over(world.disk, "second job", &[ALL, ODD]))
    }
}

#[test]
fn the_second_job_survives_a_crash_at_every_effect() {
    let build = || SecondJob::new(1);
    schedules::run("second job, effects", schedules::crashes_at_every_effect(5, build), build);
}

#[test]
fn the_second_job_survives_crashes_at_events() {
    let build = || SecondJob::new(2);
    schedules::run("second job, events", schedules::crashes_at_events(6, 7, build), build);
}

#[test]
fn the_second_job_survives_random_crashes_and_faults_alone() {
    schedules::run("second job, one wide", schedules::random(0, 300), || SecondJob::new(1));
}

#[test]
fn the_second_job_survives_random_crashes_and_faults_in_parallel() {
    schedules::run("second job, two wide", schedules::random(1_000, 300), || SecondJob::new(2));
}

#[test]
fn the_second_job_survives_while_snapshots_of_a_larger_state_take_several_slices() {
    schedules::run("second job, larger state", schedules::random(2_000, 60), SecondJob::larger);
}
