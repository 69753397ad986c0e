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
use alluvium_actors::ports::points::{Faults, Points};

use super::faults::Order;
use super::outside::Outside;
use super::points::{Delivery, Gate, SimulatedFaults};
use crate::fault::Random;

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
    pub(super) order: Order,
    pub(super) actors: BTreeMap<Address, Actor>,
    pub(super) faults: Arc<SimulatedFaults>,
    /// What is on its way and may not arrive yet, in order, by sender and receiver.
    links: BTreeMap<(Option<Address>, Address), VecDeque<Mail>>,
    /// How many slices the actor that is taking a step may still do.
    slices: u64,
}

/// One actor, without its driver.
pub(super) struct Actor {
    /// What it is built from, until it is.
    pub(super) factory: Option<DriverFactory>,
    pub(super) mailbox: VecDeque<Mail>,
    pub(super) alarms: BTreeSet<Moment>,
    /// How often it is chosen, compared to others: threads are not equally fast.
    pub(super) speed: u64,
}

/// A message in a mailbox.
#[derive(Debug)]
pub(super) struct Mail {
    /// Who sent it; nobody of the job as a rule when it came from outside.
    pub(super) from: Option<Address>,
    pub(super) message: Control,
    /// What it waits for.
    pub(super) gates: Vec<Gate>,
    /// Whether the fault point of its receipt has let it pass.
    pub(super) passed: bool,
}

impl Actor {
    pub(super) fn is_alarmed(&self, now: Moment) -> bool {
        self.alarms.first().is_some_and(|alarm| *alarm <= now)
    }
}

impl Shared {
    pub(super) fn new(
        outside: Outside,
        now: Moment,
        random: Random,
        order: Order,
        faults: Arc<SimulatedFaults>,
    ) -> Shared {
        Shared { outside, now, random, order, actors: BTreeMap::new(), faults, links: BTreeMap::new(), slices: 0 }
    }

    /// A number below `limit` that the seed decides, or this one in the plain order.
    pub(super) fn chance(&mut self, limit: u64, plain: u64) -> u64 {
        match self.order {
            Order::Seed => self.random.below(limit),
            Order::Plain => plain,
        }
    }

    pub(super) fn set_now(&mut self, now: Moment) {
        self.now = now;
        self.outside.set_now(now);
    }

    /// An actor takes a step.
    pub(super) fn begin_step(&mut self, address: Address) {
        self.slices = self.chance(SLICES, SLICES - 1);
        let now = self.now;
        if let Some(actor) = self.actors.get_mut(&address) {
            actor.alarms.retain(|alarm| *alarm > now);
        }
    }

    /// A message sets out. What becomes of it at its fault point is decided before.
    pub(super) fn send(&mut self, from: Option<Address>, to: Address, message: Control, gates: Vec<Gate>) {
        let mail = Mail { from, message, gates, passed: false };
        match self.links.get_mut(&(from, to)) {
            Some(link) => link.push_back(mail),
            None if mail.gates.is_empty() => self.arrive(to, mail),
            None => {
                self.links.insert((from, to), VecDeque::from([mail]));
            }
        }
    }

    /// At once into the mailbox, as under actix: what was sent before another message could be known arrives before it. That a
    /// message takes time is that its receiver does not look yet.
    fn arrive(&mut self, to: Address, mail: Mail) {
        if let Some(actor) = self.actors.get_mut(&to) {
            actor.mailbox.push_back(mail);
        }
    }

    /// What was taken out of a mailbox goes back in front of everything else that its sender has on its way to this receiver.
    pub(super) fn hold_back(&mut self, to: Address, held: Vec<Mail>) {
        for mail in held.into_iter().rev() {
            self.links.entry((mail.from, to)).or_default().push_front(mail);
        }
    }

    /// Lets arrive what may.
    pub(super) fn deliver(&mut self) {
        let (now, faults) = (self.now, Arc::clone(&self.faults));
        let mut arrived = Vec::new();
        self.links.retain(|(_, to), link| {
            while link.front().is_some_and(|mail| mail.gates.iter().all(|gate| faults.is_open(*gate, now))) {
                arrived.extend(link.pop_front().map(|mail| (*to, mail)));
            }
            !link.is_empty()
        });
        for (to, mail) in arrived {
            self.arrive(to, mail);
        }
    }

    /// When the next message that is held back may arrive by itself.
    pub(super) fn next_delivery(&self) -> Option<Moment> {
        self.links.values().filter_map(|link| link.front()?.gates.iter().map(|gate| gate.at).max()).min()
    }

    fn spawn(&mut self, address: Address, factory: DriverFactory) {
        let speed = [1, 4, 16, 64][self.chance(4, 0) as usize];
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
    /// An actor that a fault delays is as far as that in time.
    fn now(&self) -> Moment {
        let shared = self.shared.borrow();
        shared.faults.busy_until(self.address).map_or(shared.now, |busy| busy.max(shared.now))
    }

    fn points(&self) -> Points {
        Points::armed(Arc::clone(&self.shared.borrow().faults) as Arc<dyn Faults>)
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
        // Not borrowed while the point is reached: a fault may unwind from there.
        let faults = Arc::clone(&self.shared.borrow().faults);
        let delivery = message.sent(self.address, to).map_or(Delivery::Now, |hit| faults.deliver(&hit));
        // What an actor sends that has to wait leaves when it goes on.
        let mut gates = faults.gates(self.address);
        let from = Some(self.address);
        let again = if delivery == Delivery::Twice { message.again() } else { None };
        if let Delivery::Waits(gate) = delivery {
            gates.push(gate);
        }
        let mut shared = self.shared.borrow_mut();
        if delivery != Delivery::Never {
            shared.send(from, to, message, gates.clone());
        }
        if let Some(again) = again {
            shared.send(from, to, again, gates);
        }
    }

    fn blocking(&self) -> Arc<dyn Blocking> {
        Arc::clone(&self.blocking)
    }

    fn spawn(&self, address: Address, _placement: Placement, factory: DriverFactory) {
        self.shared.borrow_mut().spawn(address, factory);
    }

    fn budget_spent(&self, _began: Moment) -> bool {
        let mut shared = self.shared.borrow_mut();
        // What it has to wait for, it waits for after its slice.
        if shared.faults.has_to_wait(self.address) {
            return true;
        }
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
