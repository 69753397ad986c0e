//! Fencing: what tells a late effect of an ended attempt from an effect of the current one.
//!
//! A [`FenceSource`] is advanced once per attempt. Each external effect (write, sync, rename, commit) carries the
//! [`Fence`] of its attempt, and whoever carries the effect out checks it directly before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::mutation::{Mutation, is_active};

/// The token of an older attempt was used: the effect was not carried out and must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attempt {held} is over, attempt {current} is current: the effect was not carried out")]
pub struct Fenced {
    /// The generation that the token carries.
    pub held: u64,
    /// The generation that is current.
    pub current: u64,
}

/// Hands out the fences of a job, one generation after the other. Clones share the generation.
#[derive(Clone, Debug, Default)]
pub struct FenceSource {
    current: Arc<AtomicU64>,
}

impl FenceSource {
    /// A source at generation zero, for which no fence was handed out.
    #[must_use]
    pub fn new() -> FenceSource {
        FenceSource::default()
    }

    /// Ends the current generation and begins the next: every fence handed out before fails its check from now on.
    #[must_use]
    pub fn advance(&self) -> Fence {
        let generation = self.current.fetch_add(1, Ordering::AcqRel) + 1;
        Fence { current: Arc::clone(&self.current), generation }
    }
}

/// The right to cause external effects, as long as its generation is the current one.
#[derive(Clone, Debug)]
pub struct Fence {
    current: Arc<AtomicU64>,
    generation: u64,
}

impl Fence {
    /// Whether this fence is still the newest of its source. To be called directly before an effect.
    ///
    /// # Errors
    ///
    /// [`Fenced`] if the source was advanced since this fence was handed out.
    pub fn check(&self) -> Result<(), Fenced> {
        let current = self.current.load(Ordering::Acquire);
        if current == self.generation || is_active(Mutation::AttemptsOverlap) {
            Ok(())
        } else {
            Err(Fenced { held: self.generation, current })
        }
    }

    /// The generation, counted from 1 within its source.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_holds_until_its_source_advances() {
        let source = FenceSource::new();
        let first = source.advance();
        assert_eq!(first.check(), Ok(()));
        let second = source.clone().advance();
        assert_eq!(first.check(), Err(Fenced { held: 1, current: 2 }));
        assert_eq!(second.check(), Ok(()));
    }
}
