//! What was removed since the base of the next increment: an increment has to say it, because the base still holds it.
//!
//! A tombstone names a unit that some closed snapshot may hold and that is gone since: a value, all elements of a list, an entry of a map or all of them. It
//! carries the epoch in which that happened and stays until a checkpoint that covers this epoch is known complete. What came and went within one epoch leaves
//! none, for no snapshot holds it; so a key leaves at most one in each epoch, however often it comes and goes.

use std::collections::VecDeque;

use super::encode::Room;
use super::slots::Epoch;
use super::snapshot::{Capture, EncodeError};

/// With more tombstones than a half of the rows, and more than this many, an increment would not be much smaller than all: they are forgotten, and the next
/// snapshot is a full one. Bounds the memory that a table of short-lived keys spends on what it does not hold.
const ALWAYS_KEPT: usize = 4_096;

/// What was removed in one epoch, in the order in which it was.
struct Removed {
    epoch: Epoch,
    units: Vec<Unit>,
    /// The encoded units, one behind the other.
    bytes: Vec<u8>,
}

struct Unit {
    group: u32,
    state: u16,
    /// Where its bytes end.
    end: usize,
}

/// The tombstones of a table.
#[derive(Default)]
pub(super) struct Tombstones {
    /// Whether anybody wants them.
    pub(super) wanted: bool,
    epochs: VecDeque<Removed>,
    count: usize,
    /// Tombstones of this epoch and of earlier ones are not all there: only a snapshot whose base closed it or a later one can be an increment.
    forgotten: Option<Epoch>,
}

/// How far a snapshot is with writing tombstones: those of earlier epochs, and so many of this one, are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    epoch: Epoch,
    units: usize,
}

impl Tombstones {
    /// A unit is removed in `epoch`, the current one; `encode` appends what names it. `rows` is the number of rows of the table.
    pub(super) fn add(
        &mut self,
        epoch: Epoch,
        group: u32,
        state: u16,
        encode: impl Fn(&mut Room<'_>) -> Result<(), rmp_serde::encode::Error>,
    ) {
        if !self.wanted || self.forgotten == Some(epoch) {
            return;
        }
        if self.epochs.back().is_none_or(|last| last.epoch != epoch) {
            self.epochs.push_back(Removed { epoch, units: Vec::new(), bytes: Vec::new() });
        }
        let Some(last) = self.epochs.back_mut() else { return };
        let begin = last.bytes.len();
        let mut size = 32;
        loop {
            last.bytes.resize(begin + size, 0);
            let mut room = Room { bytes: &mut last.bytes[begin..], used: 0, full: false };
            let encoded = encode(&mut room);
            let (used, full) = (room.used, room.full);
            if full {
                size *= 2;
                continue;
            }
            last.bytes.truncate(begin + used);
            if encoded.is_err() {
                // Who cannot be named cannot be removed from the base: all is written next time, which tells of the error if it is still there.
                self.forget(epoch);
                return;
            }
            last.units.push(Unit { group, state, end: begin + used });
            self.count += 1;
            return;
        }
    }

    /// Forgets them if there are too many for a table of so many rows.
    #[inline]
    pub(super) fn limit(&mut self, epoch: Epoch, rows: usize) {
        if self.count > ALWAYS_KEPT && self.count > rows / 2 {
            self.forget(epoch);
        }
    }

    /// Those of the current epoch go at once. Open snapshots may still want older ones: they stay until a checkpoint that covers them is complete, and count as long.
    fn forget(&mut self, epoch: Epoch) {
        if self.epochs.back().is_some_and(|last| last.epoch == epoch) {
            self.count -= self.epochs.pop_back().map_or(0, |last| last.units.len());
        }
        self.forgotten = Some(epoch);
    }

    /// Whether all tombstones behind the epoch `base` are there.
    pub(super) fn reach_back_to(&self, base: Epoch) -> bool {
        self.wanted && self.forgotten.is_none_or(|forgotten| base >= forgotten)
    }

    /// Those of epochs below `floor` are not needed any more.
    pub(super) fn covered(&mut self, floor: Epoch) {
        while self.epochs.front().is_some_and(|first| first.epoch < floor) {
            self.count -= self.epochs.pop_front().map_or(0, |removed| removed.units.len());
        }
    }

    /// Writes those of the epochs that an increment wants, within its budget. True when it is through.
    pub(super) fn write(
        &self,
        floor: Epoch,
        written: &mut Written,
        capture: &mut Capture<'_>,
    ) -> Result<bool, EncodeError> {
        for removed in &self.epochs {
            if removed.epoch < floor.max(written.epoch) || removed.epoch > capture.epoch {
                continue;
            }
            if removed.epoch != written.epoch {
                *written = Written { epoch: removed.epoch, units: 0 };
            }
            while let Some(unit) = removed.units.get(written.units) {
                if capture.budget == 0 {
                    return Ok(false);
                }
                let begin = written.units.checked_sub(1).map_or(0, |before| removed.units[before].end);
                capture.group = unit.group;
                capture.removal(unit.state, &removed.bytes[begin..unit.end])?;
                capture.spend(1);
                written.units += 1;
            }
        }
        Ok(true)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}
