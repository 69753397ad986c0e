//! How keys and values are encoded: MessagePack, structs as maps with the names of their fields.

use std::any::Any;
use std::io::{self, Write};

use serde::Serialize;

/// The free part of a chunk, to write an entry into. A slice instead of a growing vector, because the check of a `Vec` in
/// each small write costs as much as the rest of the encoding.
pub struct Room<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) used: usize,
    pub(super) full: bool,
}

impl Room<'_> {
    #[inline(always)]
    fn put_unsigned(&mut self, number: u64) -> io::Result<()> {
        if number <= 0x7F {
            self.write_all(&[number as u8])
        } else if let Ok(number) = u8::try_from(number) {
            self.write_all(&[0xCC, number])
        } else if let Ok(number) = u16::try_from(number) {
            let [a, b] = number.to_be_bytes();
            self.write_all(&[0xCD, a, b])
        } else if let Ok(number) = u32::try_from(number) {
            let [a, b, c, d] = number.to_be_bytes();
            self.write_all(&[0xCE, a, b, c, d])
        } else {
            let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
            self.write_all(&[0xCF, a, b, c, d, e, f, g, h])
        }
    }

    #[inline(always)]
    fn put_signed(&mut self, number: i64) -> io::Result<()> {
        if let Ok(number) = u64::try_from(number) {
            self.put_unsigned(number)
        } else if number >= -0x20 {
            self.write_all(&[number as u8])
        } else if let Ok(number) = i8::try_from(number) {
            self.write_all(&[0xD0, number as u8])
        } else if let Ok(number) = i16::try_from(number) {
            let [a, b] = number.to_be_bytes();
            self.write_all(&[0xD1, a, b])
        } else if let Ok(number) = i32::try_from(number) {
            let [a, b, c, d] = number.to_be_bytes();
            self.write_all(&[0xD2, a, b, c, d])
        } else {
            let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
            self.write_all(&[0xD3, a, b, c, d, e, f, g, h])
        }
    }
}

impl io::Write for Room<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline(always)]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(room) = self.bytes.get_mut(self.used..self.used + bytes.len()) else {
            self.full = true;
            return Err(io::ErrorKind::WriteZero.into());
        };
        room.copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends the encoding of one item.
#[inline(always)]
pub(super) fn put<T: Serialize + 'static>(room: &mut Room<'_>, item: &T) -> Result<(), rmp_serde::encode::Error> {
    // Integers make up most keys and many values. The comparisons of types are decided by the compiler; what is written is
    // what the serializer would write, in a third of the time.
    let item_as = item as &dyn Any;
    if let Some(number) = item_as.downcast_ref::<u64>() {
        room.put_unsigned(*number)
    } else if let Some(number) = item_as.downcast_ref::<i64>() {
        room.put_signed(*number)
    } else if let Some(number) = item_as.downcast_ref::<u32>() {
        room.put_unsigned(u64::from(*number))
    } else if let Some(number) = item_as.downcast_ref::<i32>() {
        room.put_signed(i64::from(*number))
    } else {
        return put_any(room, item);
    }
    .map_err(|_| rmp_serde::encode::Error::InvalidDataModel("the chunk is full"))
}

/// Appends the encoding of one item of any type.
#[inline(always)]
pub(super) fn put_any<T: Serialize>(room: &mut Room<'_>, item: &T) -> Result<(), rmp_serde::encode::Error> {
    item.serialize(&mut rmp_serde::Serializer::new(room).with_struct_map())
}

/// A key whose type is not known where its entry is encoded.
pub trait EncodeKey {
    /// Appends the encoding of the key.
    fn encode(&self, room: &mut Room<'_>) -> Result<(), rmp_serde::encode::Error>;
}

impl<K: Serialize + 'static> EncodeKey for K {
    #[inline(always)]
    fn encode(&self, room: &mut Room<'_>) -> Result<(), rmp_serde::encode::Error> {
        put(room, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_the_serializer_writes_them() {
        let mut numbers: Vec<i128> =
            (0..64).flat_map(|bit| [-2, -1, 0, 1].map(|more| (1_i128 << bit) + more)).collect();
        numbers.extend([0, 1, 31, 32, 33, 127, 128, 255, 256, i128::from(u64::MAX)]);
        for number in numbers.iter().flat_map(|number| [*number, -*number]) {
            fn check<T: TryFrom<i128> + Serialize + 'static>(number: i128) {
                let Ok(number) = T::try_from(number) else { return };
                let mut bytes = [0; 16];
                let mut room = Room { bytes: &mut bytes, used: 0, full: false };
                put(&mut room, &number).unwrap();
                let used = room.used;
                assert_eq!(bytes[..used], rmp_serde::to_vec_named(&number).unwrap());
            }
            check::<u64>(number);
            check::<i64>(number);
            check::<u32>(number);
            check::<i32>(number);
        }
    }
}
