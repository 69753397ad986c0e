//! What the actors of one job share, and the host as each of them sees it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::Recipient;
use actix_rt::ArbiterHandle;

use super::actor::{self, Mail};
use super::lanes::Lanes;
use crate::drive::control::Control;
use crate::ids::{Moment, WallTime};
use crate::ports::blocking::Blocking;
use crate::ports::host::{Address, DriverFactory, Host, Placement};

/// A driver gives its thread back after this time: so long a message may wait at most, if no user call takes longer.
const STEP_BUDGET: Duration = Duration::from_micros(500);

/// What the supervisor's end is told to, with the text if it was a panic.
pub(super) type OnEnd = Box<dyn FnOnce(Option<String>) + Send>;

/// What the actors of one job share.
pub(super) struct Cell {
    started: Instant,
    directory: Mutex<BTreeMap<Address, Recipient<Mail>>>,
    arbiters: OnceLock<(ArbiterHandle, Vec<ArbiterHandle>)>,
    /// What was sent to the supervisor or the coordinator before they were there: a handle works from the moment it exists.
    early: Mutex<Vec<(Address, Control)>>,
    /// The job is over: nobody will take what is sent.
    closed: AtomicBool,
    lanes: Arc<Lanes>,
    on_end: Mutex<Option<OnEnd>>,
}

impl Cell {
    pub(super) fn new(lanes: Arc<Lanes>) -> Cell {
        Cell {
            started: Instant::now(),
            directory: Mutex::default(),
            arbiters: OnceLock::new(),
            early: Mutex::default(),
            closed: AtomicBool::new(false),
            lanes,
            on_end: Mutex::default(),
        }
    }

    pub(super) fn set_arbiters(&self, coordination: ArbiterHandle, workers: Vec<ArbiterHandle>) {
        let _ = self.arbiters.set((coordination, workers));
    }

    pub(super) fn on_supervisor_end(&self, on_end: OnEnd) {
        *self.on_end.lock().unwrap_or_else(PoisonError::into_inner) = Some(on_end);
    }

    fn directory(&self) -> MutexGuard<'_, BTreeMap<Address, Recipient<Mail>>> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, to: Address, message: Control) {
        // The lock is held while the message is queued, so that messages of one thread to one actor keep their order
        // even while the actor is being replaced. The mailbox never blocks: `do_send` ignores its capacity.
        let directory = self.directory();
        if let Some(mailbox) = directory.get(&to) {
            mailbox.do_send(Mail(message));
        } else if matches!(to, Address::Supervisor | Address::Coordinator) && !self.closed.load(Ordering::Acquire) {
            self.early().push((to, message));
        }
    }

    fn early(&self) -> MutexGuard<'_, Vec<(Address, Control)>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An actor has ended, with the text of its panic if that was the reason.
    pub(super) fn ended(&self, address: Address, panic: Option<String>) {
        self.directory().remove(&address);
        if address == Address::Supervisor {
            let on_end = self.on_end.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(on_end) = on_end {
                on_end(panic);
            }
        } else if let Some(text) = panic {
            self.send(Address::Supervisor, Control::DriverPanicked { address, text });
        }
    }

    /// Ends the lanes. True when a subtask or a sink is still alive, inside a user call: then nothing is waited for.
    pub(super) fn close(&self) -> bool {
        let stuck = {
            let mut directory = self.directory();
            // Under the directory's lock, so that no message slips in behind: whoever asked hears that the job has ended.
            self.closed.store(true, Ordering::Release);
            self.early().clear();
            directory.remove(&Address::Coordinator);
            let stuck = !directory.is_empty();
            directory.clear();
            stuck
        };
        self.lanes.close(!stuck);
        stuck
    }
}

/// The host as one actor sees it.
pub(super) struct ActixHost {
    cell: Arc<Cell>,
    address: Address,
    alarms: RefCell<BTreeSet<Moment>>,
}

impl ActixHost {
    pub(super) fn new(cell: Arc<Cell>, address: Address) -> Rc<ActixHost> {
        Rc::new(ActixHost { cell, address, alarms: RefCell::default() })
    }

    pub(super) fn address(&self) -> Address {
        self.address
    }

    pub(super) fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    /// A step begins, and serves the alarms that are due.
    pub(super) fn begin_step(&self) {
        let now = self.now();
        self.alarms.borrow_mut().retain(|moment| *moment > now);
    }

    /// The next moment at which the actor wants to run. It may have passed: an alarm that was set in a step and fell due before its end is still to be served.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.borrow().first().map(|moment| self.cell.started + Duration::from_nanos(moment.0))
    }
}

impl Host for ActixHost {
    fn now(&self) -> Moment {
        Moment(u64::try_from(self.cell.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn random(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        // The standard library's hasher is keyed from the operating system's randomness; no crate is needed for a
        // handful of numbers per job.
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_u64(self.now().0);
        hasher.finish()
    }

    fn wake_at(&self, moment: Moment) {
        // One that lies in the past asks for another step: the current one does not serve it.
        let moment = moment.max(self.now() + Duration::from_nanos(1));
        self.alarms.borrow_mut().insert(moment);
    }

    fn send(&self, to: Address, message: Control) {
        self.cell.send(to, message);
    }

    fn blocking(&self) -> Arc<dyn Blocking> {
        Arc::clone(&self.cell.lanes) as Arc<dyn Blocking>
    }

    fn spawn(&self, address: Address, placement: Placement, factory: DriverFactory) {
        let (coordination, workers) = self.cell.arbiters.get().expect("arbiters are set before the first actor");
        let arbiter = match placement {
            Placement::Coordination => coordination,
            Placement::Worker(index) => &workers[index as usize % workers.len()],
        };
        // Into the directory before anybody can hear of it.
        let mut directory = self.cell.directory();
        let mailbox = actor::start(arbiter, Arc::clone(&self.cell), address, factory);
        let (sent, kept) =
            std::mem::take(&mut *self.cell.early()).into_iter().partition::<Vec<_>, _>(|(to, _)| *to == address);
        *self.cell.early() = kept;
        for (_, message) in sent {
            mailbox.do_send(Mail(message));
        }
        directory.insert(address, mailbox);
    }

    fn workers(&self) -> u32 {
        self.cell.arbiters.get().map_or(1, |(_, workers)| workers.len() as u32)
    }

    fn budget_spent(&self, began: Moment) -> bool {
        self.now().since(began) >= STEP_BUDGET
    }
}
