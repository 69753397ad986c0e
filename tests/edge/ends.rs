//! The two ends of an edge on one thread: what they promise to each other, step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use alluvium_actors::drive::edge::{CREDITS, EdgeReceiver, Frame, edge};
use alluvium_actors::ids::CheckpointId;

use crate::payload::Numbered;

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counter {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn counter() -> (Arc<Counter>, Waker) {
    let counter = Arc::new(Counter::default());
    (Arc::clone(&counter), Waker::from(counter))
}

fn take(receiver: &EdgeReceiver) -> Option<Frame> {
    match receiver.poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => Some(frame),
        Poll::Pending => None,
    }
}

#[test]
fn an_edge_takes_as_many_batches_as_it_has_credits_and_gives_the_next_one_back() {
    let alive = Arc::default();
    let (sender, _receiver) = edge(3);
    let mut context = Context::from_waker(Waker::noop());
    for number in 0..3 {
        assert!(sender.try_send(Numbered::payload(number, &alive), &mut context).is_ok());
    }
    let refused = sender.try_send(Numbered::payload(3, &alive), &mut context).expect_err("there is no credit");
    assert_eq!(Numbered::from_payload(refused).number, 3);
}

#[test]
fn a_refused_producer_is_woken_once_when_half_of_its_credits_are_back() {
    let alive = Arc::default();
    let (sender, receiver) = edge(4);
    let (woken, waker) = counter();
    let mut context = Context::from_waker(&waker);
    for number in 0..4 {
        assert!(sender.try_send(Numbered::payload(number, &alive), &mut context).is_ok());
    }
    assert!(sender.try_send(Numbered::payload(4, &alive), &mut context).is_err());
    let counts: Vec<usize> = (0..4)
        .map(|_| {
            assert!(matches!(take(&receiver), Some(Frame::Batch(_))));
            woken.count()
        })
        .collect();
    assert_eq!(counts, [0, 1, 1, 1]);
}

#[test]
fn a_producer_that_was_never_refused_is_never_woken() {
    let alive = Arc::default();
    let (sender, receiver) = edge(2);
    let (woken, waker) = counter();
    for number in 0..8 {
        assert!(sender.try_send(Numbered::payload(number, &alive), &mut Context::from_waker(&waker)).is_ok());
        assert!(take(&receiver).is_some());
    }
    drop(receiver);
    assert_eq!(woken.count(), 0);
}

#[test]
fn a_consumer_is_woken_by_the_first_frame_after_it_found_none() {
    let (sender, receiver) = edge(1);
    let (woken, waker) = counter();
    assert!(receiver.poll_frame(&mut Context::from_waker(&waker)).is_pending());
    sender.force_send(Frame::Cancel(CheckpointId(1)));
    sender.force_send(Frame::Cancel(CheckpointId(2)));
    assert_eq!(woken.count(), 1, "awake already, it looks again before it sleeps");
    assert!(matches!(take(&receiver), Some(Frame::Cancel(CheckpointId(1)))));
    assert!(matches!(take(&receiver), Some(Frame::Cancel(CheckpointId(2)))));
}

#[test]
fn only_the_last_waker_counts() {
    let (sender, receiver) = edge(1);
    let (first, first_waker) = counter();
    let (last, last_waker) = counter();
    assert!(receiver.poll_frame(&mut Context::from_waker(&first_waker)).is_pending());
    assert!(receiver.poll_frame(&mut Context::from_waker(&last_waker)).is_pending());
    sender.force_send(Frame::EndOfData);
    assert_eq!((first.count(), last.count()), (0, 1));
}

#[test]
fn control_frames_need_no_credit_and_return_none() {
    let alive = Arc::default();
    let (sender, receiver) = edge(1);
    let (woken, waker) = counter();
    let mut context = Context::from_waker(&waker);
    assert!(sender.try_send(Numbered::payload(0, &alive), &mut context).is_ok());
    sender.force_send(Frame::EndOfData);
    assert!(matches!(take(&receiver), Some(Frame::Batch(_))));
    assert!(sender.try_send(Numbered::payload(1, &alive), &mut context).is_ok());
    assert!(sender.try_send(Numbered::payload(2, &alive), &mut context).is_err());
    assert!(matches!(take(&receiver), Some(Frame::EndOfData)));
    assert_eq!(woken.count(), 0, "the end of data was no batch");
    assert!(matches!(take(&receiver), Some(Frame::Batch(_))));
    assert_eq!(woken.count(), 1);
}

#[test]
fn after_forced_batches_nothing_enters_until_they_are_worked_off() {
    let alive = Arc::default();
    let (sender, receiver) = edge(2);
    let mut context = Context::from_waker(Waker::noop());
    for number in 0..6 {
        sender.force_send(Frame::Batch(Numbered::payload(number, &alive)));
    }
    let mut entered_after = 0;
    while sender.try_send(Numbered::payload(6, &alive), &mut context).is_err() {
        assert!(take(&receiver).is_some());
        entered_after += 1;
    }
    assert_eq!(entered_after, 5);
}

#[test]
fn an_edge_that_nobody_reads_drops_at_once_what_it_is_sent() {
    let alive = Arc::default();
    let (sender, receiver) = edge(2);
    let (woken, waker) = counter();
    let mut context = Context::from_waker(&waker);
    assert!(sender.try_send(Numbered::payload(0, &alive), &mut context).is_ok());
    assert!(sender.try_send(Numbered::payload(1, &alive), &mut context).is_ok());
    assert!(sender.try_send(Numbered::payload(2, &alive), &mut context).is_err());
    drop(receiver);
    assert_eq!((alive.load(Ordering::SeqCst), woken.count()), (0, 1));
    for number in 3..100 {
        assert!(sender.try_send(Numbered::payload(number, &alive), &mut context).is_ok());
        sender.force_send(Frame::Batch(Numbered::payload(number, &alive)));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn no_more_buffers_are_kept_than_an_edge_usually_holds() {
    let alive = Arc::default();
    let (sender, receiver) = edge(1);
    let kept = CREDITS as usize;
    for number in 0..100 {
        receiver.give_back(Numbered::payload(number, &alive));
    }
    assert_eq!(alive.load(Ordering::SeqCst), kept);
    let returned = std::iter::from_fn(|| sender.take_returned()).count();
    assert_eq!((returned, alive.load(Ordering::SeqCst)), (kept, 0));
}

#[test]
fn frames_survive_their_producer_but_buffers_do_not() {
    let alive = Arc::default();
    let (sender, receiver) = edge(1);
    sender.force_send(Frame::Batch(Numbered::payload(0, &alive)));
    receiver.give_back(Numbered::payload(1, &alive));
    drop(sender);
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    let Some(Frame::Batch(batch)) = take(&receiver) else { panic!("the batch is lost") };
    receiver.give_back(batch);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
