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

use super::host::{Ready, Shared, SimulatedHost};
use super::lanes::{Lanes, Position};
use super::outside::Outside;
use super::programs::{Program, Programs};
use super::story::{Story, What, describe, outcome};
use crate::testing::disk::SimulatedDisk;
use crate::testing::random::Random;

/// How much time an event takes, in nanoseconds, at most.
const EVENT: u64 = 20_000;

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
    ) -> Process {
        let mut commands: Vec<_> =
            commands.into_iter().map(|(delay, to, message)| (now + delay, to, message)).collect();
        commands.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        let shared = Rc::new(RefCell::new(Shared::new(outside, now, random)));
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
            programs: Programs::default(),
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
            self.command();
        };
        match choice {
            Choice::Build(address) => self.build(address).map(|()| false),
            Choice::Receive(address) => {
                self.receive(address);
                Ok(false)
            }
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

    /// Lets one of the actors panic outside of user code. The supervisor is left out: the job ends with it, as by a crash.
    pub(super) fn panic(&mut self) {
        let candidates: Vec<Address> = self.drivers.keys().copied().filter(|at| *at != Address::Supervisor).collect();
        let drawn = self.shared.borrow_mut().random.below(candidates.len() as u64) as usize;
        let Some(address) = candidates.get(drawn).copied() else { return };
        self.remove(address);
        self.tell(Some(address), What::Panicked);
        let text = "it was told to".to_owned();
        self.shared.borrow_mut().send(Address::Supervisor, Control::DriverPanicked { address, text });
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
        let passed = 1 + shared.random.below(EVENT);
        let now = Moment(shared.now.0 + passed);
        shared.set_now(now);
        self.lanes.begin(shared.now, &mut shared.random);
        drop(shared);
        self.command();
    }

    /// Delivers what users ask for by now.
    fn command(&mut self) {
        let now = self.now();
        while let Some((_, to, message)) = self.commands.pop_if(|(at, ..)| *at <= now) {
            self.shared.borrow_mut().send(to, message);
        }
    }

    /// When something can happen that cannot happen now.
    fn next_moment(&self) -> Option<Moment> {
        let shared = self.shared.borrow();
        let alarms = shared.actors.values().filter_map(|actor| actor.alarms.first().copied());
        let commands = self.commands.last().map(|(at, ..)| *at);
        alarms.chain(self.lanes.next()).chain(commands).min()
    }

    /// Draws one of the things that can happen now.
    fn choose(&mut self) -> Option<Choice> {
        let mut shared = self.shared.borrow_mut();
        let now = shared.now;
        let mut choices: Vec<(u64, Choice)> = Vec::new();
        for (address, actor) in &shared.actors {
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
        choices.extend(self.lanes.due(now).map(|position| (WORK_SPEED, Choice::Work(position))));
        choices.extend(self.programs.ready().map(|(speed, index)| (speed, Choice::Program(index))));
        let all = choices.iter().map(|(speed, _)| speed).sum();
        let mut drawn = shared.random.below(all);
        choices.into_iter().find_map(|(speed, choice)| {
            let found = drawn < speed;
            drawn = drawn.saturating_sub(speed);
            found.then_some(choice)
        })
    }

    fn build(&mut self, address: Address) -> Result<(), String> {
        let factory = self.shared.borrow_mut().actors.get_mut(&address).and_then(|actor| actor.factory.take());
        let host = SimulatedHost::of(address, Rc::clone(&self.shared), self.lanes.door());
        self.tell(Some(address), What::Built);
        let build = factory.expect("an actor is built once").build;
        let driver = guarded(address, || build(host))?;
        self.drivers.insert(address, (driver, self.ready.waker(address)));
        self.ready.wake(address);
        Ok(())
    }

    /// Takes messages out of a mailbox: some, in their order.
    fn receive(&mut self, address: Address) {
        let mut shared = self.shared.borrow_mut();
        let waiting = shared.actors.get(&address).map_or(0, |actor| actor.mailbox.len() as u64);
        let count = if shared.random.below(2) == 0 { waiting } else { 1 + shared.random.below(waiting) };
        let messages: Vec<Control> = shared
            .actors
            .get_mut(&address)
            .into_iter()
            .flat_map(|actor| actor.mailbox.drain(..count as usize))
            .collect();
        drop(shared);
        for message in messages {
            self.tell(Some(address), What::Received { message: describe(&message) });
            if let Some((driver, _)) = self.drivers.get_mut(&address) {
                driver.receive(message);
            }
        }
        self.ready.wake(address);
    }

    fn step(&mut self, address: Address) -> Result<bool, String> {
        self.ready.take(address);
        self.shared.borrow_mut().begin_step(address);
        let (driver, waker) = self.drivers.get_mut(&address).expect("an actor that takes steps is built");
        let stepped = guarded(address, || driver.step(&mut Context::from_waker(waker)))?;
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
        let (now, disk) = (self.now(), &self.disk);
        let carried_out = self.lanes.proceed(position, now, || disk.take_busy());
        let lane = position.lane();
        let what = if carried_out { What::Worked { lane, effects: disk.effects() } } else { What::Answered { lane } };
        self.tell(None, what);
    }

    /// The job is over: what was queued before is still carried out, as under actix.
    fn close(&mut self) {
        loop {
            let mut shared = self.shared.borrow_mut();
            let now = Moment(u64::MAX);
            self.lanes.begin(shared.now, &mut shared.random);
            drop(shared);
            let Some(position) = self.lanes.due(now).next() else { break };
            self.work(position);
        }
    }

    fn tell(&self, actor: Option<Address>, what: What) {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).tell(self.now(), actor, what);
    }
}

/// Drivers guard user code themselves: a panic that comes out of one is a defect of the runtime.
fn guarded<T>(address: Address, call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| format!("the driver of {address:?} panicked: {}", panic_text(panic.as_ref())))
}
