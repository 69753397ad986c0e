//! The flights example on real data, killed at random moments: plain and compressed input, one and two instances.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::child::{Process, armed_program, program};
use crate::killing::{Catalogue, Victim, kill_again_and_again};
use crate::matrix::{Chosen, Setting};
use crate::oracle::{FlightsOracle, Verdict, Witness};
use crate::scratch::Scratch;
use crate::seed::Seed;

/// The real input: all flights that left New York in January 2013.
pub(crate) fn real_input() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights-2013-01.csv"))
        .expect("the data is there")
}

/// The flights example in a directory of its own, with its input.
#[derive(Debug)]
pub(crate) struct Flights {
    pub(crate) scratch: Scratch,
    pub(crate) input: String,
    pub(crate) parallelism: u32,
    pub(crate) setting: Setting,
    /// What the next start is told of it.
    chosen: Chosen,
    pub(crate) rate: u64,
    pub(crate) interval: u64,
    /// The bytes from which a piece of state is a blob, if not as many as is usual.
    pub(crate) memory_threshold: Option<usize>,
    oracle: FlightsOracle,
    witness: Witness,
}

impl Flights {
    /// On an input of this text, as a file of this name.
    pub(crate) fn new(text: &str, input: &str, parallelism: u32) -> Flights {
        let scratch = Scratch::new();
        write_input(&scratch.path(input), text);
        let witness = Witness::new(scratch.output());
        let oracle = FlightsOracle::new(text, usize::MAX);
        let (input, rate, interval) = (input.to_owned(), 15_000, 20);
        Flights {
            scratch,
            input,
            parallelism,
            setting: Setting::Usual,
            chosen: Chosen::USUAL,
            rate,
            interval,
            memory_threshold: None,
            oracle,
            witness,
        }
    }

    /// The same job, as it is now, in another directory.
    pub(crate) fn copy(&self) -> Flights {
        let scratch = self.scratch.copy();
        let witness = Witness::new(scratch.output());
        Flights { scratch, input: self.input.clone(), oracle: self.oracle.clone(), witness, ..*self }
    }

    /// With this setting, from the first start on.
    pub(crate) fn with(mut self, setting: Setting, seed: &mut Seed) -> Flights {
        self.setting = setting;
        self.change(seed);
        self
    }

    /// Starts the program in which faults can be armed, with these.
    pub(crate) fn start_with_faults(&self, faults: &str) -> Process {
        Process::start_with_faults(&armed_program("flights"), self.arguments(), faults)
    }

    /// Starts the program in which no faults can be armed, with some in its environment.
    pub(crate) fn start_plain(&self, faults: &str) -> Process {
        Process::start_with_faults(&program("flights"), self.arguments(), faults)
    }

    fn arguments(&self) -> Vec<String> {
        let numbers = [
            ("--parallelism", self.chosen.parallelism(self.parallelism).to_string()),
            ("--checkpoint-interval", format!("{}ms", self.interval)),
            ("--rate", self.rate.to_string()),
        ];
        let paths =
            [("--input", self.input_path()), ("--output", self.scratch.output()), ("--store", self.scratch.store())];
        let paths = paths.map(|(name, path)| (name, path.display().to_string()));
        let threshold = self.memory_threshold.map(|bytes| ("--memory-threshold", bytes.to_string()));
        let values = paths.into_iter().chain(numbers).chain(threshold);
        let values = values.flat_map(|(name, value)| [name.to_owned(), value]);
        values.chain(self.chosen.arguments.iter().map(|argument| (*argument).to_owned())).collect()
    }

    pub(crate) fn input_path(&self) -> PathBuf {
        self.scratch.path(&self.input)
    }

    /// The committed lines; each is right.
    pub(crate) fn committed(&mut self) -> Verdict<Vec<String>> {
        let committed = self.witness.committed()?;
        self.oracle.check(&committed)?;
        Ok(committed)
    }
}

/// Writes a file, compressed if its name ends so.
pub(crate) fn write_input(path: &std::path::Path, text: &str) {
    let mut bytes = text.as_bytes().to_vec();
    if path.extension().is_some_and(|end| end == "gz") {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).expect("memory can be written");
        bytes = encoder.finish().expect("memory can be written");
    }
    fs::write(path, bytes).expect("the input can be written");
}

impl Victim for Flights {
    fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    fn change(&mut self, seed: &mut Seed) {
        self.chosen = self.setting.choose(seed);
    }

    fn start(&self) -> Process {
        Process::start(&program("flights"), self.arguments())
    }

    fn watch(&self, process: &mut Process, seed: &mut Seed) {
        // It says nothing before its end; a manifest of its own shows that it came to something. Sometimes from the very start, recovery included.
        if seed.within(0..3) != 0 {
            self.scratch.wait_for_manifest(process);
        }
    }

    fn check(&mut self) -> Verdict<usize> {
        Ok(self.committed()?.len())
    }

    fn check_complete(&mut self) -> Verdict {
        let committed = self.witness.committed()?;
        self.oracle.check_complete(&committed)
    }
}

fn kill_flights(test: &str, input: &str, parallelism: u32, catalogue: Catalogue, setting: Setting) {
    let mut seed = Seed::draw(test);
    let mut flights = Flights::new(&real_input(), input, parallelism).with(setting, &mut seed);
    flights.interval = seed.within(10..50);
    kill_again_and_again(&mut flights, catalogue, 8, &mut seed);
}

#[test]
fn flights_survive_kills_at_random_moments() {
    kill_flights("flights, one instance", "flights.csv", 1, Catalogue::Kept, Setting::Usual);
}

#[test]
fn flights_in_two_instances_survive_kills_at_random_moments() {
    kill_flights("flights, two instances", "flights.csv", 2, Catalogue::Kept, Setting::Usual);
}

#[test]
fn compressed_flights_survive_kills_at_random_moments() {
    kill_flights("compressed flights", "flights.csv.gz", 2, Catalogue::Kept, Setting::Usual);
}

#[test]
fn compressed_flights_survive_the_loss_of_the_catalogue_between_kills() {
    let catalogue = Catalogue::Damaged;
    kill_flights("compressed flights, damaged catalogue", "flights.csv.gz", 1, catalogue, Setting::Usual);
}

#[test]
fn flights_survive_kills_at_random_moments_while_barriers_overtake() {
    kill_flights("flights, overtaking", "flights.csv", 2, Catalogue::Kept, Setting::Overtaking);
}

#[test]
fn flights_survive_kills_at_random_moments_while_barriers_begin_to_overtake_after_a_time() {
    kill_flights("flights, switching", "flights.csv", 2, Catalogue::Kept, Setting::Switching);
}

#[test]
fn flights_survive_kills_at_random_moments_with_increments_and_the_loss_of_the_catalogue() {
    kill_flights("flights, incremental", "flights.csv", 2, Catalogue::Damaged, Setting::Incremental);
}

#[test]
fn flights_survive_kills_at_random_moments_and_go_on_at_other_parallelisms() {
    kill_flights("flights, rescaled", "flights.csv", 1, Catalogue::Kept, Setting::Rescaled);
}
