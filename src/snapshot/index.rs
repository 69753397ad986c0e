//! The catalogue as an index of completed checkpoints. It may lag or be empty; whatever disagrees with the manifests
//! is dropped and made again from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::catalogue::{Catalogue, CatalogueError, LARGEST_BATCH};
use alluvium_actors::ports::store::{CheckpointSummary, Manifest};

use super::objects::{decode_summary, encode_summary};

const PREFIX: &[u8] = b"checkpoint/";

fn key(run: RunNumber, checkpoint: CheckpointId) -> Vec<u8> {
    [PREFIX, format!("r{:010}-c{:020}", run.0, checkpoint.0).as_bytes()].concat()
}

/// What can be said of a checkpoint in short.
pub(crate) fn summary(manifest: &Manifest, manifest_bytes: u64) -> CheckpointSummary {
    CheckpointSummary {
        run: manifest.run,
        checkpoint: manifest.checkpoint,
        kind: manifest.kind,
        triggered: manifest.triggered,
        completed: manifest.completed,
        manifest_bytes,
        blob_bytes: manifest.blobs().map(|blob| blob.length).sum(),
        has_committables: manifest.has_committables(),
        abandoned: false,
    }
}

/// The index; without a catalogue it knows nothing.
pub(crate) struct Index {
    catalogue: Option<Arc<dyn Catalogue>>,
}

impl Index {
    pub(crate) fn new(catalogue: Option<Arc<dyn Catalogue>>) -> Index {
        Index { catalogue }
    }

    /// Everything that the catalogue knows.
    pub(crate) fn all(&self) -> BTreeMap<(RunNumber, CheckpointId), CheckpointSummary> {
        let found = self.asked(|catalogue| catalogue.scan(PREFIX)).unwrap_or_default();
        let readable = found.iter().filter_map(|(stored, value)| {
            let summary = decode_summary(value)?;
            let named = (summary.run, summary.checkpoint);
            (key(named.0, named.1) == *stored).then_some((named, summary))
        });
        readable.collect()
    }

    pub(crate) fn put(&self, summaries: &[CheckpointSummary]) {
        for part in summaries.chunks(LARGEST_BATCH) {
            let encoded = part
                .iter()
                .filter_map(|summary| Some((key(summary.run, summary.checkpoint), encode_summary(summary).ok()?)));
            let entries: Vec<(Vec<u8>, Vec<u8>)> = encoded.collect();
            self.asked(|catalogue| catalogue.put(&entries));
        }
    }

    pub(crate) fn remove(&self, checkpoints: &[(RunNumber, CheckpointId)]) {
        for part in checkpoints.chunks(LARGEST_BATCH) {
            let keys: Vec<Vec<u8>> = part.iter().map(|(run, checkpoint)| key(*run, *checkpoint)).collect();
            self.asked(|catalogue| catalogue.remove(&keys));
        }
    }

    /// Asks the catalogue; a failure costs time, not state, so it is only told.
    fn asked<T>(&self, ask: impl FnOnce(&dyn Catalogue) -> Result<T, CatalogueError>) -> Option<T> {
        match ask(&**self.catalogue.as_ref()?) {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%error, "going on without the catalogue, from the manifests alone");
                None
            }
        }
    }
}
