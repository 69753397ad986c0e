//! A supervisor that panics restarts the whole job, and itself goes on with a clear head (rule 22).
//!
//! What it was doing when it panicked is not trusted. What is: the roster of actors, which is noted before a message is handled and before an actor is
//! spawned; the fences; the attempts and the restart strategy, each of which changes in one step. From these a new machine is made, which is told
//! that the job failed. Everything on the roster is told to end and waited for as after any failure, so two attempts never run.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Phase, SupervisorDriver};
use crate::drive::control::Control;
use crate::drive::subtask::drop_quietly;
use crate::ids::{RegionId, SubtaskId};
use crate::ports::blocking::panic_text;
use crate::ports::host::Address;
use crate::ports::task::{Failure, Severity};
use crate::protocol::lifecycle::JobState;
use crate::protocol::supervise::{Event, Part, Scope};

/// How often in a row it is tried to go on.
const TRIES: u32 = 4;

impl SupervisorDriver {
    /// Notes what a message says of who is there and of how the job ends, before anything is decided.
    pub(super) fn note(&mut self, message: &Control) {
        match message {
            Control::Ended { attempt, subtask } => drop(self.roster.remove(&Address::Subtask(*subtask, *attempt))),
            Control::SinkEnded { attempt, sink } => drop(self.roster.remove(&Address::Sink(*sink, *attempt))),
            Control::DriverPanicked { address, .. } | Control::DriverLost { address } => {
                self.roster.remove(address);
                self.coordinator_gone |= *address == Address::Coordinator;
            }
            Control::CancelJob => self.cancelled = true,
            Control::Closed { kind } => self.closed = Some(*kind),
            Control::Suspended { closed, .. } => self.closed = closed.or(self.closed),
            _ => {}
        }
    }

    /// Goes on after a panic of its own: the whole job fails, and the restart strategy decides.
    pub(super) fn recover_from(&mut self, panic: Box<dyn Any + Send>) {
        if matches!(self.phase, Phase::ShuttingDown | Phase::CleaningUp(_) | Phase::Over) {
            // Nothing is left that could be restarted. The host ends the job.
            resume_unwind(panic);
        }
        let mut panic = panic;
        for _ in 0..TRIES {
            let failure = Failure::panic("supervisor", &panic_text(panic.as_ref()));
            drop_quietly(panic);
            match catch_unwind(AssertUnwindSafe(|| self.restart_everything(failure))) {
                Ok(()) => return,
                Err(again) => panic = again,
            }
        }
        // It panics whatever it does. The host ends the job, and the next start recovers.
        resume_unwind(panic);
    }

    /// Forgets what was being done, and fails the whole job.
    fn restart_everything(&mut self, failure: Failure) {
        let there: BTreeSet<(RegionId, Part)> = self
            .roster
            .iter()
            .filter_map(|address| match address {
                Address::Subtask(subtask, _) => Some((self.regions.of_node(subtask.node), Part::Subtask(*subtask))),
                Address::Sink(sink, _) => Some((self.region_of_sink(*sink), Part::Sink(*sink))),
                Address::Supervisor | Address::Coordinator => None,
            })
            .chain(self.rights.keys().map(|region| (*region, Part::Work)))
            .collect();
        self.subtasks = self.roster.iter().filter_map(subtask_of).collect();
        self.sinks = self.roster.iter().filter_map(sink_of).collect();
        let subtasks = &self.subtasks;
        self.job.settle(|subtask| subtasks.contains(&subtask));
        self.events.clear();
        self.handling = false;
        self.announced = None;
        self.machine = self.machine.recovered(&there);
        // How the job was ending it goes on ending.
        if self.cancelled {
            self.handle(Event::Cancel);
        }
        let severity = match self.job.state() {
            JobState::Failing => Severity::Unrecoverable,
            _ => failure.severity,
        };
        self.fail(Scope::Job, self.machine.attempt(), Failure { severity, ..failure });
    }
}

fn subtask_of(address: &Address) -> Option<SubtaskId> {
    match address {
        Address::Subtask(subtask, _) => Some(*subtask),
        Address::Sink(..) | Address::Supervisor | Address::Coordinator => None,
    }
}

fn sink_of(address: &Address) -> Option<u32> {
    match address {
        Address::Sink(sink, _) => Some(*sink),
        Address::Subtask(..) | Address::Supervisor | Address::Coordinator => None,
    }
}
