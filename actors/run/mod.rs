//! The actix host: threads, arbiters, mailboxes, clocks. The only part of the kernel that knows them.
//!
//! A job runs on a thread with an actix `System` of its own: the supervisor and the coordinator live there, subtasks on a fixed set of
//! worker arbiters. Nothing is shared with other jobs of the process.

#![expect(clippy::disallowed_methods, reason = "this is the host: it owns the clock, the threads and the dice")]

mod actor;
mod host;
mod lanes;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use actix_rt::{Arbiter, System};

use crate::drive::control::Control;
use crate::drive::supervisor::{SupervisorDriver, SupervisorSetup};
use crate::ports::host::{Address, Driver, DriverFactory, Host as _, Placement, Role};
use crate::ports::listener::{JobEvent, Listener};
use crate::ports::task::Failure;
use crate::protocol::lifecycle::JobState;

pub use actor::{CoordinatorActor, DriverActor, OperatorActor, SinkActor, SourceActor, SupervisorActor};
pub use lanes::Lanes;

use host::{ActixHost, Cell};

/// Where a job's actors run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arbiters {
    /// How many worker arbiters; one per core as a rule.
    pub workers: usize,
}

impl Default for Arbiters {
    fn default() -> Arbiters {
        Arbiters { workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
    }
}

/// A job that runs under actix. Works from any thread.
#[derive(Clone)]
pub struct RunningJob {
    cell: Arc<Cell>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl std::fmt::Debug for RunningJob {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RunningJob")
    }
}

impl RunningJob {
    /// Sends a message to an actor of the job; dropped if the actor is gone.
    pub fn send(&self, to: Address, message: Control) {
        self.cell.send(to, message);
    }

    /// Waits until the job's threads have ended. Returns at once on the job's own threads, where waiting would never end.
    pub fn join(&self) {
        let handle = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle
            && handle.thread().id() != std::thread::current().id()
        {
            // A panic of the job's thread has been reported to the listener.
            let _ = handle.join();
        }
    }
}

/// Starts a job on threads of its own. `on_end` is called when all of it has ended and nothing of `setup` is held any more.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(
    setup: SupervisorSetup,
    arbiters: Arbiters,
    on_end: Box<dyn FnOnce() + Send>,
) -> std::io::Result<RunningJob> {
    let job = setup.plan.job.to_string();
    let lanes = Arc::new(Lanes::start(&job)?);
    let cell = Arc::new(Cell::new(lanes));
    let for_thread = Arc::clone(&cell);
    let listener = Arc::clone(&setup.listener);
    let thread = std::thread::Builder::new().name(format!("alluvium {job}")).spawn(move || {
        let watch = Arc::clone(&listener);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(&for_thread, setup, &arbiters, &watch);
        }));
        if let Err(panic) = ran {
            let text = crate::ports::blocking::panic_text(panic.as_ref());
            listener.event(JobEvent::Failed(Failure::panic("the job's thread", &text)));
            listener.event(JobEvent::State(JobState::Failed));
        }
        drop(listener);
        drop(for_thread);
        on_end();
    })?;
    Ok(RunningJob { cell, thread: Arc::new(Mutex::new(Some(thread))) })
}

/// The body of a job's thread.
fn run(cell: &Arc<Cell>, setup: SupervisorSetup, arbiters: &Arbiters, listener: &Arc<dyn Listener>) {
    let system = System::new();
    let over = Arc::new(Over::default());
    let cell = Arc::clone(cell);
    system.block_on(async {
        let workers: Vec<Arbiter> = (0..arbiters.workers.max(1)).map(|_| Arbiter::new()).collect();
        cell.set_arbiters(Arbiter::current(), workers.iter().map(Arbiter::handle).collect());
        let told = Arc::clone(&over);
        let watch = Arc::clone(listener);
        cell.on_supervisor_end(Box::new(move |panic| {
            if let Some(text) = panic {
                watch.event(JobEvent::Failed(Failure::panic("supervisor", &text)));
                watch.event(JobEvent::State(JobState::Failed));
            }
            told.tell();
        }));
        let host = ActixHost::new(Arc::clone(&cell), Address::Supervisor);
        let factory = DriverFactory {
            role: Role::Supervisor,
            build: Box::new(move |host| Box::new(SupervisorDriver::new(host, setup)) as Box<dyn Driver>),
        };
        host.spawn(Address::Supervisor, Placement::Coordination, factory);
        over.wait().await;
        // A subtask that did not end in time keeps its arbiter's thread; everything else ends here.
        let stuck = cell.close();
        for worker in workers {
            worker.stop();
            if !stuck {
                let _ = worker.join();
            }
        }
    });
    System::current().stop();
}

/// Told once, waited for by one future.
#[derive(Default)]
struct Over {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Over {
    fn tell(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        if let Some(waker) = state.1.take() {
            drop(state);
            waker.wake();
        }
    }

    async fn wait(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
