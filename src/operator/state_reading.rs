//! Reading a keyed snapshot back: the piece's header first, then its chunks in parts, each read away from the arbiter.

use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::store::{Piece, StoreError};
use alluvium_actors::ports::task::{Failure, TaskContext};
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::piece::{decode, panic_failure, store_failure};
use crate::snapshot::{PieceReader, StateReader};
use crate::state::{StateDescriptor, StateKind, StateMapping};

/// So many bytes of chunks are read at once.
const PART_BYTES: u64 = 1024 * 1024;

/// A snapshot that is being read.
pub(crate) struct StateReading {
    stage: Stage,
}

enum Stage {
    /// The header is being read.
    Opening(Promise<Result<StateReader, StoreError>>),
    /// Chunks up to `next` were asked for.
    Chunks { reader: Arc<StateReader>, next: usize, part: Promise<Result<Vec<Vec<u8>>, StoreError>> },
    /// Everything was read.
    End,
}

/// What the reading gives, in this order.
pub(crate) enum Part {
    /// The header: how stored states match those of the operator, and how many keys to expect at least.
    Header { mapping: StateMapping, keys: usize },
    /// Some chunks.
    Chunks(Vec<Vec<u8>>),
    /// There is nothing more.
    End,
}

impl StateReading {
    /// Begins to read.
    pub(crate) fn start(task: &TaskContext, piece: &Piece) -> StateReading {
        let input = PieceReader::new(Arc::clone(&task.store), &piece.content);
        let open = move || StateReader::open(input);
        StateReading { stage: Stage::Opening(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, open)) }
    }

    /// The next part.
    pub(crate) fn poll(
        &mut self,
        task: &TaskContext,
        current: &[StateDescriptor],
        operator: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<Part, Failure>> {
        let answer = match &mut self.stage {
            Stage::Opening(promise) => match promise.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(reader))) => {
                    let header = header(&reader, current, operator);
                    self.stage = ask(task, Arc::new(reader), 0);
                    return Poll::Ready(header);
                }
                Poll::Ready(Ok(Err(error))) => Err(store_failure(operator, &error)),
                Poll::Ready(Err(panicked)) => Err(panic_failure(operator, &panicked)),
            },
            Stage::Chunks { reader, next, part } => match part.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(chunks))) => {
                    let (reader, next) = (Arc::clone(reader), *next);
                    // The next part is read while this one is put into the table.
                    self.stage = ask(task, reader, next);
                    Ok(Part::Chunks(chunks))
                }
                Poll::Ready(Ok(Err(error))) => Err(store_failure(operator, &error)),
                Poll::Ready(Err(panicked)) => Err(panic_failure(operator, &panicked)),
            },
            Stage::End => Ok(Part::End),
        };
        Poll::Ready(answer)
    }
}

/// Asks for the chunks from number `from` on, as many as make a part; at least one.
fn ask(task: &TaskContext, reader: Arc<StateReader>, from: usize) -> Stage {
    let mut bytes = 0;
    let rest = reader.chunks().get(from..).unwrap_or_default();
    let taken = rest
        .iter()
        .take_while(|chunk| {
            let first = bytes == 0;
            bytes += u64::from(chunk.length);
            first || bytes <= PART_BYTES
        })
        .count();
    if taken == 0 {
        return Stage::End;
    }
    let next = from + taken;
    let asked = Arc::clone(&reader);
    let skipped = |group: u32| is_active(Mutation::RestoreSkipsAKeyGroup) && group.is_multiple_of(8);
    let read = move || {
        let wanted = asked.chunks()[from..next].iter().filter(|chunk| !skipped(chunk.key_group));
        wanted.map(|chunk| asked.read(chunk)).collect()
    };
    Stage::Chunks { reader, next, part: Promise::start(task.host.blocking().as_ref(), Lane::Blobs, read) }
}

fn header(reader: &StateReader, current: &[StateDescriptor], operator: &str) -> Result<Part, Failure> {
    let stored: Vec<StateDescriptor> =
        reader.descriptors().iter().map(|bytes| decode(bytes, operator)).collect::<Result<_, _>>()?;
    let mapping = StateMapping::new(&stored, current).map_err(|error| Failure::unrecoverable(operator, error))?;
    // A value is there once per key, so the fullest value state tells the least number of keys; the others tell nothing.
    let mut keys = vec![0_usize; stored.len()];
    for chunk in reader.chunks() {
        if stored[chunk.state as usize].kind == StateKind::Value {
            keys[chunk.state as usize] += chunk.count as usize;
        }
    }
    Ok(Part::Header { mapping, keys: keys.into_iter().max().unwrap_or(0) })
}
