//! Values whose type nobody knows, read from what was encoded: to compare them and to show them to people.
//!
//! MessagePack says itself what stands in it. A map becomes a sorted list of its entries, so that two `HashMap`s with the same content are equal; a
//! `HashSet` is a list to whoever reads it, in its own random order. Nothing is left out: two values are equal when what is encoded of them is, but for the order of maps and the width of numbers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tree {
    /// Nothing: `None`, or a unit.
    Nothing,
    Truth(bool),
    Number(i128),
    /// The bits of a floating-point number.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    /// Sorted by the keys.
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    /// A value as it is encoded in checkpoints.
    pub(crate) fn of<T: serde::Serialize>(value: &T) -> Result<Tree, String> {
        let bytes = rmp_serde::to_vec_named(value).map_err(|error| error.to_string())?;
        rmp_serde::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// The same with the elements of every list in order: for values that may hold sets.
    pub(crate) fn without_order(self) -> Tree {
        match self {
            Tree::List(items) => {
                let mut items: Vec<Tree> = items.into_iter().map(Tree::without_order).collect();
                items.sort_unstable();
                Tree::List(items)
            }
            Tree::Map(entries) => {
                let entries = entries.into_iter().map(|(key, value)| (key.without_order(), value.without_order()));
                let mut entries: Vec<(Tree, Tree)> = entries.collect();
                entries.sort_unstable();
                Tree::Map(entries)
            }
            other => other,
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Nothing => formatter.write_str("nothing"),
            Tree::Truth(truth) => write!(formatter, "{truth}"),
            Tree::Number(number) => write!(formatter, "{number}"),
            Tree::Float(bits) => write!(formatter, "{:?}", f64::from_bits(*bits)),
            Tree::Text(text) => write!(formatter, "{text:?}"),
            Tree::Bytes(bytes) => write!(formatter, "{} bytes {bytes:02x?}", bytes.len()),
            Tree::List(items) => {
                formatter.write_str("[")?;
                for (number, item) in items.iter().enumerate() {
                    write!(formatter, "{}{item}", if number == 0 { "" } else { ", " })?;
                }
                formatter.write_str("]")
            }
            Tree::Map(entries) => {
                formatter.write_str("{")?;
                for (number, (key, value)) in entries.iter().enumerate() {
                    write!(formatter, "{}{key}: {value}", if number == 0 { "" } else { ", " })?;
                }
                formatter.write_str("}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(Grow)
    }
}

struct Grow;

impl<'de> Visitor<'de> for Grow {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
        Ok(Tree::Truth(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Float(number.to_bits()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        entries.sort();
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde::Serialize;

    use super::*;

    #[test]
    fn a_value_is_shown_as_it_was_written_and_maps_in_the_order_of_their_keys() {
        #[derive(Serialize)]
        struct Trip {
            to: Option<&'static str>,
            legs: Vec<(u8, f64)>,
            direct: bool,
        }
        let trip = Trip { to: Some("JFK"), legs: vec![(1, 0.5), (2, -3.0)], direct: false };
        let tree = Tree::of(&trip).unwrap();
        assert_eq!(tree.to_string(), r#"{"direct": false, "legs": [[1, 0.5], [2, -3.0]], "to": "JFK"}"#);
        assert_eq!(Tree::of(&(i64::MIN, None::<u8>)).unwrap().to_string(), format!("[{}, nothing]", i64::MIN));
    }

    #[test]
    fn two_values_that_differ_in_nothing_but_bytes_are_not_equal() {
        // 128 bits are written as bytes too.
        assert_ne!(Tree::of(&1_u128).unwrap(), Tree::of(&2_u128).unwrap());
        assert_ne!(Tree::of(&-1_i128).unwrap(), Tree::of(&-2_i128).unwrap());
        struct Image(&'static [u8]);
        impl Serialize for Image {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0)
            }
        }
        let tree = Tree::of(&Image(&[1, 0xfe])).unwrap();
        assert_eq!(tree.to_string(), "2 bytes [01, fe]");
        assert_ne!(tree, Tree::of(&Image(&[1, 0xff])).unwrap());
    }

    #[test]
    fn sets_are_equal_when_the_order_of_lists_does_not_count() {
        use std::collections::HashSet;
        let sets: [HashMap<u8, HashSet<u32>>; 2] =
            [[(1, (0..50).collect())].into(), [(1, (0..50).rev().collect())].into()];
        let [one, other] = sets.map(|set| Tree::of(&set).unwrap().without_order());
        assert_eq!(one, other);
        assert_ne!(Tree::of(&[1, 2]).unwrap(), Tree::of(&[2, 1]).unwrap(), "the order of a list counts");
    }

    #[test]
    fn two_hash_maps_with_the_same_content_are_equal() {
        let sorted: BTreeMap<u64, u64> = (0..100).map(|number| (number, number)).collect();
        let random: HashMap<u64, u64> = (0..100).rev().map(|number| (number, number)).collect();
        assert_eq!(Tree::of(&sorted).unwrap(), Tree::of(&random).unwrap());
    }
}
