//! The last resort of partial batches: they leave after the timeout, counted from the first record that may be held back.

use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::protocol::buffer_timeout::BufferTimeout;

fn at(milliseconds: u64) -> Moment {
    Moment(milliseconds * 1_000_000)
}

fn timeout() -> BufferTimeout {
    BufferTimeout::new(Duration::from_millis(100))
}

#[test]
fn the_default_is_a_tenth_of_a_second() {
    assert_eq!(BufferTimeout::default(), timeout());
}

#[test]
fn who_holds_nothing_back_is_never_due_and_wants_no_alarm() {
    let mut buffer = timeout();
    assert!(!buffer.is_due(at(1_000_000)) && buffer.deadline().is_none());
    buffer.held(at(5));
    buffer.flushed();
    assert!(!buffer.is_due(at(1_000_000)) && buffer.deadline().is_none());
}

#[test]
fn output_is_due_when_the_timeout_has_passed_since_it_was_held_back_first() {
    let mut buffer = timeout();
    buffer.held(at(10));
    // More records do not put it off.
    buffer.held(at(90));
    assert_eq!(buffer.deadline(), Some(at(110)));
    assert!(!buffer.is_due(at(109)));
    assert!(buffer.is_due(at(110)));
}

#[test]
fn after_a_flush_the_time_runs_anew() {
    let mut buffer = timeout();
    buffer.held(at(10));
    buffer.flushed();
    buffer.held(at(90));
    assert!(!buffer.is_due(at(110)));
    assert_eq!(buffer.deadline(), Some(at(190)));
}

#[test]
fn no_timeout_makes_every_step_flush_and_the_longest_one_never() {
    let mut always = BufferTimeout::new(Duration::ZERO);
    always.held(at(1));
    assert!(always.is_due(at(1)));
    let mut never = BufferTimeout::new(Duration::MAX);
    never.held(at(1));
    assert!(!never.is_due(Moment(u64::MAX)) && never.deadline().is_none());
}
