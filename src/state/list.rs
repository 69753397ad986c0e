//! List state: a list of elements per key, to which elements are appended.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::record::Record;

use super::descriptor::{StateDescriptor, StateKind};
use super::encode::{EncodeKey, put_any};
use super::row::{Burial, Decoder, RestoreError, Restoring};
use super::set::{Content, Guard, State};
use super::slots::{Epoch, FRESH};
use super::snapshot::{Capture, EncodeError};

/// Declares a state that holds a list of `T` per key.
#[derive(Debug)]
pub struct List<T> {
    name: Cow<'static, str>,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for List<T> {
    fn clone(&self) -> List<T> {
        List { name: self.name.clone(), holds: PhantomData }
    }
}

impl<T: Record> List<T> {
    /// Declares the state under a name that is unique in its operator; stored state is found again by it.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> List<T> {
        List { name: name.into(), holds: PhantomData }
    }
}

impl<T: Record> State for List<T> {
    type Content = ListContent<T>;
    type Access<'a> = ListAccess<'a, T>;

    fn descriptor(&self) -> StateDescriptor {
        StateDescriptor::new(StateKind::List, &*self.name, &[type_name::<T>()])
    }

    fn access<'a>(content: &'a mut ListContent<T>, _: &'a Cell<Epoch>, guard: Guard<'a>) -> ListAccess<'a, T> {
        ListAccess { list: content, guard }
    }
}

/// How many elements one stored entry has at most, so that a long list is written in slices.
const ELEMENTS_AN_ENTRY: usize = 256;

/// The elements under one key. Elements never change, and new ones go to the end, so the epochs ascend: what a full
/// snapshot wants is a prefix, and what an increment wants is the end of it. A removal is that of all elements, so an increment goes on where the base ends, or
/// begins anew.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct ListContent<T>(Vec<Element<T>>);

#[derive(Clone, Debug)]
struct Element<T> {
    added: Epoch,
    item: T,
}

impl<T> Default for ListContent<T> {
    fn default() -> ListContent<T> {
        ListContent(Vec::new())
    }
}

impl<T: Record> Content for ListContent<T> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn capture<K: EncodeKey + ?Sized>(
        &self,
        key: &K,
        _: Epoch,
        state: u16,
        from: u64,
        capture: &mut Capture<'_>,
    ) -> Result<Option<u64>, EncodeError> {
        let wanted = self.0.partition_point(|element| element.added <= capture.epoch);
        let held = self.0.partition_point(|element| element.added < capture.floor);
        let mut next = usize::try_from(from).unwrap_or(usize::MAX).max(held);
        while next < wanted {
            let elements = (wanted - next).min(ELEMENTS_AN_ENTRY).min(capture.budget);
            if elements == 0 {
                return Ok(Some(next as u64));
            }
            capture.entry(state, |room| {
                key.encode(room)?;
                put_any(room, &Elements(&self.0[next..next + elements]))
            })?;
            capture.spend(elements);
            next += elements;
        }
        capture.spend(1);
        Ok(None)
    }

    fn restore(&mut self, entry: &mut Decoder<'_>, context: Restoring) -> Result<(), RestoreError> {
        let append = Append { list: &mut self.0, epoch: context.epoch };
        append.deserialize(entry).map_err(|error| RestoreError::Decode(error.to_string()))
    }

    fn forget(content: Option<&mut Self>, _: &mut Decoder<'_>, _: Restoring) -> Result<(), RestoreError> {
        if let Some(content) = content {
            content.0.clear();
        }
        Ok(())
    }

    fn bury<K: EncodeKey + ?Sized>(&self, key: &K, state: u16, _: Epoch, burial: &mut Burial<'_>) {
        // The first one is the oldest.
        if let Some(first) = self.0.first() {
            let stamp = if first.added == burial.epoch { first.added | FRESH } else { first.added };
            burial.unit(state, stamp, |room| key.encode(room));
        }
    }
}

struct Elements<'a, T>(&'a [Element<T>]);

impl<T: Serialize> Serialize for Elements<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.0.len()))?;
        for element in self.0 {
            sequence.serialize_element(&element.item)?;
        }
        sequence.end()
    }
}

/// Reads elements to the end of a list, one by one, so that a wrong length allocates nothing.
struct Append<'a, T> {
    list: &'a mut Vec<Element<T>>,
    epoch: Epoch,
}

impl<'de, T: Record> DeserializeSeed<'de> for Append<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Record> Visitor<'de> for Append<'_, T> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the elements of a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(item) = sequence.next_element()? {
            self.list.push(Element { added: self.epoch, item });
        }
        Ok(())
    }
}

/// The list under the current key.
pub struct ListAccess<'a, T> {
    list: &'a mut ListContent<T>,
    guard: Guard<'a>,
}

impl<T: Record> ListAccess<'_, T> {
    /// Appends an element.
    pub fn push(&mut self, item: T) {
        let added = self.guard.changing();
        self.list.0.push(Element { added, item });
    }

    /// Appends elements.
    pub fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        let added = self.guard.changing();
        self.list.0.extend(items.into_iter().map(|item| Element { added, item }));
    }

    /// The elements in the order in which they were appended.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.list.0.iter().map(|element| &element.item)
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.0.is_empty()
    }

    /// Puts other elements in the place of all.
    pub fn replace(&mut self, items: impl IntoIterator<Item = T>) {
        self.clear();
        self.extend(items);
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.guard.changing();
        self.guard.preserve_all(self.list);
        let Guard { key, state, .. } = self.guard;
        self.guard.bury(|burial| self.list.bury(key, state, 0, burial));
        self.list.0.clear();
    }
}
