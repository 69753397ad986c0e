//! Where a job's actors run: on threads of its own, or on arbiters that the user hands over.

use std::thread::ThreadId;

use actix_rt::{Arbiter, ArbiterHandle};

/// Where a job's actors run.
///
/// A job has threads of its own unless it is told otherwise: one with an actix `System` for its supervisor and its coordinator, and worker arbiters
/// for its subtasks. Or it lives on arbiters that are there already, beside other actors; then only its blocking work has threads, and it
/// ends when they stop.
#[derive(Clone, Debug)]
pub struct Arbiters {
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Own { workers: usize },
    HandedOver(Vec<HandedOver>),
}

/// An arbiter of the user.
#[derive(Clone, Debug)]
pub(super) struct HandedOver {
    pub(super) arbiter: ArbiterHandle,
    /// Its thread, if that is known.
    pub(super) thread: Option<ThreadId>,
}

/// No actix `System` runs on the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no actix System runs on this thread: call it inside of System::block_on or on an Arbiter, or let the job have threads of its own"
)]
pub struct NoArbiter;

impl Arbiters {
    /// A thread of the job's own, and so many worker arbiters (at least one).
    #[must_use]
    pub fn own(workers: usize) -> Arbiters {
        Arbiters { place: Place::Own { workers: workers.max(1) } }
    }

    /// The arbiter that runs the caller: all actors of the job live there, beside those that are there already.
    ///
    /// # Errors
    /// When none does.
    pub fn current() -> Result<Arbiters, NoArbiter> {
        let arbiter = Arbiter::try_current().ok_or(NoArbiter)?;
        let thread = Some(std::thread::current().id());
        Ok(Arbiters { place: Place::HandedOver(vec![HandedOver { arbiter, thread }]) })
    }

    /// These arbiters. The supervisor, the coordinator and the sinks' commits live on the first one; subtask number i on arbiter i modulo their number.
    #[must_use]
    pub fn handed_over(arbiters: impl IntoIterator<Item = ArbiterHandle>) -> Arbiters {
        let arbiters = arbiters.into_iter().map(|arbiter| HandedOver { arbiter, thread: None }).collect();
        Arbiters { place: Place::HandedOver(arbiters) }
    }

    /// How many there are for subtasks.
    #[must_use]
    pub fn workers(&self) -> usize {
        match &self.place {
            Place::Own { workers } => *workers,
            Place::HandedOver(arbiters) => arbiters.len(),
        }
    }

    /// Whether there is none to run on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.place, Place::HandedOver(arbiters) if arbiters.is_empty())
    }
}

impl Default for Arbiters {
    /// Threads of the job's own, one worker per core.
    fn default() -> Arbiters {
        Arbiters::own(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }
}
