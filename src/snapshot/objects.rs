//! Manifests, run records and reservations as bytes.

use std::collections::BTreeMap;
use std::io::Cursor;

use alluvium_actors::ids::{CheckpointId, RunNumber};
use alluvium_actors::ports::history::CheckpointRecord;
use alluvium_actors::ports::store::{BlobHandle, CheckpointSummary, Manifest, RunRecord, StoreError, parse_increment};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::envelope::{self, Kind, damaged};
use super::names;
use crate::record::MAX_PARALLELISM_LIMIT;
use crate::storage::{CheckpointStorage, check_name};

fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, StoreError> {
    encode_as(envelope::VERSION, kind, value)
}

fn encode_as<T: Serialize>(version: u16, kind: Kind, value: &T) -> Result<Vec<u8>, StoreError> {
    let refused = |reason: String| StoreError::Refused { reason };
    let body = rmp_serde::to_vec_named(value).map_err(|error| refused(format!("it cannot be encoded: {error}")))?;
    if body.len() as u64 > envelope::LARGEST_BODY {
        let limit = envelope::LARGEST_BODY;
        return Err(refused(format!("a manifest of {} bytes is above the limit of {limit}", body.len())));
    }
    Ok(envelope::seal_as(version, kind, &body))
}

fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8], file: &str) -> Result<T, StoreError> {
    let body = envelope::open(bytes, kind, file)?;
    let mut cursor = Cursor::new(body);
    let value = rmp_serde::from_read(&mut cursor).map_err(|error| damaged(file, error.to_string()))?;
    if cursor.position() != body.len() as u64 {
        return Err(damaged(file, "something follows its content"));
    }
    Ok(value)
}

fn read_whole(storage: &dyn CheckpointStorage, name: &str) -> Result<Vec<u8>, StoreError> {
    let file = storage.locate(name);
    let length = storage
        .length(name)?
        .ok_or_else(|| StoreError::Missing { file: file.clone(), reason: "it was there a moment ago".to_owned() })?;
    let limit = envelope::LARGEST_BODY + envelope::HEADER as u64;
    match usize::try_from(length) {
        Ok(whole) if length <= limit => storage.read(name, 0, whole),
        Ok(_) | Err(_) => Err(damaged(&file, format!("it has {length} bytes, more than any such file"))),
    }
}

pub(crate) fn encode_manifest(manifest: &Manifest) -> Result<Vec<u8>, StoreError> {
    let checked = check_blobs(manifest.blobs()).and_then(|()| check_widths(manifest));
    checked.map_err(|reason| StoreError::Refused { reason })?;
    // Who knows neither increments nor records in flight would pass over them, and go on without.
    let mut pieces = manifest.operators().flat_map(|operator| &operator.pieces);
    let incremental = pieces.any(|piece| parse_increment(&piece.name).is_some());
    let second = incremental || manifest.in_flight().next().is_some();
    encode_as(if second { envelope::SECOND_VERSION } else { envelope::VERSION }, Kind::Manifest, manifest)
}

pub(crate) fn decode_manifest(
    bytes: &[u8],
    run: RunNumber,
    checkpoint: CheckpointId,
    file: &str,
) -> Result<Manifest, StoreError> {
    let manifest: Manifest = decode(Kind::Manifest, bytes, file)?;
    if (manifest.run, manifest.checkpoint) != (run, checkpoint) {
        let reason = format!("it holds checkpoint {} of run {}", manifest.checkpoint, manifest.run);
        return Err(StoreError::Alien { file: file.to_owned(), reason });
    }
    let checked = check_blobs(manifest.blobs()).and_then(|()| check_widths(&manifest));
    checked.map_err(|reason| damaged(file, reason))?;
    Ok(manifest)
}

/// The manifest in a file of a store, by the name that the file has there. `None` if that is not the name of a manifest.
pub(crate) fn stored_manifest(name: &str, content: impl FnOnce() -> Vec<u8>) -> Option<Result<Manifest, StoreError>> {
    let (run, checkpoint) = names::parse_manifest(name)?;
    Some(decode_manifest(&content(), run, checkpoint, name))
}

/// A blob's name stays inside the folder of blobs, whoever wrote the manifest.
pub(crate) fn check_blob_name(name: &str) -> Result<(), String> {
    if name.starts_with(names::BLOBS) && check_name(name).is_ok() {
        return Ok(());
    }
    Err(format!("`{}` is not the name of a blob", name.escape_debug()))
}

fn check_blobs<'a>(blobs: impl Iterator<Item = &'a BlobHandle>) -> Result<(), String> {
    let mut total = 0_u64;
    for blob in blobs {
        check_blob_name(&blob.name)?;
        total = total.checked_add(blob.length).ok_or("its blobs are longer than any disk")?;
    }
    Ok(())
}

/// Whoever restores shares out key groups, splits and records by these numbers, and relies on them.
fn check_widths(manifest: &Manifest) -> Result<(), String> {
    let in_range = |what: &dyn Fn() -> String, width: u32| match width {
        1..=MAX_PARALLELISM_LIMIT => Ok(()),
        _ => Err(format!("{} is {width}, and can be 1 to {MAX_PARALLELISM_LIMIT}", what())),
    };
    let mut widths = BTreeMap::new();
    for shape in &manifest.shapes {
        in_range(&|| format!("the parallelism of `{}`", shape.uid), shape.parallelism)?;
        in_range(&|| format!("the max parallelism of `{}`", shape.uid), shape.max_parallelism)?;
        widths.insert(&shape.uid, shape.parallelism);
    }
    for operator in manifest.operators() {
        if let Some(width) = widths.get(&operator.uid).filter(|width| operator.subtask >= **width) {
            return Err(format!("it has subtask {} of `{}`, which has {width}", operator.subtask, operator.uid));
        }
    }
    for (subtask, in_flight) in manifest.in_flight() {
        in_range(&|| format!("the parallelism of what was in flight before {subtask}"), in_flight.parallelism)?;
        if subtask.index >= in_flight.parallelism {
            return Err(format!("something was in flight before {subtask}, of {}", in_flight.parallelism));
        }
        for edge in &in_flight.edges {
            in_range(&|| format!("the number of producers from {} before {subtask}", edge.name), edge.producers)?;
        }
    }
    Ok(())
}

pub(crate) fn read_manifest(
    storage: &dyn CheckpointStorage,
    run: RunNumber,
    checkpoint: CheckpointId,
) -> Result<Manifest, StoreError> {
    let name = names::manifest(run, checkpoint);
    decode_manifest(&read_whole(storage, &name)?, run, checkpoint, &storage.locate(&name))
}

pub(crate) fn encode_run(record: &RunRecord) -> Result<Vec<u8>, StoreError> {
    encode(Kind::Run, record)
}

pub(crate) fn read_run(
    storage: &dyn CheckpointStorage,
    run: RunNumber,
    below: CheckpointId,
) -> Result<RunRecord, StoreError> {
    let name = names::run(run, below);
    let file = storage.locate(&name);
    let record: RunRecord = decode(Kind::Run, &read_whole(storage, &name)?, &file)?;
    if (record.run, record.reserved_below) != (run, below) || record.first_checkpoint > below {
        return Err(StoreError::Alien { file, reason: format!("it holds the record of run {}", record.run) });
    }
    Ok(record)
}

pub(crate) fn encode_reservation() -> Vec<u8> {
    // All that counts is in its name.
    envelope::seal(Kind::Reservation, &[])
}

pub(crate) fn encode_summary(summary: &CheckpointSummary) -> Result<Vec<u8>, StoreError> {
    encode(Kind::Summary, summary)
}

pub(crate) fn encode_record(record: &CheckpointRecord) -> Result<Vec<u8>, StoreError> {
    encode(Kind::Record, record)
}

/// A record from the catalogue; `None` if there is anything wrong with it.
pub(crate) fn decode_record(bytes: &[u8]) -> Option<CheckpointRecord> {
    decode(Kind::Record, bytes, "the catalogue").ok()
}

/// A summary from the catalogue; `None` if there is anything wrong with it.
pub(crate) fn decode_summary(bytes: &[u8]) -> Option<CheckpointSummary> {
    decode(Kind::Summary, bytes, "the catalogue").ok()
}
