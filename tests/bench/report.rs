//! What is printed: one JSON object, or a table, for each line of figures.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::EngineRun;
use crate::measure::{median, percentile, spread};

/// The fewest checkpoints in a run, and the share of those due, for which a line counts.
const FEWEST_CHECKPOINTS: usize = 10;
const SHARE_OF_DUE: f64 = 0.9;

/// The fewest windows for which stalls are a figure.
const FEWEST_STALLS: usize = 20;

/// One line of figures.
pub struct Line {
    /// In the order in which they are printed.
    fields: Vec<(String, Value)>,
    speeds: Vec<f64>,
    valid: bool,
    why: String,
}

impl Line {
    /// The figures of the engine. `off` is a run with checkpoints off, for the stalls that are not a checkpoint's.
    pub fn new(
        workload: &str,
        keys: u64,
        parallelism: u32,
        interval: Option<Duration>,
        seconds: Duration,
        runs: &[&EngineRun],
        off: Option<&EngineRun>,
        peak_rss_bytes: u64,
    ) -> Line {
        let all = |figure: fn(&EngineRun) -> f64| runs.iter().map(|run| figure(run)).collect::<Vec<_>>();
        let speeds = all(|run| run.records_per_second);
        let durations: Vec<f64> = runs.iter().flat_map(|run| run.checkpoint_ms.clone()).collect();
        let stalls: Vec<f64> = runs.iter().flat_map(|run| run.stalls_ms()).collect();
        let window = Duration::from_secs_f64(median(&durations).max(0.0) / 1e3);
        let stalls_off =
            off.filter(|_| !durations.is_empty()).map_or_else(Vec::new, |run| run.stalls_in_windows_of(window));
        let due = interval.map_or(0.0, |interval| (seconds.as_secs_f64() / interval.as_secs_f64()).floor());
        let fewest = runs.iter().map(|run| run.checkpoint_ms.len()).min().unwrap_or(0);
        let enough = fewest >= FEWEST_CHECKPOINTS && fewest as f64 >= SHARE_OF_DUE * due;
        let valid = interval.is_none() || enough;
        let why = format!(
            "{fewest} checkpoints completed in a run and {due:.0} were due; at least {FEWEST_CHECKPOINTS} and 90 % are wanted"
        );
        let (slowest, fastest) = spread(&speeds);
        let mut line = Line { fields: Vec::new(), speeds: speeds.clone(), valid, why };
        line.set("workload", json!(workload));
        line.set("keys", json!(keys));
        line.set("parallelism", json!(parallelism));
        line.set("checkpoint_interval", json!(interval.map_or("off".to_owned(), |interval| format!("{interval:?}"))));
        line.set("seconds", json!(seconds.as_secs()));
        line.set("fill_seconds", round(median(&all(|run| run.fill_seconds))));
        line.set("growth_ms_max", round(percentile(&all(|run| run.growth_ms_max), 100.0)));
        line.set("records_per_second", json!(median(&speeds).round()));
        line.set("records_per_second_min", json!(slowest.round()));
        line.set("records_per_second_max", json!(fastest.round()));
        line.set("checkpoints", json!(runs.iter().map(|run| run.checkpoint_ms.len()).sum::<usize>()));
        line.set("checkpoint_ms_p50", figure(&durations, 50.0, 1));
        line.set("checkpoint_ms_p99", figure(&durations, 99.0, 1));
        line.set("stall_ms_p50", figure(&stalls, 50.0, FEWEST_STALLS));
        line.set("stall_ms_p99", figure(&stalls, 99.0, FEWEST_STALLS));
        line.set("stall_ms_max", figure(&stalls, 100.0, FEWEST_STALLS));
        line.set("stall_off_ms_p99", figure(&stalls_off, 99.0, FEWEST_STALLS));
        line.set("checkpoint_bytes", json!(runs.iter().map(|run| run.checkpoint_bytes).max()));
        line.set("cpu_ns_per_record", round(median(&all(|run| run.cpu_ns_per_record))));
        line.set("peak_rss_bytes", json!(peak_rss_bytes));
        line
    }

    pub fn set(&mut self, name: &str, value: Value) {
        self.fields.push((name.to_owned(), value));
    }

    /// The ratio of medians to what else reached these speeds, with the smallest and the largest that the runs allow; null in a line
    /// that is not valid.
    pub fn ratio(&mut self, name: &str, others: &[f64]) {
        let (slowest, fastest) = spread(&self.speeds);
        let (other_slowest, other_fastest) = spread(others);
        let valid = self.valid && !others.is_empty();
        let value = |ratio: f64| if valid { round(ratio) } else { Value::Null };
        let (middle, low, high) = (
            value(median(&self.speeds) / median(others)),
            value(slowest / other_fastest),
            value(fastest / other_slowest),
        );
        self.set(name, middle);
        self.set(&format!("{name}_min"), low);
        self.set(&format!("{name}_max"), high);
    }

    /// Prints the line. Answers whether it is valid.
    pub fn print(self, as_json: bool) -> bool {
        print(&self.fields, as_json);
        if !self.valid {
            eprintln!("not valid: {}", self.why);
        }
        self.valid
    }
}

/// Prints figures as one JSON object, or as a table.
pub fn print(fields: &[(String, Value)], as_json: bool) {
    if as_json {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        println!("{{{}}}", fields.join(","));
    } else {
        for (name, value) in fields {
            println!("{name:34} {value}");
        }
        println!();
    }
}

/// A percentile; null below so many values.
fn figure(values: &[f64], percent: f64, fewest: usize) -> Value {
    if values.len() >= fewest { round(percentile(values, percent)) } else { Value::Null }
}

/// Three digits behind the point.
pub fn round(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
