//! The way from a source to the channels of a keyed edge, as the planner builds it: a record is made, its key is hashed once, and it is brought to the channel
//! of the subtask that owns the key.
//!
//! The source's own task is stepped by hand on this thread; what its edges carry is taken out at once and the buffers are given back, as by a consumer that keeps
//! up. So edges and buffers are in the cache, and nothing waits.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use alluvium::Job;
use alluvium::connect::Generator;
use alluvium::record::batch::Batch;
use alluvium::snapshot::{Store, StoreOptions};
use alluvium::storage::{MemoryStorage, SystemFiles};
use alluvium::testing::host::ManualHost;
use alluvium_actors::drive::edge::{EdgeReceiver, Frame, edge};
use alluvium_actors::drive::outputs::{OutputChannel, Outputs};
use alluvium_actors::ids::{Attempt, NodeId, RunNumber, SubtaskId};
use alluvium_actors::payload::Payload;
use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::source::{Assignment, EnumeratorContext, ReaderEvent};
use alluvium_actors::ports::task::{SLICE_RECORDS, SourceTask, TaskContext, TaskFactory};

use super::record::{Record, W1};

/// A source's subtask with the ends of its edges.
pub(crate) struct Partition {
    task: Box<dyn SourceTask>,
    outputs: Outputs,
    edges: Vec<EdgeReceiver>,
}

impl Partition {
    /// The source of workload W1 in front of so many keyed subtasks.
    pub(crate) fn new(work: W1, channels: u32, seed: u64) -> Partition {
        let job = Job::new("partition");
        job.source("records", Generator::unbounded(move |index| work.record(index)))
            .key_by(|record: &Record| &record.key)
            .aggregate("sums", 0_u64, |_, sum, record: Record| {
                *sum = sum.wrapping_add(record.value);
                *sum
            })
            .parallelism(channels)
            .for_each("sums-seen", |_| {});
        let plan = job.build().expect("a sound job").plan();
        let source = &plan.sources[0];
        let node = plan.node(source.node);
        let host = Rc::new(ManualHost::new(seed));
        let fence = FenceSource::new().advance();
        let options = StoreOptions::new("partition", seed);
        let store = Store::new(Arc::new(MemoryStorage::new()), None, options).expect("an empty store");
        let context = TaskContext {
            job: Arc::clone(&plan.job),
            subtask: SubtaskId { node: source.node, index: 0 },
            parallelism: node.parallelism,
            max_parallelism: node.max_parallelism,
            run: RunNumber(1),
            hash_seed: seed,
            host: host.clone(),
            store: Arc::new(store),
            files: Arc::new(SystemFiles::new()),
            fence: fence.clone(),
            inputs: Arc::default(),
            restored: None,
            calls: Arc::default(),
        };
        let TaskFactory::Source(factory) = &node.factory else { panic!("a chain with a source at its head") };
        let mut task = factory(context).expect("a generator opens");
        let mut enumerator = (source.enumerator)(EnumeratorContext {
            job: Arc::clone(&plan.job),
            uid: source.uid.clone(),
            parallelism: node.parallelism,
            host,
            files: Arc::new(SystemFiles::new()),
            fence,
        })
        .expect("a generator opens");
        let mut assignments = Vec::new();
        let registered = ReaderEvent::Registered { splits: Vec::new() };
        enumerator.reader_event(0, registered, &mut assignments).expect("a reader registers");
        for assignment in assignments {
            if let Assignment::Splits { splits, .. } = assignment {
                task.add_splits(splits).expect("splits of its own");
            }
        }
        let (mut outputs, mut edges) = (BTreeMap::new(), Vec::new());
        for planned in plan.edges.iter().filter(|planned| planned.from == source.node) {
            let consumers = plan.node(planned.to).parallelism;
            let channels = (0..consumers).map(|index| {
                let (sender, receiver) = edge(planned.credits);
                edges.push(receiver);
                OutputChannel { edge: sender, consumer: address(planned.to, index), consumer_channel: 0 }
            });
            outputs.insert(planned.output, channels.collect::<Vec<_>>());
        }
        Partition { task, outputs: Outputs::new(outputs.into_values().collect()), edges }
    }

    /// Takes so many slices through it. Answers the nanoseconds per record.
    pub(crate) fn run(&mut self, slices: usize) -> f64 {
        let began = Instant::now();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..slices {
            assert!(
                self.task.poll_records(SLICE_RECORDS, &mut self.outputs, &mut context).is_ready(),
                "a generator has always more"
            );
            assert!(self.outputs.poll_drained(&mut context), "what an edge takes is taken out of it at once");
            for edge in &self.edges {
                while let Poll::Ready(frame) = edge.poll_frame(&mut context) {
                    if let Frame::Batch(batch) = frame {
                        edge.give_back(emptied(batch));
                    }
                }
            }
        }
        began.elapsed().as_nanos() as f64 / (slices * SLICE_RECORDS) as f64
    }
}

fn address(node: NodeId, index: u32) -> Address {
    Address::Subtask(SubtaskId { node, index }, Attempt(1))
}

fn emptied(batch: Payload) -> Payload {
    let mut batch = Batch::<Record>::from_payload(batch);
    while let Some(slice) = batch.pop() {
        batch.give_back(slice);
    }
    batch
}
