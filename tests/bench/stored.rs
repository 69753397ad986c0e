//! What each completed checkpoint consists of, read from its manifest in the store: bytes written, taken over, folded, in flight.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use alluvium::CheckpointId;
use alluvium::ports::store::{Manifest, SubtaskSnapshot, parse_blob_name, parse_increment};

/// The folder of manifests in a store, and what stands in each of them before its body (`docs/formats.md`).
const MANIFESTS: &str = "manifests";
const MANIFEST_HEADER: usize = 28;

/// What a completed checkpoint consists of, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub checkpoint: CheckpointId,
    /// All pieces that are no increments: what a self-contained checkpoint would have to write.
    pub full: u64,
    /// What was written for this checkpoint.
    pub written: u64,
    /// What folding wrote in the background and this checkpoint is the first to name.
    pub folded: u64,
    /// The captured records that a barrier overtook.
    pub in_flight: u64,
}

/// Reads the manifest of every checkpoint that completes, on a thread of its own. One whose manifest is gone already (the next one has completed) is left out.
pub struct Manifests {
    completed: Sender<CheckpointId>,
    reader: JoinHandle<Vec<Stored>>,
}

impl Manifests {
    /// Of the store in this directory. The second half is for whoever hears of completed checkpoints.
    pub fn watch(store: &Path) -> (Manifests, Sender<CheckpointId>) {
        let (sender, receiver) = channel();
        let directory = store.join(MANIFESTS);
        let reader = std::thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || read(&directory, &receiver))
            .expect("a thread");
        (Manifests { completed: sender.clone(), reader }, sender)
    }

    /// What was read, in the order of completion. All other senders have to be gone.
    pub fn end(self) -> Vec<Stored> {
        drop(self.completed);
        self.reader.join().expect("the reader of manifests does not panic")
    }
}

fn read(directory: &Path, completed: &Receiver<CheckpointId>) -> Vec<Stored> {
    let (mut all, mut known) = (Vec::new(), BTreeSet::new());
    for checkpoint in completed {
        let Some(bytes) = manifest_of(directory, checkpoint).and_then(|file| std::fs::read(file).ok()) else {
            continue;
        };
        let body = bytes.get(MANIFEST_HEADER..).unwrap_or_default();
        let manifest: Manifest = rmp_serde::from_slice(body).expect("a manifest that the job has just written");
        let own = |name: &str| parse_blob_name(name).is_some_and(|parts| parts.checkpoint == checkpoint);
        let folded = manifest.blobs().filter(|blob| !own(&blob.name) && !known.contains(&blob.name));
        let folded = folded.map(|blob| blob.length).sum();
        let pieces = manifest.operators().flat_map(|operator| &operator.pieces);
        let full = pieces.filter(|piece| parse_increment(&piece.name).is_none());
        let in_flight = manifest.subtasks.iter().filter_map(|subtask| subtask.in_flight.as_ref());
        all.push(Stored {
            checkpoint,
            full: full.map(|piece| piece.content.bytes()).sum(),
            written: manifest.subtasks.iter().map(|subtask: &SubtaskSnapshot| subtask.written_bytes(checkpoint)).sum(),
            folded,
            in_flight: in_flight.map(|in_flight| in_flight.content.bytes()).sum(),
        });
        known = manifest.blobs().map(|blob| blob.name.clone()).collect();
    }
    all
}

fn manifest_of(directory: &Path, checkpoint: CheckpointId) -> Option<PathBuf> {
    let end = format!("-c{:020}", checkpoint.0);
    let mut entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    entries.find(|entry| entry.file_name().to_string_lossy().ends_with(&end)).map(|entry| entry.path())
}
