//! The lengths of a subtask's snapshot: all that the checkpoint needs, and how much of it had to be written.

use alluvium_actors::ids::{CheckpointId, OperatorUid, RunNumber, SubtaskId};
use alluvium_actors::ports::store::{
    BlobHandle, InFlight, OperatorSnapshot, Piece, PieceContent, SubtaskSnapshot, blob_name, increment_name,
};

fn blob(checkpoint: u64, piece: &str, length: u64) -> PieceContent {
    let uid = OperatorUid::new("count");
    let name = format!("blobs/{}", blob_name(RunNumber(1), CheckpointId(checkpoint), &uid, 0, piece));
    PieceContent::Blob(BlobHandle { name, length, checksum: 0 })
}

/// Checkpoint 7: a base of 3 that was folded meanwhile, an increment of 5 in a blob, one of 6 that stands in the manifest, its own, and what was in flight.
fn snapshot() -> SubtaskSnapshot {
    let piece = |name: String, content| Piece { name, content };
    let increment = |checkpoint| increment_name("keyed", CheckpointId(checkpoint));
    let pieces = vec![
        piece("keyed".to_owned(), blob(3, "keyed-fold-1", 100_000)),
        piece(increment(5), blob(5, "keyed", 20_000)),
        piece(increment(6), PieceContent::Inline(vec![0; 300])),
        piece(increment(7), blob(7, "keyed", 4_000)),
    ];
    SubtaskSnapshot {
        subtask: SubtaskId::new(1, 0),
        finished: false,
        operators: vec![OperatorSnapshot { uid: OperatorUid::new("count"), subtask: 0, pieces }],
        in_flight: Some(InFlight { records: 9, content: blob(7, "in-flight", 50), parallelism: 2, edges: Vec::new() }),
    }
}

#[test]
fn all_of_it_is_needed_and_only_what_is_new_or_stands_in_the_manifest_was_written() {
    let snapshot = snapshot();
    assert_eq!(snapshot.bytes(), 100_000 + 20_000 + 300 + 4_000 + 50);
    assert_eq!(snapshot.written_bytes(CheckpointId(7)), 300 + 4_000 + 50);
    assert_eq!((snapshot.in_flight_records(), snapshot.in_flight_bytes()), (9, 50));
}

#[test]
fn a_self_contained_one_is_written_as_a_whole_and_nothing_may_be_in_flight() {
    let mut snapshot = snapshot();
    snapshot.in_flight = None;
    snapshot.operators[0].pieces.drain(..3);
    assert_eq!((snapshot.bytes(), snapshot.written_bytes(CheckpointId(7))), (4_000, 4_000));
    assert_eq!((snapshot.in_flight_records(), snapshot.in_flight_bytes()), (0, 0));
}
