//! What version 1 of the formats wrote is read back, and today's writer still writes the same bytes.
//!
//! `version-1` is a store's directory as version 1 left it. It is never written again: a change of the writer needs a
//! new version and a directory of its own, and this one stays readable.

#![allow(clippy::unwrap_used, reason = "helpers of tests end the test, as tests do")]

mod job;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium::snapshot::{PieceReader, PieceWriter, StateReader, StateWriter, Store, StoreOptions};
use alluvium::storage::FileStorage;
use alluvium::storage::SystemFiles;
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber, SubtaskId, WallTime};
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::store::{
    COMMITTABLES, CheckpointKind, CheckpointStore, Manifest, OperatorShape, OperatorSnapshot, Piece, PieceContent,
    PublishOutcome, SubtaskSnapshot, blob_name,
};

const ROOT: &str = "/store";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/version-1")
}

fn options() -> StoreOptions {
    StoreOptions { inline_limit: 64, ..StoreOptions::new("flights of 2013", 0x0123_4567_89ab_cdef) }
}

fn fence() -> Fence {
    FenceSource::new().advance()
}

fn operator(uid: &str, subtask: u32, pieces: Vec<(&str, PieceContent)>) -> OperatorSnapshot {
    let piece = |(name, content): (&str, PieceContent)| Piece { name: name.to_owned(), content };
    OperatorSnapshot { uid: OperatorUid::new(uid), subtask, pieces: pieces.into_iter().map(piece).collect() }
}

fn inline(text: &str) -> PieceContent {
    PieceContent::Inline(text.as_bytes().to_vec())
}

/// Two states in three key groups.
fn write_state(store: &Arc<Store>, run: RunNumber, checkpoint: CheckpointId) -> PieceContent {
    let name = blob_name(run, checkpoint, &OperatorUid::new("total/delay"), 1, "keyed");
    let output = PieceWriter::new(store.clone(), fence(), name);
    let mut state = StateWriter::begin(output, &[b"first descriptor".to_vec(), b"second".to_vec()]).unwrap();
    state.chunk(1, 9, 1, b"second state, group 9").unwrap();
    state.chunk(0, 3, 2, b"first state, group 3").unwrap();
    state.chunk(0, 9, 300, &[0xa5; 150]).unwrap();
    state.finish().unwrap()
}

fn manifest(checkpoint: u64, kind: CheckpointKind, keyed: PieceContent) -> Manifest {
    let shape =
        |uid: &str, parallelism| OperatorShape { uid: OperatorUid::new(uid), parallelism, max_parallelism: 128 };
    let subtask = |node, index, finished, operators| SubtaskSnapshot {
        subtask: SubtaskId::new(node, index),
        finished,
        operators,
        in_flight: None,
    };
    Manifest {
        job: "flights of 2013".to_owned(),
        hash_seed: 0x0123_4567_89ab_cdef,
        run: RunNumber(1),
        checkpoint: CheckpointId(checkpoint),
        kind,
        triggered: WallTime(1_357_034_400_000),
        completed: WallTime(1_357_034_400_250),
        shapes: vec![shape("flights", 1), shape("total/delay", 2), shape("Zeilen ä", 2)],
        enumerators: vec![operator("flights", 0, vec![("enumerator", inline("one split"))])],
        subtasks: vec![
            subtask(0, 0, true, Vec::new()),
            subtask(1, 0, false, vec![operator("total/delay", 0, vec![("keyed", inline(""))])]),
            subtask(
                1,
                1,
                false,
                vec![
                    operator("total/delay", 1, vec![("keyed", keyed)]),
                    operator("Zeilen ä", 1, vec![(COMMITTABLES, inline("\u{0}\u{ff}part-7")), ("writer", inline("w"))]),
                ],
            ),
        ],
        chains: None,
        attributes: BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]),
    }
}

/// Writes the session that the fixture was made by, and returns its two checkpoints.
fn write_session(store: &Arc<Store>) -> [Manifest; 2] {
    let record = store.begin_run(&fence(), None, WallTime(1_357_034_390_000)).unwrap();
    let kinds = [(1, CheckpointKind::Periodic), (2, CheckpointKind::Stopping)];
    let written = kinds.map(|(id, kind)| {
        let written = manifest(id, kind, write_state(store, record.run, CheckpointId(id)));
        assert_eq!(store.publish(&fence(), &written), PublishOutcome::Done);
        written
    });
    let second = store.begin_run(&fence(), Some(CheckpointId(2)), WallTime(1_357_034_500_000)).unwrap();
    store.reserve_ids(&fence(), second.run, CheckpointId(40)).unwrap();
    written
}

fn files_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = BTreeSet::from([root.to_owned()]);
    while let Some(directory) = directories.pop_first() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.insert(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn copy_below(files: &BTreeMap<PathBuf, Vec<u8>>, root: &Path) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn today_s_writer_gives_the_bytes_of_version_1() {
    let disk = SimulatedDisk::new();
    let storage = FileStorage::open(Arc::new(disk.clone()), Path::new(ROOT)).unwrap();
    write_session(&Arc::new(Store::new(Arc::new(storage), None, options()).unwrap()));
    let read = |path: PathBuf| {
        let content = disk.content(&path).unwrap();
        (path.strip_prefix(ROOT).unwrap().to_owned(), content)
    };
    let written: BTreeMap<PathBuf, Vec<u8>> = disk.files().into_iter().map(read).collect();
    if written != files_below(&fixture()) {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("written-today");
        let _ = fs::remove_dir_all(&place);
        copy_below(&written, &place);
        panic!("the bytes differ from {}: see {}", fixture().display(), place.display());
    }
}

#[test]
fn a_store_of_version_1_is_read_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    copy_below(&files_below(&fixture()), directory.path());
    let disk = SimulatedDisk::new();
    let storage = FileStorage::open(Arc::new(disk), Path::new(ROOT)).unwrap();
    let expected = write_session(&Arc::new(Store::new(Arc::new(storage), None, options()).unwrap()));

    let store = Arc::new(
        Store::open_directory(Arc::new(SystemFiles::new()), directory.path(), StoreOptions::new("flights of 2013", 1))
            .unwrap(),
    );
    assert_eq!(store.hash_seed(), 0x0123_4567_89ab_cdef);
    let recovered = store.recover().unwrap().unwrap();
    assert_eq!(recovered, expected[1]);
    let kinds: Vec<CheckpointKind> = store.list().unwrap().iter().map(|summary| summary.kind).collect();
    assert_eq!(kinds, [CheckpointKind::Periodic, CheckpointKind::Stopping]);

    let handle = recovered.blobs().next().unwrap().clone();
    store.verify_blob(&handle).unwrap();
    let state = StateReader::open(PieceReader::new(store.clone(), &PieceContent::Blob(handle))).unwrap();
    assert_eq!(state.descriptors(), [b"first descriptor".to_vec(), b"second".to_vec()]);
    let chunks: Vec<_> = state
        .chunks()
        .iter()
        .map(|chunk| (chunk.key_group, chunk.state, chunk.count, state.read(chunk).unwrap()))
        .collect();
    let expected = [
        (3, 0, 2, b"first state, group 3".to_vec()),
        (9, 0, 300, vec![0xa5; 150]),
        (9, 1, 1, b"second state, group 9".to_vec()),
    ];
    assert_eq!(chunks, expected);

    let third = store.begin_run(&fence(), Some(CheckpointId(2)), WallTime(2)).unwrap();
    assert_eq!((third.run, third.first_checkpoint), (RunNumber(3), CheckpointId(40)));
}
