//! Commits prepared files by renaming them, and removes what earlier attempts left behind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_actors::ports::files::{FileError, FileErrorKind, Files};
use alluvium_actors::ports::sink::SinkScope;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::names::{Names, is_kept};
use super::owner::Owner;
use super::writer::sync_directory;
use super::{LinesState, PendingFile};
use crate::connect::file_failure;
use crate::connect::sink::{CommitOutcome, SinkCommit};
use crate::error::{OperatorError, OperatorResult};

/// After this time a commit is tried again that failed in a way that may pass.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// So often in a row, unless the disk is full: then until it is not.
const RETRIES: u32 = 5;

/// Commits prepared files by renaming them.
#[derive(Debug)]
pub struct LinesCommitter {
    scope: SinkScope,
    names: Arc<Names>,
    /// How often the commit that is tried was put off.
    retries: u32,
}

/// Why a commit did not go through.
enum Refused {
    /// The disk is full.
    Later,
    /// It may go through another time.
    Perhaps(OperatorError),
    Never(OperatorError),
}

impl From<FileError> for Refused {
    fn from(error: FileError) -> Refused {
        let failure = file_failure(&error);
        match error.kind {
            FileErrorKind::OutOfSpace => Refused::Later,
            _ if failure.is_retryable() => Refused::Perhaps(failure),
            _ => Refused::Never(failure),
        }
    }
}

impl From<OperatorError> for Refused {
    fn from(error: OperatorError) -> Refused {
        Refused::Never(error)
    }
}

impl LinesCommitter {
    pub(super) fn new(scope: SinkScope, names: Arc<Names>) -> LinesCommitter {
        LinesCommitter { scope, names, retries: 0 }
    }

    fn files(&self) -> &dyn Files {
        self.scope.files.as_ref()
    }

    fn check_fence(&self) -> OperatorResult {
        Ok(self.scope.fence.check()?)
    }

    /// A start without a checkpoint must not find output: it would be written a second time.
    fn refuse_owned_output(&self) -> OperatorResult {
        let entries = self.files().list(self.names.directory()).map_err(|error| file_failure(&error))?;
        match entries.iter().find(|entry| self.names.is_ours(&entry.name) && !is_kept(&entry.name)) {
            None => Ok(()),
            Some(entry) => Err(OperatorError::unrecoverable(format!(
                "the directory {} holds output of this sink ({}), and the job begins without a checkpoint, so it would write all of it again: \
                 bring the job's store back, choose another directory, or remove the output",
                self.names.shown(),
                entry.name
            ))),
        }
    }

    fn try_commit(&self, file: &PendingFile) -> Result<CommitOutcome, Refused> {
        if file.name.contains(['/', '\\', '\0']) || !self.names.is_ours(&file.name) {
            let reason = format!("`{}` is not the name of an output file of this sink", file.name.escape_debug());
            return Err(OperatorError::unrecoverable(reason).into());
        }
        let (pending, committed) = (self.names.pending(&file.name), self.names.committed(&file.name));
        if let Some(metadata) = self.files().metadata(&pending)? {
            if metadata.length != file.length {
                return Err(self.changed(&pending, file, &format!("it has {} bytes", metadata.length)).into());
            }
            self.check_fence()?;
            match self.files().rename_without_replace(&pending, &committed) {
                Ok(()) if is_active(Mutation::CommitNotSynced) => return Ok(CommitOutcome::Done),
                Ok(()) => {
                    self.check_fence()?;
                    sync_directory(self.files(), &self.names)?;
                    return Ok(CommitOutcome::Done);
                }
                // Both names are there, as after a crash between the link and the unlink of a file system that cannot rename without replacing.
                Err(error) if error.kind == FileErrorKind::AlreadyExists => {
                    self.compare(&committed, file)?;
                    self.check_fence()?;
                    self.files().remove(&pending)?;
                }
                Err(error) => return Err(error.into()),
            }
        } else if self.files().metadata(&committed)?.is_some() {
            self.compare(&committed, file)?;
        } else {
            return Err(OperatorError::unrecoverable(format!(
                "neither {} nor {} is there, and the checkpoint prepared it: the directory was changed or wiped; bring its files back, \
                 or begin anew with another directory and another store",
                pending.display(),
                committed.display()
            ))
            .into());
        }
        // Whoever renamed it may have crashed before the directory was synced.
        self.check_fence()?;
        sync_directory(self.files(), &self.names)?;
        Ok(CommitOutcome::AlreadyDone)
    }

    /// Compares a committed file with what was prepared.
    fn compare(&self, committed: &Path, file: &PendingFile) -> Result<(), Refused> {
        let reader = self.files().open(committed)?;
        let (mut length, mut checksum) = (0, 0);
        let mut buffer = vec![0; 128 * 1024];
        while length <= file.length {
            let read = reader.read_at(length, &mut buffer)?;
            if read == 0 {
                break;
            }
            length += read as u64;
            checksum = crc32c::crc32c_append(checksum, &buffer[..read]);
        }
        if (length, checksum) == (file.length, file.checksum) {
            return Ok(());
        }
        Err(self.changed(committed, file, "it has other content").into())
    }

    fn changed(&self, path: &Path, file: &PendingFile, reason: &str) -> OperatorError {
        OperatorError::unrecoverable(format!(
            "{} is not the file of {} bytes that the checkpoint prepared: {reason}; the directory was changed: bring the file back, or begin \
             anew with another directory and another store",
            path.display(),
            file.length
        ))
    }
}

impl SinkCommit for LinesCommitter {
    type Committable = PendingFile;
    type State = LinesState;

    fn open(&mut self, restored: Option<Vec<LinesState>>) -> OperatorResult {
        self.check_fence()?;
        self.files().create_directories(self.names.directory()).map_err(|error| file_failure(&error))?;
        let written_to = restored.iter().flatten().find_map(|state| state.directory);
        let owner = Owner::read(self.files(), &self.names)?;
        if let Some(owner) = &owner {
            owner.check(&self.scope, &self.names)?;
        }
        match (written_to, &owner) {
            (Some(_), None) => {
                return Err(OperatorError::unrecoverable(format!(
                    "the directory {} is not the one that the checkpoint wrote to, or it was wiped: give the job its former directory, or begin \
                     anew with another store",
                    self.names.shown()
                )));
            }
            (Some(written_to), Some(owner)) if owner.directory != written_to => {
                return Err(OperatorError::unrecoverable(format!(
                    "the directory {} is not the one that the checkpoint wrote to: give the job its former directory, or begin anew with \
                     another store",
                    self.names.shown()
                )));
            }
            (Some(_) | None, _) => {}
        }
        if restored.is_none() {
            self.refuse_owned_output()?;
        }
        if owner.is_none() {
            let new = Owner::of(&self.scope);
            let owner = new.establish(self.files(), &self.scope.fence, &self.names, &self.scope)?;
            owner.check(&self.scope, &self.names)?;
        } else if written_to.is_none() {
            // Who wrote it may have failed, or died, before it was durable: a checkpoint must not name a directory that a power cut takes back.
            self.check_fence()?;
            sync_directory(self.files(), &self.names)?;
        }
        Ok(())
    }

    fn commit(&mut self, committable: PendingFile) -> CommitOutcome {
        let outcome = match self.try_commit(&committable) {
            Ok(outcome) => outcome,
            Err(Refused::Later) => return CommitOutcome::RetryAfter(RETRY_AFTER),
            Err(Refused::Perhaps(_)) if self.retries < RETRIES => {
                self.retries += 1;
                return CommitOutcome::RetryAfter(RETRY_AFTER);
            }
            Err(Refused::Perhaps(failure) | Refused::Never(failure)) => CommitOutcome::Fatal(failure),
        };
        self.retries = 0;
        outcome
    }

    fn clean_up(&mut self) -> OperatorResult {
        let entries = self.files().list(self.names.directory()).map_err(|error| file_failure(&error))?;
        let mut removed = false;
        for entry in entries.iter().filter(|entry| self.names.is_ours(&entry.name) && is_kept(&entry.name)) {
            self.check_fence()?;
            match self.files().remove(&self.names.committed(&entry.name)) {
                Ok(()) => removed = true,
                Err(error) if error.kind == FileErrorKind::NotFound => {}
                Err(error) => return Err(file_failure(&error)),
            }
        }
        if removed {
            self.check_fence()?;
            sync_directory(self.files(), &self.names)?;
        }
        Ok(())
    }
}
