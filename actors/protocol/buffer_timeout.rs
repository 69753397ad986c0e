//! When a partial batch leaves although nothing else pushes it out.
//!
//! A batch leaves when it is full, before a barrier, at the end, and when its producer runs idle. A producer that is always busy and emits little would hold
//! its output back for as long as that lasts; after the buffer timeout it leaves. The clock is read once per step of the producer and not per record, so
//! output waits for the timeout and one step at most, as long as no user call takes longer.

use std::time::Duration;

use crate::ids::Moment;

/// How long output may be held back, if nothing else is said.
pub const DEFAULT_BUFFER_TIMEOUT: Duration = Duration::from_millis(100);

/// The last resort of one producer's partial batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferTimeout {
    timeout: Duration,
    /// Since when output may have been held back.
    since: Option<Moment>,
}

impl BufferTimeout {
    /// Nothing is held back yet.
    #[must_use]
    pub fn new(timeout: Duration) -> BufferTimeout {
        BufferTimeout { timeout, since: None }
    }

    /// Records went through the chain in the step that began at `now`: some may be held back.
    #[inline]
    pub fn held(&mut self, now: Moment) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Everything left, for whatever reason.
    #[inline]
    pub fn flushed(&mut self) {
        self.since = None;
    }

    /// Whether what is held back has to leave now.
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        self.since.is_some_and(|since| now.since(since) >= self.timeout)
    }

    /// When to look again if nothing happens until then; never while nothing is held back.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let timeout = u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX);
        self.since.and_then(|since| since.0.checked_add(timeout)).map(Moment)
    }
}

impl Default for BufferTimeout {
    fn default() -> BufferTimeout {
        BufferTimeout::new(DEFAULT_BUFFER_TIMEOUT)
    }
}
