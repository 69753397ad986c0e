//! The catalogue in sled.
//!
//! sled serves small values well and may, after a power cut, open without what it promised, refuse to open, or panic
//! in open or read. So everything that touches it runs on one thread of its own under `catch_unwind`, and a directory
//! that does not open is moved aside and begun anew: its owner rebuilds the content from files.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use alluvium_actors::ports::catalogue::{Catalogue, CatalogueError, LARGEST_BATCH};

/// The most memory that sled's page cache takes, in bytes.
const CACHE: u64 = 16 * 1024 * 1024;

/// In which state the catalogue was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueCondition {
    /// It opened; whether it is complete is open.
    Opened,
    /// It did not open, and an empty one took its place.
    Renewed {
        /// Why it did not open.
        reason: String,
    },
}

type Job = Box<dyn FnOnce(&sled::Db) + Send>;

/// A catalogue in a directory of its own, through sled.
#[derive(Debug)]
pub struct SledCatalogue {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl SledCatalogue {
    /// Opens the catalogue in `directory`, which nobody else uses. If it does not open, it is renamed by appending
    /// `.broken` (replacing an earlier such one) and an empty one is begun.
    ///
    /// # Errors
    ///
    /// Not even an empty one can be opened there. The store works without a catalogue.
    pub fn open(directory: &Path) -> Result<(SledCatalogue, CatalogueCondition), CatalogueError> {
        let (jobs, queue) = channel::<Job>();
        let (opened, condition) = channel();
        let directory = directory.to_owned();
        let thread = thread::Builder::new()
            .name("alluvium-catalogue".to_owned())
            .spawn(move || {
                let outcome = open_or_renew(&directory);
                match outcome {
                    Ok((db, found)) => {
                        // The one who asked waits for the answer, so it is there.
                        let _ = opened.send(Ok(found));
                        serve(db, &queue);
                    }
                    Err(reason) => {
                        let _ = opened.send(Err(reason));
                    }
                }
            })
            .map_err(|error| failed("open", &error))?;
        let found = condition.recv().unwrap_or_else(|_| Err("its thread ended".to_owned()));
        let catalogue = SledCatalogue { jobs: Mutex::new(Some(jobs)), thread: Some(thread) };
        Ok((catalogue, found.map_err(|reason| failed("open", &reason))?))
    }

    /// Runs `work` on the thread of the catalogue and waits for its answer.
    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&sled::Db) -> sled::Result<T> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let (answer, waiting) = channel();
        let job: Job = Box::new(move |db| {
            let outcome = guarded(|| work(db));
            // Whoever asked may be gone.
            let _ = answer.send(outcome);
        });
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = jobs.is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(failed(operation, &"its thread ended"));
        }
        let outcome = waiting.recv().map_err(|error| failed(operation, &error))?;
        outcome.map_err(|reason| failed(operation, &reason))
    }
}

impl Drop for SledCatalogue {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.take() {
            // Waited for, so that the directory can be opened again at once.
            let _ = thread.join();
        }
    }
}

fn failed(operation: &'static str, reason: &dyn ToString) -> CatalogueError {
    CatalogueError { operation, reason: reason.to_string() }
}

/// Runs something of sled; a panic becomes an error.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("sled panicked: {}", text.unwrap_or("without a text")))
        }
    }
}

fn open(directory: &Path) -> Result<sled::Db, String> {
    guarded(|| {
        let config = sled::Config::new().path(directory).cache_capacity(CACHE).flush_every_ms(None);
        let db = config.open()?;
        // Damage often shows at the first read only, so read all of it: it is small.
        for entry in db.iter() {
            entry?;
        }
        Ok(db)
    })
}

fn open_or_renew(directory: &Path) -> Result<(sled::Db, CatalogueCondition), String> {
    let reason = match open(directory) {
        Ok(db) => return Ok((db, CatalogueCondition::Opened)),
        Err(reason) => reason,
    };
    tracing::warn!(directory = %directory.display(), %reason, "the catalogue does not open and is begun anew");
    move_aside(directory).map_err(|error| format!("{reason}; and it cannot be moved aside: {error}"))?;
    Ok((open(directory)?, CatalogueCondition::Renewed { reason }))
}

fn move_aside(directory: &Path) -> io::Result<()> {
    let mut aside = directory.as_os_str().to_owned();
    aside.push(".broken");
    let aside = PathBuf::from(aside);
    remove(&aside)?;
    match fs::rename(directory, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn serve(db: sled::Db, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job(&db);
    }
    // Closing writes what is left, and may panic as everything of sled may.
    if let Err(reason) = guarded(|| {
        drop(db);
        Ok(())
    }) {
        tracing::warn!(%reason, "the catalogue did not close well");
    }
}

fn within_limit(operation: &'static str, count: usize) -> Result<(), CatalogueError> {
    if count <= LARGEST_BATCH {
        return Ok(());
    }
    Err(failed(operation, &format!("{count} entries at once are more than {LARGEST_BATCH}")))
}

impl Catalogue for SledCatalogue {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        let key = key.to_vec();
        self.run("get", move |db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn put(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), CatalogueError> {
        within_limit("put", entries.len())?;
        let mut batch = sled::Batch::default();
        for (key, value) in entries {
            batch.insert(key.as_slice(), value.as_slice());
        }
        self.run("put", move |db| db.apply_batch(batch).and_then(|()| db.flush()).map(|_| ()))
    }

    fn remove(&self, keys: &[Vec<u8>]) -> Result<(), CatalogueError> {
        within_limit("remove", keys.len())?;
        let mut batch = sled::Batch::default();
        for key in keys {
            batch.remove(key.as_slice());
        }
        self.run("remove", move |db| db.apply_batch(batch).and_then(|()| db.flush()).map(|_| ()))
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, CatalogueError> {
        let prefix = prefix.to_vec();
        self.run("scan", move |db| {
            db.scan_prefix(prefix).map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        })
    }
}
