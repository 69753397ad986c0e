//! Random jobs: from a seed a typed graph of sources, unions, exchanges, operators with and without state, side outputs and sinks, and how it is run. The oracle
//! knows from the graph's shape what every sink must hold in the end.
//!
//! The seed of a simulation decides both the graph and what goes wrong in it, so one number repeats all of it.

mod build;
mod cases;
mod operators;
mod oracle;
mod record;
mod shape;
mod widths;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::simulation::{Boot, Faults, Next, Scenario, Simulation, World};
use alluvium::{CheckpointMode, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::protocol::mutation::{self, Mutation};

use self::build::Outside;
use self::oracle::Flows;
use self::record::Item;
use self::shape::{From, Into, Kind, Shape};
use crate::chance::{self, Fuse};
use crate::{files, schedules};

/// A random job, and what it must come to.
pub(crate) struct RandomGraph {
    shape: Shape,
    flows: Flows,
    outside: Outside,
    catalogue: SimulatedCatalogue,
    promises: chance::Promises,
}

impl RandomGraph {
    pub(crate) fn new(seed: u64) -> RandomGraph {
        let shape = Shape::of(seed);
        RandomGraph {
            flows: Flows::of(&shape),
            outside: Outside::of(&shape),
            shape,
            catalogue: SimulatedCatalogue::new(),
            promises: chance::Promises::default(),
        }
    }

    /// The same graph, started in each process at other parallelisms.
    pub(crate) fn rescaled(seed: u64) -> RandomGraph {
        let mut graph = RandomGraph::new(seed);
        widths::set_free(&mut graph.shape);
        graph.flows = Flows::of(&graph.shape);
        graph
    }

    /// The sinks, each with where it writes.
    fn sinks(&self) -> impl Iterator<Item = (usize, Into)> + '_ {
        self.shape.nodes.iter().enumerate().filter_map(|(number, node)| match node.kind {
            Kind::Sink { into } => Some((number, into)),
            _ => None,
        })
    }

    fn directories(&self) -> Vec<String> {
        let lines = self.sinks().filter(|(_, into)| *into == Into::Lines);
        lines.map(|(sink, _)| build::directory(sink)).collect()
    }

    /// A few operators panic once, in this process.
    fn fuses(&self, boot: &mut Boot<'_>) -> BTreeMap<usize, Fuse> {
        let nodes = self.shape.nodes.len() as u64;
        let mut fuses = BTreeMap::new();
        for _ in 0..boot.random() % 3 {
            let node = (boot.random() % nodes) as usize;
            fuses.insert(node, Fuse::new(boot, 80));
        }
        fuses
    }

    /// Where checkpoints are exact, barriers overtake in most processes: from the beginning, after a while, or so late that most never do.
    fn overtaking(&self, boot: &mut Boot<'_>, options: Options) -> Options {
        let drawn = boot.random() as usize;
        if self.shape.mode != CheckpointMode::ExactlyOnce || drawn.is_multiple_of(3) {
            return options;
        }
        let after = Duration::from_micros([0, 0, 300, 3_000][drawn / 3 % 4]);
        options.maximum_concurrent_checkpoints(1).unaligned().aligned_checkpoint_timeout(after)
    }

    fn output(&self, disk: &SimulatedDisk) -> Result<BTreeMap<usize, Vec<Item>>, String> {
        let mut outputs = BTreeMap::new();
        for (sink, into) in self.sinks() {
            let records = match into {
                Into::Collection => self.outside.collected(sink),
                Into::Lines => {
                    let lines = files::lines(disk, &build::directory(sink))?;
                    let item = |line: &String| {
                        serde_json::from_str(line).map_err(|error| format!("`{line}` in n{sink} is no record: {error}"))
                    };
                    lines.iter().map(item).collect::<Result<_, String>>()?
                }
            };
            outputs.insert(sink, records);
        }
        Ok(outputs)
    }

    /// In terms of the graph.
    fn told(&self, wrong: String) -> String {
        format!("{wrong}\n{}", self.shape)
    }
}

impl Scenario for RandomGraph {
    fn prepare(&mut self, disk: &SimulatedDisk) {
        for (number, node) in self.shape.nodes.iter().enumerate() {
            let Kind::Source { from: From::Files, records, splits, .. } = node.kind else { continue };
            for split in 0..splits {
                let indices = (split..records).step_by(splits as usize);
                let text: String = indices.map(|index| format!("{index}\n")).collect();
                disk.set_content(Path::new(&build::file(number, split)), text.as_bytes());
            }
        }
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let fuses = self.fuses(boot);
        let shape = widths::drawn(&self.shape, || boot.random());
        let graph = build::graph(&shape, &self.outside, &fuses).map_err(|errors| self.told(errors.to_string()))?;
        chance::users(boot, &self.promises);
        let buffers = [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(100)];
        let options = chance::options(boot)
            .checkpoint_mode(self.shape.mode)
            .failover(self.shape.failover)
            .buffer_timeout(buffers[boot.random() as usize % 3]);
        let options = self.overtaking(boot, options);
        let catalogue = chance::catalogue(boot, &self.catalogue);
        let setup = boot.setup(&graph, &options, catalogue.map(|catalogue| catalogue as _));
        setup.map_err(|error| error.to_string())
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.promises.are_kept(world).map_err(|wrong| self.told(wrong))?;
        for directory in self.directories() {
            files::output_is_of_complete_checkpoints(world, &directory).map_err(|wrong| self.told(wrong))?;
        }
        Ok(())
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world).map_err(|wrong| self.told(wrong))? {
            return Ok(next);
        }
        let outputs = self.output(world.disk)?;
        self.flows.check(&self.shape, &outputs).map_err(|wrong| self.told(wrong))?;
        let directories = self.directories();
        let directories: Vec<&str> = directories.iter().map(String::as_str).collect();
        let left_over = files::nothing_is_left_over(world.disk, build::JOB, &directories);
        chance::cleaned_up(world, left_over).map_err(|wrong| self.told(wrong))
    }
}

/// Keeps what came out, for tests of the oracle.
struct Watched<'a> {
    graph: &'a mut RandomGraph,
    outputs: &'a mut Option<BTreeMap<usize, Vec<Item>>>,
}

impl Scenario for Watched<'_> {
    fn prepare(&mut self, disk: &SimulatedDisk) {
        self.graph.prepare(disk);
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        self.graph.boot(boot)
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        *self.outputs = Some(self.graph.output(world.disk)?);
        self.graph.ended(world)
    }
}

/// The graph of a simulation's seed.
pub(crate) fn of(simulation: &Simulation) -> RandomGraph {
    RandomGraph::new(simulation.seed())
}

/// The graph of a simulation's seed, at other parallelisms in each process.
pub(crate) fn rescaled(simulation: &Simulation) -> RandomGraph {
    RandomGraph::rescaled(simulation.seed())
}

#[test]
fn random_graphs_come_to_what_their_shapes_say_when_nothing_goes_wrong() {
    let calm = (0..200).map(|seed| Simulation::new(seed).with(Faults::None));
    schedules::run_each("random graphs, calm", calm, of);
}

#[test]
fn random_graphs_survive_random_crashes_and_faults() {
    schedules::run_each("random graphs", schedules::random(10_000, 400), of);
}

#[test]
fn random_graphs_survive_a_crash_somewhere() {
    let crashes = (0..300).map(|number| {
        let fault =
            if number % 2 == 0 { Faults::CrashAtEffect(1 + number / 2) } else { Faults::CrashAtEvent(number * 7) };
        Simulation::new(20_000 + number).with(fault)
    });
    schedules::run_each("random graphs, one crash", crashes, of);
}

#[test]
fn random_graphs_survive_random_crashes_and_faults_and_go_on_at_other_parallelisms() {
    schedules::run_each("random graphs, rescaled", schedules::random(30_000, 400), rescaled);
}

#[test]
fn random_graphs_survive_a_crash_somewhere_and_go_on_at_other_parallelisms() {
    let crashes = (0..200).map(|number| {
        let fault =
            if number % 2 == 0 { Faults::CrashAtEffect(1 + number / 2) } else { Faults::CrashAtEvent(number * 9) };
        Simulation::new(40_000 + number).with(fault)
    });
    schedules::run_each("random graphs, rescaled, one crash", crashes, rescaled);
}

#[test]
fn without_alignment_some_random_graph_loses_or_doubles_records() {
    let found = mutation::during(Mutation::WithoutAlignment, || schedules::first_trouble(schedules::random(0, 60), of));
    let reason = found.expect("no graph shows that channels are not blocked").reason().to_owned();
    // The simulation sees it at the edge, as soon as a cut is wrong; the oracle sees it in the output, and tells the graph.
    let at_an_edge = reason.contains("in both halves");
    let in_the_output = (reason.contains("sink n") || reason.contains("of key")) && reason.contains("source of");
    assert!(at_an_edge || in_the_output, "{reason}");
}
