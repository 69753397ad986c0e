//! Which call of user code a subtask, or a sink, is in: so that one that does not return can be named from another thread (rule 22).

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

macro_rules! calls {
    ($($(#[$doc:meta])* $call:ident = $words:literal,)*) => {
        /// A kind of call of user code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Where one subtask or sink is. Written by its own thread, read by the supervisor.
#[derive(Debug, Default)]
pub struct CallWatch {
    call: AtomicU8,
    /// The position of the operator that is at work, in `operators`.
    operator: AtomicUsize,
    operators: Mutex<Vec<Arc<str>>>,
}

impl CallWatch {
    /// A call begins.
    pub fn begin(&self, call: Call) {
        self.call.store(call as u8, Ordering::Relaxed);
    }

    /// The call returned.
    pub fn end(&self) {
        self.begin(Call::None);
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
        let call = CALLS.get(usize::from(self.call.load(Ordering::Relaxed))).copied().unwrap_or(Call::None);
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
}
