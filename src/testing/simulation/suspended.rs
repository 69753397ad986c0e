//! Blocking work that can stand still in its middle, as on a thread of its own.
//!
//! It has one: the thread of the simulation and that of the work hand a baton to and fro, so that only one of them ever runs, and the order of everything is still
//! decided by the seed. Only runs whose faults may delay or hold work pay for threads.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use alluvium_actors::ports::blocking::Work;
use alluvium_actors::ports::points::InjectedEnd;
use alluvium_actors::protocol::mutation;

use super::points::Gate;

/// What the work says when it gives the baton back.
enum Said {
    /// It stands in front of a gate.
    Stands(Gate),
    /// It is done.
    Done(Box<dyn Work>),
}

/// What the work holds.
struct Baton {
    said: Sender<Said>,
    /// Closed when the process of the work is gone.
    go: Receiver<()>,
}

thread_local! {
    static BATON: RefCell<Option<Baton>> = const { RefCell::new(None) };
}

/// Work that stands still.
pub(super) struct Suspended {
    said: Receiver<Said>,
    /// None once the process is gone.
    go: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What became of work.
pub(super) enum Worked {
    /// It is done, and can be answered. Nothing is left of one whose process is gone.
    Done(Option<Box<dyn Work>>),
    /// It stands in front of a gate.
    Stands(Suspended, Gate),
}

/// Begins work on a thread of its own, and waits until it is done or stands still.
pub(super) fn begin(mut work: Box<dyn Work>) -> Worked {
    let (say, said) = channel();
    let (go, gone) = channel();
    let broken = mutation::current();
    let body = move || {
        BATON.set(Some(Baton { said: say.clone(), go: gone }));
        mutation::during(broken, || work.carry_out());
        BATON.set(None);
        // The simulation waits for it, unless the process is gone.
        let _ = say.send(Said::Done(work));
    };
    let thread = Builder::new().name("simulated work".to_owned()).spawn(body).expect("a thread for simulated work");
    Suspended { said, go: Some(go), thread: Some(thread) }.hear()
}

/// Stands still in front of a gate. False when the calling code is not work that can.
pub(super) fn pause(gate: Gate) -> bool {
    BATON.with_borrow(|baton| {
        let Some(baton) = baton else { return false };
        let stands = baton.said.send(Said::Stands(gate));
        if stands.is_err() || baton.go.recv().is_err() {
            // The process is gone, and this is part of it.
            resume_unwind(Box::new(InjectedEnd::Crash));
        }
        true
    })
}

impl Suspended {
    /// The gate is open.
    pub(super) fn go_on(self) -> Worked {
        if let Some(go) = &self.go {
            // The thread waits for it.
            let _ = go.send(());
        }
        self.hear()
    }

    fn hear(mut self) -> Worked {
        match self.said.recv() {
            Ok(Said::Stands(gate)) => Worked::Stands(self, gate),
            Ok(Said::Done(work)) => Worked::Done(Some(work)),
            // It panicked outside of what work guards: a defect, as it would be without a thread of its own.
            Err(_) => match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => resume_unwind(panic),
                Some(Ok(())) | None => Worked::Done(None),
            },
        }
    }
}

impl Drop for Suspended {
    /// The process is gone, or the work is done: its thread ends.
    fn drop(&mut self) {
        drop(self.go.take());
        if let Some(thread) = self.thread.take() {
            // What it unwinds with is the end that it was told of.
            let _ = thread.join();
        }
    }
}
