//! The keyed state of one operator in one subtask: rows by key, and the snapshots of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;

use alluvium_actors::ids::CheckpointId;

use crate::record::{Key, KeySelector, Record};

use super::descriptor::StateDescriptor;
use super::ordered::{AHEAD, Ordered, Place, Visitor};
use super::row::{Burial, Hold, Inline, Plain, Row};
use super::set::{Guard, StateSet};
use super::slots::{Entry, Epoch, FRESH, Position, Slot, age, touched};
use super::snapshot::{Address, Snapshots};
use super::span::Span;
use super::write::preserve_row;

/// Rows by key, for the keys of some key groups.
///
/// Every method that takes a `hash` wants the key's [`hash_key`](crate::record::hash_key) under the table's seed, which must belong to one of the
/// table's key groups.
///
/// The table grows in small steps and does not shrink: the room of removed keys is for later ones.
///
/// # Panics
/// Those methods panic when the hash belongs to another subtask.
pub struct Table<K, R, H = Inline<R>> {
    pub(super) rows: Ordered<K, H>,
    pub(super) span: Span,
    pub(super) seed: u64,
    pub(super) states: Vec<StateDescriptor>,
    /// Entries that change now belong to this epoch; all open snapshots are of earlier ones.
    pub(super) epoch: Epoch,
    /// Whether there are open snapshots: looked at for each change.
    pub(super) watched: bool,
    /// Whether increments are wanted: removals leave tombstones, and blocks of slots know the epoch of their newest change.
    pub(super) recorded: bool,
    /// The newest checkpoint that is known complete, and the epoch that it closed.
    pub(super) base: Option<(CheckpointId, Epoch)>,
    /// The epochs that later checkpoints closed whose outcome is not known.
    pub(super) closed: VecDeque<(CheckpointId, Epoch)>,
    pub(super) snapshots: RefCell<Snapshots>,
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
            rows: Ordered::new(span.end(), false),
            span,
            seed,
            states,
            epoch: Epoch::MIN,
            watched: false,
            recorded: false,
            base: None,
            closed: VecDeque::new(),
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

    /// How many key groups there are, in all subtasks.
    #[must_use]
    pub fn max_parallelism(&self) -> u32 {
        self.span.max_parallelism()
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
        if self.recorded {
            self.bury(place);
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

    /// Leaves the tombstones of a row that is about to go.
    fn bury(&mut self, place: Place) {
        let entry = self.rows.entry(place);
        let snapshots = self.snapshots.get_mut();
        let group = snapshots.span.group_of(entry.position.get());
        let burial = Burial { tombstones: &mut snapshots.tombstones, group, epoch: self.epoch };
        entry.value.row().bury(&entry.key, entry.epoch, burial);
        snapshots.tombstones.limit(self.epoch, self.rows.len());
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
        let entry = Entry { epoch: self.epoch | FRESH, position, key: key.clone(), value: H::hold(row) };
        self.rows.insert(place, entry)
    }

    /// Encodes what the open snapshots still want of a row that is about to change or go.
    fn preserve_row(&mut self, place: Place) {
        let (slots, index) = self.rows.slots_at(place);
        preserve_row::<K, R, H>(self.snapshots.get_mut(), slots, index);
    }
}

impl<K: Key, A: Record, H: Hold<Plain<A>>> Table<K, Plain<A>, H> {
    /// The value of a key, to change; `zero` gives the first one. The only way to change a value: it keeps the old one
    /// for the open snapshots and stamps the epoch first.
    #[inline]
    pub fn value_mut(&mut self, hash: u64, key: &K, zero: impl FnOnce() -> A) -> &mut A {
        let place = self.occupy(hash, key, || Plain(zero()));
        if self.watched && age(self.rows.entry(place).epoch) != self.epoch {
            self.preserve_row(place);
        }
        self.rows.mark(place, self.epoch);
        let entry = self.rows.entry_mut(place);
        entry.epoch = touched(entry.epoch, self.epoch);
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
        let mut update =
            Update { span, epoch, watched, snapshots, selector, zero, step: &mut step, record: PhantomData };
        rows.visit(hashes, records, &mut update);
    }
}

/// The visit of [`Table::update_batch`].
struct Update<'a, T, S, Z, F> {
    span: Span,
    epoch: Epoch,
    watched: bool,
    snapshots: &'a mut Snapshots,
    selector: &'a S,
    zero: Z,
    step: &'a mut F,
    record: PhantomData<fn(T)>,
}

impl<K, A, H, T, S, Z, F> Visitor<K, H> for Update<'_, T, S, Z, F>
where
    K: Key,
    A: Record,
    H: Hold<Plain<A>>,
    S: KeySelector<T, K>,
    Z: Fn() -> A,
    F: FnMut(&K, &mut A, T),
{
    type Record = T;

    #[inline(always)]
    fn position(&self, hash: u64) -> Position {
        position_in(&self.span, hash)
    }

    #[inline(always)]
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    #[inline(always)]
    fn same(&self, record: &T, key: &K) -> bool {
        self.selector.with_key(record, |wanted| wanted == key)
    }

    #[inline(always)]
    fn is_wanted(&self, entry: &Entry<K, H>) -> bool {
        self.watched && age(entry.epoch) != self.epoch
    }

    #[inline(always)]
    fn keep(&mut self, slots: &[Slot<K, H>], index: usize) {
        preserve_row::<K, Plain<A>, H>(self.snapshots, slots, index);
    }

    #[inline(always)]
    fn found(&mut self, entry: &mut Entry<K, H>, record: T) {
        entry.epoch = touched(entry.epoch, self.epoch);
        (self.step)(&entry.key, &mut entry.value.row_mut().0, record);
    }

    #[inline(always)]
    fn missing(&self, record: &T, position: Position) -> Entry<K, H> {
        let key = self.selector.with_key(record, K::clone);
        Entry { epoch: self.epoch | FRESH, position, key, value: H::hold(Plain((self.zero)())) }
    }
}

impl<K: Key, R: Row + Default, H: Hold<R>> Table<K, R, H> {
    /// Lends the states of a key to `then`. A key whose states are all empty afterwards is removed from the table.
    ///
    /// Who goes through a batch should [prefetch](Table::prefetch) some records ahead.
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
        let address = Address { position: entry.position.get(), rank };
        let dirty = Cell::new(false);
        let flags = (self.watched, self.recorded);
        let guard = Guard::new(&self.snapshots, flags, &dirty, &entry.key, address, self.epoch, self.seed);
        let result = then(&entry.key, S::access(entry.value.row_mut(), Cell::from_mut(&mut entry.epoch), guard));
        let useless = entry.value.row().is_empty();
        if self.recorded && dirty.get() {
            // Whatever changed in the row: increments look for it by the epoch of the entry.
            entry.epoch = touched(entry.epoch, self.epoch);
            self.rows.mark(place, self.epoch);
            self.snapshots.get_mut().tombstones.limit(self.epoch, self.rows.len());
        }
        if useless {
            self.remove_at(place);
        }
        result
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
