//! The map that is the same in every instance of an operator.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::Cell;
use std::marker::PhantomData;

use super::set::{BroadcastState, OperatorState};
use crate::record::{Key, Record};
use crate::state::descriptor::{StateDescriptor, StateKind};
use crate::state::map::{Map, MapAccess, MapContent};
use crate::state::set::{Guard, State};
use crate::state::slots::Epoch;

/// Declares a map from `U` to `T` that is the same in every instance of an operator: each gets every record of the broadcast stream and does the same with it. The stream with
/// the many records reads it, see [`Stream::connect_broadcast`](crate::Stream::connect_broadcast).
#[derive(Debug)]
pub struct BroadcastMap<U, T> {
    name: Cow<'static, str>,
    holds: PhantomData<fn() -> (U, T)>,
}

impl<U, T> Clone for BroadcastMap<U, T> {
    fn clone(&self) -> BroadcastMap<U, T> {
        BroadcastMap { name: self.name.clone(), holds: PhantomData }
    }
}

impl<U: Key, T: Record> BroadcastMap<U, T> {
    /// Declares the state under a name that is unique in its operator; stored state is found again by it.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> BroadcastMap<U, T> {
        BroadcastMap { name: name.into(), holds: PhantomData }
    }
}

impl<U: Key, T: Record> OperatorState for BroadcastMap<U, T> {
    type Content = MapContent<U, T>;
    type Access<'a> = MapAccess<'a, U, T>;

    fn descriptor(&self) -> StateDescriptor {
        StateDescriptor::new(StateKind::BroadcastMap, &*self.name, &[type_name::<U>(), type_name::<T>()])
    }

    fn access<'a>(
        content: &'a mut MapContent<U, T>,
        changed: &'a Cell<Epoch>,
        guard: Guard<'a>,
    ) -> MapAccess<'a, U, T> {
        <Map<U, T> as State>::access(content, changed, guard)
    }
}

impl<U: Key, T: Record> BroadcastState for BroadcastMap<U, T> {
    type View<'a> = BroadcastView<'a, U, T>;

    fn view<'a>(
        content: &'a mut MapContent<U, T>,
        changed: &'a Cell<Epoch>,
        guard: Guard<'a>,
    ) -> BroadcastView<'a, U, T> {
        BroadcastView(<Map<U, T> as State>::access(content, changed, guard))
    }
}

/// A broadcast map, for reading.
///
/// # Panics
/// Methods that take a user key panic when it contains a float or a map, see [`KeyError`](crate::record::KeyError).
pub struct BroadcastView<'a, U, T>(MapAccess<'a, U, T>);

impl<U: Key, T: Record> BroadcastView<'_, U, T> {
    /// The value under a user key.
    #[must_use]
    pub fn get(&self, key: &U) -> Option<&T> {
        self.0.get(key)
    }

    /// Whether there is a value under a user key.
    #[must_use]
    pub fn contains(&self, key: &U) -> bool {
        self.0.contains(key)
    }

    /// User keys and values, in an order that depends on the content alone: the same in every instance.
    pub fn iter(&self) -> impl Iterator<Item = (&U, &T)> {
        self.0.iter()
    }

    /// The user keys, in the order of [`iter`](BroadcastView::iter).
    pub fn keys(&self) -> impl Iterator<Item = &U> {
        self.0.keys()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
