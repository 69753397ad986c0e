//! A job whose checkpoints count at least once: two fast and two slow sources, an operator with state behind them, a sink behind an exchange. Under
//! crashes no record is lost; some count again, and that is all that is weaker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alluvium::connect::{AtLeastOnce, Collect, Generator};
use alluvium::operator::{Access, Context, KeyedProcess};
use alluvium::state::{Map, Value};
use alluvium::testing::simulation::{Boot, Faults, Next, Scenario, Simulation, World};
use alluvium::{CheckpointMode, Job, JobEvent, Listener, OperatorResult};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use serde::{Deserialize, Serialize};

use crate::{chance, schedules};

/// Name, number of records, records per second.
const SOURCES: [(&str, u64, u64); 4] =
    [("fast", 400, 20_000), ("brisk", 150, 5_000), ("slow", 40, 1_000), ("rare", 6, 100)];

const KEYS: u64 = 5;
const STRIDE: u64 = 10_000;

fn ids() -> BTreeSet<u64> {
    let of = |source: usize| (0..SOURCES[source].1).map(move |index| source as u64 * STRIDE + index);
    (0..SOURCES.len()).flat_map(of).collect()
}

/// What the state says of a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counted {
    id: u64,
    key: u64,
    /// The how many-th record of its key.
    sequence: u64,
    /// How often this id has come.
    times: u64,
}

#[derive(Clone, Debug)]
struct Count;

impl KeyedProcess for Count {
    type Key = u64;
    type In = u64;
    type Out = Counted;
    type State = (Value<u64>, Map<u64, u64>);

    fn state(&self) -> Self::State {
        (Value::named("sequence"), Map::named("times"))
    }

    fn process(
        &self,
        id: u64,
        (mut last, mut ids): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        let sequence = last.get().copied().unwrap_or(0) + 1;
        last.set(sequence);
        let times = ids.get(&id).copied().unwrap_or(0) + 1;
        ids.insert(id, times);
        let key = *context.key();
        context.emit(Counted { id, key, sequence, times });
        Ok(())
    }
}

/// How many records counted more than once, over all runs.
#[derive(Clone, Debug, Default)]
struct Repeats(Arc<Mutex<u64>>);

pub(crate) struct Tracked {
    mode: CheckpointMode,
    /// Outlives every process, as an outside system does.
    output: Collect<Counted>,
    restores: Arc<AtomicU64>,
    repeats: Repeats,
}

/// Counts the restores of checkpoints, and tells everything on.
struct Restores(Arc<AtomicU64>, Arc<dyn Listener>);

impl Listener for Restores {
    fn event(&self, event: JobEvent) {
        if matches!(event, JobEvent::RunBegan { restored: Some(_), .. }) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        self.1.event(event);
    }
}

impl Tracked {
    /// At least once, when nobody counts the repeats.
    pub(crate) fn relaxed() -> Tracked {
        Tracked::new(CheckpointMode::AtLeastOnce, &Repeats::default())
    }

    fn new(mode: CheckpointMode, repeats: &Repeats) -> Tracked {
        Tracked { mode, output: Collect::new(), restores: Arc::default(), repeats: repeats.clone() }
    }
}

/// Every id has counted, and again at most once for each restore of a checkpoint; no effect and no number of a key is lost behind a later one. Answers
/// how many effects are repeats.
fn check(output: &[Counted], restores: u64) -> Result<u64, String> {
    let mut effects: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut sequences: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for counted in output {
        if counted.key != counted.id % KEYS {
            return Err(format!("{counted:?} has another key"));
        }
        effects.entry(counted.id).or_default().insert(counted.times);
        sequences.entry(counted.key).or_default().insert(counted.sequence);
    }
    let seen: BTreeSet<u64> = effects.keys().copied().collect();
    if seen != ids() {
        let missing: Vec<u64> = ids().difference(&seen).copied().collect();
        return Err(format!("missing {missing:?}, unknown {:?}", seen.difference(&ids()).collect::<Vec<_>>()));
    }
    for (id, times) in &effects {
        if !times.iter().copied().eq(1..=times.len() as u64) {
            return Err(format!("the effects of {id} are {times:?}: one was lost behind a later one"));
        }
        if times.len() as u64 > 1 + restores {
            return Err(format!("{id} counted {} times with {restores} restores", times.len()));
        }
    }
    for (key, sequence) in &sequences {
        if !sequence.iter().copied().eq(1..=sequence.len() as u64) {
            return Err(format!("the sequence of key {key} has a gap: {sequence:?}"));
        }
    }
    Ok(output.len() as u64 - ids().len() as u64)
}

impl Scenario for Tracked {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let job = Job::new("tracked").parallelism(2);
        let source = |number: usize| {
            let (name, count, rate) = SOURCES[number];
            let records = Generator::bounded(count, move |index| number as u64 * STRIDE + index);
            job.source(name, records.rate(rate))
        };
        let all = source(0).union(&[&source(1), &source(2), &source(3)]);
        let counted = all.key_by_value(|id| id % KEYS).process("count", Count);
        counted.rebalance().sink("output", AtLeastOnce::new(self.output.clone()));
        let graph = job.build().map_err(|errors| errors.to_string())?;
        let options = chance::options(boot).checkpoint_mode(self.mode);
        let mut setup = boot.setup(&graph, &options, None).map_err(|error| error.to_string())?;
        setup.listener = Arc::new(Restores(Arc::clone(&self.restores), boot.listener()));
        Ok(setup)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        let repeats = check(&self.output.collected(), self.restores.load(Ordering::SeqCst))?;
        *self.repeats.0.lock().unwrap() += repeats;
        Ok(Next::Nothing)
    }
}

#[test]
fn at_least_once_loses_nothing_under_random_crashes_and_repeats_some() {
    let repeats = Repeats::default();
    let build = || Tracked::new(CheckpointMode::AtLeastOnce, &repeats);
    let tally = schedules::run("at least once, random", schedules::random(0, 150), build);
    let repeats = *repeats.0.lock().unwrap();
    println!("{repeats} repeated effects");
    assert!(tally.is_asked || repeats > 0, "nothing was repeated: channels seem to wait for each other");
}

#[test]
fn at_least_once_loses_nothing_when_crashed_at_events() {
    let repeats = Repeats::default();
    let build = || Tracked::new(CheckpointMode::AtLeastOnce, &repeats);
    schedules::run("at least once, events", schedules::crashes_at_events(2, 9, build), build);
}

#[test]
fn without_a_crash_at_least_once_repeats_nothing() {
    let repeats = Repeats::default();
    let build = || Tracked::new(CheckpointMode::AtLeastOnce, &repeats);
    let calm = (0..10).map(|seed| Simulation::new(seed).with(Faults::None));
    schedules::run("at least once, calm", calm, build);
    assert_eq!(*repeats.0.lock().unwrap(), 0);
}

#[test]
fn the_same_job_counts_exactly_once_in_the_other_mode() {
    let repeats = Repeats::default();
    let build = || Tracked::new(CheckpointMode::ExactlyOnce, &repeats);
    schedules::run("the same, exactly once", schedules::random(0, 60), build);
    assert_eq!(*repeats.0.lock().unwrap(), 0);
}
