//! Tells without a clock that tasks on several threads will never go on: all of them sleep, and only they wake each other.
//!
//! Every task is polled with a waker of ours around the real one. It counts how many tasks are awake: polled now, or
//! woken and about to be polled. Whoever wakes a task is awake, so once the count is zero it stays zero.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures::channel::oneshot;

/// How a group of tasks ended: each came to its end, or the reason why not.
pub(crate) type Verdict = Result<(), String>;

/// A group of tasks that wake nobody but each other, and are woken by nobody else.
pub(crate) struct Group {
    count: Mutex<Count>,
    verdict: Mutex<Option<oneshot::Sender<Verdict>>>,
}

struct Count {
    awake: usize,
    unfinished: usize,
}

impl Group {
    /// A group of `tasks` tasks, all awake, and where its verdict will appear.
    pub(crate) fn new(tasks: usize) -> (Arc<Group>, oneshot::Receiver<Verdict>) {
        let (sender, receiver) = oneshot::channel();
        let count = Mutex::new(Count { awake: tasks, unfinished: tasks });
        (Arc::new(Group { count, verdict: Mutex::new(Some(sender)) }), receiver)
    }

    /// One of its tasks, to be spawned anywhere.
    pub(crate) fn watch<F: Future<Output = ()>>(self: &Arc<Group>, task: F) -> Watched<F> {
        let watch = Arc::new(Watch { group: Arc::clone(self), state: AtomicU8::new(WOKEN), real: Mutex::default() });
        Watched { waker: Waker::from(Arc::clone(&watch)), watch, task: Box::pin(task) }
    }

    fn change(&self, change: impl FnOnce(&mut Count)) {
        let mut count = self.count.lock().expect("no holder of this lock panics");
        change(&mut count);
        let verdict = match *count {
            Count { unfinished: 0, .. } => Ok(()),
            Count { awake: 0, unfinished } => Err(format!("{unfinished} tasks sleep, and nobody is left to wake them")),
            Count { .. } => return,
        };
        drop(count);
        self.decide(verdict);
    }

    fn decide(&self, verdict: Verdict) {
        if let Some(sender) = self.verdict.lock().expect("no holder of this lock panics").take() {
            // Nobody listens any more when an earlier verdict ended the test.
            let _ = sender.send(verdict);
        }
    }
}

const ASLEEP: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

struct Watch {
    group: Arc<Group>,
    state: AtomicU8,
    real: Mutex<Option<Waker>>,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            self.group.change(|count| count.awake += 1);
        }
        let real = self.real.lock().expect("no holder of this lock panics").clone();
        if let Some(real) = real {
            real.wake();
        }
    }
}

/// A task of a [`Group`].
pub(crate) struct Watched<F> {
    watch: Arc<Watch>,
    waker: Waker,
    task: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        *this.watch.real.lock().expect("no holder of this lock panics") = Some(context.waker().clone());
        if this.watch.state.swap(POLLED, Ordering::SeqCst) == ASLEEP {
            // The real waker of an earlier wake-up came late, after the poll that it asked for.
            this.watch.group.change(|count| count.awake += 1);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| this.task.as_mut().poll(&mut Context::from_waker(&this.waker))));
        match polled {
            Ok(Poll::Pending) => {
                let asleep = this.watch.state.compare_exchange(POLLED, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
                if asleep.is_ok() {
                    this.watch.group.change(|count| count.awake -= 1);
                }
                Poll::Pending
            }
            Ok(Poll::Ready(())) => {
                // What wakes it from now on finds it awake, and changes no count.
                this.watch.state.store(WOKEN, Ordering::SeqCst);
                this.watch.group.change(|count| {
                    count.awake -= 1;
                    count.unfinished -= 1;
                });
                Poll::Ready(())
            }
            Err(_) => {
                this.watch.group.decide(Err("a task panicked; its message stands above".to_owned()));
                Poll::Ready(())
            }
        }
    }
}
