//! A sink that cannot prepare: the cut fails, and what the members before it had begun to write goes.

use std::task::{Context, Poll};

use alluvium::connect::Generator;
use alluvium::connect::for_each::NothingToCommit;
use alluvium::connect::sink::{Guarantee, Sink, SinkContext, SinkScope, SinkWriter};
use alluvium::ids::CheckpointId;
use alluvium::record::batch::Slice;
use alluvium::{Job, OperatorError, OperatorResult};

use crate::by_hand::World;

struct Unprepared;

impl Sink<u64> for Unprepared {
    type Committable = ();
    type State = ();
    type Writer = Unprepared;
    type Committer = NothingToCommit;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _: SinkContext) -> OperatorResult<Unprepared> {
        Ok(Unprepared)
    }

    fn committer(&self, _: SinkScope) -> OperatorResult<NothingToCommit> {
        Ok(NothingToCommit)
    }
}

impl SinkWriter<u64> for Unprepared {
    type Committable = ();
    type State = ();

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<OperatorResult> {
        Poll::Ready(Ok(()))
    }

    fn write_batch(&mut self, slice: &mut Slice<u64>) -> OperatorResult {
        slice.clear();
        Ok(())
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> OperatorResult {
        if checkpoint.0 == 2 { Err(OperatorError::retryable("the table is locked")) } else { Ok(()) }
    }

    fn poll_prepared(&mut self, _: CheckpointId, _: &mut Context<'_>) -> Poll<OperatorResult<Vec<()>>> {
        Poll::Ready(Ok(Vec::new()))
    }

    fn snapshot(&mut self, _: CheckpointId) {}
}

#[test]
fn what_the_chain_had_begun_to_write_goes_when_a_member_fails_in_the_synchronous_part() {
    let job = Job::new("test");
    job.source("numbers", Generator::bounded(100, |index| index)).sink("unprepared", Unprepared);
    let graph = job.build().unwrap();
    let mut world = World::new(1);
    let mut running = world.start(&graph, None).unwrap();
    running.step().unwrap();
    running.checkpoint(1).unwrap();
    let before = world.blobs();
    assert!(before > 0, "the reader's splits are a blob");
    let failure = running.cut(2).unwrap_err();
    assert_eq!((failure.origin.as_str(), failure.message.as_str()), ("unprepared", "the table is locked"));
    running.do_work();
    assert!(world.blobs() > before, "the reader had begun to write its part");
    // As the driver does before it ends.
    running.abort(2);
    running.do_work();
    assert_eq!(world.blobs(), before);
}
