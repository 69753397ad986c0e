//! A host that is moved by hand, for tests of connectors without actors.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::ids::{CheckpointId, Moment, OperatorUid, RunNumber, WallTime};
use alluvium_actors::ports::blocking::{Blocking, Lane, Work};
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::files::Files;
use alluvium_actors::ports::host::{Address, DriverFactory, Host, Placement};
use alluvium_actors::ports::sink::SinkScope;

use crate::connect::sink::SinkContext;
use crate::connect::source::SourceContext;
use crate::fault::Random;

/// A host without actors. Time stands still and blocking work waits until the test moves them. Clones are the same host.
#[derive(Clone)]
pub struct ManualHost {
    inner: Rc<Inner>,
}

struct Inner {
    now: Cell<Moment>,
    random: RefCell<Random>,
    wake_at: RefCell<BTreeSet<Moment>>,
    wakes: Arc<Wakes>,
    blocking: Arc<WaitingWork>,
    sent: RefCell<VecDeque<(Address, Control)>>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Wakes>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct WaitingWork(Mutex<VecDeque<Box<dyn Work>>>);

impl Blocking for WaitingWork {
    fn run(&self, _: Lane, work: Box<dyn Work>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(work);
    }
}

impl ManualHost {
    /// A host at the beginning of its time; `seed` decides its random numbers.
    #[must_use]
    pub fn new(seed: u64) -> ManualHost {
        ManualHost {
            inner: Rc::new(Inner {
                now: Cell::new(Moment(0)),
                random: RefCell::new(Random::new(seed)),
                wake_at: RefCell::new(BTreeSet::new()),
                wakes: Arc::new(Wakes::default()),
                blocking: Arc::new(WaitingWork::default()),
                sent: RefCell::default(),
            }),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.advance_to(self.now() + by);
    }

    /// Lets time pass up to the next moment for which a wake-up was asked. False if there is none.
    pub fn advance_to_next_wake(&self) -> bool {
        let next = self.inner.wake_at.borrow().first().copied();
        next.is_some_and(|moment| {
            self.advance_to(moment.max(self.now()));
            true
        })
    }

    /// The next moment for which a wake-up was asked.
    pub(crate) fn next_wake(&self) -> Option<Moment> {
        self.inner.wake_at.borrow().first().copied()
    }

    /// Whether somebody keeps a waker of this host.
    pub(crate) fn waker_is_kept(&self) -> bool {
        Arc::strong_count(&self.inner.wakes) > 1
    }

    /// Takes the message that was sent first.
    pub(crate) fn take_sent(&self) -> Option<(Address, Control)> {
        self.inner.sent.borrow_mut().pop_front()
    }

    /// Whether blocking work waits.
    pub(crate) fn has_blocking(&self) -> bool {
        self.waiting_blocking() > 0
    }

    /// How many pieces of blocking work wait.
    #[must_use]
    pub fn waiting_blocking(&self) -> usize {
        self.inner.blocking.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets time pass up to this moment.
    pub(crate) fn advance_to(&self, moment: Moment) {
        self.inner.now.set(moment);
        let mut wake_at = self.inner.wake_at.borrow_mut();
        while wake_at.first().is_some_and(|next| *next <= moment) {
            wake_at.pop_first();
            self.inner.wakes.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Carries out the blocking work that was asked for first. False if there is none.
    pub fn run_one_blocking(&self) -> bool {
        let work = self.inner.blocking.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        work.is_some_and(|work| {
            work.run();
            true
        })
    }

    /// Carries out all blocking work, also what is asked for meanwhile.
    pub fn run_blocking(&self) {
        while self.run_one_blocking() {}
    }

    /// The waker that a poll is given here; it counts.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.inner.wakes))
    }

    /// How often the host's waker was woken and a wake-up fell due.
    #[must_use]
    pub fn wakes(&self) -> usize {
        self.inner.wakes.0.load(Ordering::Relaxed)
    }

    /// Polls until it is ready, and moves blocking work and, when there is none, time meanwhile.
    ///
    /// # Panics
    /// When nothing is left that could make it ready.
    pub fn drive<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        let waker = self.waker();
        loop {
            if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            assert!(
                self.run_one_blocking() || self.advance_to_next_wake(),
                "it is pending, and neither blocking work nor a wake-up can make it ready"
            );
        }
    }
}

impl fmt::Debug for ManualHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ManualHost({:?})", self.inner.now.get())
    }
}

impl Host for ManualHost {
    fn now(&self) -> Moment {
        self.inner.now.get()
    }

    fn wall(&self) -> WallTime {
        WallTime(self.inner.now.get().0 / 1_000_000)
    }

    fn random(&self) -> u64 {
        self.inner.random.borrow_mut().below(u64::MAX)
    }

    fn wake_at(&self, moment: Moment) {
        self.inner.wake_at.borrow_mut().insert(moment);
    }

    /// Keeps the message for whoever moves the host by hand; with a connector there is nobody.
    fn send(&self, to: Address, message: Control) {
        self.inner.sent.borrow_mut().push_back((to, message));
    }

    fn blocking(&self) -> Arc<dyn Blocking> {
        Arc::clone(&self.inner.blocking) as Arc<dyn Blocking>
    }

    /// Starts nothing: there are no actors here.
    fn spawn(&self, _: Address, _: Placement, _: DriverFactory) {}

    fn budget_spent(&self, _: Moment) -> bool {
        true
    }
}

/// What a connector is told of the place where it runs, for tests that build one by hand.
#[derive(Clone)]
pub struct Site {
    /// The job's name.
    pub job: String,
    /// Tells stores apart.
    pub store: String,
    /// The connector's uid.
    pub uid: String,
    /// How many readers or writers.
    pub parallelism: u32,
    /// The run.
    pub run: u64,
    /// The checkpoint that the run begins with.
    pub restored: Option<u64>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// The right to act outside.
    pub fence: Fence,
}

impl fmt::Debug for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Site({} of {}, run {})", self.uid, self.job, self.run)
    }
}

impl Site {
    /// A place on these files for one reader or writer, in the first run of a job.
    #[must_use]
    pub fn new(uid: &str, files: Arc<dyn Files>) -> Site {
        Site {
            job: "trial".to_owned(),
            store: "00000000000000ab".to_owned(),
            uid: uid.to_owned(),
            parallelism: 1,
            run: 1,
            restored: None,
            files,
            fence: FenceSource::new().advance(),
        }
    }

    /// The context of a reader, or (as reader 0) of an enumerator.
    #[must_use]
    pub fn source_context(&self, host: &ManualHost, reader: u32) -> SourceContext {
        SourceContext {
            job: Arc::from(self.job.as_str()),
            uid: OperatorUid::new(&self.uid),
            reader,
            parallelism: self.parallelism,
            run: RunNumber(self.run),
            host: Rc::new(host.clone()),
            files: Arc::clone(&self.files),
            fence: self.fence.clone(),
        }
    }

    /// The context of a writer.
    #[must_use]
    pub fn sink_context(&self, host: &ManualHost, subtask: u32) -> SinkContext {
        SinkContext {
            job: Arc::from(self.job.as_str()),
            store: self.store.clone(),
            uid: OperatorUid::new(&self.uid),
            subtask,
            parallelism: self.parallelism,
            run: RunNumber(self.run),
            host: Rc::new(host.clone()),
            files: Arc::clone(&self.files),
            fence: self.fence.clone(),
        }
    }

    /// The scope of a committer.
    #[must_use]
    pub fn sink_scope(&self) -> SinkScope {
        SinkScope {
            job: Arc::from(self.job.as_str()),
            store: self.store.clone(),
            uid: OperatorUid::new(&self.uid),
            run: RunNumber(self.run),
            restored: self.restored.map(CheckpointId),
            files: Arc::clone(&self.files),
            fence: self.fence.clone(),
        }
    }
}
