//! The credits of an edge: single cases, and every sequence of a small one.

use alluvium_actors::protocol::credit::{Credit, DEFAULT_CREDITS, WakeProducer};

use crate::explore::{AtRest, Bounds, explore};

fn filled(limit: u32) -> Credit {
    let mut credit = Credit::new(limit);
    for batch in 0..limit {
        assert!(credit.try_take(), "batch {batch} of {limit}");
    }
    credit
}

#[test]
fn an_edge_takes_eight_batches_by_default_and_then_parks_its_producer() {
    assert_eq!(DEFAULT_CREDITS, 8);
    let mut credit = Credit::default();
    for _ in 0..8 {
        assert!(credit.try_take());
        assert!(!credit.parked());
    }
    assert!(!credit.try_take());
    assert!(credit.parked());
    assert_eq!((credit.taken(), credit.available()), (8, 0));
}

#[test]
fn a_parked_producer_is_woken_once_when_half_of_the_credits_are_back() {
    let mut credit = filled(8);
    assert!(!credit.try_take());
    let woken: Vec<bool> = (0..8).map(|_| credit.give_back().0).collect();
    assert_eq!(woken, [false, false, false, true, false, false, false, false]);
}

#[test]
fn a_producer_that_does_not_wait_is_not_woken() {
    let mut credit = filled(8);
    assert!((0..8).all(|_| credit.give_back() == WakeProducer(false)));
}

#[test]
fn an_edge_of_one_batch_wakes_its_producer_when_it_is_empty() {
    for limit in [0, 1] {
        let mut credit = Credit::new(limit);
        assert!(credit.try_take() && !credit.try_take());
        assert_eq!(credit.give_back(), WakeProducer(true));
    }
}

#[test]
fn what_a_barrier_flushes_does_not_wait_and_is_worked_off_before_the_producer_is_woken() {
    let mut credit = filled(4);
    credit.force_take();
    credit.force_take();
    assert_eq!((credit.taken(), credit.available(), credit.parked()), (6, 0, false));
    assert!(!credit.try_take());
    let woken: Vec<bool> = (0..4).map(|_| credit.give_back().0).collect();
    assert_eq!(woken, [false, false, false, true]);
}

#[test]
fn a_parked_producer_that_runs_for_another_reason_may_take_a_free_credit() {
    let mut credit = filled(4);
    assert!(!credit.try_take());
    assert_eq!(credit.give_back(), WakeProducer(false));
    assert!(credit.try_take(), "one is free");
    assert!(!credit.parked());
    assert!(!credit.try_take(), "and no more");
}

/// A producer that sleeps when it is refused and a consumer that takes what is there.
#[derive(Clone, Debug, Hash)]
struct Edge {
    credit: Credit,
    /// Batches that the producer still has to send.
    left: u32,
    /// Flushes that may still come.
    flushes: u32,
    asleep: bool,
}

#[test]
fn no_producer_sleeps_for_ever_and_no_edge_exceeds_its_limit_but_by_flushes() {
    const FLUSHES: u32 = 3;
    for limit in 1..=5 {
        let edge = Edge { credit: Credit::new(limit), left: 12, flushes: FLUSHES, asleep: false };
        let steps = |edge: &Edge, next: &mut Vec<(&'static str, Edge)>| {
            if edge.left > 0 && !edge.asleep {
                let mut after = edge.clone();
                let sent = after.credit.try_take();
                after.left -= u32::from(sent);
                after.asleep = !sent;
                next.push(("send", after));
            }
            if edge.flushes > 0 {
                let mut after = edge.clone();
                after.credit.force_take();
                after.flushes -= 1;
                next.push(("flush", after));
            }
            if edge.credit.taken() > 0 {
                let mut after = edge.clone();
                let WakeProducer(wake) = after.credit.give_back();
                after.asleep &= !wake;
                next.push(("take", after));
            }
        };
        let rule = |edge: &Edge, AtRest(at_rest): AtRest| {
            edge.credit.check().map_err(|violation| violation.to_string())?;
            if edge.credit.taken() > limit + FLUSHES - edge.flushes {
                return Err(format!("{} batches in an edge of {limit}", edge.credit.taken()));
            }
            if at_rest && edge.left > 0 {
                return Err(format!("the producer sleeps for ever with {} batches", edge.left));
            }
            Ok(())
        };
        let bounds = Bounds { states: 100_000, depth: 1_000 };
        explore(&format!("credit of {limit}"), edge, bounds, steps, rule).assert_holds_everywhere();
    }
}
