//! The open snapshots of a table: how far each has come, and which entries it still needs.
//!
//! A snapshot wants every *unit* (a value, an element of a list, an entry of a map) that existed when its epoch closed, as
//! it was then. It walks over the table in the order of addresses. A unit that is about to change or go is encoded first, for
//! every open snapshot that wants it: those whose epoch is not older than the unit's last change and whose cursor has not
//! passed its address. Afterwards the unit carries the current epoch, which is younger than any open snapshot, so that
//! no snapshot takes it twice or takes its new content.

use alluvium_actors::ids::CheckpointId;

use super::encode::Room;
use super::error::StateError;
use super::output::Output;
use super::slots::{Epoch, FRESH};
use super::span::Span;
use super::tombstones::{Tombstones, Written};

/// Where an entry stands, such that no growth, insertion or removal of others changes what has been passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) position: u32,
    /// The number of entries of the same position before it.
    pub(super) rank: u32,
}

/// How far a snapshot has come: everything before is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    pub(super) address: Address,
    /// Within the row: the state, and the unit of it, from which on it is not done.
    pub(super) within: Within,
}

/// A state of a row and a unit of that state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Within {
    pub(super) state: u16,
    pub(super) unit: u64,
}

/// What a row or a state encodes itself into: one key group of one snapshot.
pub struct Capture<'a> {
    pub(super) output: &'a mut Output,
    pub(super) group: u32,
    /// Units that changed before this epoch are not wanted: the base of the increment holds them.
    pub(super) floor: Epoch,
    /// Units that changed after this epoch are not wanted.
    pub(super) epoch: Epoch,
    /// How many units may still be visited.
    pub(super) budget: usize,
}

impl Capture<'_> {
    #[inline(always)]
    pub(super) fn spend(&mut self, units: usize) {
        self.budget = self.budget.saturating_sub(units);
    }

    /// Whether a unit is wanted that changed last in this epoch.
    #[inline(always)]
    pub(super) fn wants(&self, changed: Epoch) -> bool {
        self.floor <= changed && changed <= self.epoch
    }

    /// Writes what names a removed unit.
    pub(super) fn removal(&mut self, state: u16, bytes: &[u8]) -> Result<(), EncodeError> {
        let put = |room: &mut Room<'_>| {
            std::io::Write::write_all(room, bytes)
                .map_err(|_| rmp_serde::encode::Error::InvalidDataModel("the chunk is full"))
        };
        self.output.remove(state, self.group, put).map_err(|error| EncodeError::new(state, &error))
    }

    #[inline(always)]
    pub(super) fn entry(
        &mut self,
        state: u16,
        encode: impl Fn(&mut Room<'_>) -> Result<(), rmp_serde::encode::Error>,
    ) -> Result<(), EncodeError> {
        self.output.append(state, self.group, encode).map_err(|error| EncodeError::new(state, &error))
    }
}

/// An error of a user's `Serialize`, before the name of the state is known.
#[derive(Clone, Debug)]
pub struct EncodeError {
    pub(super) state: u16,
    pub(super) message: String,
}

impl EncodeError {
    #[cold]
    fn new(state: u16, error: &rmp_serde::encode::Error) -> EncodeError {
        EncodeError { state, message: error.to_string() }
    }
}

pub(super) struct Snapshot {
    pub(super) checkpoint: CheckpointId,
    /// The epoch that it closed.
    pub(super) epoch: Epoch,
    /// The first epoch whose changes it wants: zero for a full one, or that behind its base.
    pub(super) floor: Epoch,
    /// How far it is with the tombstones; they come first.
    pub(super) tombstones: Option<Written>,
    pub(super) cursor: Cursor,
    pub(super) output: Output,
    /// The first entry that could not be encoded: the snapshot cannot complete.
    pub(super) failure: Option<EncodeError>,
}

impl Snapshot {
    /// From where on the snapshot wants a state of a row: `None` when it has it.
    pub(super) fn wants(&self, address: Address, state: u16) -> Option<u64> {
        let asked = (address, state);
        let reached = (self.cursor.address, self.cursor.within.state);
        match asked.cmp(&reached) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(self.cursor.within.unit),
            std::cmp::Ordering::Greater => Some(0),
        }
    }
}

/// All open snapshots of a table.
pub(super) struct Snapshots {
    pub(super) span: Span,
    pub(super) states: u16,
    pub(super) open: Vec<Snapshot>,
    pub(super) tombstones: Tombstones,
}

impl Snapshots {
    pub(super) fn new(span: Span, states: u16) -> Snapshots {
        Snapshots { span, states, open: Vec::new(), tombstones: Tombstones::default() }
    }

    /// Opens a snapshot of the epoch that closes; with a base, of what changed since that epoch.
    pub(super) fn open(
        &mut self,
        checkpoint: CheckpointId,
        epoch: Epoch,
        base: Option<Epoch>,
    ) -> Result<(), StateError> {
        if epoch + 1 >= FRESH {
            return Err(StateError::EpochsExhausted);
        }
        if self.open.iter().any(|snapshot| snapshot.checkpoint == checkpoint) {
            return Err(StateError::SnapshotExists(checkpoint));
        }
        let groups = self.span.groups();
        let output = Output::new(groups.start, groups.end - groups.start, self.states, base.is_some(), self.open.len());
        self.open.push(Snapshot {
            checkpoint,
            epoch,
            floor: base.map_or(Epoch::MIN, |base| base + 1),
            tombstones: base.map(|_| Written::default()),
            cursor: Cursor::default(),
            output,
            failure: None,
        });
        Ok(())
    }

    pub(super) fn find(&self, checkpoint: CheckpointId) -> Result<usize, StateError> {
        self.open
            .iter()
            .position(|snapshot| snapshot.checkpoint == checkpoint)
            .ok_or(StateError::NoSuchSnapshot(checkpoint))
    }

    /// Whether an entry's rank is needed to compare it with a cursor.
    #[inline]
    pub(super) fn rank_matters(&self, position: u32) -> bool {
        self.open.iter().any(|snapshot| snapshot.cursor.address.position == position)
    }

    /// Encodes one unit that is about to change or go, for every snapshot that wants it.
    pub(super) fn preserve_unit(
        &mut self,
        address: Address,
        within: Within,
        changed: Epoch,
        encode: impl Fn(&mut Room<'_>) -> Result<(), rmp_serde::encode::Error>,
    ) {
        let group = self.span.group_of(address.position);
        self.each_wanting(address, within.state, group, |from, capture| {
            if within.unit >= from && capture.wants(changed) { capture.entry(within.state, &encode) } else { Ok(()) }
        });
    }

    /// Calls `take` for every snapshot that has not passed a state of a row, with the unit from which on it wants what is new enough for it.
    pub(super) fn each_wanting(
        &mut self,
        address: Address,
        state: u16,
        group: u32,
        mut take: impl FnMut(u64, &mut Capture<'_>) -> Result<(), EncodeError>,
    ) {
        for snapshot in &mut self.open {
            if snapshot.failure.is_some() {
                continue;
            }
            let Some(from) = snapshot.wants(address, state) else { continue };
            let (floor, epoch) = (snapshot.floor, snapshot.epoch);
            let mut capture = Capture { output: &mut snapshot.output, group, floor, epoch, budget: usize::MAX };
            if let Err(error) = take(from, &mut capture) {
                snapshot.failure = Some(error);
            }
        }
    }

    /// An entry was removed: those of the same position behind it move up by one.
    pub(super) fn removed(&mut self, address: Address) {
        for snapshot in &mut self.open {
            let cursor = &mut snapshot.cursor;
            if cursor.address.position == address.position {
                match address.rank.cmp(&cursor.address.rank) {
                    std::cmp::Ordering::Less => cursor.address.rank -= 1,
                    std::cmp::Ordering::Equal => cursor.within = Within::default(),
                    std::cmp::Ordering::Greater => {}
                }
            }
        }
    }
}
