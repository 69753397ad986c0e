//! Real data: the running delay of every aircraft, exactly once, whatever kills the process and however often.
//!
//! ```text
//! cargo run --release --example flights
//! ```
//!
//! Reads flights from a CSV file, keys them by `tailnum`, drops those that were cancelled (`dep_delay` is `NA`), and writes for every other one a line
//! `tailnum,sequence,total_dep_delay,time_hour`. Kill it with SIGKILL and start it again with the same arguments, or with another `--parallelism`: it goes on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alluvium::connect::files::SourceProgress;
use alluvium::connect::{CsvFiles, Lines};
use alluvium::{
    BuildErrors, CheckpointFigures, CheckpointResult, Graph, Job, JobError, JobHandle, JobOutcome, JobReport, Options,
};
use clap::Parser;
use futures::future::{Either, select};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

/// The running departure delay of every aircraft, exactly once.
#[derive(Debug, Parser)]
#[command(name = "flights")]
struct Arguments {
    /// The flights: a CSV file, plain or gzip (`.csv.gz`).
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights-2013-01.csv"))]
    input: PathBuf,
    /// Where the lines go; committed files end in `.csv`.
    #[arg(long, default_value = "flights-output")]
    output: PathBuf,
    /// Where the checkpoints go.
    #[arg(long, default_value = "flights-store")]
    store: PathBuf,
    /// In how many instances the aircraft are counted. May be another number at each start.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128))]
    parallelism: u32,
    /// The time from one checkpoint to the next, for example `100ms` or `1s`.
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    checkpoint_interval: Duration,
    /// Keeps pieces of state shorter than this, in bytes, in the manifest of a checkpoint; longer ones become files of their own.
    #[arg(long, value_name = "BYTES")]
    memory_threshold: Option<usize>,
    /// Lets checkpoint barriers overtake the records that wait in front of them.
    #[arg(long)]
    unaligned: bool,
    /// Lets them overtake only after this time, for example `100ms`. Goes with `--unaligned`.
    #[arg(long, value_parser = humantime::parse_duration, requires = "unaligned")]
    aligned_checkpoint_timeout: Option<Duration>,
    /// Writes into each checkpoint only what has changed since the one before.
    #[arg(long)]
    incremental: bool,
    /// Folds so many increments over a full snapshot into one. Goes with `--incremental`.
    #[arg(long, value_name = "NUMBER", requires = "incremental")]
    max_increments: Option<usize>,
    /// Reads at most so many rows per second, in the whole job.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

/// The columns that are used of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flight {
    tailnum: String,
    #[serde(with = "minutes")]
    dep_delay: Option<i64>,
    time_hour: String,
}

/// Minutes as the file has them: `NA` marks a flight that never departed. Written as they are read, for a record may go into a checkpoint and come back from it.
mod minutes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(minutes: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        match minutes {
            Some(minutes) => serializer.collect_str(minutes),
            None => serializer.serialize_str("NA"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "NA" {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is neither a number of minutes nor NA")))
    }
}

/// What is kept of an aircraft.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Total {
    sequence: u64,
    delay: i64,
}

/// How far the job is, for the person who watches.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Of all starts together.
    source: SourceProgress,
    /// The rows of this start.
    rows: Arc<AtomicU64>,
}

/// The job, from a file of flights to a directory of lines. The tests simulate this very job.
///
/// # Errors
/// When the parallelism is none.
pub(crate) fn build(
    input: &Path,
    rate: Option<u64>,
    parallelism: u32,
    output: &Path,
) -> Result<(Graph, Progress), BuildErrors> {
    let mut flights = CsvFiles::<Flight>::new(input);
    if let Some(rate) = rate {
        flights = flights.rate(rate);
    }
    let progress = Progress { source: flights.progress(), rows: Arc::default() };
    let rows = Arc::clone(&progress.rows);
    let job = Job::new("flights").parallelism(parallelism);
    job.source("flights", flights)
        .filter(move |flight| {
            rows.fetch_add(1, Ordering::Relaxed);
            flight.dep_delay.is_some()
        })
        .key_by(|flight| &flight.tailnum)
        .aggregate("total-delay", Total::default(), |tailnum, total, flight| {
            total.sequence += 1;
            total.delay += flight.dep_delay.unwrap_or(0);
            format!("{tailnum},{},{},{}", total.sequence, total.delay, flight.time_hour)
        })
        .sink("lines", Lines::exactly_once(output).suffix(".csv"));
    Ok((job.build()?, progress))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match actix_rt::System::new().block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flights: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &Arguments) -> Options {
    let mut options = Options::default()
        .store(&arguments.store)
        .checkpoint_every(arguments.checkpoint_interval)
        .incremental(arguments.incremental);
    if let Some(bytes) = arguments.memory_threshold {
        options = options.inline_limit(bytes);
    }
    if let Some(increments) = arguments.max_increments {
        options = options.max_increments(increments);
    }
    if arguments.unaligned {
        options = options.unaligned();
    }
    if let Some(timeout) = arguments.aligned_checkpoint_timeout {
        options = options.aligned_checkpoint_timeout(timeout);
    }
    options
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let (graph, progress) = build(&arguments.input, arguments.rate, arguments.parallelism, &arguments.output)?;
    let options = options(arguments);
    let began = Instant::now();
    let handle = graph.start(&options)?;
    let bar = progress_bar();
    let drawing = actix_rt::spawn(draw(bar.clone(), progress.clone(), handle.clone()));
    let ended = wait_or_stop(&handle).await;
    drawing.abort();
    bar.finish_and_clear();
    summarize(arguments, &ended?, &handle, &progress, began.elapsed())?;
    Ok(())
}

/// Waits for the end of the job; Ctrl-C (or a polite kill) stops it with a checkpoint, a second one ends the process at once.
async fn wait_or_stop(handle: &JobHandle) -> Result<JobReport, JobError> {
    let ended = Box::pin(handle.wait());
    let ended = match select(ended, Box::pin(interrupted())).await {
        Either::Left((ended, _)) => return ended,
        Either::Right(((), ended)) => ended,
    };
    eprintln!("stopping with a checkpoint; once more to end at once");
    actix_rt::spawn(async {
        interrupted().await;
        std::process::exit(130);
    });
    match handle.stop().await {
        Ok(_) | Err(JobError::Ended) => ended.await,
        Err(error) => Err(error),
    }
}

async fn interrupted() {
    use actix_rt::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    select(Box::pin(interrupt.recv()), Box::pin(terminate.recv())).await;
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {percent:>3} %  {msg}  {elapsed_precise}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A checkpoint that was under way at so many looks tells why.
const LOOKS: u32 = 10;

async fn draw(bar: ProgressBar, progress: Progress, handle: JobHandle) {
    let mut under_way = (None, 0);
    loop {
        bar.set_length(progress.source.bytes_total());
        bar.set_position(progress.source.bytes_read());
        let story = handle.explain_checkpoint();
        let checkpoint = story.as_ref().map(|story| story.checkpoint);
        under_way = if checkpoint == under_way.0 { (checkpoint, under_way.1 + 1) } else { (checkpoint, 0) };
        bar.set_message(match story.filter(|_| under_way.1 >= LOOKS) {
            Some(story) => story.to_string(),
            None => {
                let (rows, checkpoints) = (progress.source.rows_read(), handle.status().checkpoints_completed);
                format!("{rows} rows, {checkpoints} checkpoints")
            }
        });
        // How often a person is shown how far it is; nothing else depends on it.
        actix_rt::time::sleep(Duration::from_millis(100)).await;
    }
}

fn summarize(
    arguments: &Arguments,
    report: &JobReport,
    handle: &JobHandle,
    progress: &Progress,
    elapsed: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    if report.was_finished_before() {
        println!(
            "The job had finished before: nothing is left to be read. Its lines are in {}.",
            arguments.output.display()
        );
        return Ok(());
    }
    let status = &report.status;
    let restored = status.restored_from.map_or("nothing, it began anew".to_owned(), |id| format!("checkpoint {id}"));
    // What is committed is the truth, whichever process wrote it.
    let written = Written::count(&arguments.output)?;
    let rows = progress.source.rows_read();
    println!("rows                   {rows}");
    println!("cancelled              {}", rows.saturating_sub(written.lines));
    println!("aircraft               {}", written.aircraft);
    println!("records per second     {:.0}", progress.rows.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64());
    println!("checkpoints completed  {}", status.checkpoints_completed);
    println!("restored from          {restored}");
    let took = |figures: &CheckpointFigures| match figures.result {
        Some(CheckpointResult::Completed { duration, .. }) => Some(duration),
        _ => None,
    };
    if let Some(story) = handle.checkpoints().into_iter().max_by_key(took).and_then(|slowest| slowest.story) {
        println!("slowest                {story}");
    }
    if report.outcome == JobOutcome::Stopped {
        println!("Stopped; start it again with the same arguments to go on.");
    }
    Ok(())
}

/// How the names of this job's files begin: job and sink. The directory may hold files of others.
const FILES: &str = "flights-lines-";

/// What the committed files hold.
struct Written {
    lines: u64,
    aircraft: usize,
}

impl Written {
    fn count(directory: &std::path::Path) -> std::io::Result<Written> {
        let mut lines = 0;
        let mut aircraft = std::collections::HashSet::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FILES));
            if is_ours && path.extension().is_some_and(|extension| extension == "csv") {
                for line in std::fs::read_to_string(&path)?.lines() {
                    lines += 1;
                    if let Some((tailnum, _)) = line.split_once(',') {
                        aircraft.insert(tailnum.to_owned());
                    }
                }
            }
        }
        Ok(Written { lines, aircraft: aircraft.len() })
    }
}
