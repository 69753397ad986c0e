//! How many records a subtask takes through its chain before it looks at its mailbox again (rule 1).
//!
//! As many as take about a millisecond: 256 of the usual ones, a single one where a user call is that slow. So a barrier, an abort or a stop waits for one
//! user call at most, not for 256 of them.

use std::time::Duration;

use crate::ports::task::SLICE_RECORDS;

/// So long a slice may take.
pub const SLICE_TIME: Duration = Duration::from_millis(1);

/// The size of a subtask's slices, which follows the time that they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SliceSize {
    records: usize,
}

impl SliceSize {
    /// How many records the next slice may have: from 1 to [`SLICE_RECORDS`].
    #[must_use]
    pub fn records(self) -> usize {
        self.records
    }

    /// A slice of at most [`SliceSize::records`] took so long. One that took too long is followed by as small a one as would not have; the way back goes in steps of
    /// two, since a short slice may just have met an empty queue.
    pub fn took(&mut self, time: Duration) {
        if time > SLICE_TIME {
            let fitting = self.records as u128 * SLICE_TIME.as_nanos() / time.as_nanos();
            self.records = (fitting as usize).max(1);
        } else if time < SLICE_TIME / 4 {
            self.records = (2 * self.records).min(SLICE_RECORDS);
        }
    }
}

impl Default for SliceSize {
    fn default() -> SliceSize {
        SliceSize { records: SLICE_RECORDS }
    }
}
