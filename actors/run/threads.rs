//! On which threads a job's actors run: where nobody may wait for the job, because waiting there would never end.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// So long an arbiter may take to say on which thread it runs, before it is taken for the one that asks.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whether the calling thread is one of the job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsHere {
    /// It is: waiting for the job here would never end.
    Yes,
    /// It is not.
    No,
    /// An arbiter of the job has not answered yet, and this thread runs one: it may be the same.
    Unknown,
}

/// The threads of one job.
#[derive(Default)]
pub(super) struct Threads {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    known: Vec<ThreadId>,
    /// Arbiters that have not said yet where they run.
    unknown: usize,
    over: bool,
    wakers: Vec<Waker>,
}

impl Threads {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A future for an arbiter: it notes the thread that polls it, until the job is over or the arbiter stops. `thread` is that thread, if it is known before.
    pub(super) fn occupy(self: &Arc<Threads>, thread: Option<ThreadId>) -> Occupied {
        let mut state = self.state();
        match thread {
            Some(thread) => state.known.push(thread),
            None => state.unknown += 1,
        }
        Occupied { threads: Arc::clone(self), thread }
    }

    /// The job is over: all threads are free of it.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.over = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the calling thread is one of the job's. `runs_arbiter` is whether it runs any arbiter.
    pub(super) fn runs_here(&self, runs_arbiter: bool) -> RunsHere {
        let own = std::thread::current().id();
        let until = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if state.over {
                return RunsHere::No;
            }
            if state.known.contains(&own) {
                return RunsHere::Yes;
            }
            if state.unknown == 0 || !runs_arbiter {
                return RunsHere::No;
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return RunsHere::Unknown;
            }
            state = self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// See [`Threads::occupy`].
pub(super) struct Occupied {
    threads: Arc<Threads>,
    thread: Option<ThreadId>,
}

impl Future for Occupied {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let threads = Arc::clone(&self.threads);
        let mut state = threads.state();
        if self.thread.is_none() {
            let own = std::thread::current().id();
            self.thread = Some(own);
            state.unknown -= 1;
            state.known.push(own);
            threads.changed.notify_all();
        }
        if state.over {
            return Poll::Ready(());
        }
        state.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut state = self.threads.state();
        match self.thread {
            Some(thread) => {
                if let Some(position) = state.known.iter().position(|known| *known == thread) {
                    state.known.swap_remove(position);
                }
            }
            None => state.unknown -= 1,
        }
        drop(state);
        self.threads.changed.notify_all();
    }
}
