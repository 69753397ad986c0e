//! A task whose calls are watched: around every call of user code stands which one it is, for whoever wants to know why it does not return.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::outputs::Outputs;
use crate::ids::CheckpointId;
use crate::payload::{Batch, Payload};
use crate::ports::calls::{Call, CallWatch};
use crate::ports::host::Host;
use crate::ports::source::ReaderEvent;
use crate::ports::task::{CommitRequest, Cut, Failure, OperatorTask, SourceStep, SourceTask, Task, TaskSnapshot};
use crate::protocol::align::Channel;

/// A task with its watch.
pub(super) struct Watched<T: ?Sized> {
    watch: Arc<CallWatch>,
    /// For its clock.
    host: Rc<dyn Host>,
    task: Box<T>,
}

impl<T: ?Sized> Watched<T> {
    pub(super) fn new(watch: Arc<CallWatch>, host: Rc<dyn Host>, task: Box<T>) -> Watched<T> {
        Watched { watch, host, task }
    }

    /// A panic leaves the call noted: it is where the task ended.
    fn call<R>(&mut self, call: Call, body: impl FnOnce(&mut T) -> R) -> R {
        self.watch.begin(call);
        let answer = body(&mut self.task);
        match call {
            // Between every two slices, and as a rule over at once: no clock for them. What one takes counts to the call behind it.
            Call::Ready | Call::Splits => self.watch.end(),
            _ => self.watch.end_at(self.host.now()),
        }
        answer
    }
}

impl<T: ?Sized + Task> Task for Watched<T> {
    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.call(Call::Restore, |task| task.poll_restore(context))
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let ready = self.call(Call::Ready, |task| task.poll_ready(context));
        self.watch.set_refuses(ready.is_pending());
        ready
    }

    fn flush(&mut self, outputs: &mut Outputs) {
        self.call(Call::Flush, |task| task.flush(outputs));
    }

    fn finish(&mut self, outputs: &mut Outputs) -> Result<(), Failure> {
        self.call(Call::Finish, |task| task.finish(outputs))
    }

    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        self.call(Call::Cut, |task| task.close_epoch(cut))
    }

    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<TaskSnapshot, Failure>> {
        self.call(Call::Snapshot, |task| task.poll_snapshot(checkpoint, budget, context))
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.call(Call::Notice, |task| task.aborted(checkpoint));
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.call(Call::Notice, |task| task.completed(checkpoint));
    }

    fn take_commits(&mut self) -> Vec<CommitRequest> {
        self.call(Call::Notice, |task| task.take_commits())
    }

    fn committed(&mut self, sink: u32, checkpoint: CheckpointId) {
        self.call(Call::Notice, |task| task.committed(sink, checkpoint));
    }

    fn has_open_commits(&self) -> bool {
        self.task.has_open_commits()
    }

    fn current_operator(&self) -> &str {
        self.task.current_operator()
    }
}

impl<T: ?Sized + OperatorTask> OperatorTask for Watched<T> {
    fn accept(&mut self, input: usize, batch: Payload) {
        self.task.accept(input, batch);
    }

    fn step(&mut self, limit: usize, outputs: &mut Outputs) -> Result<Option<Payload>, Failure> {
        self.call(Call::Records, |task| task.step(limit, outputs))
    }

    fn take_restored(&mut self) -> Result<Option<(usize, Payload)>, Failure> {
        self.call(Call::Restore, |task| task.take_restored())
    }

    fn has_restored(&self) -> bool {
        self.task.has_restored()
    }

    fn begin_capture(&mut self, checkpoint: CheckpointId, working: Option<Channel>) -> Result<(), Failure> {
        self.call(Call::Snapshot, |task| task.begin_capture(checkpoint, working))
    }

    fn capture(&mut self, checkpoint: CheckpointId, channel: Channel, batch: &dyn Batch) -> Result<(), Failure> {
        self.call(Call::Snapshot, |task| task.capture(checkpoint, channel, batch))
    }

    fn end_capture(&mut self, checkpoint: CheckpointId) {
        self.call(Call::Snapshot, |task| task.end_capture(checkpoint));
    }
}

impl<T: ?Sized + SourceTask> SourceTask for Watched<T> {
    fn poll_records(
        &mut self,
        limit: usize,
        outputs: &mut Outputs,
        context: &mut Context<'_>,
    ) -> Poll<Result<SourceStep, Failure>> {
        self.call(Call::Read, |task| task.poll_records(limit, outputs, context))
    }

    fn add_splits(&mut self, splits: Vec<Vec<u8>>) -> Result<(), Failure> {
        self.call(Call::Splits, |task| task.add_splits(splits))
    }

    fn no_more_splits(&mut self) {
        self.call(Call::Splits, |task| task.no_more_splits());
    }

    fn enumerator_event(&mut self, event: Vec<u8>) -> Result<(), Failure> {
        self.call(Call::Splits, |task| task.enumerator_event(event))
    }

    fn take_reader_events(&mut self) -> Vec<ReaderEvent> {
        self.call(Call::Splits, |task| task.take_reader_events())
    }
}
