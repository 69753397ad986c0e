//! Frozen: the hashes by which stored state is found, and the bytes in which it is stored.

use std::collections::BTreeMap;

use alluvium::record::{KeyError, hash_key, key_group};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    Nowhere,
    Airport(String),
    Point { x: i32, y: i32 },
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Aircraft {
    tail: String,
    number: u32,
    owner: Option<char>,
}

fn hash<K: Serialize + ?Sized>(key: &K) -> u64 {
    hash_key(42, key).unwrap()
}

#[test]
fn the_hash_is_xxh3_over_the_documented_bytes() {
    let of = |bytes: &[u8]| xxh3_64_with_seed(bytes, 42);
    assert_eq!(hash(&0x0102_0304_0506_0708_u64), of(&[8, 7, 6, 5, 4, 3, 2, 1]));
    assert_eq!(hash(&-2_i16), of(&[0xFE, 0xFF]));
    assert_eq!(hash("JFK"), of(b"\x03\0\0\0\0\0\0\0JFK"));
    assert_eq!(hash(&true), of(&[1]));
    assert_eq!(hash(&'a'), of(&[97, 0, 0, 0]));
    assert_eq!(hash(&()), of(&[]));
    assert_eq!(hash(&None::<u8>), of(&[0]));
    assert_eq!(hash(&Some(7_u8)), of(&[1, 7]));
    assert_eq!(hash(&vec![1_u8, 2]), of(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 2]));
    assert_eq!(hash(&(1_u8, 2_u16)), of(&[1, 2, 0]));
    assert_eq!(hash(&Place::Nowhere), of(&[0, 0, 0, 0]));
    assert_eq!(hash(&Place::Airport("A".into())), of(b"\x01\0\0\0\x01\0\0\0\0\0\0\0A"));
    assert_eq!(hash(&Place::Point { x: 1, y: -1 }), of(b"\x02\0\0\0\x01\0\0\0\xFF\xFF\xFF\xFF"));
    let aircraft = Aircraft { tail: "N1".into(), number: 5, owner: Some('x') };
    assert_eq!(hash(&aircraft), of(b"\x02\0\0\0\0\0\0\0N1\x05\0\0\0\x01x\0\0\0"));
    for length in [0, 1, 100, 119, 120, 121, 128, 129, 200, 1000] {
        let text = "n".repeat(length);
        let mut bytes = (length as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        assert_eq!(hash(&text), of(&bytes), "a string of {length} bytes");
        assert_eq!(hash(&(text, 3_u8)), of(&[&bytes[..], &[3]].concat()));
    }
}

#[test]
fn the_golden_hashes_have_not_changed() {
    let golden: [(u64, u64, u32); 6] = [
        (hash_key(0, &0_u64).unwrap(), 0xC77B_3ABB_6F87_ACD9, 99),
        (hash_key(0, &1_u64).unwrap(), 0x2FBC_5935_64DB_792E, 23),
        (hash_key(7, &u64::MAX).unwrap(), 0x3EA9_37A3_184E_65C1, 31),
        (hash_key(7, "N12345").unwrap(), 0xECB4_D190_A9F9_3688, 118),
        (hash_key(7, &("N12345", 6_u32)).unwrap(), 0x8021_6DDF_5FB9_5F2A, 64),
        (hash_key(7, &Place::Airport("EWR".into())).unwrap(), 0x2476_C5C0_2B9B_290A, 18),
    ];
    for (found, expected, group) in golden {
        assert_eq!((found, key_group(found, 128)), (expected, group), "{found:#018x}");
    }
}

#[test]
fn floats_and_maps_and_sequences_of_unknown_length_are_refused() {
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serde::ser::SerializeSeq::end(serializer.serialize_seq(None)?)
        }
    }
    assert_eq!(hash_key(0, &1.5_f64), Err(KeyError::Float("f64")));
    assert_eq!(hash_key(0, &(1, 1.5_f32)), Err(KeyError::Float("f32")));
    assert_eq!(hash_key(0, &Some(BTreeMap::<u8, u8>::new())), Err(KeyError::Map));
    assert_eq!(hash_key(0, &Endless), Err(KeyError::UnknownLength));
}
