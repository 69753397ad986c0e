//! Value state: at most one value per key.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::record::Record;

use super::descriptor::{StateDescriptor, StateKind};
use super::encode::{EncodeKey, put};
use super::row::{Burial, Decoder, RestoreError, Restoring, decode};
use super::set::{Content, Guard, State};
use super::slots::{Epoch, FRESH, touched};
use super::snapshot::{Capture, EncodeError};

/// Declares a state that holds at most one `T` per key.
#[derive(Debug)]
pub struct Value<T> {
    name: Cow<'static, str>,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value { name: self.name.clone(), holds: PhantomData }
    }
}

impl<T: Record> Value<T> {
    /// Declares the state under a name that is unique in its operator; stored state is found again by it.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Value<T> {
        Value { name: name.into(), holds: PhantomData }
    }
}

impl<T: Record> State for Value<T> {
    type Content = ValueContent<T>;
    type Access<'a> = ValueAccess<'a, T>;

    fn descriptor(&self) -> StateDescriptor {
        StateDescriptor::new(StateKind::Value, &*self.name, &[type_name::<T>()])
    }

    #[inline]
    fn access<'a>(content: &'a mut ValueContent<T>, changed: &'a Cell<Epoch>, guard: Guard<'a>) -> ValueAccess<'a, T> {
        ValueAccess { value: &mut content.0, changed, guard }
    }
}

/// The value under one key.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct ValueContent<T>(Option<T>);

impl<T> Default for ValueContent<T> {
    fn default() -> ValueContent<T> {
        ValueContent(None)
    }
}

impl<T: Record> Content for ValueContent<T> {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    fn capture<K: EncodeKey + ?Sized>(
        &self,
        key: &K,
        changed: Epoch,
        state: u16,
        _: u64,
        capture: &mut Capture<'_>,
    ) -> Result<Option<u64>, EncodeError> {
        capture.spend(1);
        if let Some(value) = &self.0
            && capture.wants(changed)
        {
            capture.entry(state, |room| {
                key.encode(room)?;
                put(room, value)
            })?;
        }
        Ok(None)
    }

    fn restore(&mut self, entry: &mut Decoder<'_>, context: Restoring) -> Result<(), RestoreError> {
        if self.0.is_some() && !context.newer {
            return Err(RestoreError::Duplicate);
        }
        self.0 = Some(decode(entry)?);
        Ok(())
    }

    fn forget(content: Option<&mut Self>, _: &mut Decoder<'_>, _: Restoring) -> Result<(), RestoreError> {
        if let Some(content) = content {
            content.0 = None;
        }
        Ok(())
    }

    fn bury<K: EncodeKey + ?Sized>(&self, key: &K, state: u16, stamp: Epoch, burial: &mut Burial<'_>) {
        if self.0.is_some() {
            burial.unit(state, stamp, |room| key.encode(room));
        }
    }
}

/// The value under the current key. Reading costs nothing; whatever changes it first keeps the old value for the
/// snapshots that are being written.
pub struct ValueAccess<'a, T> {
    value: &'a mut Option<T>,
    changed: &'a Cell<Epoch>,
    guard: Guard<'a>,
}

impl<T: Record> ValueAccess<'_, T> {
    /// The value, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The value, to change, if there is one.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.preserve();
        self.value.as_mut()
    }

    /// The value, to change; a new one if there is none.
    pub fn get_or_insert_with(&mut self, new: impl FnOnce() -> T) -> &mut T {
        self.preserve();
        self.exists();
        self.value.get_or_insert_with(new)
    }

    /// Replaces the value.
    pub fn set(&mut self, value: T) {
        self.preserve();
        self.exists();
        *self.value = Some(value);
    }

    /// Puts in the place of what is there, if anything is, what `change` makes of it.
    pub(super) fn replace_with(&mut self, change: impl FnOnce(Option<T>) -> T) -> &mut T {
        self.preserve();
        self.exists();
        let changed = change(self.value.take());
        self.value.insert(changed)
    }

    /// Changes the value in place, starting from the default if there is none.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: Default,
    {
        change(self.get_or_insert_with(T::default))
    }

    /// Takes the value away.
    pub fn take(&mut self) -> Option<T> {
        if self.value.is_some() {
            let (stamp, Guard { key, state, .. }) = (self.changed.get(), self.guard);
            self.guard.bury(|burial| burial.unit(state, stamp, |room| key.encode(room)));
        }
        self.preserve();
        self.value.take()
    }

    /// Removes the value.
    pub fn clear(&mut self) {
        self.take();
    }

    fn preserve(&mut self) {
        if let Some(value) = &self.value {
            self.guard.preserve_unit(self.changed.get(), 0, |room| {
                self.guard.key.encode(room)?;
                put(room, value)
            });
        }
        self.changed.set(touched(self.changed.get(), self.guard.changing()));
    }

    /// There is a value from now on. One that was not there before is fresh.
    fn exists(&mut self) {
        if self.value.is_none() {
            self.changed.set(self.guard.changing() | FRESH);
        }
    }
}
