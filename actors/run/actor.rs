//! The five thin actors. Each carries one driver: its handler only puts messages into the driver, and one persistent future steps it.
//!
//! The future is spawned once, does one slice in `poll`, wakes itself while there is more, and returns pending; actix looks at the mailbox before each
//! poll. (Sending oneself a message, or `notify`, would keep the mailbox from ever being empty and starve the arbiter.)

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use actix::{Actor, ActorContext, ActorFuture, AsyncContext, Context, Handler, Message, Recipient};
use actix_rt::ArbiterHandle;
use actix_rt::time::Sleep;

#[cfg(feature = "fault-injection")]
use super::faults::{Inbox, Letter};
use super::host::{ActixHost, Cell};
use super::life::Life;
use crate::drive::control::Control;
use crate::ports::blocking::panic_text;
use crate::ports::host::{Address, Driver, DriverFactory, Role, Step};

/// A message in a mailbox.
#[derive(Debug)]
pub enum Mail {
    /// For the driver.
    Control(Control),
    /// For the driver, past the fault points.
    #[cfg(feature = "fault-injection")]
    Letter(Letter),
    /// For the actor: the job is over, drop the driver and end.
    End,
}

impl Message for Mail {
    type Result = ();
}

/// Tells the five actors apart by type; see [`OperatorActor`] and its siblings.
pub trait Kind: Unpin + 'static {}

macro_rules! actors {
    ($($(#[$doc:meta])* $actor:ident = $kind:ident;)*) => {
        $(
            /// Marks the actor of this kind.
            #[derive(Debug)]
            pub enum $kind {}
            impl Kind for $kind {}
            $(#[$doc])*
            pub type $actor = DriverActor<$kind>;
        )*
    };
}

actors! {
    /// A chain whose head is an operator: one actor per operator instance.
    OperatorActor = OperatorKind;
    /// A chain whose head is a source reader.
    SourceActor = SourceKind;
    /// The committing side of a sink.
    SinkActor = SinkKind;
    /// The checkpoint coordinator of a job.
    CoordinatorActor = CoordinatorKind;
    /// The supervisor of a job.
    SupervisorActor = SupervisorKind;
}

/// An actor that carries a driver.
pub struct DriverActor<K> {
    host: Rc<ActixHost>,
    driver: Option<Box<dyn Driver>>,
    kind: PhantomData<K>,
    /// Where faults may be armed.
    #[cfg(feature = "fault-injection")]
    inbox: Option<Inbox>,
    /// The last field: what it tells is told when the driver is gone.
    life: Life,
}

impl<K> DriverActor<K> {
    /// Drops the driver. Its drop runs user code.
    fn drop_driver(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.driver.take())));
    }
}

/// Without an end before: the arbiter was stopped, and took the actor with it.
impl<K> Drop for DriverActor<K> {
    fn drop(&mut self) {
        self.drop_driver();
    }
}

impl<K> std::fmt::Debug for DriverActor<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DriverActor({:?})", self.host.address())
    }
}

/// Starts the actor of `address` on `arbiter`; the driver is built there.
pub(super) fn start(
    arbiter: &ArbiterHandle,
    cell: Arc<Cell>,
    address: Address,
    factory: DriverFactory,
    life: Life,
) -> Recipient<Mail> {
    match factory.role {
        Role::Operator => start_kind::<OperatorKind>(arbiter, cell, address, factory, life),
        Role::Source => start_kind::<SourceKind>(arbiter, cell, address, factory, life),
        Role::Sink => start_kind::<SinkKind>(arbiter, cell, address, factory, life),
        Role::Coordinator => start_kind::<CoordinatorKind>(arbiter, cell, address, factory, life),
        Role::Supervisor => start_kind::<SupervisorKind>(arbiter, cell, address, factory, life),
    }
}

fn start_kind<K: Kind>(
    arbiter: &ArbiterHandle,
    cell: Arc<Cell>,
    address: Address,
    factory: DriverFactory,
    life: Life,
) -> Recipient<Mail> {
    DriverActor::<K>::start_in_arbiter(arbiter, move |_| {
        let mut life = life;
        let host = ActixHost::new(cell, address);
        let as_host: Rc<dyn crate::ports::host::Host> = Rc::clone(&host) as Rc<_>;
        let build = || (factory.build)(as_host);
        #[cfg(feature = "fault-injection")]
        let mut inbox = host.inbox();
        #[cfg(feature = "fault-injection")]
        let built = match &mut inbox {
            Some(inbox) => inbox.act(build),
            None => catch_unwind(AssertUnwindSafe(build)),
        };
        #[cfg(not(feature = "fault-injection"))]
        let built = catch_unwind(AssertUnwindSafe(build));
        let driver = match built {
            Ok(driver) => Some(driver),
            Err(panic) => {
                life.ended(Some(panic_text(panic.as_ref())));
                None
            }
        };
        DriverActor {
            host,
            driver,
            kind: PhantomData,
            #[cfg(feature = "fault-injection")]
            inbox,
            life,
        }
    })
    .recipient()
}

impl<K: Kind> Actor for DriverActor<K> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.spawn(StepLoop { alarm: None });
    }
}

impl<K: Kind> Handler<Mail> for DriverActor<K> {
    type Result = ();

    fn handle(&mut self, mail: Mail, context: &mut Context<Self>) {
        match mail {
            #[cfg(feature = "fault-injection")]
            Mail::Letter(letter) => {
                if let Some(inbox) = &mut self.inbox {
                    inbox.push(letter);
                }
            }
            Mail::Control(message) => {
                #[cfg(feature = "fault-injection")]
                if let Some(inbox) = &mut self.inbox {
                    inbox.push(Letter::from_outside(message));
                    return;
                }
                if let Some(driver) = &mut self.driver {
                    driver.receive(message);
                }
            }
            Mail::End => {
                self.drop_driver();
                self.life.ended(None);
                context.stop();
            }
        }
    }
}

/// Steps the driver for as long as the actor lives.
struct StepLoop {
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<K: Kind> ActorFuture<DriverActor<K>> for StepLoop {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut DriverActor<K>,
        actor_context: &mut Context<DriverActor<K>>,
        context: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let Some(driver) = actor.driver.as_mut() else {
            actor_context.stop();
            return Poll::Ready(());
        };
        #[cfg(feature = "fault-injection")]
        if let Some(inbox) = &mut actor.inbox {
            if inbox.stands(context) {
                self.arm(inbox.next(), context);
                return Poll::Pending;
            }
            let taken = catch_unwind(AssertUnwindSafe(|| inbox.take_in(context, |message| driver.receive(message))));
            if let Err(panic) = taken {
                let text = panic_text(panic.as_ref());
                actor.drop_driver();
                actor.life.ended(Some(text));
                actor_context.stop();
                return Poll::Ready(());
            }
        }
        actor.host.begin_step();
        let step = || driver.step(context);
        #[cfg(feature = "fault-injection")]
        let stepped = match &mut actor.inbox {
            Some(inbox) => inbox.act(step),
            None => catch_unwind(AssertUnwindSafe(step)),
        };
        #[cfg(not(feature = "fault-injection"))]
        let stepped = catch_unwind(AssertUnwindSafe(step));
        match stepped {
            Ok(Step::Again) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(Step::Wait) => {
                let next = actor.host.next_alarm();
                #[cfg(feature = "fault-injection")]
                if actor.inbox.as_ref().is_some_and(Inbox::has_to_wait) {
                    // What it waits for does not know its waker yet: the next poll leaves that.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                #[cfg(feature = "fault-injection")]
                let next = next.into_iter().chain(actor.inbox.as_ref().and_then(Inbox::next)).min();
                self.arm(next, context);
                Poll::Pending
            }
            Ok(Step::Finished) => {
                actor.drop_driver();
                actor.life.ended(None);
                actor_context.stop();
                Poll::Ready(())
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                actor.drop_driver();
                actor.life.ended(Some(text));
                actor_context.stop();
                Poll::Ready(())
            }
        }
    }
}

impl StepLoop {
    /// Sleeps until the next alarm, if nothing wakes the actor before: its one timer, for the deadlines of its driver.
    fn arm(&mut self, next: Option<Instant>, context: &mut TaskContext<'_>) {
        let Some(next) = next else {
            self.alarm = None;
            return;
        };
        let alarm = match &mut self.alarm {
            Some((at, alarm)) if *at == next => alarm,
            _ => &mut self.alarm.insert((next, Box::pin(actix_rt::time::sleep_until(next.into())))).1,
        };
        if alarm.as_mut().poll(context).is_ready() {
            self.alarm = None;
            context.waker().wake_by_ref();
        }
    }
}
