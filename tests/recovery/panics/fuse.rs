//! A fuse in user code: it blows once, or always.

use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// Panics at one place, after so many passes, so many times. Clones are the same fuse.
#[derive(Clone, Debug)]
pub(crate) struct Fuse {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: &'static str,
    after: u64,
    times: u64,
    passed: AtomicU64,
    blown: AtomicU64,
}

impl Fuse {
    /// A fuse at `place`.
    pub(crate) fn new(place: &'static str, after: u64, times: u64) -> Fuse {
        be_quiet();
        let inner = Inner { place, after, times, passed: AtomicU64::new(0), blown: AtomicU64::new(0) };
        Fuse { inner: Arc::new(inner) }
    }

    /// The job comes by here.
    pub(crate) fn pass(&self, place: &str) {
        let inner = &*self.inner;
        if inner.place != place || inner.passed.fetch_add(1, Ordering::SeqCst) < inner.after {
            return;
        }
        if inner
            .blown
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |blown| (blown < inner.times).then_some(blown + 1))
            .is_ok()
        {
            panic!("{}", Fuse::text(place));
        }
    }

    /// What the panic says.
    pub(crate) fn text(place: &str) -> String {
        format!("the fuse of the {place} blew")
    }

    /// Whether it has blown as often as it can.
    pub(crate) fn is_out(&self) -> bool {
        self.blown() >= self.inner.times
    }

    /// How often it blew.
    pub(crate) fn blown(&self) -> u64 {
        self.inner.blown.load(Ordering::SeqCst)
    }
}

/// A value in a user's function whose destructor panics, once another fuse has blown.
#[derive(Clone, Debug)]
pub(crate) struct DropFuse {
    pub(crate) first: Fuse,
    pub(crate) then: Fuse,
}

impl Drop for DropFuse {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.first.blown() > 0 {
            self.then.pass("drop");
        }
    }
}

/// Panics of fuses are wanted: their messages stay off the screen.
fn be_quiet() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload_as_str().is_some_and(|text| text.starts_with("the fuse of the ")) {
                loud(panic);
            }
        }));
    });
}
