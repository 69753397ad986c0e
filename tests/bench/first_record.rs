//! How long it takes from the start of a process to the first record at the sink of its job, with an empty store.
//!
//! The process is this benchmark itself, started anew with a hidden option.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium::Options;

use crate::engine::{Work, graph};
use crate::record::W1;
use crate::sink::Seen;

/// What the child says when the first record is at the sink.
const THERE: u8 = b'1';

/// Starts a process and measures until its job has emitted, in milliseconds.
pub fn measure(keys: u64, parallelism: u32, interval: Option<Duration>) -> f64 {
    let store = tempfile::tempdir().expect("a temporary directory");
    let executable = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(executable);
    command.args(["first-record", "--keys", &keys.to_string(), "--parallelism", &parallelism.to_string()]);
    command.args(["--checkpoint-interval", &interval.map_or("off".to_owned(), |interval| format!("{interval:?}"))]);
    command.arg("--first-record-child").arg(store.path()).stdout(Stdio::piped()).stdin(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn().expect("the child starts");
    let mut said = [0_u8];
    let read = child.stdout.take().expect("a pipe").read_exact(&mut said);
    let elapsed = began.elapsed();
    let ended = child.wait();
    assert!(read.is_ok() && said == [THERE], "the child ended without a record: {ended:?}");
    elapsed.as_secs_f64() * 1e3
}

/// The body of the child: runs the job in this empty store and tells when the first record is there.
pub fn child(store: &Path, keys: u64, parallelism: u32, interval: Option<Duration>) -> ! {
    let seen = Seen::new(1);
    // The sink itself tells: nobody has to look again and again.
    seen.on_reached(Box::new(|| {
        let mut out = std::io::stdout();
        let _ = out.write_all(&[THERE]).and_then(|()| out.flush());
        std::process::exit(0);
    }));
    let mut options = Options::default().store(store);
    if let Some(interval) = interval {
        options = options.checkpoint_every(interval);
    }
    let handle =
        graph(Work::W1(W1 { keys }), parallelism, None, &Arc::clone(&seen)).start(&options).expect("the job starts");
    let ended = handle.wait_blocking();
    eprintln!("the job ended before it emitted: {ended:?}");
    std::process::exit(1);
}
