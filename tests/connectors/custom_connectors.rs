//! The source and the sink of the example `custom_connectors` pass the public suites.

#[allow(dead_code, reason = "the example's module; the program uses the rest")]
#[path = "../../examples/custom_connectors/service.rs"]
mod service;
#[path = "../../examples/custom_connectors/shards.rs"]
mod shards;
#[allow(dead_code, reason = "the example's module; the program uses the rest")]
#[path = "../../examples/custom_connectors/sqlite.rs"]
mod sqlite;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium::connect::sink::{Sink, SinkCommit};
use alluvium::testing::conformance::{SinkUnderTest, SourceUnderTest, check_sink, check_source};
use alluvium::testing::disk::SimulatedDisk;
use rusqlite::Connection;

use self::service::{Event, Listing, LogService, Page, SHARDS, event};
use self::shards::Shards;
use self::sqlite::{Row, SqliteTable};
use crate::site;

/// A service that is moved by hand.
#[derive(Debug, Default)]
struct Scripted {
    /// How many steps it has come: each shows some more events, each fourth one a shard.
    steps: AtomicU64,
}

const EVENTS: u64 = 70;

impl LogService for Scripted {
    fn list(&self) -> io::Result<Listing> {
        let appeared = (self.steps.load(Ordering::SeqCst) / 4 + 1) as usize;
        let shards = SHARDS.iter().take(appeared).map(|shard| (*shard).to_owned()).collect();
        Ok(Listing { shards, complete: appeared >= SHARDS.len() })
    }

    fn read(&self, shard: &str, first: u64, limit: usize) -> io::Result<Page> {
        let offered = (self.steps.load(Ordering::SeqCst) * 11).min(EVENTS);
        let end = offered.max(first).min(first + limit as u64);
        Ok(Page { events: (first..end).map(|sequence| event(shard, sequence)).collect(), closed: end == EVENTS })
    }
}

struct ShardsUnderTest(Arc<Scripted>);

impl SourceUnderTest for ShardsUnderTest {
    type Source = Shards;

    fn fresh(&mut self) {
        self.0.steps.store(0, Ordering::SeqCst);
    }

    fn source(&mut self) -> Shards {
        Shards::new(Arc::clone(&self.0) as Arc<dyn LogService>)
    }

    fn advance(&mut self) -> bool {
        self.0.steps.fetch_add(1, Ordering::SeqCst) < 100
    }

    fn expected(&mut self) -> Option<Vec<Event>> {
        Some(SHARDS.iter().flat_map(|shard| (0..EVENTS).map(|sequence| event(shard, sequence))).collect())
    }
}

#[test]
fn shards_that_are_discovered_while_others_are_read_pass_the_suite() {
    let report = check_source(&mut ShardsUnderTest(Arc::default())).unwrap();
    assert_eq!(report.records, 210);
    assert!(report.snapshots > 500, "{report:?}");
}

/// A table in a database of its own; a new one for each job.
struct TableUnderTest {
    directory: tempfile::TempDir,
    number: u64,
}

impl TableUnderTest {
    fn database(&self) -> PathBuf {
        self.directory.path().join(format!("{}.sqlite", self.number))
    }
}

impl SinkUnderTest<Row> for TableUnderTest {
    type Sink = SqliteTable;

    fn fresh(&mut self) {
        let path = self.database();
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", path.display()));
        }
        self.number += 1;
    }

    fn sink(&mut self) -> SqliteTable {
        SqliteTable::new(&self.database(), "totals")
    }

    fn record(&self, number: u64) -> Row {
        Row { shard: format!("shard {}", number % 3), sequence: number, total: -(number as i64) }
    }

    fn committed(&mut self) -> Vec<Row> {
        rows(&self.database())
    }

    /// Every commit waits for a disk.
    fn checkpoints_in_order(&self) -> u32 {
        2
    }

    fn lose_prepared(&mut self) -> bool {
        Connection::open(self.database()).unwrap().execute("DELETE FROM totals_staged", []).unwrap() > 0
    }
}

/// The committed rows; none if there is no table.
fn rows(database: &std::path::Path) -> Vec<Row> {
    let connection = Connection::open(database).unwrap();
    let Ok(mut statement) = connection.prepare("SELECT shard, sequence, total FROM totals ORDER BY rowid") else {
        return Vec::new();
    };
    let rows = statement
        .query_map([], |row| Ok(Row { shard: row.get(0)?, sequence: row.get(1)?, total: row.get(2)? }))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn the_table_in_sqlite_passes_the_suite() {
    let directory = tempfile::tempdir().unwrap();
    let report = check_sink(&mut TableUnderTest { directory, number: 0 }).unwrap();
    assert!(report.deaths > 50, "{report:?}");
}

#[test]
fn a_database_that_belongs_to_another_job_or_was_exchanged_is_refused_with_the_mend() {
    let directory = tempfile::tempdir().unwrap();
    let table = |name: &str| SqliteTable::new(&directory.path().join(name), "totals");
    let scope = |job: &str| {
        let mut site = site(&SimulatedDisk::new(), 1);
        site.job = job.to_owned();
        site.sink_scope()
    };
    table("one").committer(scope("first")).unwrap().open(None).unwrap();
    let error = table("one").committer(scope("second")).unwrap().open(None).unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains("belongs to") && error.to_string().contains("another table"), "{error}");

    let other = sqlite_owner("0123");
    table("two").committer(scope("first")).unwrap().open(None).unwrap();
    for name in ["two", "three"] {
        let error = table(name).committer(scope("first")).unwrap().open(Some(vec![other.clone()])).unwrap_err();
        assert!(error.to_string().contains("former database back"), "{error}");
    }
}

fn sqlite_owner(number: &str) -> sqlite::Owner {
    serde_json::from_value(serde_json::json!({ "number": number })).unwrap()
}
