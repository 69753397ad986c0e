//! The frame around every small stored object: mark, kind, version, length, checksums.

use alluvium_actors::ports::store::StoreError;

/// What every file of a store begins with.
pub(crate) const MARK: &[u8; 8] = b"alluvium";

/// The version of most of what is written.
pub(crate) const VERSION: u16 = 1;

/// The version of what a reader of the first one would pass over: increments, manifests that name some, and manifests with records in flight. The highest one that is read.
pub(crate) const SECOND_VERSION: u16 = 2;

/// Length of the header in bytes.
pub(crate) const HEADER: usize = 28;

/// The largest body that is written or read, in bytes.
pub(crate) const LARGEST_BODY: u64 = 256 * 1024 * 1024;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest = 1,
    Run = 2,
    Reservation = 3,
    State = 4,
    Summary = 5,
    Archive = 6,
    Record = 20,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Manifest => "manifest",
            Kind::Run => "run record",
            Kind::Reservation => "reservation of ids",
            Kind::State => "state blob",
            Kind::Summary => "summary of a checkpoint",
            Kind::Archive => "archived checkpoint",
            Kind::Record => "record of a checkpoint",
        }
    }
}

/// Puts `body` into its frame.
pub(crate) fn seal(kind: Kind, body: &[u8]) -> Vec<u8> {
    seal_as(VERSION, kind, body)
}

/// The same in a version that is not that of most.
pub(crate) fn seal_as(version: u16, kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MARK);
    bytes.push(kind as u8);
    bytes.push(0);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// An error about the content of `file`.
pub(crate) fn damaged(file: &str, reason: impl Into<String>) -> StoreError {
    StoreError::Damaged { file: file.to_owned(), reason: reason.into() }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The little-endian number at `at`, if the bytes reach that far.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

/// The little-endian number at `at`, if the bytes reach that far.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

/// The little-endian number at `at`, if the bytes reach that far.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

/// Reads a header and returns the length and checksum of the body that follows.
pub(crate) fn open_header(bytes: &[u8], kind: Kind, file: &str) -> Result<(u64, u32), StoreError> {
    let short = || damaged(file, format!("it has only {} bytes, a {} has more", bytes.len(), kind.name()));
    let mark = bytes.get(..MARK.len()).ok_or_else(short)?;
    if mark != MARK {
        let reason = format!("it does not begin as a {} does: damaged, or put there by something else", kind.name());
        return Err(StoreError::Alien { file: file.to_owned(), reason });
    }
    let version = u16_at(bytes, 10).ok_or_else(short)?;
    let length = u64_at(bytes, 12).ok_or_else(short)?;
    let checksum = u32_at(bytes, 20).ok_or_else(short)?;
    let stored = u32_at(bytes, 24).ok_or_else(short)?;
    if crc32c::crc32c(&bytes[..24]) != stored {
        return Err(damaged(file, "the checksum of its header is wrong"));
    }
    if version > SECOND_VERSION {
        return Err(StoreError::TooNew { file: file.to_owned(), found: version, supported: SECOND_VERSION });
    }
    if version == 0 || bytes[9] != 0 {
        return Err(damaged(file, "its header holds values that no version writes"));
    }
    if bytes[8] != kind as u8 {
        return Err(StoreError::Alien { file: file.to_owned(), reason: format!("it is not a {}", kind.name()) });
    }
    Ok((length, checksum))
}

/// The version in a header that was found sound.
pub(crate) fn version(header: &[u8]) -> u16 {
    u16_at(header, 10).unwrap_or(VERSION)
}

/// Takes the body out of its frame, after checking all of it.
pub(crate) fn open<'a>(bytes: &'a [u8], kind: Kind, file: &str) -> Result<&'a [u8], StoreError> {
    let (length, checksum) = open_header(bytes, kind, file)?;
    let body = &bytes[HEADER..];
    if body.len() as u64 != length {
        return Err(damaged(file, format!("its body has {} bytes instead of {length}", body.len())));
    }
    if crc32c::crc32c(body) != checksum {
        return Err(damaged(file, "the checksum of its body is wrong"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_found() {
        let whole = seal(Kind::Run, b"the body");
        assert_eq!(open(&whole, Kind::Run, "file").unwrap(), b"the body");
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped, Kind::Run, "file").is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(open(&whole[..length], Kind::Run, "file").is_err(), "{length} bytes");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(open(&longer, Kind::Run, "file").is_err());
    }

    #[test]
    fn a_later_version_and_another_kind_are_told_apart_from_damage() {
        let mut later = seal(Kind::Run, b"");
        later[10] = 3;
        let checksum = crc32c::crc32c(&later[..24]);
        later[24..28].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(open(&later, Kind::Run, "file"), Err(StoreError::TooNew { found: 3, supported: 2, .. })));
        let other = seal(Kind::Manifest, b"");
        assert!(matches!(open(&other, Kind::Run, "file"), Err(StoreError::Alien { .. })));
    }
}
