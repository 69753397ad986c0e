//! The body that all jobs and settings share: start, kill, look at the output, start again, and in the end look at all of it.

use std::fs;
use std::time::Duration;

use crate::child::Process;
use crate::oracle::Verdict;
use crate::scratch::{Scratch, Tree, read_tree, write_tree};
use crate::seed::Seed;

/// A job that is killed.
pub(crate) trait Victim {
    /// Where it lives.
    fn scratch(&self) -> &Scratch;

    /// Before each start: what may be another one than before.
    fn change(&mut self, _seed: &mut Seed) {}

    /// Starts it, for the first time or once more.
    fn start(&self) -> Process;

    /// Reads its output until something worth a kill has happened; what that is the seed says.
    fn watch(&self, process: &mut Process, seed: &mut Seed);

    /// Whether everything committed is right so far, and how much it is.
    fn check(&mut self) -> Verdict<usize>;

    /// Whether the output of the finished job is right.
    fn check_complete(&mut self) -> Verdict;
}

/// What happens to sled's directory between a kill and the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Catalogue {
    /// Nothing.
    Kept,
    /// It is deleted, filled with garbage, or replaced by an old one.
    Damaged,
}

/// The longest time from the start, or from what was watched for, to the first kill.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// Kills the job again and again at random moments, then lets it end.
pub(crate) fn kill_again_and_again(victim: &mut dyn Victim, catalogue: Catalogue, kills: usize, seed: &mut Seed) {
    let mut committed = 0;
    let mut longest = FIRST_DELAY;
    let mut useful = 0;
    let mut former_catalogue = Tree::new();
    for kill in 1..=kills {
        victim.change(seed);
        let mut process = victim.start();
        victim.watch(&mut process, seed);
        // The kill itself: after a random time, wherever the job is then.
        std::thread::sleep(seed.up_to(longest));
        let ended = process.kill();
        if ended.expect_success_or_kill(&format!("start {kill}")) {
            break;
        }
        let now = victim.check().unwrap_or_else(|fault| panic!("kill {kill}: {fault}\n{}", ended.output));
        if now == committed {
            // Killed before it came to anything: on a slow machine it gets more time, so that the kills still reach all of its life.
            longest = longest * 3 / 2;
        }
        useful += usize::from(now > committed);
        committed = now;
        if catalogue == Catalogue::Damaged {
            damage(victim.scratch(), &mut former_catalogue, seed);
        }
    }
    println!("{useful} kills after something new was committed, {committed} lines at the last of them");
    victim.change(seed);
    let ended = victim.start().wait();
    ended.expect_success("the start after the last kill");
    // A kill while the finished job cleaned up leaves what it had not removed: a start after the end changes nothing.
    if !ended.output.contains("before") {
        victim.scratch().check_tidy();
    }
    victim.check_complete().unwrap_or_else(|fault| panic!("in the end: {fault}"));
}

/// Sled's directory is lost, unreadable, or not the newest.
fn damage(scratch: &Scratch, former: &mut Tree, seed: &mut Seed) {
    let directory = scratch.catalogue();
    let current = read_tree(&directory);
    match seed.within(0..4) {
        0 => remove(scratch),
        1 => {
            let mut garbage = current.clone();
            for content in garbage.values_mut() {
                content.iter_mut().for_each(|byte| *byte = seed.next() as u8);
            }
            garbage.insert("conf".into(), b"garbage".to_vec());
            garbage.insert("db".into(), vec![0xA5; 10_000]);
            write_tree(&directory, &garbage);
        }
        2 => {
            let mut cut = current.clone();
            for content in cut.values_mut() {
                content.truncate(content.len() / 2);
            }
            write_tree(&directory, &cut);
        }
        _ if !former.is_empty() => {
            remove(scratch);
            write_tree(&directory, former);
        }
        _ => {}
    }
    *former = current;
}

fn remove(scratch: &Scratch) {
    if let Err(error) = fs::remove_dir_all(scratch.catalogue()) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
}
