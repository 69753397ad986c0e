//! The history of checkpoints in the catalogue: records of those that ended, which survive the process. Losing some, or all, loses nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_actors::ports::catalogue::{Catalogue, CatalogueError, LARGEST_BATCH};
use alluvium_actors::ports::history::CheckpointRecord;

use super::objects::{decode_record, encode_record};

const PREFIX: &[u8] = b"history/";

/// In the order of their ids, which ascend over all runs. The clock may be set back, and the oldest go first.
fn key(record: &CheckpointRecord) -> Vec<u8> {
    [PREFIX, format!("c{:020}-t{:020}", record.checkpoint.0, record.triggered.0).as_bytes()].concat()
}

/// The records; without a catalogue none are kept.
pub(crate) struct History {
    catalogue: Option<Arc<dyn Catalogue>>,
    /// The keys in the catalogue, once they were looked for.
    keys: Mutex<Option<BTreeSet<Vec<u8>>>>,
}

impl History {
    pub(crate) fn new(catalogue: Option<Arc<dyn Catalogue>>) -> History {
        History { catalogue, keys: Mutex::default() }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.catalogue.is_some()
    }

    /// The records that are there and readable, oldest first.
    pub(crate) fn all(&self) -> Vec<CheckpointRecord> {
        let found = self.asked(|catalogue| catalogue.scan(PREFIX)).unwrap_or_default();
        let records = found.iter().filter_map(|(stored, value)| {
            let record = decode_record(value)?;
            (key(&record) == *stored).then_some(record)
        });
        records.collect()
    }

    /// Adds a record, and removes the oldest beyond `limit`.
    pub(crate) fn add(&self, record: &CheckpointRecord, limit: usize) {
        let Ok(value) = encode_record(record) else { return };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_none() {
            let found = self.asked(|catalogue| catalogue.scan(PREFIX));
            *keys = found.map(|found| found.into_iter().map(|(key, _)| key).collect());
        }
        // What cannot be read now is looked for at the next one.
        let Some(keys) = keys.as_mut() else { return };
        let key = key(record);
        if self.asked(|catalogue| catalogue.put(&[(key.clone(), value.clone())])).is_none() {
            return;
        }
        keys.insert(key);
        let surplus: Vec<Vec<u8>> = keys.iter().take(keys.len().saturating_sub(limit)).cloned().collect();
        for part in surplus.chunks(LARGEST_BATCH) {
            if self.asked(|catalogue| catalogue.remove(part)).is_some() {
                part.iter().for_each(|removed| {
                    keys.remove(removed);
                });
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        *keys = None;
        let found = self.asked(|catalogue| catalogue.scan(PREFIX)).unwrap_or_default();
        let found: Vec<Vec<u8>> = found.into_iter().map(|(key, _)| key).collect();
        for part in found.chunks(LARGEST_BATCH) {
            self.asked(|catalogue| catalogue.remove(part));
        }
    }

    /// Asks the catalogue; a failure costs history, not state, so it is only told.
    fn asked<T>(&self, ask: impl FnOnce(&dyn Catalogue) -> Result<T, CatalogueError>) -> Option<T> {
        match ask(&**self.catalogue.as_ref()?) {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%error, "the history of checkpoints has a gap");
                None
            }
        }
    }
}
