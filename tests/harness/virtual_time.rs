//! Time is virtual: ten minutes in which nothing happens are a few events, and no test waits for them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium::testing::JobTest;
use alluvium::testing::check::ExactlyOnce;
use alluvium::testing::simulation::{Faults, Report, Simulation};
use alluvium::{CheckpointId, JobEvent, Listener, Options};

use crate::billing::{Bill, billing, order};

/// After so long a checkpoint is given up.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The checkpoints that were given up, and why.
#[derive(Default)]
struct GivenUp(Mutex<Vec<(CheckpointId, String)>>);

impl Listener for GivenUp {
    fn event(&self, event: JobEvent) {
        if let JobEvent::Aborted { checkpoint, reason, .. } = event {
            self.0.lock().unwrap().push((checkpoint, reason.to_string()));
        }
    }
}

/// A hundred orders, one a second, and a checkpoint every minute, with these faults.
fn run(faults: Faults) -> (Report, Vec<(CheckpointId, String)>) {
    let given_up = Arc::new(GivenUp::default());
    let heard = Arc::clone(&given_up);
    let test = JobTest::new(move |run| {
        let (orders, bills) = (run.records("orders", 100, order).rate(1), run.ledger("bills"));
        run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill: &Bill| bill.order));
        let options = Options::default().checkpoint_every(Duration::from_secs(60)).checkpoint_timeout(TIMEOUT);
        run.options(options.continue_on_checkpoint_errors().listener(Arc::clone(&heard) as Arc<dyn Listener>));
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .once();
    let report = test.try_run(&Simulation::new(1).with(faults)).unwrap_or_else(|trouble| panic!("{trouble}"));
    let given_up = given_up.0.lock().unwrap().clone();
    (report, given_up)
}

#[test]
fn a_checkpoint_that_is_given_up_after_ten_minutes_costs_virtual_time_and_hardly_an_event() {
    let (calm, given_up) = run(Faults::None);
    assert!(calm.time < 2 * Duration::from_secs(60) && given_up.is_empty(), "{calm:?}");

    // One acknowledgement is lost, so the first checkpoint stands open until its timeout; everything that comes after waits for it.
    let lost = "acknowledge.sent[operator=orders,checkpoint=1]=drop".parse().unwrap();
    let (report, given_up) = run(Faults::Points(lost));
    assert_eq!((report.struck, report.processes), (1, 1));
    let [(checkpoint, reason)] = given_up.as_slice() else { panic!("{given_up:?}") };
    assert_eq!((*checkpoint, reason.as_str()), (CheckpointId(1), "the checkpoint expired before it was completed"));
    assert!(report.time >= TIMEOUT, "{:?}", report.time);
    // Time leaps from timer to timer: only the checkpoints that are due meanwhile, and cannot be, are events. Steps of a millisecond would be more than half a million.
    let more = report.events.saturating_sub(calm.events);
    assert!(more < 100, "{} events, without the wait {}", report.events, calm.events);
}
