//! The credits of one edge: how many batches may lie between a producer and its consumer.
//!
//! Frames of data wait for credit. Control frames need none and are not counted. What a barrier or an end of data
//! flushes is counted but does not wait, so an edge may hold more than its limit for a while; nothing new enters
//! until that is worked off. A producer without credit parks, and is woken when half of the credits are back: woken at the first
//! one it would run for a single batch at a time.
//!
//! This is bookkeeping without a queue and without a waker: the edge calls it under its own lock.

use super::invariant;
use super::machine::Violation;

/// How many batches an edge holds before its producer waits, if nothing else is said.
pub const DEFAULT_CREDITS: u32 = 8;

/// Whether the producer of the edge is to be woken now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WakeProducer(pub bool);

/// The credits of one edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credit {
    limit: u32,
    /// Batches in the edge; above the limit after a forced one.
    taken: u32,
    parked: bool,
}

impl Credit {
    /// An edge that holds `limit` batches, and at least one.
    #[must_use]
    pub fn new(limit: u32) -> Credit {
        Credit { limit: limit.max(1), taken: 0, parked: false }
    }

    /// Takes a credit for one batch. Without one the producer is parked until [`Credit::give_back`] wakes it.
    ///
    /// A producer that was woken for another reason may ask again while it is parked; if a credit is free it gets it.
    #[must_use]
    pub fn try_take(&mut self) -> bool {
        let free = self.taken < self.limit;
        self.taken += u32::from(free);
        self.parked = !free;
        free
    }

    /// Takes a credit whether or not one is free, for a batch that a barrier, a watermark or the end pushes out.
    pub fn force_take(&mut self) {
        self.taken += 1;
    }

    /// The consumer took one batch off the edge.
    ///
    /// One call belongs to each credit taken; a surplus one changes nothing.
    pub fn give_back(&mut self) -> WakeProducer {
        debug_assert!(self.taken > 0, "a credit came back that nobody took");
        self.taken = self.taken.saturating_sub(1);
        let wake = self.parked && self.taken <= self.wakes_at();
        self.parked &= !wake;
        WakeProducer(wake)
    }

    /// Whether the producer waits for credit.
    #[must_use]
    pub fn parked(&self) -> bool {
        self.parked
    }

    /// How many batches the edge holds.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// How many batches may be taken before the producer parks.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.limit.saturating_sub(self.taken)
    }

    /// Checks that a parked producer will be woken.
    ///
    /// # Errors
    ///
    /// A violation of [`invariant::PARKED_IS_WOKEN`].
    pub fn check(&self) -> Result<(), Violation> {
        invariant::parked_is_woken(self.parked, self.taken, self.wakes_at())
    }

    /// The number of taken credits at which at least half are free again.
    fn wakes_at(&self) -> u32 {
        self.limit / 2
    }
}

impl Default for Credit {
    fn default() -> Credit {
        Credit::new(DEFAULT_CREDITS)
    }
}
