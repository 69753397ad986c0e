//! The threads of blocking work: one for metadata, one for blobs, a small pool for connectors. They end with the job.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::ports::blocking::{Blocking, Lane, Work};

/// How many threads the connectors' lane has.
const CONNECTOR_THREADS: usize = 2;

/// How long the end of a job waits for its lanes, and the time between two looks. As a rule they are idle by then.
const LONGEST_JOIN: Duration = Duration::from_secs(5);
const JOIN_PAUSE: Duration = Duration::from_millis(1);

/// The blocking lanes of one job.
pub struct Lanes {
    metadata: Arc<Queue>,
    blobs: Arc<Queue>,
    connectors: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    work: VecDeque<Work>,
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
        };
        let mut threads =
            vec![spawn(format!("{job} metadata"), &lanes.metadata)?, spawn(format!("{job} blobs"), &lanes.blobs)?];
        for number in 0..CONNECTOR_THREADS {
            threads.push(spawn(format!("{job} connectors {number}"), &lanes.connectors)?);
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
            let patience = Instant::now() + LONGEST_JOIN;
            for thread in threads {
                while !thread.is_finished() && Instant::now() < patience {
                    std::thread::sleep(JOIN_PAUSE);
                }
                if thread.is_finished() {
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

fn spawn(name: String, queue: &Arc<Queue>) -> io::Result<JoinHandle<()>> {
    let queue = Arc::clone(queue);
    std::thread::Builder::new().name(name).spawn(move || {
        while let Some(work) = queue.next() {
            // Promises catch panics of their work; this keeps the lane alive whatever else is queued.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        }
    })
}

impl Queue {
    fn next(&self) -> Option<Work> {
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
    fn run(&self, lane: Lane, work: Work) {
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
