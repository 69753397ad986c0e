//! The workloads against hand-written loops, in one run, as ratios.
//!
//! ```text
//! cargo bench --bench workloads -- W1 --keys 1000000 --parallelism 1 --checkpoint-interval 1s [--seconds 12] [--json]
//! ```
//!
//! `W5 --changed 1%|all [--process]` is for recovery after a failure of a task, or of the process, and has no loop beside it either.
//! `W4 --alignment aligned|unaligned|timeout:100ms` is for checkpoints under back-pressure, and has no loop beside it.
//!
//! Engine and loops run in turn, five pairs in one process; a ratio is the ratio of medians. A line is valid only if at least 10 checkpoints completed in each
//! engine run and at least 90 % of those that were due; otherwise its ratios are null and the exit status is 1. `docs/performance.md` says what is measured, and how.

mod arrivals;
mod changing;
mod engine;
mod first_record;
mod loops;
mod measure;
mod positions;
mod progress;
mod record;
mod recovery;
mod report;
mod resident;
mod sink;
mod stored;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use serde_json::json;

use changing::{Changing, Variant};
use engine::{AlignmentKind, EngineRun, Setup, Work, run};
use measure::{median, percentile};
use progress::Progress;
use record::{W0, W1};
use recovery::{Changed, Local};
use report::{Line, print, round};

/// Runs one workload against hand-written loops and prints its figures: one JSON object a line, or a table.
#[derive(Debug, Parser)]
#[command(name = "workloads", bin_name = "cargo bench --bench workloads --")]
struct Arguments {
    /// Which workload.
    #[arg(value_enum, ignore_case = true)]
    workload: Workload,
    /// How many keys.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How many subtasks each operator has.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=sink::MAX_SUBTASKS as i64))]
    parallelism: u32,
    /// The time from one checkpoint to the next, such as 1s or 100ms, or `off`. If not given: 1s, for W5 2s, and for W6 1s, 100ms and 10ms, one line each.
    #[arg(long, value_parser = interval)]
    checkpoint_interval: Option<Interval>,
    /// The length of each steady phase, in seconds; of W5, that in which the full speed is measured.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many times engine and loops run in turn; for first-record, how many processes are started.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: u64,
    /// How many batches may wait in an edge, if not the default. Published figures are with the default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    credits: Option<u32>,
    /// On how many threads subtasks run, if not the default. Published figures are with the default.
    #[arg(long)]
    workers: Option<usize>,
    /// When the barriers of W4 overtake what waits in front of them: `aligned` (never), `unaligned` (at once), or `timeout:100ms` (after that time).
    #[arg(long, value_parser = alignment, default_value = "unaligned")]
    alignment: Alignment,
    #[command(flatten)]
    variant: Variant,
    /// Which keys change from a checkpoint to a failure of W5: `1%` of them, or `all`. If not given: both, one line each.
    #[arg(long, value_parser = changed)]
    changed: Option<Changed>,
    /// Lets the whole process of W5 fail, by a SIGKILL, and not only the keyed operator.
    #[arg(long)]
    process: bool,
    /// How many failures of W5 there are.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    failures: u64,
    /// Where W5 keeps local copies of state, if not the default: `memory` or `files`. Published figures are with the default.
    #[arg(long, value_parser = local, default_value = "off")]
    local_recovery: Local,
    /// Prints JSON objects instead of tables.
    #[arg(long)]
    json: bool,
    /// Runs the job in this empty directory until it has emitted, and says so: what first-record starts.
    #[arg(long, hide = true)]
    first_record_child: Option<PathBuf>,
    /// Runs the job of W5 in this directory until it is killed, and says how far it is: what `--process` starts.
    #[arg(long, hide = true)]
    w5_child: Option<PathBuf>,
    /// What a child of W5 goes on from.
    #[arg(long, hide = true, value_parser = recovery::former)]
    w5_former: Option<recovery::Former>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Records from a source to a sink, in one chain; against the batch loop.
    #[value(name = "W0")]
    W0,
    /// A running sum per key; against the map loop and the vec loop.
    #[value(name = "W1")]
    W1,
    /// The sums of W1 behind an exchange in front of a sink that is busy for a millisecond with each record.
    #[value(name = "W4")]
    W4,
    /// W1 at half load; then the keyed operator fails, again and again, each time half a second behind a completed checkpoint.
    #[value(name = "W5")]
    W5,
    /// W1 with checkpoints, relative to W1 without; one line per interval. At intervals below 100ms at half load, with incremental checkpoints and 1 % of the keys changing from
    /// one to the next: the share of triggers that complete before the next is due, and the longest gap between outputs in each interval.
    #[value(name = "W6")]
    W6,
    /// The time from the start of a process to the first record at its sink, with an empty store.
    #[value(name = "first-record")]
    FirstRecord,
}

/// The time between checkpoints, if there are any.
#[derive(Clone, Copy, Debug)]
struct Interval(Option<Duration>);

fn interval(text: &str) -> Result<Interval, String> {
    if text == "off" {
        return Ok(Interval(None));
    }
    match humantime::parse_duration(text) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(Interval(Some(interval))),
        Ok(_) => Err("below 10ms: give at least that, or off".to_owned()),
        Err(error) => Err(format!("{error}; give a duration such as 1s, or off")),
    }
}

/// When barriers overtake, with the text that said so.
#[derive(Clone, Debug)]
struct Alignment {
    kind: AlignmentKind,
    text: String,
}

fn alignment(text: &str) -> Result<Alignment, String> {
    let kind = match text.split_once(':') {
        None if text == "aligned" => AlignmentKind::Aligned,
        None if text == "unaligned" => AlignmentKind::Unaligned(Duration::ZERO),
        Some(("timeout", after)) => AlignmentKind::Unaligned(
            humantime::parse_duration(after).map_err(|error| format!("{error}; give a duration such as 100ms"))?,
        ),
        _ => return Err("give aligned, unaligned, or timeout: and a duration, such as timeout:100ms".to_owned()),
    };
    Ok(Alignment { kind, text: text.to_owned() })
}

fn changed(text: &str) -> Result<Changed, String> {
    match text {
        "1%" => Ok(Changed::OnePercent),
        "all" => Ok(Changed::All),
        _ => Err("give 1% or all".to_owned()),
    }
}

fn local(text: &str) -> Result<Local, String> {
    match text {
        "off" => Ok(Local::Off),
        "memory" => Ok(Local::Memory),
        "files" => Ok(Local::Files),
        _ => Err("give off, memory or files".to_owned()),
    }
}

impl Arguments {
    fn interval(&self) -> Option<Duration> {
        self.checkpoint_interval.map_or(Some(Duration::from_secs(1)), |interval| interval.0)
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn recovery(&self, changed: Changed) -> recovery::Setup {
        let interval = self.checkpoint_interval.map_or(Some(Duration::from_secs(2)), |interval| interval.0);
        recovery::Setup {
            keys: self.keys,
            parallelism: self.parallelism,
            changed,
            interval: interval.unwrap_or_else(|| {
                Arguments::command().error(ErrorKind::ValueValidation, "W5 needs checkpoints: give an interval").exit()
            }),
            local: self.local_recovery,
            seconds: self.seconds(),
            failures: self.failures,
            workers: self.workers,
        }
    }

    fn setup(&self, interval: Option<Duration>) -> Setup {
        let (seconds, credits, workers) = (self.seconds(), self.credits, self.workers);
        let alignment = match self.workload {
            Workload::W4 => self.alignment.kind,
            Workload::W0 | Workload::W1 | Workload::W5 | Workload::W6 | Workload::FirstRecord => AlignmentKind::Aligned,
        };
        let incremental = self.variant.incremental;
        Setup { parallelism: self.parallelism, interval, seconds, credits, workers, alignment, incremental, rate: None }
    }

    fn line(
        &self,
        workload: &str,
        interval: Option<Duration>,
        runs: &[&EngineRun],
        off: Option<&EngineRun>,
        peak_rss_bytes: u64,
    ) -> Line {
        Line::new(workload, self.keys, self.parallelism, interval, self.seconds(), runs, off, peak_rss_bytes)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(store) = &arguments.first_record_child {
        first_record::child(store, arguments.keys, arguments.parallelism, arguments.interval());
    }
    if let Some(directory) = &arguments.w5_child {
        let changed = arguments.changed.unwrap_or(Changed::All);
        recovery::child(arguments.recovery(changed), directory, arguments.w5_former.clone());
    }
    let valid = match arguments.workload {
        Workload::W0 => w0(&arguments),
        Workload::W1 => w1(&arguments),
        Workload::W4 => w4(&arguments),
        Workload::W5 => w5(&arguments),
        Workload::W6 => w6(&arguments),
        Workload::FirstRecord => first_record(&arguments),
    };
    if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn w0(arguments: &Arguments) -> bool {
    let (work, interval, seconds) = (W0 { keys: arguments.keys }, arguments.interval(), arguments.seconds());
    let threads = u64::from(arguments.parallelism);
    let progress = Progress::new(arguments.pairs as usize * 2);
    let (mut runs, mut batches, mut rss) = (Vec::new(), Vec::new(), 0);
    for pair in 1..=arguments.pairs {
        runs.push(progress.step(format!("engine {pair}"), || run(Work::W0(work), arguments.setup(interval))));
        if pair == 1 {
            rss = measure::peak_rss_bytes();
        }
        let batch = progress.step(format!("batch loop {pair}"), || loops::batch_loops(work, threads, seconds));
        batches.push(batch.records_per_second);
    }
    drop(progress);
    let mut line = arguments.line("W0", interval, &runs.iter().collect::<Vec<_>>(), None, rss);
    line.set("batch_loop_records_per_second", json!(median(&batches).round()));
    line.ratio("ratio_to_batch_loop", &batches);
    line.print(arguments.json)
}

fn w1(arguments: &Arguments) -> bool {
    let (work, interval, seconds) = (W1 { keys: arguments.keys }, arguments.interval(), arguments.seconds());
    let threads = u64::from(arguments.parallelism);
    let progress = Progress::new(arguments.pairs as usize * 3 + usize::from(interval.is_some()));
    let (mut runs, mut maps, mut vecs, mut rss) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for pair in 1..=arguments.pairs {
        runs.push(progress.step(format!("engine {pair}"), || run(Work::W1(work), arguments.setup(interval))));
        if pair == 1 {
            // Of the engine alone: no loop has run yet.
            rss = measure::peak_rss_bytes();
        }
        let map = progress.step(format!("map loop {pair}"), || loops::map_loops(work, threads, seconds));
        maps.push(map.records_per_second);
        vecs.push(progress.step(format!("vec loop {pair}"), || loops::vec_loop(work, seconds)).records_per_second);
    }
    // The same windows with checkpoints off, to see what of a stall is the checkpoint's.
    let off = interval.map(|_| progress.step("engine, checkpoints off", || run(Work::W1(work), arguments.setup(None))));
    drop(progress);
    let mut line = arguments.line("W1", interval, &runs.iter().collect::<Vec<_>>(), off.as_ref(), rss);
    line.set("map_loop_records_per_second", json!(median(&maps).round()));
    line.set("vec_loop_records_per_second", json!(median(&vecs).round()));
    line.ratio("ratio_to_map_loop", &maps);
    line.ratio("ratio_to_vec_loop", &vecs);
    changing::add_written(&mut line, &runs);
    // Of the first run: later ones find memory that the allocator has kept.
    resident::add(&mut line, &runs[..1]);
    line.print(arguments.json)
}

fn w4(arguments: &Arguments) -> bool {
    let (work, interval) = (Work::W4(W1 { keys: arguments.keys }), arguments.interval());
    let progress = Progress::new(arguments.pairs as usize);
    let runs: Vec<EngineRun> = (1..=arguments.pairs)
        .map(|number| progress.step(format!("engine {number}"), || run(work, arguments.setup(interval))))
        .collect();
    drop(progress);
    let durations: Vec<f64> = runs.iter().flat_map(|run| run.checkpoint_ms.clone()).collect();
    let mut line = arguments.line("W4", interval, &runs.iter().collect::<Vec<_>>(), None, measure::peak_rss_bytes());
    line.set("alignment", json!(arguments.alignment.text));
    line.set("checkpoint_ms_max", round(percentile(&durations, 100.0)));
    let in_flight = runs.iter().flat_map(|run| run.stored.iter().map(|stored| stored.in_flight as f64));
    let in_flight: Vec<f64> = in_flight.collect();
    line.set("in_flight_bytes", json!(median(&in_flight) as u64));
    line.set("in_flight_bytes_max", json!(percentile(&in_flight, 100.0) as u64));
    line.print(arguments.json)
}

fn w5(arguments: &Arguments) -> bool {
    let variants = arguments.changed.map_or_else(|| vec![Changed::OnePercent, Changed::All], |changed| vec![changed]);
    for changed in variants {
        let setup = arguments.recovery(changed);
        let text = if changed == Changed::All { "all" } else { "1%" };
        let progress = Progress::new(1 + arguments.failures as usize);
        let measured = if arguments.process {
            // The same workload, one variant of it.
            let mut same: Vec<String> = std::env::args().skip(1).collect();
            if arguments.changed.is_none() {
                same.extend(["--changed".to_owned(), text.to_owned()]);
            }
            recovery::of_a_process(setup, &same, &progress)
        } else {
            recovery::of_a_task(setup, &progress)
        };
        drop(progress);
        let mut fields = vec![
            ("workload", json!("W5")),
            ("keys", json!(setup.keys)),
            ("parallelism", json!(setup.parallelism)),
            ("checkpoint_interval", json!(format!("{:?}", setup.interval))),
            ("seconds", json!(arguments.seconds)),
            ("failure", json!(if arguments.process { "process" } else { "task" })),
            ("changed", json!(text)),
            ("local_recovery", json!(format!("{:?}", setup.local).to_lowercase())),
            ("failures", json!(measured.first_ms.len())),
            ("fill_seconds", round(measured.fill_seconds)),
            ("records_per_second", json!(measured.records_per_second)),
            ("checkpoint_ms_p50", round(median(&measured.checkpoint_ms))),
            ("checkpoint_bytes", json!(measured.checkpoint_bytes)),
        ];
        for (names, times) in [
            (["recovery_first_ms", "recovery_first_ms_min", "recovery_first_ms_max"], &measured.first_ms),
            (["recovery_position_ms", "recovery_position_ms_min", "recovery_position_ms_max"], &measured.position_ms),
        ] {
            fields.extend(names.into_iter().zip([50.0, 0.0, 100.0].map(|percent| round(percentile(times, percent)))));
        }
        if !arguments.process {
            fields.push(("peak_rss_bytes", json!(measure::peak_rss_bytes())));
        }
        let fields: Vec<_> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        print(&fields, arguments.json);
    }
    true
}

fn w6(arguments: &Arguments) -> bool {
    let intervals = match arguments.checkpoint_interval {
        Some(interval) => interval.0.into_iter().collect(),
        None => vec![Duration::from_secs(1), Duration::from_millis(100), Duration::from_millis(10)],
    };
    let (varied, plain): (Vec<Duration>, Vec<Duration>) =
        intervals.into_iter().partition(|interval| arguments.variant.plan(*interval).is_some());
    let mut valid = true;
    if !plain.is_empty() || varied.is_empty() {
        valid &= w6_at_full_speed(arguments, &plain);
    }
    for interval in varied {
        valid &= w6_varied(arguments, interval);
    }
    valid
}

fn w6_at_full_speed(arguments: &Arguments, intervals: &[Duration]) -> bool {
    let work = Work::W1(W1 { keys: arguments.keys });
    let progress = Progress::new(arguments.pairs as usize * (1 + intervals.len()));
    let mut off = Vec::new();
    let mut with: Vec<Vec<EngineRun>> = intervals.iter().map(|_| Vec::new()).collect();
    let mut rss = Vec::new();
    for pair in 1..=arguments.pairs {
        off.push(progress.step(format!("checkpoints off {pair}"), || run(work, arguments.setup(None))));
        rss.push(measure::peak_rss_bytes());
        for (interval, runs) in intervals.iter().zip(&mut with) {
            let setup = arguments.setup(Some(*interval));
            runs.push(progress.step(format!("every {interval:?} {pair}"), || run(work, setup)));
            rss.push(measure::peak_rss_bytes());
        }
    }
    drop(progress);
    let off_speeds: Vec<f64> = off.iter().map(|run| run.records_per_second).collect();
    let mut line = arguments.line("W6", None, &off.iter().collect::<Vec<_>>(), None, rss[0]);
    line.ratio("relative_to_off", &off_speeds);
    resident::add(&mut line, &off);
    let mut valid = line.print(arguments.json);
    for ((interval, runs), rss) in intervals.iter().zip(&with).zip(&rss[1..]) {
        let mut line = arguments.line("W6", Some(*interval), &runs.iter().collect::<Vec<_>>(), off.first(), *rss);
        line.ratio("relative_to_off", &off_speeds);
        changing::add_written(&mut line, runs);
        resident::add(&mut line, runs);
        valid &= line.print(arguments.json);
    }
    valid
}

/// A line at a part of full speed, with a part of the keys changing.
fn w6_varied(arguments: &Arguments, interval: Duration) -> bool {
    let Some(plan) = arguments.variant.plan(interval) else { return false };
    let progress = Progress::new(arguments.pairs as usize * 3);
    // At full speed the window may move on faster or slower than it should: the speed is the same.
    let work = |rate: f64| Work::Changing(Changing::new(arguments.keys, plan, (rate * interval.as_secs_f64()) as u64));
    let setup = |interval, rate: Option<f64>| Setup {
        incremental: plan.incremental,
        rate: rate.map(|rate| rate.max(1.0) as u64),
        ..arguments.setup(interval)
    };
    let (mut full, mut off, mut with, mut rss) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for pair in 1..=arguments.pairs {
        full.push(
            progress.step(format!("full speed {pair}"), || run(work(40e6), setup(None, None))).records_per_second,
        );
        let rate = median(&full) * plan.load;
        let paced = Some(rate).filter(|_| plan.load < 1.0);
        off.push(progress.step(format!("checkpoints off {pair}"), || run(work(rate), setup(None, paced))));
        with.push(
            progress.step(format!("every {interval:?} {pair}"), || run(work(rate), setup(Some(interval), paced))),
        );
        if pair == 1 {
            rss = measure::peak_rss_bytes();
        }
    }
    drop(progress);
    let mut line = arguments.line("W6", Some(interval), &with.iter().collect::<Vec<_>>(), off.first(), rss);
    line.ratio("relative_to_off", &off.iter().map(|run| run.records_per_second).collect::<Vec<_>>());
    changing::add(&mut line, plan, interval, &with, &off, median(&full));
    changing::add_written(&mut line, &with);
    resident::add(&mut line, &with);
    line.print(arguments.json)
}

fn first_record(arguments: &Arguments) -> bool {
    let progress = Progress::new(arguments.pairs as usize);
    let times: Vec<f64> = (1..=arguments.pairs)
        .map(|number| {
            progress.step(format!("process {number}"), || {
                first_record::measure(arguments.keys, arguments.parallelism, arguments.interval())
            })
        })
        .collect();
    drop(progress);
    let fields = [
        ("workload", json!("first-record")),
        ("keys", json!(arguments.keys)),
        ("parallelism", json!(arguments.parallelism)),
        ("processes", json!(times.len())),
        ("first_record_ms_p50", round(median(&times))),
        ("first_record_ms_p99", round(percentile(&times, 99.0))),
        ("first_record_ms_max", round(percentile(&times, 100.0))),
    ];
    print(&fields.map(|(name, value)| (name.to_owned(), value)), arguments.json);
    true
}
