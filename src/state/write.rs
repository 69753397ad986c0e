//! Writing snapshots of a table: closing the epoch, going on in slices, keeping what is about to change.

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use crate::record::Key;

use super::chunk::ChunkSink;
use super::error::StateError;
use super::ordered::Walked;
use super::row::{Hold, Row};
use super::slots::{Epoch, Position, Slot, age, rank};
use super::snapshot::{Address, Capture, Cursor, EncodeError, Snapshots, Within};
use super::table::Table;

/// Of so many snapshots whose outcome is unknown the table remembers the epoch. Notices may be lost; of those that come, one is enough.
const CLOSED: usize = 64;

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to write.
    More,
    /// The sink has all chunks; the snapshot is closed.
    Done,
}

impl<K: Key, R: Row, H: Hold<R>> Table<K, R, H> {
    /// Opens a snapshot: what the table holds now is what [`advance`](Table::advance) writes, whatever changes meanwhile.
    /// Costs the same for any size. Several snapshots may be open.
    ///
    /// # Errors
    /// When the checkpoint has an open snapshot already, or after 2^31 - 1 snapshots.
    pub fn close_epoch(&mut self, checkpoint: CheckpointId) -> Result<(), StateError> {
        self.close(checkpoint, None)
    }

    /// As [`close_epoch`](Table::close_epoch), for an increment: what [`advance`](Table::advance) writes is what changed since checkpoint `base`, and what was
    /// removed. Over the base it gives all that the table holds now. Answers whether that is so: a table that cannot tell what changed since then
    /// writes everything.
    ///
    /// An increment can be written in a table that [records](Table::record_changes) changes, on the base that it was told of last
    /// ([`completed`](Table::completed), [`restored_from`](Table::restored_from)).
    ///
    /// # Errors
    /// As [`close_epoch`](Table::close_epoch).
    pub fn close_epoch_on(&mut self, checkpoint: CheckpointId, base: CheckpointId) -> Result<bool, StateError> {
        let base = self.base.filter(|known| known.0 == base).map(|known| known.1);
        let base = base.filter(|base| self.snapshots.get_mut().tombstones.reach_back_to(*base));
        self.close(checkpoint, base)?;
        Ok(base.is_some())
    }

    fn close(&mut self, checkpoint: CheckpointId, base: Option<Epoch>) -> Result<(), StateError> {
        self.snapshots.get_mut().open(checkpoint, self.epoch, base)?;
        if self.recorded {
            if self.closed.len() == CLOSED {
                self.closed.pop_front();
            }
            self.closed.push_back((checkpoint, self.epoch));
        }
        self.epoch += 1;
        self.watched = !is_active(Mutation::PreImageNotCaptured);
        Ok(())
    }

    /// From now on the table can tell what changed since an earlier snapshot, see [`close_epoch_on`](Table::close_epoch_on). To be called before anything is
    /// in it.
    ///
    /// # Panics
    /// When the table is not empty.
    pub fn record_changes(&mut self) {
        assert!(self.is_empty(), "a table records changes from its beginning or not at all");
        self.rows.record_changes();
        self.recorded = true;
        self.snapshots.get_mut().tombstones.wanted = true;
    }

    /// Everything in the table is what `checkpoint` holds: it can be the base of increments.
    ///
    /// # Errors
    /// After 2^31 snapshots.
    pub fn restored_from(&mut self, checkpoint: CheckpointId) -> Result<(), StateError> {
        if self.epoch + 1 >= super::slots::FRESH {
            return Err(StateError::EpochsExhausted);
        }
        self.base = Some((checkpoint, self.epoch));
        self.epoch += 1;
        Ok(())
    }

    /// The checkpoint is complete: it is the base of increments from now on, and of what was removed before it nobody needs to know any more. Nothing
    /// happens when the table has not closed an epoch for it.
    pub fn completed(&mut self, checkpoint: CheckpointId) {
        let Some(number) = self.closed.iter().position(|closed| closed.0 == checkpoint) else { return };
        self.base = Some(self.closed[number]);
        self.closed.drain(..=number);
        self.covered();
    }

    /// Lets go of tombstones that no snapshot needs, neither an open one nor a later one.
    fn covered(&mut self) {
        let Some((_, base)) = self.base else { return };
        let snapshots = self.snapshots.get_mut();
        let open = snapshots.open.iter().filter(|snapshot| snapshot.tombstones.is_some());
        let floor = open.map(|snapshot| snapshot.floor).min().unwrap_or(Epoch::MAX).min(base + 1);
        snapshots.tombstones.covered(floor);
    }

    /// How many tombstones of removed units the table holds for the next increments.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.snapshots.borrow().tombstones.len()
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
        let (tombstones, snapshot) = (&snapshots.tombstones, &mut snapshots.open[number]);
        let mut cursor = snapshot.cursor;
        let mut group = self.span.group_of(cursor.address.position);
        let mut group_end = self.span.group_end(group);
        let mut failure = snapshot.failure.take();
        let mut done = failure.is_none();
        let (floor, epoch) = (snapshot.floor, snapshot.epoch);
        let mut capture = Capture { output: &mut snapshot.output, group, floor, epoch, budget };
        if let Some(written) = &mut snapshot.tombstones
            && failure.is_none()
        {
            match tombstones.write(floor, written, &mut capture) {
                Ok(true) => snapshot.tombstones = None,
                Ok(false) => done = false,
                Err(error) => failure = Some(error),
            }
            capture.group = group;
        }
        if done && failure.is_none() {
            self.rows.walk(Position::new(cursor.address.position), cursor.address.rank, floor, |walked| {
                let (position, rank) = match &walked {
                    Walked::Entry(entry, rank) => (entry.position, *rank),
                    Walked::Passed(position, rank) => (*position, *rank),
                };
                if capture.budget == 0 {
                    done = false;
                    if matches!(walked, Walked::Entry(..)) {
                        return false;
                    }
                }
                let address = Address { position: position.get(), rank };
                if address != cursor.address {
                    cursor = Cursor { address, ..Cursor::default() };
                    if u64::from(address.position) >= group_end {
                        let passed = group;
                        group = self.span.group_of(address.position);
                        group_end = self.span.group_end(group);
                        capture.output.seal_groups(passed, group);
                        capture.group = group;
                    }
                }
                let Walked::Entry(entry, _) = walked else {
                    capture.spend(1);
                    return done;
                };
                match entry.value.row().capture(&entry.key, age(entry.epoch), cursor.within, &mut capture) {
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
            self.end(checkpoint);
            return Err(StateError::Encode { state: self.states[usize::from(state)].name.clone(), message });
        }
        if done {
            snapshot.output.seal_groups(group, self.span.groups().end);
        }
        snapshot.output.drain(checkpoint, sink);
        if done {
            self.end(checkpoint);
        }
        Ok(if done { Progress::Done } else { Progress::More })
    }

    /// Nothing will come of the checkpoint: closes its snapshot and frees what it holds. Nothing happens when there is none.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.closed.retain(|closed| closed.0 != checkpoint);
        self.end(checkpoint);
    }

    fn end(&mut self, checkpoint: CheckpointId) {
        let snapshots = self.snapshots.get_mut();
        snapshots.open.retain(|snapshot| snapshot.checkpoint != checkpoint);
        self.watched = !snapshots.open.is_empty();
        self.covered();
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
}

/// Encodes what the open snapshots still want of a row that is about to change or go.
#[inline(never)]
pub(super) fn preserve_row<K: Key, R: Row, H: Hold<R>>(snapshots: &mut Snapshots, slots: &[Slot<K, H>], index: usize) {
    let Some(entry) = &slots[index] else { return };
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
        let (floor, epoch) = (snapshot.floor, snapshot.epoch);
        let mut capture = Capture { output: &mut snapshot.output, group, floor, epoch, budget: usize::MAX };
        if let Err(error) = entry.value.row().capture(&entry.key, age(entry.epoch), from, &mut capture) {
            snapshot.failure = Some(error);
        }
    }
}
