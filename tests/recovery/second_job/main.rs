//! The job that the recovery tests kill where the flights would not notice: four sources of very different speed, exchanges by key and by turns, an operator
//! with two inputs, two sinks. Every record has an id.
//!
//! ```text
//! fast, brisk ------------------------- by key --+
//!                                                join --+---------------------- all
//! slow, rare -- in turns -- slow work -- by key --+      +-- marked, in turns -- marked
//! ```
//!
//! It tells the events of its life on its standard output, one line each. Faults at named points come from its environment; between them it can be told at which operation on a
//! file to kill itself.

mod graph;
mod kill;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alluvium::drill::FaultDrill;
use alluvium::storage::SystemFiles;
use alluvium::testing::faults::FaultPlan;
use alluvium::{CheckpointMode, LocalRecovery, Options};
use alluvium_actors::ports::listener::{JobEvent, Listener};
use alluvium_actors::protocol::mutation::{Mutation, activate};
use clap::Parser;
use rustix::process::{Signal, set_parent_process_death_signal};

use graph::input::Input;
use graph::{Shape, build};
use kill::{KillingFiles, Switch};

/// A job for the recovery tests.
#[derive(Debug, Parser)]
#[command(name = "second-job")]
struct Arguments {
    /// Where the lines go: into the subdirectories `all` and `marked`.
    #[arg(long)]
    output: PathBuf,
    /// Where the checkpoints go.
    #[arg(long)]
    store: PathBuf,
    /// Decides keys and marks.
    #[arg(long)]
    seed: u64,
    /// How much of the full input, in hundredths.
    #[arg(long, default_value_t = 100)]
    percent: u64,
    /// How fast the sources are, in hundredths.
    #[arg(long, default_value_t = 100)]
    speed: u64,
    /// How long the slow work takes for a record, in microseconds.
    #[arg(long, default_value_t = 500)]
    work: u64,
    /// In how many instances every operator runs.
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    /// The time from one checkpoint to the next in milliseconds; none of them if it is zero.
    #[arg(long, default_value_t = 20)]
    interval: u64,
    /// Stops the job with a checkpoint after so many periodic ones.
    #[arg(long)]
    stop_after: Option<usize>,
    /// Breaks the rule that a barrier blocks its channel.
    #[arg(long)]
    without_alignment: bool,
    /// Where to kill itself, see `kill.rs`.
    #[arg(long)]
    kill_at: Option<kill::FilePoint>,
    /// Faults that are armed when the last checkpoint is triggered. Others come with `ALLUVIUM_FAULTS`.
    #[arg(long)]
    faults_in_last: Option<FaultPlan>,
    /// Gives a checkpoint up after so many milliseconds, and bears that.
    #[arg(long)]
    timeout: Option<u64>,
    /// Keeps pieces of state shorter than this, in bytes, in the manifest. The state is small: with as much as is usual there would be no blobs.
    #[arg(long, value_name = "BYTES", default_value_t = 1_000)]
    memory_threshold: usize,
    /// Lets no channel wait for another: records may count again.
    #[arg(long)]
    at_least_once: bool,
    /// Keeps local copies of state: little in memory, and the rest in files beside the store.
    #[arg(long)]
    local_recovery: bool,
    /// Lets barriers overtake.
    #[arg(long)]
    unaligned: bool,
    /// Only after this time, for example `2ms`.
    #[arg(long, value_parser = humantime::parse_duration)]
    aligned_checkpoint_timeout: Option<Duration>,
    /// Writes what has changed only.
    #[arg(long)]
    incremental: bool,
    /// Folds so many increments into one.
    #[arg(long)]
    max_increments: Option<usize>,
    /// Adds a region of its own, with so many records.
    #[arg(long)]
    apart: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A test that is killed takes its children along.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("second-job: {error}; it may outlive its test");
    }
    if arguments.without_alignment {
        activate(Mutation::WithoutAlignment);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("second-job: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let input = Input { seed: arguments.seed, percent: arguments.percent };
    let shape = Shape {
        input,
        speed: arguments.speed,
        work: Duration::from_micros(arguments.work),
        parallelism: arguments.parallelism,
        at_least_once: arguments.at_least_once,
        apart: arguments.apart,
    };
    let graph = build(shape, &arguments.output)?;
    let switch = Arc::new(Switch::new(arguments.kill_at.clone()));
    let drill = FaultDrill::new();
    let files = KillingFiles::new(SystemFiles::new(), Arc::clone(&switch));
    let mut options = Options::default()
        .store(&arguments.store)
        .inline_limit(arguments.memory_threshold)
        .files(Arc::new(files))
        .listener(Arc::new(Telling { switch, drill: drill.clone(), in_last: arguments.faults_in_last.clone() }))
        .faults(drill);
    if arguments.at_least_once {
        options = options.checkpoint_mode(CheckpointMode::AtLeastOnce);
    }
    if arguments.local_recovery {
        options = options.local_recovery(
            LocalRecovery::default().memory_limit(2_000).directory(arguments.store.with_extension("local")),
        );
    }
    options = options.incremental(arguments.incremental);
    if arguments.unaligned {
        options = options.unaligned();
    }
    if let Some(timeout) = arguments.aligned_checkpoint_timeout {
        options = options.aligned_checkpoint_timeout(timeout);
    }
    if let Some(increments) = arguments.max_increments {
        options = options.max_increments(increments);
    }
    if let Some(timeout) = arguments.timeout {
        options = options.checkpoint_timeout(Duration::from_millis(timeout)).continue_on_checkpoint_errors();
    }
    if arguments.interval > 0 {
        options = options.checkpoint_every(Duration::from_millis(arguments.interval));
    }
    let handle = graph.start(&options)?;
    let report = match arguments.stop_after {
        None => handle.wait_blocking()?,
        Some(count) => {
            handle.events().filter(|event| matches!(event, JobEvent::Completed { .. })).take(count).for_each(drop);
            handle.stop_blocking()?
        }
    };
    println!("ended: {:?}{}", report.outcome, if report.was_finished_before() { " before" } else { "" });
    Ok(())
}

/// Tells the events. At the last checkpoint it arms what waits for that.
struct Telling {
    switch: Arc<Switch>,
    drill: FaultDrill,
    in_last: Option<FaultPlan>,
}

impl Listener for Telling {
    fn event(&self, event: JobEvent) {
        if let Some(line) = kill::line(&event) {
            println!("{line}");
        }
        self.switch.event(&event);
        if let (JobEvent::Triggered { kind, .. }, Some(faults)) = (&event, &self.in_last)
            && kind.closes()
        {
            self.drill.arm(faults.clone()).expect("the job has what its faults name");
        }
    }
}
