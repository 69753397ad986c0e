//! The operator state of one instance: one row under no key, and the snapshots of it.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::set::{BroadcastStateSet, OperatorRow, OperatorStateSet};
use crate::state::chunk::{ChunkHeader, ChunkSink};
use crate::state::descriptor::{StateDescriptor, StateMapping};
use crate::state::encode::{EncodeKey, Room};
use crate::state::error::StateError;
use crate::state::restore::at_end;
use crate::state::row::{Decoder, RestoreError, Restoring, Row};
use crate::state::set::Guard;
use crate::state::slots::Epoch;
use crate::state::snapshot::{Address, Capture, EncodeError, Snapshots};
use crate::state::span::Span;
use crate::state::write::Progress;

/// The only key group of operator state. Its chunks are of this one.
const GROUP: u32 = 0;

/// What stands where an entry of keyed state has its key: nothing.
struct NoKey;

impl EncodeKey for NoKey {
    fn encode(&self, _: &mut Room<'_>) -> Result<(), rmp_serde::encode::Error> {
        Ok(())
    }
}

/// The states of one instance of an operator.
///
/// ```
/// use alluvium::state::{OperatorTable, SplitList};
///
/// let mut table = OperatorTable::new(&SplitList::<u64>::named("waiting"), 7);
/// table.access().push(3);
/// assert!(table.access().iter().eq([&3]));
/// ```
pub struct OperatorTable<S: OperatorStateSet> {
    row: S::Row,
    /// The epoch of the row's last change, for states that have none of their own. There is no such operator state.
    changed: Cell<Epoch>,
    /// Set by each change, and read by nobody: all that is there is stored each time.
    dirty: Cell<bool>,
    states: Vec<StateDescriptor>,
    /// That of the hashes of user keys.
    seed: u64,
    /// What changes now belongs to this epoch; all open snapshots are of earlier ones.
    epoch: Epoch,
    /// Whether there are open snapshots.
    watched: bool,
    snapshots: RefCell<Snapshots>,
}

impl<S: OperatorStateSet> OperatorTable<S> {
    /// Empty states, with the job's `seed` for the hashes of user keys.
    #[must_use]
    pub fn new(states: &S, seed: u64) -> OperatorTable<S> {
        OperatorTable {
            row: S::Row::default(),
            changed: Cell::new(Epoch::MIN),
            dirty: Cell::new(false),
            states: states.descriptors(),
            seed,
            epoch: Epoch::MIN,
            watched: false,
            snapshots: RefCell::new(Snapshots::new(Span::new(GROUP..GROUP + 1, 1), <S::Row as Row>::STATES)),
        }
    }

    /// The states, as the header of a blob lists them.
    #[must_use]
    pub fn descriptors(&self) -> &[StateDescriptor] {
        &self.states
    }

    /// Lends the states. The only way to change them: it keeps the old content for the open snapshots first.
    pub fn access(&mut self) -> S::Access<'_> {
        let guard = guard(self.watched, &self.snapshots, &self.dirty, self.epoch, self.seed);
        S::access(&mut self.row, &self.changed, guard)
    }

    /// Opens a snapshot: what the states hold now is what [`advance`](OperatorTable::advance) writes, whatever changes meanwhile. Costs the same for any size. Several
    /// snapshots may be open.
    ///
    /// # Errors
    /// When the checkpoint has an open snapshot already, or after 2^32 - 1 snapshots.
    pub fn close_epoch(&mut self, checkpoint: CheckpointId) -> Result<(), StateError> {
        let next = self.epoch.checked_add(1).ok_or(StateError::EpochsExhausted)?;
        self.snapshots.get_mut().open(checkpoint, self.epoch, None)?;
        self.epoch = next;
        self.watched = !is_active(Mutation::TouchedElementNotCopied);
        Ok(())
    }

    /// Writes on at a snapshot until about `budget` elements were visited, and gives the chunks that are full to the sink. To be called between steps, also when the budget is
    /// zero: elements that change fill chunks too.
    ///
    /// # Errors
    /// When the snapshot is not open, or when an element cannot be encoded; then the snapshot is closed.
    pub fn advance(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        sink: &mut dyn ChunkSink,
    ) -> Result<Progress, StateError> {
        let snapshots = self.snapshots.get_mut();
        let number = snapshots.find(checkpoint)?;
        let snapshot = &mut snapshots.open[number];
        let from = snapshot.cursor.within;
        let mut capture = Capture {
            output: &mut snapshot.output,
            group: GROUP,
            floor: snapshot.floor,
            epoch: snapshot.epoch,
            budget,
        };
        let captured = match snapshot.failure.take() {
            Some(failure) => Err(failure),
            None => self.row.capture(&NoKey, self.changed.get(), from, &mut capture),
        };
        match captured {
            Ok(Some(within)) => {
                snapshot.cursor.within = within;
                snapshot.output.drain(checkpoint, sink);
                Ok(Progress::More)
            }
            Ok(None) => {
                snapshot.output.seal_groups(GROUP, GROUP + 1);
                snapshot.output.drain(checkpoint, sink);
                self.abort(checkpoint);
                Ok(Progress::Done)
            }
            Err(EncodeError { state, message }) => {
                self.abort(checkpoint);
                Err(StateError::Encode { state: self.states[usize::from(state)].name.clone(), message })
            }
        }
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

    /// The encoded bytes that the open snapshots hold: chunks that are not full, and full ones that the next [`advance`](OperatorTable::advance) gives away.
    #[must_use]
    pub fn snapshot_bytes(&self) -> usize {
        self.snapshots.borrow().open.iter().map(|snapshot| snapshot.output.bytes()).sum()
    }

    /// Takes the entries of one stored chunk, header included, of one former instance. [`settle`](OperatorTable::settle) follows when all its chunks of the state were taken.
    ///
    /// # Errors
    /// When the bytes are damaged or of another type, or stand there twice. The states are then half restored and must not be used.
    pub fn restore_chunk(&mut self, mapping: &StateMapping, bytes: &[u8]) -> Result<u32, StateError> {
        let (header, entries) = ChunkHeader::open(bytes)?;
        if header.key_group != GROUP {
            return Err(StateError::ForeignKeyGroup { group: header.key_group, first: GROUP, last: GROUP });
        }
        let state = mapping
            .current(header.state)
            .filter(|state| *state < <S::Row as Row>::STATES)
            .ok_or_else(|| StateError::Damaged(format!("a chunk names state number {}", header.state)))?;
        let mut decoder = Decoder::from_read_ref(entries);
        let context = self.restoring();
        for _ in 0..header.count {
            let restored = S::Row::restore(Some(&mut self.row), state, &mut decoder, context);
            restored.map_err(|error| self.explain(error, state))?;
        }
        if !at_end(&mut decoder) {
            return Err(StateError::Damaged(format!("a chunk holds more than its {} entries", header.count)));
        }
        Ok(header.count)
    }

    /// All chunks of state number `state` that one former instance stored were taken: its elements `keep`, by their place there, come behind those that are there already.
    ///
    /// # Errors
    /// When an element was stored twice.
    pub fn settle(&mut self, state: u16, keep: Range<u64>) -> Result<(), StateError> {
        let context = self.restoring();
        self.row.settle(state, keep, context).map_err(|error| self.explain(error, state))
    }

    fn restoring(&self) -> Restoring {
        Restoring { epoch: self.epoch, seed: self.seed, newer: false, marked: false }
    }

    #[cold]
    fn explain(&self, error: RestoreError, state: u16) -> StateError {
        let state = self.states[usize::from(state)].name.clone();
        match error {
            RestoreError::Decode(message) => StateError::Damaged(format!("state {state:?}: {message}")),
            RestoreError::Duplicate => StateError::Duplicate { state, group: GROUP },
            RestoreError::Key(error) => StateError::Key(error),
        }
    }
}

impl<S: BroadcastStateSet> OperatorTable<S> {
    /// Lends the states for reading.
    pub fn view(&mut self) -> S::View<'_> {
        let guard = guard(self.watched, &self.snapshots, &self.dirty, self.epoch, self.seed);
        S::view(&mut self.row, &self.changed, guard)
    }
}

#[inline]
fn guard<'a>(
    watched: bool,
    snapshots: &'a RefCell<Snapshots>,
    dirty: &'a Cell<bool>,
    epoch: Epoch,
    seed: u64,
) -> Guard<'a> {
    Guard::new(snapshots, (watched, false), dirty, &NoKey, Address::default(), epoch, seed)
}
