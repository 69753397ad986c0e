//! W6 at a part of full speed, with a part of the keys changing from one checkpoint to the next: do checkpoints keep their schedule, are they felt, what do they write?

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::engine::EngineRun;
use crate::measure::{median, percentile};
use crate::record::{Record, split_mix};
use crate::report::{Line, round};

/// So much earlier than its moment a trigger may seem to be: moments are told from the triggers themselves.
const EARLY: u64 = 500_000;

/// The settings of W6 beside its interval.
#[derive(Args, Clone, Copy, Debug)]
pub struct Variant {
    /// Lets this part of the keys of W6 change, such as 1%, and the others not. If not given: all of them; at intervals below 100ms 1%.
    #[arg(long, value_parser = share)]
    changing: Option<f64>,
    /// Lets other keys change from each checkpoint to the next one, as many as `--changing` says, so that after a while all have changed.
    #[arg(long)]
    moving: bool,
    /// Paces the source of W6 to this part of the full speed, which is measured before. If not given: 100%; at intervals below 100ms 50%.
    #[arg(long, value_parser = share)]
    load: Option<f64>,
    /// Takes incremental checkpoints in W1 and W6. W6 does so without being told at intervals below 100ms.
    #[arg(long)]
    pub incremental: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').ok_or("give a part in percent, such as 1%")?;
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        Ok(_) | Err(_) => Err("give more than 0% and at most 100%".to_owned()),
    }
}

/// How a line of W6 runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The part of the keys that changes from one checkpoint to the next.
    pub changing: f64,
    /// Whether it is another part each time.
    pub moving: bool,
    /// The part of full speed.
    pub load: f64,
    pub incremental: bool,
}

impl Variant {
    /// What this interval's line is to be, if not W1 at full speed.
    pub fn plan(self, interval: Duration) -> Option<Plan> {
        let often = interval < Duration::from_millis(100);
        if !often && self.changing.is_none() && self.load.is_none() {
            return None;
        }
        let unless = |given: Option<f64>, often_as: f64| given.unwrap_or(if often { often_as } else { 1.0 });
        Some(Plan {
            changing: unless(self.changing, 0.01),
            moving: self.moving,
            load: unless(self.load, 0.5),
            incremental: self.incremental || often,
        })
    }
}

/// W1 where only a part of the keys changes, after all were inserted.
#[derive(Clone, Copy, Debug)]
pub struct Changing {
    keys: u64,
    /// A record has one of so many neighbouring keys (their hashes are no neighbours).
    window: u64,
    /// By how much the window moves with each record, times 2^32.
    step: u64,
}

impl Changing {
    /// The plan's part of the keys changes while so many records come. Where it is another part each time, the window is half as wide and moves on by its own width
    /// meanwhile.
    pub fn new(keys: u64, plan: Plan, records: u64) -> Changing {
        let changing = keys as f64 * plan.changing;
        let window = ((if plan.moving { changing / 2.0 } else { changing }).round() as u64).max(1);
        let step = (u128::from(window) << 32) / u128::from(records.max(1));
        Changing { keys, window, step: if plan.moving { step.max(1) as u64 } else { 0 } }
    }

    pub fn keys(self) -> u64 {
        self.keys
    }

    /// The record of this index: at first every key once, in order.
    #[inline(always)]
    pub fn record(self, index: u64) -> Record {
        let random = split_mix(index);
        let value = random >> 48;
        if index < self.keys {
            return Record { key: index, value };
        }
        let moved = ((u128::from(index - self.keys) * u128::from(self.step)) >> 32) as u64;
        let within = ((random & u64::from(u32::MAX)) * self.window) >> 32;
        Record { key: (moved + within) % self.keys, value }
    }
}

/// The share of the moments of the schedule whose checkpoint was complete before the next moment.
pub fn on_schedule(run: &EngineRun, interval: Duration) -> f64 {
    let interval = interval.as_nanos() as u64;
    let triggers: Vec<u64> = run.windows().iter().map(|window| window.0).collect();
    let Some(first) = triggers.first() else { return 0.0 };
    // The schedule is a grid of moments, and a trigger comes at its moment or a little later: the moments are where the earliest triggers are. An outlier among them would make
    // all others late, so it is one of the early ones and not the first.
    let half = interval as i64 / 2;
    let beside = |trigger: &u64, of: u64| (*trigger as i64 - of as i64 + half).rem_euclid(interval as i64) - half;
    let typical = {
        let aside: Vec<f64> = triggers.iter().map(|trigger| beside(trigger, *first) as f64).collect();
        *first as i64 + median(&aside) as i64
    };
    let aside: Vec<f64> = triggers.iter().map(|trigger| beside(trigger, typical as u64) as f64).collect();
    let phase = (typical + percentile(&aside, 5.0) as i64).rem_euclid(interval as i64) as u64;
    let moment = |time: u64| (time + interval + EARLY - phase) / interval;
    let (begin, end) = run.steady();
    let kept: BTreeSet<u64> = run
        .windows()
        .iter()
        .filter(|window| moment(window.0) == moment(window.1))
        .map(|window| moment(window.0))
        .collect();
    kept.len() as f64 / ((end - begin) as f64 / interval as f64).floor().max(1.0)
}

/// What this workload is about, behind the figures that all lines have. `off` is the same load without checkpoints.
pub fn add(line: &mut Line, plan: Plan, interval: Duration, runs: &[EngineRun], off: &[EngineRun], full_speed: f64) {
    let gaps =
        |runs: &[EngineRun]| -> Vec<f64> { runs.iter().flat_map(|run| run.stalls_in_windows_of(interval)).collect() };
    let (with, without) = (gaps(runs), gaps(off));
    let kept: Vec<f64> = runs.iter().map(|run| on_schedule(run, interval)).collect();
    line.set("changing", round(plan.changing));
    line.set("moving", json!(plan.moving));
    line.set("load", round(plan.load));
    line.set("full_speed_records_per_second", json!(full_speed.round()));
    line.set("incremental", json!(plan.incremental));
    line.set("on_schedule", round(median(&kept)));
    for (name, percent) in [("output_gap_ms_p50", 50.0), ("output_gap_ms_p99", 99.0), ("output_gap_ms_max", 100.0)] {
        line.set(name, round(percentile(&with, percent)));
    }
    line.set("output_gap_off_ms_p99", round(percentile(&without, 99.0)));
}

/// What the checkpoints wrote. Bytes of a full one are null where nothing was read.
pub fn add_written(line: &mut Line, runs: &[EngineRun]) {
    let all = |figure: fn(&crate::stored::Stored) -> u64| -> Vec<f64> {
        runs.iter().flat_map(|run| run.stored.iter().map(figure)).map(|bytes| bytes as f64).collect()
    };
    let (full, written, folded) =
        (all(|stored| stored.full), all(|stored| stored.written), all(|stored| stored.folded));
    let share = |bytes: f64| if full.is_empty() { Value::Null } else { round(bytes / median(&full)) };
    let mean = |bytes: &[f64]| bytes.iter().sum::<f64>() / bytes.len().max(1) as f64;
    line.set("full_bytes", json!(median(&full) as u64));
    line.set("written_bytes_p50", json!(median(&written) as u64));
    line.set("written_bytes_max", json!(percentile(&written, 100.0) as u64));
    line.set("written_to_full", share(median(&written)));
    line.set("folded_bytes_mean", json!(mean(&folded) as u64));
    line.set("folded_to_full", share(mean(&folded)));
}
