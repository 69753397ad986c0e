//! A chain of operators behind the face that the drivers know.
//!
//! The chain itself decides nothing: it asks its members one after the other and remembers who has answered.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll};

use alluvium_actors::drive::outputs::Outputs;
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::payload::{Batch, Payload};
use alluvium_actors::ports::store::{BlobHandle, InFlight, OperatorSnapshot};
use alluvium_actors::ports::task::{CommitRequest, Cut, Failure, OperatorTask, Task, TaskContext, TaskSnapshot};
use alluvium_actors::protocol::align::Channel;

use super::head::Head;
use super::in_flight::{InFlightWriting, RestoredInFlight};
use super::link::Member;
use super::piece;
use super::place::Places;

/// A chain with its head `H`.
pub(crate) struct Chain<H> {
    head: H,
    places: Places,
    /// Which members have read their state, in walking order.
    restored: Vec<bool>,
    /// Snapshots under way, with what each member has given so far.
    snapshots: BTreeMap<CheckpointId, Parts>,
    /// What the restored checkpoint had in flight in front of the chain.
    in_flight: RestoredInFlight,
    /// The channels of which a captured batch was read back.
    read_back: BTreeSet<Channel>,
    /// Whether a sink waits for a commit to return.
    open_commits: bool,
    task: TaskContext,
}

/// What was given for a checkpoint.
struct Parts {
    members: Vec<Part>,
    in_flight: InFlightPart,
}

/// What a checkpoint holds of the records in front of the chain.
enum InFlightPart {
    /// Its barrier overtook some.
    Open(Box<InFlightWriting>),
    /// Nothing, or all of it.
    Done(Option<InFlight>),
}

/// What a member has given for a checkpoint.
enum Part {
    /// It still writes.
    Open,
    /// It is done; some keep nothing.
    Done(Option<OperatorSnapshot>),
}

impl<H: Member> Chain<H> {
    /// A chain whose operators are registered in `places`.
    pub(crate) fn new(mut head: H, places: Places, task: TaskContext) -> Chain<H> {
        let mut members = 0;
        head.walk(&mut |_| members += 1);
        Chain {
            head,
            places,
            restored: vec![false; members],
            snapshots: BTreeMap::new(),
            in_flight: RestoredInFlight::new(),
            read_back: BTreeSet::new(),
            open_commits: false,
            task,
        }
    }

    /// The head.
    pub(crate) fn head(&mut self) -> &mut H {
        &mut self.head
    }

    /// Calls `visit` for each member with its number, until one fails.
    fn each(&mut self, mut visit: impl FnMut(usize, &mut dyn Member) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut result = Ok(());
        let mut index = 0;
        self.head.walk(&mut |member| {
            if result.is_ok() {
                if let Some(place) = member.place() {
                    place.enter();
                }
                result = visit(index, member);
            }
            index += 1;
        });
        result
    }

    /// As [`Chain::each`], for calls that cannot fail.
    fn all(&mut self, mut visit: impl FnMut(&mut dyn Member)) {
        self.head.walk(&mut |member| {
            if let Some(place) = member.place() {
                place.enter();
            }
            visit(member);
        });
    }

    /// Deletes the blobs of members that were done with a checkpoint which will not be acknowledged.
    fn discard(&self, parts: Parts) {
        let mut blobs: Vec<BlobHandle> = parts
            .members
            .iter()
            .filter_map(|part| match part {
                Part::Open | Part::Done(None) => None,
                Part::Done(Some(snapshot)) => Some(snapshot.blobs().cloned()),
            })
            .flatten()
            .collect();
        match parts.in_flight {
            InFlightPart::Open(writing) => writing.abandon(&self.task),
            InFlightPart::Done(in_flight) => blobs.extend(in_flight.and_then(|done| done.content.blob().cloned())),
        }
        piece::delete_blobs(&self.task, blobs);
    }

    /// What captures for a checkpoint, unless it was aborted, and the operator that is to blame.
    fn writing(&mut self, checkpoint: CheckpointId) -> Option<(&mut InFlightWriting, String)> {
        let operator = self.places.current().to_owned();
        match &mut self.snapshots.get_mut(&checkpoint)?.in_flight {
            InFlightPart::Open(writing) => Some((writing, operator)),
            InFlightPart::Done(_) => None,
        }
    }

    fn look_for_open_commits(&mut self) {
        let mut open = false;
        self.all(|member| open |= member.has_open_commits());
        self.open_commits = open;
    }
}

impl<H: Member> Task for Chain<H> {
    fn poll_restore(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut restored = std::mem::take(&mut self.restored);
        let result = self.each(|index, member| {
            if !restored[index]
                && let Poll::Ready(result) = member.poll_restore(context)
            {
                result?;
                restored[index] = true;
            }
            Ok(())
        });
        self.restored = restored;
        result?;
        let in_flight = self.in_flight.poll(&self.task, self.places.current(), context)?;
        if in_flight.is_ready() && self.restored.iter().all(|done| *done) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut ready = true;
        let result = self.each(|_, member| match member.poll_ready(context) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                ready = false;
                Ok(())
            }
        });
        if ready || result.is_err() { Poll::Ready(result) } else { Poll::Pending }
    }

    fn flush(&mut self, outputs: &mut Outputs) {
        self.all(|member| member.flush(outputs));
    }

    fn finish(&mut self, outputs: &mut Outputs) -> Result<(), Failure> {
        self.each(|_, member| member.finish(outputs))
    }

    fn close_epoch(&mut self, cut: Cut) -> Result<(), Failure> {
        let members = self.restored.len();
        let members = (0..members).map(|_| Part::Open).collect();
        self.snapshots.insert(cut.checkpoint, Parts { members, in_flight: InFlightPart::Done(None) });
        self.each(|_, member| member.close_epoch(cut))
    }

    fn poll_snapshot(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<TaskSnapshot, Failure>> {
        let Some(mut parts) = self.snapshots.remove(&checkpoint) else {
            return Poll::Ready(Err(Failure::unrecoverable(
                self.places.current(),
                format!("checkpoint {checkpoint} was not cut here, or was aborted: a bug of the runtime"),
            )));
        };
        let mut open = false;
        let result = self.each(|index, member| {
            if let part @ Part::Open = &mut parts.members[index] {
                match member.poll_snapshot(checkpoint, budget, context) {
                    Poll::Ready(snapshot) => *part = Part::Done(snapshot?),
                    Poll::Pending => open = true,
                }
            }
            Ok(())
        });
        let captured = match &mut parts.in_flight {
            InFlightPart::Open(writing) => writing.poll(&self.task, self.places.current(), context),
            InFlightPart::Done(in_flight) => Poll::Ready(Ok(in_flight.take())),
        };
        let result = result.and_then(|()| match captured {
            Poll::Pending => {
                open = true;
                Ok(())
            }
            Poll::Ready(in_flight) => {
                parts.in_flight = InFlightPart::Done(in_flight?);
                Ok(())
            }
        });
        if let Err(failure) = result {
            self.discard(parts);
            return Poll::Ready(Err(failure));
        }
        if open {
            self.snapshots.insert(checkpoint, parts);
            return Poll::Pending;
        }
        let snapshots = parts.members.into_iter().filter_map(|part| match part {
            Part::Open => None,
            Part::Done(snapshot) => snapshot,
        });
        let in_flight = match parts.in_flight {
            InFlightPart::Open(_) => None,
            InFlightPart::Done(in_flight) => in_flight,
        };
        Poll::Ready(Ok(TaskSnapshot { operators: by_operator(snapshots), in_flight }))
    }

    fn aborted(&mut self, checkpoint: CheckpointId) {
        if let Some(parts) = self.snapshots.remove(&checkpoint) {
            self.discard(parts);
        }
        self.all(|member| member.aborted(checkpoint));
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        self.all(|member| member.completed(checkpoint));
        self.look_for_open_commits();
    }

    fn take_commits(&mut self) -> Vec<CommitRequest> {
        let mut commits = Vec::new();
        self.all(|member| member.take_commits(&mut commits));
        commits
    }

    fn committed(&mut self, sink: u32, checkpoint: CheckpointId) {
        self.all(|member| member.committed(sink, checkpoint));
        self.look_for_open_commits();
    }

    fn has_open_commits(&self) -> bool {
        self.open_commits
    }

    fn current_operator(&self) -> &str {
        self.places.current()
    }
}

/// One entry for each operator: one that keeps state of two kinds has two members.
fn by_operator(snapshots: impl Iterator<Item = OperatorSnapshot>) -> Vec<OperatorSnapshot> {
    let mut operators: Vec<OperatorSnapshot> = Vec::new();
    for snapshot in snapshots {
        match operators.iter_mut().find(|operator| operator.uid == snapshot.uid) {
            Some(operator) => operator.pieces.extend(snapshot.pieces),
            None => operators.push(snapshot),
        }
    }
    operators
}

impl<H: Head> OperatorTask for Chain<H> {
    fn accept(&mut self, input: usize, batch: Payload) {
        self.head.accept(input, batch);
    }

    fn step(&mut self, limit: usize, outputs: &mut Outputs) -> Result<Option<Payload>, Failure> {
        let emptied = self.head.step(limit, outputs)?;
        if emptied.is_some() {
            self.in_flight.used_up();
        }
        Ok(emptied)
    }

    fn take_restored(&mut self) -> Result<Option<(usize, Payload)>, Failure> {
        let head = &self.head;
        self.in_flight.take(self.places.current(), |input, bytes| head.decode(input, bytes))
    }

    fn has_restored(&self) -> bool {
        self.in_flight.is_open()
    }

    fn begin_capture(&mut self, checkpoint: CheckpointId, working: Option<Channel>) -> Result<(), Failure> {
        let operator = self.places.current();
        let rest = self.head.rest();
        if let (Some(channel), Some(rest)) = (working, rest)
            && self.read_back.insert(channel)
        {
            read_back(&self.head, &self.task, channel, rest, operator)?;
        }
        let writing = InFlightWriting::begin(checkpoint, &self.task, &self.in_flight, rest, working, operator)?;
        if let Some(parts) = self.snapshots.get_mut(&checkpoint) {
            parts.in_flight = InFlightPart::Open(Box::new(writing));
        }
        Ok(())
    }

    fn capture(&mut self, checkpoint: CheckpointId, channel: Channel, batch: &dyn Batch) -> Result<(), Failure> {
        if self.read_back.insert(channel) {
            read_back(&self.head, &self.task, channel, batch, self.places.current())?;
        }
        match self.writing(checkpoint) {
            Some((writing, operator)) => writing.capture(channel, batch, &operator),
            None => Ok(()),
        }
    }

    fn end_capture(&mut self, checkpoint: CheckpointId) {
        if let Some((writing, _)) = self.writing(checkpoint) {
            writing.end();
        }
    }
}

/// Looks whether records come back from what they were encoded to, for the first batch of each channel that is captured: a type whose `Deserialize` does not read what its
/// `Serialize` writes would make a checkpoint that cannot be restored, and nobody would know before it is needed.
fn read_back<H: Head>(
    head: &H,
    task: &TaskContext,
    channel: Channel,
    batch: &dyn Batch,
    operator: &str,
) -> Result<(), Failure> {
    let Some(input) = task.inputs.get(channel.0 as usize) else { return Ok(()) };
    let mut bytes = Vec::with_capacity(batch.byte_size());
    batch.encode(&mut bytes).map_err(|error| Failure::unrecoverable(operator, error))?;
    match head.decode(input.input as usize, &bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::unrecoverable(
            operator,
            format!(
                "records on the way to it cannot be captured, because they do not read what they write: {error}; \
                 let `Deserialize` of the type accept what its `Serialize` gives, or do without `Options::unaligned`"
            ),
        )),
    }
}
