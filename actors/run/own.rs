//! A job on threads of its own: one with an actix `System` for the supervisor and the coordinator, and worker arbiters for subtasks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use actix_rt::{Arbiter, System};

use super::host::Cell;
use super::{spawn_supervisor, tell_how_it_ended};
use crate::drive::supervisor::SupervisorSetup;
use crate::ports::blocking::panic_text;
use crate::ports::listener::JobEvent;
use crate::ports::task::Failure;
use crate::protocol::lifecycle::JobState;

/// Starts the job's thread. `on_end` is called at its end.
pub(super) fn start(
    cell: &Arc<Cell>,
    setup: SupervisorSetup,
    workers: usize,
    on_end: Box<dyn FnOnce() + Send>,
) -> std::io::Result<JoinHandle<()>> {
    let cell = Arc::clone(cell);
    std::thread::Builder::new().name(format!("alluvium {}", setup.plan.job)).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&cell, setup, workers))) {
            let text = panic_text(panic.as_ref());
            cell.tell_listener(JobEvent::Failed(Failure::panic("the job's thread", &text)));
            cell.tell_listener(JobEvent::State(JobState::Failed));
        }
        cell.over();
        drop(cell);
        on_end();
    })
}

/// The body of a job's thread.
fn run(cell: &Arc<Cell>, setup: SupervisorSetup, workers: usize) {
    let system = System::new();
    let over = Arc::new(Over::default());
    system.block_on(async {
        let workers: Vec<Arbiter> = (0..workers).map(|_| Arbiter::new()).collect();
        let own = std::thread::current().id();
        actix_rt::spawn(cell.threads.occupy(Some(own)));
        for worker in &workers {
            worker.spawn(cell.threads.occupy(None));
        }
        cell.set_arbiters(Arbiter::current(), workers.iter().map(Arbiter::handle).collect());
        let told = Arc::clone(&over);
        let watched = Arc::clone(cell);
        cell.on_supervisor_end(Box::new(move |end| {
            tell_how_it_ended(&watched, end);
            told.tell();
        }));
        spawn_supervisor(cell, setup);
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
