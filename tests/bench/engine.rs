//! One run of workload W1 on the engine: fill, steady phase, figures.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium::CheckpointId;
use alluvium::connect::Generator;
use alluvium::{Job, Options};
use alluvium::{JobEvent, Listener};

use crate::measure::{cpu_nanoseconds, percentile};
use crate::record::W1;
use crate::sink::{Counting, Seen};

/// What one run showed.
pub struct EngineRun {
    pub records_per_second: f64,
    pub fill_seconds: f64,
    pub growth_ms_max: f64,
    pub checkpoint_ms: Vec<f64>,
    pub checkpoint_bytes: u64,
    pub cpu_ns_per_record: f64,
    /// The windows from trigger to completion, in nanoseconds of the sink's clock.
    windows: Vec<(u64, u64)>,
    steady: (u64, u64),
    gaps: Vec<(u32, u64, u64)>,
}

impl EngineRun {
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
    completed: Mutex<Vec<(u64, u64, Duration, u64)>>,
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
                    let window = (*begin, self.seen.now(), duration, bytes);
                    self.completed.lock().expect("a listener panicked").push(window);
                }
            }
            _ => {}
        }
    }
}

/// Runs W1 once.
pub fn run(work: W1, parallelism: u32, interval: Option<Duration>, seconds: Duration) -> EngineRun {
    let store = tempfile::tempdir().expect("a temporary directory");
    let seen = Seen::new(work.keys);
    let windows =
        Arc::new(Windows { seen: Arc::clone(&seen), triggered: Mutex::default(), completed: Mutex::default() });
    let job = Job::new("w1").parallelism(parallelism);
    job.source("records", Generator::unbounded(move |index| work.record(index)).splits(parallelism))
        .key_by(|record| &record.key)
        .aggregate("sum", 0_u64, |key, sum, record| {
            *sum = sum.wrapping_add(record.value);
            (*key, *sum)
        })
        .sink("count", Counting { seen: Arc::clone(&seen), number: |emitted: &(u64, u64)| emitted.1 });
    let graph = job.build().expect("a right job");
    let mut options = Options::default().store(store.path()).listener(Arc::clone(&windows) as Arc<dyn Listener>);
    if let Some(interval) = interval {
        options = options.checkpoint_every(interval);
    }
    let handle = graph.start(&options).expect("the job starts");
    let began = Instant::now();
    while seen.reached.load(Ordering::Acquire) == 0 {
        assert!(began.elapsed() < Duration::from_secs(300), "the fill does not end: {:?}", handle.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    let fill_end = seen.reached.load(Ordering::Acquire);
    let (first, cpu_first, from) = (seen.records.load(Ordering::Relaxed), cpu_nanoseconds(), Instant::now());
    let steady_begin = seen.now();
    std::thread::sleep(seconds);
    let (last, cpu_last, elapsed) = (seen.records.load(Ordering::Relaxed), cpu_nanoseconds(), from.elapsed());
    let steady_end = seen.now();
    handle.cancel();
    handle.wait_blocking().expect("the job ends");

    let gaps = std::mem::take(&mut *seen.gaps.lock().expect("a writer panicked"));
    let fill_gaps: Vec<f64> =
        gaps.iter().filter(|gap| gap.2 <= fill_end && gap.1 > 0).map(|gap| (gap.2 - gap.1) as f64 / 1e6).collect();
    let completed = windows.completed.lock().expect("a listener panicked");
    let steady: Vec<_> = completed.iter().filter(|window| window.1 >= steady_begin && window.1 <= steady_end).collect();
    let records = (last - first) as f64;
    EngineRun {
        records_per_second: records / elapsed.as_secs_f64(),
        fill_seconds: fill_end as f64 / 1e9,
        growth_ms_max: percentile(&fill_gaps, 100.0),
        checkpoint_ms: steady.iter().map(|window| window.2.as_secs_f64() * 1e3).collect(),
        checkpoint_bytes: steady.iter().map(|window| window.3).max().unwrap_or(0),
        cpu_ns_per_record: (cpu_last - cpu_first) / records,
        windows: steady.iter().map(|window| (window.0, window.1)).collect(),
        steady: (steady_begin, steady_end),
        gaps,
    }
}
