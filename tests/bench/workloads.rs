//! The workloads against hand-written loops, in one run, as ratios.
//!
//! ```text
//! cargo bench --bench workloads -- W1 --keys 1000000 --parallelism 1 --checkpoint-interval 1s [--seconds 12] [--json]
//! ```
//!
//! Engine and loops run in turn, five pairs in one process; a ratio is the ratio of medians. A line is valid only if at least 10 checkpoints completed in each
//! engine run and at least 90 % of those that were due; otherwise its ratios are null and the exit status is 1.

mod engine;
mod loops;
mod measure;
mod record;
mod sink;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::json;

use engine::EngineRun;
use measure::{median, percentile, spread};
use record::W1;

/// Runs one workload and prints one line of JSON, or a table.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which workload.
    #[arg(value_enum, ignore_case = true)]
    workload: Workload,
    /// How many keys.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// How many subtasks each operator has.
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    /// The time from one checkpoint to the next, or `off`.
    #[arg(long, default_value = "1s")]
    checkpoint_interval: String,
    /// The length of each steady phase.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// How many pairs of runs.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Workload {
    /// A running sum per key.
    #[value(name = "W1")]
    W1,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let interval = match arguments.checkpoint_interval.as_str() {
        "off" => None,
        text => match humantime::parse_duration(text) {
            Ok(interval) => Some(interval),
            Err(error) => {
                eprintln!("--checkpoint-interval {text}: {error}; give a duration such as 1s, or off");
                return ExitCode::FAILURE;
            }
        },
    };
    let work = W1 { keys: arguments.keys };
    let seconds = Duration::from_secs(arguments.seconds);
    let mut engines = Vec::new();
    let mut maps = Vec::new();
    let mut vecs = Vec::new();
    let mut engine_rss = 0;
    for pair in 0..arguments.pairs {
        eprintln!("pair {} of {}", pair + 1, arguments.pairs);
        engines.push(engine::run(work, arguments.parallelism, interval, seconds));
        if pair == 0 {
            // Of the engine alone: no loop has run yet.
            engine_rss = measure::peak_rss_bytes();
        }
        let map = loops::map_loops(work, u64::from(arguments.parallelism), seconds);
        maps.push(map.records_per_second);
        vecs.push(loops::vec_loop(work, seconds).records_per_second);
    }
    // The same windows with checkpoints off, to see what of a stall is the checkpoint's.
    let off = interval.map(|_| engine::run(work, arguments.parallelism, None, seconds));
    report(&arguments, interval, &engines, off.as_ref(), (&maps, &vecs), engine_rss)
}

fn report(
    arguments: &Arguments,
    interval: Option<Duration>,
    engines: &[EngineRun],
    off: Option<&EngineRun>,
    (maps, vecs): (&[f64], &[f64]),
    engine_rss: u64,
) -> ExitCode {
    let speeds: Vec<f64> = engines.iter().map(|run| run.records_per_second).collect();
    let durations: Vec<f64> = engines.iter().flat_map(|run| run.checkpoint_ms.clone()).collect();
    let stalls: Vec<f64> = engines.iter().flat_map(EngineRun::stalls_ms).collect();
    let window = median(&durations);
    let stalls_off: Vec<f64> =
        off.map(|run| run.stalls_in_windows_of(Duration::from_secs_f64(window.max(0.0) / 1e3))).unwrap_or_default();
    let due =
        interval.map_or(0.0, |interval| Duration::from_secs(arguments.seconds).as_secs_f64() / interval.as_secs_f64());
    let fewest = engines.iter().map(|run| run.checkpoint_ms.len()).min().unwrap_or(0);
    let valid = interval.is_none() || (fewest >= 10 && fewest as f64 >= 0.9 * due.floor());
    let ratio = |loops: &[f64]| valid.then(|| round(median(&speeds) / median(loops)));
    let (slowest, fastest) = spread(&speeds);
    let line = json!({
        "workload": "W1",
        "keys": arguments.keys,
        "parallelism": arguments.parallelism,
        "checkpoint_interval": arguments.checkpoint_interval,
        "seconds": arguments.seconds,
        "fill_seconds": round(median(&engines.iter().map(|run| run.fill_seconds).collect::<Vec<_>>())),
        "growth_ms_max": round(engines.iter().map(|run| run.growth_ms_max).fold(0.0, f64::max)),
        "records_per_second": median(&speeds).round(),
        "records_per_second_min": slowest.round(),
        "records_per_second_max": fastest.round(),
        "map_loop_records_per_second": median(maps).round(),
        "vec_loop_records_per_second": median(vecs).round(),
        "ratio_to_map_loop": ratio(maps),
        "ratio_to_map_loop_min": valid.then(|| round(slowest / spread(maps).1)),
        "ratio_to_map_loop_max": valid.then(|| round(fastest / spread(maps).0)),
        "ratio_to_vec_loop": ratio(vecs),
        "checkpoints": engines.iter().map(|run| run.checkpoint_ms.len()).sum::<usize>(),
        "checkpoints_fewest_in_a_run": fewest,
        "checkpoint_ms_p50": round(percentile(&durations, 50.0)),
        "checkpoint_ms_p99": round(percentile(&durations, 99.0)),
        "stall_ms_p50": stall(&stalls, 50.0),
        "stall_ms_p99": stall(&stalls, 99.0),
        "stall_ms_max": stall(&stalls, 100.0),
        "stall_off_ms_p99": stall(&stalls_off, 99.0),
        "checkpoint_bytes": engines.iter().map(|run| run.checkpoint_bytes).max(),
        "cpu_ns_per_record": round(median(&engines.iter().map(|run| run.cpu_ns_per_record).collect::<Vec<_>>())),
        "peak_rss_bytes": engine_rss,
    });
    if arguments.json {
        println!("{line}");
    } else if let Some(fields) = line.as_object() {
        for (name, value) in fields {
            println!("{name:32} {value}");
        }
    }
    if valid {
        ExitCode::SUCCESS
    } else {
        eprintln!("not valid: {fewest} checkpoints in a run, {due:.0} were due; at least 10 and 90 % are wanted");
        ExitCode::FAILURE
    }
}

/// A stall is a figure only over at least 20 windows.
fn stall(stalls: &[f64], percent: f64) -> Option<f64> {
    (stalls.len() >= 20).then(|| round(percentile(stalls, percent)))
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
