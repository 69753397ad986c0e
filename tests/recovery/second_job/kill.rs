//! Where the job kills itself between two named points: around the n-th file operation of a kind.
//!
//! Such a place is written `[final/]MOMENT-OPERATION-PLACE:N`, for example `before-rename-manifests:1`, `final/during-append-runs:1`. With `final/` counting begins when
//! the last checkpoint is triggered. `during` stands only before `append`: half of the bytes are written then.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alluvium::storage::SystemFiles;
use alluvium_actors::ports::files::{DirectoryEntry, FileError, FileLock, FileMetadata, FileReader, FileWriter, Files};
use alluvium_actors::ports::listener::JobEvent;
use rustix::process::{Signal, getpid, kill_process};

/// An operation on a file in the life of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePoint {
    in_final: bool,
    name: String,
    nth: u64,
}

impl FromStr for FilePoint {
    type Err = String;

    fn from_str(text: &str) -> Result<FilePoint, String> {
        let (in_final, rest) = text.strip_prefix("final/").map_or((false, text), |rest| (true, rest));
        let (name, nth) = rest.split_once(':').ok_or("a point ends in `:` and a number")?;
        let nth = nth.parse().map_err(|error| format!("`{nth}`: {error}"))?;
        Ok(FilePoint { in_final, name: name.to_owned(), nth })
    }
}

/// Kills the process at a point.
#[derive(Debug)]
pub(crate) struct Switch {
    point: Option<FilePoint>,
    armed: AtomicBool,
    passed: AtomicU64,
}

impl Switch {
    pub(crate) fn new(point: Option<FilePoint>) -> Switch {
        let armed = point.as_ref().is_some_and(|point| !point.in_final);
        Switch { point, armed: AtomicBool::new(armed), passed: AtomicU64::new(0) }
    }

    /// The job hears of an event.
    pub(crate) fn event(&self, event: &JobEvent) {
        if let JobEvent::Triggered { kind, .. } = event
            && kind.closes()
            && self.point.is_some()
        {
            self.armed.store(true, Ordering::SeqCst);
        }
    }

    fn file(&self, moment: &str, operation: &str, path: &Path) {
        self.pass(format_args!("{moment}-{operation}-{}", place_of(path)));
    }

    fn pass(&self, name: fmt::Arguments<'_>) {
        let Some(point) = &self.point else { return };
        if self.armed.load(Ordering::SeqCst)
            && name.to_string() == point.name
            && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == point.nth
        {
            kill();
        }
    }
}

/// The same death as from outside: no destructor runs, nothing is flushed.
fn kill() -> ! {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    loop {
        std::thread::park();
    }
}

/// What the job says of an event.
pub(crate) fn line(event: &JobEvent) -> Option<String> {
    Some(match event {
        JobEvent::RunBegan { run, restored } => {
            format!("run {run} from {}", restored.map_or("nothing".to_owned(), |checkpoint| checkpoint.to_string()))
        }
        JobEvent::Completed { checkpoint, kind, .. } => format!("completed {checkpoint} {kind:?}"),
        JobEvent::Aborted { checkpoint, reason, .. } => format!("aborted {checkpoint}: {reason}"),
        JobEvent::Failed(failure) => format!("failed {failure}"),
        JobEvent::Restarting { whole_job: true, .. } => "restarting the job".to_owned(),
        JobEvent::Restarting { operators, .. } => format!("restarting {}", operators.join(", ")),
        JobEvent::State(state) => format!("state-{}", state.to_string().to_lowercase()),
        JobEvent::Triggered { .. } => "triggered".to_owned(),
        // One from each subtask for each checkpoint: too many to say anything.
        _ => return None,
    })
}

/// What a file or a directory is for.
fn place_of(path: &Path) -> &'static str {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let parent =
        path.parent().and_then(Path::file_name).map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    for group in ["manifests", "runs", "reservations", "blobs"] {
        if parent == group || name == group {
            return group;
        }
    }
    let endings = [(".inprogress", "unprepared"), (".pending", "pending"), (".csv", "output"), ("owner", "owner")];
    if let Some((_, place)) = endings.iter().find(|(ending, _)| name.ends_with(ending)) {
        return place;
    }
    if name == "all" || name == "marked" { "output" } else { "other" }
}

/// The file system, with a switch around every change.
pub(crate) struct KillingFiles {
    files: SystemFiles,
    switch: Arc<Switch>,
}

impl KillingFiles {
    pub(crate) fn new(files: SystemFiles, switch: Arc<Switch>) -> KillingFiles {
        KillingFiles { files, switch }
    }

    fn around<T>(&self, operation: &str, path: &Path, act: impl FnOnce(&SystemFiles) -> T) -> T {
        self.switch.file("before", operation, path);
        let answer = act(&self.files);
        self.switch.file("after", operation, path);
        answer
    }
}

impl Files for KillingFiles {
    fn create(&self, path: &Path) -> Result<Box<dyn FileWriter>, FileError> {
        let writer = self.around("create", path, |files| files.create(path))?;
        Ok(Box::new(KillingWriter { writer, path: path.into(), switch: Arc::clone(&self.switch) }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, FileError> {
        self.files.open(path)
    }

    fn rename_without_replace(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.around("rename", to, |files| files.rename_without_replace(from, to))
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), FileError> {
        self.around("sync-directory", directory, |files| files.sync_directory(directory))
    }

    fn list(&self, directory: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        self.files.list(directory)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.around("remove", path, |files| files.remove(path))
    }

    fn create_directories(&self, directory: &Path) -> Result<(), FileError> {
        self.around("create", directory, |files| files.create_directories(directory))
    }

    fn metadata(&self, path: &Path) -> Result<Option<FileMetadata>, FileError> {
        self.files.metadata(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        self.files.lock(path)
    }
}

struct KillingWriter {
    writer: Box<dyn FileWriter>,
    path: Box<Path>,
    switch: Arc<Switch>,
}

impl FileWriter for KillingWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.switch.file("before", "append", &self.path);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.writer.append(first)?;
        self.switch.file("during", "append", &self.path);
        self.writer.append(second)?;
        self.switch.file("after", "append", &self.path);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FileError> {
        self.switch.file("before", "sync", &self.path);
        self.writer.sync()?;
        self.switch.file("after", "sync", &self.path);
        Ok(())
    }
}
