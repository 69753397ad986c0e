//! Names of blobs: unique per write, because run, checkpoint, operator and subtask are in them.

use crate::ids::{CheckpointId, OperatorUid, RunNumber};

/// The name of the blob for one piece of one operator instance: unique per write, because each restore is a run of its own.
#[must_use]
pub fn blob_name(run: RunNumber, checkpoint: CheckpointId, uid: &OperatorUid, subtask: u32, piece: &str) -> String {
    format!("r{:010}-c{:020}-s{subtask}-{}-{}", run.0, checkpoint.0, name_part(uid.as_str()), name_part(piece))
}

/// What the name of a blob says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobNameParts<'a> {
    /// The checkpoint that it was written for.
    pub checkpoint: CheckpointId,
    /// The operator's uid, as [`name_part`] writes it.
    pub operator: &'a str,
    /// Which instance of the operator wrote it.
    pub subtask: u32,
}

/// Reads what [`blob_name`] made, with or without a directory in front of it.
#[must_use]
pub fn parse_blob_name(name: &str) -> Option<BlobNameParts<'_>> {
    let file = name.rsplit('/').next()?;
    let mut parts = file.splitn(5, '-');
    parts.next()?.strip_prefix('r')?;
    let checkpoint = CheckpointId(parts.next()?.strip_prefix('c')?.parse().ok()?);
    let subtask = parts.next()?.strip_prefix('s')?.parse().ok()?;
    let operator = parts.next()?;
    parts.next()?;
    Some(BlobNameParts { checkpoint, operator, subtask })
}

/// What stands between the name of a piece and the checkpoint of an increment over it.
const INCREMENT: &str = "-increment-";

/// The name of the piece that holds what `checkpoint` changed in the piece `piece`: they are in the order of their names.
#[must_use]
pub fn increment_name(piece: &str, checkpoint: CheckpointId) -> String {
    format!("{piece}{INCREMENT}{:020}", checkpoint.0)
}

/// The piece and the checkpoint of an increment, from its name. Nothing for a piece that stands by itself.
#[must_use]
pub fn parse_increment(name: &str) -> Option<(&str, CheckpointId)> {
    let (piece, checkpoint) = name.split_once(INCREMENT)?;
    let parsed = CheckpointId(checkpoint.parse().ok()?);
    (increment_name(piece, parsed) == name).then_some((piece, parsed))
}

/// The longest part of a name that is taken over as it is.
const LONGEST_NAME_PART: usize = 60;

/// A text as a part of a file name, injective: letters, digits and `_` stay, other bytes become `%` and two hexadecimal
/// digits, and a long text is cut and ends in its hash.
#[must_use]
pub fn name_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("%{byte:02X}"));
        }
    }
    if part.len() > LONGEST_NAME_PART {
        // FNV-1a, 64 bits: two long names of one job that share their first bytes must not share a file.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        part.truncate(LONGEST_NAME_PART);
        part.push_str(&format!("~{hash:016X}"));
    }
    part
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_name_of_a_blob_says_whose_it_is() {
        let uid = OperatorUid::new("a-b");
        let name = blob_name(RunNumber(3), CheckpointId(7), &uid, 2, "keyed");
        let parts = BlobNameParts { checkpoint: CheckpointId(7), operator: &name_part("a-b"), subtask: 2 };
        assert_eq!(parse_blob_name(&name), Some(parts));
        assert_eq!(parse_blob_name(&format!("blobs/{name}")), Some(parts));
        assert_eq!(parse_blob_name("manifests/r1-c2"), None);
    }

    #[test]
    fn the_name_of_an_increment_says_of_what_and_increments_ascend() {
        let name = increment_name("keyed", CheckpointId(7));
        assert_eq!(parse_increment(&name), Some(("keyed", CheckpointId(7))));
        assert!("keyed" < name.as_str() && name < increment_name("keyed", CheckpointId(10)));
        for other in ["keyed", "keyed-increment-7", "keyed-increment-", "keyed-increment-0000000000000000000x"] {
            assert_eq!(parse_increment(other), None, "{other}");
        }
    }

    #[test]
    fn parts_of_blob_names_never_collide_and_never_leave_their_directory() {
        let mut seen = BTreeMap::new();
        let long = "x".repeat(100);
        let longer = "x".repeat(101);
        for text in ["a", "A", "a/b", "a%2Fb", "..", "", "a b", "ä", &long, &longer] {
            let part = name_part(text);
            assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_%~".contains(&byte)), "{part}");
            assert!(part.len() <= 80, "{part}");
            assert_eq!(seen.insert(part, text), None);
        }
    }
}
