//! A host that records what is sent.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::ids::{Moment, WallTime};
use alluvium_actors::ports::blocking::{Blocking, Lane, Work};
use alluvium_actors::ports::host::{Address, DriverFactory, Host, Placement};

/// Keeps every message. Blocking work is done on the spot, and each step is one slice.
#[derive(Default)]
pub(crate) struct Recorder {
    sent: RefCell<Vec<(Address, Control)>>,
    now: Cell<u64>,
}

struct AtOnce;

impl Blocking for AtOnce {
    fn run(&self, _: Lane, work: Box<dyn Work>) {
        work.run();
    }
}

impl Recorder {
    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time.as_nanos() as u64);
    }

    /// Everything that was sent since the last call.
    pub(crate) fn take_sent(&self) -> Vec<(Address, Control)> {
        self.sent.take()
    }
}

impl Recorder {
    /// The clock shows at least this moment from now on.
    pub(crate) fn pass_to(&self, moment: Moment) {
        self.now.set(self.now.get().max(moment.0));
    }
}

impl Host for Recorder {
    fn now(&self) -> Moment {
        self.now.set(self.now.get() + 1);
        Moment(self.now.get())
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn random(&self) -> u64 {
        0
    }

    fn wake_at(&self, _: Moment) {}

    fn send(&self, to: Address, message: Control) {
        self.sent.borrow_mut().push((to, message));
    }

    fn blocking(&self) -> Arc<dyn Blocking> {
        Arc::new(AtOnce)
    }

    fn spawn(&self, _: Address, _: Placement, _: DriverFactory) {
        unreachable!("no actors here")
    }

    fn budget_spent(&self, _: Moment) -> bool {
        true
    }
}
