//! A graph with every way to wire it: it prints itself as text, as a picture (DOT) and as JSON, says what it guarantees and why, and then runs.
//!
//! ```text
//! cargo run --release --example graph                  # all of it
//! cargo run --release --example graph -- text          # only that: text, dot, json or guarantees
//! cargo run --release --example graph -- dot | dot -Tsvg > graph.svg
//! ```

use std::process::ExitCode;
use std::time::Duration;

use alluvium::connect::sink::{Guarantee, Sink};
use alluvium::connect::{Collect, Generator, Items};
use alluvium::operator::{Access, Context, KeyedProcess, ProcessContext, ProcessFunction, SideOutput, SideOutputs};
use alluvium::state::{AggregateFunction, Aggregating, ReduceFunction, Reducing};
use alluvium::{BuildErrors, Graph, Job, OperatorResult, Options};
use serde::{Deserialize, Serialize};

/// How many weather stations there are, each with a source of its own.
pub(crate) const STATIONS: u64 = 3;
const REGIONS: u64 = 8;

/// Lines that are no readings leave the parser by the side.
const MALFORMED: SideOutput<String> = SideOutput::named("malformed");

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) region: u64,
    pub(crate) degrees: i64,
}

/// What is known of a region after a reading.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Weather {
    pub(crate) region: u64,
    pub(crate) readings: u64,
    pub(crate) hottest: i64,
    pub(crate) mean: f64,
}

/// What a line says, if it says anything.
pub(crate) fn parse(line: &str) -> Option<Reading> {
    let (region, degrees) = line.split_once(',')?;
    Some(Reading { region: region.parse().ok()?, degrees: degrees.parse().ok()? })
}

#[derive(Clone)]
struct Parse;

impl ProcessFunction for Parse {
    type In = String;
    type Out = Reading;

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&MALFORMED)
    }

    fn process(&self, line: String, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        match parse(&line) {
            Some(reading) => context.emit(reading),
            None => context.emit_to(&MALFORMED, line)?,
        }
        Ok(())
    }
}

struct Greatest;

impl ReduceFunction for Greatest {
    type Value = i64;

    fn reduce(stored: i64, added: i64) -> i64 {
        stored.max(added)
    }
}

struct Mean;

impl AggregateFunction for Mean {
    type In = i64;
    type Accumulator = (u64, i64);
    type Out = f64;

    fn create() -> (u64, i64) {
        (0, 0)
    }

    fn add((count, sum): &mut (u64, i64), added: i64) {
        *count += 1;
        *sum += added;
    }

    fn result((count, sum): &(u64, i64)) -> f64 {
        *sum as f64 / *count as f64
    }
}

/// Keeps the weather of each region.
#[derive(Clone)]
struct Watch;

impl KeyedProcess for Watch {
    type Key = u64;
    type In = Reading;
    type Out = Weather;
    type State = (Reducing<Greatest>, Aggregating<Mean>);

    fn state(&self) -> Self::State {
        (Reducing::named("hottest"), Aggregating::named("mean"))
    }

    fn process(
        &self,
        reading: Reading,
        (mut hottest, mut mean): Access<'_, Self>,
        mut context: Context<'_, Self>,
    ) -> OperatorResult {
        mean.add(reading.degrees);
        let weather = Weather {
            region: *context.key(),
            readings: mean.accumulator().map_or(0, |(count, _)| *count),
            hottest: *hottest.add(reading.degrees),
            mean: mean.get().unwrap_or_default(),
        };
        context.emit(weather);
        Ok(())
    }
}

/// Tells which subtask heard of a warning: each of them does.
#[derive(Clone)]
struct Hear;

impl ProcessFunction for Hear {
    type In = String;
    type Out = String;

    fn process(&self, warning: String, mut context: ProcessContext<'_, Self>) -> OperatorResult {
        let heard = format!("station keeper {} heard: {warning}", context.subtask());
        context.emit(heard);
        Ok(())
    }
}

/// A line as a station sends it; one in fifty is damaged.
pub(crate) fn line(station: u64, index: u64) -> String {
    if index % 50 == 49 {
        return format!("station {station}: lost contact");
    }
    format!("{},{}", (index * 7 + station) % REGIONS, (index * 31 + station * 5) as i64 % 45 - 10)
}

/// Where the output goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside<W, S> {
    pub(crate) weather: W,
    pub(crate) malformed: S,
    pub(crate) heard: S,
}

/// Keeps all output in memory.
type Collected = Outside<Collect<Weather>, Collect<String>>;

/// The job, with so many lines from each station, at so many per second. The tests simulate this very job.
///
/// # Errors
/// None, as it stands.
pub(crate) fn build<W, S>(lines: u64, rate: u64, outside: &Outside<W, S>) -> Result<Graph, BuildErrors>
where
    W: Sink<Weather> + Clone,
    S: Sink<String> + Clone,
{
    let job = Job::new("weather").parallelism(2);
    // A part for each station, made in a loop: uids come from the loop variable.
    let mut readings = Vec::new();
    let mut malformed = Vec::new();
    for station in 0..STATIONS {
        let sent = Generator::bounded(lines, move |index| line(station, index)).rate(rate);
        let sent = job.source(&format!("station-{station}"), sent);
        let parsed = sent.process(Parse).uid(&format!("parse-{station}"));
        malformed.push(parsed.side(&MALFORMED));
        readings.push(parsed);
    }
    job.union(malformed).sink("malformed", outside.malformed.clone()).parallelism(1);
    // Neighbouring regions to the same subtask, as a function of one's own decides.
    let plausible = job
        .union(readings)
        .partition(|reading, subtasks| (reading.region * u64::from(subtasks) / REGIONS) as u32)
        .filter(|reading| reading.degrees < 60)
        .name("plausible")
        .credits(4);
    plausible
        .key_by(|reading| &reading.region)
        .process("watch", Watch)
        .sink("weather", outside.weather.clone())
        .requires(Guarantee::ExactlyOnce);
    // Every subtask gets every warning. The chain is forced apart, on another worker.
    job.source("warnings", Items::new(vec!["storm".to_owned(), "frost".to_owned()]))
        .parallelism(1)
        .broadcast()
        .process(Hear)
        .name("hear")
        .start_new_chain()
        .first_worker(1)
        .sink("heard", outside.heard.clone());
    job.build()
}

/// A job that declares more than it can keep is not built.
fn declare_too_much() -> Result<Graph, BuildErrors> {
    let job = Job::new("declared too much").requires(Guarantee::ExactlyOnce);
    job.source("numbers", Generator::bounded(10, |index| index)).for_each("print", |number| println!("{number}"));
    job.build()
}

fn main() -> ExitCode {
    let outside = Collected::default();
    let graph = match build(2_000, 20_000, &outside) {
        Ok(graph) => graph,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    let options = Options::default().checkpoint_every(Duration::from_millis(100));
    let wanted = std::env::args().nth(1);
    match wanted.as_deref() {
        Some("text") => print!("{}", graph.to_text()),
        Some("dot") => print!("{}", graph.to_dot()),
        Some("json") => println!("{}", graph.to_json()),
        Some("guarantees") => print!("{}", graph.guarantees_with(&options)),
        Some(other) => {
            eprintln!("`{other}` is none of text, dot, json, guarantees");
            return ExitCode::FAILURE;
        }
        None => return all(&graph, &outside, &options),
    }
    ExitCode::SUCCESS
}

fn all(graph: &Graph, outside: &Collected, options: &Options) -> ExitCode {
    println!("{}\n{}\n{}\n", graph.to_text(), graph.to_dot(), graph.to_json());
    // A collection ends with the process. With checkpoints that outlive it, another process would go on behind what was lost: what was declared would not hold,
    // and the job does not start.
    if let Err(error) = graph.start(&options.clone().store("never-made")) {
        println!("not started: {error}\n");
    }
    if let Err(errors) = declare_too_much() {
        println!("not built: {errors}\n");
    }
    match run(graph, outside, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("graph: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(graph: &Graph, outside: &Collected, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", graph.guarantees_with(options));
    graph.start(options)?.wait_blocking()?;
    let mut last = std::collections::BTreeMap::new();
    for weather in outside.weather.collected() {
        last.entry(weather.region)
            .and_modify(|known: &mut Weather| {
                if weather.readings > known.readings {
                    known.clone_from(&weather);
                }
            })
            .or_insert(weather);
    }
    println!();
    for weather in last.values() {
        println!(
            "region {}: {} readings, {:.1} degrees in the mean, {} at most",
            weather.region, weather.readings, weather.mean, weather.hottest
        );
    }
    println!("{} lines were malformed", outside.malformed.collected().len());
    for heard in outside.heard.collected() {
        println!("{heard}");
    }
    Ok(())
}
