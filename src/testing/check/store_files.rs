//! No blob of the checkpoint store is lost, and none leaks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::listener::JobEvent;
use alluvium_actors::ports::store::{BlobHandle, CheckpointKind, Manifest};
use alluvium_actors::protocol::lifecycle::JobState;

use super::{Check, Scene, Verdict, Violation, few};
use crate::snapshot::{checkpoint_of_blob, stored_manifest};

/// The store on the simulated disk: while the job runs, every blob that a manifest names is there in its length, and those of an aborted checkpoint are gone
/// when a later one is complete, if nothing has failed since; no blob of a complete checkpoint stays for long that no manifest names any more; when the job has finished, one final checkpoint is left, and no
/// blob that it does not name.
#[derive(Debug, Default)]
pub struct StoreFiles {
    /// What the manifests that are there name, as far as they were read.
    read: Vec<(PathBuf, Manifest)>,
    /// How many processes and events of the job's history were read.
    heard: (usize, usize),
    /// The checkpoint that was triggered last.
    triggered: CheckpointId,
    /// Aborted checkpoints since anything failed, each with the newest that had been triggered. What a failure leaves behind, the next run removes.
    aborted: BTreeMap<CheckpointId, CheckpointId>,
    /// How many checkpoints were completed.
    completed: u64,
    /// Blobs that no manifest names, each with how many checkpoints were complete when it was first seen so.
    unnamed: BTreeMap<String, u64>,
}

/// A blob of a chain that was folded waits for the next complete checkpoint, and what is shared with a pending one for that. So many later ones are enough for anything.
const PATIENCE: u64 = 4;

impl StoreFiles {
    /// Of the job's own store.
    #[must_use]
    pub fn new() -> StoreFiles {
        StoreFiles::default()
    }

    /// Reads the manifests that are new, and forgets those that are gone. Answers the files that are there.
    fn read(&mut self, scene: &Scene<'_>) -> Result<BTreeSet<PathBuf>, Violation> {
        let Some(store) = scene.store else { return Ok(BTreeSet::new()) };
        let files: BTreeSet<PathBuf> =
            scene.world.disk.files().into_iter().filter(|path| path.starts_with(store)).collect();
        self.read.retain(|(path, _)| files.contains(path));
        for path in &files {
            if self.read.iter().any(|(known, _)| known == path) {
                continue;
            }
            let name = path.strip_prefix(store).ok().and_then(|name| name.to_str()).unwrap_or_default();
            let content = || scene.world.disk.content(path).unwrap_or_default();
            if let Some(manifest) = stored_manifest(name, content) {
                let manifest = manifest.map_err(|error| format!("a manifest cannot be read: {error}"))?;
                for blob in manifest.blobs() {
                    let length = scene.world.disk.content(&store.join(&blob.name)).map(|bytes| bytes.len() as u64);
                    if let Some(length) = length.filter(|length| *length != blob.length) {
                        return Err(is_lost(&manifest, blob, &format!("it has {length} bytes")));
                    }
                }
                self.read.push((path.clone(), manifest));
            }
        }
        Ok(files)
    }

    fn hear(&mut self, scene: &Scene<'_>) {
        let (processes, events) = (scene.history.processes().len(), scene.history.events());
        if processes > self.heard.0 || !scene.world.calm {
            self.aborted.clear();
            self.unnamed.clear();
        }
        for (_, event) in &events[self.heard.1..] {
            match event {
                JobEvent::Triggered { checkpoint, .. } => self.triggered = *checkpoint,
                JobEvent::Aborted { checkpoint, .. } if scene.world.calm => {
                    self.aborted.insert(*checkpoint, self.triggered);
                }
                JobEvent::Completed { .. } => self.completed += 1,
                JobEvent::Failed(_) | JobEvent::Restarting { .. } | JobEvent::RunBegan { .. } => {
                    self.aborted.clear();
                    self.unnamed.clear();
                }
                _ => {}
            }
        }
        self.heard = (processes, events.len());
    }

    /// A blob that should have been deleted with its aborted checkpoint: a checkpoint that began after the abort is complete, with a blob of the same writer. Whoever writes
    /// blobs deletes first what was aborted before.
    fn lingering(&self, store: &Path, files: &BTreeSet<PathBuf>) -> Result<(), Violation> {
        if self.aborted.is_empty() {
            return Ok(());
        }
        let named = || self.read.iter().flat_map(|(_, manifest)| manifest.blobs().map(|blob| blob.name.as_str()));
        let blobs = files.iter().filter_map(|path| path.strip_prefix(store).ok()?.to_str());
        for blob in blobs {
            let Some((checkpoint, writer)) = checkpoint_of_blob(blob) else { continue };
            let Some(newest) = self.aborted.get(&checkpoint).filter(|_| named().all(|named| named != blob)) else {
                continue;
            };
            let later = named().filter_map(checkpoint_of_blob).find(|(id, same)| id > newest && *same == writer);
            if let Some((later, _)) = later {
                return Err(Violation::new(format!(
                    "checkpoint {checkpoint} was aborted, the later one {later} is complete, nothing has failed since, and the blob {blob} is still there: \
                     the store fills up"
                )));
            }
        }
        Ok(())
    }
}

impl StoreFiles {
    /// A blob that no manifest names any more, and that is there all the same after several further checkpoints.
    fn orphaned(&mut self, store: &Path, files: &BTreeSet<PathBuf>) -> Result<(), Violation> {
        let named: BTreeSet<&str> =
            self.read.iter().flat_map(|(_, manifest)| manifest.blobs().map(|blob| blob.name.as_str())).collect();
        let newest = self.read.iter().map(|(_, manifest)| manifest.checkpoint).max().unwrap_or_default();
        let unnamed: BTreeSet<&str> = files
            .iter()
            .filter_map(|path| path.strip_prefix(store).ok()?.to_str())
            .filter(|name| !named.contains(name) && !name.ends_with(".tmp"))
            .filter(|name| checkpoint_of_blob(name).is_some_and(|(checkpoint, _)| checkpoint <= newest))
            .collect();
        self.unnamed.retain(|name, _| unnamed.contains(name.as_str()));
        for name in unnamed {
            let since = *self.unnamed.entry(name.to_owned()).or_insert(self.completed);
            if self.completed - since > PATIENCE {
                let later = self.completed - since;
                return Err(Violation::new(format!(
                    "no checkpoint names the blob {name}, {later} checkpoints were completed since that is so, nothing has failed meanwhile, and it is still there: the store fills up"
                )));
            }
        }
        Ok(())
    }
}

fn is_lost(manifest: &Manifest, blob: &BlobHandle, found: &str) -> Violation {
    let (checkpoint, name, length) = (manifest.checkpoint, &blob.name, blob.length);
    Violation::new(format!(
        "checkpoint {checkpoint} is complete and names the blob {name} of {length} bytes, and {found}: the state in it is lost"
    ))
}

impl Check for StoreFiles {
    fn rule(&self) -> &str {
        "no blob lost or leaked"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let Some(store) = scene.store else { return Ok(()) };
        let files = self.read(scene)?;
        for (_, manifest) in &self.read {
            if let Some(lost) = manifest.blobs().find(|blob| !files.contains(&store.join(&blob.name))) {
                return Err(is_lost(manifest, lost, "it is gone"));
            }
        }
        self.hear(scene);
        if scene.world.calm {
            self.orphaned(store, &files)?;
        }
        self.lingering(store, &files)
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.observe(scene)?;
        let Some(store) = scene.store.filter(|_| scene.world.state == JobState::Finished) else {
            return Ok(Verdict::Kept);
        };
        let files = self.read(scene)?;
        let left = |(_, manifest): &&(PathBuf, Manifest)| manifest.kind != CheckpointKind::Final;
        if let Some((path, _)) = self.read.iter().find(left) {
            return Ok(Verdict::LeftOver(format!(
                "the job has finished, and the checkpoint {} is left over",
                path.display()
            )));
        }
        if self.read.len() != 1 {
            let found = self.read.len();
            return Err(Violation::new(format!(
                "the job has finished, and its store has {found} final checkpoints instead of one"
            )));
        }
        let named: BTreeSet<PathBuf> =
            self.read.iter().flat_map(|(_, manifest)| manifest.blobs().map(|blob| store.join(&blob.name))).collect();
        let blobs = store.join("blobs");
        let leaked: Vec<String> = files
            .iter()
            .filter(|path| path.starts_with(&blobs) && !named.contains(*path))
            .map(|path| path.display().to_string())
            .collect();
        if leaked.is_empty() {
            return Ok(Verdict::Kept);
        }
        Ok(Verdict::LeftOver(format!("blobs that no checkpoint names are left over: {}", few(leaked))))
    }
}
