//! The life of one actor, as the job sees it: it ends by itself, or its arbiter is stopped and takes it along.
//!
//! When an arbiter (or the whole `System`) stops, everything on it is dropped, wherever it was: actors without having ended, and closures that would have
//! started one without having run. Both drop a [`Life`], and that is how the job hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::host::Cell;
use crate::ports::host::Address;

/// The actor is being started; its directory is locked by who starts it.
const STARTING: u8 = 0;
/// The actor was handed to its arbiter.
const STARTED: u8 = 1;
/// The life was dropped without an end.
const LOST: u8 = 2;

/// Belongs to one actor. Dropped without [`Life::ended`], it reports that the actor was lost.
pub(super) struct Life {
    cell: Arc<Cell>,
    address: Address,
    phase: Arc<AtomicU8>,
    over: bool,
}

/// Belongs to who starts the actor.
pub(super) struct Start {
    cell: Arc<Cell>,
    address: Address,
    phase: Arc<AtomicU8>,
}

/// The two ends of a new life.
pub(super) fn begin(cell: &Arc<Cell>, address: Address) -> (Start, Life) {
    let phase = Arc::new(AtomicU8::new(STARTING));
    let start = Start { cell: Arc::clone(cell), address, phase: Arc::clone(&phase) };
    (start, Life { cell: Arc::clone(cell), address, phase, over: false })
}

impl Start {
    /// The actor was handed to its arbiter, and the directory is not locked any more: what was lost before is told now.
    pub(super) fn done(self) {
        if self.phase.swap(STARTED, Ordering::AcqRel) == LOST {
            self.cell.lost(self.address);
        }
    }
}

impl Life {
    /// The actor has ended, with the text of its panic if that was the reason.
    pub(super) fn ended(&mut self, panic: Option<String>) {
        if !std::mem::replace(&mut self.over, true) {
            self.cell.ended(self.address, panic);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if !self.over && self.phase.swap(LOST, Ordering::AcqRel) == STARTED {
            self.cell.lost(self.address);
        }
    }
}
