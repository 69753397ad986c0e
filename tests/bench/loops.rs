//! The limit loops: the same work without an engine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::record::{Record, W0, W1};

/// How many records pass between two looks at the clock.
const STRIDE: u64 = 4096;

/// The batches of the batch loop.
const BATCH: u64 = 1024;

/// What a loop reached in its steady phase.
pub struct Reached {
    pub records_per_second: f64,
}

/// Runs `step` for record after record: first the fill, then as long as `seconds` says.
fn timed(work: W1, seconds: Duration, mut step: impl FnMut(Record)) -> Reached {
    for index in 0..work.keys {
        step(work.record(index));
    }
    let mut index = work.keys;
    let began = Instant::now();
    loop {
        for _ in 0..STRIDE {
            step(work.record(index));
            index += 1;
        }
        let elapsed = began.elapsed();
        if elapsed >= seconds {
            return Reached { records_per_second: (index - work.keys) as f64 / elapsed.as_secs_f64() };
        }
    }
}

/// One thread, generator inlined, `hashbrown` with a fast hasher, record by record: what a good engineer writes without an engine.
pub fn map_loop(work: W1, seconds: Duration) -> Reached {
    let mut sums: hashbrown::HashMap<u64, u64, foldhash::fast::FixedState> =
        hashbrown::HashMap::with_hasher(foldhash::fast::FixedState::default());
    let mut total = 0_u64;
    let reached = timed(work, seconds, |record| {
        let sum = sums.entry(record.key).or_insert(0);
        *sum = sum.wrapping_add(record.value);
        total = total.wrapping_add(*sum);
    });
    black_box(total);
    reached
}

/// A vector indexed by key: nothing keyed can beat it.
pub fn vec_loop(work: W1, seconds: Duration) -> Reached {
    let mut sums = vec![0_u64; work.keys as usize];
    let mut total = 0_u64;
    let reached = timed(work, seconds, |record| {
        let sum = &mut sums[record.key as usize];
        *sum = sum.wrapping_add(record.value);
        total = total.wrapping_add(*sum);
    });
    black_box(total);
    reached
}

/// So many map loops on disjoint keys, one thread each; the sum of all.
pub fn map_loops(work: W1, threads: u64, seconds: Duration) -> Reached {
    let share = W1 { keys: (work.keys / threads).max(1) };
    together(threads, move || map_loop(share, seconds))
}

/// One thread, batches of 1024 records filled and summed: the bound of whatever hands records on in batches.
pub fn batch_loop(work: W0, seconds: Duration) -> Reached {
    let mut batch: Vec<Record> = Vec::with_capacity(BATCH as usize);
    let (mut index, mut total) = (0_u64, 0_u64);
    let began = Instant::now();
    loop {
        for _ in 0..STRIDE / BATCH {
            batch.clear();
            batch.extend((index..index + BATCH).map(|index| work.record(index)));
            index += BATCH;
            // The batch is in memory: it is not summed while it is made.
            total = black_box(&mut batch).iter().fold(total, |total, record| total.wrapping_add(record.value));
        }
        let elapsed = began.elapsed();
        if elapsed >= seconds {
            black_box(total);
            return Reached { records_per_second: index as f64 / elapsed.as_secs_f64() };
        }
    }
}

/// So many batch loops, one thread each; the sum of all.
pub fn batch_loops(work: W0, threads: u64, seconds: Duration) -> Reached {
    together(threads, move || batch_loop(work, seconds))
}

fn together(threads: u64, one: impl Fn() -> Reached + Copy + Send) -> Reached {
    let speeds: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(move || one().records_per_second)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a loop panicked")).collect()
    });
    Reached { records_per_second: speeds.iter().sum() }
}
