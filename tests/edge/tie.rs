//! The tie beside an edge: how one side holds still until the other one is about to sleep.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;

use crate::script::Chance;

/// How long at most a side spins between its sign and its look.
const SIGN_SPINS: u64 = 100;

/// What the two sides of an edge know of each other, besides the edge.
#[derive(Default)]
pub(crate) struct Tie {
    /// How long at most who holds still spins before it sleeps, in turns of a loop.
    hold_spins: u64,
    /// Who holds still; at most one side, so that they cannot wait for each other.
    holder: AtomicU8,
    holder_waker: AtomicWaker,
    /// The producer is refused or about to be, and has not sent a batch since; or it is through.
    pub(crate) refused: AtomicBool,
    /// The consumer finds no frame or is about to, and no frame was sent since.
    pub(crate) empty: AtomicBool,
    /// Frames that the producer put into the edge.
    pub(crate) sent: AtomicU64,
    /// The consumer leaves: its batches go uncounted.
    pub(crate) leaves: AtomicBool,
    /// The consumer is gone.
    pub(crate) left: AtomicBool,
    /// Batches that the consumer took out of the edge.
    pub(crate) taken: AtomicU64,
    /// One more than the number of the last barrier whose message is in the consumer's mailbox.
    pub(crate) announced: AtomicU64,
}

const NOBODY: u8 = 0;
pub(crate) const PRODUCER: u8 = 1;
pub(crate) const CONSUMER: u8 = 2;

impl Tie {
    /// A tie of an edge over which nothing was sent. Who holds still spins for `hold_spins` turns before it sleeps.
    pub(crate) fn new(hold_spins: u64) -> Tie {
        Tie { hold_spins, ..Tie::default() }
    }

    /// Tries to hold still.
    pub(crate) fn hold(&self, who: u8) -> bool {
        self.holder.compare_exchange(NOBODY, who, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether the holder still waits for `event`; else it is no holder any more.
    pub(crate) fn still_holds(&self, event: impl Fn() -> bool, context: &mut Context<'_>) -> bool {
        for _ in 0..self.hold_spins {
            if event() {
                break;
            }
            spin_loop();
        }
        self.holder_waker.register(context.waker());
        if event() {
            self.holder.store(NOBODY, Ordering::SeqCst);
        }
        self.holder.load(Ordering::SeqCst) != NOBODY
    }

    pub(crate) fn tell(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::SeqCst);
        self.holder_waker.wake();
    }

    /// Gives the sign that a sleep is near to whoever holds still, and lets a random moment go by.
    pub(crate) fn tell_before_look(&self, flag: &AtomicBool, chance: &mut Chance) {
        if self.holder.load(Ordering::SeqCst) == NOBODY {
            return;
        }
        self.tell(flag);
        for _ in 0..chance.below(SIGN_SPINS) {
            spin_loop();
        }
    }

    pub(crate) fn is_empty_or_left(&self) -> bool {
        self.empty.load(Ordering::SeqCst) || self.left.load(Ordering::SeqCst)
    }
}
