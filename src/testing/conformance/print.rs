//! Records as text for people, whatever their type: from their encoding, since a record need not be printable.

/// The longest text of one record.
const LONGEST: usize = 120;

/// The record behind an encoding, as text.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::new();
    if (Reader { bytes, depth: 0 }).value(&mut text).is_none() {
        text = format!("{} bytes", bytes.len());
    }
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
                self.take(length)?;
                text.push_str(&format!("{length} bytes"));
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
        text.push(if map { '{' } else { '[' });
        for position in 0..length {
            if position > 0 {
                text.push_str(", ");
            }
            if map {
                // A field's name, without its quotes.
                let mut name = String::new();
                self.value(&mut name)?;
                text.push_str(name.trim_matches('"'));
                text.push_str(": ");
            }
            self.value(text)?;
        }
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
    fn what_is_no_record_is_told_by_its_length() {
        for bytes in [&[0xc1][..], &[0x92, 1], &[0xdb, 0xff, 0xff, 0xff, 0xff], &[0x91; 100]] {
            assert_eq!(text_of(bytes), format!("{} bytes", bytes.len()));
        }
    }
}
