//! The door to blocking work: files, sled, transactions. Nothing that may wait for a device runs on an arbiter.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::ports::points::{InjectedEnd, InjectedPanic};

/// Which queue of blocking work. The first two have one thread each and keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Manifests, run records, the catalogue, deletions: ordered.
    Metadata,
    /// Blobs of snapshots: ordered.
    Blobs,
    /// Input and output of connectors: a small pool without an order; who needs one keeps a single request under way.
    Connectors,
}

/// A unit of blocking work. Two calls, since in virtual time the device is busy between them: what was done is done, and nobody knows it yet.
pub trait Work: Send {
    /// Does what was asked. A second call does nothing.
    fn carry_out(&mut self);

    /// Tells who waits for it.
    fn answer(self: Box<Self>);
}

impl dyn Work {
    /// Carries it out and answers.
    pub fn run(mut self: Box<Self>) {
        self.carry_out();
        self.answer();
    }
}

/// Runs blocking work somewhere else and returns at once.
pub trait Blocking: Send + Sync {
    /// Queues `work` on `lane`.
    fn run(&self, lane: Lane, work: Box<dyn Work>);
}

/// The answer of blocking work that is still under way. Dropping it abandons the answer, not the work.
pub struct Promise<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

struct Shared<T> {
    answer: Option<Result<T, WorkPanicked>>,
    waker: Option<Waker>,
}

/// Blocking work panicked; the text is the panic's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("blocking work panicked: {0}")]
pub struct WorkPanicked(pub String);

/// What a promise queues.
struct Promised<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, WorkPanicked>>,
    shared: Arc<Mutex<Shared<T>>>,
}

impl<T: Send, F: FnOnce() -> T + Send> Work for Promised<T, F> {
    fn carry_out(&mut self) {
        if let Some(work) = self.work.take() {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            self.outcome = Some(outcome.map_err(|panic| WorkPanicked(panic_text(panic.as_ref()))));
        }
    }

    fn answer(self: Box<Self>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.answer = self.outcome;
        if let Some(waker) = shared.waker.take() {
            drop(shared);
            waker.wake();
        }
    }
}

impl<T: Send + 'static> Promise<T> {
    /// Starts `work` on a lane. A panic inside is caught and becomes the answer.
    pub fn start(blocking: &dyn Blocking, lane: Lane, work: impl FnOnce() -> T + Send + 'static) -> Promise<T> {
        let shared = Arc::new(Mutex::new(Shared { answer: None, waker: None }));
        blocking.run(lane, Box::new(Promised { work: Some(work), outcome: None, shared: Arc::clone(&shared) }));
        Promise { shared }
    }

    /// Takes the answer if it is there, else keeps the waker and returns pending.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, WorkPanicked>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Promise")
    }
}

/// The text of a caught panic.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(end) = panic.downcast_ref::<InjectedEnd>() {
        return end.to_string();
    }
    if let Some(injected) = panic.downcast_ref::<InjectedPanic>() {
        return injected.to_string();
    }
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    }
}
