//! A chain that does what the test says, and writes down what it is asked.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll};

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::payload::{Batch, Payload, PayloadError};
use alluvium_actors::ports::source::ReaderEvent;
use alluvium_actors::ports::task::{
    CommitRequest, Cut, Failure, OperatorTask, SourceStep, SourceTask, Task, TaskSnapshot,
};
use alluvium_actors::protocol::align::Channel;

/// A batch of one number.
pub(crate) struct Number(pub(crate) u64);

impl Batch for Number {
    fn len(&self) -> usize {
        1
    }

    fn byte_size(&self) -> usize {
        8
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        out.extend_from_slice(&self.0.to_le_bytes());
        Ok(())
    }

    fn clone_payload(&self) -> Payload {
        Box::new(Number(self.0))
    }

    fn split_by_hash(
        self: Box<Self>,
        _: usize,
        _: &dyn Fn(u64) -> usize,
    ) -> Result<Vec<Option<Payload>>, PayloadError> {
        Err(PayloadError { type_name: "Number", reason: "it has no hashes".to_owned() })
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// What the asynchronous part of a snapshot does.
#[derive(Clone)]
pub(crate) enum Part {
    Hangs,
    Fails(Failure),
}

/// What the chain does and has done. The test keeps a clone.
#[derive(Clone, Default)]
pub(crate) struct Script(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    log: Vec<String>,
    /// By checkpoint; ready at once if not given.
    parts: BTreeMap<u64, Part>,
    /// The synchronous part of this checkpoint fails.
    fails_at: Option<u64>,
    /// Panics in this call.
    panics_in: Option<&'static str>,
    /// What a reader gives; pending if empty.
    reads: VecDeque<SourceStep>,
    events: Vec<ReaderEvent>,
    /// The checkpoints whose in-flight records are being captured.
    captures: BTreeSet<u64>,
    /// Its sink takes nothing.
    held: bool,
    /// What was in flight when the restored checkpoint was taken.
    restored: VecDeque<u64>,
}

impl Script {
    pub(crate) fn part(&self, checkpoint: u64, part: Part) {
        self.0.borrow_mut().parts.insert(checkpoint, part);
    }

    pub(crate) fn part_is_ready(&self, checkpoint: u64) {
        self.0.borrow_mut().parts.remove(&checkpoint);
    }

    pub(crate) fn fail_the_cut_of(&self, checkpoint: u64) {
        self.0.borrow_mut().fails_at = Some(checkpoint);
    }

    pub(crate) fn panic_in(&self, call: &'static str) {
        self.0.borrow_mut().panics_in = Some(call);
    }

    pub(crate) fn read(&self, step: SourceStep) {
        self.0.borrow_mut().reads.push_back(step);
    }

    pub(crate) fn hold(&self) {
        self.0.borrow_mut().held = true;
    }

    pub(crate) fn restore(&self, number: u64) {
        self.0.borrow_mut().restored.push_back(number);
    }

    pub(crate) fn say(&self, event: ReaderEvent) {
        self.0.borrow_mut().events.push(event);
    }

    /// What was asked since the last call.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().log)
    }

    fn note(&self, call: &str, id: Option<u64>) {
        let mut state = self.0.borrow_mut();
        let line = id.map_or_else(|| call.to_owned(), |id| format!("{call} {id}"));
        state.log.push(line);
        let panics = state.panics_in == Some(call);
        drop(state);
        assert!(!panics, "the user's {call}");
    }
}

/// The chain.
pub(crate) struct Chain(pub(crate) Script);

impl Task for Chain {
    fn poll_restore(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.0.0.borrow().held { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn flush(&mut self, _: &mut Outputs) {}

    fn finish(&mut self, _: &mut Outputs) -> Result<(), Failure> {
        self.0.note("finish", None);
        Ok(())
    }

    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        self.0.note("cut", Some(cut.checkpoint.0));
        if self.0.0.borrow().fails_at == Some(cut.checkpoint.0) {
            return Err(Failure::retryable("the user's sink", "it cannot prepare"));
        }
        Ok(())
    }

    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        _: usize,
        _: &mut Context<'_>,
    ) -> Poll<Result<TaskSnapshot, Failure>> {
        if self.0.0.borrow().captures.contains(&checkpoint.0) {
            return Poll::Pending;
        }
        match self.0.0.borrow().parts.get(&checkpoint.0) {
            None => Poll::Ready(Ok(TaskSnapshot::default())),
            Some(Part::Hangs) => Poll::Pending,
            Some(Part::Fails(failure)) => Poll::Ready(Err(failure.clone())),
        }
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        self.0.note("aborted", Some(checkpoint.0));
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.0.note("completed", Some(checkpoint.0));
    }

    fn take_commits(&mut self) -> Vec<CommitRequest> {
        Vec::new()
    }

    fn committed(&mut self, _: u32, _: CheckpointId) {}

    fn has_open_commits(&self) -> bool {
        false
    }

    fn has_restored(&self) -> bool {
        !self.0.0.borrow().restored.is_empty()
    }

    fn step_restored(&mut self, _: usize, _: &mut Outputs) -> Result<bool, Failure> {
        let number = self.0.0.borrow_mut().restored.pop_front();
        self.0.note("record", number);
        Ok(true)
    }

    fn begin_capture(&mut self, checkpoint: CheckpointId, working: Option<Channel>) -> Result<(), Failure> {
        let line = working.map_or_else(|| "capture".to_owned(), |channel| format!("capture rest of channel {channel}"));
        self.0.note(&line, Some(checkpoint.0));
        self.0.0.borrow_mut().captures.insert(checkpoint.0);
        Ok(())
    }

    fn end_capture(&mut self, checkpoint: CheckpointId) {
        self.0.note("captured", Some(checkpoint.0));
        self.0.0.borrow_mut().captures.remove(&checkpoint.0);
    }

    fn current_operator(&self) -> &'static str {
        "the user's operator"
    }
}

impl OperatorTask for Chain {
    fn accept(&mut self, _: usize, batch: Payload) {
        let Ok(number) = batch.into_any().downcast::<Number>() else { panic!("these tests send nothing else") };
        self.0.note("record", Some(number.0));
    }

    fn step(&mut self, _: usize, _: &mut Outputs) -> Result<Option<Payload>, Failure> {
        Ok(Some(Box::new(Number(0))))
    }

    fn capture(&mut self, checkpoint: CheckpointId, channel: Channel, batch: &dyn Batch) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        let encoded = batch.encode(&mut bytes);
        encoded.map_err(|error| Failure::unrecoverable("the user's operator", error))?;
        let number = u64::from_le_bytes(bytes.try_into().expect("these tests send nothing else"));
        self.0.note(&format!("{number} of channel {channel} into"), Some(checkpoint.0));
        Ok(())
    }
}

impl SourceTask for Chain {
    fn poll_records(&mut self, _: usize, _: &mut Outputs, _: &mut Context<'_>) -> Poll<Result<SourceStep, Failure>> {
        self.0.note("read", None);
        let step = self.0.0.borrow_mut().reads.pop_front();
        step.map_or(Poll::Pending, |step| Poll::Ready(Ok(step)))
    }

    fn add_splits(&mut self, splits: Vec<Vec<u8>>) -> Result<(), Failure> {
        self.0.note("splits", Some(splits.len() as u64));
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.0.note("no more splits", None);
    }

    fn enumerator_event(&mut self, _: Vec<u8>) -> Result<(), Failure> {
        self.0.note("event", None);
        Ok(())
    }

    fn take_reader_events(&mut self) -> Vec<ReaderEvent> {
        std::mem::take(&mut self.0.0.borrow_mut().events)
    }
}
