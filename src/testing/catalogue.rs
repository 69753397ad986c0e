//! A catalogue in memory that loses what it is told to lose, fails, or is slow.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_actors::ports::catalogue::{Catalogue, CatalogueError, LARGEST_BATCH};

use super::disk::SimulatedDisk;
use crate::fault::Random;

/// How many of the latest changes can be lost.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What each of the latest changes replaced; the last one at the end.
    replaced: VecDeque<(Vec<u8>, Option<Vec<u8>>)>,
    broken: bool,
    /// How long each call takes, and the disk on which that time passes.
    slow: Option<(Duration, SimulatedDisk)>,
}

impl Inner {
    fn change(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        let before = match value {
            Some(value) => self.entries.insert(key.to_vec(), value),
            None => self.entries.remove(key),
        };
        if self.replaced.len() == REMEMBERED {
            self.replaced.pop_front();
        }
        self.replaced.push_back((key.to_vec(), before));
    }
}

/// In which state a catalogue is found by the process that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CatalogueFate {
    /// As it was left.
    Kept,
    /// Without its latest changes: what was removed is there again, and what was replaced has its earlier value.
    Earlier,
    /// Without some of its entries.
    PartlyLost,
    /// It opens and holds nothing.
    Empty,
    /// Every call fails.
    Broken,
}

impl CatalogueFate {
    /// All of them.
    pub const ALL: &[CatalogueFate] = &[
        CatalogueFate::Kept,
        CatalogueFate::Earlier,
        CatalogueFate::PartlyLost,
        CatalogueFate::Empty,
        CatalogueFate::Broken,
    ];

    /// Its name in texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CatalogueFate::Kept => "kept",
            CatalogueFate::Earlier => "earlier",
            CatalogueFate::PartlyLost => "partly-lost",
            CatalogueFate::Empty => "empty",
            CatalogueFate::Broken => "broken",
        }
    }
}

impl fmt::Display for CatalogueFate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A catalogue for tests. Clones share their content, so one clone may lose what another one wrote.
#[derive(Clone, Debug, Default)]
pub struct SimulatedCatalogue {
    inner: Arc<Mutex<Inner>>,
}

impl SimulatedCatalogue {
    /// An empty catalogue.
    #[must_use]
    pub fn new() -> SimulatedCatalogue {
        SimulatedCatalogue::default()
    }

    /// Forgets everything, as a catalogue whose directory was deleted.
    pub fn lose_everything(&self) {
        let mut inner = self.lock();
        inner.entries.clear();
        inner.replaced.clear();
    }

    /// Forgets about half of the entries; `seed` decides which.
    pub fn lose_some(&self, seed: u64) {
        let mut random = Random::new(seed);
        self.lock().entries.retain(|_, _| random.below(2) == 0);
    }

    /// Takes back the latest `count` changes of entries, of which it remembers 256: as a log that lost its end.
    pub fn lose_latest(&self, count: usize) {
        let mut inner = self.lock();
        for _ in 0..count {
            let Some((key, before)) = inner.replaced.pop_back() else { break };
            match before {
                Some(value) => inner.entries.insert(key, value),
                None => inner.entries.remove(&key),
            };
        }
    }

    /// What a process finds that opens it after the end of another one. `seed` decides what is lost. A catalogue that was broken works again, unless that is its
    /// fate.
    pub fn open_again(&self, fate: CatalogueFate, seed: u64) {
        self.set_broken(fate == CatalogueFate::Broken);
        match fate {
            CatalogueFate::Kept | CatalogueFate::Broken => {}
            CatalogueFate::Earlier => {
                let changes = self.lock().replaced.len() as u64;
                self.lose_latest(1 + Random::new(seed).below(changes) as usize);
            }
            CatalogueFate::PartlyLost => self.lose_some(seed),
            CatalogueFate::Empty => self.lose_everything(),
        }
    }

    /// Lets every later call take so long, in a simulation on this disk; see [`SimulatedDisk::spend`]. No time makes it fast again.
    pub fn set_slow(&self, each: Duration, disk: &SimulatedDisk) {
        self.lock().slow = (each > Duration::ZERO).then(|| (each, disk.clone()));
    }

    /// Makes every later call fail, or work again.
    pub fn set_broken(&self, broken: bool) {
        self.lock().broken = broken;
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self, operation: &'static str) -> Result<MutexGuard<'_, Inner>, CatalogueError> {
        let inner = self.lock();
        if let Some((each, disk)) = &inner.slow {
            disk.spend(*each);
        }
        if inner.broken {
            return Err(CatalogueError { operation, reason: "it was told to fail".to_owned() });
        }
        Ok(inner)
    }
}

fn within_limit(operation: &'static str, count: usize) -> Result<(), CatalogueError> {
    if count <= LARGEST_BATCH {
        return Ok(());
    }
    Err(CatalogueError { operation, reason: format!("{count} entries at once are more than {LARGEST_BATCH}") })
}

impl Catalogue for SimulatedCatalogue {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        Ok(self.working("get")?.entries.get(key).cloned())
    }

    fn put(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), CatalogueError> {
        within_limit("put", entries.len())?;
        let mut inner = self.working("put")?;
        for (key, value) in entries {
            inner.change(key, Some(value.clone()));
        }
        Ok(())
    }

    fn remove(&self, keys: &[Vec<u8>]) -> Result<(), CatalogueError> {
        within_limit("remove", keys.len())?;
        let mut inner = self.working("remove")?;
        for key in keys {
            if inner.entries.contains_key(key) {
                inner.change(key, None);
            }
        }
        Ok(())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, CatalogueError> {
        let inner = self.working("scan")?;
        let from = inner.entries.range(prefix.to_vec()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}
