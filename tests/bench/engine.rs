//! One run of a workload on the engine: fill, steady phase, figures.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium::CheckpointId;
use alluvium::connect::Generator;
use alluvium::{Graph, Job, JobHandle, Options};
use alluvium::{JobEvent, Listener};

use crate::changing::Changing;
use crate::measure::{cpu_nanoseconds, percentile};
use crate::record::{Record, W0, W1};
use crate::resident::Resident;
use crate::sink::{Counting, Seen};
use crate::stored::{Manifests, Stored};

/// How long the sink of W4 is busy with a record.
const SLOW_RECORD: Duration = Duration::from_millis(1);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    W0(W0),
    W1(W1),
    /// The sums of W1 behind an exchange in front of a sink that takes a millisecond for a record.
    W4(W1),
    /// W1 where only a part of the keys changes from one checkpoint to the next.
    Changing(Changing),
}

/// When barriers overtake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignmentKind {
    /// Never.
    Aligned,
    /// After this time: zero for at once.
    Unaligned(Duration),
}

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub parallelism: u32,
    pub interval: Option<Duration>,
    pub seconds: Duration,
    /// Other than the default: for figures of a second column.
    pub credits: Option<u32>,
    pub workers: Option<usize>,
    pub alignment: AlignmentKind,
    pub incremental: bool,
    /// At most so many records per second; as many as the job takes if not given.
    pub rate: Option<u64>,
}

/// What one run showed.
pub struct EngineRun {
    pub records_per_second: f64,
    pub fill_seconds: f64,
    pub growth_ms_max: f64,
    pub checkpoint_ms: Vec<f64>,
    pub checkpoint_bytes: u64,
    pub cpu_ns_per_record: f64,
    /// Of the completed checkpoints of the steady phase.
    pub stored: Vec<Stored>,
    /// The windows from trigger to completion, in nanoseconds of the sink's clock.
    windows: Vec<(u64, u64)>,
    steady: (u64, u64),
    gaps: Vec<(u32, u64, u64)>,
    resident: Vec<(u64, u64)>,
}

impl EngineRun {
    /// From trigger to completion of each checkpoint, in nanoseconds since the start.
    pub fn windows(&self) -> &[(u64, u64)] {
        &self.windows
    }

    /// Begin and end of the steady phase, in nanoseconds since the start.
    pub fn steady(&self) -> (u64, u64) {
        self.steady
    }

    /// What the resident set was at several moments of the steady phase: of those while a checkpoint was under way, or of the others.
    pub fn resident_bytes(&self, during_checkpoints: bool) -> impl Iterator<Item = u64> {
        let steady = self.resident.iter().filter(|(moment, _)| (self.steady.0..self.steady.1).contains(moment));
        let under_way = |moment| self.windows.iter().any(|window| (window.0..window.1).contains(moment));
        steady.filter(move |(moment, _)| under_way(moment) == during_checkpoints).map(|(_, bytes)| *bytes)
    }

    /// The longest gap within each checkpoint, in milliseconds.
    pub fn stalls_ms(&self) -> Vec<f64> {
        self.windows.iter().map(|window| self.longest_gap(*window)).collect()
    }

    /// The longest gap within each window of this length, in milliseconds.
    pub fn stalls_in_windows_of(&self, length: Duration) -> Vec<f64> {
        let length = (length.as_nanos() as u64).max(1_000_000);
        let (mut begin, end) = self.steady;
        let mut stalls = Vec::new();
        while begin + length <= end {
            stalls.push(self.longest_gap((begin, begin + length)));
            begin += length;
        }
        stalls
    }

    fn longest_gap(&self, (begin, end): (u64, u64)) -> f64 {
        let overlap = |gap: &(u32, u64, u64)| gap.2.min(end).saturating_sub(gap.1.max(begin));
        self.gaps.iter().map(overlap).max().unwrap_or(0) as f64 / 1e6
    }
}

/// Hears of checkpoints at the moment at which they happen.
struct Windows {
    seen: Arc<Seen>,
    triggered: Mutex<Vec<(CheckpointId, u64)>>,
    completed: Mutex<Vec<(CheckpointId, (u64, u64), Duration, u64)>>,
    manifests: Mutex<Option<Sender<CheckpointId>>>,
}

impl Listener for Windows {
    fn event(&self, event: JobEvent) {
        match event {
            JobEvent::Triggered { checkpoint, .. } => {
                self.triggered.lock().expect("a listener panicked").push((checkpoint, self.seen.now()));
            }
            JobEvent::Completed { checkpoint, duration, bytes, .. } => {
                let triggered = self.triggered.lock().expect("a listener panicked");
                if let Some((_, begin)) = triggered.iter().find(|(id, _)| *id == checkpoint) {
                    let window = (checkpoint, (*begin, self.seen.now()), duration, bytes);
                    if let Some(manifests) = &*self.manifests.lock().expect("a listener panicked") {
                        let _ = manifests.send(checkpoint);
                    }
                    self.completed.lock().expect("a listener panicked").push(window);
                }
            }
            _ => {}
        }
    }
}

/// The job of a workload, with its records counted in `seen`.
pub fn graph(work: Work, parallelism: u32, credits: Option<u32>, seen: &Arc<Seen>) -> Graph {
    graph_at(work, parallelism, credits, None, seen)
}

/// The same with at most so many records per second.
fn graph_at(work: Work, parallelism: u32, credits: Option<u32>, rate: Option<u64>, seen: &Arc<Seen>) -> Graph {
    let seen = Arc::clone(seen);
    let job = match work {
        Work::W0(work) => {
            let job = with_credits(Job::new("w0").parallelism(parallelism), credits);
            job.source("records", Generator::unbounded(move |index| work.record(index)).splits(parallelism))
                .sink("count", Counting { seen, number: |record: &crate::record::Record| record.value });
            job
        }
        Work::W4(work) => {
            let job = with_credits(Job::new("w4").parallelism(parallelism), credits);
            let slow = |emitted: &(u64, u64)| {
                let began = Instant::now();
                while began.elapsed() < SLOW_RECORD {
                    std::hint::spin_loop();
                }
                emitted.1
            };
            job.source("records", Generator::unbounded(move |index| work.record(index)).splits(parallelism))
                .key_by(|record| &record.key)
                .aggregate("sum", 0_u64, |key, sum, record| {
                    *sum = sum.wrapping_add(record.value);
                    (*key, *sum)
                })
                .rebalance()
                .sink("slow", Counting { seen, number: slow });
            job
        }
        Work::W1(work) => running_sums("w1", move |index| work.record(index), parallelism, credits, rate, seen),
        Work::Changing(work) => running_sums("w6", move |index| work.record(index), parallelism, credits, rate, seen),
    };
    job.build().expect("a right job")
}

/// A running sum per key; every record is emitted as key and sum.
fn running_sums(
    name: &str,
    record: impl Fn(u64) -> Record + Clone + Send + Sync + 'static,
    parallelism: u32,
    credits: Option<u32>,
    rate: Option<u64>,
    seen: Arc<Seen>,
) -> Job {
    let job = with_credits(Job::new(name).parallelism(parallelism), credits);
    let mut records = Generator::unbounded(record).splits(parallelism);
    if let Some(rate) = rate {
        records = records.rate(rate);
    }
    job.source("records", records)
        .key_by(|record| &record.key)
        .aggregate("sum", 0_u64, |key, sum, record| {
            *sum = sum.wrapping_add(record.value);
            (*key, *sum)
        })
        .sink("count", Counting { seen, number: |emitted: &(u64, u64)| emitted.1 });
    job
}

fn with_credits(job: Job, credits: Option<u32>) -> Job {
    match credits {
        Some(credits) => job.credits(credits),
        None => job,
    }
}

fn start(work: Work, setup: Setup, store: &Path, seen: &Arc<Seen>, windows: &Arc<Windows>) -> JobHandle {
    let options = Options::default().store(store).incremental(setup.incremental);
    let mut options = options.listener(Arc::clone(windows) as Arc<dyn Listener>);
    if let Some(interval) = setup.interval {
        options = options.checkpoint_every(interval);
    }
    if let AlignmentKind::Unaligned(after) = setup.alignment {
        options = options.unaligned().aligned_checkpoint_timeout(after);
    }
    if let Some(workers) = setup.workers {
        options = options.workers(workers);
    }
    graph_at(work, setup.parallelism, setup.credits, setup.rate, seen).start(&options).expect("the job starts")
}

/// Runs a workload once.
pub fn run(work: Work, setup: Setup) -> EngineRun {
    let store = tempfile::tempdir().expect("a temporary directory");
    let fill = match work {
        Work::W0(_) | Work::W4(_) => 1,
        Work::W1(work) => work.keys,
        Work::Changing(work) => work.keys(),
    };
    let seen = Seen::new(fill);
    let (manifests, completed) = Manifests::watch(store.path());
    let windows = Arc::new(Windows {
        seen: Arc::clone(&seen),
        triggered: Mutex::default(),
        completed: Mutex::default(),
        manifests: Mutex::new(Some(completed)),
    });
    let resident = Resident::watch(&seen);
    let handle = start(work, setup, store.path(), &seen, &windows);
    let began = Instant::now();
    while seen.reached.load(Ordering::Acquire) == 0 {
        assert!(began.elapsed() < Duration::from_secs(300), "the fill does not end: {:?}", handle.status());
        // Not a wait for an event: the loop shall cost the engine nothing, and the moment of the end is noted by the sink.
        std::thread::sleep(Duration::from_millis(5));
    }
    let fill_end = seen.reached.load(Ordering::Acquire);
    let (first, cpu_first, from) = (seen.records(), cpu_nanoseconds(), Instant::now());
    let steady_begin = seen.now();
    // The span that is measured.
    std::thread::sleep(setup.seconds);
    let (last, cpu_last, elapsed) = (seen.records(), cpu_nanoseconds(), from.elapsed());
    let steady_end = seen.now();
    handle.cancel();
    handle.wait_blocking().expect("the job ends");
    std::hint::black_box(seen.sum());

    let gaps = std::mem::take(&mut *seen.gaps.lock().expect("a writer panicked"));
    let fill_gaps: Vec<f64> =
        gaps.iter().filter(|gap| gap.2 <= fill_end).map(|gap| (gap.2 - gap.1) as f64 / 1e6).collect();
    windows.manifests.lock().expect("a listener panicked").take();
    let completed = windows.completed.lock().expect("a listener panicked");
    let in_time = |end: u64| (steady_begin..=steady_end).contains(&end);
    let steady: Vec<_> = completed.iter().filter(|(_, window, ..)| in_time(window.1)).collect();
    let stored = manifests.end().into_iter().filter(|stored| steady.iter().any(|(id, ..)| *id == stored.checkpoint));
    let records = (last - first) as f64;
    EngineRun {
        records_per_second: records / elapsed.as_secs_f64(),
        fill_seconds: fill_end as f64 / 1e9,
        growth_ms_max: percentile(&fill_gaps, 100.0),
        checkpoint_ms: steady.iter().map(|checkpoint| checkpoint.2.as_secs_f64() * 1e3).collect(),
        checkpoint_bytes: steady.iter().map(|checkpoint| checkpoint.3).max().unwrap_or(0),
        cpu_ns_per_record: (cpu_last - cpu_first) / records,
        stored: stored.collect(),
        windows: steady.iter().map(|checkpoint| checkpoint.1).collect(),
        steady: (steady_begin, steady_end),
        gaps,
        resident: resident.end(),
    }
}
