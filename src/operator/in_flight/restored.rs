//! What was in flight in front of a chain when the restored checkpoint was taken: what belongs to this subtask, in order, until it is processed.
//!
//! Each subtask looks at what all former ones held on the edges that lead to it and takes what is due to it (`reroute` in the kernel). Where user code says which subtask
//! that is, by a key or by a function, it is asked again, record by record.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium_actors::payload::Payload;
use alluvium_actors::plan::Routing;
use alluvium_actors::ports::blocking::{Lane, Promise};
use alluvium_actors::ports::store::StoreError;
use alluvium_actors::ports::task::{Failure, TaskContext};
use alluvium_actors::protocol::mutation::{Mutation, is_active};
use alluvium_actors::protocol::reroute::{FormerChannel, Taken};

use super::inlet::{HEAD, Inlet};
use super::{Encoded, Origin};
use crate::operator::piece::{panic_failure, store_failure};
use crate::record::key_group_range;
use crate::snapshot::{PieceReader, StateReader, damaged};

/// What was in flight and is not processed yet.
pub(crate) struct RestoredInFlight {
    stage: Stage,
    inlets: Vec<Inlet>,
    /// In the order in which they are to be processed.
    batches: VecDeque<Found>,
    /// The batch in work, if it is one of them: its inlet and the index of its producer.
    working: Option<(usize, u32)>,
}

enum Stage {
    /// Nothing was asked for.
    New,
    Reading(Promise<Result<Vec<Found>, StoreError>>),
    /// Of some batches only a part may belong to this subtask.
    Sorting(VecDeque<Found>),
    Done,
}

/// A batch with its inlet.
struct Found {
    inlet: usize,
    producer: u32,
    taken: Taken,
    batch: Encoded,
}

/// The piece of a former subtask, and what this one takes of it.
struct Former {
    input: PieceReader,
    consumer: u32,
    consumers: u32,
    /// For each edge that the manifest names, how it leads to this chain, if it does.
    edges: Vec<Option<FormerEdge>>,
}

#[derive(Clone, Copy)]
struct FormerEdge {
    inlet: usize,
    producers: u32,
    routing: Routing,
}

/// The place of a subtask among those of its operator.
#[derive(Clone, Copy)]
struct Own {
    subtask: u32,
    parallelism: u32,
    max_parallelism: u32,
}

impl RestoredInFlight {
    pub(crate) fn new(mut inlets: Vec<Inlet>) -> RestoredInFlight {
        if is_active(Mutation::FusedInFlightForgotten) {
            inlets.retain(|inlet| inlet.number == HEAD);
        }
        RestoredInFlight { stage: Stage::New, inlets, batches: VecDeque::new(), working: None }
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
                    let former = former(&self.inlets, task);
                    if former.is_empty() {
                        self.stage = Stage::Done;
                        continue;
                    }
                    let own = Own {
                        subtask: task.subtask.index,
                        parallelism: task.parallelism,
                        max_parallelism: task.max_parallelism,
                    };
                    let work = move || read(&former, own);
                    self.stage = Stage::Reading(Promise::start(task.host.blocking().as_ref(), Lane::Blobs, work));
                }
                Stage::Reading(promise) => {
                    let found = match promise.poll(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(Ok(found))) => found,
                        Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(store_failure(operator, &error))),
                        Poll::Ready(Err(panicked)) => return Poll::Ready(Err(panic_failure(operator, &panicked))),
                    };
                    self.stage = Stage::Sorting(found.into());
                }
                Stage::Sorting(found) => {
                    let Some(next) = found.pop_front() else {
                        self.in_order();
                        self.stage = Stage::Done;
                        continue;
                    };
                    let asks = next.taken == Taken::Owned;
                    if let Some(own) = sorted(&mut self.inlets, next, task.subtask.index as usize)? {
                        self.batches.push_back(own);
                    }
                    if asks {
                        // User code ran: the mailbox is looked at.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Stage::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// What is deeper in the chain comes first: it left the operators before it before everything that waits in front of them. Inlets are numbered down the chain.
    fn in_order(&mut self) {
        let batches = self.batches.make_contiguous();
        if is_active(Mutation::ReroutedBackwards) && batches.iter().any(|found| found.taken == Taken::Owned) {
            batches.reverse();
        }
        batches.sort_by_key(|found| Reverse(self.inlets[found.inlet].number));
    }

    /// Whether there is anything that was not processed to its end.
    pub(crate) fn is_open(&self) -> bool {
        self.working.is_some() || !self.batches.is_empty()
    }

    /// The batch in work, if it is one that was in flight: its inlet and the index of its producer.
    pub(super) fn working(&self) -> Option<(&Inlet, u32)> {
        self.working.map(|(inlet, producer)| (&self.inlets[inlet], producer))
    }

    /// The number of the link that works on such a batch.
    pub(crate) fn at_work(&self) -> Option<usize> {
        self.working().map(|(inlet, _)| inlet.number)
    }

    /// What waits, in order: each batch with its inlet and the index of its producer.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Inlet, u32, &Encoded)> {
        self.batches.iter().map(|found| (&self.inlets[found.inlet], found.producer, &found.batch))
    }

    /// The next batch, with the number of its link and the input there.
    ///
    /// # Errors
    /// When the bytes are no batch of such records, or their keys are other ones.
    pub(crate) fn take(&mut self, own: usize) -> Result<Option<(usize, usize, Payload)>, Failure> {
        let Some(found) = self.batches.pop_front() else { return Ok(None) };
        let inlet = &mut self.inlets[found.inlet];
        let mut payload = inlet.read(&found.batch.bytes)?;
        // What stays where it was is looked at here: its keys are to be what they were.
        if inlet.routing == Routing::KeyGroup
            && found.taken == Taken::All
            && !is_active(Mutation::FormerInFlightForgotten)
            && !is_active(Mutation::InFlightDealtWithoutKeys)
            && let Some(again) = &mut inlet.partitioner
        {
            let count = payload.len();
            let owned = (again.owned)(&mut again.partitioner, payload, own)?;
            payload = owned.filter(|owned| owned.len() == count).ok_or_else(|| {
                inlet.fail(format_args!(
                    "what was in flight from {} belongs to another subtask than the one that it waited for: a bug of the runtime",
                    inlet.name
                ))
            })?;
        }
        self.working = Some((found.inlet, found.producer));
        Ok(Some((inlet.number, inlet.input, payload)))
    }

    /// The batch in work is used up.
    pub(crate) fn used_up(&mut self) {
        self.working = None;
    }
}

/// The pieces with something on an edge that leads to one of the inlets, in the order of the former subtasks.
fn former(inlets: &[Inlet], task: &TaskContext) -> Vec<Former> {
    if inlets.is_empty() {
        return Vec::new();
    }
    let in_flight = task.restored.iter().flat_map(|manifest| manifest.in_flight());
    let mut former: Vec<_> = in_flight
        .filter_map(|(subtask, in_flight)| {
            let edges = in_flight.edges.iter().map(|edge| {
                let inlet = inlets.iter().position(|inlet| inlet.name == edge.name).filter(|_| edge.records > 0)?;
                Some(FormerEdge { inlet, producers: edge.producers, routing: inlets[inlet].routing })
            });
            let edges: Vec<_> = edges.collect();
            edges.iter().any(Option::is_some).then(|| {
                let input = PieceReader::new(Arc::clone(&task.store), &in_flight.content);
                (subtask, Former { input, consumer: subtask.index, consumers: in_flight.parallelism, edges })
            })
        })
        .collect();
    former.sort_by_key(|(subtask, _)| *subtask);
    former.into_iter().map(|(_, former)| former).collect()
}

/// Reads what is due to a subtask, or may be: former subtask by former subtask, channel by channel.
fn read(former: &[Former], own: Own) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for former in former {
        let reader = StateReader::open(former.input.clone())?;
        let wrong = |reason: String| damaged(former.input.place(), reason);
        let mut origins = Vec::with_capacity(reader.descriptors().len());
        for descriptor in reader.descriptors() {
            let origin: Origin = rmp_serde::from_slice(descriptor)
                .map_err(|error| wrong(format!("a descriptor is none of a channel: {error}")))?;
            if origin.edge as usize >= former.edges.len() {
                return Err(wrong("a descriptor names an edge that the manifest does not".to_owned()));
            }
            origins.push(origin);
        }
        // All chunks are of one key group, so that they stand in the order of their channels, and in each in that in which they came.
        let (mut chunks, mut ways) = (Vec::new(), Vec::new());
        for chunk in reader.chunks() {
            let origin = origins[chunk.state as usize];
            let Some(edge) = former.edges[origin.edge as usize] else { continue };
            let taken = taken(former, edge, origin.producer, own);
            if taken != Taken::Nothing {
                chunks.push(*chunk);
                ways.push((edge.inlet, origin.producer, taken));
            }
        }
        let contents = reader.read_each(&chunks)?;
        for ((inlet, producer, taken), (chunk, bytes)) in ways.into_iter().zip(chunks.iter().zip(contents)) {
            found.push(Found { inlet, producer, taken, batch: Encoded { records: chunk.count, bytes } });
        }
    }
    Ok(found)
}

/// What a subtask takes of a former channel.
fn taken(former: &Former, edge: FormerEdge, producer: u32, own: Own) -> Taken {
    let FormerEdge { producers, routing, .. } = edge;
    let channel = FormerChannel { consumer: former.consumer, consumers: former.consumers, producer, producers };
    let taken = channel.taken_by(own.subtask, own.parallelism, routing);
    if taken == Taken::Owned && routing == Routing::KeyGroup {
        // Key groups never change, so what a former subtask held is of those that it owned.
        let held = key_group_range(former.consumer, former.consumers.max(1), own.max_parallelism);
        let owned = key_group_range(own.subtask, own.parallelism, own.max_parallelism);
        if held.start >= owned.end || owned.start >= held.end {
            return Taken::Nothing;
        }
    }
    taken
}

/// What of a batch belongs to this subtask.
fn sorted(inlets: &mut [Inlet], found: Found, own: usize) -> Result<Option<Found>, Failure> {
    if found.taken != Taken::Owned {
        return Ok(Some(found));
    }
    let inlet = &mut inlets[found.inlet];
    let payload = inlet.read(&found.batch.bytes)?;
    let Some(again) = &mut inlet.partitioner else {
        let name = &inlet.name;
        return Err(inlet.fail(format_args!("nobody knows whose the records from {name} are: a bug in the planner")));
    };
    let count = payload.len();
    let Some(owned) = (again.owned)(&mut again.partitioner, payload, own)? else { return Ok(None) };
    let batch = if owned.len() == count { found.batch } else { Encoded::new(owned.as_ref(), &inlet.label)? };
    Ok(Some(Found { batch, ..found }))
}
