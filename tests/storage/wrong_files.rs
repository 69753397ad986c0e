//! The suite for doors to files finds doors that are wrong: each flaw, and the rule that tells it.

use std::path::{Path, PathBuf};

use alluvium::testing::conformance::check_files;
use alluvium::testing::disk::SimulatedDisk;
use alluvium_actors::ports::files::{
    DirectoryEntry, FileError, FileErrorKind, FileLock, FileMetadata, FileOperation, FileReader, FileWriter, Files,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    CreateTruncates,
    RenameReplaces,
    RenameCopiesNothing,
    ReadsAtMostTwoBytes,
    AppendsLoseAnEmptyTail,
    ListsUnsorted,
    LocksForAll,
    RemovesTwice,
    DirectoriesOnlyOnce,
    MissingIsSomethingElse,
    ErrorsNameNoPath,
}

struct Wrong {
    disk: SimulatedDisk,
    flaw: Flaw,
}

struct NoLock;

impl FileLock for NoLock {}

struct Reader {
    inner: Box<dyn FileReader>,
    flaw: Flaw,
}

impl FileReader for Reader {
    fn length(&self) -> Result<u64, FileError> {
        self.inner.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        let most = if self.flaw == Flaw::ReadsAtMostTwoBytes { buffer.len().min(2) } else { buffer.len() };
        self.inner.read_at(offset, &mut buffer[..most])
    }
}

struct Writer {
    inner: Box<dyn FileWriter>,
    flaw: Flaw,
}

impl FileWriter for Writer {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let lost = usize::from(self.flaw == Flaw::AppendsLoseAnEmptyTail && bytes.len() > 60_000);
        self.inner.append(&bytes[..bytes.len() - lost])
    }

    fn sync(&mut self) -> Result<(), FileError> {
        self.inner.sync()
    }
}

impl Wrong {
    fn told<T>(&self, outcome: Result<T, FileError>) -> Result<T, FileError> {
        outcome.map_err(|mut error| {
            match self.flaw {
                Flaw::MissingIsSomethingElse if error.kind == FileErrorKind::NotFound => {
                    error.kind = FileErrorKind::Other(std::io::ErrorKind::Other);
                }
                Flaw::ErrorsNameNoPath => error.path = PathBuf::new(),
                _ => {}
            }
            error
        })
    }
}

impl Files for Wrong {
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError> {
        if self.flaw == Flaw::CreateTruncates {
            let _ = self.disk.remove(path);
        }
        let inner = self.told(self.disk.create(path))?;
        Ok(Box::new(Writer { inner, flaw: self.flaw }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError> {
        let inner = self.told(self.disk.open(path))?;
        Ok(Box::new(Reader { inner, flaw: self.flaw }))
    }

    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        match self.flaw {
            Flaw::RenameReplaces if from != to => {
                let _ = self.disk.remove(to);
            }
            Flaw::RenameCopiesNothing if self.disk.metadata(from)?.is_some() => {
                self.disk.create(to)?;
                return self.disk.remove(from);
            }
            _ => {}
        }
        self.told(self.disk.rename_without_replace(from, to))
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), FileError> {
        self.told(self.disk.sync_directory(directory))
    }

    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        let mut entries = self.told(self.disk.list(directory))?;
        if self.flaw == Flaw::ListsUnsorted {
            entries.reverse();
        }
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        match self.told(self.disk.remove(path)) {
            Err(_) if self.flaw == Flaw::RemovesTwice => Ok(()),
            other => other,
        }
    }

    fn create_directories(&self, directory: &Path) -> Result<(), FileError> {
        // What the suite makes for itself has a parent that is no rule's.
        let is_there = directory.components().count() > 4 && self.disk.metadata(directory)?.is_some();
        if self.flaw == Flaw::DirectoriesOnlyOnce && is_there {
            let kind = FileErrorKind::AlreadyExists;
            return Err(FileError::new(FileOperation::CreateDirectories, directory, kind, "it is there"));
        }
        self.told(self.disk.create_directories(directory))
    }

    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError> {
        self.told(self.disk.metadata(path))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        match self.told(self.disk.lock(path)) {
            Err(error) if self.flaw == Flaw::LocksForAll && error.kind == FileErrorKind::Locked => Ok(Box::new(NoLock)),
            other => other,
        }
    }
}

#[test]
fn the_suite_for_files_finds_every_wrong_door() {
    for (flaw, tells) in [
        (Flaw::CreateTruncates, "a name that is taken is not created again"),
        (Flaw::RenameReplaces, "a rename leaves a file that has the new name as it is"),
        (Flaw::RenameCopiesNothing, "a rename moves a file"),
        (Flaw::ReadsAtMostTwoBytes, "a read gives less than asked only at the end"),
        (Flaw::AppendsLoseAnEmptyTail, "a large file is kept"),
        (Flaw::ListsUnsorted, "a directory is listed sorted"),
        (Flaw::LocksForAll, "a lock has one holder"),
        (Flaw::RemovesTwice, "a removed file is gone"),
        (Flaw::DirectoriesOnlyOnce, "directories are made with all above them, and made again"),
        (Flaw::MissingIsSomethingElse, "what is not there is not found"),
        (Flaw::ErrorsNameNoPath, "an error names the path"),
    ] {
        let found = check_files(&Wrong { disk: SimulatedDisk::new(), flaw }, Path::new("/trial"));
        let found = found.expect_err(&format!("{flaw:?} is found"));
        assert!(found.tells(tells), "{flaw:?}: {found}");
    }
    check_files(&Wrong { disk: SimulatedDisk::new(), flaw: Flaw::None }, Path::new("/trial")).unwrap();
}
