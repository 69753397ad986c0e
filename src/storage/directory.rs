//! Checkpoint storage in a directory, through the door to files.
//!
//! An object is written under a name of its own that ends in `.tmp`, synced, renamed without replacing, and the
//! directory synced. A sync that failed poisons the storage: what a later sync says cannot be believed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_actors::ports::fence::Fence;
use alluvium_actors::ports::files::{FileError, FileErrorKind, FileKind, FileLock, FileWriter, Files};
use alluvium_actors::ports::store::StoreError;
use alluvium_actors::protocol::mutation::{Mutation, is_active};

use super::{CheckpointStorage, ObjectInfo, ObjectWriter, PutOutcome, UNFINISHED, check_name};

/// The file that is locked, and whose presence tells a store's directory.
const LOCK_FILE: &str = "store.lock";

struct Inner {
    files: Arc<dyn Files>,
    root: PathBuf,
    /// The groups whose directories exist.
    groups: Mutex<BTreeSet<String>>,
    poison: Mutex<Option<String>>,
    unfinished: AtomicU64,
    /// Unfinished objects that could not be removed. The next deletion tries again: a store that is emptied for good is not opened once more.
    left: Mutex<Vec<PathBuf>>,
    _lock: Box<dyn FileLock>,
}

/// Objects as files of a directory that belongs to this handle alone.
#[derive(Clone)]
pub struct FileStorage {
    inner: Arc<Inner>,
}

impl FileStorage {
    /// Opens the storage in the directory `root`, which is created if missing. Removes unfinished objects, and syncs
    /// the directories, so that everything that is seen from now on survives a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another process or handle has it open, [`StoreError::Alien`] if the directory holds
    /// other things than a store.
    pub fn open(files: Arc<dyn Files>, root: &Path) -> Result<FileStorage, StoreError> {
        files.create_directories(root)?;
        let lock_file = root.join(LOCK_FILE);
        if files.metadata(&lock_file)?.is_none()
            && let Some(entry) = files.list(root)?.first()
        {
            return Err(StoreError::Alien {
                file: root.display().to_string(),
                reason: format!("it has no {LOCK_FILE}, but holds `{}`; give a new or an empty directory", entry.name),
            });
        }
        let lock = files.lock(&lock_file)?;
        let mut groups = BTreeSet::new();
        for entry in files.list(root)?.into_iter().filter(|entry| entry.metadata.kind == FileKind::Directory) {
            groups.insert(entry.name);
        }
        let inner = Inner {
            files,
            root: root.to_owned(),
            groups: Mutex::new(groups.clone()),
            poison: Mutex::new(None),
            unfinished: AtomicU64::new(0),
            left: Mutex::default(),
            _lock: lock,
        };
        inner.sync_directory(root)?;
        for group in groups.iter().filter(|group| check_name(&format!("{group}/x")).is_ok()) {
            inner.settle(&root.join(group))?;
        }
        Ok(FileStorage { inner: Arc::new(inner) })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn writable(&self, fence: &Fence) -> Result<(), StoreError> {
        self.sound()?;
        Ok(fence.check()?)
    }

    fn sound(&self) -> Result<(), StoreError> {
        match &*lock(&self.poison) {
            None => Ok(()),
            Some(reason) => Err(StoreError::Poisoned { reason: reason.clone() }),
        }
    }

    /// Refuses every later write; the first reason stays.
    fn poisoned(&self, error: &FileError) -> StoreError {
        let mut poison = lock(&self.poison);
        let reason = poison.get_or_insert_with(|| error.to_string());
        StoreError::Poisoned { reason: reason.clone() }
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), StoreError> {
        self.files.sync_directory(directory).map_err(|error| self.poisoned(&error))
    }

    /// Removes what was left unfinished in a directory, and makes the rest of it durable.
    fn settle(&self, directory: &Path) -> Result<(), StoreError> {
        for entry in self.files.list(directory)? {
            if entry.metadata.kind == FileKind::File && entry.name.ends_with(UNFINISHED) {
                self.files.remove(&directory.join(&entry.name))?;
            }
        }
        self.sync_directory(directory)
    }

    fn prepare_group(&self, name: &str) -> Result<(), StoreError> {
        let group = name.split('/').next().unwrap_or_default();
        if lock(&self.groups).contains(group) {
            return Ok(());
        }
        self.files.create_directories(&self.root.join(group))?;
        lock(&self.groups).insert(group.to_owned());
        Ok(())
    }

    fn begin(self: &Arc<Self>, fence: &Fence, name: &str) -> Result<FileObjectWriter, StoreError> {
        check_name(name)?;
        self.writable(fence)?;
        self.prepare_group(name)?;
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let target = self.path(name);
        let unfinished = self.path(&format!("{name}.{number}{UNFINISHED}"));
        let file = self.files.create(&unfinished).inspect_err(|_| {
            // It may be there all the same.
            self.remove_unfinished(unfinished.clone());
        })?;
        Ok(FileObjectWriter {
            inner: Arc::clone(self),
            fence: fence.clone(),
            file: Some(file),
            unfinished: Some(unfinished),
            target,
            broken: None,
        })
    }

    /// Its name is unique, so this can hit no other attempt. What cannot be removed now goes with the next deletion, or when the store is opened again.
    fn remove_unfinished(&self, unfinished: PathBuf) {
        match self.files.remove(&unfinished) {
            Ok(()) => {}
            Err(error) if error.kind == FileErrorKind::NotFound => {}
            Err(error) => {
                tracing::debug!(%error, "an unfinished object stays for now");
                lock(&self.left).push(unfinished);
            }
        }
    }

    fn directory_of(&self, name: &str) -> PathBuf {
        self.path(name).parent().unwrap_or(&self.root).to_owned()
    }

    fn missing(path: &Path, error: FileError) -> StoreError {
        if error.kind == FileErrorKind::NotFound {
            return StoreError::Missing {
                file: path.display().to_string(),
                reason: "there is no such file".to_owned(),
            };
        }
        error.into()
    }
}

impl CheckpointStorage for FileStorage {
    fn create(&self, fence: &Fence, name: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        check_name(name)?;
        self.inner.writable(fence)?;
        let path = self.inner.path(name);
        if self.inner.files.metadata(&path)?.is_some() {
            return Err(taken(&path));
        }
        Ok(Box::new(self.inner.begin(fence, name)?))
    }

    fn publish(&self, fence: &Fence, name: &str, content: &[u8]) -> PutOutcome {
        let synced = self.inner.begin(fence, name).and_then(|mut writer| {
            writer.write(content)?;
            if !is_active(Mutation::PublishBeforeSync) {
                writer.sync()?;
            }
            Ok(writer)
        });
        match synced {
            Ok(writer) => writer.rename(),
            Err(error) => PutOutcome::Failed(error),
        }
    }

    fn is_published(&self, name: &str) -> Result<bool, StoreError> {
        check_name(name)?;
        // After a failed sync of the directory the name may be seen, and be gone after a crash.
        self.inner.sound()?;
        if self.inner.files.metadata(&self.inner.path(name))?.is_none() {
            return Ok(false);
        }
        self.inner.sync_directory(&self.inner.directory_of(name))?;
        Ok(true)
    }

    fn length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        check_name(name)?;
        let metadata = self.inner.files.metadata(&self.inner.path(name))?;
        Ok(metadata.filter(|metadata| metadata.kind == FileKind::File).map(|metadata| metadata.length))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        check_name(name)?;
        let path = self.inner.path(name);
        let file = self.inner.files.open(&path).map_err(|error| Inner::missing(&path, error))?;
        let available = file.length()?;
        let short = |has: u64| StoreError::Damaged {
            file: path.display().to_string(),
            reason: format!("{length} bytes from {offset} were wanted, it has {has}"),
        };
        // Before the allocation: the range may come from a damaged file.
        if offset.checked_add(length as u64).is_none_or(|end| end > available) {
            return Err(short(available));
        }
        let mut content = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(offset + filled as u64, &mut content[filled..])? {
                0 => return Err(short(offset + filled as u64)),
                count => filled += count,
            }
        }
        Ok(content)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let Some((group, start)) = prefix.split_once('/') else {
            return Err(StoreError::Refused { reason: format!("`{prefix}` holds no group to list") });
        };
        check_name(&format!("{group}/x"))?;
        let entries = match self.inner.files.list(&self.inner.root.join(group)) {
            Ok(entries) => entries,
            Err(error) if error.kind == FileErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut objects: Vec<ObjectInfo> = entries
            .into_iter()
            .filter(|entry| entry.metadata.kind == FileKind::File && entry.name.starts_with(start))
            .map(|entry| ObjectInfo { name: format!("{group}/{}", entry.name), length: entry.metadata.length })
            .filter(|object| check_name(&object.name).is_ok())
            .collect();
        objects.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(objects)
    }

    fn delete(&self, fence: &Fence, names: &[String]) -> Result<(), StoreError> {
        let mut directories = BTreeSet::new();
        lock(&self.inner.left)
            .retain(|left| self.inner.files.remove(left).is_err_and(|error| error.kind != FileErrorKind::NotFound));
        for name in names {
            check_name(name)?;
            self.inner.writable(fence)?;
            match self.inner.files.remove(&self.inner.path(name)) {
                Ok(()) => {}
                // Also if the whole group was never written.
                Err(error) if error.kind == FileErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            directories.insert(self.inner.directory_of(name));
        }
        for directory in directories {
            if self.inner.files.metadata(&directory)?.is_some() {
                self.inner.sync_directory(&directory)?;
            }
        }
        Ok(())
    }

    fn locate(&self, name: &str) -> String {
        self.inner.path(name).display().to_string()
    }
}

fn taken(path: &Path) -> StoreError {
    StoreError::Refused { reason: format!("{} exists already, and objects are written once", path.display()) }
}

struct FileObjectWriter {
    inner: Arc<Inner>,
    fence: Fence,
    file: Option<Box<dyn FileWriter>>,
    /// The name of the file until it has the right one.
    unfinished: Option<PathBuf>,
    target: PathBuf,
    /// Why the file does not hold what was to be written.
    broken: Option<StoreError>,
}

impl FileObjectWriter {
    fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.inner.writable(&self.fence)?;
        if let Some(mut file) = self.file.take() {
            file.sync().map_err(|error| self.inner.poisoned(&error))?;
        }
        Ok(())
    }

    /// Gives the synced file its name.
    fn rename(mut self) -> PutOutcome {
        if let Err(error) = self.inner.writable(&self.fence) {
            return PutOutcome::Failed(error);
        }
        let Some(unfinished) = self.unfinished.clone() else { return PutOutcome::Done };
        match self.inner.files.rename_without_replace(&unfinished, &self.target) {
            Ok(()) => {}
            Err(error) if error.kind == FileErrorKind::AlreadyExists => return PutOutcome::Taken,
            Err(error) => return PutOutcome::Unknown(error.into()),
        }
        self.unfinished = None;
        if is_active(Mutation::DirectoryNotSynced) {
            return PutOutcome::Done;
        }
        let directory = self.target.parent().unwrap_or(&self.inner.root);
        match self.inner.sync_directory(directory) {
            Ok(()) => PutOutcome::Done,
            Err(error) => PutOutcome::Unknown(error),
        }
    }
}

impl ObjectWriter for FileObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.inner.writable(&self.fence)?;
        if let Some(file) = &mut self.file {
            file.append(bytes).map_err(|error| {
                let error = StoreError::from(error);
                self.broken = Some(error.clone());
                error
            })?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        if !is_active(Mutation::AcknowledgeBeforeSync) {
            self.sync()?;
        }
        let target = self.target.clone();
        match self.rename() {
            PutOutcome::Done => Ok(()),
            PutOutcome::Taken => Err(taken(&target)),
            PutOutcome::Failed(error) | PutOutcome::Unknown(error) => Err(error),
        }
    }
}

impl Drop for FileObjectWriter {
    fn drop(&mut self) {
        self.file = None;
        if let Some(unfinished) = self.unfinished.take() {
            self.inner.remove_unfinished(unfinished);
        }
    }
}
