//! The door to the host: time, chance, wake-ups, messages, new actors. actix is one host, the simulator another; the
//! drivers cannot tell them apart.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use crate::drive::control::Control;
use crate::ids::{Attempt, Moment, SubtaskId, WallTime};
use crate::ports::blocking::Blocking;
use crate::ports::points::Points;

/// What an actor may ask of the host that runs it. One value per actor, on the actor's own thread.
pub trait Host {
    /// The monotonic clock.
    fn now(&self) -> Moment;

    /// The calendar.
    fn wall(&self) -> WallTime;

    /// A random number.
    fn random(&self) -> u64;

    /// Sees to it that the driver's step runs at or soon after `moment`. Several requests may stand at once.
    fn wake_at(&self, moment: Moment);

    /// Puts a message into the mailbox of `to`. Messages between two actors keep their order. A message to an
    /// actor that is gone is dropped.
    fn send(&self, to: Address, message: Control);

    /// The door to blocking work.
    fn blocking(&self) -> Arc<dyn Blocking>;

    /// Starts an actor. It can be written to as soon as this returns.
    fn spawn(&self, address: Address, placement: Placement, factory: DriverFactory);

    /// The door for faults; nobody stands behind it as a rule.
    fn points(&self) -> Points {
        Points::default()
    }

    /// How many workers there are to place subtasks on.
    fn workers(&self) -> u32 {
        1
    }

    /// Whether a driver that began its step at `began` should give the thread back. Reads a clock under actix, counts in simulation.
    fn budget_spent(&self, began: Moment) -> bool;
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// The job's supervisor.
    Supervisor,
    /// The job's checkpoint coordinator.
    Coordinator,
    /// The actor that commits for sink number `0` of the plan, of one attempt.
    Sink(u32, Attempt),
    /// One subtask of one attempt.
    Subtask(SubtaskId, Attempt),
}

/// On which arbiter an actor is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The coordinator's own arbiter.
    Coordination,
    /// The worker arbiter with this number, below [`Host::workers`].
    Worker(u32),
}

/// Which of the five thin actors of the host carries a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A chain whose head is an operator.
    Operator,
    /// A chain whose head is a source reader.
    Source,
    /// The committing side of a sink.
    Sink,
    /// The checkpoint coordinator.
    Coordinator,
    /// The supervisor of the job.
    Supervisor,
}

/// Builds a driver on the thread where it will live: drivers and tasks need not be `Send`.
pub struct DriverFactory {
    /// Which actor carries it.
    pub role: Role,
    /// Builds it.
    pub build: Box<dyn FnOnce(Rc<dyn Host>) -> Box<dyn Driver> + Send>,
}

impl fmt::Debug for DriverFactory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DriverFactory({:?})", self.role)
    }
}

/// What an actor does, without the actor: the host calls it on one thread.
pub trait Driver {
    /// Takes a message out of the mailbox. Only remembers it: the work is done in [`Driver::step`].
    fn receive(&mut self, message: Control);

    /// Does one slice of work. The host calls it after messages were received and after every wake-up.
    fn step(&mut self, context: &mut Context<'_>) -> Step;
}

/// What a driver wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another slice as soon as the mailbox was looked at.
    Again,
    /// Nothing to do until a message or a wake-up.
    Wait,
    /// The driver has ended: drop it and its actor.
    Finished,
}
