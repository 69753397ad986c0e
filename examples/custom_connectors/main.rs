//! A source and a sink of one's own: shards that are discovered while they are read, into SQLite, exactly once, whatever kills the process.
//!
//! ```text
//! cargo run --release --example custom_connectors
//! ```
//!
//! `shards.rs` is a source for a log service with three shards that appear one after the other; nothing of it blocks the arbiter. `sqlite.rs` is a sink of two
//! phases for a table in SQLite. Both use the public traits alone, and both pass the public conformance suites. Kill the program with SIGKILL and start it
//! again with the same arguments: it goes on, and in the end the table holds every row once. Ctrl-C stops it with a checkpoint.

pub(crate) mod service;
mod shards;
pub(crate) mod sqlite;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alluvium::{BuildErrors, Graph, Job, JobError, JobHandle, JobOutcome, JobReport, Options};
use clap::Parser;
use futures::future::{Either, select};
use indicatif::{ProgressBar, ProgressStyle};

use service::{GrowingLogs, LogService, SHARDS};
use shards::Shards;
use sqlite::{Row, SqliteTable};

/// Reads three shards of a log service that appear while it runs, and keeps running totals in SQLite, exactly once.
#[derive(Debug, Parser)]
#[command(name = "custom_connectors")]
struct Arguments {
    /// The database. It is created if missing; the rows are in the table `totals`.
    #[arg(long, default_value = "custom-connectors.sqlite")]
    database: PathBuf,
    /// Where the checkpoints go.
    #[arg(long, default_value = "custom-connectors-store")]
    store: PathBuf,
    /// How many events each of the three shards has.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// How many events each shard offers per second.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// The time after which the next shard appears.
    #[arg(long, default_value = "300ms", value_parser = humantime::parse_duration)]
    appearance: Duration,
    /// In how many instances the job runs.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=128))]
    parallelism: u32,
    /// The time from one checkpoint to the next, for example `100ms` or `1s`.
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    checkpoint_interval: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match actix_rt::System::new().block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("custom_connectors: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The job, from a service to a table. The tests simulate this very job.
///
/// # Errors
/// When the parallelism is none.
pub(crate) fn build(service: Arc<dyn LogService>, parallelism: u32, table: SqliteTable) -> Result<Graph, BuildErrors> {
    let job = Job::new("custom-connectors").parallelism(parallelism);
    job.source("shards", Shards::new(service))
        .key_by(|event| &event.shard)
        .aggregate("totals", 0_i64, |_, total, event| {
            *total += event.value;
            Row { shard: event.shard, sequence: event.sequence, total: *total }
        })
        .sink("table", table);
    job.build()
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let service = GrowingLogs::new(arguments.events, arguments.rate, arguments.appearance);
    let committed = SqliteTable::new(&arguments.database, "totals");
    let graph = build(Arc::new(service), arguments.parallelism, committed.clone())?;
    let options = Options::default().store(&arguments.store).checkpoint_every(arguments.checkpoint_interval);
    let handle = graph.start(&options)?;

    let all = arguments.events * SHARDS.len() as u64;
    let bar = progress_bar(all);
    let drawing = actix_rt::spawn(draw(bar.clone(), committed.clone(), handle.clone()));
    let ended = wait_or_stop(&handle).await;
    drawing.abort();
    bar.finish_and_clear();
    summarize(&ended?, &committed, arguments)
}

/// Waits for the end of the job; Ctrl-C stops it with a checkpoint, a second one ends the process at once.
async fn wait_or_stop(handle: &JobHandle) -> Result<JobReport, JobError> {
    let ended = match select(Box::pin(handle.wait()), Box::pin(actix_rt::signal::ctrl_c())).await {
        Either::Left((ended, _)) => return ended,
        Either::Right((_, ended)) => ended,
    };
    eprintln!("stopping with a checkpoint; once more to end at once");
    actix_rt::spawn(async {
        let _ = actix_rt::signal::ctrl_c().await;
        std::process::exit(130);
    });
    match handle.stop().await {
        Ok(_) | Err(JobError::Ended) => ended.await,
        Err(error) => Err(error),
    }
}

fn progress_bar(rows: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos} of {len} rows committed  {msg}  {elapsed_precise}");
    ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

async fn draw(bar: ProgressBar, table: SqliteTable, handle: JobHandle) {
    loop {
        bar.set_position(table.rows().unwrap_or_default());
        bar.set_message(format!("{} checkpoints", handle.status().checkpoints_completed));
        // How often a person is shown how far it is; nothing else depends on it.
        actix_rt::time::sleep(Duration::from_millis(200)).await;
    }
}

fn summarize(report: &JobReport, table: &SqliteTable, arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if report.was_finished_before() {
        println!("The job had finished before: nothing is left to be read.");
    }
    let restored =
        report.status.restored_from.map_or("nothing, it began anew".to_owned(), |id| format!("checkpoint {id}"));
    println!("rows committed         {}", table.rows()?);
    println!("checkpoints completed  {}", report.status.checkpoints_completed);
    println!("restored from          {restored}");
    println!("database               {}", arguments.database.display());
    if report.outcome == JobOutcome::Stopped {
        println!("Stopped; start it again with the same arguments to go on.");
    }
    Ok(())
}
