//! What a simulated run costs: CPU milliseconds of one run of a small job with 100 checkpoints and 10 crashes, and schedules a second of runs with random faults.
//!
//! `cargo bench --bench simulation -- [--runs N] [--schedules N] [--seed S]`. The job is a source of numbers, a count by key, and an exactly-once sink in files, all on the
//! simulated disk; the real storage code writes its checkpoints there. Time is that of the thread, so that what else the machine does counts as little as it can.

use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::testing::disk::{DiskFault, DiskRule, SimulatedDisk};
use alluvium::testing::simulation::{Boot, Faults, Next, Report, Scenario, Simulation, World};
use alluvium::{Graph, Job, Options};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ports::files::FileOperation;
use alluvium_actors::protocol::lifecycle::JobState;
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};

const OUTPUT: &str = "/out";
const KEYS: u64 = 20;
/// Records per second, and the time between two checkpoints: about 20 records a checkpoint.
const RATE: u64 = 2_000;
const INTERVAL: Duration = Duration::from_millis(10);

/// Measures simulated runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many runs with 100 checkpoints and 10 crashes.
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// How many runs with random faults.
    #[arg(long, default_value_t = 500)]
    schedules: u64,
    /// The seed of the first run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many records the job reads.
    #[arg(long, default_value_t = 3_200)]
    records: u64,
    /// How many times the power goes.
    #[arg(long, default_value_t = 10)]
    crashes: u64,
    /// Over how many checkpoints the power cuts are spread.
    #[arg(long, default_value_t = 100)]
    checkpoints: u64,
    /// Runs each twice and compares, as tests do.
    #[arg(long)]
    twice: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The job and its world.
struct Small {
    records: u64,
    /// At which manifests the power goes.
    crashes: Vec<u64>,
}

impl Small {
    fn graph(&self) -> Graph {
        let job = Job::new("small").parallelism(1);
        job.source("numbers", Generator::bounded(self.records, |index| index).rate(RATE))
            .key_by_value(|number| number % KEYS)
            .aggregate("count", 0_u64, |key, count, _| {
                *count += 1;
                format!("{key},{count}")
            })
            .sink("lines", Lines::exactly_once(OUTPUT).suffix(".csv"));
        job.build().expect("the job is right")
    }

    /// Each count of each key once.
    fn check(&self, disk: &SimulatedDisk) -> Result<(), String> {
        let files = disk.files().into_iter().filter(|path| path.starts_with(OUTPUT) && path.extension().is_some());
        let text: Vec<u8> = files.flat_map(|path| disk.content(&path).unwrap_or_default()).collect();
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        let mut wanted: Vec<String> =
            (0..self.records).map(|number| format!("{},{}", number % KEYS, number / KEYS + 1)).collect();
        wanted.sort_unstable();
        if found == wanted { Ok(()) } else { Err(format!("{} lines instead of {}", found.len(), wanted.len())) }
    }
}

impl Scenario for Small {
    fn prepare(&mut self, disk: &SimulatedDisk) {
        let cut = DiskRule::new(DiskFault::PowerCut).operation(FileOperation::Rename).path("manifests/*");
        disk.arm(self.crashes.iter().map(|at| cut.clone().hit(*at)));
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let options = Options::default().store("/store").checkpoint_every(INTERVAL);
        boot.setup(&self.graph(), &options, None).map_err(|error| error.to_string())
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if world.state != JobState::Finished {
            return Err(format!("the job is {}", world.state));
        }
        self.check(world.disk).map(|()| Next::Nothing)
    }
}

/// The CPU time of this thread.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or_default(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}

fn run(simulation: Simulation, twice: bool, build: impl Fn() -> Small) -> Report {
    let report = if twice { simulation.run_twice(build) } else { simulation.run(&mut build()) };
    report.unwrap_or_else(|trouble| panic!("{trouble}"))
}

/// Median, least and most.
fn spread(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    [times[times.len() / 2], times[0], times[times.len() - 1]].map(|time| time.as_secs_f64() * 1e3)
}

fn main() {
    let arguments = Arguments::parse();
    // Panics that simulated faults cause are part of the play.
    std::panic::set_hook(Box::new(|_| {}));
    if arguments.runs > 0 {
        let mut times = Vec::new();
        for seed in arguments.seed..arguments.seed + arguments.runs {
            let began = cpu();
            let crashes = arguments.crashes;
            let at = (1..=crashes).map(|number| number * arguments.checkpoints / (crashes + 1)).collect::<Vec<u64>>();
            let build = || Small { records: arguments.records, crashes: at.clone() };
            let report = run(Simulation::new(seed).with(Faults::None), arguments.twice, build);
            times.push(cpu() - began);
            if seed == arguments.seed {
                println!(
                    "seed {seed}: {} checkpoints completed, {} crashes, {} events, {} changes of the disk, {:.1} s of virtual time",
                    report.completed,
                    report.crashes,
                    report.events,
                    report.effects,
                    report.time.as_secs_f64()
                );
            }
        }
        let [median, least, most] = spread(times);
        println!("CPU of one run, {} seeds: median {median:.2} ms, {least:.2} to {most:.2} ms", arguments.runs);
    }
    if arguments.schedules > 0 {
        let began = cpu();
        let mut events = 0;
        for seed in arguments.seed..arguments.seed + arguments.schedules {
            let build = || Small { records: 200, crashes: Vec::new() };
            events += run(Simulation::new(seed), arguments.twice, build).events;
        }
        let spent = (cpu() - began).as_secs_f64();
        println!(
            "{:.0} random schedules a second of CPU ({} schedules, {:.0} events each, {:.2} us an event)",
            arguments.schedules as f64 / spent,
            arguments.schedules,
            events as f64 / arguments.schedules as f64,
            spent * 1e6 / events as f64
        );
    }
}
