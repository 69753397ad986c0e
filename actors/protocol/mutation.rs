//! Rules broken on purpose, to prove that the tests find it. Only in builds with the feature `mutations`, which the project's own tests
//! switch on; a process chooses one at its start, or a thread for the time of a call.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// Channels are never blocked: records behind a barrier are processed before the cut.
    WithoutAlignment = 1,
}

static ACTIVE: AtomicU8 = AtomicU8::new(0);

thread_local! {
    static HERE: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Breaks a rule for the rest of the process.
pub fn activate(mutation: Mutation) {
    ACTIVE.store(mutation as u8, Ordering::SeqCst);
}

/// Breaks a rule on this thread while `body` runs: for hosts that run everything on one thread.
pub fn during<T>(mutation: Mutation, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<Mutation>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }
    let _restore = Restore(HERE.replace(Some(mutation)));
    body()
}

/// Whether this rule is broken.
#[must_use]
pub fn is_active(mutation: Mutation) -> bool {
    ACTIVE.load(Ordering::SeqCst) == mutation as u8 || HERE.get() == Some(mutation)
}
