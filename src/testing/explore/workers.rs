//! Runs on several threads: each run has one to itself, so what it does depends on its seed alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use alluvium_actors::protocol::mutation;

use super::Play;
use super::enumerate::{Spots, spots};
use super::report::ExplorationReport;
use crate::fault::Point;
use crate::testing::simulation::{Report, Simulation, Trouble};

/// Of the runs that come past a point which the run without faults does not come past, so many are remembered.
const LEADS: usize = 2;

/// Runs that come past a point, by their position in their stage, with where they came past.
pub(super) type Leads = BTreeMap<Point, BTreeMap<usize, Spots>>;

/// What several runs came to.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) report: ExplorationReport,
    pub(super) made: u64,
    /// The failing runs, by their position.
    pub(super) troubles: BTreeMap<usize, Trouble>,
    pub(super) leads: Leads,
    pub(super) is_out_of_time: bool,
}

/// How a stage is run.
pub(super) struct Crew<'a> {
    pub(super) play: &'a Play<'a>,
    pub(super) threads: usize,
    /// When the time is over.
    pub(super) deadline: Option<Instant>,
    /// After so many failing runs no other one begins.
    pub(super) most_failures: usize,
    /// Told of every run: how many were made, of how many, and what is wrong with it.
    pub(super) told: &'a (dyn Fn(u64, u64, Option<&Trouble>) + Sync),
    /// The points of which it is of no interest who comes past them.
    pub(super) known: &'a BTreeMap<Point, u64>,
}

impl Crew<'_> {
    /// Makes these runs, in their order; several at a time.
    pub(super) fn make(&self, simulations: &[Simulation]) -> Gathered {
        let next = AtomicUsize::new(0);
        let gathered = Mutex::new(Gathered::default());
        // A rule that is broken on this thread is broken on those of the crew too.
        let broken = mutation::current();
        let work = || mutation::during(broken, || self.work(simulations, &next, &gathered));
        let threads = self.threads.min(simulations.len());
        if threads <= 1 {
            work();
        } else {
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(work);
                }
            });
        }
        gathered.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the crew: takes the next run, as long as there is one.
    fn work(&self, simulations: &[Simulation], next: &AtomicUsize, gathered: &Mutex<Gathered>) {
        while lock(gathered).troubles.len() < self.most_failures {
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                lock(gathered).is_out_of_time = next.load(Ordering::Relaxed) < simulations.len();
                return;
            }
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(simulation) = simulations.get(position) else { return };
            let played = (self.play)(simulation);
            let mut gathered = lock(gathered);
            gathered.made += 1;
            (self.told)(gathered.made, simulations.len() as u64, played.as_ref().err());
            match played {
                Ok(report) => gathered.add(position, &report, self.known),
                Err(trouble) => drop(gathered.troubles.insert(position, trouble)),
            }
        }
    }
}

impl Gathered {
    fn add(&mut self, position: usize, report: &Report, known: &BTreeMap<Point, u64>) {
        self.report.add(report);
        for point in report.reached.keys().filter(|point| !known.contains_key(point)) {
            // The first ones by position, whichever thread was faster.
            let leads = self.leads.entry(*point).or_default();
            leads.insert(position, spots(&report.places));
            if leads.len() > LEADS {
                leads.pop_last();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
