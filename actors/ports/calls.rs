//! Which call of user code a subtask, or a sink, is in and since when: so that one that does not return can be named from another thread (rule 22), and
//! a checkpoint that had to wait for one can say so.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ids::Moment;

/// A call that takes at least so long is remembered for a while.
const LONG: Duration = Duration::from_millis(1);

/// How many stretches of long calls are remembered.
const REMEMBERED: usize = 16;

macro_rules! calls {
    ($($(#[$doc:meta])* $call:ident = $words:literal,)*) => {
        /// A kind of call of user code.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Call {
            $($(#[$doc])* $call,)*
        }

        const CALLS: &[Call] = &[$(Call::$call,)*];

        impl fmt::Display for Call {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self {
                    $(Call::$call => $words,)*
                })
            }
        }
    };
}

calls! {
    /// None: it waits, or works for itself.
    #[default]
    None = "no call",
    /// It is being built.
    Build = "build",
    /// It reads its state.
    Restore = "restore",
    /// It is asked whether it can take records.
    Ready = "readiness",
    /// It takes records.
    Records = "records",
    /// It reads from its source.
    Read = "read",
    /// It hears of splits or events of its enumerator.
    Splits = "splits",
    /// It sends what it holds back.
    Flush = "flush",
    /// The end of all data.
    Finish = "finish",
    /// The synchronous part of a snapshot.
    Cut = "snapshot, synchronous part",
    /// The asynchronous part of a snapshot.
    Snapshot = "snapshot, asynchronous part",
    /// It hears that a checkpoint is complete or aborted, or that a commit returned.
    Notice = "notice",
    /// A sink's committing side opens.
    Open = "open",
    /// A sink commits.
    Commit = "commit",
    /// A sink removes what was left behind.
    CleanUp = "clean up",
}

/// The user code that a subtask was in for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Busy {
    /// The position of the operator in [`CallWatch::operator`]; none where it is not known which one of the chain took the time.
    pub operator: Option<u16>,
    /// What it was asked.
    pub call: Call,
    /// How many calls one after the other.
    pub calls: u32,
    /// How long it was inside.
    pub inside: Duration,
}

/// Calls of one kind, one directly after the other.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    busy: Busy,
    began: Moment,
    /// When the last call of it began.
    last_began: Moment,
    ended: Moment,
}

impl Stretch {
    /// How much of it lies between two moments.
    fn between(&self, from: Moment, to: Moment) -> Busy {
        let inside = self.ended.min(to).since(self.began.max(from)).min(self.busy.inside);
        Busy { inside, ..self.busy }
    }
}

/// Where one subtask or sink is. Written by its own thread, read by the supervisor and by whoever explains a checkpoint.
///
/// A slice of records must not cost a clock for every call in it. So there is a moment that the subtask knew last ([`CallWatch::now_is`], [`CallWatch::end_at`]),
/// and a call began then: never later than it did, and earlier by what the subtask did for itself in between.
#[derive(Debug, Default)]
pub struct CallWatch {
    call: AtomicU8,
    /// The moment that was known last.
    known: AtomicU64,
    /// When the call began.
    began: AtomicU64,
    /// The chain takes no records for now, for a reason of its own.
    refuses: AtomicBool,
    /// The long calls, oldest first.
    long: Mutex<VecDeque<Stretch>>,
    /// The position of the operator that is at work, in `operators`.
    operator: AtomicUsize,
    operators: Mutex<Vec<Arc<str>>>,
}

impl CallWatch {
    /// A call begins.
    pub fn begin(&self, call: Call) {
        self.began.store(self.known.load(Ordering::Relaxed), Ordering::Relaxed);
        self.call.store(call as u8, Ordering::Relaxed);
    }

    /// The call returned. How long it took is not looked at: it counts to the one that follows.
    pub fn end(&self) {
        self.call.store(Call::None as u8, Ordering::Relaxed);
    }

    /// The call returned, and it is so late.
    pub fn end_at(&self, now: Moment) {
        let began = Moment(self.began.load(Ordering::Relaxed));
        if now.since(began) >= LONG {
            self.note(began, now);
        }
        self.now_is(now);
        self.end();
    }

    /// It is so late, and no call is under way.
    pub fn now_is(&self, now: Moment) {
        self.known.store(now.0, Ordering::Relaxed);
    }

    /// The moment that was known last.
    #[must_use]
    pub fn known(&self) -> Moment {
        Moment(self.known.load(Ordering::Relaxed))
    }

    /// Whether the chain said, when it was asked last, that it takes no records for now.
    pub fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// What [`CallWatch::set_refuses`] said last.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    #[cold]
    fn note(&self, began: Moment, ended: Moment) {
        let (call, operator) = (self.call(), self.operator.load(Ordering::Relaxed));
        let alone = self.operators.lock().unwrap_or_else(PoisonError::into_inner).len() == 1;
        let operator = alone.then_some(operator as u16);
        let busy = Busy { operator, call, calls: 1, inside: ended.since(began) };
        let mut long = self.long.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = long.back_mut()
            && (last.busy.operator, last.busy.call) == (operator, call)
            && began.since(last.ended) < LONG
        {
            last.busy.calls = last.busy.calls.saturating_add(1);
            last.busy.inside += busy.inside;
            (last.last_began, last.ended) = (began, ended);
            return;
        }
        if long.len() == REMEMBERED {
            long.pop_front();
        }
        long.push_back(Stretch { busy, began, last_began: began, ended });
    }

    /// The user code that took the most time between two moments of the last while, calls of less than a millisecond left out.
    #[must_use]
    pub fn busiest(&self, from: Moment, to: Moment) -> Option<Busy> {
        let long = self.long.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = long.iter().map(|stretch| stretch.between(from, to));
        parts.filter(|busy| busy.inside >= LONG).max_by_key(|busy| busy.inside)
    }

    /// The call that it is in at this moment, the position of the operator where that is known, and since when; none while it is in none. In virtual time a
    /// call may be over that ends later.
    #[must_use]
    pub fn inside(&self, now: Moment) -> Option<(Call, Option<u16>, Moment)> {
        let (call, began) = (self.call(), Moment(self.began.load(Ordering::Relaxed)));
        if call != Call::None && began <= now {
            return Some((call, Some(self.operator.load(Ordering::Relaxed) as u16), began));
        }
        let long = self.long.lock().unwrap_or_else(PoisonError::into_inner);
        let running = long.iter().rev().find(|stretch| stretch.began <= now && now < stretch.ended)?;
        let since = if running.last_began <= now { running.last_began } else { running.began };
        Some((running.busy.call, running.busy.operator, since))
    }

    /// The operator that is at work, or was last, by its position.
    #[must_use]
    pub fn at_work(&self) -> u16 {
        self.operator.load(Ordering::Relaxed) as u16
    }

    /// The operator at a position.
    #[must_use]
    pub fn operator(&self, position: u16) -> Option<Arc<str>> {
        let operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner);
        operators.get(usize::from(position)).cloned()
    }

    fn call(&self) -> Call {
        CALLS.get(usize::from(self.call.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// Adds an operator, and gives its position.
    pub fn add(&self, operator: Arc<str>) -> usize {
        let mut operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner);
        operators.push(operator);
        operators.len() - 1
    }

    /// This operator is at work now. One store: it is called once per slice.
    #[inline]
    pub fn enter(&self, operator: usize) {
        self.operator.store(operator, Ordering::Relaxed);
    }

    /// The call it is in, and the operator that is at work or was last.
    #[must_use]
    pub fn current(&self) -> (Call, Option<Arc<str>>) {
        let call = self.call();
        let operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner);
        (call, operators.get(self.operator.load(Ordering::Relaxed)).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_and_the_operator_are_read_back_as_they_were_written() {
        let watch = CallWatch::default();
        assert_eq!(watch.current(), (Call::None, None));
        watch.add(Arc::from("first"));
        let second = watch.add(Arc::from("second"));
        for call in CALLS {
            watch.begin(*call);
            assert_eq!(watch.current(), (*call, Some(Arc::from("first"))));
        }
        watch.enter(second);
        watch.end();
        assert_eq!(watch.current(), (Call::None, Some(Arc::from("second"))));
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::default() + Duration::from_millis(milliseconds)
    }

    /// One call from here to there.
    fn make(watch: &CallWatch, call: Call, from: u64, to: u64) {
        watch.now_is(at(from));
        watch.begin(call);
        assert_eq!(watch.inside(at(from)), Some((call, Some(0), at(from))));
        watch.end_at(at(to));
        assert_eq!((watch.inside(at(to)), watch.known()), (None, at(to)));
        assert_eq!(watch.inside(at(to - 1)).map(|(call, _, began)| (call, began)), Some((call, at(from))));
    }

    #[test]
    fn the_long_calls_of_a_while_are_remembered_as_far_as_they_lie_in_it() {
        let watch = CallWatch::default();
        watch.add(Arc::from("alone"));
        make(&watch, Call::Records, 0, 30);
        make(&watch, Call::Flush, 40, 45);
        let busy = |call, inside| Busy { operator: Some(0), call, calls: 1, inside: Duration::from_millis(inside) };
        assert_eq!(watch.busiest(at(0), at(100)), Some(busy(Call::Records, 30)));
        assert_eq!(watch.busiest(at(28), at(100)), Some(busy(Call::Flush, 5)), "2 ms of the first one are left");
        assert_eq!(watch.busiest(at(0), at(10)), Some(busy(Call::Records, 10)));
        assert_eq!(watch.busiest(at(45), at(100)), None);
    }

    #[test]
    fn calls_that_follow_each_other_count_together_and_short_ones_do_not_count() {
        let watch = CallWatch::default();
        watch.add(Arc::from("first"));
        watch.add(Arc::from("second"));
        (0..41).for_each(|turn| make(&watch, Call::Records, turn * 20, turn * 20 + 20));
        watch.now_is(at(900));
        watch.begin(Call::Records);
        watch.end_at(at(900) + Duration::from_micros(999));
        let all = Busy { operator: None, call: Call::Records, calls: 41, inside: Duration::from_millis(820) };
        assert_eq!(watch.busiest(at(0), at(1_000)), Some(all), "which of the two it was is not known");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let watch = CallWatch::default();
        (0..1_000).for_each(|turn| make(&watch, Call::Records, turn * 10, turn * 10 + 5));
        assert_eq!(watch.long.lock().unwrap().len(), REMEMBERED);
    }
}
