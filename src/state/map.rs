//! Map state: a map from user keys to values per key. Each of its entries has its own epoch, so a change of one entry keeps
//! one old entry, not the map.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::record::{Key, Record, hash_key};

use super::descriptor::{StateDescriptor, StateKind};
use super::encode::{EncodeKey, Room, put};
use super::ordered::{Ordered, Place, Walked};
use super::row::{Burial, Decoder, RestoreError, Restoring, decode};
use super::set::{Content, Guard, State};
use super::slots::{Entry, Epoch, FRESH, Position, age, is_fresh, touched};
use super::snapshot::{Capture, EncodeError};

/// Declares a state that holds a map from `U` to `T` per key.
#[derive(Debug)]
pub struct Map<U, T> {
    name: Cow<'static, str>,
    holds: PhantomData<fn() -> (U, T)>,
}

impl<U, T> Clone for Map<U, T> {
    fn clone(&self) -> Map<U, T> {
        Map { name: self.name.clone(), holds: PhantomData }
    }
}

impl<U: Key, T: Record> Map<U, T> {
    /// Declares the state under a name that is unique in its operator; stored state is found again by it.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Map<U, T> {
        Map { name: name.into(), holds: PhantomData }
    }
}

impl<U: Key, T: Record> State for Map<U, T> {
    type Content = MapContent<U, T>;
    type Access<'a> = MapAccess<'a, U, T>;

    fn descriptor(&self) -> StateDescriptor {
        StateDescriptor::new(StateKind::Map, &*self.name, &[type_name::<U>(), type_name::<T>()])
    }

    fn access<'a>(content: &'a mut MapContent<U, T>, _: &'a Cell<Epoch>, guard: Guard<'a>) -> MapAccess<'a, U, T> {
        MapAccess { map: content, guard }
    }
}

/// The entries under one key; nothing is allocated for an empty map.
#[doc(hidden)]
pub struct MapContent<U, T>(Option<Box<Ordered<U, T>>>);

impl<U, T> Default for MapContent<U, T> {
    fn default() -> MapContent<U, T> {
        MapContent(None)
    }
}

fn position_of(hash: u64) -> Position {
    Position::new((hash >> 32) as u32)
}

impl<U: Key, T: Record> MapContent<U, T> {
    fn entries(&mut self, marked: bool) -> &mut Ordered<U, T> {
        self.0.get_or_insert_with(|| Box::new(Ordered::new(1 << 32, marked)))
    }
}

impl<U: Key, T: Record> Content for MapContent<U, T> {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    // The unit is the position of the user key: where the walk stops, all entries of lower positions are done.
    fn capture<K: EncodeKey + ?Sized>(
        &self,
        key: &K,
        _: Epoch,
        state: u16,
        from: u64,
        capture: &mut Capture<'_>,
    ) -> Result<Option<u64>, EncodeError> {
        capture.spend(1);
        let (Some(entries), Ok(first)) = (&self.0, u32::try_from(from)) else { return Ok(None) };
        let mut result = Ok(None);
        let mut last = None;
        entries.walk(Position::new(first), 0, capture.floor, |walked| {
            let (position, entry) = match walked {
                Walked::Entry(entry, _) => (entry.position, Some(entry)),
                Walked::Passed(position, _) => (position, None),
            };
            if capture.budget == 0 && last.is_some_and(|last| last != position) {
                result = Ok(Some(position.get().into()));
                return false;
            }
            capture.spend(1);
            let Some(entry) = entry else {
                last = last.or(Some(Position::MIN));
                return true;
            };
            last = Some(position);
            if capture.wants(age(entry.epoch)) {
                let encoded = capture.entry(state, |room| put_entry(room, key, &entry.key, &entry.value));
                if let Err(error) = encoded {
                    result = Err(error);
                    return false;
                }
            }
            true
        });
        result
    }

    fn restore(&mut self, entry: &mut Decoder<'_>, context: Restoring) -> Result<(), RestoreError> {
        let key: U = decode(entry)?;
        let value = decode(entry)?;
        let position = position_of(hash_key(context.seed, &key).map_err(RestoreError::Key)?);
        let entries = self.entries(context.marked);
        match entries.locate(position, &key) {
            Ok(place) if context.newer => {
                entries.entry_mut(place).value = value;
                Ok(())
            }
            Ok(_) => Err(RestoreError::Duplicate),
            Err(place) => {
                entries.insert(place, Entry { epoch: context.epoch, position, key, value });
                Ok(())
            }
        }
    }

    fn forget(content: Option<&mut Self>, removal: &mut Decoder<'_>, context: Restoring) -> Result<(), RestoreError> {
        let one: bool = decode(removal)?;
        let key: Option<U> = if one { Some(decode(removal)?) } else { None };
        let Some(content) = content else { return Ok(()) };
        match (&mut content.0, key) {
            (Some(entries), Some(key)) => {
                let position = position_of(hash_key(context.seed, &key).map_err(RestoreError::Key)?);
                if let Ok(place) = entries.locate(position, &key) {
                    entries.remove(place);
                }
                if entries.len() == 0 {
                    content.0 = None;
                }
            }
            (_, None) => content.0 = None,
            (None, Some(_)) => {}
        }
        Ok(())
    }

    fn bury<K: EncodeKey + ?Sized>(&self, key: &K, state: u16, _: Epoch, burial: &mut Burial<'_>) {
        let Some(entries) = &self.0 else { return };
        let epoch = burial.epoch;
        if entries.iter().any(|entry| !is_fresh(entry.epoch, epoch)) {
            burial.unit(state, Epoch::MIN, |room| {
                key.encode(room)?;
                put(room, &false)
            });
        }
    }
}

fn put_entry<K: EncodeKey + ?Sized, U: Key, T: Record>(
    room: &mut Room<'_>,
    key: &K,
    user_key: &U,
    value: &T,
) -> Result<(), rmp_serde::encode::Error> {
    key.encode(room)?;
    put(room, user_key)?;
    put(room, value)
}

/// The map under the current key.
///
/// # Panics
/// Methods that take a user key panic when it contains a float or a map, see [`KeyError`](crate::record::KeyError).
pub struct MapAccess<'a, U, T> {
    map: &'a mut MapContent<U, T>,
    guard: Guard<'a>,
}

impl<U: Key, T: Record> MapAccess<'_, U, T> {
    fn position(&self, key: &U) -> Position {
        match hash_key(self.guard.seed, key) {
            Ok(hash) => position_of(hash),
            Err(error) => panic!("{error} (in the user key of a map state)"),
        }
    }

    /// The value under a user key.
    #[must_use]
    pub fn get(&self, key: &U) -> Option<&T> {
        let entries = self.map.0.as_ref()?;
        let place = entries.locate(self.position(key), key).ok()?;
        Some(&entries.entry(place).value)
    }

    /// Whether there is a value under a user key.
    #[must_use]
    pub fn contains(&self, key: &U) -> bool {
        self.get(key).is_some()
    }

    /// The value under a user key, to change.
    pub fn get_mut(&mut self, key: &U) -> Option<&mut T> {
        let position = self.position(key);
        let entries = self.map.0.as_mut()?;
        let place = entries.locate(position, key).ok()?;
        Some(&mut change(&self.guard, entries, place).value)
    }

    /// The value under a user key, to change; a new one if there is none.
    pub fn get_or_insert_with(&mut self, key: &U, new: impl FnOnce() -> T) -> &mut T {
        let position = self.position(key);
        let epoch = self.guard.changing() | FRESH;
        let entries = self.map.entries(self.guard.recorded);
        let place = match entries.locate(position, key) {
            Ok(place) => place,
            Err(place) => entries.insert(place, Entry { epoch, position, key: key.clone(), value: new() }),
        };
        &mut change(&self.guard, entries, place).value
    }

    /// Puts a value under a user key and gives the old one back.
    pub fn insert(&mut self, key: U, value: T) -> Option<T> {
        let position = self.position(&key);
        let epoch = self.guard.changing() | FRESH;
        let entries = self.map.entries(self.guard.recorded);
        match entries.locate(position, &key) {
            Ok(place) => Some(std::mem::replace(&mut change(&self.guard, entries, place).value, value)),
            Err(place) => {
                entries.insert(place, Entry { epoch, position, key, value });
                None
            }
        }
    }

    /// Removes a user key and gives its value back.
    pub fn remove(&mut self, key: &U) -> Option<T> {
        let position = self.position(key);
        let entries = self.map.0.as_mut()?;
        let place = entries.locate(position, key).ok()?;
        let entry = change(&self.guard, entries, place);
        let Guard { key: row_key, state, .. } = self.guard;
        self.guard.bury(|burial| {
            burial.unit(state, entry.epoch, |room| {
                row_key.encode(room)?;
                put(room, &true)?;
                put(room, &entry.key)
            });
        });
        let entry = entries.remove(place);
        if entries.len() == 0 {
            self.map.0 = None;
        }
        Some(entry.value)
    }

    /// User keys and values, in an order that depends on the content alone.
    pub fn iter(&self) -> impl Iterator<Item = (&U, &T)> {
        self.map.0.iter().flat_map(|entries| entries.iter().map(|entry| (&entry.key, &entry.value)))
    }

    /// The user keys, in the order of [`iter`](MapAccess::iter).
    pub fn keys(&self) -> impl Iterator<Item = &U> {
        self.iter().map(|(key, _)| key)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.0.as_ref().map_or(0, |entries| entries.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.0.is_none()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.guard.changing();
        self.guard.preserve_all(self.map);
        let Guard { key, state, .. } = self.guard;
        self.guard.bury(|burial| self.map.bury(key, state, 0, burial));
        self.map.0 = None;
    }
}

/// An entry is about to change or go: keeps it for the open snapshots, and stamps it.
fn change<'m, U: Key, T: Record>(
    guard: &Guard<'_>,
    entries: &'m mut Ordered<U, T>,
    place: Place,
) -> &'m mut Entry<U, T> {
    let epoch = guard.changing();
    entries.mark(place, epoch);
    let entry = entries.entry_mut(place);
    guard.preserve_unit(entry.epoch, entry.position.get().into(), |room| {
        put_entry(room, guard.key, &entry.key, &entry.value)
    });
    entry.epoch = touched(entry.epoch, epoch);
    entry
}
