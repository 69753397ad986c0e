//! The state table alone: updates, growth, snapshots and restore, beside a `Vec` and an ordinary hash map.
//!
//! `cargo bench --bench table -- [--keys K]... [--updates N] [--rounds R]`. All loops generate the records of workload W1
//! inline (`docs/performance.md`); the table is fed in slices of 256 records, as an operator does.

use std::hint::black_box;
use std::time::{Duration, Instant};

use alluvium::record::{Borrowed, hash_key};
use alluvium::state::{ChunkHeader, ChunkSink, Plain, Progress, StateDescriptor, StateKind, StateMapping, Table};
use alluvium_actors::ids::CheckpointId;

const SLICE: usize = 256;
const SEED: u64 = 0x5EED;

#[derive(Clone, Copy)]
struct Sample {
    key: u64,
    value: i64,
}

fn sample(index: u64, keys: u64) -> Sample {
    let mut z = index.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let x = z ^ (z >> 31);
    Sample { key: (x >> 1) % keys, value: (x >> 48) as i64 }
}

type Sums = Table<u64, Plain<i64>>;

fn new_table() -> Sums {
    Table::new(0..128, 128, SEED, vec![StateDescriptor::new(StateKind::Value, "sum", &["i64"])])
}

struct Feeder {
    hashes: Vec<u64>,
    slice: Vec<Sample>,
    emitted: i64,
}

impl Feeder {
    fn new() -> Feeder {
        Feeder { hashes: Vec::with_capacity(SLICE), slice: Vec::with_capacity(SLICE), emitted: 0 }
    }

    #[inline(never)]
    fn feed(&mut self, table: &mut Sums, samples: impl Iterator<Item = Sample>) {
        self.slice.clear();
        self.slice.extend(samples);
        self.hashes.clear();
        self.hashes.extend(self.slice.iter().map(|sample| hash_key(SEED, &sample.key).expect("an integer")));
        let emitted = &mut self.emitted;
        table.update_batch(
            &self.hashes,
            self.slice.iter(),
            &borrowed(|sample: &&Sample| &sample.key),
            || 0,
            |_, sum, sample| {
                *sum += sample.value;
                *emitted = emitted.wrapping_add(*sum);
            },
        );
    }
}

fn borrowed<T, F: Fn(&T) -> &u64 + Clone + Send + 'static>(select: F) -> Borrowed<F> {
    Borrowed(select)
}

/// The time that this thread spent on a processor, so that other processes disturb less; elsewhere than on Linux, time.
fn busy_time() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()));
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    spent.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn rate(records: u64, elapsed: Duration) -> f64 {
    records as f64 / elapsed.as_secs_f64() / 1e6
}

fn median(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[figures.len() - 1])
}

fn fill(keys: u64, recorded: bool) -> (Sums, Duration, Duration) {
    let (mut table, mut feeder) = (new_table(), Feeder::new());
    if recorded {
        table.record_changes();
    }
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    let mut last = start;
    for first in (0..keys).step_by(SLICE) {
        let end = (first + SLICE as u64).min(keys);
        // An odd multiplier walks over all keys in a scattered order when the number of keys is not a multiple of it.
        feeder.feed(&mut table, (first..end).map(|i| Sample { key: i.wrapping_mul(7_919) % keys, value: 0 }));
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    assert_eq!(table.len() as u64, keys);
    (table, start.elapsed(), longest)
}

#[inline(never)]
fn table_updates(table: &mut Sums, keys: u64, first: u64, updates: u64) -> (Duration, i64) {
    let mut feeder = Feeder::new();
    let start = busy_time();
    for slice in (first..first + updates).step_by(SLICE) {
        let end = (slice + SLICE as u64).min(first + updates);
        feeder.feed(table, (slice..end).map(|index| sample(index, keys)));
    }
    (busy_time() - start, feeder.emitted)
}

#[inline(never)]
fn vec_updates(sums: &mut [i64], keys: u64, first: u64, updates: u64) -> (Duration, i64) {
    let (start, mut emitted) = (busy_time(), 0_i64);
    for index in first..first + updates {
        let sample = sample(index, keys);
        let sum = &mut sums[sample.key as usize];
        *sum += sample.value;
        emitted = emitted.wrapping_add(*sum);
    }
    (busy_time() - start, emitted)
}

type Fast = hashbrown::HashMap<u64, i64, foldhash::fast::FixedState>;

#[inline(never)]
fn map_updates(sums: &mut Fast, keys: u64, first: u64, updates: u64) -> (Duration, i64) {
    let (start, mut emitted) = (busy_time(), 0_i64);
    for index in first..first + updates {
        let sample = sample(index, keys);
        let sum = sums.entry(sample.key).or_insert(0);
        *sum += sample.value;
        emitted = emitted.wrapping_add(*sum);
    }
    (busy_time() - start, emitted)
}

#[derive(Default)]
struct Kept {
    chunks: Vec<Vec<u8>>,
    bytes: usize,
}

impl ChunkSink for Kept {
    fn chunk(&mut self, _: CheckpointId, _: ChunkHeader, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.chunks.push(bytes);
    }
}

/// Writes one snapshot; between its slices, `updates` records are applied for each.
fn snapshot(table: &mut Sums, keys: u64, checkpoint: u64, updates: u64) -> (Duration, Duration, u64, Kept) {
    let (checkpoint, mut kept, mut feeder) = (CheckpointId(checkpoint), Kept::default(), Feeder::new());
    let (mut longest, mut applied) = (Duration::ZERO, 0);
    let start = busy_time();
    table.close_epoch(checkpoint).expect("a new checkpoint");
    loop {
        let slice = Instant::now();
        let progress = table.advance(checkpoint, 4_096, &mut kept).expect("integers encode");
        longest = longest.max(slice.elapsed());
        if progress == Progress::Done {
            break;
        }
        for _ in 0..updates / SLICE as u64 {
            feeder.feed(table, (applied..applied + SLICE as u64).map(|index| sample(index, keys)));
            applied += SLICE as u64;
        }
    }
    (busy_time() - start, longest, applied, kept)
}

fn run(keys: u64, updates: u64, rounds: u64) {
    let (mut table, filled, longest) = fill(keys, false);
    println!("K = {keys}");
    println!(
        "  fill                {:7.1} M/s   longest slice of {SLICE}: {:.2} ms",
        rate(keys, filled),
        longest.as_secs_f64() * 1e3
    );
    let mut sums = vec![0_i64; keys as usize];
    let mut map: Fast = (0..keys).map(|key| (key, 0)).collect();
    let (mut by_table, mut by_vec, mut by_map) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let first = round * updates;
        let (table_time, of_table) = table_updates(&mut table, keys, first, updates);
        let (vec_time, of_vec) = vec_updates(&mut sums, keys, first, updates);
        let (map_time, of_map) = map_updates(&mut map, keys, first, updates / 4);
        assert_eq!(of_table, of_vec, "the table and the vector disagree");
        black_box(of_map);
        by_table.push(rate(updates, table_time));
        by_vec.push(rate(updates, vec_time));
        by_map.push(rate(updates / 4, map_time));
    }
    drop((sums, map));
    let (by_table, by_vec, by_map) = (median(by_table), median(by_vec), median(by_map));
    let line = |name: &str, (median, best): (f64, f64)| {
        let (of_median, of_best) = (by_table.0 / median, by_table.1 / best);
        println!(
            "  updates, {name:<10} {median:7.1} M/s, best {best:7.1}   table to it: {of_median:.2}, best {of_best:.2}"
        );
    };
    line("table", by_table);
    line("vec", by_vec);
    line("hashbrown", by_map);

    if keys < 100_000 {
        return; // over before the clock of the processor time ticks
    }
    let (quiet, longest, _, kept) = snapshot(&mut table, keys, 1, 0);
    let per_entry = |elapsed: Duration| elapsed.as_secs_f64() * 1e9 / keys as f64;
    println!(
        "  snapshot            {:7.1} ns an entry, {:.1} B; longest slice of 4096: {:.2} ms; {} chunks",
        per_entry(quiet),
        kept.bytes as f64 / keys as f64,
        longest.as_secs_f64() * 1e3,
        kept.chunks.len()
    );
    drop(kept);
    let (busy, _, applied, kept) = snapshot(&mut table, keys, 2, 16_384);
    println!(
        "  snapshot + updates  {:7.1} M updates/s while 4096 entries are visited for 16384 updates; {} chunks",
        rate(applied, busy),
        kept.chunks.len()
    );
    drop(table);

    let descriptors = new_table().descriptors().to_vec();
    let mapping = StateMapping::new(&descriptors, &descriptors).expect("the same states");
    let start = busy_time();
    let mut restored = new_table();
    restored.reserve(keys as usize);
    for chunk in &kept.chunks {
        restored.restore_chunk(&mapping, chunk).expect("a chunk of this table");
    }
    let elapsed = busy_time() - start;
    assert_eq!(restored.len() as u64, keys);
    println!("  restore             {:7.1} ns an entry", per_entry(elapsed));
}

/// Full and incremental snapshots of a table that records changes: one key in a hundred changed, spread evenly, and as many neighbours in the order of their numbers, which the
/// hash scatters too.
fn increments(keys: u64, updates: u64, rounds: u64) {
    let (mut table, _, _) = fill(keys, true);
    let rates = (0..rounds).map(|round| rate(updates, table_updates(&mut table, keys, round * updates, updates).0));
    let (median, best) = median(rates.collect());
    println!("  recorded updates    {median:7.1} M/s, best {best:7.1}");
    let (_, _, _, full) = snapshot(&mut table, keys, 1, 0);
    let full = full.bytes;
    table.completed(CheckpointId(1));
    for (checkpoint, changed) in [(2, keys / 100), (3, keys / 1_000), (4, 0)] {
        let mut feeder = Feeder::new();
        let changes: Vec<u64> = (0..changed).map(|number| number.wrapping_mul(7_919 * 13) % keys).collect();
        for slice in changes.chunks(SLICE) {
            feeder.feed(&mut table, slice.iter().map(|key| Sample { key: *key, value: 1 }));
        }
        let (checkpoint, mut kept) = (CheckpointId(checkpoint), Kept::default());
        let (start, mut slices, mut longest) = (Instant::now(), 0, Duration::ZERO);
        assert!(table.close_epoch_on(checkpoint, CheckpointId(checkpoint.0 - 1)).expect("a new checkpoint"));
        loop {
            let slice = Instant::now();
            let progress = table.advance(checkpoint, 1_024, &mut kept).expect("integers encode");
            longest = longest.max(slice.elapsed());
            slices += 1;
            if progress == Progress::Done {
                break;
            }
        }
        let elapsed = start.elapsed();
        table.completed(checkpoint);
        println!(
            "  increment, {changed:>7} {:7.2} ms in {slices} slices of 1024, longest {:.2} ms; {} B, {:.2} % of the full one",
            elapsed.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3,
            kept.bytes,
            kept.bytes as f64 * 100.0 / full as f64
        );
    }
}

fn main() {
    let (mut keys, mut updates, mut rounds) = (Vec::new(), 20_000_000, 3);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("a number after the option");
        match argument.as_str() {
            "--keys" => keys.push(number()),
            "--updates" => updates = number(),
            "--rounds" => rounds = number(),
            _ => panic!("unknown option {argument}: --keys K, --updates N, --rounds R"),
        }
    }
    if keys.is_empty() {
        keys = vec![1_000, 1_000_000, 10_000_000];
    }
    let (start, mut total) = (Instant::now(), 0_u64);
    for key in 0..100_000_000_u64 {
        total ^= hash_key(SEED, &key).expect("an integer");
    }
    black_box(total);
    println!("hash of a u64: {:.2} ns", start.elapsed().as_secs_f64() * 10.0);
    for keys in keys {
        run(keys, updates, rounds);
        if keys >= 100_000 {
            increments(keys, updates, rounds);
        }
    }
}
