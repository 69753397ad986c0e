//! The threads of blocking work: one for metadata, one for blobs, a small pool for connectors. They end with the job.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ports::blocking::{Blocking, Lane, Work};

/// How many threads the connectors' lane has.
const CONNECTOR_THREADS: usize = 2;

/// How long the end of a job waits for its lanes. As a rule they are idle by then.
const LONGEST_JOIN: Duration = Duration::from_secs(5);

/// The blocking lanes of one job.
pub struct Lanes {
    metadata: Arc<Queue>,
    blobs: Arc<Queue>,
    connectors: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    working: Arc<Working>,
}

/// How many of the threads still work, for whoever waits for their end.
#[derive(Default)]
struct Working {
    threads: Mutex<usize>,
    ended: Condvar,
}

/// A thread that works, until it is dropped.
struct Works(Arc<Working>);

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    work: VecDeque<Box<dyn Work>>,
    closed: bool,
}

impl Lanes {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(job: &str) -> io::Result<Lanes> {
        let lanes = Lanes {
            metadata: Arc::default(),
            blobs: Arc::default(),
            connectors: Arc::default(),
            threads: Mutex::default(),
            working: Arc::default(),
        };
        let spawn = |name: &str, queue| spawn(format!("{job} {name}"), queue, &lanes.working);
        let mut threads = vec![spawn("metadata", &lanes.metadata)?, spawn("blobs", &lanes.blobs)?];
        for number in 0..CONNECTOR_THREADS {
            threads.push(spawn(&format!("connectors {number}"), &lanes.connectors)?);
        }
        *lanes.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(lanes)
    }

    /// Takes no more work, does what is queued, and ends the threads. With `wait` it returns when they have ended.
    pub(super) fn close(&self, wait: bool) {
        for queue in [&self.metadata, &self.blobs, &self.connectors] {
            queue.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            queue.changed.notify_all();
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if wait {
            // A call that hangs in the operating system must not take the job's end with it: such a thread is left behind.
            let working = self.working.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.working.ended.wait_timeout_while(working, LONGEST_JOIN, |threads| *threads > 0);
            let all = *waited.unwrap_or_else(PoisonError::into_inner).0 == 0;
            for thread in threads {
                if all || thread.is_finished() {
                    let _ = thread.join();
                } else {
                    tracing::warn!(
                        name = thread.thread().name(),
                        "blocking work does not end; its thread is left behind"
                    );
                }
            }
        }
    }
}

impl Works {
    fn begin(working: &Arc<Working>) -> Works {
        *working.threads.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Works(Arc::clone(working))
    }
}

impl Drop for Works {
    fn drop(&mut self) {
        *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_all();
    }
}

fn spawn(name: String, queue: &Arc<Queue>, working: &Arc<Working>) -> io::Result<JoinHandle<()>> {
    let queue = Arc::clone(queue);
    let works = Works::begin(working);
    std::thread::Builder::new().name(name).spawn(move || {
        let _works = works;
        while let Some(work) = queue.next() {
            // Promises catch panics of their work; this keeps the lane alive whatever else is queued.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run()));
        }
    })
}

impl Queue {
    fn next(&self) -> Option<Box<dyn Work>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(work) = state.work.pop_front() {
                return Some(work);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Blocking for Lanes {
    fn run(&self, lane: Lane, work: Box<dyn Work>) {
        let queue = match lane {
            Lane::Metadata => &self.metadata,
            Lane::Blobs => &self.blobs,
            Lane::Connectors => &self.connectors,
        };
        let mut state = queue.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return;
        }
        state.work.push_back(work);
        drop(state);
        queue.changed.notify_one();
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Lanes")
    }
}
