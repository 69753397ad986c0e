//! The lists of an operator's instance: split or united when they are restored.
//!
//! Each element has a number that never changes, and the numbers ascend along the list. So an element may be changed or removed anywhere while a snapshot is being written: the
//! snapshot knows by the number whether it has passed the element, and the old content is stored with it, in whatever order.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::DeserializeOwned;

use super::set::{OperatorContent, OperatorState};
use crate::record::Record;
use crate::state::descriptor::{StateDescriptor, StateKind};
use crate::state::encode::{EncodeKey, Room, put};
use crate::state::row::{Burial, Decoder, RestoreError, Restoring, decode};
use crate::state::set::{Content, Guard};
use crate::state::slots::Epoch;
use crate::state::snapshot::{Capture, EncodeError};

macro_rules! declaration {
    ($(#[$meta:meta])* $name:ident $kind:ident) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name<T> {
            name: Cow<'static, str>,
            holds: PhantomData<fn() -> T>,
        }

        impl<T> Clone for $name<T> {
            fn clone(&self) -> $name<T> {
                $name { name: self.name.clone(), holds: PhantomData }
            }
        }

        impl<T: Record> $name<T> {
            /// Declares the state under a name that is unique in its operator; stored state is found again by it.
            #[must_use]
            pub fn named(name: impl Into<Cow<'static, str>>) -> $name<T> {
                $name { name: name.into(), holds: PhantomData }
            }
        }

        impl<T: Record> OperatorState for $name<T> {
            type Content = OperatorListContent<T>;
            type Access<'a> = OperatorListAccess<'a, T>;

            fn descriptor(&self) -> StateDescriptor {
                StateDescriptor::new(StateKind::$kind, &*self.name, &[type_name::<T>()])
            }

            fn access<'a>(
                content: &'a mut OperatorListContent<T>,
                _: &'a Cell<Epoch>,
                guard: Guard<'a>,
            ) -> OperatorListAccess<'a, T> {
                OperatorListAccess { list: content, guard }
            }
        }
    };
}

declaration! {
    /// Declares a list of `T` in each instance of an operator, which belongs to all of them together: when they become more or fewer, the elements of all, instance by instance
    /// and in their order, are dealt out evenly. For what any instance may go on with, such as requests that wait for their answer.
    SplitList SplitList
}

declaration! {
    /// Declares a list of `T` in each instance of an operator of which every instance gets all elements of all instances when it is restored, in the order of the instances. For
    /// what has to be dealt out by a rule of the operator's own: in [`StatefulProcess::open`](crate::operator::StatefulProcess::open) each instance keeps what is its own and drops
    /// the rest. An instance that keeps all writes all into the next checkpoint, and so does each of the others.
    ///
    /// While some instances of such an operator have come to the end of their data and others have not, checkpoints are refused, as Apache Flink refuses them.
    UnionList UnionList
}

#[derive(Clone, Debug)]
struct Element<T> {
    number: u64,
    changed: Epoch,
    item: T,
}

/// The elements of an instance.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct OperatorListContent<T> {
    elements: VecDeque<Element<T>>,
    /// Above the number of every element.
    next: u64,
    /// What a former instance stored, with the numbers there, as it comes.
    restored: Vec<(u64, T)>,
}

impl<T> Default for OperatorListContent<T> {
    fn default() -> OperatorListContent<T> {
        OperatorListContent { elements: VecDeque::new(), next: 0, restored: Vec::new() }
    }
}

impl<T> OperatorListContent<T> {
    fn push(&mut self, changed: Epoch, item: T) {
        self.elements.push_back(Element { number: self.next, changed, item });
        self.next += 1;
    }
}

fn put_element<T: Record>(room: &mut Room<'_>, element: &Element<T>) -> Result<(), rmp_serde::encode::Error> {
    put(room, &element.number)?;
    put(room, &element.item)
}

impl<T: Record + DeserializeOwned> Content for OperatorListContent<T> {
    fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    // The unit is the number of an element. One entry is one element, so that the index of a blob tells how many there are.
    fn capture<K: EncodeKey + ?Sized>(
        &self,
        _: &K,
        _: Epoch,
        state: u16,
        from: u64,
        capture: &mut Capture<'_>,
    ) -> Result<Option<u64>, EncodeError> {
        let first = self.elements.partition_point(|element| element.number < from);
        for element in self.elements.range(first..) {
            if capture.budget == 0 {
                return Ok(Some(element.number));
            }
            capture.spend(1);
            if element.changed <= capture.epoch {
                capture.entry(state, |room| put_element(room, element))?;
            }
        }
        Ok(None)
    }

    fn restore(&mut self, entry: &mut Decoder<'_>, _: Restoring) -> Result<(), RestoreError> {
        let number = decode(entry)?;
        self.restored.push((number, decode(entry)?));
        Ok(())
    }

    fn forget(_: Option<&mut Self>, _: &mut Decoder<'_>, _: Restoring) -> Result<(), RestoreError> {
        Err(RestoreError::Decode("a removal stands in a list of an instance, which is stored whole".to_owned()))
    }

    // Nothing is recorded: there are no increments of operator state.
    fn bury<K: EncodeKey + ?Sized>(&self, _: &K, _: u16, _: Epoch, _: &mut Burial<'_>) {}
}

impl<T: Record> OperatorContent for OperatorListContent<T> {
    fn settle(&mut self, keep: Range<u64>, context: Restoring) -> Result<(), RestoreError> {
        let mut restored = std::mem::take(&mut self.restored);
        restored.sort_by_key(|(number, _)| *number);
        if restored.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(RestoreError::Duplicate);
        }
        let first = usize::try_from(keep.start).unwrap_or(usize::MAX);
        let count = usize::try_from(keep.end.saturating_sub(keep.start)).unwrap_or(usize::MAX);
        for (_, item) in restored.into_iter().skip(first).take(count) {
            self.push(context.epoch, item);
        }
        Ok(())
    }
}

/// The list of an instance.
pub struct OperatorListAccess<'a, T> {
    list: &'a mut OperatorListContent<T>,
    guard: Guard<'a>,
}

impl<T: Record> OperatorListAccess<'_, T> {
    /// Appends an element.
    pub fn push(&mut self, item: T) {
        self.list.push(self.guard.changing(), item);
    }

    /// Appends elements.
    pub fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        for item in items {
            self.push(item);
        }
    }

    /// The elements in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.list.elements.iter().map(|element| &element.item)
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.elements.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.elements.is_empty()
    }

    /// The element at a place, counted from 0.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.list.elements.get(place).map(|element| &element.item)
    }

    /// The element at a place, to change.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let element = self.list.elements.get_mut(place)?;
        preserve(&self.guard, element);
        element.changed = self.guard.changing();
        Some(&mut element.item)
    }

    /// Takes the first element out.
    pub fn pop_front(&mut self) -> Option<T> {
        preserve(&self.guard, self.list.elements.front()?);
        self.list.elements.pop_front().map(|element| element.item)
    }

    /// Takes the last element out.
    pub fn pop_back(&mut self) -> Option<T> {
        preserve(&self.guard, self.list.elements.back()?);
        self.list.elements.pop_back().map(|element| element.item)
    }

    /// Takes the element at a place out; those behind it move up.
    pub fn remove(&mut self, place: usize) -> Option<T> {
        preserve(&self.guard, self.list.elements.get(place)?);
        self.list.elements.remove(place).map(|element| element.item)
    }

    /// Keeps the elements for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let guard = &self.guard;
        self.list.elements.retain(|element| {
            let kept = keep(&element.item);
            if !kept {
                preserve(guard, element);
            }
            kept
        });
    }

    /// Takes all elements out, in their order.
    pub fn take_all(&mut self) -> Vec<T> {
        self.guard.preserve_all(self.list);
        self.list.elements.drain(..).map(|element| element.item).collect()
    }

    /// Puts other elements in the place of all.
    pub fn replace(&mut self, items: impl IntoIterator<Item = T>) {
        self.clear();
        self.extend(items);
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.guard.preserve_all(self.list);
        self.list.elements.clear();
    }
}

/// An element is about to change or go.
fn preserve<T: Record>(guard: &Guard<'_>, element: &Element<T>) {
    guard.preserve_unit(element.changed, element.number, |room| put_element(room, element));
}
