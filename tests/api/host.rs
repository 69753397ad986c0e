//! A host for tasks that are run by hand.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alluvium_actors::drive::control::Control;
use alluvium_actors::ids::{Moment, WallTime};
use alluvium_actors::ports::blocking::{Blocking, Lane, Work};
use alluvium_actors::ports::host::{Address, DriverFactory, Host, Placement};

/// A host without a clock whose blocking work waits until the test lets it run.
#[derive(Default)]
pub(crate) struct TestHost {
    work: Arc<Queue>,
    now: Cell<u64>,
}

#[derive(Default)]
struct Queue(Mutex<VecDeque<Box<dyn Work>>>);

impl Blocking for Queue {
    fn run(&self, _: Lane, work: Box<dyn Work>) {
        self.0.lock().unwrap().push_back(work);
    }
}

impl Host for TestHost {
    fn now(&self) -> Moment {
        self.now.set(self.now.get() + 1);
        Moment(self.now.get())
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn random(&self) -> u64 {
        4
    }

    fn wake_at(&self, _: Moment) {}

    fn send(&self, _: Address, _: Control) {}

    fn blocking(&self) -> Arc<dyn Blocking> {
        Arc::clone(&self.work) as Arc<dyn Blocking>
    }

    fn spawn(&self, _: Address, _: Placement, _: DriverFactory) {
        unreachable!("no actors here")
    }

    fn budget_spent(&self, _: Moment) -> bool {
        false
    }
}

impl TestHost {
    /// The next piece of blocking work, taken out of the queue.
    pub(crate) fn take_work(&self) -> Option<Box<dyn Work>> {
        self.work.0.lock().unwrap().pop_front()
    }

    /// How much blocking work waits.
    pub(crate) fn waiting_work(&self) -> usize {
        self.work.0.lock().unwrap().len()
    }
}
