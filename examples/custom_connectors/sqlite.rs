//! A sink of one's own: a table in SQLite, in two phases.
//!
//! *Prepare*: the rows since the last checkpoint go into a staging table, in one transaction; when it is durable, the checkpoint may hold the [`Transaction`].
//! *Commit*: one transaction moves the staged rows into the table, notes that this run, checkpoint and subtask are committed, and removes the staged rows. So a commit
//! happens once, however often it is asked for. What no checkpoint holds is removed at the next start. The database belongs to one job and store: an owner's
//! note says which, and every checkpoint holds the note's number, so that another database than the checkpoint's is an error.

use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkContext, SinkScope, SinkWriter};
use alluvium::ports::blocking::Promise;
use alluvium::ports::fence::Fence;
use alluvium::record::batch::Slice;
use alluvium::{CheckpointId, OperatorError, OperatorResult};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

/// So many rows wait in memory for their staging at most.
const MOST_ROWS: usize = 5_000;

/// So long a writer waits for another one's lock on the database, and the pause before a commit is tried again.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The shard.
    pub shard: String,
    /// The event's number in it.
    pub sequence: u64,
    /// The running total of the shard.
    pub total: i64,
}

/// The sink.
#[derive(Clone, Debug)]
pub struct SqliteTable {
    database: PathBuf,
    table: String,
}

impl SqliteTable {
    /// Writes into `table` of this database; both are created if missing.
    ///
    /// # Panics
    /// When the table's name is not made of letters, digits and underscores alone: it becomes a part of statements.
    pub fn new(database: &Path, table: &str) -> SqliteTable {
        let is_name = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        assert!(!table.is_empty() && is_name(table), "`{table}` is no name for a table");
        SqliteTable { database: database.to_owned(), table: table.to_owned() }
    }

    /// How many rows are committed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn rows(&self) -> rusqlite::Result<u64> {
        let count = format!("SELECT count(*) FROM {}", self.table);
        self.open()?.query_row(&count, [], |row| row.get(0))
    }

    /// A connection, with every table that is needed.
    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.database)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        // Readers do not wait for writers; what a commit returned survives a power cut.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        let table = &self.table;
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {table} (shard TEXT NOT NULL, sequence INTEGER NOT NULL, total INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS {table}_staged (job TEXT NOT NULL, uid TEXT NOT NULL, run INTEGER NOT NULL,
                 subtask INTEGER NOT NULL, checkpoint INTEGER, shard TEXT NOT NULL, sequence INTEGER NOT NULL, total INTEGER NOT NULL);
             CREATE INDEX IF NOT EXISTS {table}_staged_by_transaction ON {table}_staged (job, uid, run, subtask, checkpoint);
             CREATE TABLE IF NOT EXISTS {table}_committed (job TEXT NOT NULL, uid TEXT NOT NULL, run INTEGER NOT NULL,
                 checkpoint INTEGER NOT NULL, subtask INTEGER NOT NULL, PRIMARY KEY (job, uid, run, checkpoint, subtask));
             CREATE TABLE IF NOT EXISTS {table}_owner (job TEXT NOT NULL, uid TEXT NOT NULL, store TEXT NOT NULL, number TEXT NOT NULL);"
        ))?;
        Ok(connection)
    }
}

/// Staged rows that one writer prepared for one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    job: String,
    uid: String,
    run: u64,
    checkpoint: u64,
    subtask: u32,
    rows: u64,
}

/// What a checkpoint keeps of a writer: which database it writes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    number: String,
}

impl Sink<Row> for SqliteTable {
    type Committable = Transaction;
    type State = Owner;
    type Writer = SqliteWriter;
    type Committer = SqliteCommitter;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: SinkContext) -> OperatorResult<SqliteWriter> {
        let opening = {
            let table = self.clone();
            context.blocking(move || {
                let connection = table.open()?;
                let owner = format!("SELECT number FROM {}_owner", table.table);
                let number = connection.query_row(&owner, [], |row| row.get(0))?;
                Ok((connection, number))
            })
        };
        Ok(SqliteWriter {
            scope: Scope { job: context.job().to_owned(), uid: context.uid().to_string(), table: self.table.clone() },
            context,
            database: Database::Opening(opening),
            owner: String::new(),
            rows: Vec::new(),
            staged: 0,
            cuts: Vec::new(),
        })
    }

    fn committer(&self, scope: SinkScope) -> OperatorResult<SqliteCommitter> {
        Ok(SqliteCommitter {
            connection: self.open()?,
            scope: Scope { job: scope.job.to_string(), uid: scope.uid.to_string(), table: self.table.clone() },
            store: scope.store,
            fence: scope.fence,
        })
    }
}

/// Whose rows, and in which table.
#[derive(Clone, Debug)]
struct Scope {
    job: String,
    uid: String,
    table: String,
}

/// The connection of a writer, which is wherever its work is.
enum Database {
    Opening(Promise<rusqlite::Result<(Connection, String)>>),
    Idle(Connection),
    Staging(Promise<OperatorResult<Connection>>),
    /// Only while one of the others becomes the next.
    Between,
}

/// A cut that is being prepared.
struct Cut {
    checkpoint: CheckpointId,
    /// Rows that were written before it and are not staged.
    rows: Vec<Row>,
    /// How many of its rows are staged already.
    staged: u64,
    /// The last work of it is under way.
    sealing: bool,
    sealed: bool,
}

/// Stages rows.
pub struct SqliteWriter {
    scope: Scope,
    context: SinkContext,
    database: Database,
    owner: String,
    /// Rows behind the last cut that are not staged.
    rows: Vec<Row>,
    /// How many rows behind the last cut are staged.
    staged: u64,
    /// Cuts, oldest first.
    cuts: Vec<Cut>,
}

impl SqliteWriter {
    /// Moves what is under way, and begins the next work. Pending while there is more to do than waits at its place.
    fn poll_work(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        loop {
            match &mut self.database {
                Database::Opening(opening) => match opening.poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(opened) => {
                        let (connection, owner) = opened??;
                        self.owner = owner;
                        self.database = Database::Idle(connection);
                    }
                },
                Database::Staging(staging) => match staging.poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(staged) => {
                        self.database = Database::Idle(staged??);
                        for cut in self.cuts.iter_mut().filter(|cut| cut.sealing) {
                            (cut.sealing, cut.sealed) = (false, true);
                        }
                    }
                },
                Database::Idle(_) | Database::Between => {
                    let Some((rows, seal)) = self.next_work() else { return Poll::Ready(Ok(())) };
                    self.stage(rows, seal);
                }
            }
        }
    }

    /// The rows to be staged next, and the checkpoint that they complete.
    fn next_work(&mut self) -> Option<(Vec<Row>, Option<CheckpointId>)> {
        if let Some(cut) = self.cuts.iter_mut().find(|cut| !cut.sealed) {
            let rows = std::mem::take(&mut cut.rows);
            cut.staged += rows.len() as u64;
            cut.sealing = true;
            return Some((rows, Some(cut.checkpoint)));
        }
        if self.rows.len() < MOST_ROWS {
            return None;
        }
        self.staged += self.rows.len() as u64;
        Some((std::mem::take(&mut self.rows), None))
    }

    fn stage(&mut self, rows: Vec<Row>, seal: Option<CheckpointId>) {
        let fence = self.context.fence();
        let scope = self.scope.clone();
        let (run, subtask) = (self.context.run().0, self.context.subtask());
        let Database::Idle(mut connection) = std::mem::replace(&mut self.database, Database::Between) else { return };
        self.database = Database::Staging(self.context.blocking(move || {
            stage(&mut connection, &scope, run, subtask, &rows, seal, &fence)?;
            Ok(connection)
        }));
    }
}

/// Stages rows, and seals what is staged for a checkpoint: durable when this returns.
fn stage(
    connection: &mut Connection,
    scope: &Scope,
    run: u64,
    subtask: u32,
    rows: &[Row],
    seal: Option<CheckpointId>,
    fence: &Fence,
) -> OperatorResult {
    let Scope { job, uid, table } = scope;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(&format!(
            "INSERT INTO {table}_staged (job, uid, run, subtask, shard, sequence, total) VALUES (?, ?, ?, ?, ?, ?, ?)"
        ))?;
        for row in rows {
            insert.execute(params![job, uid, run, subtask, row.shard, row.sequence, row.total])?;
        }
        if let Some(checkpoint) = seal {
            let seal = format!(
                "UPDATE {table}_staged SET checkpoint = ?
                 WHERE job = ? AND uid = ? AND run = ? AND subtask = ? AND checkpoint IS NULL"
            );
            transaction.execute(&seal, params![checkpoint.0, job, uid, run, subtask])?;
        }
    }
    // Directly before the effect: an attempt that is over must not have one.
    fence.check()?;
    transaction.commit()?;
    Ok(())
}

impl SinkWriter<Row> for SqliteWriter {
    type Committable = Transaction;
    type State = Owner;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<OperatorResult> {
        match self.poll_work(context) {
            // While the database is busy, rows wait in memory; beyond a limit the job waits too.
            Poll::Pending if !self.owner.is_empty() && self.rows.len() < MOST_ROWS => Poll::Ready(Ok(())),
            polled => polled,
        }
    }

    fn write_batch(&mut self, slice: &mut Slice<Row>) -> OperatorResult {
        self.rows.append(&mut slice.records);
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        let rows = std::mem::take(&mut self.rows);
        let staged = std::mem::take(&mut self.staged);
        // Without rows there is nothing to seal.
        let sealed = rows.is_empty() && staged == 0;
        self.cuts.push(Cut { checkpoint, rows, staged, sealing: false, sealed });
        Ok(())
    }

    fn poll_prepared(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut Context<'_>,
    ) -> Poll<OperatorResult<Vec<Transaction>>> {
        let worked = self.poll_work(context);
        if let Poll::Ready(Err(error)) = worked {
            return Poll::Ready(Err(error));
        }
        let Some(place) = self.cuts.iter().position(|cut| cut.checkpoint == checkpoint && cut.sealed) else {
            return Poll::Pending;
        };
        let cut = self.cuts.remove(place);
        if cut.staged == 0 {
            return Poll::Ready(Ok(Vec::new()));
        }
        Poll::Ready(Ok(vec![Transaction {
            job: self.scope.job.clone(),
            uid: self.scope.uid.clone(),
            run: self.context.run().0,
            checkpoint: checkpoint.0,
            subtask: self.context.subtask(),
            rows: cut.staged,
        }]))
    }

    fn snapshot(&mut self, _: CheckpointId) -> Owner {
        Owner { number: self.owner.clone() }
    }
}

/// Moves staged rows into the table.
pub struct SqliteCommitter {
    connection: Connection,
    scope: Scope,
    store: String,
    fence: Fence,
}

impl SqliteCommitter {
    fn try_commit(&mut self, wanted: &Transaction) -> OperatorResult<CommitOutcome> {
        let Transaction { job, uid, run, checkpoint, subtask, rows } = wanted;
        let table = &self.scope.table;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = transaction
            .query_row(
                &format!(
                    "SELECT 1 FROM {table}_committed
                     WHERE job = ? AND uid = ? AND run = ? AND checkpoint = ? AND subtask = ?"
                ),
                params![job, uid, run, checkpoint, subtask],
                |_| Ok(()),
            )
            .optional()?;
        if done.is_some() {
            return Ok(CommitOutcome::AlreadyDone);
        }
        let which = "job = ? AND uid = ? AND run = ? AND subtask = ? AND checkpoint = ?";
        let names = params![job, uid, run, subtask, checkpoint];
        let moved = transaction.execute(
            &format!(
                "INSERT INTO {table} (shard, sequence, total)
                 SELECT shard, sequence, total FROM {table}_staged WHERE {which} ORDER BY rowid"
            ),
            names,
        )?;
        if moved as u64 != *rows {
            return Ok(CommitOutcome::Fatal(OperatorError::unrecoverable(format!(
                "{moved} of the {rows} rows that subtask {subtask} staged for checkpoint {checkpoint} are left in `{table}_staged`: the database \
                 was changed or replaced; restore it, or begin anew with another database"
            ))));
        }
        transaction.execute(&format!("DELETE FROM {table}_staged WHERE {which}"), names)?;
        transaction.execute(
            &format!("INSERT INTO {table}_committed (job, uid, run, checkpoint, subtask) VALUES (?, ?, ?, ?, ?)"),
            params![job, uid, run, checkpoint, subtask],
        )?;
        // Directly before the effect.
        if let Err(fenced) = self.fence.check() {
            return Ok(CommitOutcome::Fatal(fenced.into()));
        }
        transaction.commit()?;
        Ok(CommitOutcome::Done)
    }
}

impl SinkCommit for SqliteCommitter {
    type Committable = Transaction;
    type State = Owner;

    fn open(&mut self, restored: Option<Vec<Owner>>) -> OperatorResult {
        self.fence.check()?;
        let Scope { job, uid, table } = &self.scope;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let owner: Option<(String, String, String, String)> = transaction
            .query_row(&format!("SELECT job, uid, store, number FROM {table}_owner"), [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let mine = (job.clone(), uid.clone(), self.store.clone());
        match (owner, restored) {
            (Some((job, uid, store, _)), _) if (job.clone(), uid.clone(), store.clone()) != mine => {
                return Err(OperatorError::unrecoverable(format!(
                    "the table `{table}` belongs to the sink `{uid}` of the job `{job}` with the store {store}: give this job another table or \
                     database, or its former store back"
                )));
            }
            (Some((.., number)), Some(owners)) => {
                if owners.iter().any(|owner| owner.number != number) {
                    return Err(OperatorError::unrecoverable(format!(
                        "the table `{table}` is not the one that the checkpoint wrote to: give the job its former database back"
                    )));
                }
            }
            (None, Some(owners)) if !owners.is_empty() => {
                return Err(OperatorError::unrecoverable(format!(
                    "the checkpoint wrote to a table `{table}` that is not in this database: give the job its former database back"
                )));
            }
            (Some(_), None) => {
                let committed: u64 =
                    transaction.query_row(&format!("SELECT count(*) FROM {table}_committed"), [], |row| row.get(0))?;
                if committed > 0 {
                    return Err(OperatorError::unrecoverable(format!(
                        "the table `{table}` holds rows that this job committed, and the job begins anew: give it an empty database"
                    )));
                }
            }
            (None, _) => {
                let note = format!(
                    "INSERT INTO {table}_owner (job, uid, store, number) VALUES (?, ?, ?, lower(hex(randomblob(16))))"
                );
                transaction.execute(&note, params![job, uid, self.store])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn commit(&mut self, transaction: Transaction) -> CommitOutcome {
        self.try_commit(&transaction).unwrap_or_else(|error| {
            // Another one holds the lock, or the disk is full: nothing has happened, and the rows stay staged.
            eprintln!("custom_connectors: a commit is put off: {error}");
            CommitOutcome::RetryAfter(TRY_AGAIN)
        })
    }

    fn clean_up(&mut self) -> OperatorResult {
        let Scope { job, uid, table } = &self.scope;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // What a checkpoint holds was committed before; what is left of this sink, no checkpoint holds.
        transaction.execute(&format!("DELETE FROM {table}_staged WHERE job = ? AND uid = ?"), params![job, uid])?;
        self.fence.check()?;
        transaction.commit()?;
        Ok(())
    }
}
