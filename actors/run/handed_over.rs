//! A job on arbiters that the user handed over: no thread of its own for actors, only the lanes of blocking work.
//!
//! The arbiters are not the job's to end. When one of them stops, it takes actors of the job along (`life.rs`), and the job ends: what was under way in
//! the lanes is finished, the other actors end, the store is let go of, and the last completed checkpoint is what the next start finds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::arbiters::HandedOver;
use super::host::{Cell, SupervisorEnd};
use super::{spawn_supervisor, tell_how_it_ended};
use crate::drive::supervisor::SupervisorSetup;

/// So long the end of a job waits for actors that were told to end: one may be in the middle of a user call.
const LONGEST_END: Duration = Duration::from_secs(5);

/// Starts the job's actors. `on_end` is called when all have ended.
pub(super) fn start(
    cell: &Arc<Cell>,
    setup: SupervisorSetup,
    arbiters: &[HandedOver],
    on_end: Box<dyn FnOnce() + Send>,
) {
    for HandedOver { arbiter, thread } in arbiters {
        arbiter.spawn(cell.threads.occupy(*thread));
    }
    let handles: Vec<_> = arbiters.iter().map(|handed_over| handed_over.arbiter.clone()).collect();
    cell.set_arbiters(handles[0].clone(), handles);
    let job = setup.plan.job.to_string();
    let ending = Arc::clone(cell);
    cell.on_supervisor_end(Box::new(move |end| {
        // The end waits for threads. This one is the user's, so it has another for the moment.
        let finish: Box<dyn FnOnce() + Send> = Box::new(move || finish(&ending, end, on_end));
        let finish = Arc::new(Mutex::new(Some(finish)));
        let elsewhere = Arc::clone(&finish);
        let spawned =
            std::thread::Builder::new().name(format!("alluvium {job} end")).spawn(move || take_and_run(&elsewhere));
        if spawned.is_err() {
            take_and_run(&finish);
        }
    }));
    spawn_supervisor(cell, setup);
}

fn take_and_run(work: &Mutex<Option<Box<dyn FnOnce() + Send>>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

fn finish(cell: &Arc<Cell>, end: SupervisorEnd, on_end: Box<dyn FnOnce() + Send>) {
    let lost = !matches!(end, SupervisorEnd::Finished);
    tell_how_it_ended(cell, end);
    // Without a supervisor nobody has ended the subtasks; otherwise those that are left are stuck, and were waited for.
    let patience = if lost || !cell.has_subtasks() { LONGEST_END } else { Duration::ZERO };
    let all = cell.end_actors(patience);
    cell.close_lanes(all);
    cell.over();
    on_end();
}
