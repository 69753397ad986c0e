//! What runs beside the job in the same process: the rest of the program that the job is embedded in.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use crate::fault::Random;

/// A part of the program, as a future. It ends with the process, wherever it is.
pub(super) struct Program {
    name: String,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Program {
    pub(super) fn new(name: &str, future: impl Future<Output = ()> + 'static) -> Program {
        Program { name: name.to_owned(), future: Box::pin(future) }
    }
}

/// The programs of a process.
#[derive(Default)]
pub(super) struct Programs(Vec<Running>);

struct Running {
    name: String,
    /// Until it is ready.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    /// How often it is chosen, compared to actors.
    speed: u64,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Woken>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Programs {
    pub(super) fn start(programs: Vec<Program>, random: &mut Random) -> Programs {
        let running = programs.into_iter().map(|Program { name, future }| Running {
            name,
            future: Some(future),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            speed: [1, 4, 16, 64][random.below(4) as usize],
        });
        Programs(running.collect())
    }

    /// Those that were woken, each with its speed.
    pub(super) fn ready(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        let running = self.0.iter().enumerate().filter(|(_, running)| running.future.is_some());
        running
            .filter(|(_, running)| running.woken.0.load(Ordering::Relaxed))
            .map(|(index, program)| (program.speed, index))
    }

    /// Polls one of them. Answers its name, and whether it has ended.
    pub(super) fn poll(&mut self, index: usize) -> (String, bool) {
        let running = &mut self.0[index];
        running.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&running.woken));
        let polled = running.future.as_mut().map(|future| future.as_mut().poll(&mut Context::from_waker(&waker)));
        let ended = polled.is_none_or(|polled| polled.is_ready());
        if ended {
            running.future = None;
        }
        (running.name.clone(), ended)
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|running| &running.name)).finish()
    }
}
