//! The edge: a small queue of frames between one producer and one consumer, in memory of one process.
//!
//! A mutexed deque: one lock per *batch* costs nothing per record, needs no `unsafe`, and frames can be read in place. Softly
//! bounded by credits: a batch waits for credit, control frames and what a barrier flushes do not (rule 3). Wake-ups follow one order: look, and if
//! there is nothing, leave the waker behind *under the same lock*, then return pending. The other side takes the waker out under the lock and wakes after it
//! has released it. So a wake-up can be neither lost nor missed; loom checks it.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

use crate::ids::{CheckpointId, Moment};
use crate::payload::Payload;
use crate::ports::store::CheckpointKind;
use crate::protocol::credit::Credit;
use crate::sync::{Arc, Mutex, lock};

/// How many batches may wait in an edge before its producer stops.
pub const CREDITS: u32 = 8;

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
}

struct Queue {
    frames: VecDeque<Frame>,
    credit: Credit,
    consumer: Option<Waker>,
    producer: Option<Waker>,
    returned: Vec<Payload>,
    closed: bool,
}

/// The producer's end.
pub struct EdgeSender {
    queue: Arc<Mutex<Queue>>,
}

/// The consumer's end.
pub struct EdgeReceiver {
    queue: Arc<Mutex<Queue>>,
}

/// A new edge with room for `credits` batches.
#[must_use]
pub fn edge(credits: u32) -> (EdgeSender, EdgeReceiver) {
    let queue = Arc::new(Mutex::new(Queue {
        frames: VecDeque::with_capacity(credits as usize + 2),
        credit: Credit::new(credits),
        consumer: None,
        producer: None,
        returned: Vec::with_capacity(RETURNED_BUFFERS),
        closed: false,
    }));
    (EdgeSender { queue: Arc::clone(&queue) }, EdgeReceiver { queue })
}

impl EdgeSender {
    /// Sends a batch if there is credit; else gives it back and wakes `context` when half of the credits have returned.
    ///
    /// # Errors
    /// The batch itself, when there is no credit.
    pub fn try_send(&self, batch: Payload, context: &mut Context<'_>) -> Result<(), Payload> {
        let wake = {
            let mut queue = lock(&self.queue);
            if !queue.credit.try_take() {
                if queue.closed {
                    // Nobody reads any more: the consumer failed or ended. The attempt is about to end; records go nowhere.
                    return Ok(());
                }
                keep(&mut queue.producer, context);
                return Err(batch);
            }
            queue.frames.push_back(Frame::Batch(batch));
            queue.consumer.take()
        };
        if let Some(waker) = wake {
            waker.wake();
        }
        Ok(())
    }

    /// Sends a frame whatever the credit says: control frames, and the batches that a barrier pushes in front of itself.
    pub fn force_send(&self, frame: Frame) {
        let wake = {
            let mut queue = lock(&self.queue);
            if matches!(frame, Frame::Batch(_)) {
                queue.credit.force_take();
            }
            queue.frames.push_back(frame);
            queue.consumer.take()
        };
        if let Some(waker) = wake {
            waker.wake();
        }
    }

    /// An emptied buffer that came back, if there is one.
    #[must_use]
    pub fn take_returned(&self) -> Option<Payload> {
        lock(&self.queue).returned.pop()
    }
}

impl EdgeReceiver {
    /// Takes the next frame, or leaves the waker behind.
    pub fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Frame> {
        let (frame, wake) = {
            let mut queue = lock(&self.queue);
            let Some(frame) = queue.frames.pop_front() else {
                keep(&mut queue.consumer, context);
                return Poll::Pending;
            };
            let wake = if matches!(frame, Frame::Batch(_)) && queue.credit.give_back().0 {
                queue.producer.take()
            } else {
                None
            };
            (frame, wake)
        };
        if let Some(waker) = wake {
            waker.wake();
        }
        Poll::Ready(frame)
    }

    /// Gives the buffer of a used-up batch back to the producer.
    pub fn give_back(&self, emptied: Payload) {
        let mut queue = lock(&self.queue);
        if queue.returned.len() < RETURNED_BUFFERS {
            queue.returned.push(emptied);
        }
    }

    /// How many frames wait. For statistics and stories.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.queue).frames.len()
    }
}

/// Keeps the waker of `context`, without a clone when it is the same one as before.
fn keep(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => *slot = Some(context.waker().clone()),
    }
}

impl Drop for EdgeReceiver {
    fn drop(&mut self) {
        let (frames, returned, wake) = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            queue.consumer = None;
            (std::mem::take(&mut queue.frames), std::mem::take(&mut queue.returned), queue.producer.take())
        };
        if let Some(waker) = wake {
            waker.wake();
        }
        // Records are dropped outside the lock: their destructors are user code.
        drop(frames);
        drop(returned);
    }
}

impl fmt::Debug for EdgeSender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EdgeSender")
    }
}

impl fmt::Debug for EdgeReceiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EdgeReceiver")
    }
}
