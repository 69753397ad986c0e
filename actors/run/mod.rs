//! The actix host: threads, arbiters, mailboxes, clocks. The only part of the kernel that knows them.
//!
//! As a rule a job runs on a thread with an actix `System` of its own: the supervisor and the coordinator live there, subtasks on a fixed set of
//! worker arbiters. Or the user hands arbiters over ([`Arbiters`]). Either way nothing is shared with other jobs of the process.

#![expect(clippy::disallowed_methods, reason = "this is the host: it owns the clock, the threads and the dice")]

mod actor;
mod arbiters;
mod events;
#[cfg(feature = "fault-injection")]
mod faults;
mod handed_over;
mod host;
mod lanes;
mod life;
mod own;
mod threads;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::drive::control::Control;
use crate::drive::supervisor::{SupervisorDriver, SupervisorSetup};
use crate::ids::Moment;
use crate::ports::host::{Address, Driver, DriverFactory, Host as _, Placement, Role};
use crate::ports::listener::JobEvent;
use crate::ports::task::Failure;
use crate::protocol::lifecycle::JobState;

pub use actor::{CoordinatorActor, DriverActor, OperatorActor, SinkActor, SourceActor, SupervisorActor};
pub use arbiters::{Arbiters, NoArbiter};
pub use events::EventsTo;
#[cfg(feature = "fault-injection")]
pub use faults::{Blow, Judge};
pub use lanes::Lanes;
pub use threads::RunsHere;

use arbiters::Place;
use host::{ActixHost, Cell, SupervisorEnd};

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

    /// The moment of the clock that the job's actors go by.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.cell.now()
    }

    /// Whether the calling thread runs actors of the job, where waiting for it would never end. May wait for a quarter of a second to find out,
    /// directly after the start.
    #[must_use]
    pub fn runs_here(&self) -> RunsHere {
        self.cell.threads.runs_here(actix_rt::Arbiter::try_current().is_some())
    }

    /// Waits until the job's own thread has ended. Returns at once on the job's own threads, where waiting would never end.
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

/// Starts a job. `on_end` is called when all of it has ended and nothing of `setup` is held any more.
///
/// # Errors
/// When the operating system gives no thread, or there is no arbiter to run on.
pub fn start(
    setup: SupervisorSetup,
    arbiters: &Arbiters,
    on_end: Box<dyn FnOnce() + Send>,
) -> std::io::Result<RunningJob> {
    begin(new_cell(&setup, arbiters)?, setup, arbiters, on_end)
}

/// Starts a job in which faults may happen, where `judge` says so.
///
/// # Errors
/// As [`start`].
#[cfg(feature = "fault-injection")]
pub fn start_with_faults(
    setup: SupervisorSetup,
    arbiters: &Arbiters,
    judge: Option<Arc<dyn Judge>>,
    on_end: Box<dyn FnOnce() + Send>,
) -> std::io::Result<RunningJob> {
    let cell = new_cell(&setup, arbiters)?.with_door(judge.map(faults::Door::new));
    begin(cell, setup, arbiters, on_end)
}

fn new_cell(setup: &SupervisorSetup, arbiters: &Arbiters) -> std::io::Result<Cell> {
    if arbiters.is_empty() {
        return Err(std::io::Error::other("no arbiter was handed over"));
    }
    let lanes = Arc::new(Lanes::start(&setup.plan.job)?);
    Ok(Cell::new(lanes, Arc::clone(&setup.listener)))
}

fn begin(
    cell: Cell,
    setup: SupervisorSetup,
    arbiters: &Arbiters,
    on_end: Box<dyn FnOnce() + Send>,
) -> std::io::Result<RunningJob> {
    let cell = Arc::new(cell);
    let thread = match &arbiters.place {
        Place::Own { workers } => Some(own::start(&cell, setup, *workers, on_end)?),
        Place::HandedOver(arbiters) => {
            handed_over::start(&cell, setup, arbiters, on_end);
            None
        }
    };
    Ok(RunningJob { cell, thread: Arc::new(Mutex::new(thread)) })
}

fn spawn_supervisor(cell: &Arc<Cell>, setup: SupervisorSetup) {
    let host = ActixHost::new(Arc::clone(cell), Address::Supervisor);
    let factory = DriverFactory {
        role: Role::Supervisor,
        build: Box::new(move |host| Box::new(SupervisorDriver::new(host, setup)) as Box<dyn Driver>),
    };
    host.spawn(Address::Supervisor, Placement::Coordination, factory);
}

/// What the supervisor cannot tell any more.
fn tell_how_it_ended(cell: &Cell, end: SupervisorEnd) {
    let failure = match end {
        SupervisorEnd::Finished => return,
        SupervisorEnd::Panicked(text) => Failure::panic("supervisor", &text),
        SupervisorEnd::Lost => Failure::arbiter_stopped("supervisor"),
    };
    cell.tell_listener(JobEvent::Failed(failure));
    cell.tell_listener(JobEvent::State(JobState::Failed));
}
