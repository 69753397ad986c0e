//! Local copies of a job's blobs: in memory up to a limit, beyond it in files.
//!
//! A copy is kept in blocks with a checksum each, which stay in memory also where the bytes lie in a file: so every read is verified, whatever part of the blob it is about. The files are
//! not synced and are of no use to any other process; what a former one left is removed when the job starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ports::files::{FileError, FileErrorKind, FileKind, FileWriter, Files};
use alluvium_actors::ports::local::{CopyError, CopyWriter, LocalCopies};
use alluvium_actors::ports::store::BlobHandle;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

/// A copy is verified in units of so many bytes.
const BLOCK: usize = 64 * 1024;

/// What is written to find out whether a directory can be written.
const PROBE: &str = "probe";

/// The local copies of one job.
pub struct LocalStorage {
    files: Arc<dyn Files>,
    room: Arc<Room>,
    /// Of this job alone, one below each directory that was given.
    directories: Vec<PathBuf>,
    /// The number of the next file: files go to the directories in turn.
    next: AtomicUsize,
    copies: Shelf,
}

/// The finished copies, by the names of their blobs. Never locked while anything is read or written.
type Shelf = Arc<Mutex<BTreeMap<String, Arc<Copy>>>>;

fn lock(shelf: &Shelf) -> MutexGuard<'_, BTreeMap<String, Arc<Copy>>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The room in memory.
struct Room {
    limit: u64,
    used: Mutex<u64>,
    /// Whether anybody was told that it is too small.
    told: AtomicBool,
}

/// Bytes in memory. The room is free again when it is dropped.
struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Taken {
    /// Takes more bytes; false when there is no room for them.
    fn more(&mut self, bytes: usize) -> bool {
        let mut used = self.room.used();
        if *used + bytes as u64 > self.room.limit {
            return false;
        }
        *used += bytes as u64;
        self.bytes += bytes as u64;
        true
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.room.used() -= self.bytes;
    }
}

impl Room {
    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A copy as far as it was written.
struct Copy {
    length: u64,
    checksum: u32,
    /// The checksum of each block.
    blocks: Vec<u32>,
    place: Place,
}

/// Where the bytes are.
enum Place {
    Memory { blocks: Vec<Box<[u8]>>, _taken: Taken },
    File(CopyFile),
}

/// A file, removed when it is dropped.
struct CopyFile {
    files: Arc<dyn Files>,
    path: PathBuf,
}

impl Drop for CopyFile {
    fn drop(&mut self) {
        match self.files.remove(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind == FileErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "a local copy stays until the job starts again"),
        }
    }
}

impl LocalStorage {
    /// Makes a place for the copies of a job: `memory` bytes in memory, and, if directories are given, files below each of them in a directory `name`, which has to be the job's own.
    /// What is in there is removed.
    ///
    /// # Errors
    /// A directory cannot be made, listed or written.
    pub fn open(
        files: Arc<dyn Files>,
        memory: u64,
        directories: &[PathBuf],
        name: &str,
    ) -> Result<LocalStorage, FileError> {
        let directories: Vec<PathBuf> = directories.iter().map(|directory| directory.join(name)).collect();
        for directory in &directories {
            prepare(&*files, directory)?;
        }
        let room = Arc::new(Room { limit: memory, used: Mutex::default(), told: AtomicBool::new(false) });
        Ok(LocalStorage { files, room, directories, next: AtomicUsize::new(0), copies: Shelf::default() })
    }

    /// How many bytes of copies are in memory, unfinished ones included.
    #[must_use]
    pub fn bytes_in_memory(&self) -> u64 {
        *self.room.used()
    }

    /// How many copies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.copies).len()
    }

    /// Whether there is no copy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Empties a directory, and finds out whether it can be written.
fn prepare(files: &dyn Files, directory: &Path) -> Result<(), FileError> {
    files.create_directories(directory)?;
    for entry in files.list(directory)? {
        if entry.metadata.kind == FileKind::File {
            files.remove(&directory.join(&entry.name))?;
        }
    }
    let probe = directory.join(PROBE);
    files.create(&probe)?.append(b"?")?;
    files.remove(&probe)
}

impl LocalCopies for LocalStorage {
    fn begin(&self, name: &str) -> Result<Box<dyn CopyWriter>, CopyError> {
        let path = match self.directories.len() {
            0 => None,
            count => Some(self.directories[self.next.fetch_add(1, Ordering::Relaxed) % count].join(name)),
        };
        Ok(Box::new(Writer {
            files: Arc::clone(&self.files),
            path,
            part: Vec::new(),
            length: 0,
            checksum: 0,
            blocks: Vec::new(),
            target: Target::Memory { blocks: Vec::new(), taken: Taken { room: Arc::clone(&self.room), bytes: 0 } },
            copies: Arc::clone(&self.copies),
        }))
    }

    fn read(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Option<Vec<u8>>, CopyError> {
        let copy = lock(&self.copies).get(&handle.name).cloned();
        match copy {
            Some(copy) => copy.read(handle, offset, length),
            None => Ok(None),
        }
    }

    fn free(&self, names: &[String]) {
        for name in names {
            let freed = lock(&self.copies).remove(name);
            // Removes a file: not under the lock.
            drop(freed);
        }
    }
}

impl Copy {
    fn read(&self, handle: &BlobHandle, offset: u64, length: usize) -> Result<Option<Vec<u8>>, CopyError> {
        if (self.length, self.checksum) != (handle.length, handle.checksum) {
            return Err(self.damaged(&handle.name, "it is not as long as the blob, or has another checksum"));
        }
        let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(length)?));
        let Some(range) = range.filter(|range| range.end as u64 <= self.length) else { return Ok(None) };
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let (first, last) = (range.start / BLOCK, (range.end - 1) / BLOCK);
        let skipped = range.start - first * BLOCK;
        match &self.place {
            Place::Memory { blocks, .. } => {
                let mut bytes = Vec::with_capacity(length);
                for (number, block) in (first..=last).zip(&blocks[first..=last]) {
                    self.verify(handle, number, block)?;
                    let from = range.start.saturating_sub(number * BLOCK);
                    let to = (range.end - number * BLOCK).min(block.len());
                    bytes.extend_from_slice(&block[from..to]);
                }
                Ok(Some(bytes))
            }
            Place::File(file) => {
                let end = ((last + 1) * BLOCK).min(self.length as usize);
                let mut bytes = file.read(first * BLOCK, end)?;
                for (number, block) in (first..=last).zip(bytes.chunks(BLOCK)) {
                    self.verify(handle, number, block)?;
                }
                bytes.truncate(skipped + length);
                bytes.drain(..skipped);
                Ok(Some(bytes))
            }
        }
    }

    fn verify(&self, handle: &BlobHandle, number: usize, block: &[u8]) -> Result<(), CopyError> {
        if crc32c::crc32c(block) == self.blocks[number] || is_active(Mutation::UnverifiedLocalCopy) {
            return Ok(());
        }
        Err(self.damaged(&handle.name, &format!("the checksum of its bytes from {} on is wrong", number * BLOCK)))
    }

    fn damaged(&self, name: &str, reason: &str) -> CopyError {
        let copy = match &self.place {
            Place::Memory { .. } => format!("of {name} in memory"),
            Place::File(file) => file.path.display().to_string(),
        };
        CopyError::Damaged { copy, reason: reason.to_owned() }
    }
}

impl CopyFile {
    fn read(&self, from: usize, end: usize) -> Result<Vec<u8>, CopyError> {
        let failed = |error: FileError| failed(&self.path, &error);
        let file = self.files.open(&self.path).map_err(failed)?;
        // No longer than the copy was when it was written.
        let mut bytes = vec![0; end - from];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at((from + filled) as u64, &mut bytes[filled..]).map_err(failed)? {
                0 => {
                    let reason = format!("it ends at {} of {end} bytes", from + filled);
                    return Err(CopyError::Damaged { copy: self.path.display().to_string(), reason });
                }
                count => filled += count,
            }
        }
        Ok(bytes)
    }
}

fn failed(path: &Path, error: &FileError) -> CopyError {
    CopyError::Failed { copy: path.display().to_string(), reason: error.to_string() }
}

/// A copy that is being written.
struct Writer {
    files: Arc<dyn Files>,
    /// Where it goes when there is no room in memory.
    path: Option<PathBuf>,
    /// The beginning of the next block.
    part: Vec<u8>,
    length: u64,
    checksum: u32,
    blocks: Vec<u32>,
    target: Target,
    copies: Shelf,
}

enum Target {
    Memory { blocks: Vec<Box<[u8]>>, taken: Taken },
    File { writer: Box<dyn FileWriter>, file: CopyFile },
}

impl Writer {
    fn flush(&mut self) -> Result<(), CopyError> {
        let block = std::mem::take(&mut self.part);
        let checksum = crc32c::crc32c(&block);
        self.checksum = crc32c::crc32c_combine(self.checksum, checksum, block.len());
        self.length += block.len() as u64;
        self.blocks.push(checksum);
        if let Target::Memory { blocks, taken } = &mut self.target {
            if taken.more(block.len()) {
                blocks.push(block.into_boxed_slice());
                return Ok(());
            }
            self.spill()?;
        }
        if let Target::File { writer, file } = &mut self.target {
            writer.append(&block).map_err(|error| failed(&file.path, &error))?;
        }
        // Its room is used again.
        self.part = block;
        self.part.clear();
        Ok(())
    }

    /// Goes on in a file.
    fn spill(&mut self) -> Result<(), CopyError> {
        let Target::Memory { blocks, taken } = &self.target else { return Ok(()) };
        let room = &taken.room;
        let Some(path) = self.path.take() else {
            if !room.told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    limit = room.limit,
                    "not all local copies of state fit into memory: a restore will read the others from the checkpoint store; raise the limit of local_recovery(..), or give it a directory"
                );
            }
            return Err(CopyError::NoRoom { limit: room.limit });
        };
        let writer = self.files.create(&path).map_err(|error| failed(&path, &error))?;
        let file = CopyFile { files: Arc::clone(&self.files), path };
        let mut writer = writer;
        for block in blocks {
            writer.append(block).map_err(|error| failed(&file.path, &error))?;
        }
        self.target = Target::File { writer, file };
        Ok(())
    }
}

impl CopyWriter for Writer {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), CopyError> {
        while !bytes.is_empty() {
            if self.part.capacity() == 0 {
                self.part.reserve_exact(BLOCK);
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, handle: &BlobHandle) -> Result<(), CopyError> {
        if !self.part.is_empty() {
            self.flush()?;
        }
        let Writer { length, checksum, blocks, target, copies, .. } = *self;
        let place = match target {
            Target::Memory { blocks, taken } => Place::Memory { blocks, _taken: taken },
            Target::File { file, .. } => Place::File(file),
        };
        let copy = Copy { length, checksum, blocks, place };
        if (length, checksum) != (handle.length, handle.checksum) {
            return Err(copy.damaged(&handle.name, "what was copied is not what was stored"));
        }
        lock(&copies).insert(handle.name.clone(), Arc::new(copy));
        Ok(())
    }
}
