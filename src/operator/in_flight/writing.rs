//! What a checkpoint captures in front of a chain, on its way into the store.

use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ids::{CheckpointId, OperatorUid};
use alluvium_actors::payload::Batch;
use alluvium_actors::plan::{EdgeName, Routing};
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::store::{InFlight, InFlightEdge, PieceContent, StoreError, blob_name};
use alluvium_actors::ports::task::{Failure, TaskContext};
use alluvium_actors::protocol::align::Channel;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::inlet::{Inlet, InputName};
use super::restored::RestoredInFlight;
use super::{Encoded, IN_FLIGHT, Origin};
use crate::operator::piece::{Written, encode, panic_failure, store_failure};
use crate::snapshot::{PieceWriter, StateWriter};

/// Batches are written when so many bytes wait.
const PARCEL_BYTES: usize = 256 * 1024;

/// More than a batch adds around its bytes in a piece: its header there, and its entry in the index.
const CHUNK_FRAME: usize = 64;

/// More than a piece adds around its chunks, without its descriptors: header and trailer.
const PIECE_FRAME: usize = 256;

/// What a checkpoint captures in front of a task, on its way into the store.
pub(crate) struct InFlightWriting {
    checkpoint: CheckpointId,
    /// What the manifest says of the edges.
    edges: Vec<InFlightEdge>,
    /// One per channel, behind those of what was restored and not processed.
    origins: Vec<Origin>,
    /// How many of them are in front of the channels.
    restored: u32,
    /// Each batch with its descriptor.
    waiting: Vec<(u32, Encoded)>,
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
    pub(crate) fn begin(
        checkpoint: CheckpointId,
        task: &TaskContext,
        inputs: &[InputName],
        restored: &RestoredInFlight,
        rest: Option<Encoded>,
        working: Option<Channel>,
    ) -> InFlightWriting {
        let mut writing = InFlightWriting {
            checkpoint,
            edges: Vec::new(),
            origins: Vec::new(),
            restored: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            records: 0,
            complete: false,
            writer: Writer::New,
            written: Written::default(),
        };
        let mut rest = rest;
        if let Some((inlet, producer)) = restored.working()
            && let Some(rest) = rest.take()
        {
            let origin = writing.restored_origin(inlet, producer);
            writing.keep(origin, rest);
        }
        for (inlet, producer, batch) in restored.waiting() {
            if is_active(Mutation::RestoredNotCaptured) {
                break;
            }
            let origin = writing.restored_origin(inlet, producer);
            writing.keep(origin, batch.clone());
        }
        writing.restored = writing.origins.len() as u32;
        for channel in task.inputs.iter() {
            let named = inputs.iter().find(|named| named.edge == channel.edge).expect("each input of a chain is named");
            let edge = writing.edge(&named.name, named.routing, channel.producer);
            writing.origins.push(Origin { edge, producer: channel.producer });
        }
        if let (Some(channel), Some(rest)) = (working, rest) {
            writing.keep(writing.restored + channel.0, rest);
        }
        writing
    }

    /// The descriptor of a restored batch: one for batches of one channel that follow on each other, since they are sorted by it.
    fn restored_origin(&mut self, inlet: &Inlet, producer: u32) -> u32 {
        let edge = self.edge(&inlet.name, inlet.routing, producer);
        let origin = Origin { edge, producer };
        if self.origins.last() != Some(&origin) {
            self.origins.push(origin);
        }
        self.origins.len() as u32 - 1
    }

    /// The position of an edge, with one more producer.
    fn edge(&mut self, name: &EdgeName, routing: Routing, producer: u32) -> u32 {
        let known = self.edges.iter().position(|edge| edge.name == *name);
        let position = known.unwrap_or_else(|| {
            self.edges.push(InFlightEdge { name: name.clone(), records: 0, producers: 0, routing });
            self.edges.len() - 1
        });
        let producers = &mut self.edges[position].producers;
        *producers = (*producers).max(producer.saturating_add(1));
        position as u32
    }

    /// A batch of a channel that belongs to the checkpoint.
    ///
    /// # Errors
    /// When a record's own serialization fails.
    pub(crate) fn capture(&mut self, channel: Channel, batch: &dyn Batch, operator: &str) -> Result<(), Failure> {
        self.keep(self.restored + channel.0, Encoded::new(batch, operator)?);
        Ok(())
    }

    /// Nothing more belongs to it.
    pub(crate) fn end(&mut self) {
        self.complete = true;
    }

    fn keep(&mut self, origin: u32, batch: Encoded) {
        self.records += u64::from(batch.records);
        let edge = self.origins[origin as usize].edge;
        self.edges[edge as usize].records += u64::from(batch.records);
        self.waiting_bytes += batch.bytes.len();
        self.waiting.push((origin, batch));
    }

    /// Writes on. Ready once all is captured and durable, with nothing where there was nothing; not to be called again after that.
    pub(crate) fn poll(
        &mut self,
        task: &TaskContext,
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<InFlight>, Failure>> {
        let (records, parallelism, edges) = (self.records, task.parallelism, self.edges.clone());
        let in_flight = |content| Poll::Ready(Ok(Some(InFlight { records, content, parallelism, edges })));
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
            // Its answer may be there, with the writer in it.
            Writer::Busy(promise) => {
                drop(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, move || drop(promise)));
                self.written.delete_later(task);
            }
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
            for (origin, batch) in waiting {
                writer.chunk(origin, 0, batch.records, &batch.bytes)?;
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
