//! Two regions in one job: one fails, the other runs on. Effects are exactly once in both, and what runs on is never built again.
//!
//! ```text
//! left  -- checked -- by key -- counted -- left-lines
//! right -- checked -- by key -- counted -- right-lines
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use alluvium::connect::sink::{Guarantee, Sink, SinkContext, SinkWriter};
use alluvium::connect::{Generator, Lines};
use alluvium::ports::sink::SinkScope;
use alluvium::record::batch::Slice;
use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::simulation::{Boot, Faults, Next, Scenario, Simulation, World};
use alluvium::{CheckpointId, FailoverStrategy, Job, JobEvent, JobState, Listener, OperatorResult};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ids::RegionId;

use crate::{chance, files, schedules};

/// The two sides: their name, number of records, and records per second.
const SIDES: [(&str, u64, u64); 2] = [("left", 200, 8_000), ("right", 300, 8_000)];

const KEYS: u64 = 5;
const WIDTH: u32 = 2;

fn directory(side: usize) -> String {
    format!("/output/{}", SIDES[side].0)
}

/// What is known of one process: how often the parts of a side were built, and how often it was said to restart.
#[derive(Debug, Default)]
struct Process {
    writers: [u32; 2],
    committers: [u32; 2],
    /// How often each side was told to restart: alone, or with the whole job.
    restarts: [u32; 2],
    /// Restarts of one side while the other ran on.
    partial: u32,
    announced: Option<Announced>,
}

#[derive(Clone, Debug, PartialEq)]
struct Announced {
    number: u32,
    regions: BTreeSet<RegionId>,
}

impl Process {
    /// What was announced comes true with the next run.
    fn restarts(&mut self) {
        let Some(announced) = self.announced.take() else { return };
        for region in &announced.regions {
            self.restarts[region.0 as usize] += 1;
        }
        self.partial += u32::from(announced.regions.len() == 1);
    }

    fn check(&self) -> Result<(), String> {
        for (side, (name, ..)) in SIDES.iter().enumerate() {
            let allowed = 1 + self.restarts[side];
            if self.writers[side] > allowed * WIDTH || self.committers[side] > allowed {
                return Err(format!("{name} was built more often than it restarted: {self:?}"));
            }
        }
        Ok(())
    }
}

type Watched = Arc<Mutex<Process>>;

/// Writes lines, and counts how often it is built.
struct CountedLines {
    lines: Lines,
    side: usize,
    watched: Watched,
}

struct CountedWriter(<Lines as Sink<String>>::Writer);

impl Sink<String> for CountedLines {
    type Committable = <Lines as Sink<String>>::Committable;
    type State = <Lines as Sink<String>>::State;
    type Writer = CountedWriter;
    type Committer = <Lines as Sink<String>>::Committer;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<CountedWriter> {
        self.watched.lock().unwrap().writers[self.side] += 1;
        Ok(CountedWriter(Sink::<String>::writer(&self.lines, context)?))
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<Self::Committer> {
        self.watched.lock().unwrap().committers[self.side] += 1;
        Sink::<String>::committer(&self.lines, scope)
    }
}

impl SinkWriter<String> for CountedWriter {
    type Committable = <Lines as Sink<String>>::Committable;
    type State = <Lines as Sink<String>>::State;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        SinkWriter::<String>::poll_ready(&mut self.0, context)
    }

    fn write_batch(&mut self, slice: &mut Slice<String>) -> OperatorResult {
        self.0.write_batch(slice)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        SinkWriter::<String>::prepare(&mut self.0, checkpoint)
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<Self::Committable>>> {
        SinkWriter::<String>::poll_prepared(&mut self.0, checkpoint, context)
    }

    fn snapshot(&mut self, checkpoint: CheckpointId) -> Self::State {
        SinkWriter::<String>::snapshot(&mut self.0, checkpoint)
    }
}

/// Hears which regions restart, and panics once in a while where the supervisor tells something: in its very step.
struct Hearing {
    watched: Watched,
    also: Arc<dyn Listener>,
    supervisor: chance::Fuse,
    told: AtomicBool,
}

impl Listener for Hearing {
    fn event(&self, event: JobEvent) {
        let mut watched = self.watched.lock().unwrap();
        match &event {
            JobEvent::Restarting { restart, regions, .. } => {
                watched.announced = Some(Announced { number: *restart, regions: regions.iter().copied().collect() });
            }
            JobEvent::State(JobState::Restoring) => watched.restarts(),
            _ => {}
        }
        drop(watched);
        // Not the last word of a job: then nothing is left that could restart.
        let of_the_supervisor = match &event {
            JobEvent::State(state) => !state.is_terminal(),
            event => {
                matches!(event, JobEvent::RunBegan { .. } | JobEvent::Failed(_) | JobEvent::Restarting { .. })
            }
        };
        self.also.event(event);
        // Not at the very first word, which comes while the supervisor is built.
        if of_the_supervisor && self.told.swap(true, Ordering::Relaxed) {
            self.supervisor.burn();
        }
    }
}

/// When the code of the left side panics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Panics {
    /// On the left side alone, several times.
    Left,
    /// On both, by chance.
    Both,
    /// On both, and in the supervisor.
    Supervisor,
}

pub(crate) struct Regions {
    panics: Panics,
    failover: FailoverStrategy,
    catalogue: SimulatedCatalogue,
    promises: chance::Promises,
    watched: Watched,
    /// Restarts of one side while the other ran on, over all processes.
    partial: Arc<Mutex<u64>>,
}

impl Regions {
    pub(crate) fn new(panics: Panics) -> Regions {
        Regions {
            panics,
            failover: FailoverStrategy::Region,
            catalogue: SimulatedCatalogue::new(),
            promises: chance::Promises::default(),
            watched: Watched::default(),
            partial: Arc::default(),
        }
    }

    /// A process is over.
    fn end_process(&mut self) -> Result<Process, String> {
        let process = std::mem::take(&mut *self.watched.lock().unwrap());
        *self.partial.lock().unwrap() += u64::from(process.partial);
        process.check()?;
        Ok(process)
    }

    fn check_side(&self, world: &World<'_>, side: usize) -> Result<(), String> {
        let (name, count, _) = SIDES[side];
        let mut seen = BTreeSet::new();
        let mut sequences: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for line in files::lines(world.disk, &directory(side))? {
            let fields: Vec<u64> = line.split(',').filter_map(|field| field.parse().ok()).collect();
            let [key, sequence, id] = fields[..] else { return Err(format!("{name}: `{line}` is no line of the job")) };
            if !seen.insert(id) || !sequences.entry(key).or_default().insert(sequence) {
                return Err(format!("{name}: `{line}` came out twice"));
            }
        }
        if !seen.iter().copied().eq(0..count) {
            return Err(format!("{name}: {} records instead of {count}", seen.len()));
        }
        match sequences.values().find(|sequence| !sequence.iter().copied().eq(1..=sequence.len() as u64)) {
            Some(wrong) => Err(format!("{name}: a key was counted {wrong:?}")),
            None => Ok(()),
        }
    }
}

impl Scenario for Regions {
    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        self.end_process()?;
        let job = Job::new("regions").parallelism(WIDTH);
        for (side, (name, count, rate)) in SIDES.into_iter().enumerate() {
            let fuse = match self.panics {
                Panics::Left if side == 0 => chance::Fuse::several(boot, count),
                Panics::Left => chance::Fuse::never(),
                Panics::Both | Panics::Supervisor => chance::Fuse::new(boot, count),
            };
            job.source(name, Generator::bounded(count, |index| index).splits(3).rate(rate))
                .map(move |id| {
                    fuse.burn();
                    id
                })
                .key_by_value(|id| id % KEYS)
                .aggregate(&format!("{name}-counts"), 0_u64, |key, count, id| {
                    *count += 1;
                    format!("{key},{count},{id}")
                })
                .sink(
                    &format!("{name}-lines"),
                    CountedLines {
                        lines: Lines::exactly_once(directory(side)).suffix(".csv"),
                        side,
                        watched: Arc::clone(&self.watched),
                    },
                );
        }
        let graph = job.build().map_err(|errors| errors.to_string())?;
        if self.panics != Panics::Left {
            chance::users(boot, &self.promises);
        }
        // Failed checkpoints beyond what is tolerated are nobody's region: a checkpoint may expire here by chance.
        let tolerant = self.panics == Panics::Left;
        let options = if tolerant { chance::tolerant_options(boot) } else { chance::options(boot) };
        let options = options.failover(self.failover);
        let catalogue = chance::catalogue(boot, &self.catalogue).map(|catalogue| catalogue as _);
        let setup = boot.setup(&graph, &options, catalogue).map_err(|error| error.to_string())?;
        let also = boot.listener();
        let supervisor = match self.panics {
            Panics::Left | Panics::Both => chance::Fuse::never(),
            Panics::Supervisor => chance::Fuse::several(boot, 12),
        };
        let watched = Arc::clone(&self.watched);
        let listener = Arc::new(Hearing { watched, also, supervisor, told: AtomicBool::new(false) });
        Ok(SupervisorSetup { listener, ..setup })
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.promises.are_kept(world)?;
        self.watched.lock().unwrap().check()?;
        (0..SIDES.len()).try_for_each(|side| files::output_is_of_complete_checkpoints(world, &directory(side)))
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        let process = self.end_process()?;
        if self.panics == Panics::Left && self.failover == FailoverStrategy::Region && process.restarts[1] > 0 {
            return Err(format!("only the left side failed, and the right one restarted: {process:?}"));
        }
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        (0..SIDES.len()).try_for_each(|side| self.check_side(world, side))?;
        let directories = [directory(0), directory(1)];
        let outputs: Vec<&str> = directories.iter().map(String::as_str).collect();
        chance::cleaned_up(world, files::nothing_is_left_over(world.disk, "regions", &outputs))
    }
}

#[test]
fn a_region_that_fails_restarts_alone_and_the_other_is_never_built_again() {
    let partial: Arc<Mutex<u64>> = Arc::default();
    let build = || Regions { partial: Arc::clone(&partial), ..Regions::new(Panics::Left) };
    let runs = (0..60).map(|seed| Simulation::new(seed).with(Faults::None));
    let tally = schedules::run("regions, only the left side fails", runs, build);
    let partial = *partial.lock().unwrap();
    // Each run is made twice.
    assert!(tally.is_asked || partial >= 2 * tally.runs, "{partial} restarts of one region in {} runs", tally.runs);
}

#[test]
fn with_the_full_strategy_both_regions_restart_and_effects_are_exactly_once_too() {
    let build = || Regions { failover: FailoverStrategy::Full, ..Regions::new(Panics::Left) };
    let runs = (0..20).map(|seed| Simulation::new(seed).with(Faults::None));
    schedules::run("regions, full", runs, build);
}

#[test]
fn two_regions_survive_random_crashes_and_faults() {
    schedules::run("regions, random", schedules::random(3_000, 200), || Regions::new(Panics::Both));
}

#[test]
fn two_regions_of_which_one_fails_survive_a_crash_at_every_effect() {
    let build = || Regions::new(Panics::Left);
    schedules::run("regions, effects", schedules::crashes_at_every_effect(11, build), build);
}

#[test]
fn two_regions_of_which_one_fails_survive_crashes_at_events() {
    let build = || Regions::new(Panics::Left);
    schedules::run("regions, events", schedules::crashes_at_events(12, 17, build), build);
}

#[test]
fn a_supervisor_that_panics_restarts_the_whole_job_and_nothing_is_lost() {
    let build = || Regions::new(Panics::Supervisor);
    let tally = schedules::run("regions, the supervisor panics", schedules::random(4_000, 150), build);
    assert!(tally.is_asked || tally.completed > 0);
}

#[test]
fn a_supervisor_that_panics_without_any_other_fault_is_survived_in_the_process() {
    let runs = (0..60).map(|seed| Simulation::new(seed).with(Faults::None));
    let tally = schedules::run("regions, only the supervisor panics", runs, || Regions::new(Panics::Supervisor));
    assert_eq!(tally.failures, 0, "no process ended because of it");
}
