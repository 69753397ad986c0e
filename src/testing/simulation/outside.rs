//! The world outside of a simulated job: what models of outside systems stand on.

use std::fmt;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ids::{CheckpointId, Moment, RunNumber};

use super::history::History;
use super::story::Story;
use crate::fault::Random;
use crate::snapshot::published_checkpoint;
use crate::testing::disk::SimulatedDisk;

/// What an outside system has in a run: virtual time, chance from the seed, the story to write into, and the public facts about the job. It belongs to the run
/// and outlives every process in it. Clones are the same world.
///
/// One that no run made ([`Outside::detached`]) stands still at moment zero, for tests that move a connector by hand.
#[derive(Clone)]
pub struct Outside {
    inner: Arc<Inner>,
}

struct Inner {
    now: AtomicU64,
    seed: u64,
    random: Mutex<Random>,
    story: Arc<Mutex<Story>>,
    history: Mutex<History>,
    disk: SimulatedDisk,
    /// Where the job keeps its checkpoints, once a process has told.
    store: Mutex<Option<PathBuf>>,
}

impl Outside {
    /// A world without a run.
    #[must_use]
    pub fn detached(seed: u64) -> Outside {
        Outside::new(seed, Arc::default(), SimulatedDisk::new())
    }

    pub(super) fn new(seed: u64, story: Arc<Mutex<Story>>, disk: SimulatedDisk) -> Outside {
        Outside {
            inner: Arc::new(Inner {
                now: AtomicU64::new(0),
                seed,
                random: Mutex::new(Random::new(seed)),
                story,
                history: Mutex::default(),
                disk,
                store: Mutex::default(),
            }),
        }
    }

    /// The virtual time since the run began.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.inner.now.load(Ordering::Relaxed))
    }

    /// Moves the time of this world, for tests that move a connector by hand. In a run the simulation does it.
    pub fn set_now(&self, now: Moment) {
        self.inner.now.store(now.0, Ordering::Relaxed);
    }

    /// The number that chance in this world comes from. Another one for each seed of a run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// A number by chance.
    #[must_use]
    pub fn random(&self) -> u64 {
        lock(&self.inner.random).next()
    }

    /// Adds a line to the story of the run: `who` (the name of an outside system, or of a part of it) and what it did. What differs in two runs of one seed is
    /// reported, so nothing may be in it that is different each time: no address, no wall clock, no map in hash order.
    pub fn tell(&self, who: impl fmt::Display, what: impl fmt::Display) {
        lock(&self.inner.story).note(self.now(), who.to_string(), what.to_string());
    }

    /// What the job has told so far.
    pub fn history<A>(&self, look: impl FnOnce(&History) -> A) -> A {
        look(&lock(&self.inner.history))
    }

    /// Whether a checkpoint of this number or a later one is complete at this moment: announced, restored, or there as a published manifest.
    ///
    /// Ids run on when a job starts again, so a later checkpoint may belong to a later run, which does not know what an earlier one had prepared for this number. Who knows in which
    /// runs its writer lived asks [`Outside::is_covered_in`].
    #[must_use]
    pub fn is_covered(&self, checkpoint: CheckpointId) -> bool {
        self.is_covered_in(checkpoint, ..)
    }

    /// The same, by a checkpoint that was triggered in one of these runs: from the one in which a writer was built up to the one in which it was built again.
    #[must_use]
    pub fn is_covered_in(&self, checkpoint: CheckpointId, runs: impl RangeBounds<RunNumber>) -> bool {
        if lock(&self.inner.history).is_covered(checkpoint, &runs, self.now()) {
            return true;
        }
        // The outcome of the last write may be read back by the job itself, without a word to its listener.
        let store = lock(&self.inner.store).clone();
        let published = |path: &PathBuf| published_checkpoint(path.strip_prefix(store.as_ref()?).ok()?.to_str()?);
        let mut published = self.inner.disk.files().into_iter().filter_map(|path| published(&path));
        published.any(|(run, newer)| newer >= checkpoint && runs.contains(&run))
    }

    pub(in crate::testing) fn change_history(&self) -> MutexGuard<'_, History> {
        lock(&self.inner.history)
    }

    /// A process has built its job: where it keeps its checkpoints, and what its chains are called.
    pub(super) fn job_is(&self, store: Option<&Path>, chains: Vec<String>) {
        *lock(&self.inner.store) = store.map(Path::to_owned);
        lock(&self.inner.story).call(chains);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Outside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Outside({:?})", self.now())
    }
}
