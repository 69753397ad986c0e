//! The example `custom_connectors`: a source and a sink as a stranger writes them, killed at random moments. Every row once, in one database.

use std::collections::BTreeMap;

use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;

use crate::child::{Process, program};
use crate::killing::{Catalogue, Victim, kill_again_and_again};
use crate::oracle::Verdict;
use crate::scratch::Scratch;
use crate::seed::Seed;

#[allow(dead_code, reason = "the example's module; only its events are needed here")]
#[path = "../../examples/custom_connectors/service.rs"]
mod service;

/// The example in a directory of its own.
struct Example {
    scratch: Scratch,
    events: u64,
    rate: u64,
    parallelism: u32,
}

impl Example {
    fn new(events: u64, rate: u64, parallelism: u32) -> Example {
        Example { scratch: Scratch::new(), events, rate, parallelism }
    }

    fn database(&self) -> std::path::PathBuf {
        self.scratch.path("rows.sqlite")
    }

    /// The committed rows: shard, sequence, total.
    fn rows(&self) -> Verdict<Vec<(String, u64, i64)>> {
        if !self.database().exists() {
            return Ok(Vec::new());
        }
        let connection = Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|error| error.to_string())?;
        let Ok(mut statement) = connection.prepare("SELECT shard, sequence, total FROM totals") else {
            return Ok(Vec::new());
        };
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(|error| error.to_string())?;
        rows.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// What the rows have to be: the running totals of each shard.
    fn wanted(&self) -> BTreeMap<(String, u64), i64> {
        let mut wanted = BTreeMap::new();
        for shard in service::SHARDS {
            let mut total = 0;
            for sequence in 0..self.events {
                total += service::event(shard, sequence).value;
                wanted.insert((shard.to_owned(), sequence), total);
            }
        }
        wanted
    }
}

impl Victim for Example {
    fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    fn start(&self) -> Process {
        let arguments = [
            ("--database", self.database().display().to_string()),
            ("--store", self.scratch.store().display().to_string()),
            ("--events", self.events.to_string()),
            ("--rate", self.rate.to_string()),
            ("--parallelism", self.parallelism.to_string()),
            ("--checkpoint-interval", "20ms".to_owned()),
            ("--appearance", "100ms".to_owned()),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        Process::start(&program("custom_connectors"), arguments)
    }

    fn watch(&self, process: &mut Process, seed: &mut Seed) {
        if seed.within(0..3) != 0 {
            self.scratch.wait_for_manifest(process);
        }
    }

    fn check(&mut self) -> Verdict<usize> {
        let mut wanted = self.wanted();
        let rows = self.rows()?;
        let number = rows.len();
        for (shard, sequence, total) in rows {
            match wanted.remove(&(shard.clone(), sequence)) {
                Some(right) if right == total => {}
                Some(right) => return Err(format!("{shard} {sequence} is {total}, not {right}")),
                None => return Err(format!("{shard} {sequence} is there twice, or should not be")),
            }
        }
        Ok(number)
    }

    fn check_complete(&mut self) -> Verdict {
        let (found, wanted) = (self.check()?, self.wanted().len());
        if found == wanted { Ok(()) } else { Err(format!("{found} of {wanted} rows")) }
    }
}

fn kill_the_example(test: &str, parallelism: u32) {
    let mut seed = Seed::draw(test);
    let mut example = Example::new(4_000, 3_000, parallelism);
    kill_again_and_again(&mut example, Catalogue::Kept, 8, &mut seed);
}

#[test]
fn connectors_of_a_stranger_survive_kills_at_random_moments() {
    kill_the_example("custom connectors, one instance", 1);
}

#[test]
fn connectors_of_a_stranger_in_two_instances_survive_kills_at_random_moments() {
    kill_the_example("custom connectors, two instances", 2);
}

#[test]
fn an_interrupted_example_stops_with_a_checkpoint_and_goes_on() {
    // Far from its end when it is interrupted.
    let mut example = Example::new(4_000, 20, 2);
    loop {
        let mut process = example.start();
        example.scratch.wait_for_manifest(&mut process);
        process.signal(Signal::INT);
        let ended = process.wait();
        // Before it had learned to listen: once more.
        if std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(Signal::INT.as_raw()) {
            continue;
        }
        ended.expect_success("an interrupted example");
        assert!(ended.output.contains("start it again"), "{}", ended.output);
        break;
    }
    example.check().unwrap();
    example.rate = 1_000_000;
    let ended = example.start().wait();
    ended.expect_success("the start after the interruption");
    assert!(ended.output.contains("restored from          checkpoint"), "{}", ended.output);
    example.check_complete().unwrap();
    let again = example.start().wait();
    again.expect_success("a start after the end");
    assert!(again.output.contains("had finished before"), "{}", again.output);
    example.check_complete().unwrap();
}
