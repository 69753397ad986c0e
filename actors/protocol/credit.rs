//! The credit of one edge: how many batches may wait before the producer stops, and when it is woken.

/// Counts batches, not frames: control frames need no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    limit: usize,
    used: usize,
    parked: bool,
}

impl Credit {
    /// Credit for `limit` batches; at least one.
    #[must_use]
    pub fn new(limit: usize) -> Credit {
        Credit { limit: limit.max(1), used: 0, parked: false }
    }

    /// Takes a credit; without one the producer counts as parked.
    pub fn try_take(&mut self) -> bool {
        if self.used >= self.limit {
            self.parked = true;
            return false;
        }
        self.used += 1;
        true
    }

    /// Takes a credit that may not be there: a batch that a barrier pushes in front of itself.
    pub fn force_take(&mut self) {
        self.used += 1;
    }

    /// Gives a credit back. True when a parked producer is to be woken: when half of the credits are back.
    pub fn give_back(&mut self) -> bool {
        self.used = self.used.saturating_sub(1);
        if self.parked && self.used <= self.limit / 2 {
            self.parked = false;
            return true;
        }
        false
    }
}
