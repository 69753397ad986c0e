//! Pieces and the format of state: what was written is read back, in parts too, and damage is always found.

use std::sync::Arc;

use alluvium::snapshot::{
    ChunkInfo, ChunkKind, PieceReader, PieceWriter, StateReader, StateWriter, Store, StoreOptions,
};
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber};
use alluvium_actors::ports::store::{CheckpointStore, PieceContent, StoreError, blob_name};

use crate::common::{begin, fence, open_with, options};

fn store_with_limit(inline_limit: usize) -> (SimulatedDisk, Arc<Store>, RunNumber) {
    let disk = SimulatedDisk::new();
    let store = open_with(&disk, None, StoreOptions { inline_limit, ..options() }).unwrap();
    let run = begin(&store, None).run;
    (disk, Arc::new(store), run)
}

fn writer(store: &Arc<Store>, run: RunNumber, checkpoint: u64) -> PieceWriter {
    let name = blob_name(run, CheckpointId(checkpoint), &OperatorUid::new("total"), 1, "keyed");
    PieceWriter::new(store.clone(), fence(), name)
}

/// Three states, four key groups, two chunks in one of them.
fn write_state(output: PieceWriter) -> PieceContent {
    let descriptors = [b"value".to_vec(), Vec::new(), vec![9; 300]];
    let mut state = StateWriter::begin(output, &descriptors).unwrap();
    state.chunk(2, 7, 3, b"late group first").unwrap();
    state.chunk(0, 1, 2, b"early group").unwrap();
    state.chunk(0, 7, 1, &[5; 1000]).unwrap();
    state.chunk(0, 1, 4, b"early group again").unwrap();
    state.chunk(1, 300, 0, b"").unwrap();
    assert!(matches!(state.chunk(3, 0, 0, b""), Err(StoreError::Refused { .. })));
    state.finish().unwrap()
}

#[test]
fn a_piece_below_the_limit_is_inline_and_one_at_the_limit_is_a_blob() {
    let (disk, store, run) = store_with_limit(100);
    for (length, is_inline) in [(0, true), (99, true), (100, false), (5000, false)] {
        let mut piece = writer(&store, run, length);
        let content: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
        content.chunks(33).for_each(|part| piece.write(part).unwrap());
        let written = piece.finish().unwrap();
        assert_eq!(matches!(written, PieceContent::Inline(_)), is_inline, "{length} bytes");
        let reader = PieceReader::new(store.clone(), &written);
        assert_eq!(reader.read_all().unwrap(), content);
        assert!(reader.read(length, 1).is_err());
        assert!(reader.read(u64::MAX, usize::MAX).is_err());
    }
    assert_eq!(disk.files().iter().filter(|path| path.to_string_lossy().contains("blobs/")).count(), 2);
}

#[test]
fn a_piece_that_is_dropped_leaves_no_file() {
    let (disk, store, run) = store_with_limit(0);
    let files = disk.files().len();
    let mut piece = writer(&store, run, 1);
    piece.write(&[1; 600_000]).unwrap();
    drop(piece);
    assert_eq!(disk.files().len(), files);
}

#[test]
fn state_is_read_back_by_key_group_from_a_blob_and_inline_alike() {
    for limit in [0, 100_000] {
        let (_disk, store, run) = store_with_limit(limit);
        let content = write_state(writer(&store, run, 1));
        assert_eq!(matches!(content, PieceContent::Inline(_)), limit > 0);
        let state = StateReader::open(PieceReader::new(store.clone(), &content)).unwrap();
        assert_eq!(state.descriptors(), [b"value".to_vec(), Vec::new(), vec![9; 300]]);
        let found: Vec<(u32, u32, u32, Vec<u8>)> = state
            .chunks()
            .iter()
            .map(|chunk| (chunk.key_group, chunk.state, chunk.count, state.read(chunk).unwrap()))
            .collect();
        let expected = [
            (1, 0, 2, b"early group".to_vec()),
            (1, 0, 4, b"early group again".to_vec()),
            (7, 0, 1, vec![5; 1000]),
            (7, 2, 3, b"late group first".to_vec()),
            (300, 1, 0, Vec::new()),
        ];
        assert_eq!(found, expected);
        assert_eq!(state.chunks_of(2..8).len(), 2);
        assert_eq!(state.chunks_of(0..2).len(), 2);
        assert_eq!(state.chunks_of(8..300).len(), 0);
        assert_eq!(state.chunks_of(5..5).len(), 0);
    }
}

#[test]
fn chunks_that_are_read_together_come_in_the_order_in_which_they_were_asked_for() {
    let (_disk, store, run) = store_with_limit(0);
    let mut state = StateWriter::begin(writer(&store, run, 1), &[b"value".to_vec()]).unwrap();
    // More than is read at once, chunks longer than that, and empty ones; groups descend, so that the index has another order than the piece.
    let content = |group: u32| vec![group as u8; [0, 10, 400_000, 1_500_000][group as usize % 4]];
    (0..12).rev().for_each(|group| state.chunk(0, group, 1, &content(group)).unwrap());
    let piece = state.finish().unwrap();
    let state = StateReader::open(PieceReader::new(store.clone(), &piece)).unwrap();
    let groups = |chunks: &[ChunkInfo]| chunks.iter().map(|chunk| content(chunk.key_group)).collect::<Vec<_>>();
    let all = state.chunks();
    let some: Vec<ChunkInfo> = [5, 0, 6, 11, 4, 2].map(|number| all[number]).to_vec();
    for asked in [all, &some, &all[3..4], &[]] {
        assert!(state.read_each(asked).unwrap() == groups(asked), "of {asked:?}");
    }
}

#[test]
fn an_increment_gives_its_removals_before_the_entries_of_their_key_group() {
    let (_disk, store, run) = store_with_limit(100_000);
    let mut full = StateWriter::begin(writer(&store, run, 1), &[b"value".to_vec()]).unwrap();
    assert!(
        matches!(full.removals(0, 1, 1, b"gone"), Err(StoreError::Refused { .. })),
        "nothing is below a full piece"
    );
    let mut state = StateWriter::begin_increment(writer(&store, run, 2), &[b"a".to_vec(), b"b".to_vec()]).unwrap();
    state.chunk(0, 7, 1, b"new").unwrap();
    state.chunk(0, 3, 1, b"other group").unwrap();
    state.removals(1, 7, 2, b"gone").unwrap();
    state.removals(0, 7, 1, b"gone too").unwrap();
    let content = state.finish().unwrap();
    let state = StateReader::open(PieceReader::new(store.clone(), &content)).unwrap();
    assert!(state.is_increment());
    let found: Vec<(u32, ChunkKind, u32, Vec<u8>)> = state
        .chunks()
        .iter()
        .map(|chunk| (chunk.key_group, chunk.kind, chunk.state, state.read(chunk).unwrap()))
        .collect();
    let expected = [
        (3, ChunkKind::Entries, 0, b"other group".to_vec()),
        (7, ChunkKind::Removals, 0, b"gone too".to_vec()),
        (7, ChunkKind::Removals, 1, b"gone".to_vec()),
        (7, ChunkKind::Entries, 0, b"new".to_vec()),
    ];
    assert_eq!(found, expected);
    let PieceContent::Inline(whole) = content else { panic!("it is short") };
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read_everything(&store, &PieceContent::Inline(flipped)).is_err(), "bit {bit}");
    }
}

fn read_everything(store: &Arc<Store>, content: &PieceContent) -> Result<(), StoreError> {
    let state = StateReader::open(PieceReader::new(store.clone(), content))?;
    state.chunks().iter().try_for_each(|chunk| state.read(chunk).map(drop))
}

#[test]
fn every_flipped_bit_and_every_truncation_of_state_is_found_when_it_is_read() {
    let (_disk, store, run) = store_with_limit(100_000);
    let PieceContent::Inline(whole) = write_state(writer(&store, run, 1)) else { panic!("it is short") };
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read_everything(&store, &PieceContent::Inline(flipped)).is_err(), "bit {bit}");
    }
    for length in 0..whole.len() {
        assert!(read_everything(&store, &PieceContent::Inline(whole[..length].to_vec())).is_err(), "{length} bytes");
    }
    read_everything(&store, &PieceContent::Inline(whole)).unwrap();
}

#[test]
fn hostile_state_with_right_checksums_gives_errors_and_no_panic() {
    let (_disk, store, run) = store_with_limit(100_000);
    let PieceContent::Inline(whole) = write_state(writer(&store, run, 1)) else { panic!("it is short") };
    let trailer = whole.len() - 24;
    let index = trailer - 5 * 24;
    for position in (index..trailer).chain([trailer, trailer + 1, trailer + 7, trailer + 8, trailer + 11]) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut hostile = whole.clone();
            hostile[position] = value;
            let checksum = crc32c::crc32c(&hostile[index..trailer]);
            hostile[trailer + 12..trailer + 16].copy_from_slice(&checksum.to_le_bytes());
            let checksum = crc32c::crc32c(&hostile[trailer..trailer + 20]);
            hostile[trailer + 20..].copy_from_slice(&checksum.to_le_bytes());
            let unchanged = hostile == whole;
            assert_eq!(read_everything(&store, &PieceContent::Inline(hostile)).is_ok(), unchanged, "{position}");
        }
    }
}

#[test]
fn a_blob_name_is_taken_once_and_made_by_the_current_run() {
    let (_disk, store, run) = store_with_limit(0);
    write_state(writer(&store, run, 1));
    let again = writer(&store, run, 1).finish();
    assert!(matches!(again, Ok(PieceContent::Inline(_))), "nothing was written, so no blob was made");
    let mut again = writer(&store, run, 1);
    assert!(matches!(again.write(b"x"), Err(StoreError::Refused { .. })));
    assert!(matches!(writer(&store, RunNumber(9), 1).write(b"x"), Err(StoreError::Refused { .. })));
    assert!(matches!(store.create_blob(&fence(), "../x"), Err(StoreError::Refused { .. })));
}
