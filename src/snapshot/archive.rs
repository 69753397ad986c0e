//! A single checkpoint as one value of bytes: the objects of its store that a restore needs, in one envelope.
//!
//! `docs/formats.md` describes the bytes. Reading checks everything; the objects within have checksums of their own besides.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::store::{Manifest, StoreError};

use super::envelope::{self, Kind, damaged, u32_at, u64_at};
use super::names;
use super::options::StoreOptions;
use super::store::Store;
use crate::storage::{CheckpointStorage, MemoryStorage, PutOutcome};

/// How errors call an archive.
const PLACE: &str = "an archived checkpoint";

/// The objects of a store by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Archive(BTreeMap<String, Vec<u8>>);

impl Archive {
    /// The archive in `bytes`.
    ///
    /// # Errors
    /// When the bytes are damaged, or something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Archive, StoreError> {
        let body = envelope::open(bytes, Kind::Archive, PLACE)?;
        let short = || damaged(PLACE, "its objects do not fill it");
        let count = u32_at(body, 0).ok_or_else(short)?;
        let mut at = 4_usize;
        let mut objects = BTreeMap::new();
        for _ in 0..count {
            let name = part(body, &mut at).ok_or_else(short)?;
            let name = std::str::from_utf8(name).map_err(|_| damaged(PLACE, "the name of an object is no text"))?;
            let content = part(body, &mut at).ok_or_else(short)?;
            objects.insert(name.to_owned(), content.to_vec());
        }
        if at != body.len() || objects.len() != count as usize {
            return Err(short());
        }
        Ok(Archive(objects))
    }

    /// The archive as bytes: equal archives give equal bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut body = (self.0.len() as u32).to_le_bytes().to_vec();
        for (name, content) in &self.0 {
            for part in [name.as_bytes(), content] {
                body.extend_from_slice(&(part.len() as u64).to_le_bytes());
                body.extend_from_slice(part);
            }
        }
        envelope::seal(Kind::Archive, &body)
    }

    /// The length of all objects in bytes.
    pub(crate) fn length(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// A store in memory that holds these objects.
    ///
    /// # Errors
    /// As [`Store::new`], and when an object has a name that is not allowed.
    pub(crate) fn unpack(&self, options: StoreOptions) -> Result<Store, StoreError> {
        let storage = MemoryStorage::new();
        let fence = FenceSource::new().advance();
        for (name, content) in &self.0 {
            match storage.publish(&fence, name, content) {
                PutOutcome::Done => {}
                PutOutcome::Taken => return Err(damaged(PLACE, format!("two of its objects are called {name}"))),
                PutOutcome::Failed(error) | PutOutcome::Unknown(error) => return Err(error),
            }
        }
        Store::new(Arc::new(storage), None, options)
    }
}

impl Store {
    /// Everything that a restore from a published checkpoint needs.
    ///
    /// # Errors
    /// When an object is missing or cannot be read.
    pub(crate) fn archive(&self, manifest: &Manifest) -> Result<Archive, StoreError> {
        let mut objects = BTreeMap::new();
        let records = [names::RUNS, names::RESERVATIONS].map(|group| self.storage.list(group));
        for record in records.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            objects.insert(record.name.clone(), self.whole(&record.name)?);
        }
        let name = names::manifest(manifest.run, manifest.checkpoint);
        objects.insert(name.clone(), self.whole(&name)?);
        for blob in manifest.blobs() {
            objects.insert(blob.name.clone(), self.whole(&blob.name)?);
        }
        Ok(Archive(objects))
    }

    fn whole(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let missing =
            || StoreError::Missing { file: self.storage.locate(name), reason: "it is to be archived".to_owned() };
        let length = self.storage.length(name)?.ok_or_else(missing)?;
        self.storage.read(name, 0, usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// The bytes behind their length.
fn part<'a>(body: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(u64_at(body, *at)?).ok()?;
    let from = at.checked_add(8)?;
    let to = from.checked_add(length)?;
    *at = to;
    body.get(from..to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_back_and_every_flipped_bit_is_found() {
        let objects = [("runs/a", &b"one"[..]), ("blobs/b", b""), ("manifests/c", b"three")];
        let archive = Archive(objects.into_iter().map(|(name, content)| (name.to_owned(), content.to_vec())).collect());
        let bytes = archive.to_bytes();
        assert_eq!(Archive::from_bytes(&bytes).unwrap(), archive);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Archive::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Archive::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_archive_whose_lengths_lie_is_refused() {
        let mut body = 1_u32.to_le_bytes().to_vec();
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(Archive::from_bytes(&envelope::seal(Kind::Archive, &body)).is_err());
        let more = [&Archive::default().to_bytes()[envelope::HEADER..], b"rest"].concat();
        assert!(Archive::from_bytes(&envelope::seal(Kind::Archive, &more)).is_err());
    }
}
