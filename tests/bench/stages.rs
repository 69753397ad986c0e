//! The stages of a record's path one by one, on one thread and without an engine around them: where the nanoseconds of workload W1 go.
//!
//! `cargo bench --bench stages -- [--keys K]... [--rounds R]`. Each stage works on slices of 256 records, as in a chain; the fastest of many
//! rounds is printed, in nanoseconds per record, because on a shared machine everything else is somebody else's time. Under `valgrind --tool=callgrind` give
//! `--rounds 1`.
//!
//! Last the partitioner, as the planner builds it behind a source: `partition.rs`.

mod partition;
#[expect(dead_code, reason = "W0 has one stage only")]
mod record;

use std::hint::black_box;
use std::time::Instant;

use alluvium::record::{Borrowed, KeySelector, hash_key};
use alluvium::state::{Plain, StateDescriptor, StateKind, Table};
use clap::Parser;

use partition::Partition;
use record::{Record, W1};

const SLICE: usize = 256;
const SEED: u64 = 0x5EED;

/// Times the stages of workload W1.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many keys; may be given several times.
    #[arg(long, default_values_t = [1_000, 1_000_000, 10_000_000])]
    keys: Vec<u64>,
    /// How many rounds, of which the fastest counts.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// How many channels the partitioner has; may be given several times.
    #[arg(long, default_values_t = [1, 2, 3, 7])]
    channels: Vec<u32>,
    /// Slices in a round.
    #[arg(long, default_value_t = 400)]
    slices: usize,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

type Sums = Table<u64, Plain<u64>>;

#[inline(never)]
fn make(work: W1, first: u64, records: &mut Vec<Record>) {
    records.clear();
    records.extend((first..first + SLICE as u64).map(|index| work.record(index)));
}

#[inline(never)]
fn hash(records: &[Record], hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.extend(records.iter().map(|record| hash_key(SEED, &record.key).expect("an integer")));
}

#[inline(never)]
fn update(
    table: &mut Sums,
    hashes: &[u64],
    records: &mut Vec<Record>,
    selector: &impl KeySelector<Record, u64>,
    out: &mut Vec<(u64, u64)>,
) {
    out.clear();
    out.reserve(records.len());
    table.update_batch(
        hashes,
        records.drain(..),
        selector,
        || 0,
        |key, sum, record| {
            *sum = sum.wrapping_add(record.value);
            out.push((*key, *sum));
        },
    );
}

#[inline(never)]
fn sink(out: &[(u64, u64)]) -> u64 {
    out.iter().fold(0, |sum, emitted| sum.wrapping_add(emitted.1))
}

fn selector<F: Fn(&Record) -> &u64 + Clone + Send + 'static>(select: F) -> Borrowed<F> {
    Borrowed(select)
}

fn main() {
    let arguments = Arguments::parse();
    println!("{:>12} {:>8} {:>8} {:>8} {:>8} {:>8}", "keys", "make", "hash", "update", "sink", "sum");
    for keys in &arguments.keys {
        let work = W1 { keys: *keys };
        let select = selector(|record: &Record| &record.key);
        let mut table = Sums::new(0..128, 128, SEED, vec![StateDescriptor::new(StateKind::Value, "sum", &["u64"])]);
        let (mut records, mut hashes, mut out) = (Vec::new(), Vec::new(), Vec::new());
        let mut index = 0;
        while index < keys + SLICE as u64 {
            make(work, index, &mut records);
            hash(&records, &mut hashes);
            update(&mut table, &hashes, &mut records, &select, &mut out);
            index += SLICE as u64;
        }
        let mut best = [f64::INFINITY; 4];
        for _ in 0..arguments.rounds {
            let mut slices: Vec<_> =
                (0..arguments.slices).map(|_| (Vec::with_capacity(SLICE), Vec::with_capacity(SLICE))).collect();
            let mut spent = [0.0_f64; 4];
            let mut timed = |stage: usize, work: &mut dyn FnMut()| {
                let began = Instant::now();
                work();
                spent[stage] += began.elapsed().as_nanos() as f64;
            };
            timed(0, &mut || {
                for (records, _) in &mut slices {
                    make(work, index, records);
                    index += SLICE as u64;
                }
            });
            timed(1, &mut || {
                for (records, hashes) in &mut slices {
                    hash(records, hashes);
                }
            });
            timed(2, &mut || {
                for (records, hashes) in &mut slices {
                    update(&mut table, hashes, records, &select, &mut out);
                }
            });
            timed(3, &mut || {
                for _ in 0..arguments.slices {
                    black_box(sink(black_box(&out)));
                }
            });
            for (best, spent) in best.iter_mut().zip(spent) {
                *best = best.min(spent / (arguments.slices * SLICE) as f64);
            }
        }
        let [make, hash, update, sink] = best;
        let sum: f64 = best.iter().sum();
        println!("{keys:>12} {make:>8.2} {hash:>8.2} {update:>8.2} {sink:>8.2} {sum:>8.2}");
    }
    println!("{:>12} {:>24}", "channels", "make + hash + partition");
    for channels in &arguments.channels {
        let mut partition = Partition::new(W1 { keys: 1_000 }, *channels, SEED);
        partition.run(arguments.slices);
        let rounds = (0..arguments.rounds).map(|_| partition.run(arguments.slices));
        println!("{channels:>12} {:>24.2}", rounds.fold(f64::INFINITY, f64::min));
    }
}
