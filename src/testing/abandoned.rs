//! Snapshots that are given up, whose answers nobody took: their files are removed on the lane of blobs, never on the arbiter.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use alluvium_actors::ids::{CheckpointId, NodeId, OperatorUid, SubtaskId, WallTime};
use alluvium_actors::plan::{EdgeName, Routing};
use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::store::CheckpointStore;
use alluvium_actors::ports::task::{InputEdge, TaskContext};
use alluvium_actors::protocol::align::Channel;

use crate::operator::in_flight::{InFlightWriting, InputName, RestoredInFlight};
use crate::operator::state_writing::{KEYED, StateWriting};
use crate::record::batch::{Batch, Slice};
use crate::snapshot::{Store, StoreOptions};
use crate::state::{ChunkHeader, ChunkSink};
use crate::storage::FileStorage;
use crate::testing::disk::SimulatedDisk;
use crate::testing::host::ManualHost;

/// More than is written at once.
const MUCH: usize = 300_000;

struct Rig {
    disk: SimulatedDisk,
    host: ManualHost,
    task: TaskContext,
}

impl Rig {
    fn new() -> Rig {
        let (disk, host) = (SimulatedDisk::new(), ManualHost::new(1));
        let storage = FileStorage::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
        let store = Arc::new(Store::new(Arc::new(storage), None, StoreOptions::new("job", 1)).unwrap());
        let fence = FenceSource::new().advance();
        let task = TaskContext {
            job: Arc::from("job"),
            subtask: SubtaskId { node: NodeId(0), index: 0 },
            parallelism: 1,
            max_parallelism: 128,
            run: store.begin_run(&fence, None, WallTime(1)).unwrap().run,
            hash_seed: 1,
            host: Rc::new(host.clone()),
            store,
            files: Arc::new(disk.clone()),
            fence,
            inputs: Arc::from([InputEdge { edge: 0, input: 0, producer: 0 }]),
            restored: None,
            calls: Arc::default(),
        };
        Rig { disk, host, task }
    }

    /// Begins to write, lets the first parcel be answered, and gives all up.
    fn give_up<W>(&self, mut writing: W, poll: impl Fn(&mut W, &mut Context<'_>) -> bool, abandon: impl Fn(W)) {
        let files = self.disk.files();
        let waker = self.host.waker();
        assert!(!poll(&mut writing, &mut Context::from_waker(&waker)), "it is not complete");
        self.host.run_blocking();
        assert_eq!(self.disk.files().len(), files.len() + 1, "a parcel was written");
        abandon(writing);
        assert_eq!(self.disk.files().len(), files.len() + 1, "nothing is removed here");
        self.host.run_blocking();
        assert_eq!(self.disk.files(), files);
    }
}

#[test]
fn a_snapshot_of_state_that_is_given_up_is_removed_on_the_lane_of_blobs() {
    let rig = Rig::new();
    let uid = OperatorUid::new("count");
    let mut writing = StateWriting::new(&rig.task, &uid, CheckpointId(1), KEYED, vec![vec![0]], None);
    let length = MUCH as u32;
    let header = ChunkHeader { state: 0, key_group: 0, removals: false, count: 1, length, checksum: 0 };
    writing.waiting.chunk(CheckpointId(1), header, vec![0; MUCH]);
    let poll =
        |writing: &mut StateWriting, context: &mut Context<'_>| writing.poll(&rig.task, "count", context).is_ready();
    rig.give_up(writing, poll, |writing| writing.abandon(&rig.task));
}

#[test]
fn what_was_in_flight_and_is_given_up_is_removed_on_the_lane_of_blobs() {
    let rig = Rig::new();
    let (from, to) = (OperatorUid::new("flights"), OperatorUid::new("count"));
    let name = EdgeName { from, port: 0, to, input: 0, nth: 0, graph: 0 };
    let inputs = [InputName { edge: 0, name, routing: Routing::Any }];
    let restored = RestoredInFlight::new(Vec::new());
    let mut writing = InFlightWriting::begin(CheckpointId(1), &rig.task, &inputs, &restored, None, None);
    let mut slice = Slice::new();
    slice.records.push("x".repeat(MUCH));
    let mut batch = Batch::default();
    batch.push(slice);
    writing.capture(Channel(0), &batch, "count").unwrap();
    let poll =
        |writing: &mut InFlightWriting, context: &mut Context<'_>| writing.poll(&rig.task, "count", context).is_ready();
    rig.give_up(writing, poll, |writing| writing.abandon(&rig.task));
}
