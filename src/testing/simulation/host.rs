//! The host as one simulated actor sees it, and what its actors share.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use alluvium_actors::drive::control::Control;
use alluvium_actors::ids::{Moment, WallTime};
use alluvium_actors::ports::blocking::Blocking;
use alluvium_actors::ports::host::{Address, DriverFactory, Host, Placement};

use super::outside::Outside;
use crate::testing::random::Random;

/// The calendar at the begin of a simulation, in milliseconds since 1970.
const BEGIN: u64 = 1_700_000_000_000;

/// How many slices an actor may do in one step, at most.
const SLICES: u64 = 4;

/// What the actors of one process share.
pub(super) struct Shared {
    /// Has the same time.
    outside: Outside,
    pub(super) now: Moment,
    pub(super) random: Random,
    pub(super) actors: BTreeMap<Address, Actor>,
    /// How many slices the actor that is taking a step may still do.
    slices: u64,
}

/// One actor, without its driver.
pub(super) struct Actor {
    /// What it is built from, until it is.
    pub(super) factory: Option<DriverFactory>,
    pub(super) mailbox: VecDeque<Control>,
    pub(super) alarms: BTreeSet<Moment>,
    /// How often it is chosen, compared to others: threads are not equally fast.
    pub(super) speed: u64,
}

impl Actor {
    pub(super) fn is_alarmed(&self, now: Moment) -> bool {
        self.alarms.first().is_some_and(|alarm| *alarm <= now)
    }
}

impl Shared {
    pub(super) fn new(outside: Outside, now: Moment, random: Random) -> Shared {
        Shared { outside, now, random, actors: BTreeMap::new(), slices: 0 }
    }

    pub(super) fn set_now(&mut self, now: Moment) {
        self.now = now;
        self.outside.set_now(now);
    }

    /// An actor takes a step.
    pub(super) fn begin_step(&mut self, address: Address) {
        self.slices = self.random.below(SLICES);
        let now = self.now;
        if let Some(actor) = self.actors.get_mut(&address) {
            actor.alarms.retain(|alarm| *alarm > now);
        }
    }

    pub(super) fn send(&mut self, to: Address, message: Control) {
        // At once into the mailbox, as under actix: what was sent before another message could be known arrives before it. That a
        // message takes time is that its receiver does not look yet.
        if let Some(actor) = self.actors.get_mut(&to) {
            actor.mailbox.push_back(message);
        }
    }

    fn spawn(&mut self, address: Address, factory: DriverFactory) {
        let speed = [1, 4, 16, 64][self.random.below(4) as usize];
        let mailbox = VecDeque::new();
        self.actors.insert(address, Actor { factory: Some(factory), mailbox, alarms: BTreeSet::new(), speed });
    }
}

/// The host of one actor.
pub(super) struct SimulatedHost {
    address: Address,
    shared: Rc<RefCell<Shared>>,
    blocking: Arc<dyn Blocking>,
}

impl SimulatedHost {
    pub(super) fn of(address: Address, shared: Rc<RefCell<Shared>>, blocking: Arc<dyn Blocking>) -> Rc<dyn Host> {
        Rc::new(SimulatedHost { address, shared, blocking })
    }
}

impl Host for SimulatedHost {
    fn now(&self) -> Moment {
        self.shared.borrow().now
    }

    fn wall(&self) -> WallTime {
        WallTime(BEGIN + self.now().0 / 1_000_000)
    }

    fn random(&self) -> u64 {
        self.shared.borrow_mut().random.next()
    }

    fn wake_at(&self, moment: Moment) {
        if let Some(actor) = self.shared.borrow_mut().actors.get_mut(&self.address) {
            actor.alarms.insert(moment);
        }
    }

    fn send(&self, to: Address, message: Control) {
        self.shared.borrow_mut().send(to, message);
    }

    fn blocking(&self) -> Arc<dyn Blocking> {
        Arc::clone(&self.blocking)
    }

    fn spawn(&self, address: Address, _placement: Placement, factory: DriverFactory) {
        self.shared.borrow_mut().spawn(address, factory);
    }

    fn budget_spent(&self, _began: Moment) -> bool {
        let mut shared = self.shared.borrow_mut();
        let spent = shared.slices == 0;
        shared.slices = shared.slices.saturating_sub(1);
        spent
    }
}

/// The actors that were woken.
#[derive(Clone, Debug, Default)]
pub(super) struct Ready(Arc<Mutex<BTreeSet<Address>>>);

impl Ready {
    pub(super) fn wake(&self, address: Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
    }

    pub(super) fn take(&self, address: Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    pub(super) fn contains(&self, address: Address) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// The waker of an actor.
    pub(super) fn waker(&self, address: Address) -> Waker {
        Waker::from(Arc::new(ActorWaker { address, ready: self.clone() }))
    }
}

struct ActorWaker {
    address: Address,
    ready: Ready,
}

impl Wake for ActorWaker {
    fn wake(self: Arc<ActorWaker>) {
        self.ready.wake(self.address);
    }

    fn wake_by_ref(self: &Arc<ActorWaker>) {
        self.ready.wake(self.address);
    }
}
