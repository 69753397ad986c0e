//! What checkpoints say of themselves is true: the record of each is held against the manifest that was stored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::history::{CheckpointRecord, PartRecord, RECORDED_PARTS};
use alluvium_actors::ports::store::{Manifest, PieceContent, SubtaskSnapshot};

use super::{Check, Scene, Verdict, Violation};
use crate::snapshot::stored_manifest;

/// The record of every checkpoint whose manifest can be seen tells its lengths, and what was in flight in it, as they are stored: all that it needs, and of that what
/// had to be written, which is what no earlier manifest names. Its parts add up, and their times follow each other within its duration.
#[derive(Debug, Default)]
pub struct CheckpointRecords {
    /// How many records and runs of the job's history were read.
    heard: (usize, usize),
    read: BTreeSet<PathBuf>,
    manifests: BTreeMap<CheckpointId, Manifest>,
    /// Every blob that a manifest names, with the first checkpoint that did.
    named: BTreeMap<String, CheckpointId>,
    compared: Compared,
}

/// How much was held against what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compared {
    /// Records of completed checkpoints whose manifests were seen.
    pub records: u64,
    /// Those with something in flight.
    pub in_flight: u64,
    /// Those that took blobs over from earlier ones.
    pub incremental: u64,
    /// Records of checkpoints that failed.
    pub failed: u64,
}

/// How many manifests are kept in mind: a record comes soon after its manifest.
const KEPT: usize = 8;

impl CheckpointRecords {
    /// Of the job's own store.
    #[must_use]
    pub fn new() -> CheckpointRecords {
        CheckpointRecords::default()
    }

    /// How much was compared so far.
    #[must_use]
    pub fn compared(&self) -> Compared {
        self.compared
    }

    /// Reads the manifests that are new. Before the first record that one of them could be the base of: a run begins with a manifest that was perhaps never told of.
    fn read(&mut self, store: &Path, scene: &Scene<'_>) -> Result<(), Violation> {
        for path in scene.world.disk.files().into_iter().filter(|path| path.starts_with(store)) {
            let name = path.strip_prefix(store).ok().and_then(Path::to_str).unwrap_or_default();
            let content = || scene.world.disk.content(&path).unwrap_or_default();
            if self.read.contains(&path) {
                continue;
            }
            let Some(manifest) = stored_manifest(name, content) else { continue };
            let manifest = manifest.map_err(|error| format!("a manifest cannot be read: {error}"))?;
            self.read.insert(path);
            for blob in manifest.blobs() {
                let first = self.named.entry(blob.name.clone()).or_insert(manifest.checkpoint);
                *first = (*first).min(manifest.checkpoint);
            }
            self.manifests.insert(manifest.checkpoint, manifest);
            while self.manifests.len() > KEPT {
                self.manifests.pop_first();
            }
        }
        Ok(())
    }

    /// How much of what a manifest names had to be written for it.
    fn written(&self, content: &PieceContent, checkpoint: CheckpointId) -> u64 {
        let is_new = |name: &String| self.named.get(name) == Some(&checkpoint) && !is_fold(name);
        if content.blob().is_none_or(|blob| is_new(&blob.name)) { content.bytes() } else { 0 }
    }

    fn compare(&mut self, record: &CheckpointRecord) -> Result<(), String> {
        times(record)?;
        if !record.story.contains(&format!("checkpoint {}", record.checkpoint)) {
            return Err(format!("its story is `{}`", record.story));
        }
        if record.failure.is_some() {
            self.compared.failed += 1;
            return Ok(());
        }
        // A store that is not on the disk, or a manifest that went with a crash before it was seen.
        let Some(manifest) = self.manifests.get(&record.checkpoint) else { return Ok(()) };
        let in_flight = |snapshot: &SubtaskSnapshot| {
            snapshot.in_flight.as_ref().map_or((0, 0), |found| (found.records, found.content.bytes()))
        };
        let contents = || {
            let pieces = manifest.operators().flat_map(|operator| &operator.pieces).map(|piece| &piece.content);
            pieces.chain(manifest.subtasks.iter().filter_map(|subtask| Some(&subtask.in_flight.as_ref()?.content)))
        };
        let stored = (
            contents().map(PieceContent::bytes).sum::<u64>(),
            contents().map(|content| self.written(content, manifest.checkpoint)).sum::<u64>(),
            manifest.subtasks.iter().map(|subtask| in_flight(subtask).0).sum::<u64>(),
            manifest.subtasks.iter().map(|subtask| in_flight(subtask).1).sum::<u64>(),
        );
        let told = (record.bytes, record.written_bytes, record.in_flight_records, record.in_flight_bytes);
        if told != stored {
            return Err(format!(
                "it says of its bytes, written bytes, records in flight and their bytes that they are {told:?}, and stored are {stored:?}"
            ));
        }
        if record.acknowledged != record.subtasks || record.acknowledged != manifest.subtasks.len() {
            let (acknowledged, subtasks, parts) = (record.acknowledged, record.subtasks, manifest.subtasks.len());
            return Err(format!(
                "{acknowledged} of {subtasks} subtasks acknowledged it, and it has the parts of {parts}"
            ));
        }
        parts(record)?;
        self.compared.records += 1;
        self.compared.in_flight += u64::from(record.in_flight_records > 0);
        self.compared.incremental += u64::from(record.written_bytes < record.bytes);
        Ok(())
    }
}

/// What folding made in the background was written for no checkpoint.
fn is_fold(name: &str) -> bool {
    name.contains("%2Dfold%2D")
}

/// The parts of a completed checkpoint add up, as far as all are there.
fn parts(record: &CheckpointRecord) -> Result<(), String> {
    let sum = |of: fn(&PartRecord) -> u64| record.parts.iter().map(of).sum::<u64>();
    if record.parts.len() < RECORDED_PARTS {
        let in_flight = (sum(|part| part.in_flight_records), sum(|part| part.in_flight_bytes));
        if in_flight != (record.in_flight_records, record.in_flight_bytes) {
            return Err(format!("its parts have {in_flight:?} records and bytes in flight"));
        }
        // The enumerators have no part of their own, and write all they have each time.
        let enumerators = record.bytes.checked_sub(sum(|part| part.bytes));
        if enumerators.is_none() || enumerators != record.written_bytes.checked_sub(sum(|part| part.written_bytes)) {
            return Err("its parts do not add up to its lengths".to_owned());
        }
    }
    match record.parts.iter().find(|part| part.in_flight_records > 0 && !part.unaligned) {
        Some(part) => Err(format!("`{}` has records in flight and is aligned", part.subtask)),
        None => Ok(()),
    }
}

/// The times of each part follow each other, up to the acknowledgement, which came before the end.
fn times(record: &CheckpointRecord) -> Result<(), String> {
    for part in &record.parts {
        let cut = part.start_delay + part.alignment;
        let acknowledged = cut + part.synchronous + part.asynchronous;
        let follow = part.notice_delay <= cut
            && part.collecting <= part.asynchronous
            && acknowledged <= part.acknowledged
            && part.acknowledged <= record.duration
            && (part.unaligned || part.collecting == Duration::ZERO);
        if !follow {
            return Err(format!("its times do not follow each other: {part:?} of {:?}", record.duration));
        }
    }
    Ok(())
}

impl Check for CheckpointRecords {
    fn rule(&self) -> &str {
        "what checkpoints say of themselves is true"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let (records, runs) = (scene.history.records(), scene.history.runs().len());
        if (records.len(), runs) == self.heard {
            return Ok(());
        }
        if let Some(store) = scene.store {
            self.read(store, scene)?;
        }
        for record in &records[self.heard.0..] {
            let checkpoint = record.checkpoint;
            self.compare(record).map_err(|wrong| format!("checkpoint {checkpoint} tells something wrong: {wrong}"))?;
        }
        self.heard = (records.len(), runs);
        Ok(())
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.observe(scene)?;
        Ok(Verdict::Kept)
    }
}
