//! Writing snapshots of a table: closing the epoch, going on in slices, keeping what is about to change.

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use crate::record::Key;

use super::chunk::ChunkSink;
use super::error::StateError;
use super::row::{Hold, Row};
use super::slots::{Position, Slot, rank};
use super::snapshot::{Address, Capture, Cursor, EncodeError, Snapshots, Within};
use super::table::Table;

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
    /// When the checkpoint has an open snapshot already, or after 2^32 - 1 snapshots.
    pub fn close_epoch(&mut self, checkpoint: CheckpointId) -> Result<(), StateError> {
        let next = self.epoch.checked_add(1).ok_or(StateError::EpochsExhausted)?;
        self.snapshots.get_mut().open(checkpoint, self.epoch)?;
        self.epoch = next;
        self.watched = !is_active(Mutation::PreImageNotCaptured);
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
        let mut capture = Capture { output: &mut snapshot.output, group, epoch: snapshot.epoch, budget: usize::MAX };
        if let Err(error) = entry.value.row().capture(&entry.key, entry.epoch, from, &mut capture) {
            snapshot.failure = Some(error);
        }
    }
}
