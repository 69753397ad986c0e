//! The records in front of a chain that a barrier overtook: their way into the checkpoint and back (rules 3, 5 and 27).
//!
//! They are one piece per subtask, in the format of state: a descriptor per channel, and a chunk per batch, in the order of each channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::payload::{Batch, Payload, PayloadError};
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::store::{InFlight, PieceContent, StoreError, blob_name};
use alluvium_actors::ports::task::{Failure, InputEdge, TaskContext};
use alluvium_actors::protocol::align::Channel;
use serde::{Deserialize, Serialize};

use super::piece::{Written, decode, encode, panic_failure, store_failure};
use crate::snapshot::{PieceReader, PieceWriter, StateReader, StateWriter};

/// The name of the piece.
const IN_FLIGHT: &str = "in-flight";

/// Batches are written when so many bytes wait.
const PARCEL_BYTES: usize = 256 * 1024;

/// More than a batch adds around its bytes in a piece: its header there, and its entry in the index.
const CHUNK_FRAME: usize = 64;

/// More than a piece adds around its chunks, without its descriptors: header and trailer.
const PIECE_FRAME: usize = 256;

/// The channel that records came by, as the piece describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    /// The edge of the plan, by its position.
    edge: u32,
    /// The input of the task.
    input: u32,
    /// The index of the producing subtask.
    producer: u32,
}

/// An encoded batch.
#[derive(Clone, Debug)]
struct Captured {
    /// The descriptor that it belongs to.
    origin: u32,
    records: u32,
    bytes: Vec<u8>,
}

/// What was in flight in front of a task when the restored checkpoint was taken, and is not processed yet.
pub(crate) struct RestoredInFlight {
    stage: Stage,
    /// In the order in which they are to be processed.
    batches: VecDeque<(Origin, Captured)>,
    /// Where the batch in work came from, if it is one of them.
    working: Option<Origin>,
}

enum Stage {
    /// Nothing was asked for.
    New,
    Reading(Promise<Result<Vec<(Vec<u8>, Captured)>, StoreError>>),
    Done,
}

impl RestoredInFlight {
    pub(crate) fn new() -> RestoredInFlight {
        RestoredInFlight { stage: Stage::New, batches: VecDeque::new(), working: None }
    }

    /// Reads all of it. Ready when it is there, at once where there is nothing.
    pub(crate) fn poll(
        &mut self,
        task: &TaskContext,
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            match &mut self.stage {
                Stage::New => {
                    let stored = task.restored.iter().flat_map(|manifest| &manifest.subtasks);
                    let own = stored.filter(|snapshot| snapshot.subtask == task.subtask);
                    let Some(in_flight) = own.filter_map(|snapshot| snapshot.in_flight.as_ref()).next() else {
                        self.stage = Stage::Done;
                        continue;
                    };
                    let input = PieceReader::new(Arc::clone(&task.store), &in_flight.content);
                    let promise = Promise::start(task.host.blocking().as_ref(), Lane::Blobs, move || read(input));
                    self.stage = Stage::Reading(promise);
                }
                Stage::Reading(promise) => {
                    let batches = match promise.poll(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(Ok(batches))) => batches,
                        Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(store_failure(operator, &error))),
                        Poll::Ready(Err(panicked)) => return Poll::Ready(Err(panic_failure(operator, &panicked))),
                    };
                    self.stage = Stage::Done;
                    for (descriptor, batch) in batches {
                        let origin: Origin = decode(&descriptor, operator)?;
                        if !task.inputs.iter().any(|input| input.edge == origin.edge && input.input == origin.input) {
                            let message = format!(
                                "{} records were in flight towards input {} of it on an edge that the job does not have any more: \
                                 start the job as it was and stop it, which leaves nothing in flight, before it is changed",
                                batch.records, origin.input
                            );
                            return Poll::Ready(Err(Failure::unrecoverable(operator, message)));
                        }
                        self.batches.push_back((origin, batch));
                    }
                }
                Stage::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Whether there is anything that was not processed to its end.
    pub(crate) fn is_open(&self) -> bool {
        self.working.is_some() || !self.batches.is_empty()
    }

    /// The next batch, with its input.
    ///
    /// # Errors
    /// When the bytes are no batch of the input's records.
    pub(crate) fn take(
        &mut self,
        operator: &str,
        decode: impl Fn(usize, &[u8]) -> Result<Payload, PayloadError>,
    ) -> Result<Option<(usize, Payload)>, Failure> {
        let Some((origin, batch)) = self.batches.pop_front() else { return Ok(None) };
        let input = origin.input as usize;
        let payload = decode(input, &batch.bytes).map_err(|error| {
            let message = format!(
                "what was in flight when the checkpoint was taken cannot be read: {error}; was the record type changed?"
            );
            Failure::unrecoverable(operator, message)
        })?;
        self.working = Some(origin);
        Ok(Some((input, payload)))
    }

    /// The batch in work is used up.
    pub(crate) fn used_up(&mut self) {
        self.working = None;
    }
}

/// Reads a piece: each batch with the descriptor of its channel, channel by channel.
fn read(input: PieceReader) -> Result<Vec<(Vec<u8>, Captured)>, StoreError> {
    let reader = StateReader::open(input)?;
    let mut batches = Vec::with_capacity(reader.chunks().len());
    // All chunks are of one key group, so that they stand in the order of their channels, and in each in that in which they came.
    for chunk in reader.chunks() {
        let captured = Captured { origin: chunk.state, records: chunk.count, bytes: reader.read(chunk)? };
        batches.push((reader.descriptors()[chunk.state as usize].clone(), captured));
    }
    Ok(batches)
}

/// What a checkpoint captures in front of a task, on its way into the store.
pub(crate) struct InFlightWriting {
    checkpoint: CheckpointId,
    /// One per channel, behind those of what was restored and not processed.
    origins: Vec<Origin>,
    /// How many of them are in front of the channels.
    restored: u32,
    waiting: Vec<Captured>,
    waiting_bytes: usize,
    records: u64,
    /// Whether nothing more comes.
    complete: bool,
    writer: Writer,
    written: Written,
}

enum Writer {
    /// Nothing was written yet.
    New,
    /// It waits for the next parcel.
    Idle(StateWriter),
    /// A parcel is being written.
    Busy(Promise<Result<Parcel, StoreError>>),
    /// It failed or ended.
    Gone,
}

/// The answer to a parcel.
enum Parcel {
    More(StateWriter),
    Finished(PieceContent),
}

impl InFlightWriting {
    /// Begins with what was restored and is not processed yet. `rest` is the unread rest of the batch in work, if it belongs to the checkpoint: by itself a
    /// restored one, or one of the channel `working`.
    ///
    /// # Errors
    /// When a record's own serialization fails.
    pub(crate) fn begin(
        checkpoint: CheckpointId,
        task: &TaskContext,
        restored: &RestoredInFlight,
        rest: Option<&dyn Batch>,
        working: Option<Channel>,
        operator: &str,
    ) -> Result<InFlightWriting, Failure> {
        let mut origins = Vec::new();
        let mut batches = Vec::new();
        if let (Some(origin), Some(rest)) = (restored.working, rest) {
            batches.push(captured(0, rest, operator)?);
            origins.push(origin);
        }
        for (origin, batch) in &restored.batches {
            // One descriptor for batches of one channel that follow on each other: they are sorted by it.
            if origins.last() != Some(origin) {
                origins.push(*origin);
            }
            batches.push(Captured { origin: origins.len() as u32 - 1, ..batch.clone() });
        }
        let before = origins.len() as u32;
        origins.extend(task.inputs.iter().map(|InputEdge { edge, input, producer }| Origin {
            edge: *edge,
            input: *input,
            producer: *producer,
        }));
        if let (Some(channel), Some(rest)) = (working, rest) {
            batches.push(captured(before + channel.0, rest, operator)?);
        }
        let mut writing = InFlightWriting {
            checkpoint,
            origins,
            restored: before,
            waiting: Vec::new(),
            waiting_bytes: 0,
            records: 0,
            complete: false,
            writer: Writer::New,
            written: Written::default(),
        };
        batches.into_iter().for_each(|batch| writing.keep(batch));
        Ok(writing)
    }

    /// A batch of a channel that belongs to the checkpoint.
    ///
    /// # Errors
    /// When a record's own serialization fails.
    pub(crate) fn capture(&mut self, channel: Channel, batch: &dyn Batch, operator: &str) -> Result<(), Failure> {
        self.keep(captured(self.restored + channel.0, batch, operator)?);
        Ok(())
    }

    /// Nothing more belongs to it.
    pub(crate) fn end(&mut self) {
        self.complete = true;
    }

    fn keep(&mut self, batch: Captured) {
        self.records += u64::from(batch.records);
        self.waiting_bytes += batch.bytes.len();
        self.waiting.push(batch);
    }

    /// Writes on. Ready once all is captured and durable, with nothing where there was nothing; not to be called again after that.
    pub(crate) fn poll(
        &mut self,
        task: &TaskContext,
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<InFlight>, Failure>> {
        let records = self.records;
        let in_flight = |content| Poll::Ready(Ok(Some(InFlight { records, content })));
        loop {
            match std::mem::replace(&mut self.writer, Writer::Gone) {
                Writer::Busy(mut promise) => match promise.poll(context) {
                    Poll::Pending => {
                        self.writer = Writer::Busy(promise);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Ok(Parcel::More(writer)))) => self.writer = Writer::Idle(writer),
                    Poll::Ready(Ok(Ok(Parcel::Finished(content)))) => return in_flight(content),
                    Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(store_failure(operator, &error))),
                    Poll::Ready(Err(panicked)) => return Poll::Ready(Err(panic_failure(operator, &panicked))),
                },
                Writer::New if self.complete && self.records == 0 => return Poll::Ready(Ok(None)),
                Writer::New if self.complete && self.fits_inline(task) => {
                    return match self.parcel(task, None, operator)?() {
                        Ok(Parcel::Finished(content)) => in_flight(content),
                        Ok(Parcel::More(_)) => Poll::Ready(Err(Failure::retryable(operator, "a piece did not end"))),
                        Err(error) => Poll::Ready(Err(store_failure(operator, &error))),
                    };
                }
                idle @ (Writer::New | Writer::Idle(_)) => {
                    if !self.complete && self.waiting_bytes < PARCEL_BYTES {
                        self.writer = idle;
                        return Poll::Pending;
                    }
                    let writer = if let Writer::Idle(writer) = idle { Some(writer) } else { None };
                    let work = self.parcel(task, writer, operator)?;
                    self.writer = Writer::Busy(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, work));
                }
                Writer::Gone => return Poll::Pending,
            }
        }
    }

    /// Gives it up, with what was written of it.
    pub(crate) fn abandon(self, task: &TaskContext) {
        match self.writer {
            // Dropping a writer removes its file: not on the arbiter.
            Writer::Idle(writer) => {
                drop(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, move || drop(writer)));
            }
            Writer::Busy(_) => self.written.delete_later(task),
            Writer::New | Writer::Gone => {}
        }
    }

    /// Whether the whole piece surely stays below the limit of pieces in the manifest, so that writing it touches no file.
    fn fits_inline(&self, task: &TaskContext) -> bool {
        let around = self.waiting.len() * CHUNK_FRAME + self.origins.len() * CHUNK_FRAME;
        PIECE_FRAME + around + self.waiting_bytes < task.store.inline_limit()
    }

    /// The work of writing everything that waits, and of ending the piece when there is nothing more to come.
    fn parcel(
        &mut self,
        task: &TaskContext,
        writer: Option<StateWriter>,
        operator: &str,
    ) -> Result<impl FnOnce() -> Result<Parcel, StoreError> + Send + 'static + use<>, Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let (store, fence) = (Arc::clone(&task.store), task.fence.clone());
        // A name of the subtask's own: that of its chain's place in the job, since its operators may have none.
        let owner = OperatorUid::new(&format!("chain {}", task.subtask.node.0));
        let name = blob_name(task.run, self.checkpoint, &owner, task.subtask.index, IN_FLIGHT);
        let mut descriptors = Vec::new();
        if writer.is_none() {
            for origin in &self.origins {
                descriptors.push(encode(origin, operator)?);
            }
        }
        let (complete, written) = (self.complete, self.written.clone());
        Ok(move || {
            let mut writer = match writer {
                Some(writer) => writer,
                None => StateWriter::begin(PieceWriter::new(store, fence, name), &descriptors)?,
            };
            for batch in waiting {
                writer.chunk(batch.origin, 0, batch.records, &batch.bytes)?;
            }
            if !complete {
                return Ok(Parcel::More(writer));
            }
            let content = writer.finish()?;
            written.keep(&content);
            Ok(Parcel::Finished(content))
        })
    }
}

fn captured(origin: u32, batch: &dyn Batch, operator: &str) -> Result<Captured, Failure> {
    let mut bytes = Vec::with_capacity(batch.byte_size());
    batch.encode(&mut bytes).map_err(|error| Failure::unrecoverable(operator, error))?;
    Ok(Captured { origin, records: batch.len() as u32, bytes })
}
