//! The locks of the edge: the standard library's, or loom's when the edge is model-checked (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

/// Takes a lock. A poisoned one is taken all the same: the queue behind it is consistent after every statement, and a panic on one side must
/// not take the other side along.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
