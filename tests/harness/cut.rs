//! Cut consistency over what a job does with records: one that keeps them back across barriers. (A sink that cuts late is among the wrong jobs; barriers that do not align the
//! simulation itself finds, at the edges.)

use alluvium::operator::{Access, Context, KeyedProcess};
use alluvium::state::Value;
use alluvium::testing::JobTest;
use alluvium::testing::TestRun;
use alluvium::testing::check::CutConsistency;
use alluvium::testing::models::{Ledger, Records};
use alluvium::{BuildErrors, Graph, Job, OperatorResult};

use crate::billing::{Bill, ORDERS, Order, assert_tells, found_without_faults, order};

/// Emits a record when the next one of its key comes.
#[derive(Clone)]
struct OneLate;

impl KeyedProcess for OneLate {
    type Key = u64;
    type In = Order;
    type Out = Bill;
    type State = Value<Order>;

    fn state(&self) -> Self::State {
        Value::named("kept back")
    }

    fn process(&self, order: Order, mut kept: Access<'_, Self>, mut context: Context<'_, Self>) -> OperatorResult {
        if let Some(before) = kept.get() {
            let bill = Bill { customer: before.customer, sequence: 0, order: before.number };
            context.emit(bill);
        }
        kept.set(order);
        Ok(())
    }
}

fn one_late(orders: Records<Order>, bills: Ledger<Bill>) -> Result<Graph, BuildErrors> {
    let job = Job::new("billing");
    job.source("orders", orders).key_by(|order| &order.customer).process("late", OneLate).sink("bills", bills);
    job.build()
}

fn keeping_back(run: &mut TestRun, may_lag: bool) {
    let (orders, bills) = (run.records("orders", ORDERS, order).splits(3).rate(5_000), run.ledger("bills"));
    let cut = CutConsistency::new(&orders, |order| order.number, &bills, |bill: &Bill| bill.order);
    run.check(if may_lag { cut.effects_may_lag() } else { cut });
    run.job(move |_| one_late(orders.clone(), bills.clone()));
}

#[test]
fn an_effect_behind_its_barrier_is_found_unless_the_job_may_keep_records_back() {
    let reason = found_without_faults(|run| keeping_back(run, false));
    assert_tells(&reason, &[" of `orders`, lies before the barrier of checkpoint", "at the source and "]);
    JobTest::new(|run| keeping_back(run, true)).seeds(0..10);
}
