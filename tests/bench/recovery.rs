//! W5: how long it takes after a failure until every keyed subtask emits again with all of its state, and until the job is back where it was.
//!
//! The job reads a log that grows at half of its full speed. What fails is the keyed operator, or, with `--process`, the whole process: by a SIGKILL. A process is this
//! benchmark itself, started with hidden options; each one is the victim of the next failure.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use alluvium::{Job, JobEvent, JobHandle, Listener, LocalRecovery, Options, RestartStrategy};
use serde::{Deserialize, Serialize};

use crate::arrivals::{Arrivals, Growth, clock};
use crate::positions::{Noting, Positions};
use crate::progress::Progress;
use crate::record::split_mix;

/// A failure follows a completed checkpoint by so long.
const BEHIND_A_CHECKPOINT: Duration = Duration::from_millis(500);

/// After this time something is wrong with the benchmark.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often it is looked whether something has happened; the moments themselves are noted where they happen.
const LOOK: Duration = Duration::from_millis(1);

/// Which keys change from a checkpoint to the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// One in a hundred.
    OnePercent,
    /// Every one that there are records for: they come in turn.
    All,
}

/// Where local copies are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    Off,
    Memory,
    Files,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub keys: u64,
    pub parallelism: u32,
    pub changed: Changed,
    pub interval: Duration,
    pub local: Local,
    /// How long the full speed is measured.
    pub seconds: Duration,
    pub failures: u64,
    pub workers: Option<usize>,
}

/// What was measured.
#[derive(Default)]
pub struct Measured {
    pub fill_seconds: f64,
    /// Half of the full speed.
    pub records_per_second: f64,
    pub first_ms: Vec<f64>,
    pub position_ms: Vec<f64>,
    pub checkpoint_ms: Vec<f64>,
    pub checkpoint_bytes: u64,
}

impl Measured {
    fn failure(&mut self, failed: u64, (first, back): (u64, u64)) {
        self.first_ms.push((first - failed) as f64 / 1e6);
        self.position_ms.push((back - failed) as f64 / 1e6);
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Record {
    key: u64,
    value: u64,
    index: u64,
}

impl Setup {
    /// Every key once, in order; then those that change.
    fn record(self, index: u64) -> Record {
        let random = split_mix(index);
        let key = match self.changed {
            _ if index < self.keys => index,
            Changed::OnePercent => (random >> 1) % (self.keys / 100).max(1),
            Changed::All => index % self.keys,
        };
        Record { key, value: random >> 48, index }
    }
}

/// When the keyed operator is to fail, and when it did.
#[derive(Default)]
struct Failing {
    due: AtomicBool,
    at: AtomicU64,
}

/// What the keyed operator panics with.
struct Thrown;

impl Failing {
    #[inline(always)]
    fn may_throw(&self) {
        if self.due.load(Ordering::Relaxed) && self.due.swap(false, Ordering::AcqRel) {
            self.at.store(clock(), Ordering::Release);
            std::panic::panic_any(Thrown);
        }
    }
}

/// The checkpoints that were completed: milliseconds and bytes.
#[derive(Default)]
struct Completed(Mutex<Vec<(f64, u64)>>);

impl Completed {
    fn all(&self) -> MutexGuard<'_, Vec<(f64, u64)>> {
        self.0.lock().expect("a listener panicked")
    }
}

impl Listener for Completed {
    fn event(&self, event: JobEvent) {
        if let JobEvent::Completed { duration, bytes, .. } = event {
            self.all().push((duration.as_secs_f64() * 1e3, bytes));
        }
    }
}

/// A job in this process.
struct Run {
    handle: JobHandle,
    growth: Arc<Growth>,
    positions: Arc<Positions>,
    failing: Arc<Failing>,
    completed: Arc<Completed>,
}

impl Run {
    fn start(setup: Setup, directory: &Path, growth: Arc<Growth>, positions: Arc<Positions>) -> Run {
        let (failing, completed) = (Arc::<Failing>::default(), Arc::<Completed>::default());
        let throws = Arc::clone(&failing);
        let job = Job::new("w5").parallelism(setup.parallelism);
        job.source("records", Arrivals { growth: Arc::clone(&growth), produce: move |index| setup.record(index) })
            .key_by(|record| &record.key)
            .aggregate("sum", 0_u64, move |key, sum, record| {
                throws.may_throw();
                *sum = sum.wrapping_add(record.value);
                (*key, *sum, record.index)
            })
            .sink("positions", Noting(Arc::clone(&positions)));
        let mut options = Options::default()
            .store(directory.join("store"))
            .checkpoint_every(setup.interval)
            .restart(RestartStrategy::FixedDelay { attempts: u32::MAX, delay: Duration::ZERO })
            .listener(Arc::clone(&completed) as Arc<dyn Listener>);
        if let Some(workers) = setup.workers {
            options = options.workers(workers);
        }
        let local = LocalRecovery::default();
        options = match setup.local {
            Local::Off => options,
            Local::Memory => options.local_recovery(local.memory_limit(u64::MAX)),
            Local::Files => options.local_recovery(local.memory_limit(0).directory(directory.join("local"))),
        };
        let handle = job.build().expect("a right job").start(&options).expect("the job starts");
        Run { handle, growth, positions, failing, completed }
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "no {what} comes: {:?}", self.handle.status());
            std::thread::sleep(LOOK);
        }
    }

    /// Lets every key come, measures the full speed, and lets the log grow at half of it. Answers how long the keys took, and the rate.
    fn fill(&self, setup: Setup) -> (f64, u64) {
        let began = Instant::now();
        self.wait("end of the fill", || (self.positions.records() >= setup.keys).then_some(()));
        let filled = began.elapsed().as_secs_f64();
        let (first, from) = (self.positions.records(), Instant::now());
        std::thread::sleep(setup.seconds);
        let rate = (self.positions.records() - first) as f64 / from.elapsed().as_secs_f64() / 2.0;
        self.growth.begin(rate as u64, clock(), self.positions.highest());
        (filled, rate as u64)
    }

    /// Waits for the moment of a failure.
    fn ripen(&self) {
        // One that was begun while the log grew, and then some time.
        let known = self.completed.all().len();
        self.wait("checkpoint", || (self.completed.all().len() >= known + 2).then_some(()));
        std::thread::sleep(BEHIND_A_CHECKPOINT);
    }

    /// When everybody had emitted after a failure, and was back where it was.
    fn recovered(&self, failed: u64) -> (u64, u64) {
        self.wait("recovery", || self.positions.recovered().filter(|(first, back)| *first > failed && *back > failed))
    }
}

/// A failure of the keyed operator, so often as is asked for, in one process.
pub fn of_a_task(setup: Setup, progress: &Progress) -> Measured {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<Thrown>() {
            usual(panic);
        }
    }));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = Run::start(setup, directory.path(), Arc::default(), Positions::new(setup.parallelism));
    let (fill_seconds, rate) = progress.step("fill, full speed", || run.fill(setup));
    let mut measured = Measured { fill_seconds, records_per_second: rate as f64, ..Measured::default() };
    for number in 1..=setup.failures {
        progress.step(format!("failure {number}"), || {
            run.ripen();
            run.failing.due.store(true, Ordering::Release);
            let failed = run.wait("failure", || Some(run.failing.at.swap(0, Ordering::AcqRel)).filter(|at| *at > 0));
            measured.failure(failed, run.recovered(failed));
        });
    }
    run.handle.cancel();
    run.handle.wait_blocking().expect("the job ends");
    for (ms, bytes) in &*run.completed.all() {
        measured.checkpoint_ms.push(*ms);
        measured.checkpoint_bytes = measured.checkpoint_bytes.max(*bytes);
    }
    measured
}

/// What a process says, one JSON text a line.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// Every key is there; the log grows from here on.
    Filled { seconds: f64, growth: (u64, u64, u64) },
    /// It is back after the end of the process before.
    Recovered { first: u64, back: u64 },
    /// It may be killed now; it is here, and these checkpoints were completed.
    Ripe { positions: Vec<u64>, checkpoints: Vec<(f64, u64)> },
}

/// What a process goes on from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Former {
    growth: (u64, u64, u64),
    positions: Vec<u64>,
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn spawn(arguments: &[String], directory: &Path, former: Option<&Former>) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(arguments).arg("--w5-child").arg(directory);
        if let Some(former) = former {
            command.arg("--w5-former").arg(serde_json::to_string(former).expect("it is plain data"));
        }
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the process starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Process { child, lines }
    }

    fn hear(&mut self) -> Said {
        let line = self.lines.next().expect("the process ended by itself").expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Answers when.
    fn kill(&mut self) -> u64 {
        let killed = clock();
        self.child.kill().expect("it lives");
        self.child.wait().expect("it is ours");
        killed
    }
}

/// A SIGKILL of the whole process, so often as is asked for. `arguments` make this program run the same workload.
pub fn of_a_process(setup: Setup, arguments: &[String], progress: &Progress) -> Measured {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::spawn(arguments, directory.path(), None);
    let mut measured = Measured::default();
    let mut growth = (0, 0, 0);
    progress.step("fill, full speed", || {
        let Said::Filled { seconds, growth: begun } = process.hear() else { panic!("it is not filled") };
        growth = begun;
        measured.fill_seconds = seconds;
        measured.records_per_second = growth.0 as f64;
    });
    for number in 1..=setup.failures {
        progress.step(format!("process {number}"), || {
            let Said::Ripe { positions, checkpoints } = process.hear() else { panic!("it is not ripe") };
            let former = Former { growth, positions };
            for (ms, bytes) in checkpoints {
                measured.checkpoint_ms.push(ms);
                measured.checkpoint_bytes = measured.checkpoint_bytes.max(bytes);
            }
            let killed = process.kill();
            process = Process::spawn(arguments, directory.path(), Some(&former));
            let Said::Recovered { first, back } = process.hear() else { panic!("it has not recovered") };
            measured.failure(killed, (first, back));
        });
    }
    process.kill();
    measured
}

/// The body of a process.
pub fn child(setup: Setup, directory: &Path, former: Option<Former>) -> ! {
    let say = |said: Said| {
        let mut out = std::io::stdout();
        let text = serde_json::to_string(&said).expect("it is plain data");
        // Whoever does not listen any more has killed this process.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    };
    let (growth, positions) = (Arc::<Growth>::default(), Positions::new(setup.parallelism));
    if let Some(Former { growth: (rate, since, from), positions: came_from }) = &former {
        growth.begin(*rate, *since, *from);
        positions.came_from(came_from);
    }
    let run = Run::start(setup, directory, growth, positions);
    if former.is_some() {
        let (first, back) = run.recovered(0);
        say(Said::Recovered { first, back });
    } else {
        let (seconds, _) = run.fill(setup);
        say(Said::Filled { seconds, growth: run.growth.as_begun() });
    }
    run.ripen();
    say(Said::Ripe { positions: run.positions.now(), checkpoints: run.completed.all().clone() });
    loop {
        std::thread::park();
    }
}

/// Reads what [`Former`] was written as.
pub fn former(text: &str) -> Result<Former, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
