//! One process: its actors, its blocking work, its clock, and the choice of what happens next.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::supervisor::{SupervisorDriver, SupervisorSetup};
use alluvium_actors::ids::Moment;
use alluvium_actors::ports::blocking::panic_text;
use alluvium_actors::ports::host::{Address, Driver, DriverFactory, Placement, Role, Step};
use alluvium_actors::ports::points::{InjectedEnd, InjectedPanic};

use super::faults::Order;
use super::host::{Actor, Mail, Ready, Shared, SimulatedHost};
use super::lanes::{Lanes, Position, Proceeded};
use super::outside::Outside;
use super::points::{Delivery, SimulatedFaults};
use super::programs::{Program, Programs};
use super::story::{Story, What, describe, outcome};
use crate::fault::Random;
use crate::testing::disk::SimulatedDisk;

/// How much time an event takes, in nanoseconds, at most.
const EVENT: u64 = 20_000;

/// How much it takes in the plain order.
const PLAIN_EVENT: u64 = 9_999;

/// How often blocking work that is due is chosen, compared to an actor.
const WORK_SPEED: u64 = 16;

/// One start of the job.
pub(super) struct Process {
    shared: Rc<RefCell<Shared>>,
    ready: Ready,
    lanes: Lanes,
    drivers: BTreeMap<Address, (Box<dyn Driver>, Waker)>,
    /// What the users of the job ask for, and when; the next one last.
    commands: Vec<(Moment, Address, Control)>,
    story: Arc<Mutex<Story>>,
    disk: SimulatedDisk,
    /// What runs beside the job.
    programs: Programs,
    faults: Arc<SimulatedFaults>,
    /// Whether blocking work may have to stand still in its middle.
    may_suspend: bool,
    /// In the plain order: when each kind of event had its turn last, counted in events.
    turns: BTreeMap<Turn, u64>,
    /// Kept from event to event, for its room.
    choices: Vec<(u64, Choice)>,
}

/// How an actor ended outside of its own words.
enum Ended {
    /// With the process.
    Crash,
    /// Alone, by a fault: with the text of it.
    Alone(String),
    /// By a defect of the runtime.
    Defect(String),
}

/// What has its turn in the plain order: an actor, whatever it does, a lane, or a program beside the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Actor(Address),
    Lane(usize),
    Program(usize),
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Build(Address),
    Receive(Address),
    Step(Address),
    Work(Position),
    Program(usize),
}

impl Process {
    pub(super) fn new(
        setup: SupervisorSetup,
        outside: Outside,
        now: Moment,
        random: Random,
        story: Arc<Mutex<Story>>,
        disk: SimulatedDisk,
        commands: Vec<(Duration, Address, Control)>,
        order: Order,
        faults: Arc<SimulatedFaults>,
        may_suspend: bool,
    ) -> Process {
        let mut commands: Vec<_> =
            commands.into_iter().map(|(delay, to, message)| (now + delay, to, message)).collect();
        commands.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        let shared = Rc::new(RefCell::new(Shared::new(outside, now, random, order, Arc::clone(&faults))));
        let lanes = Lanes::default();
        let host = SimulatedHost::of(Address::Supervisor, Rc::clone(&shared), lanes.door());
        let build = Box::new(move |host| Box::new(SupervisorDriver::new(host, setup)) as Box<dyn Driver>);
        host.spawn(Address::Supervisor, Placement::Coordination, DriverFactory { role: Role::Supervisor, build });
        Process {
            shared,
            ready: Ready::default(),
            lanes,
            drivers: BTreeMap::new(),
            commands,
            story,
            disk,
            faults,
            may_suspend,
            turns: BTreeMap::new(),
            programs: Programs::default(),
            choices: Vec::new(),
        }
    }

    /// Starts the rest of the program.
    pub(super) fn run_beside(&mut self, programs: Vec<Program>) {
        self.programs = Programs::start(programs, &mut self.shared.borrow_mut().random);
    }

    pub(super) fn now(&self) -> Moment {
        self.shared.borrow().now
    }

    /// Lets one thing happen. True when the job is over.
    ///
    /// # Errors
    /// A driver panicked outside of user code, or nothing can happen any more.
    pub(super) fn event(&mut self) -> Result<bool, String> {
        self.pass_time();
        let choice = loop {
            if let Some(choice) = self.choose() {
                break choice;
            }
            let next = self.next_moment().ok_or("the job hangs: nothing can happen any more")?;
            self.shared.borrow_mut().set_now(next);
            self.shared.borrow_mut().deliver();
            self.command();
        };
        match choice {
            Choice::Build(address) => self.build(address),
            Choice::Receive(address) => self.receive(address),
            Choice::Step(address) => self.step(address),
            Choice::Work(position) => {
                self.work(position);
                Ok(false)
            }
            Choice::Program(index) => {
                let (name, ended) = self.programs.poll(index);
                self.tell(None, What::Polled { name, ended });
                Ok(false)
            }
        }
    }

    /// Lets an actor act. None when it is gone.
    ///
    /// # Errors
    /// It panicked outside of user code, and no fault was the cause.
    fn act<T>(&mut self, address: Address, call: impl FnOnce(&mut Process) -> T) -> Result<Option<T>, String> {
        self.faults.acts(self.now(), Some(address));
        let acted = guarded(address, || call(self));
        self.faults.acts(self.now(), None);
        match acted {
            Ok(answer) => Ok(Some(answer)),
            // The power is off: the run sees that.
            Err(Ended::Crash) => Ok(None),
            Err(Ended::Alone(text)) => {
                self.gone(address, text);
                Ok(None)
            }
            Err(Ended::Defect(text)) => Err(text),
        }
    }

    /// An actor is gone by a fault, and its host reports that.
    fn gone(&mut self, address: Address, text: String) {
        self.remove(address);
        self.tell(Some(address), What::Panicked);
        let gone = Control::DriverPanicked { address, text };
        self.shared.borrow_mut().send(None, Address::Supervisor, gone, Vec::new());
    }

    /// Lets one of the actors panic outside of user code. The supervisor is left out: the job ends with it, as by a crash.
    pub(super) fn panic(&mut self) {
        let candidates: Vec<Address> = self.drivers.keys().copied().filter(|at| *at != Address::Supervisor).collect();
        let drawn = self.shared.borrow_mut().chance(candidates.len() as u64, 0) as usize;
        let Some(address) = candidates.get(drawn).copied() else { return };
        self.gone(address, "it was told to".to_owned());
    }

    /// Ends an actor.
    fn remove(&mut self, address: Address) {
        let actor = self.shared.borrow_mut().actors.remove(&address);
        drop(actor);
        self.drivers.remove(&address);
        self.ready.take(address);
    }

    fn pass_time(&mut self) {
        let mut shared = self.shared.borrow_mut();
        let passed = 1 + shared.chance(EVENT, PLAIN_EVENT);
        let now = Moment(shared.now.0 + passed);
        shared.set_now(now);
        self.lanes.begin(&mut shared);
        shared.deliver();
        drop(shared);
        self.command();
    }

    /// Delivers what users ask for by now.
    fn command(&mut self) {
        let now = self.now();
        while let Some((_, to, message)) = self.commands.pop_if(|(at, ..)| *at <= now) {
            self.shared.borrow_mut().send(None, to, message, Vec::new());
        }
    }

    /// When something can happen that cannot happen now.
    fn next_moment(&self) -> Option<Moment> {
        let shared = self.shared.borrow();
        let now = shared.now;
        let next = |(address, actor): (&Address, &Actor)| {
            // An actor that stands still may go on then; what wakes it before has to wait.
            let standing = self.faults.stands_until(*address, now);
            standing.or_else(|| actor.alarms.first().copied())
        };
        let actors = shared.actors.iter().filter_map(next);
        let commands = self.commands.last().map(|(at, ..)| *at);
        actors.chain(self.lanes.next()).chain(commands).chain(shared.next_delivery()).min()
    }

    /// Draws one of the things that can happen now.
    fn choose(&mut self) -> Option<Choice> {
        let mut shared = self.shared.borrow_mut();
        let now = shared.now;
        let mut choices = std::mem::take(&mut self.choices);
        choices.clear();
        let somebody_stands = self.faults.somebody_stands();
        for (address, actor) in &shared.actors {
            if somebody_stands && self.faults.stands_until(*address, now).is_some() {
                continue;
            }
            if actor.factory.is_some() {
                choices.push((actor.speed, Choice::Build(*address)));
                continue;
            }
            if !actor.mailbox.is_empty() {
                choices.push((actor.speed, Choice::Receive(*address)));
            }
            if self.ready.contains(*address) || actor.is_alarmed(now) {
                choices.push((actor.speed, Choice::Step(*address)));
            }
        }
        choices.extend(self.lanes.due(now, &self.faults).map(|position| (WORK_SPEED, Choice::Work(position))));
        choices.extend(self.programs.ready().map(|(speed, index)| (speed, Choice::Program(index))));
        if shared.order == Order::Plain {
            drop(shared);
            let chosen = self.take_turns(choices.iter().map(|(_, choice)| *choice));
            self.choices = choices;
            return chosen;
        }
        let all = choices.iter().map(|(speed, _)| speed).sum();
        let mut drawn = shared.random.below(all);
        let chosen = choices.iter().find_map(|(speed, choice)| {
            let found = drawn < *speed;
            drawn = drawn.saturating_sub(*speed);
            found.then_some(*choice)
        });
        drop(shared);
        self.choices = choices;
        chosen
    }

    /// Whoever had no turn for the longest time; an actor hears its messages before it takes a step.
    fn take_turns(&mut self, choices: impl Iterator<Item = Choice>) -> Option<Choice> {
        let last = |choice: &Choice| self.turns.get(&turn(*choice)).copied().unwrap_or(0);
        let chosen = choices.min_by_key(last)?;
        let next = self.turns.values().max().copied().unwrap_or(0) + 1;
        self.turns.insert(turn(chosen), next);
        Some(chosen)
    }

    fn build(&mut self, address: Address) -> Result<bool, String> {
        let factory = self.shared.borrow_mut().actors.get_mut(&address).and_then(|actor| actor.factory.take());
        let host = SimulatedHost::of(address, Rc::clone(&self.shared), self.lanes.door());
        self.tell(Some(address), What::Built);
        let build = factory.expect("an actor is built once").build;
        if let Some(driver) = self.act(address, |_| build(host))? {
            self.drivers.insert(address, (driver, self.ready.waker(address)));
            self.ready.wake(address);
        }
        Ok(false)
    }

    /// Takes messages out of a mailbox: some, in their order.
    fn receive(&mut self, address: Address) -> Result<bool, String> {
        let mut shared = self.shared.borrow_mut();
        let waiting = shared.actors.get(&address).map_or(0, |actor| actor.mailbox.len() as u64);
        let takes_all = shared.chance(2, 0) == 0;
        let count = if takes_all { waiting } else { 1 + shared.random.below(waiting) };
        let messages: Vec<Mail> = shared
            .actors
            .get_mut(&address)
            .into_iter()
            .flat_map(|actor| actor.mailbox.drain(..count as usize))
            .collect();
        drop(shared);
        let mut held = Vec::new();
        for mail in messages {
            let is_behind = held.iter().any(|earlier: &Mail| earlier.from == mail.from);
            if is_behind {
                held.push(mail);
                continue;
            }
            let asked = (!mail.passed).then(|| mail.message.received(address)).flatten();
            let delivery = match asked {
                None => Delivery::Now,
                Some(hit) => match self.act(address, |process| process.faults.deliver(&hit))? {
                    Some(delivery) => delivery,
                    None => return Ok(false),
                },
            };
            let again = if delivery == Delivery::Twice { mail.message.again() } else { None };
            match delivery {
                Delivery::Now | Delivery::Twice => self.hand_over(address, mail.message),
                Delivery::Never => {}
                Delivery::Waits(gate) => held.push(Mail { gates: vec![gate], passed: true, ..mail }),
            }
            if let Some(again) = again {
                self.hand_over(address, again);
            }
        }
        // What follows from the same sender, in the mailbox still, stays behind what is held back.
        let mut shared = self.shared.borrow_mut();
        if !held.is_empty()
            && let Some(actor) = shared.actors.get_mut(&address)
        {
            let mut rest = std::mem::take(&mut actor.mailbox);
            for mail in rest.drain(..) {
                if held.iter().any(|earlier| earlier.from == mail.from) {
                    held.push(mail);
                } else {
                    actor.mailbox.push_back(mail);
                }
            }
            shared.hold_back(address, held);
        }
        drop(shared);
        self.ready.wake(address);
        Ok(false)
    }

    /// A message reaches the driver.
    fn hand_over(&mut self, address: Address, message: Control) {
        self.tell(Some(address), What::Received { message: describe(&message) });
        if let Some((driver, _)) = self.drivers.get_mut(&address) {
            driver.receive(message);
        }
    }

    fn step(&mut self, address: Address) -> Result<bool, String> {
        self.ready.take(address);
        self.shared.borrow_mut().begin_step(address);
        let stepped = self.act(address, |process| {
            let (driver, waker) = process.drivers.get_mut(&address).expect("an actor that takes steps is built");
            driver.step(&mut Context::from_waker(waker))
        })?;
        let Some(stepped) = stepped else { return Ok(false) };
        self.tell(Some(address), What::Stepped { outcome: outcome(stepped) });
        match stepped {
            Step::Again => self.ready.wake(address),
            Step::Wait => {}
            Step::Finished => {
                self.remove(address);
                if address == Address::Supervisor {
                    self.close();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn work(&mut self, position: Position) {
        self.faults.acts(self.now(), None);
        let (now, disk) = (self.now(), &self.disk);
        let proceeded = self.lanes.proceed(position, now, self.may_suspend, || disk.take_busy());
        let lane = position.lane();
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        disk.newly_struck().iter().for_each(|struck| story.note(now, "disk".to_owned(), struck.to_string()));
        drop(story);
        let what = match proceeded {
            Proceeded::CarriedOut => What::Worked { lane, effects: disk.effects() },
            Proceeded::Stands => What::Stands { lane, effects: disk.effects() },
            Proceeded::Answered => What::Answered { lane },
        };
        self.tell(None, what);
    }

    /// The job is over: what was queued before is still carried out, as under actix.
    fn close(&mut self) {
        loop {
            let mut shared = self.shared.borrow_mut();
            let now = Moment(u64::MAX);
            self.lanes.begin(&mut shared);
            drop(shared);
            let Some(position) = self.lanes.due(now, &self.faults).next() else { break };
            self.work(position);
        }
    }

    fn tell(&self, actor: Option<Address>, what: What) {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).tell(self.now(), actor, what);
    }
}

fn turn(choice: Choice) -> Turn {
    match choice {
        Choice::Build(address) | Choice::Receive(address) | Choice::Step(address) => Turn::Actor(address),
        Choice::Work(position) => Turn::Lane(position.lane_number()),
        Choice::Program(index) => Turn::Program(index),
    }
}

/// Drivers guard user code themselves: a panic that comes out of one is a fault's, or a defect of the runtime.
fn guarded<T>(address: Address, call: impl FnOnce() -> T) -> Result<T, Ended> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic_text(panic.as_ref());
        match panic.downcast_ref::<InjectedEnd>() {
            Some(InjectedEnd::Crash) => Ended::Crash,
            Some(InjectedEnd::Kill) => Ended::Alone(text),
            None if panic.is::<InjectedPanic>() => Ended::Alone(text),
            None => Ended::Defect(format!("the driver of {address:?} panicked: {text}")),
        }
    })
}
