//! The resident set while the job runs: how much more it is while a snapshot is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::EngineRun;
use crate::measure::{median, percentile, resident_bytes};
use crate::report::{Line, round};
use crate::sink::Seen;

/// The time between two looks.
const LOOKS: Duration = Duration::from_millis(10);

/// Looks at the resident set of this process again and again, on a thread of its own.
pub struct Resident {
    ended: Arc<AtomicBool>,
    looks: JoinHandle<Vec<(u64, u64)>>,
}

impl Resident {
    /// Begins. Moments are those of the clock of `seen`.
    pub fn watch(seen: &Arc<Seen>) -> Resident {
        let (seen, ended) = (Arc::clone(seen), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&ended);
        let looks = move || {
            let mut looks = Vec::new();
            while !until.load(Ordering::Relaxed) {
                looks.push((seen.now(), resident_bytes()));
                // Samples at a distance, not a wait for anything.
                std::thread::sleep(LOOKS);
            }
            looks
        };
        let looks = std::thread::Builder::new().name("resident".to_owned()).spawn(looks).expect("a thread");
        Resident { ended, looks }
    }

    /// Each moment in nanoseconds with the bytes at that moment.
    pub fn end(self) -> Vec<(u64, u64)> {
        self.ended.store(true, Ordering::Relaxed);
        self.looks.join().expect("nothing panics there")
    }
}

/// `steady_rss_bytes`: the median while no checkpoint is under way. `snapshot_rss_bytes`: the largest from a trigger to its completion. `snapshot_rss_ratio`: the
/// second to the first; null if one of them was not seen.
pub fn add(line: &mut Line, runs: &[EngineRun]) {
    let all = |during: bool| -> Vec<f64> {
        runs.iter().flat_map(|run| run.resident_bytes(during)).map(|bytes| bytes as f64).collect()
    };
    let (outside, within) = (all(false), all(true));
    let (steady, peak) = (median(&outside), percentile(&within, 100.0));
    let value = |there: bool, value: Value| if there { value } else { Value::Null };
    line.set("steady_rss_bytes", value(!outside.is_empty(), json!(steady as u64)));
    line.set("snapshot_rss_bytes", value(!within.is_empty(), json!(peak as u64)));
    line.set("snapshot_rss_ratio", value(!outside.is_empty() && !within.is_empty(), round(peak / steady)));
}
