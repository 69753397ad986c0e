//! `examples/custom_connectors/`: its source of shards that appear, over a log service in virtual time that fails now and then; its sink, over SQLite in memory.
//! The database is a server elsewhere: it outlives every process and every power cut.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium::CheckpointId;
use alluvium::ids::Moment;
use alluvium::testing::simulation::{Boot, Next, Outside, Scenario, World};
use alluvium_actors::drive::supervisor::SupervisorSetup;
use rusqlite::Connection;

use super::program::custom_connectors::service::{Listing, LogService, Page, SHARDS, event};
use super::program::custom_connectors::sqlite::{Row, SqliteTable};
use super::{Habits, program};
use crate::{chance, schedules};

/// Events of each shard.
const EVENTS: u64 = 60;

/// The example's service in virtual time: shards appear, events come at a rate, and one request in so many fails.
struct Logs {
    outside: Outside,
    rate: u64,
    appearance: Duration,
}

const FAILS: u64 = 80;

impl Logs {
    fn time(&self) -> Duration {
        self.outside.now().since(Moment::default())
    }

    fn answers(&self) -> io::Result<()> {
        if self.outside.random().is_multiple_of(FAILS) {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the log service hung up"));
        }
        Ok(())
    }
}

impl LogService for Logs {
    fn list(&self) -> io::Result<Listing> {
        self.answers()?;
        let appeared = (self.time().as_micros() / self.appearance.as_micros()) as usize + 1;
        let shards = SHARDS.iter().take(appeared).map(|shard| (*shard).to_owned()).collect();
        Ok(Listing { shards, complete: appeared >= SHARDS.len() })
    }

    fn read(&self, shard: &str, first: u64, limit: usize) -> io::Result<Page> {
        self.answers()?;
        let offered = (self.time().as_millis() as u64 * self.rate / 1_000).min(EVENTS);
        let end = offered.max(first).min(first + limit as u64);
        Ok(Page { events: (first..end).map(|sequence| event(shard, sequence)).collect(), closed: end == EVENTS })
    }
}

/// A database in memory that lives as long as this.
struct Database {
    path: PathBuf,
    connection: Connection,
}

impl Database {
    fn new() -> Database {
        // Told apart by a number: two tests may run at once.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("file:simulated-{number}?mode=memory&cache=shared"));
        let connection = Connection::open(&path).expect("a database in memory");
        Database { path, connection }
    }

    fn rows(&self) -> rusqlite::Result<Vec<Row>> {
        let mut rows = self.connection.prepare("SELECT shard, sequence, total FROM totals ORDER BY rowid")?;
        let row = |row: &rusqlite::Row<'_>| Ok(Row { shard: row.get(0)?, sequence: row.get(1)?, total: row.get(2)? });
        rows.query_map([], row)?.collect()
    }

    fn newest_commit(&self) -> Option<CheckpointId> {
        let newest = "SELECT max(checkpoint) FROM totals_committed";
        self.connection.query_row(newest, [], |row| row.get::<_, Option<u64>>(0)).ok().flatten().map(CheckpointId)
    }
}

pub(crate) struct Connectors {
    parallelism: u32,
    database: Database,
    outside: Outside,
    habits: Habits,
}

impl Connectors {
    pub(crate) fn new(parallelism: u32) -> Connectors {
        let (database, outside) = (Database::new(), Outside::detached(0));
        Connectors { parallelism, database, outside, habits: Habits::default() }
    }

    /// Every event once, with the running total of its shard, in order.
    fn check(&self) -> Result<(), String> {
        let mut by_shard: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in self.database.rows().map_err(|error| error.to_string())? {
            by_shard.entry(row.shard.clone()).or_default().push(row);
        }
        for shard in SHARDS {
            let mut total = 0;
            let wanted = (0..EVENTS).map(|sequence| {
                total += event(shard, sequence).value;
                Row { shard: shard.to_owned(), sequence, total }
            });
            let (wanted, got): (Vec<Row>, _) = (wanted.collect(), by_shard.remove(shard).unwrap_or_default());
            if let Some((got, wanted)) = got.iter().zip(&wanted).find(|(got, wanted)| got != wanted) {
                return Err(format!("{got:?} stands where {wanted:?} belongs"));
            }
            if got.len() != wanted.len() {
                return Err(format!("{shard} has {} rows instead of {}", got.len(), wanted.len()));
            }
        }
        if by_shard.is_empty() { Ok(()) } else { Err(format!("unknown shards: {by_shard:?}")) }
    }
}

impl Scenario for Connectors {
    fn begin(&mut self, outside: &Outside) {
        self.outside = outside.clone();
    }

    fn boot(&mut self, boot: &mut Boot<'_>) -> Result<SupervisorSetup, String> {
        let logs = Logs { outside: self.outside.clone(), rate: 1_000, appearance: Duration::from_millis(25) };
        let table = SqliteTable::new(&self.database.path, "totals");
        let built = program::custom_connectors::build(Arc::new(logs), self.parallelism, table);
        self.habits.setup(boot, &built.map_err(|errors| errors.to_string())?)
    }

    fn observe(&mut self, world: &World<'_>) -> Result<(), String> {
        self.habits.observe(world)?;
        match self.database.newest_commit() {
            Some(checkpoint) if !self.outside.is_covered(checkpoint) => {
                Err(format!("rows of checkpoint {checkpoint} are committed, and complete is {:?}", world.complete))
            }
            _ => Ok(()),
        }
    }

    fn ended(&mut self, world: &World<'_>) -> Result<Next, String> {
        if let Some(next) = chance::finished(world)? {
            return Ok(next);
        }
        self.check()?;
        chance::cleaned_up(world, crate::files::nothing_is_left_over(world.disk, "custom-connectors", &[]))
    }
}

#[test]
fn the_example_connectors_survive_random_crashes_and_faults() {
    schedules::run("example connectors", schedules::random(44_000, 100), || Connectors::new(2));
}

#[test]
fn the_example_connectors_survive_a_crash_at_every_effect() {
    let build = || Connectors::new(1);
    schedules::run("example connectors, effects", schedules::crashes_at_every_effect(44, build), build);
}
