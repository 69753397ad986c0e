//! Running a job: options in, a handle out.

#[cfg(feature = "fault-injection")]
pub mod drill;
pub(crate) mod fit;
mod guarantee;
mod handle;
mod monitor;
mod options;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_actors::drive::overview::Overview;
use alluvium_actors::drive::supervisor::SupervisorSetup;
use alluvium_actors::ids::{RunNumber, WallTime};
use alluvium_actors::ports::catalogue::Catalogue;
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::files::FileError;
use alluvium_actors::ports::listener::Listener;
use alluvium_actors::ports::local::LocalCopies;
use alluvium_actors::ports::sink::{PreparedCheckpoint, SinkScope};
use alluvium_actors::ports::store::{COMMITTABLES, CheckpointStore, OperatorSnapshot, StoreError, name_part};
use alluvium_actors::ports::task::{Failure, Severity};
use alluvium_actors::run;
pub use alluvium_actors::run::{Arbiters, EventsTo, NoArbiter};

pub use handle::{
    CheckpointFigures, CheckpointResult, Events, JobError, JobHandle, JobOutcome, JobReport, JobStatus, RegionStatus,
};
pub use options::{GREATEST_AMPLIFICATION, LocalRecovery, OptionError, Options, SHORTEST_INTERVAL};

use crate::graph::Graph;
use crate::snapshot::{PieceReader, Store, StoreOptions};
use crate::storage::{CheckpointStorage, FileStorage, LocalStorage, MemoryStorage};
use monitor::{Feed, Monitor};

/// How often the lock of a store is tried for, and the time between two tries: one second in all.
const LOCK_TRIES: u32 = 21;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A job could not be started. No checkpoint and no output was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Options that contradict each other or the graph, all of them.
    #[error("{}", list(.0))]
    Options(Vec<OptionError>),
    /// The checkpoint store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A directory for local copies of state cannot be used.
    #[error("local_recovery(..): {0}; give a directory that this process may write, or leave it out")]
    LocalRecovery(FileError),
    /// A sink refuses that the job begins anew; the checkpoints are as they were.
    #[error("the job cannot begin anew: {0}")]
    Fresh(Failure),
    /// The faults that the environment or the options ask for cannot be armed.
    #[cfg(feature = "fault-injection")]
    #[error(transparent)]
    Faults(#[from] drill::DrillError),
    /// The operating system gave no thread.
    #[error("no thread for the job: {0}")]
    Threads(String),
}

fn list(errors: &[OptionError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The guide, so that its examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/slow-checkpoints.md")]
mod guide {}

impl Graph {
    /// Starts the job: on threads of its own, or where [`Options::arbiters`] says. It resumes from the newest checkpoint in its store, if there is one.
    /// Opening the store blocks the caller, for up to a second if another process just let go of it.
    ///
    /// # Errors
    /// When the options contradict each other or the graph, or the store cannot be opened: it is in use, damaged, or another job's.
    pub fn start(&self, options: &Options) -> Result<JobHandle, StartError> {
        self.check_options(options)?;
        warn_of_abort();
        #[cfg(feature = "fault-injection")]
        let judge = drill::attach(options.faults.as_ref(), &self.plan())?;
        let store = self.open_store(options)?;
        let local = local_copies(self, options, store.hash_seed())?;
        let monitor = Arc::new(Monitor::of(&self.plan(), options.records, store.remembered()));
        let feed = Feed { monitor: Arc::clone(&monitor), also: options.listener.clone() };
        let setup = supervisor_setup(self, options, Arc::new(store), local, Arc::new(feed));
        let overview = Arc::clone(&setup.overview);
        let arbiters = options.placement();
        self.warn_of_fewer_workers(arbiters.workers());
        let told = Arc::clone(&monitor);
        let on_end = Box::new(move || told.ended());
        #[cfg(feature = "fault-injection")]
        let running = run::start_with_faults(setup, &arbiters, judge, on_end);
        #[cfg(not(feature = "fault-injection"))]
        let running = run::start(setup, &arbiters, on_end);
        let running = running.map_err(|error| StartError::Threads(error.to_string()))?;
        Ok(JobHandle { running, monitor, overview })
    }

    /// Everything that is wrong with the options, alone and together with the graph.
    fn check_options(&self, options: &Options) -> Result<(), StartError> {
        let mut errors = options.check().err().unwrap_or_default();
        if options.interval.is_none()
            && let (Some(source), Some(sink)) = (self.unbounded_sources().first(), self.exactly_once_sinks().first())
        {
            errors.push(OptionError::NeverCommits { sink: sink.to_string(), source_uid: source.to_string() });
        }
        let basis = options.checkpoint_basis();
        let sinks = self.sinks_behind_unaligned(basis).into_iter();
        errors.extend(sinks.map(|sink| OptionError::CountsTwice { sink: sink.to_string() }));
        errors.extend(self.unmet_guarantees(basis).into_iter().map(OptionError::GuaranteeNotHeld));
        if errors.is_empty() { Ok(()) } else { Err(StartError::Options(errors)) }
    }

    /// Workers that were asked for and are not there are counted from the first one again: a job has to run on smaller machines, too.
    fn warn_of_fewer_workers(&self, workers: usize) {
        for node in &self.plan().nodes {
            if let Some(first) = node.first_worker.map(|first| first as usize).filter(|first| *first >= workers) {
                let instead = first % workers.max(1);
                tracing::warn!(
                    chain = node.name,
                    "first_worker({first}) is asked for and there are {workers} workers: it begins at worker {instead}"
                );
            }
        }
    }

    fn open_store(&self, options: &Options) -> Result<Store, StartError> {
        let store_options = store_options(self, options, random_seed());
        let store = match &options.store {
            Some(directory) => open_patiently(options, directory, &store_options)?,
            None => Store::new(Arc::new(MemoryStorage::new()), None, store_options)?,
        };
        if options.fresh {
            self.begin_anew(options, &store, random_seed())?;
        }
        Ok(store)
    }

    /// Removes every checkpoint, if no sink finds output of this job.
    fn begin_anew(&self, options: &Options, store: &Store, salt: u64) -> Result<(), StartError> {
        let fence = FenceSource::new().advance();
        self.ask_sinks(options, store, &fence, salt)?;
        Ok(store.discard_all(&fence, WallTime(0))?)
    }

    /// Asks every sink whether the job may begin anew, before anything is deleted: one that finds output of this job refuses.
    fn ask_sinks(&self, options: &Options, store: &Store, fence: &Fence, salt: u64) -> Result<(), StartError> {
        let plan = self.plan();
        for sink in &plan.sinks {
            let scope = SinkScope {
                job: Arc::clone(&plan.job),
                store: format!("{:016x}", store.hash_seed()),
                uid: sink.uid.clone(),
                // No run: a number that no other start has, since sinks make names of it.
                run: RunNumber(salt),
                restored: None,
                files: Arc::clone(&options.files),
                fence: fence.clone(),
            };
            (sink.committer)(scope).and_then(|mut committer| committer.open(&[])).map_err(StartError::Fresh)?;
        }
        Ok(())
    }
}

/// Opens a store, and waits a little for its lock: a process that was killed a moment ago lets go of it only when its last system call has returned.
fn open_patiently(options: &Options, directory: &Path, store_options: &StoreOptions) -> Result<Store, StoreError> {
    let mut tries = LOCK_TRIES;
    loop {
        tries -= 1;
        match Store::open_directory(Arc::clone(&options.files), directory, store_options.clone()) {
            Err(StoreError::Locked { .. }) if tries > 0 => std::thread::sleep(LOCK_PAUSE),
            opened => return opened,
        }
    }
}

fn store_options(graph: &Graph, options: &Options, new_hash_seed: u64) -> StoreOptions {
    StoreOptions {
        inline_limit: options.inline_limit,
        fall_back_to_older: options.fall_back_to_older,
        accept_repeats: options.accept_repeats,
        chains: options.chains(),
        ..StoreOptions::new(graph.name(), new_hash_seed)
    }
}

/// Where blobs are copied to, if they are. The directory has the job's name and what tells its store from all others: two jobs never share one.
fn local_copies(graph: &Graph, options: &Options, hash_seed: u64) -> Result<Option<Arc<dyn LocalCopies>>, StartError> {
    let Some(LocalRecovery { memory, directories }) = &options.local_recovery else { return Ok(None) };
    let name = format!("{}-{hash_seed:016x}", name_part(graph.name()));
    let copies = LocalStorage::open(Arc::clone(&options.files), *memory, directories, &name);
    Ok(Some(Arc::new(copies.map_err(StartError::LocalRecovery)?)))
}

/// What a simulated process needs to run a graph: everything lies behind the doors of the options.
///
/// # Errors
/// As [`Graph::start`].
pub(crate) fn simulated_setup(
    graph: &Graph,
    options: &Options,
    catalogue: Option<Arc<dyn Catalogue>>,
    new_hash_seed: u64,
    listener: Arc<dyn Listener>,
) -> Result<SupervisorSetup, StartError> {
    graph.check_options(options)?;
    #[cfg(feature = "fault-injection")]
    drill::refuse(options.faults.as_ref())?;
    let storage: Arc<dyn CheckpointStorage> = match &options.store {
        Some(directory) => Arc::new(FileStorage::open(Arc::clone(&options.files), directory)?),
        None => Arc::new(MemoryStorage::new()),
    };
    let store = Store::new(storage, catalogue, store_options(graph, options, new_hash_seed))?;
    if options.fresh {
        graph.begin_anew(options, &store, new_hash_seed)?;
    }
    let local = local_copies(graph, options, store.hash_seed())?;
    Ok(supervisor_setup(graph, options, Arc::new(store), local, listener))
}

/// What the kernel needs to run a graph.
fn supervisor_setup(
    graph: &Graph,
    options: &Options,
    store: Arc<dyn CheckpointStore>,
    local: Option<Arc<dyn LocalCopies>>,
    listener: Arc<dyn Listener>,
) -> SupervisorSetup {
    let for_reading = Arc::clone(&store);
    SupervisorSetup {
        plan: graph.plan(),
        settings: options.settings(),
        checkpoint_mode: options.mode,
        buffer_timeout: options.buffer_timeout,
        restart: options.restart_strategy(),
        failover: options.failover,
        retention: options.externalized.unwrap_or_default(),
        store,
        local,
        files: Arc::clone(&options.files),
        listener,
        read_prepared: Arc::new(move |snapshot| read_prepared(&for_reading, snapshot)),
        check_fit: Arc::new(fit::check_fit),
        cancellation_timeout: options.cancellation_timeout,
        overview: Arc::new(Overview::of(graph.plan())),
    }
}

/// The transactions that a sink's snapshot holds.
fn read_prepared(
    store: &Arc<dyn CheckpointStore>,
    snapshot: &OperatorSnapshot,
) -> Result<Vec<PreparedCheckpoint>, Failure> {
    let Some(piece) = snapshot.piece(COMMITTABLES) else { return Ok(Vec::new()) };
    let bytes = PieceReader::new(Arc::clone(store), &piece.content).read_all().map_err(|error| {
        let severity = if error.is_retryable() { Severity::Retryable } else { Severity::Unrecoverable };
        Failure { severity, ..Failure::retryable(snapshot.uid.as_str(), error) }
    })?;
    rmp_serde::from_slice(&bytes).map_err(|error| {
        let message = format!("the prepared transactions in the checkpoint cannot be read: {error}");
        Failure::unrecoverable(snapshot.uid.as_str(), message)
    })
}

/// A random number for a new store's key hash.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// A panic of user code becomes a failure and a restart, unless the program was built to abort (rule 22).
fn warn_of_abort() {
    if cfg!(panic = "abort") {
        tracing::warn!(
            "this program was built with panic = \"abort\": a panic in user code ends the process instead of restarting the job"
        );
    }
}
