//! A store on a simulated disk, and checkpoints to put into it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium::snapshot::{Store, StoreOptions};
use alluvium::storage::FileStorage;
use alluvium::testing::catalogue::SimulatedCatalogue;
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber, SubtaskId, WallTime};
use alluvium_actors::ports::catalogue::Catalogue;
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::store::{
    BlobHandle, COMMITTABLES, CheckpointKind, CheckpointStore, Manifest, OperatorShape, OperatorSnapshot, Piece,
    PieceContent, PublishOutcome, RunRecord, StoreError, SubtaskSnapshot, blob_name,
};

pub(crate) const ROOT: &str = "/var/store";
pub(crate) const SEED: u64 = 0x5eed;

pub(crate) fn options() -> StoreOptions {
    StoreOptions::new("flights", SEED)
}

pub(crate) fn open_with(
    disk: &SimulatedDisk,
    catalogue: Option<&SimulatedCatalogue>,
    options: StoreOptions,
) -> Result<Store, StoreError> {
    let storage = FileStorage::open(Arc::new(disk.clone()), Path::new(ROOT))?;
    let catalogue = catalogue.map(|catalogue| Arc::new(catalogue.clone()) as Arc<dyn Catalogue>);
    Store::new(Arc::new(storage), catalogue, options)
}

pub(crate) fn open(disk: &SimulatedDisk) -> Store {
    open_with(disk, None, options()).unwrap()
}

pub(crate) fn fence() -> Fence {
    FenceSource::new().advance()
}

pub(crate) fn begin(store: &Store, restored_from: Option<u64>) -> RunRecord {
    store.begin_run(&fence(), restored_from.map(CheckpointId), WallTime(1)).unwrap()
}

pub(crate) fn blob(
    store: &dyn CheckpointStore,
    fence: &Fence,
    run: RunNumber,
    checkpoint: CheckpointId,
    content: &[u8],
) -> Result<BlobHandle, StoreError> {
    let name = blob_name(run, checkpoint, &OperatorUid::new("total-delay"), 0, "keyed");
    let mut writer = store.create_blob(fence, &name)?;
    for part in content.chunks(700) {
        writer.write(part)?;
    }
    writer.finish()
}

pub(crate) fn content(checkpoint: u64) -> Vec<u8> {
    (0..1500).map(|position| (position * 7 + checkpoint * 13) as u8).collect()
}

pub(crate) fn manifest(
    run: RunNumber,
    checkpoint: CheckpointId,
    keyed: Option<BlobHandle>,
    committables: bool,
) -> Manifest {
    let piece = |name: &str, content| Piece { name: name.to_owned(), content };
    let inline = |text: String| PieceContent::Inline(text.into_bytes());
    let operator = |uid: &str, pieces| OperatorSnapshot { uid: OperatorUid::new(uid), subtask: 0, pieces };
    let mut operators = vec![operator("flights", vec![piece("reader", inline(format!("offset of {checkpoint}")))])];
    operators.extend(keyed.map(|handle| operator("total-delay", vec![piece("keyed", PieceContent::Blob(handle))])));
    if committables {
        operators.push(operator("lines", vec![piece(COMMITTABLES, inline("out/part-0".to_owned()))]));
    }
    let shape = |uid: &str| OperatorShape { uid: OperatorUid::new(uid), parallelism: 1, max_parallelism: 128 };
    Manifest {
        job: "flights".to_owned(),
        hash_seed: SEED,
        run,
        checkpoint,
        kind: CheckpointKind::Periodic,
        triggered: WallTime(1_000),
        completed: WallTime(1_007),
        shapes: vec![shape("flights"), shape("total-delay"), shape("lines")],
        enumerators: vec![operator("flights", vec![piece("enumerator", inline("three splits".to_owned()))])],
        subtasks: vec![SubtaskSnapshot { subtask: SubtaskId::new(0, 0), finished: false, operators, in_flight: None }],
        chains: None,
        attributes: BTreeMap::from([("note".to_owned(), "plain".to_owned())]),
    }
}

/// Writes a blob and publishes a checkpoint that names it.
pub(crate) fn checkpoint(store: &Store, run: RunNumber, number: u64, committables: bool) -> Manifest {
    let number = CheckpointId(number);
    let keyed = blob(store, &fence(), run, number, &content(number.0)).unwrap();
    let manifest = manifest(run, number, Some(keyed), committables);
    assert_eq!(store.publish(&fence(), &manifest), PublishOutcome::Done);
    manifest
}

/// A store whose run 1 has completed checkpoints 1 to `count`; closed again.
pub(crate) fn filled(count: u64, committables: bool) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let run = begin(&store, None).run;
    for number in 1..=count {
        checkpoint(&store, run, number, committables);
    }
    drop(store);
    disk
}

pub(crate) fn manifest_file(run: u64, checkpoint: u64) -> PathBuf {
    Path::new(ROOT).join(format!("manifests/r{run:010}-c{checkpoint:020}"))
}

pub(crate) fn recovered(store: &Store) -> Option<u64> {
    store.recover().unwrap().map(|manifest| manifest.checkpoint.0)
}

pub(crate) fn listed(store: &Store) -> Vec<u64> {
    store.list().unwrap().iter().filter(|summary| !summary.abandoned).map(|summary| summary.checkpoint.0).collect()
}
