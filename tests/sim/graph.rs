//! The ways of a graph that the other jobs do not go: a broadcast joined with another stream, a partitioner of the user's own, side outputs of an operator with
//! and without state, chains that are forced apart, a part made in a loop. Every record is known to the oracle.
//!
//! ```text
//! numbers-0..2 -- union -- by a function -- sorted --+-- connected -- by key -- news --+-- counted
//! rules ---------------- to every subtask -----------+                                  +~~ new keys
//!                                                    ~~ odd
//! ```

use std::time::Duration;

use alluvium::connect::{Collect, Generator};
use alluvium::operator::{Access, Context, KeyedProcess, ProcessContext, ProcessFunction, SideOutput, SideOutputs};
use alluvium::state::{AggregateFunction, Aggregating, ReduceFunction, Reducing, Value};
use alluvium::testing::simulation::{Boot, Next, Scenario, World};
use alluvium::{Graph, Job, OperatorError, OperatorResult, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::protocol::lifecycle::JobState;
use alluvium_actors::protocol::supervise::RestartStrategy;

use crate::schedules;

const PARTS: u64 = 3;
const NUMBERS: u64 = 60;
const RULES: u64 = 15;
const KEYS: u64 = 11;

const ODD: SideOutput<String> = SideOutput::named("odd");
const NEW: SideOutput<u64> = SideOutput::named("new keys");

/// Odd numbers leave by the side.
#[derive(Clone)]
struct Sort;

impl ProcessFunction for Sort {
    type In = u64;
    type Out = u64;

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&ODD)
    }

    fn process(&self, number: u64, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        if number.is_multiple_of(2) {
            context.emit(number);
            return Ok(());
        }
        context.emit_to(&ODD, number.to_string())
    }
}

struct Greatest;

impl ReduceFunction for Greatest {
    type Value = u64;

    fn reduce(stored: u64, added: u64) -> u64 {
        stored.max(added)
    }
}

struct Count;

impl AggregateFunction for Count {
    type In = u64;
    type Accumulator = Vec<u64>;
    type Out = (u64, u64);

    fn create() -> Vec<u64> {
        Vec::new()
    }

    fn add(records: &mut Vec<u64>, record: u64) {
        records.push(record);
    }

    /// How many there were, and the greatest.
    fn result(records: &Vec<u64>) -> (u64, u64) {
        (records.len() as u64, records.iter().copied().max().unwrap_or_default())
    }
}

/// Numbers the records of a key; a new key leaves by the side. The three states must agree at every record.
#[derive(Clone)]
struct News;

impl KeyedProcess for News {
    type Key = u64;
    type In = u64;
    type Out = (u64, u64);
    type State = (Value<u64>, Reducing<Greatest>, Aggregating<Count>);

    fn state(&self) -> Self::State {
        (Value::named("count"), Reducing::named("greatest"), Aggregating::named("all"))
    }

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&NEW)
    }

    fn process(
        &self,
        record: u64,
        (mut count, mut greatest, mut all): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        let number = count.get().copied().unwrap_or_default() + 1;
        count.set(number);
        all.add(record);
        let greatest = *greatest.add(record);
        if all.get() != Some((number, greatest)) {
            let found = format!("{:?} instead of {:?}", all.get(), (number, greatest));
            return Err(OperatorError::unrecoverable(found));
        }
        if number == 1 {
            context.emit_to(&NEW, record % KEYS)?;
        }
        context.emit((record % KEYS, number));
        Ok(())
    }
}

/// Where the output goes. It outlives every process, as an outside system does.
#[derive(Clone, Default)]
struct Outside {
    odd: Collect<String>,
    counted: Collect<(u64, u64)>,
    new: Collect<u64>,
}

impl Outside {
    fn graph(&self) -> Graph {
        let job = Job::new("graph").parallelism(2).credits(2);
        let numbers = (0..PARTS).map(|part| {
            let numbers = Generator::bounded(NUMBERS, move |index| index * PARTS + part).splits(2);
            job.source(&format!("numbers-{part}"), numbers.rate(1_500 * (part + 1) * (part + 1)))
        });
        let sorted = job.union(numbers).partition(|number, subtasks| (*number / 5) as u32 % subtasks).process(Sort);
        let rules = job.source("rules", Generator::bounded(RULES, |index| 10_000 + index).rate(1_000));
        let sides = sorted.side(&ODD);
        sides.map(|text| format!("{text}!")).start_new_chain().sink("odd", self.odd.clone());
        let counted = sorted
            .connect(&rules.broadcast())
            .flat_map(Some, Some)
            .key_by_value(|number| number % KEYS)
            .process("news", News);
        counted.side(&NEW).sink("new", self.new.clone());
        counted.sink("counted", self.counted.clone()).disable_chaining();
        job.build().expect("the job is right")
    }

    /// Each record once; the rules once for each of the two subtasks that they were sent to.
    fn check(&self) -> Result<(), String> {
        let all = || 0..NUMBERS * PARTS;
        let mut odd = self.odd.collected();
        odd.sort();
        let mut expected: Vec<String> = all().filter(|number| number % 2 == 1).map(|n| format!("{n}!")).collect();
        expected.sort();
        if odd != expected {
            return Err(format!("{} odd records instead of {}: {odd:?}", odd.len(), expected.len()));
        }
        let rules = (0..RULES).flat_map(|index| [10_000 + index; 2]);
        let mut counts = vec![0; KEYS as usize];
        for record in all().filter(|number| number % 2 == 0).chain(rules) {
            counts[(record % KEYS) as usize] += 1;
        }
        let expected: Vec<(u64, u64)> =
            (0..KEYS).flat_map(|key| (1..=counts[key as usize]).map(move |number| (key, number))).collect();
        let mut counted = self.counted.collected();
        counted.sort_unstable();
        if counted != expected {
            return Err(format!("{} counted instead of {}: {counted:?}", counted.len(), expected.len()));
        }
        let mut new = self.new.collected();
        new.sort_unstable();
        if new.iter().copied().eq(0..KEYS) { Ok(()) } else { Err(format!("new keys: {new:?}")) }
    }
}

pub(crate) struct Ways(Outside);

impl Ways {
    pub(crate) fn new() -> Ways {
        Ways(Outside::default())
    }
}

fn options() -> Options {
    Options::default().checkpoint_every(Duration::from_millis(10))
}

impl Scenario for Ways {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let options = options()
            .store("/store")
            .checkpoint_timeout(Duration::from_millis(200))
            .restart(RestartStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(5) });
        boot.setup(&self.0.graph(), &options, None).map_err(|error| error.to_string())
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if world.state != JobState::Finished {
            return Err(format!("the job is {}", world.state));
        }
        self.0.check().map(|()| Next::Nothing)
    }
}

#[test]
fn broadcast_partitioner_and_side_outputs_survive_a_crash_at_every_effect() {
    schedules::run("graph, effects", schedules::crashes_at_every_effect(1, Ways::new), Ways::new);
}

#[test]
fn broadcast_partitioner_and_side_outputs_survive_crashes_at_events() {
    schedules::run("graph, events", schedules::crashes_at_events(2, 9, Ways::new), Ways::new);
}

#[test]
fn broadcast_partitioner_and_side_outputs_survive_random_schedules() {
    schedules::run("graph, random", schedules::random(0, 150), Ways::new);
}

/// The same value, started once by the simulator and once on threads.
struct Same<'a>(&'a Graph);

impl Scenario for Same<'_> {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        boot.setup(self.0, &options().store("/store"), None).map_err(|error| error.to_string())
    }

    fn ended(&mut self, _: &World<'_>) -> Result<Next, String> {
        Ok(Next::Nothing)
    }
}

#[test]
fn one_graph_runs_in_the_simulator_and_in_production() {
    use alluvium::testing::simulation::{Faults, Simulation};
    let outside = Outside::default();
    let graph = outside.graph();
    Simulation::new(3).with(Faults::None).run(&mut Same(&graph)).unwrap_or_else(|trouble| panic!("{trouble}"));
    outside.check().unwrap_or_else(|wrong| panic!("in the simulator: {wrong}"));
    let (simulated, place) = (outside.counted.collected().len(), tempfile::tempdir().expect("a directory"));
    let report = graph.start(&options().store(place.path())).expect("it starts").wait_blocking().expect("it ends");
    assert_eq!(report.outcome, alluvium::JobOutcome::Finished);
    // Another store is another job to `Collect`: what the simulator left is replaced.
    outside.check().unwrap_or_else(|wrong| panic!("in production: {wrong}"));
    assert_eq!(outside.counted.collected().len(), simulated);
}
