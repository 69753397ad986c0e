//! The edge under loom: every interleaving of two threads at its lock, within a bound of preemptions.
//!
//! A thread that has nothing to do sleeps until its waker is called, without spurious wake-ups. So a lost wake-up is a
//! deadlock, and loom reports it. The models are about batches, a barrier that is forced into a full edge, a dropped
//! consumer, a marker and its message, buffers that come back, and destructors of records. Which of them finds which fault
//! was tried out by breaking the edge:
//!
//! | broken on purpose | found by |
//! | --- | --- |
//! | the consumer leaves its waker after the lock of the look was released | batches, forced barrier, dropped consumer, buffers |
//! | the producer leaves its waker after the lock of the look was released | the same, and destructors |
//! | no wake-up at half of the credits | batches, forced barrier, dropped consumer, buffers |
//! | the producer is woken only by the batch that empties the queue | batches of two and three credits, forced barrier |
//! | a control frame wakes nobody | batches (their end), forced barrier |
//! | a frame wakes the consumer only if another one waits | batches, forced barrier, dropped consumer, buffers |
//! | a dropped consumer wakes nobody | dropped consumer, destructors |
//! | a batch waits for credit although nobody reads | dropped consumer, destructors |
//! | an edge that nobody reads still takes frames | dropped consumer, destructors |
//! | the message goes before the marker | marker then message |
//! | frames are dropped under the lock, by either end | destructors |
//! | frames leave in another order | batches, forced barrier |
//! | buffers are kept for a producer that is gone | buffers |

#![cfg(loom)]

mod payload;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use alluvium_actors::drive::edge::{Barrier, EdgeReceiver, EdgeSender, Frame, edge};
use alluvium_actors::ids::{CheckpointId, Moment};
use alluvium_actors::payload::Payload;
use alluvium_actors::ports::store::CheckpointKind;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use payload::Numbered;

/// How often a thread may be interrupted where it need not be. Three find every fault of the table; six still end
/// within half a minute.
const PREEMPTIONS: usize = 4;

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// One thread that sleeps until its waker is called.
#[derive(Default)]
struct Sleeper {
    woken: Mutex<bool>,
    signal: Condvar,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().expect("loom has no poisoned locks") = true;
        self.signal.notify_one();
    }
}

/// Polls until ready, asleep in between.
fn wait_for<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let sleeper = Arc::new(Sleeper::default());
    let waker = Waker::from(Arc::clone(&sleeper));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(ready) = poll(&mut context) {
            return ready;
        }
        let mut woken = sleeper.woken.lock().expect("loom has no poisoned locks");
        while !*woken {
            woken = sleeper.signal.wait(woken).expect("loom has no poisoned locks");
        }
        *woken = false;
    }
}

fn send(sender: &EdgeSender, batch: Payload) {
    let mut batch = Some(batch);
    wait_for(|context| match sender.try_send(batch.take().expect("pending only with the batch given back"), context) {
        Ok(()) => Poll::Ready(()),
        Err(refused) => {
            batch = Some(refused);
            Poll::Pending
        }
    });
}

fn receive(receiver: &EdgeReceiver) -> Frame {
    wait_for(|context| receiver.poll_frame(context))
}

fn barrier(checkpoint: u64) -> Frame {
    Frame::Barrier(Barrier {
        checkpoint: CheckpointId(checkpoint),
        kind: CheckpointKind::Periodic,
        triggered: Moment::default(),
        overtakes: None,
    })
}

/// What was sent, in words.
fn name(frame: Frame) -> String {
    match frame {
        Frame::Batch(batch) => Numbered::from_payload(batch).number.to_string(),
        Frame::Barrier(barrier) => format!("barrier {}", barrier.checkpoint),
        Frame::Cancel(checkpoint) => format!("cancel {checkpoint}"),
        Frame::EndOfData => "end of data".to_owned(),
        Frame::EndOfChannel => "end".to_owned(),
    }
}

fn read_to_the_end(receiver: &EdgeReceiver) -> Vec<String> {
    let mut read = Vec::new();
    while read.last().is_none_or(|last| last != "end") {
        read.push(name(receive(receiver)));
    }
    read
}

fn batches_arrive(credits: u32, batches: u64) {
    explore(move || {
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&alive);
        let (sender, receiver) = edge(credits);
        let producer = thread::spawn(move || {
            for number in 0..batches {
                send(&sender, Numbered::payload(number, &counted));
            }
            sender.force_send(Frame::EndOfChannel);
        });
        let expected: Vec<String> = (0..batches).map(|number| number.to_string()).chain(["end".to_owned()]).collect();
        assert_eq!(read_to_the_end(&receiver), expected);
        producer.join().expect("the producer comes to its end");
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn with_one_credit_every_batch_arrives_in_order_and_nobody_sleeps_for_ever() {
    batches_arrive(1, 3);
}

#[test]
fn with_two_credits_every_batch_arrives_in_order_and_nobody_sleeps_for_ever() {
    batches_arrive(2, 5);
}

#[test]
fn with_three_credits_every_batch_arrives_in_order_and_nobody_sleeps_for_ever() {
    batches_arrive(3, 5);
}

#[test]
fn a_barrier_passes_a_full_edge_while_the_producer_waits_for_credit() {
    explore(|| {
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = edge(1);
        let producer = thread::spawn(move || {
            send(&sender, Numbered::payload(0, &alive));
            // Refused or not: the trigger comes now, and what waits goes in front of the barrier.
            let waiting = sender.try_send(Numbered::payload(1, &alive), &mut Context::from_waker(Waker::noop()));
            if let Err(batch) = waiting {
                sender.force_send(Frame::Batch(batch));
            }
            sender.force_send(barrier(1));
            send(&sender, Numbered::payload(2, &alive));
            sender.force_send(Frame::Cancel(CheckpointId(2)));
            sender.force_send(Frame::EndOfChannel);
        });
        assert_eq!(read_to_the_end(&receiver), ["0", "1", "barrier 1", "2", "cancel 2", "end"]);
        producer.join().expect("the producer comes to its end");
    });
}

#[test]
fn a_producer_whose_consumer_is_dropped_does_not_sleep_for_ever_and_leaves_nothing_in_the_edge() {
    for read in 0..=2 {
        explore(move || {
            let alive = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&alive);
            let (sender, receiver) = edge(1);
            let producer = thread::spawn(move || {
                for number in 0..3 {
                    send(&sender, Numbered::payload(number, &counted));
                }
                sender.force_send(Frame::Batch(Numbered::payload(3, &counted)));
                sender.force_send(Frame::EndOfChannel);
                sender
            });
            for number in 0..read {
                assert_eq!(name(receive(&receiver)), number.to_string());
            }
            drop(receiver);
            let sender = producer.join().expect("the producer comes to its end");
            assert_eq!(alive.load(Ordering::SeqCst), 0, "an edge that nobody reads holds batches");
            drop(sender);
        });
    }
}

#[test]
fn who_has_the_message_of_a_barrier_finds_its_marker_or_has_taken_it() {
    explore(|| {
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = edge(1);
        let mailbox: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
        let mailbox_of_consumer = Arc::clone(&mailbox);
        let producer = thread::spawn(move || {
            send(&sender, Numbered::payload(0, &alive));
            sender.force_send(barrier(1));
            let mut mailbox = mailbox_of_consumer.lock().expect("loom has no poisoned locks");
            mailbox.0 = true;
            let waker = mailbox.1.take();
            drop(mailbox);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        let (mut message, mut marker) = (false, false);
        wait_for(|context| {
            let mut mailbox = mailbox.lock().expect("loom has no poisoned locks");
            message |= mailbox.0;
            mailbox.1 = Some(context.waker().clone());
            drop(mailbox);
            while let Poll::Ready(frame) = receiver.poll_frame(context) {
                marker |= matches!(frame, Frame::Barrier(_));
            }
            assert!(marker || !message, "the message is there, and its marker is not");
            if message { Poll::Ready(()) } else { Poll::Pending }
        });
        producer.join().expect("the producer comes to its end");
    });
}

#[test]
fn every_emptied_buffer_comes_back_once_or_is_freed_with_the_edge() {
    explore(|| {
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&alive);
        let (sender, receiver) = edge(1);
        let producer = thread::spawn(move || {
            for number in 0..3 {
                let batch = match sender.take_returned() {
                    Some(emptied) => {
                        let mut batch = Numbered::from_payload(emptied);
                        assert!(batch.number < number, "a buffer came back before it was read");
                        batch.number = number;
                        batch as Payload
                    }
                    None => Numbered::payload(number, &counted),
                };
                send(&sender, batch);
            }
        });
        for number in 0..3 {
            let Frame::Batch(batch) = receive(&receiver) else { panic!("only batches were sent") };
            let batch = Numbered::from_payload(batch);
            assert_eq!(batch.number, number);
            receiver.give_back(batch);
        }
        producer.join().expect("the producer comes to its end");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "a buffer outlived the producer that it was kept for");
    });
}

/// A batch whose destructor uses the edge that carries it, as a destructor of user code may reach anything.
struct Curious {
    sender: Arc<EdgeSender>,
}

impl Drop for Curious {
    fn drop(&mut self) {
        assert!(self.sender.take_returned().is_none());
    }
}

impl alluvium_actors::payload::Batch for Curious {
    fn len(&self) -> usize {
        1
    }

    fn byte_size(&self) -> usize {
        1
    }

    fn encode(&self, _out: &mut Vec<u8>) -> Result<(), alluvium_actors::payload::PayloadError> {
        Ok(())
    }

    fn clone_payload(&self) -> Payload {
        Box::new(Curious { sender: Arc::clone(&self.sender) })
    }

    fn split_by_hash(
        self: Box<Self>,
        _channels: usize,
        _channel_of_hash: &dyn Fn(u64) -> usize,
    ) -> Result<Vec<Option<Payload>>, alluvium_actors::payload::PayloadError> {
        Ok(vec![Some(self)])
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

#[test]
fn destructors_of_records_run_outside_of_the_lock() {
    explore(|| {
        let (sender, receiver) = edge(1);
        let sender = Arc::new(sender);
        let producer = thread::spawn(move || {
            for _ in 0..2 {
                sender.force_send(Frame::Batch(Box::new(Curious { sender: Arc::clone(&sender) })));
            }
            send(&sender, Box::new(Curious { sender: Arc::clone(&sender) }));
        });
        drop(receiver);
        producer.join().expect("the producer comes to its end");
    });
}
