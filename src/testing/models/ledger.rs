//! The outside system behind a sink: it keeps transactions, and remembers everything that was done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_actors::ids::{CheckpointId, Moment, RunNumber};

use crate::connect::sink_name::SinkName;
use crate::fault::Random;
use crate::record::Record;
use crate::testing::check::Effect;
use crate::testing::print::{fingerprint, short_canonical};
use crate::testing::simulation::Outside;

/// A transactional sink for tests: an outside system with two-phase commit that knows, with virtual time, which transaction was prepared, committed and aborted.
///
/// It behaves as the systems do that jobs write to: a prepared transaction survives the process; a commit that is repeated changes nothing; what is prepared and not
/// committed within the system's own *transaction timeout* is aborted by the system, and its commit is refused from then on.
///
/// ```
/// use std::time::Duration;
/// use alluvium::testing::models::Ledger;
/// use alluvium::testing::simulation::Outside;
///
/// let bills: Ledger<String> = Ledger::new(&Outside::detached(1), "bills").transaction_timeout(Duration::from_secs(60));
/// assert!(bills.committed().is_empty());
/// ```
pub struct Ledger<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    name: String,
    outside: Outside,
    state: Mutex<State<T>>,
}

/// What the ledger does with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Two-phase commit.
    Transactions,
    /// A record takes effect when it is written.
    WriteThrough,
    /// A transaction takes effect as often as it is committed.
    NotIdempotent,
}

struct State<T> {
    mode: Mode,
    timeout: Option<Duration>,
    latency: Duration,
    /// One commit in so many is put off, by this long.
    put_off: Option<(u64, Duration)>,
    random: Random,
    transactions: BTreeMap<TransactionName, Transaction<T>>,
    open: BTreeSet<TransactionName>,
    entries: Vec<LedgerEntry>,
    effects: Vec<Effect<T>>,
    /// The store of the job that each sink was opened for.
    stores: BTreeMap<SinkName, String>,
    /// The runs in which each sink was opened: its writers of the run before are gone.
    opened: BTreeMap<SinkName, BTreeSet<RunNumber>>,
}

struct Transaction<T> {
    records: Vec<T>,
    prepared: Moment,
    state: TransactionState,
}

#[derive(Clone, Copy)]
enum TransactionState {
    Prepared,
    Committed,
    Aborted(AbortedBy),
}

/// Names a transaction: what one writer of one sink prepared for one checkpoint. No two transactions have the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionName {
    pub(super) sink: SinkName,
    /// The checkpoint that it was prepared for.
    pub checkpoint: CheckpointId,
    /// The run of the writer.
    pub run: RunNumber,
    /// The writer.
    pub subtask: u32,
}

impl TransactionName {
    /// The uid of the sink in its job.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.sink.uid.as_str()
    }
}

impl fmt::Display for TransactionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "checkpoint {} of {}[{}]", self.checkpoint, self.sink.uid, self.subtask)
    }
}

/// What was done to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerEvent {
    /// It was prepared: anybody can commit it from now on.
    Prepared,
    /// It was committed, and took effect.
    Committed {
        /// Whether its checkpoint, or a later one with the transaction in its cut, was complete at that moment: one that was triggered while the writer lived.
        covered: bool,
    },
    /// A commit was repeated.
    CommittedAgain,
    /// It was aborted.
    Aborted(AbortedBy),
    /// A commit was refused: the transaction is aborted or unknown.
    Refused,
}

/// Who aborted a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbortedBy {
    /// The job, which cleaned up behind an earlier attempt.
    Job,
    /// The outside system, because its transaction timeout was over.
    Timeout,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// When it happened.
    pub at: Moment,
    /// To which transaction.
    pub transaction: TransactionName,
    /// What happened.
    pub event: LedgerEvent,
    /// How many records the transaction has.
    pub records: usize,
}

/// The answer to a commit.
pub(super) enum CommitAnswer {
    Done,
    AlreadyDone,
    PutOff(Duration),
    Refused(String),
}

impl<T: Record> Ledger<T> {
    /// An empty ledger in this world. `name` is what messages call it.
    #[must_use]
    pub fn new(outside: &Outside, name: &str) -> Ledger<T> {
        Ledger::with_mode(outside, name, Mode::Transactions)
    }

    /// One without transactions: a record takes effect when it is written, and again when it is replayed. It promises at least once.
    #[must_use]
    pub fn at_least_once(outside: &Outside, name: &str) -> Ledger<T> {
        Ledger::with_mode(outside, name, Mode::WriteThrough)
    }

    /// A *wrong* one, to see that a test notices: it says exactly once, and a transaction takes effect as often as it is committed.
    #[must_use]
    pub fn not_idempotent(outside: &Outside, name: &str) -> Ledger<T> {
        Ledger::with_mode(outside, name, Mode::NotIdempotent)
    }

    fn with_mode(outside: &Outside, name: &str, mode: Mode) -> Ledger<T> {
        let state = State {
            mode,
            timeout: None,
            latency: Duration::ZERO,
            put_off: None,
            random: Random::new(outside.random()),
            transactions: BTreeMap::new(),
            open: BTreeSet::new(),
            entries: Vec::new(),
            effects: Vec::new(),
            stores: BTreeMap::new(),
            opened: BTreeMap::new(),
        };
        let inner = Inner { name: name.to_owned(), outside: outside.clone(), state: Mutex::new(state) };
        Ledger { inner: Arc::new(inner) }
    }

    /// A transaction that was prepared and is not committed within this time is aborted by the outside system. Without this, never.
    #[must_use]
    pub fn transaction_timeout(self, timeout: Duration) -> Ledger<T> {
        self.state().timeout = Some(timeout);
        self
    }

    /// Preparing takes up to this long, by chance; nothing without this.
    #[must_use]
    pub fn latency(self, most: Duration) -> Ledger<T> {
        self.state().latency = most;
        self
    }

    /// One commit in `one_in` (at least 2), by chance, is not carried out and is to be asked for again after `delay`.
    ///
    /// # Panics
    /// When `one_in` is below 2: no commit would ever be carried out.
    #[must_use]
    pub fn puts_off_commits(self, one_in: u64, delay: Duration) -> Ledger<T> {
        assert!(one_in >= 2, "one commit in {one_in} is put off: then none is ever carried out, give at least 2");
        self.state().put_off = Some((one_in, delay));
        self
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What took effect so far, in this order.
    #[must_use]
    pub fn committed(&self) -> Vec<T> {
        self.state().effects.iter().map(|effect| effect.record.clone()).collect()
    }

    /// The same with time and place, from the effect of this number on; the first one has number 0.
    #[must_use]
    pub fn effects_from(&self, first: usize) -> Vec<Effect<T>> {
        self.state().effects.get(first..).unwrap_or_default().to_vec()
    }

    /// Everything that was done so far, from the line of this number on.
    #[must_use]
    pub fn entries_from(&self, first: usize) -> Vec<LedgerEntry> {
        self.settled().entries.get(first..).unwrap_or_default().to_vec()
    }

    /// The transactions that are prepared, and neither committed nor aborted.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<TransactionName> {
        self.settled().open.iter().cloned().collect()
    }

    /// The runs in which the writer of a transaction lived: a checkpoint that was triggered in one of them has it in its cut.
    pub(crate) fn life_of_writer(&self, transaction: &TransactionName) -> impl RangeBounds<RunNumber> + use<T> {
        self.state().life_of_writer(transaction)
    }

    /// The records of a transaction.
    #[must_use]
    pub fn records_of(&self, transaction: &TransactionName) -> Vec<T> {
        self.state().transactions.get(transaction).map(|found| found.records.clone()).unwrap_or_default()
    }

    pub(super) fn mode(&self) -> Mode {
        self.state().mode
    }

    /// How long the next preparation takes.
    pub(super) fn draw_latency(&self) -> Duration {
        let mut state = self.state();
        let most = u64::try_from(state.latency.as_nanos()).unwrap_or(u64::MAX);
        if most == 0 { Duration::ZERO } else { Duration::from_nanos(1 + state.random.below(most)) }
    }

    /// A record takes effect without a transaction.
    pub(super) fn write_through(&self, subtask: u32, records: Vec<T>) {
        let at = self.inner.outside.now();
        let text = digest(&records);
        let written =
            records.into_iter().map(|record| Effect { at: Some(at), subtask: Some(subtask), ..Effect::of(record) });
        self.state().effects.extend(written);
        self.tell(subtask, format_args!("writes {text}"));
    }

    /// # Errors
    /// When there is a transaction of this name already.
    pub(super) fn prepare(&self, name: TransactionName, records: Vec<T>) -> Result<(), String> {
        let mut state = self.settled();
        if state.transactions.contains_key(&name) {
            let ledger = &self.inner.name;
            return Err(format!(
                "`{ledger}` has a transaction of {name} and run {} already: an id was used twice",
                name.run
            ));
        }
        self.tell(name.subtask, format_args!("prepares checkpoint {}: {}", name.checkpoint, digest(&records)));
        self.enter(&mut state, &name, LedgerEvent::Prepared, records.len());
        state.open.insert(name.clone());
        let prepared = self.inner.outside.now();
        state.transactions.insert(name, Transaction { records, prepared, state: TransactionState::Prepared });
        Ok(())
    }

    pub(super) fn commit(&self, name: &TransactionName) -> CommitAnswer {
        let mut state = self.settled();
        let (subtask, checkpoint) = (name.subtask, name.checkpoint);
        if let Some((one_in, delay)) = state.put_off
            && state.random.below(one_in) == 0
        {
            self.tell(subtask, format_args!("puts the commit of checkpoint {checkpoint} off by {delay:?}"));
            return CommitAnswer::PutOff(delay);
        }
        let again = state.mode == Mode::NotIdempotent;
        let Some(transaction) = state.transactions.get_mut(name) else {
            self.enter(&mut state, name, LedgerEvent::Refused, 0);
            return CommitAnswer::Refused(format!("`{}` knows no transaction {name}", self.inner.name));
        };
        let records = transaction.records.clone();
        match transaction.state {
            TransactionState::Committed if !again => {
                self.tell(subtask, format_args!("is asked again to commit checkpoint {checkpoint}"));
                self.enter(&mut state, name, LedgerEvent::CommittedAgain, records.len());
                CommitAnswer::AlreadyDone
            }
            TransactionState::Prepared | TransactionState::Committed => {
                transaction.state = TransactionState::Committed;
                state.open.remove(name);
                let covered = self.inner.outside.is_covered_in(checkpoint, state.life_of_writer(name));
                self.tell(subtask, format_args!("commits checkpoint {checkpoint}: {}", digest(&records)));
                self.enter(&mut state, name, LedgerEvent::Committed { covered }, records.len());
                let at = Some(self.inner.outside.now());
                state.effects.extend(records.into_iter().map(|record| Effect {
                    record,
                    at,
                    checkpoint: Some(checkpoint),
                    subtask: Some(subtask),
                }));
                CommitAnswer::Done
            }
            TransactionState::Aborted(by) => {
                self.tell(subtask, format_args!("refuses to commit checkpoint {checkpoint}: it is aborted"));
                self.enter(&mut state, name, LedgerEvent::Refused, records.len());
                CommitAnswer::Refused(self.aborted_message(name, by, records.len(), state.timeout))
            }
        }
    }

    fn aborted_message(
        &self,
        name: &TransactionName,
        by: AbortedBy,
        records: usize,
        timeout: Option<Duration>,
    ) -> String {
        let ledger = &self.inner.name;
        match by {
            AbortedBy::Job => {
                format!("`{ledger}` was told by the job to abort the transaction of {name}, and is now to commit it")
            }
            AbortedBy::Timeout => format!(
                "`{ledger}` aborted the transaction of {name} by itself, because it was not committed within {:?} after it was prepared: its {records} records \
                 are lost; give the outside system a longer transaction timeout, longer than the longest time without the job",
                timeout.unwrap_or_default()
            ),
        }
    }

    /// A sink of a job is opened.
    ///
    /// # Errors
    /// The ledger holds what this sink wrote before the checkpoint, or without one.
    pub(super) fn open(&self, sink: &SinkName, store: &str, run: RunNumber, restores: bool) -> Result<(), String> {
        let mut state = self.settled();
        state.opened.entry(sink.clone()).or_default().insert(run);
        let former = state.stores.insert(sink.clone(), store.to_owned());
        let committed = |(name, transaction): (&TransactionName, &Transaction<T>)| {
            name.sink == *sink && matches!(transaction.state, TransactionState::Committed)
        };
        let written = state.transactions.iter().filter(|found| committed(*found)).count();
        let other_store = former.is_some_and(|former| former != store);
        if written > 0 && (!restores || other_store) {
            return Err(format!(
                "`{}` holds {written} committed transactions of {}, and the job begins without the checkpoint that they belong to: \
                 what it writes would be there twice; let it go on from its own store, or give it an empty ledger",
                self.inner.name, sink.uid
            ));
        }
        Ok(())
    }

    /// The job removes what earlier attempts of a sink left behind.
    pub(super) fn abort_before(&self, sink: &SinkName, run: RunNumber) {
        let mut state = self.settled();
        let left: Vec<_> = state.open.iter().filter(|name| name.sink == *sink && name.run != run).cloned().collect();
        for name in left {
            self.abort(&mut state, &name, AbortedBy::Job, self.inner.outside.now());
        }
    }

    fn abort(&self, state: &mut State<T>, name: &TransactionName, by: AbortedBy, at: Moment) {
        state.open.remove(name);
        let Some(transaction) = state.transactions.get_mut(name) else { return };
        transaction.state = TransactionState::Aborted(by);
        let records = transaction.records.len();
        let who = match by {
            AbortedBy::Job => "the job cleans up",
            AbortedBy::Timeout => "its transaction timeout is over",
        };
        self.tell(name.subtask, format_args!("aborts checkpoint {}, {records} records: {who}", name.checkpoint));
        state.entries.push(LedgerEntry { at, transaction: name.clone(), event: LedgerEvent::Aborted(by), records });
    }

    fn enter(&self, state: &mut State<T>, name: &TransactionName, event: LedgerEvent, records: usize) {
        state.entries.push(LedgerEntry { at: self.inner.outside.now(), transaction: name.clone(), event, records });
    }

    fn tell(&self, subtask: u32, what: fmt::Arguments<'_>) {
        self.inner.outside.tell(format_args!("{}[{subtask}]", self.inner.name), what);
    }

    /// The state after everything that time alone has done.
    fn settled(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.state();
        if let Some(timeout) = state.timeout {
            let now = self.inner.outside.now();
            let over: Vec<(TransactionName, Moment)> = state
                .open
                .iter()
                .filter_map(|name| {
                    let end = state.transactions.get(name)?.prepared + timeout;
                    (end <= now).then(|| (name.clone(), end))
                })
                .collect();
            for (name, end) in over {
                self.abort(&mut state, &name, AbortedBy::Timeout, end);
            }
        }
        state
    }
}

impl<T> State<T> {
    /// From its run up to the next one in which its sink was opened: when a part of a job restarts, ids and runs go on, and the rest of it lives on.
    fn life_of_writer(&self, transaction: &TransactionName) -> (Bound<RunNumber>, Bound<RunNumber>) {
        let later = (Bound::Excluded(transaction.run), Bound::Unbounded);
        let again = self.opened.get(&transaction.sink).and_then(|runs| runs.range(later).next());
        (Bound::Included(transaction.run), again.map_or(Bound::Unbounded, |run| Bound::Excluded(*run)))
    }
}

impl<T> Ledger<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records in a line of the story: how many, the first and the last, and a number that changes with their content.
pub(super) fn digest<T: Record>(records: &[T]) -> String {
    let content = fingerprint(records);
    match records {
        [] => "no records".to_owned(),
        [one] => format!("1 record {} (content {content:08x})", short_canonical(one)),
        [first, .., last] => {
            let (count, first, last) = (records.len(), short_canonical(first), short_canonical(last));
            format!("{count} records {first} to {last} (content {content:08x})")
        }
    }
}

impl<T> Clone for Ledger<T> {
    fn clone(&self) -> Ledger<T> {
        Ledger { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Ledger<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Ledger({}, {} records committed)", self.inner.name, self.state().effects.len())
    }
}
