//! The edge: a small queue of frames between one producer and one consumer, in the memory of one process.
//!
//! A mutexed deque: one lock per *batch* costs nothing per record, needs no `unsafe`, and frames can be read in place. Both ends
//! may live on different threads. The protocol between them (rules 3 and 34):
//!
//! - **Order.** Frames leave in the order in which they were sent, each one once.
//! - **Credit.** A batch waits for credit; control frames do not, nor do the batches that a barrier or an end pushes in
//!   front of itself. A credit comes back when its batch leaves the queue, not when it is used up.
//! - **Sleep.** Who finds nothing to do (no frame, or no credit) leaves its waker behind *under the lock under which it
//!   looked*, then returns pending. The other side either made its change before the look, and the look found it, or comes
//!   after, and finds the waker. There is no gap in which a wake-up can be lost, and no second look is needed.
//! - **Wake.** Whoever makes the change takes the waker out under the lock and wakes after the lock is released. Every
//!   frame wakes the consumer; the producer is woken when half of its credits are back, as [the credits](crate::protocol::credit) decide. A wake-up
//!   may be one too many, never one too few: who is woken looks again.
//! - **Marker, then message.** A barrier's marker is pushed before its message goes to the consumer's mailbox, so a
//!   consumer that has the message finds the marker in the queue, or has already taken it.
//! - **Ends.** When the consumer is dropped, the producer is woken; what it sends from then on is dropped at once, as if
//!   it had been read. A producer that is dropped wakes nobody: it said [`Frame::EndOfChannel`] before, or its attempt has
//!   failed, and the consumer hears of that in its mailbox.
//! - **Buffers.** Emptied batches go back to the producer; no more are kept than an edge usually holds, the rest is freed.
//!
//! Foreign code never runs under the lock: destructors of records and of wakers, and wake-ups, come after it. The one
//! exception is the clone of a waker, which has to happen where the look happened.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::task::{Context, Poll, Waker};

use crate::ids::{CheckpointId, Moment};
use crate::payload::Payload;
use crate::ports::store::CheckpointKind;
use crate::protocol::credit::{Credit, DEFAULT_CREDITS};
use crate::protocol::mutation::{Mutation, is_active};
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// How many batches may wait in an edge before its producer stops.
pub const CREDITS: u32 = DEFAULT_CREDITS;

/// How many emptied buffers an edge keeps for its producer.
const RETURNED_BUFFERS: usize = CREDITS as usize;

/// What an edge carries, in order.
#[derive(Debug)]
pub enum Frame {
    /// Records.
    Batch(Payload),
    /// The marker of a barrier: its exact position among the records.
    Barrier(Barrier),
    /// The checkpoint with this id will not be cut by the producer.
    Cancel(CheckpointId),
    /// No record follows. Barriers still do, until the end of the channel (rule 2).
    EndOfData,
    /// Nothing follows.
    EndOfChannel,
}

/// A checkpoint barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// What kind of checkpoint.
    pub kind: CheckpointKind,
    /// When the coordinator triggered it.
    pub triggered: Moment,
    /// From when on it overtakes what waits in front of it; None if it never does.
    pub overtakes: Option<Moment>,
}

struct Queue {
    frames: VecDeque<Frame>,
    credit: Credit,
    /// Left behind by a consumer that found no frame; taken out by the next frame.
    consumer: Option<Waker>,
    /// Left behind by a producer that got no credit. It stays when the producer later gets one without having been woken,
    /// and then means nothing: whether the producer waits, `credit` knows.
    producer: Option<Waker>,
    returned: Vec<Payload>,
    sender_gone: bool,
    receiver_gone: bool,
}

/// The producer's end. Dropping it frees the buffers that came back, and leaves the frames to the consumer.
pub struct EdgeSender {
    queue: Arc<Mutex<Queue>>,
}

/// The consumer's end. Dropping it drops the frames that wait and wakes the producer.
pub struct EdgeReceiver {
    queue: Arc<Mutex<Queue>>,
}

/// Looks into an edge from any thread, without taking anything.
#[derive(Clone)]
pub struct EdgeProbe {
    queue: Arc<Mutex<Queue>>,
}

/// A new edge with room for `credits` batches, and at least for one.
#[must_use]
pub fn edge(credits: u32) -> (EdgeSender, EdgeReceiver) {
    let queue = Arc::new(Mutex::new(Queue {
        frames: VecDeque::with_capacity(credits as usize + 2),
        credit: Credit::new(credits),
        consumer: None,
        producer: None,
        returned: Vec::with_capacity(RETURNED_BUFFERS),
        sender_gone: false,
        receiver_gone: false,
    }));
    (EdgeSender { queue: Arc::clone(&queue) }, EdgeReceiver { queue })
}

impl EdgeSender {
    /// Sends a batch if there is credit; else gives it back, and wakes `context` when half of the credits have returned.
    /// Without a consumer the batch is dropped: the attempt is about to end, and its records go nowhere.
    ///
    /// # Errors
    /// The batch itself, when there is no credit.
    pub fn try_send(&self, batch: Payload, context: &mut Context<'_>) -> Result<(), Payload> {
        let mut queue = lock(&self.queue);
        if !queue.receiver_gone && !queue.credit.try_take() {
            let replaced = keep(&mut queue.producer, context);
            drop(queue);
            drop(replaced);
            return Err(batch);
        }
        push(queue, Frame::Batch(batch));
        Ok(())
    }

    /// Sends a frame whatever the credit says: control frames, and the batches that a barrier pushes in front of itself.
    pub fn force_send(&self, frame: Frame) {
        let mut queue = lock(&self.queue);
        if !queue.receiver_gone && matches!(frame, Frame::Batch(_)) {
            queue.credit.force_take();
        }
        push(queue, frame);
    }

    /// An emptied buffer that came back, if there is one: the one that came last, since it is the likeliest to be in a cache.
    #[must_use]
    pub fn take_returned(&self) -> Option<Payload> {
        lock(&self.queue).returned.pop()
    }
}

impl EdgeReceiver {
    /// Takes the next frame, or leaves the waker behind. After [`Frame::EndOfChannel`] it is pending for ever.
    pub fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Frame> {
        let mut queue = lock(&self.queue);
        let Some(frame) = queue.frames.pop_front() else {
            let replaced = if is_active(Mutation::LostWakeUp) { None } else { keep(&mut queue.consumer, context) };
            drop(queue);
            drop(replaced);
            return Poll::Pending;
        };
        let wakes = matches!(frame, Frame::Batch(_)) && queue.credit.give_back().0;
        let producer = if wakes { queue.producer.take() } else { None };
        drop(queue);
        if let Some(producer) = producer {
            producer.wake();
        }
        Poll::Ready(frame)
    }

    /// Shows the frames that wait, from position `from` on, until `visit` has seen enough; and leaves the waker behind. Nothing is taken, and no
    /// credit comes back.
    ///
    /// The frames are out of the queue while they are looked at, so that what `visit` does (it encodes records) does not happen under the lock; what the
    /// producer sends meanwhile comes behind them. Only the consumer takes frames, and the consumer is here.
    pub fn look(&self, context: &Context<'_>, from: usize, visit: &mut dyn FnMut(&Frame) -> ControlFlow<()>) {
        let mut queue = lock(&self.queue);
        let replaced = keep(&mut queue.consumer, context);
        let mut frames = std::mem::take(&mut queue.frames);
        drop(queue);
        drop(replaced);
        let _ = frames.iter().skip(from).try_for_each(visit);
        let mut queue = lock(&self.queue);
        frames.append(&mut queue.frames);
        queue.frames = frames;
    }

    /// Gives the buffer of a used-up batch back to the producer, or frees it if the producer has enough of them or is gone.
    pub fn give_back(&self, emptied: Payload) {
        let mut queue = lock(&self.queue);
        if queue.sender_gone || queue.returned.len() >= RETURNED_BUFFERS {
            drop(queue);
            drop(emptied);
        } else {
            queue.returned.push(emptied);
        }
    }
}

impl EdgeReceiver {
    /// Something to look into the edge with.
    #[must_use]
    pub fn probe(&self) -> EdgeProbe {
        EdgeProbe { queue: Arc::clone(&self.queue) }
    }
}

impl EdgeProbe {
    /// How many batches are in front of the marker of a checkpoint, and whether the marker is there; without it all batches. What the consumer is [looking at](EdgeReceiver::look)
    /// at this very moment is not seen.
    #[must_use]
    pub fn in_front_of(&self, checkpoint: CheckpointId) -> (u32, bool) {
        let queue = lock(&self.queue);
        let mut batches = 0;
        for frame in &queue.frames {
            match frame {
                Frame::Batch(_) => batches += 1,
                Frame::Barrier(barrier) if barrier.checkpoint == checkpoint => return (batches, true),
                Frame::Barrier(_) | Frame::Cancel(_) | Frame::EndOfData | Frame::EndOfChannel => {}
            }
        }
        (batches, false)
    }
}

/// Puts a frame into the queue, gives up the lock and wakes the consumer if it sleeps. Without a consumer the frame is dropped.
fn push(mut queue: MutexGuard<'_, Queue>, frame: Frame) {
    if queue.receiver_gone {
        drop(queue);
        drop(frame);
        return;
    }
    queue.frames.push_back(frame);
    let consumer = queue.consumer.take();
    drop(queue);
    if let Some(consumer) = consumer {
        consumer.wake();
    }
}

/// Keeps the waker of `context`, without a clone when it is the same one as before. Gives back the one that it replaces,
/// to be dropped outside the lock: it may be the last hold on a task that owns an end of this edge.
#[must_use]
fn keep(slot: &mut Option<Waker>, context: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(context.waker()) => None,
        _ => slot.replace(context.waker().clone()),
    }
}

impl Drop for EdgeSender {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.sender_gone = true;
        let left = (queue.producer.take(), std::mem::take(&mut queue.returned));
        drop(queue);
        drop(left);
    }
}

impl Drop for EdgeReceiver {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.receiver_gone = true;
        let producer = queue.producer.take();
        let left = (queue.consumer.take(), std::mem::take(&mut queue.frames), std::mem::take(&mut queue.returned));
        drop(queue);
        // First the wake-up: a destructor of a record may panic.
        if let Some(producer) = producer {
            producer.wake();
        }
        drop(left);
    }
}

impl fmt::Debug for EdgeSender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EdgeSender")
    }
}

impl fmt::Debug for EdgeProbe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EdgeProbe")
    }
}

impl fmt::Debug for EdgeReceiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EdgeReceiver")
    }
}
