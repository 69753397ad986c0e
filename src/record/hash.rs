//! The hash of a key: XXH3-64 with the job's seed, over the key as a hashing serializer writes it.
//!
//! The bytes are frozen, because stored state is found by this hash:
//!
//! | part of the key | bytes |
//! | --- | --- |
//! | integer, `char` (as `u32`), `bool` (0 or 1) | its own width, little endian; `usize` and `isize` as 64 bits |
//! | string, bytes | length as `u64`, then the bytes |
//! | sequence | length as `u64`, then its elements |
//! | tuple, array, struct | its fields in their order |
//! | `Option` | one byte 0, or one byte 1 and the content |
//! | enum | index of the variant as `u32`, then its fields |
//! | unit, unit struct | nothing |
//!
//! Floats (several encodings of equal numbers) and maps (random order) are refused. Golden vectors: `tests/state/golden.rs`.

use std::fmt::Display;

use serde::ser::{
    Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Why a key cannot be hashed. The type of the key has to change.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The key contains an `f32` or `f64`.
    #[error(
        "a key must not contain a floating-point number ({0}): equal numbers can have different bytes; use an integer, or the number's bits"
    )]
    Float(&'static str),
    /// The key contains a map.
    #[error("a key must not contain a map: its order is not defined; use a sorted list of pairs")]
    Map,
    /// The key contains a sequence that does not know its length.
    #[error("a key must not contain a sequence of unknown length; collect it into a list")]
    UnknownLength,
    /// The key's own `Serialize` failed.
    #[error("the key cannot be serialized: {0}")]
    Custom(String),
}

impl serde::ser::Error for KeyError {
    fn custom<T: Display>(message: T) -> KeyError {
        KeyError::Custom(message.to_string())
    }
}

/// The hash of `key` under the job's `seed`.
///
/// Costs about 2 ns for an integer. Nothing is allocated for keys of up to 128 encoded bytes.
///
/// # Errors
/// When the key contains a float, a map, or a sequence of unknown length, or when its own `Serialize` fails.
#[inline]
pub fn hash_key<K: Serialize + ?Sized>(seed: u64, key: &K) -> Result<u64, KeyError> {
    let mut bytes = KeyBytes::new();
    key.serialize(&mut bytes)?;
    Ok(bytes.hash(seed))
}

const INLINE: usize = 128;

/// The key's bytes: on the stack, and from 128 bytes on, on the heap.
struct KeyBytes {
    inline: [u8; INLINE],
    length: usize,
    spilled: Vec<u8>,
}

impl KeyBytes {
    #[inline(always)]
    fn new() -> KeyBytes {
        KeyBytes { inline: [0; INLINE], length: 0, spilled: Vec::new() }
    }

    // Inlined always: for an integer key the length is then a constant, and the whole hash folds into a few
    // multiplications.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if end <= INLINE {
            self.inline[self.length..end].copy_from_slice(bytes);
        } else {
            self.spill(bytes);
        }
        self.length = end;
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline[..self.length]);
        }
        self.spilled.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn hash(&self, seed: u64) -> u64 {
        if self.length <= INLINE {
            xxh3_64_with_seed(&self.inline[..self.length], seed)
        } else {
            xxh3_64_with_seed(&self.spilled, seed)
        }
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty,)*) => {$(
        #[inline(always)]
        fn $method(self, value: $type) -> Result<(), KeyError> {
            self.put(&value.to_le_bytes());
            Ok(())
        }
    )*};
}

impl<'a> Serializer for &'a mut KeyBytes {
    type Ok = ();
    type Error = KeyError;
    type SerializeSeq = &'a mut KeyBytes;
    type SerializeTuple = &'a mut KeyBytes;
    type SerializeTupleStruct = &'a mut KeyBytes;
    type SerializeTupleVariant = &'a mut KeyBytes;
    type SerializeMap = Impossible<(), KeyError>;
    type SerializeStruct = &'a mut KeyBytes;
    type SerializeStructVariant = &'a mut KeyBytes;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
    }

    #[inline(always)]
    fn serialize_bool(self, value: bool) -> Result<(), KeyError> {
        self.put(&[u8::from(value)]);
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), KeyError> {
        Err(KeyError::Float("f32"))
    }

    fn serialize_f64(self, _: f64) -> Result<(), KeyError> {
        Err(KeyError::Float("f64"))
    }

    #[inline(always)]
    fn serialize_char(self, value: char) -> Result<(), KeyError> {
        self.serialize_u32(value.into())
    }

    #[inline(always)]
    fn serialize_str(self, value: &str) -> Result<(), KeyError> {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline(always)]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), KeyError> {
        self.put(&(value.len() as u64).to_le_bytes());
        self.put(value);
        Ok(())
    }

    #[inline(always)]
    fn serialize_none(self) -> Result<(), KeyError> {
        self.put(&[0]);
        Ok(())
    }

    #[inline(always)]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), KeyError> {
        self.put(&[1]);
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<(), KeyError> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), KeyError> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), KeyError> {
        self.serialize_u32(index)
    }

    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), KeyError> {
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), KeyError> {
        self.put(&index.to_le_bytes());
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, KeyError> {
        let length = length.ok_or(KeyError::UnknownLength)?;
        self.put(&(length as u64).to_le_bytes());
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, KeyError> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, KeyError> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, KeyError> {
        self.put(&index.to_le_bytes());
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, KeyError> {
        Err(KeyError::Map)
    }

    #[inline(always)]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, KeyError> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, KeyError> {
        self.put(&index.to_le_bytes());
        Ok(self)
    }

    // Keys are hashed in the form in which they are stored: binary.
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! compounds {
    ($($trait:ident::$method:ident($($name:ty)?),)*) => {$(
        impl $trait for &mut KeyBytes {
            type Ok = ();
            type Error = KeyError;

            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<(), KeyError> {
                value.serialize(&mut **self)
            }

            #[inline(always)]
            fn end(self) -> Result<(), KeyError> {
                Ok(())
            }
        }
    )*};
}

compounds! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(&'static str),
    SerializeStructVariant::serialize_field(&'static str),
}
