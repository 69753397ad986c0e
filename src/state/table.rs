//! The keyed state of one operator in one subtask: rows by key, and the snapshots of them.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::Range;

use alluvium_actors::ids::CheckpointId;

use crate::record::{Key, KeySelector, Record, hash_key};

use super::chunk::{ChunkHeader, ChunkSink};
use super::descriptor::{StateDescriptor, StateMapping};
use super::error::StateError;
use super::ordered::{AHEAD, Entry, Epoch, Ordered, Place, Position, Slot, rank};
use super::row::{Decoder, Hold, Inline, Plain, RestoreError, Restoring, Row, decode};
use super::set::{Guard, StateSet};
use super::snapshot::{Address, Capture, Cursor, EncodeError, Snapshots, Within};
use super::span::Span;

/// Rows by key, for the keys of some key groups.
///
/// Every method that takes a `hash` wants the key's [`hash_key`] under the table's seed, which must belong to one of the
/// table's key groups.
///
/// # Panics
/// Those methods panic when the hash belongs to another subtask.
pub struct Table<K, R, H = Inline<R>> {
    rows: Ordered<K, H>,
    span: Span,
    seed: u64,
    states: Vec<StateDescriptor>,
    /// Entries that change now belong to this epoch; all open snapshots are of earlier ones.
    epoch: Epoch,
    /// Whether there are open snapshots: looked at for each change.
    watched: bool,
    snapshots: RefCell<Snapshots>,
    row: PhantomData<fn() -> R>,
}

/// The form of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TableStatistics {
    /// How many slots are allocated, full and empty.
    pub slots: usize,
    /// By how many slots a row stands behind where its key's hash would have it: so many more slots does a lookup visit.
    pub mean_distance: f64,
    /// The same for the row that stands furthest away.
    pub longest_distance: usize,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to write.
    More,
    /// The sink has all chunks; the snapshot is closed.
    Done,
}

impl<K: Key, R: Row, H: Hold<R>> Table<K, R, H> {
    /// An empty table for `key_groups` of `max_parallelism`, hashing with the job's `seed`; `states` describes what
    /// stands in a row.
    ///
    /// # Panics
    /// When there is no key group, when one is not below the max parallelism, or when the states are not as many as those
    /// of the row.
    #[must_use]
    pub fn new(key_groups: Range<u32>, max_parallelism: u32, seed: u64, states: Vec<StateDescriptor>) -> Self {
        assert_eq!(states.len(), usize::from(R::STATES), "a table needs one descriptor for each state of its rows");
        let span = Span::new(key_groups, max_parallelism);
        Table {
            rows: Ordered::new(span.end()),
            span,
            seed,
            states,
            epoch: Epoch::MIN,
            watched: false,
            snapshots: RefCell::new(Snapshots::new(span, R::STATES)),
            row: PhantomData,
        }
    }

    /// How many keys have a row.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no key has a row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// The states of a row, as the header of a blob lists them.
    #[must_use]
    pub fn descriptors(&self) -> &[StateDescriptor] {
        &self.states
    }

    /// The seed of the keys' hashes.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The key groups that the table holds.
    #[must_use]
    pub fn key_groups(&self) -> Range<u32> {
        self.span.groups()
    }

    /// The row of a key.
    #[must_use]
    pub fn get(&self, hash: u64, key: &K) -> Option<&R> {
        let place = self.rows.locate(self.position(hash), key).ok()?;
        Some(self.rows.entry(place).value.row())
    }

    /// Keys and rows, in the order of the keys' hashes.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &R)> {
        self.rows.iter().map(|entry| (&entry.key, entry.value.row()))
    }

    /// Looks at the form of the whole table: for tests and for those who wonder why it is slow.
    #[must_use]
    pub fn statistics(&self) -> TableStatistics {
        let (slots, distances) = self.rows.distances();
        let (mut sum, mut longest) = (0, 0);
        for distance in distances {
            sum += distance;
            longest = longest.max(distance);
        }
        TableStatistics { slots, mean_distance: sum as f64 / self.len().max(1) as f64, longest_distance: longest }
    }

    /// Starts to load what a later access to the key with this hash will need.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.rows.prefetch(self.position(hash));
    }

    /// Removes the row of a key, if there is one. The snapshots that are being written keep it.
    pub fn remove(&mut self, hash: u64, key: &K) -> bool {
        let Ok(place) = self.rows.locate(self.position(hash), key) else { return false };
        if self.watched {
            self.preserve_row(place);
        }
        self.remove_at(place);
        true
    }

    /// Makes room for so many keys in an empty table; a table that holds keys ignores it. Memory is used when the keys come.
    pub fn reserve(&mut self, keys: usize) {
        self.rows.reserve(keys);
    }

    #[inline(always)]
    fn position(&self, hash: u64) -> Position {
        position_in(&self.span, hash)
    }

    fn remove_at(&mut self, place: Place) {
        if self.watched {
            let address = self.address(place);
            self.snapshots.get_mut().removed(address);
        }
        self.rows.remove(place);
    }

    fn address(&self, place: Place) -> Address {
        Address { position: self.rows.entry(place).position.get(), rank: self.rows.rank(place) }
    }

    /// Finds the row of a key, or inserts one.
    #[inline(always)]
    fn occupy(&mut self, hash: u64, key: &K, new: impl FnOnce() -> R) -> Place {
        let position = self.position(hash);
        match self.rows.locate(position, key) {
            Ok(place) => place,
            Err(place) => self.insert(place, position, key, new()),
        }
    }

    #[inline(never)]
    fn insert(&mut self, place: Place, position: Position, key: &K, row: R) -> Place {
        let entry = Entry { epoch: self.epoch, position, key: key.clone(), value: H::hold(row) };
        self.rows.insert(place, entry)
    }

    /// Encodes what the open snapshots still want of a row that is about to change or go.
    fn preserve_row(&mut self, place: Place) {
        let (slots, index) = self.rows.slots_at(place);
        preserve_row::<K, R, H>(self.snapshots.get_mut(), slots, index, self.epoch);
    }
}

/// Encodes what the open snapshots still want of a row that is about to change or go.
#[inline(never)]
fn preserve_row<K: Key, R: Row, H: Hold<R>>(
    snapshots: &mut Snapshots,
    slots: &[Slot<K, H>],
    index: usize,
    epoch: Epoch,
) {
    let Some(entry) = &slots[index] else { return };
    if R::CHANGES_AS_ONE && entry.epoch == epoch {
        return;
    }
    let position = entry.position.get();
    let rank = if snapshots.rank_matters(position) { rank(slots, index) } else { 0 };
    let address = Address { position, rank };
    let group = snapshots.span.group_of(position);
    for snapshot in &mut snapshots.open {
        let cursor = snapshot.cursor;
        if address < cursor.address || snapshot.failure.is_some() {
            continue;
        }
        let from = if address == cursor.address { cursor.within } else { Within::default() };
        let mut capture = Capture { output: &mut snapshot.output, group, epoch: snapshot.epoch, budget: usize::MAX };
        if let Err(error) = entry.value.row().capture(&entry.key, entry.epoch, from, &mut capture) {
            snapshot.failure = Some(error);
        }
    }
}

impl<K: Key, A: Record, H: Hold<Plain<A>>> Table<K, Plain<A>, H> {
    /// The value of a key, to change; `zero` gives the first one. The only way to change a value: it keeps the old one
    /// for the open snapshots and stamps the epoch first.
    #[inline]
    pub fn value_mut(&mut self, hash: u64, key: &K, zero: impl FnOnce() -> A) -> &mut A {
        let place = self.occupy(hash, key, || Plain(zero()));
        if self.watched {
            self.preserve_row(place);
        }
        let entry = self.rows.entry_mut(place);
        entry.epoch = self.epoch;
        &mut entry.value.row_mut().0
    }

    /// The value of a key.
    #[must_use]
    #[inline]
    pub fn value(&self, hash: u64, key: &K) -> Option<&A> {
        self.get(hash, key).map(|row| &row.0)
    }

    /// Applies a batch of records in their order: `step` gets the key as the table holds it, the value under it, and the
    /// record. The slots of later records are loaded while earlier ones are applied, so this is several times as fast as
    /// one call for each record once the table is larger than the cache. Keys are cloned only when they are new.
    ///
    /// # Panics
    /// When there are not as many hashes as records.
    #[inline]
    pub fn update_batch<T>(
        &mut self,
        hashes: &[u64],
        records: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        selector: &impl KeySelector<T, K>,
        zero: impl Fn() -> A,
        mut step: impl FnMut(&K, &mut A, T),
    ) {
        let records = records.into_iter();
        assert_eq!(records.len(), hashes.len(), "a batch needs one hash for each record");
        let Table { rows, span, snapshots, epoch, watched, .. } = self;
        let (span, epoch, watched, snapshots) = (*span, *epoch, *watched, snapshots.get_mut());
        rows.visit(
            hashes,
            records,
            |hash| position_in(&span, hash),
            |record, key| selector.with_key(record, |wanted| wanted == key),
            |slots, index, record| {
                if watched {
                    preserve_row::<K, Plain<A>, H>(snapshots, slots, index, epoch);
                }
                let Some(entry) = &mut slots[index] else { return };
                entry.epoch = epoch;
                step(&entry.key, &mut entry.value.row_mut().0, record);
            },
            |record, position| Entry {
                epoch,
                position,
                key: selector.with_key(record, K::clone),
                value: H::hold(Plain(zero())),
            },
        );
    }
}

impl<K: Key, R: Row + Default, H: Hold<R>> Table<K, R, H> {
    /// Lends the states of a key to `then`. A key whose states are all empty afterwards is removed from the table.
    #[inline]
    pub fn with_states<S: StateSet<Row = R>, T>(
        &mut self,
        hash: u64,
        key: &K,
        then: impl FnOnce(S::Access<'_>) -> T,
    ) -> T {
        let place = self.occupy(hash, key, R::default);
        self.lend::<S, T>(place, |_, states| then(states))
    }

    /// Lends the states of each record's key to `step`, in the order of the records, together with the key as the table holds it and the
    /// record. As [`update_batch`](Table::update_batch) for whole sets of states: later slots are loaded while earlier records are processed.
    ///
    /// # Errors
    /// The first error of `step`; the records behind it are dropped.
    ///
    /// # Panics
    /// When there are more records than hashes.
    #[inline]
    pub fn with_states_batch<S: StateSet<Row = R>, T, E>(
        &mut self,
        hashes: &[u64],
        records: impl IntoIterator<Item = T>,
        selector: &impl KeySelector<T, K>,
        mut step: impl FnMut(&K, S::Access<'_>, T) -> Result<(), E>,
    ) -> Result<(), E> {
        for hash in hashes.iter().take(AHEAD) {
            self.prefetch(*hash);
        }
        for (number, record) in records.into_iter().enumerate() {
            if let Some(hash) = hashes.get(number + AHEAD) {
                self.prefetch(*hash);
            }
            let place = selector.with_key(&record, |key| self.occupy(hashes[number], key, R::default));
            self.lend::<S, _>(place, |key, states| step(key, states, record))?;
        }
        Ok(())
    }

    #[inline]
    fn lend<S: StateSet<Row = R>, T>(&mut self, place: Place, then: impl FnOnce(&K, S::Access<'_>) -> T) -> T {
        let mut rank = 0;
        if self.watched {
            let position = self.rows.entry(place).position.get();
            if self.snapshots.get_mut().rank_matters(position) {
                rank = self.rows.rank(place);
            }
        }
        let entry = self.rows.entry_mut(place);
        let guard = Guard {
            snapshots: self.watched.then_some(&self.snapshots),
            key: &entry.key,
            address: Address { position: entry.position.get(), rank },
            state: 0,
            epoch: self.epoch,
            seed: self.seed,
        };
        let result = then(&entry.key, S::access(entry.value.row_mut(), Cell::from_mut(&mut entry.epoch), guard));
        if entry.value.row().is_empty() {
            self.remove_at(place);
        }
        result
    }
}

impl<K: Key, R: Row, H: Hold<R>> Table<K, R, H> {
    /// Opens a snapshot: what the table holds now is what [`advance`](Table::advance) writes, whatever changes meanwhile.
    /// Costs the same for any size. Several snapshots may be open.
    ///
    /// # Errors
    /// When the checkpoint has an open snapshot already, or after 2^32 - 1 snapshots.
    pub fn close_epoch(&mut self, checkpoint: CheckpointId) -> Result<(), StateError> {
        let next = self.epoch.checked_add(1).ok_or(StateError::EpochsExhausted)?;
        self.snapshots.get_mut().open(checkpoint, self.epoch)?;
        self.epoch = next;
        self.watched = true;
        Ok(())
    }

    /// Writes on at a snapshot until about `budget` entries (or elements) were visited, and gives the chunks that are
    /// full to the sink. To be called between steps, also when the budget is zero: entries that change fill chunks too.
    ///
    /// # Errors
    /// When the snapshot is not open, or when a key or value cannot be encoded; then the snapshot is closed.
    pub fn advance(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        sink: &mut dyn ChunkSink,
    ) -> Result<Progress, StateError> {
        let snapshots = self.snapshots.get_mut();
        let number = snapshots.find(checkpoint)?;
        let snapshot = &mut snapshots.open[number];
        let mut cursor = snapshot.cursor;
        let mut group = self.span.group_of(cursor.address.position);
        let mut group_end = self.span.group_end(group);
        let mut failure = snapshot.failure.take();
        let mut done = failure.is_none();
        let mut capture = Capture { output: &mut snapshot.output, group, epoch: snapshot.epoch, budget };
        if failure.is_none() {
            self.rows.walk(Position::new(cursor.address.position), cursor.address.rank, |entry| {
                if capture.budget == 0 {
                    done = false;
                    return false;
                }
                let position = entry.position.get();
                if position != cursor.address.position {
                    cursor = Cursor { address: Address { position, rank: 0 }, ..Cursor::default() };
                    if u64::from(position) >= group_end {
                        let passed = group;
                        group = self.span.group_of(position);
                        group_end = self.span.group_end(group);
                        capture.output.seal_groups(passed, group);
                        capture.group = group;
                    }
                }
                match entry.value.row().capture(&entry.key, entry.epoch, cursor.within, &mut capture) {
                    Ok(None) => {
                        cursor.address.rank += 1;
                        cursor.within = Within::default();
                        true
                    }
                    Ok(Some(within)) => {
                        cursor.within = within;
                        done = false;
                        false
                    }
                    Err(error) => {
                        failure = Some(error);
                        false
                    }
                }
            });
        }
        snapshot.cursor = cursor;
        if let Some(EncodeError { state, message }) = failure {
            self.abort(checkpoint);
            return Err(StateError::Encode { state: self.states[usize::from(state)].name.clone(), message });
        }
        if done {
            snapshot.output.seal_groups(group, self.span.groups().end);
        }
        snapshot.output.drain(checkpoint, sink);
        if done {
            self.abort(checkpoint);
        }
        Ok(if done { Progress::Done } else { Progress::More })
    }

    /// Closes a snapshot and frees what it holds. Nothing happens when it is not open.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        let snapshots = self.snapshots.get_mut();
        snapshots.open.retain(|snapshot| snapshot.checkpoint != checkpoint);
        self.watched = !snapshots.open.is_empty();
    }

    /// The checkpoints of the open snapshots, in the order of their closing.
    pub fn open_snapshots(&self) -> Vec<CheckpointId> {
        self.snapshots.borrow().open.iter().map(|snapshot| snapshot.checkpoint).collect()
    }

    /// The encoded bytes that the open snapshots hold: chunks that are not full, and full ones that the next
    /// [`advance`](Table::advance) gives away.
    #[must_use]
    pub fn snapshot_bytes(&self) -> usize {
        self.snapshots.borrow().open.iter().map(|snapshot| snapshot.output.bytes()).sum()
    }

    /// Inserts the entries of one stored chunk, header included, and answers how many they are. [Reserve](Table::reserve)
    /// first, and restore before the first record. The chunks of one state and key group must come in the order in which
    /// they were written.
    ///
    /// # Errors
    /// When the bytes are damaged or of other types, belong to key groups that the table does not own, or stand there
    /// twice. The table is then half restored and must not be used.
    pub fn restore_chunk(&mut self, mapping: &StateMapping, bytes: &[u8]) -> Result<u32, StateError> {
        let (header, entries) = ChunkHeader::open(bytes)?;
        let groups = self.span.groups();
        if !groups.contains(&header.key_group) {
            let (first, last) = (groups.start, groups.end - 1);
            return Err(StateError::ForeignKeyGroup { group: header.key_group, first, last });
        }
        let state = mapping
            .current(header.state)
            .filter(|state| *state < R::STATES)
            .ok_or_else(|| StateError::Damaged(format!("a chunk names state number {}", header.state)))?;
        let mut decoder = Decoder::from_read_ref(entries);
        for _ in 0..header.count {
            self.restore_entry(state, header.key_group, &mut decoder)?;
        }
        if !at_end(&mut decoder) {
            return Err(StateError::Damaged(format!(
                "a chunk of key group {} holds more than its {} entries",
                header.key_group, header.count
            )));
        }
        Ok(header.count)
    }

    fn restore_entry(&mut self, state: u16, group: u32, decoder: &mut Decoder<'_>) -> Result<(), StateError> {
        let name = || self.states[usize::from(state)].name.clone();
        let explain = |error| match error {
            RestoreError::Decode(message) => StateError::Damaged(format!("state {:?}: {message}", name())),
            RestoreError::Duplicate => StateError::Duplicate { state: name(), group },
            RestoreError::Key(error) => StateError::Key(error),
        };
        let key: K = decode(decoder).map_err(explain)?;
        let hash = hash_key(self.seed, &key)?;
        let current = crate::record::key_group(hash, self.span.max_parallelism());
        if current != group {
            return Err(StateError::KeyMoved { state: name(), stored: group, current });
        }
        let position = self.span.position(hash);
        let context = Restoring { epoch: self.epoch, seed: self.seed };
        match self.rows.locate(position, &key) {
            Ok(place) => {
                let row = self.rows.entry_mut(place).value.row_mut();
                R::restore(Some(row), state, decoder, context).map_err(explain)?;
            }
            Err(place) => {
                if let Some(row) = R::restore(None, state, decoder, context).map_err(explain)? {
                    self.rows.insert(place, Entry { epoch: self.epoch, position, key, value: H::hold(row) });
                }
            }
        }
        Ok(())
    }
}

/// Whether a decoder has read all its bytes.
fn at_end(decoder: &mut Decoder<'_>) -> bool {
    use rmp_serde::decode::Error;
    use serde::Deserialize;
    match serde::de::IgnoredAny::deserialize(decoder) {
        Err(Error::InvalidMarkerRead(error)) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        Ok(_) | Err(_) => false,
    }
}

#[inline(always)]
fn position_in(span: &Span, hash: u64) -> Position {
    if !span.contains(hash) {
        foreign_hash(hash, span);
    }
    span.position(hash)
}

#[cold]
#[inline(never)]
fn foreign_hash(hash: u64, span: &Span) -> ! {
    panic!("the key with hash {hash:#x} does not belong to the key groups {:?} of this table", span.groups())
}
