//! The blocking work of one attempt, counted: a restore begins only after every piece of the old attempt has returned (rule 22).
//!
//! A fence stops work that has not begun; what has begun is waited for. Together they leave no moment in which two attempts act outside.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use crate::drive::control::Control;
use crate::ids::{Moment, WallTime};
use crate::ports::blocking::{Blocking, Lane, Work};
use crate::ports::host::{Address, DriverFactory, Host, Placement};
use crate::ports::points::Points;

/// Counts the blocking work of one attempt.
#[derive(Debug, Default)]
pub struct WorkCount {
    state: Mutex<CountState>,
}

#[derive(Debug, Default)]
struct CountState {
    under_way: usize,
    waker: Option<Waker>,
}

impl WorkCount {
    /// Whether nothing is under way; else leaves the waker of `context`.
    pub fn poll_idle(&self, context: &Context<'_>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.under_way == 0 {
            return true;
        }
        state.waker = Some(context.waker().clone());
        false
    }

    fn begin(self: &Arc<WorkCount>) -> Counted {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).under_way += 1;
        Counted(Arc::clone(self))
    }
}

/// One piece of work; it counts until it is dropped, run or not.
struct Counted(Arc<WorkCount>);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.under_way -= 1;
        if state.under_way == 0
            && let Some(waker) = state.waker.take()
        {
            drop(state);
            waker.wake();
        }
    }
}

struct CountedBlocking {
    inner: Arc<dyn Blocking>,
    count: Arc<WorkCount>,
}

impl Blocking for CountedBlocking {
    fn run(&self, lane: Lane, work: Box<dyn Work>) {
        self.inner.run(lane, Box::new(CountedWork { work, _counted: self.count.begin() }));
    }
}

/// Under way until it was answered.
struct CountedWork {
    work: Box<dyn Work>,
    _counted: Counted,
}

impl Work for CountedWork {
    fn carry_out(&mut self) {
        self.work.carry_out();
    }

    fn answer(self: Box<Self>) {
        self.work.answer();
    }
}

/// A host whose blocking work is counted for one attempt.
pub(super) struct AttemptHost {
    inner: Rc<dyn Host>,
    blocking: Arc<dyn Blocking>,
}

impl AttemptHost {
    pub(super) fn around(inner: Rc<dyn Host>, count: Arc<WorkCount>) -> Rc<dyn Host> {
        let blocking = Arc::new(CountedBlocking { inner: inner.blocking(), count });
        Rc::new(AttemptHost { inner, blocking })
    }
}

impl Host for AttemptHost {
    fn now(&self) -> Moment {
        self.inner.now()
    }

    fn wall(&self) -> WallTime {
        self.inner.wall()
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }

    fn wake_at(&self, moment: Moment) {
        self.inner.wake_at(moment);
    }

    fn send(&self, to: Address, message: Control) {
        self.inner.send(to, message);
    }

    fn blocking(&self) -> Arc<dyn Blocking> {
        Arc::clone(&self.blocking)
    }

    fn spawn(&self, address: Address, placement: Placement, factory: DriverFactory) {
        self.inner.spawn(address, placement, factory);
    }

    fn points(&self) -> Points {
        self.inner.points()
    }

    fn workers(&self) -> u32 {
        self.inner.workers()
    }

    fn budget_spent(&self, began: Moment) -> bool {
        self.inner.budget_spent(began)
    }
}
