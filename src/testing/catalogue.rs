//! A catalogue in memory that loses what it is told to lose, or fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ports::catalogue::{Catalogue, CatalogueError, LARGEST_BATCH};

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    broken: bool,
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
        self.lock().entries.clear();
    }

    /// Forgets about half of the entries; `seed` decides which.
    pub fn lose_some(&self, seed: u64) {
        let mut random = super::random::Random::new(seed);
        self.lock().entries.retain(|_, _| random.below(2) == 0);
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
        self.working("put")?.entries.extend(entries.iter().cloned());
        Ok(())
    }

    fn remove(&self, keys: &[Vec<u8>]) -> Result<(), CatalogueError> {
        within_limit("remove", keys.len())?;
        let mut inner = self.working("remove")?;
        for key in keys {
            inner.entries.remove(key);
        }
        Ok(())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, CatalogueError> {
        let inner = self.working("scan")?;
        let from = inner.entries.range(prefix.to_vec()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}
