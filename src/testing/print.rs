//! Records as text for people, whatever their type: from their encoding, since a record need not be printable.

use crate::connect::adapter::encode;
use crate::record::Record;
use crate::testing::tree::Tree;

/// The longest text of one record.
const LONGEST: usize = 120;

/// The record as text, cut where it becomes long.
pub(crate) fn text_of_record<T: Record>(record: &T) -> String {
    encode(record).map_or_else(|error| error.to_string(), |bytes| text_of(&bytes))
}

/// The whole record as text, with the entries of its maps sorted: the same for every run, and easy to compare by eye.
pub(crate) fn whole_text_of_record<T: Record>(record: &T) -> String {
    encode(record).map_or_else(|error| error.to_string(), |bytes| whole_text(&bytes, Order::MapsSorted))
}

/// A number that is the same for two runs of equal records, whatever the hash order of the maps and sets in them, and another one, as good as always, for others.
pub(crate) fn fingerprint<T: Record>(records: &[T]) -> u32 {
    records.iter().fold(0, |checksum, record| {
        let text = Tree::of(record).map_or_else(|error| error, |tree| tree.without_order().to_string());
        crc32c::crc32c_append(crc32c::crc32c_append(checksum, text.as_bytes()), b"\n")
    })
}

/// Whether the elements of maps and lists stand as they were encoded, or sorted by their texts: a set is encoded as a list in its hash order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    AsEncoded,
    MapsSorted,
    Sorted,
}

fn whole_text(bytes: &[u8], order: Order) -> String {
    let mut text = String::new();
    match (Reader { bytes, depth: 0, order }).value(&mut text) {
        Some(()) => text,
        None => format!("{} bytes", bytes.len()),
    }
}

/// The record behind an encoding, as text.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    cut(whole_text(bytes, Order::AsEncoded))
}

/// The record as a short text that is the same for equal records.
pub(crate) fn short_canonical<T: Record>(record: &T) -> String {
    cut(encode(record).map_or_else(|error| error.to_string(), |bytes| whole_text(&bytes, Order::Sorted)))
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Reads MessagePack.
struct Reader<'a> {
    bytes: &'a [u8],
    depth: usize,
    order: Order,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    /// A big-endian number of so many bytes.
    fn number(&mut self, length: usize) -> Option<u64> {
        Some(self.take(length)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn signed(&mut self, length: usize) -> Option<i64> {
        let shift = 64 - 8 * length as u32;
        Some(((self.number(length)? << shift) as i64) >> shift)
    }

    fn value(&mut self, text: &mut String) -> Option<()> {
        if self.depth > 32 {
            return None;
        }
        let tag = self.number(1)? as u8;
        match tag {
            0x00..=0x7f => text.push_str(&tag.to_string()),
            0xe0..=0xff => text.push_str(&(tag as i8).to_string()),
            0xc0 => text.push_str("nothing"),
            0xc2 => text.push_str("false"),
            0xc3 => text.push_str("true"),
            0xca => text.push_str(&f32::from_bits(self.number(4)? as u32).to_string()),
            0xcb => text.push_str(&f64::from_bits(self.number(8)?).to_string()),
            0xcc..=0xcf => text.push_str(&self.number(1 << (tag - 0xcc))?.to_string()),
            0xd0..=0xd3 => text.push_str(&self.signed(1 << (tag - 0xd0))?.to_string()),
            0xa0..=0xbf => self.string(usize::from(tag & 0x1f), text)?,
            0xd9..=0xdb => {
                let length = self.number(1 << (tag - 0xd9))?;
                self.string(usize::try_from(length).ok()?, text)?;
            }
            0xc4..=0xc6 => {
                let length = usize::try_from(self.number(1 << (tag - 0xc4))?).ok()?;
                let bytes = self.take(length)?;
                text.push_str(&format!("{length} bytes {bytes:02x?}"));
            }
            0x90..=0x9f => self.list(u64::from(tag & 0x0f), false, text)?,
            0xdc | 0xdd => {
                let length = self.number(2 << (tag - 0xdc))?;
                self.list(length, false, text)?;
            }
            0x80..=0x8f => self.list(u64::from(tag & 0x0f), true, text)?,
            0xde | 0xdf => {
                let length = self.number(2 << (tag - 0xde))?;
                self.list(length, true, text)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn string(&mut self, length: usize, text: &mut String) -> Option<()> {
        let string = String::from_utf8_lossy(self.take(length)?).into_owned();
        text.push_str(&format!("{string:?}"));
        Some(())
    }

    fn list(&mut self, length: u64, map: bool, text: &mut String) -> Option<()> {
        self.depth += 1;
        let mut elements = Vec::new();
        for _ in 0..length {
            let mut element = String::new();
            if map {
                // A field's name, without its quotes.
                let mut name = String::new();
                self.value(&mut name)?;
                element.push_str(name.trim_matches('"'));
                element.push_str(": ");
            }
            self.value(&mut element)?;
            elements.push(element);
        }
        if self.order == Order::Sorted || map && self.order == Order::MapsSorted {
            elements.sort_unstable();
        }
        text.push(if map { '{' } else { '[' });
        text.push_str(&elements.join(", "));
        text.push(if map { '}' } else { ']' });
        self.depth -= 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Order {
        id: u32,
        item: &'static str,
        price: f64,
        change: i16,
        parts: Vec<Option<bool>>,
    }

    #[test]
    fn a_record_reads_as_it_was_written_down() {
        let order = Order { id: 70_000, item: "cup", price: 2.5, change: -300, parts: vec![None, Some(true)] };
        let bytes = rmp_serde::to_vec_named(&order).unwrap();
        assert_eq!(text_of(&bytes), r#"{id: 70000, item: "cup", price: 2.5, change: -300, parts: [nothing, true]}"#);
    }

    #[test]
    fn equal_records_have_one_short_text_and_one_fingerprint_whatever_their_hash_order() {
        use std::collections::{HashMap, HashSet};
        let numbers = || (0..50).map(|number: u32| (number, number * 2));
        let maps: [HashMap<u32, u32>; 2] = [numbers().collect(), numbers().rev().collect()];
        assert_eq!(short_canonical(&maps[0]), short_canonical(&maps[1]));
        assert_eq!(fingerprint(&maps[..1]), fingerprint(&maps[1..]));
        let sets: [HashSet<u32>; 2] = [(0..50).collect(), (0..50).rev().collect()];
        assert_eq!(fingerprint(&sets[..1]), fingerprint(&sets[1..]));
    }

    #[test]
    fn records_that_differ_have_other_fingerprints_and_texts() {
        assert_ne!(fingerprint(&[1_u128]), fingerprint(&[2_u128]), "they are encoded as bytes");
        assert_ne!(short_canonical(&1_u128), short_canonical(&2_u128));
        assert_ne!(fingerprint(&[1_u8, 2]), fingerprint(&[2_u8, 1]), "the order of records counts");
        assert_ne!(fingerprint(&[12_u8]), fingerprint(&[1_u8, 2]));
        let nested = |leaf: u8| (0..40).fold(format!("{leaf}"), |text, _| format!("[{text}]"));
        let deep = |leaf: u8| serde_json::from_str::<serde_json::Value>(&nested(leaf)).unwrap();
        assert_ne!(fingerprint(&[deep(1)]), fingerprint(&[deep(2)]), "however deep the difference lies");
    }

    #[test]
    fn what_is_no_record_is_told_by_its_length() {
        for bytes in [&[0xc1][..], &[0x92, 1], &[0xdb, 0xff, 0xff, 0xff, 0xff], &[0x91; 100]] {
            assert_eq!(text_of(bytes), format!("{} bytes", bytes.len()));
        }
    }
}
