//! The file that tells whose directory it is.
//!
//! It is written under another name, synced and renamed, so it is there as a whole or not at all. Its random name of the directory goes into every checkpoint: a
//! directory that was wiped, or exchanged for another one, does not know it.

use std::path::Path;

use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::files::{FileErrorKind, Files};
use alluvium_actors::ports::sink::SinkScope;

use super::names::Names;
use super::writer::sync_directory;
use crate::connect::file_failure;
use crate::error::{OperatorError, OperatorResult};

const FIRST_LINE: &str = "alluvium output directory, format 1";

/// No owner file is longer.
const LONGEST: u64 = 64 * 1024;

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The job's name, escaped.
    job: String,
    /// See [`SinkScope::store`].
    store: String,
    /// The directory's own name, drawn when it was taken.
    pub(super) directory: u64,
}

impl Owner {
    /// A new owner for a directory that has none.
    pub(super) fn of(scope: &SinkScope) -> Owner {
        let drawn = format!("{}\n{}\n{}\n{}", scope.job, scope.store, scope.uid, scope.run);
        Owner {
            job: scope.job.escape_default().to_string(),
            store: scope.store.clone(),
            directory: xxhash_rust::xxh3::xxh3_64(drawn.as_bytes()),
        }
    }

    /// Whether the directory is this job's; the error names whose it is.
    pub(super) fn check(&self, scope: &SinkScope, names: &Names) -> OperatorResult {
        let shown = names.shown();
        if self.job != scope.job.escape_default().to_string() {
            return Err(OperatorError::unrecoverable(format!(
                "the directory {shown} belongs to the job `{}`: choose another directory for the job `{}`",
                self.job, scope.job
            )));
        }
        if self.store != scope.store {
            return Err(OperatorError::unrecoverable(format!(
                "the directory {shown} holds output of this job from another store than the one it uses now: choose another directory, \
                 give the job its former store, or remove the directory with its output"
            )));
        }
        Ok(())
    }

    /// The owner of the directory, if it has one.
    pub(super) fn read(files: &dyn Files, names: &Names) -> OperatorResult<Option<Owner>> {
        let path = names.owner();
        let reader = match files.open(&path) {
            Ok(reader) => reader,
            Err(error) if error.kind == FileErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_failure(&error)),
        };
        let length = reader.length().map_err(|error| file_failure(&error))?;
        let mut content = vec![0; usize::try_from(length.min(LONGEST)).unwrap_or_default()];
        let read = reader.read_at(0, &mut content).map_err(|error| file_failure(&error))?;
        content.truncate(read);
        Owner::decode(&content).map(Some).ok_or_else(|| damaged(&path))
    }

    /// Makes the directory this owner's, and durably so. Another job may be faster: the owner that stands there in the end is returned.
    pub(super) fn establish(
        self,
        files: &dyn Files,
        fence: &Fence,
        names: &Names,
        scope: &SinkScope,
    ) -> OperatorResult<Owner> {
        let (new, path) = (names.new_owner(scope.run), names.owner());
        fence.check()?;
        let mut writer = files.create(&new).map_err(|error| file_failure(&error))?;
        writer.append(self.encode().as_bytes()).map_err(|error| file_failure(&error))?;
        writer.sync().map_err(|error| file_failure(&error))?;
        fence.check()?;
        let owner = match files.rename_without_replace(&new, &path) {
            Ok(()) => self,
            Err(error) if error.kind == FileErrorKind::AlreadyExists => {
                files.remove(&new).map_err(|error| file_failure(&error))?;
                Owner::read(files, names)?.ok_or_else(|| damaged(&path))?
            }
            Err(error) => return Err(file_failure(&error)),
        };
        fence.check()?;
        // Not again after it failed: a later sync may succeed and yet have lost the name.
        sync_directory(files, names)?;
        Ok(owner)
    }

    fn encode(&self) -> String {
        let body =
            format!("{FIRST_LINE}\njob: {}\nstore: {}\ndirectory: {:016x}\n", self.job, self.store, self.directory);
        let check = crc32c::crc32c(body.as_bytes());
        format!("{body}check: {check:08x}\n")
    }

    fn decode(content: &[u8]) -> Option<Owner> {
        let text = std::str::from_utf8(content).ok()?;
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let owner = Owner {
            job: lines.next()?.strip_prefix("job: ")?.to_owned(),
            store: lines.next()?.strip_prefix("store: ")?.to_owned(),
            directory: u64::from_str_radix(lines.next()?.strip_prefix("directory: ")?, 16).ok()?,
        };
        // The checksum is compared by writing it again.
        (owner.encode() == text).then_some(owner)
    }
}

fn damaged(path: &Path) -> OperatorError {
    OperatorError::unrecoverable(format!(
        "{} is damaged, or was written by a later version: it should tell whose directory this is; choose another directory, or bring the file back",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            job: "line\nbreak".escape_default().to_string(),
            store: "00ff".to_owned(),
            directory: 0x1234_5678_9abc_def0,
        }
    }

    #[test]
    fn an_owner_is_read_back() {
        assert_eq!(Owner::decode(owner().encode().as_bytes()), Some(owner()));
    }

    #[test]
    fn a_damaged_owner_is_not_taken_for_one() {
        let good = owner().encode().into_bytes();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Owner::decode(&bad), None, "byte {at}");
            assert_eq!(Owner::decode(&good[..at]), None, "cut at {at}");
        }
        assert_eq!(Owner::decode(b""), None);
    }
}
