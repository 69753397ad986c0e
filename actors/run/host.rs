//! What the actors of one job share, and the host as each of them sees it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::Recipient;
use actix_rt::ArbiterHandle;

use super::actor::{self, Mail};
#[cfg(feature = "fault-injection")]
use super::faults::{Door, Inbox};
use super::lanes::Lanes;
use super::life;
use super::threads::Threads;
use crate::drive::control::Control;
use crate::ids::{Moment, WallTime};
use crate::ports::blocking::Blocking;
use crate::ports::host::{Address, DriverFactory, Host, Placement};
use crate::ports::listener::{JobEvent, Listener};
#[cfg(feature = "fault-injection")]
use crate::ports::points::Points;

/// A driver gives its thread back after this time: so long a message may wait at most, if no user call takes longer.
const STEP_BUDGET: Duration = Duration::from_micros(500);

/// How the supervisor ended, and with it the job.
pub(super) enum SupervisorEnd {
    /// It had nothing left to do.
    Finished,
    /// It panicked, with this text.
    Panicked(String),
    /// Its arbiter was stopped.
    Lost,
}

/// What the supervisor's end is told to.
pub(super) type OnEnd = Box<dyn FnOnce(SupervisorEnd) + Send>;

/// What the actors of one job share.
pub(super) struct Cell {
    started: Instant,
    /// The actors that live.
    directory: Mutex<BTreeMap<Address, Recipient<Mail>>>,
    /// Told when an actor leaves the directory.
    left: Condvar,
    arbiters: OnceLock<(ArbiterHandle, Vec<ArbiterHandle>)>,
    /// What was sent to the supervisor or the coordinator before they were there: a handle works from the moment it exists.
    early: Mutex<Vec<(Address, Mail)>>,
    /// The job is over: nobody will take what is sent.
    closed: AtomicBool,
    lanes: Arc<Lanes>,
    /// Who watches; nobody any more when the job is over.
    listener: Mutex<Option<Arc<dyn Listener>>>,
    /// The threads that the job's actors run on.
    pub(super) threads: Arc<Threads>,
    on_end: Mutex<Option<OnEnd>>,
    /// Who lets faults happen.
    #[cfg(feature = "fault-injection")]
    door: Option<Arc<Door>>,
}

impl Cell {
    pub(super) fn new(lanes: Arc<Lanes>, listener: Arc<dyn Listener>) -> Cell {
        Cell {
            started: Instant::now(),
            directory: Mutex::default(),
            left: Condvar::new(),
            arbiters: OnceLock::new(),
            early: Mutex::default(),
            closed: AtomicBool::new(false),
            lanes,
            listener: Mutex::new(Some(listener)),
            threads: Arc::default(),
            on_end: Mutex::default(),
            #[cfg(feature = "fault-injection")]
            door: None,
        }
    }

    /// The moment of the clock that all actors go by.
    pub(super) fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// With somebody behind the door for faults.
    #[cfg(feature = "fault-injection")]
    pub(super) fn with_door(self, door: Option<Door>) -> Cell {
        Cell { door: door.map(Arc::new), ..self }
    }

    /// No thread waits because of a fault any more.
    #[cfg(feature = "fault-injection")]
    fn close_door(&self) {
        if let Some(door) = &self.door {
            door.close();
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
        self.post(to, Mail::Control(message));
    }

    fn post(&self, to: Address, mail: Mail) {
        // The lock is held while the message is queued, so that messages of one thread to one actor keep their order
        // even while the actor is being replaced. The mailbox never blocks: `do_send` ignores its capacity.
        let directory = self.directory();
        if let Some(mailbox) = directory.get(&to) {
            mailbox.do_send(mail);
        } else if matches!(to, Address::Supervisor | Address::Coordinator) && !self.closed.load(Ordering::Acquire) {
            self.early().push((to, mail));
        }
    }

    fn early(&self) -> MutexGuard<'_, Vec<(Address, Mail)>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell_listener(&self, event: JobEvent) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener {
            listener.event(event);
        }
    }

    /// The job is over: nobody hears of it any more, and no thread belongs to it.
    pub(super) fn over(&self) {
        drop(self.listener.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.threads.release();
    }

    fn remove(&self, address: Address) {
        self.directory().remove(&address);
        self.left.notify_all();
    }

    fn supervisor_ended(&self, end: SupervisorEnd) {
        let on_end = self.on_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_end) = on_end {
            on_end(end);
        }
    }

    /// An actor has ended, with the text of its panic if that was the reason.
    pub(super) fn ended(&self, address: Address, panic: Option<String>) {
        self.remove(address);
        if address == Address::Supervisor {
            self.supervisor_ended(panic.map_or(SupervisorEnd::Finished, SupervisorEnd::Panicked));
        } else if let Some(text) = panic {
            self.send(Address::Supervisor, Control::DriverPanicked { address, text });
        }
    }

    /// The arbiter of an actor has stopped.
    pub(super) fn lost(&self, address: Address) {
        self.remove(address);
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        self.tell_listener(JobEvent::ArbiterStopped);
        if address == Address::Supervisor {
            self.supervisor_ended(SupervisorEnd::Lost);
        } else {
            self.send(Address::Supervisor, Control::DriverLost { address });
        }
    }

    /// Ends what is left of the actors, and waits for them as long as `patience` says. True when all have ended.
    pub(super) fn end_actors(&self, patience: Duration) -> bool {
        let mut directory = self.directory();
        // Under the directory's lock, so that no message slips in behind: whoever asked hears that the job has ended.
        self.closed.store(true, Ordering::Release);
        self.early().clear();
        for mailbox in directory.values() {
            mailbox.do_send(Mail::End);
        }
        let until = Instant::now() + patience;
        while !directory.is_empty() {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return false;
            }
            directory = self.left.wait_timeout(directory, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether a subtask or a sink is still alive.
    pub(super) fn has_subtasks(&self) -> bool {
        self.directory().keys().any(|address| matches!(address, Address::Subtask(..) | Address::Sink(..)))
    }

    /// Ends the lanes; with `wait` it returns when their threads have ended.
    pub(super) fn close_lanes(&self, wait: bool) {
        #[cfg(feature = "fault-injection")]
        self.close_door();
        self.lanes.close(wait);
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
        #[cfg(feature = "fault-injection")]
        self.close_door();
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

    /// What stands between the actor's mailbox and its driver, where faults may be armed.
    #[cfg(feature = "fault-injection")]
    pub(super) fn inbox(&self) -> Option<Inbox> {
        self.cell.door.clone().map(|door| Inbox::new(door, self.address))
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
        self.cell.now()
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
        #[cfg(feature = "fault-injection")]
        if let Some(door) = &self.cell.door {
            for letter in door.send(self.address, to, message).into_iter().flatten() {
                self.cell.post(to, Mail::Letter(letter));
            }
            return;
        }
        self.cell.send(to, message);
    }

    #[cfg(feature = "fault-injection")]
    fn points(&self) -> Points {
        self.cell.door.clone().map_or_else(Points::default, |door| Points::armed(door))
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
        let (start, life) = life::begin(&self.cell, address);
        // Into the directory before anybody can hear of it.
        let mut directory = self.cell.directory();
        let mailbox = actor::start(arbiter, Arc::clone(&self.cell), address, factory, life);
        let (sent, kept) =
            std::mem::take(&mut *self.cell.early()).into_iter().partition::<Vec<_>, _>(|(to, _)| *to == address);
        *self.cell.early() = kept;
        for (_, mail) in sent {
            mailbox.do_send(mail);
        }
        directory.insert(address, mailbox);
        drop(directory);
        start.done();
    }

    fn workers(&self) -> u32 {
        self.cell.arbiters.get().map_or(1, |(_, workers)| workers.len() as u32)
    }

    fn budget_spent(&self, began: Moment) -> bool {
        #[cfg(feature = "fault-injection")]
        if super::faults::acting_has_to_wait() {
            return true;
        }
        self.now().since(began) >= STEP_BUDGET
    }
}
