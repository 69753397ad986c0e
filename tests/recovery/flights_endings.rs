//! How the flights example ends, other than by a kill: stopped, finished, refused.

use std::fs;

use rustix::process::Signal;

use crate::flights::{Flights, real_input, write_input};
use crate::killing::Victim;
use crate::oracle::FlightsOracle;
use crate::random_kills::SecondJob;
use crate::seed::Seed;

/// The number behind a word of the summary.
fn figure(output: &str, name: &str) -> usize {
    let line = output.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no `{name}` in\n{output}"))
}

/// Starts the job and interrupts it, until that came after it had learned to listen and had read more than `before` rows. Gives how many it has read.
fn interrupt(flights: &Flights, before: usize) -> usize {
    loop {
        let mut process = flights.start();
        // The moment of the interruption; what follows from it holds for any.
        flights.scratch.wait_for_manifest(&mut process);
        process.signal(Signal::INT);
        let ended = process.wait();
        let deaf = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(Signal::INT.as_raw());
        if deaf {
            continue;
        }
        ended.expect_success("an interrupted job");
        assert!(ended.output.contains("start it again"), "it stopped:\n{}", ended.output);
        let rows = figure(&ended.output, "rows ");
        if rows > before {
            return rows;
        }
    }
}

/// A job that was stopped after some rows.
fn stopped(text: &str, input: &str, parallelism: u32) -> (Flights, usize) {
    let mut flights = Flights::new(text, input, parallelism);
    // Far from its end when it is interrupted.
    flights.rate = 250;
    let rows = interrupt(&flights, 0);
    (flights, rows)
}

#[test]
fn an_interrupted_job_commits_all_that_it_read_and_goes_on_at_the_next_start() {
    let text = real_input();
    for (input, parallelism) in [("flights.csv", 1), ("flights.csv.gz", 2)] {
        let (mut flights, rows) = stopped(&text, input, parallelism);
        let committed = flights.committed().unwrap();
        FlightsOracle::new(&text, rows).check_complete(&committed).unwrap();
        let more = interrupt(&flights, rows);
        let committed = flights.committed().unwrap();
        FlightsOracle::new(&text, more).check_complete(&committed).unwrap();
        flights.rate = 1_000_000;
        let ended = flights.start().wait();
        ended.expect_success("the start after an interruption");
        assert!(ended.output.contains("restored from          checkpoint"), "{}", ended.output);
        assert_eq!(figure(&ended.output, "rows "), text.lines().count() - 1);
        flights.check_complete().unwrap();
    }
}

#[test]
fn a_finished_job_says_so_and_a_further_start_changes_nothing() {
    let text: String = real_input().split_inclusive('\n').take(2_000).collect();
    let oracle = FlightsOracle::new(&text, usize::MAX);
    for parallelism in [1, 2] {
        let mut flights = Flights::new(&text, "flights.csv", parallelism);
        flights.rate = 1_000_000;
        let ended = flights.start().wait();
        ended.expect_success("the only run");
        assert_eq!(figure(&ended.output, "rows "), 1_999);
        assert_eq!(figure(&ended.output, "cancelled "), 1_999 - oracle.lines());
        flights.check_complete().unwrap();
        let before = flights.scratch.picture();
        for _ in 0..2 {
            let again = flights.start().wait();
            again.expect_success("a start after the end");
            assert!(again.output.contains("had finished before"), "{}", again.output);
            assert!(flights.scratch.picture() == before, "a start after the end changed a file");
        }
        fs::remove_dir_all(flights.scratch.catalogue()).unwrap();
        flights.start().wait().expect_success("a start after the end, without the catalogue");
        assert!(flights.scratch.picture() == before, "a start after the end changed a file");
    }
}

#[test]
fn a_malformed_row_is_an_error_that_names_file_and_line() {
    let good: String = real_input().split_inclusive('\n').take(1_000).collect();
    let row = good.lines().nth(700).unwrap().to_owned();
    let late = row.split(',').enumerate().map(|(column, field)| if column == 5 { "late" } else { field });
    let bad = good.replacen(&row, &late.collect::<Vec<_>>().join(","), 1);
    for input in ["flights.csv", "flights.csv.gz"] {
        let mut flights = Flights::new(&good, input, 1);
        write_input(&flights.input_path(), &bad);
        flights.rate = 1_000_000;
        for _ in 0..2 {
            flights.start().wait().expect_error(&[input, "701", "late"]);
            flights.committed().unwrap();
        }
        // Mended behind what was read, it goes on.
        write_input(&flights.input_path(), &good);
        flights.start().wait().expect_success("the mended input");
        flights.check_complete().unwrap();
    }
}

#[test]
fn a_stopped_job_refuses_what_does_not_fit_its_checkpoint_and_goes_on_when_it_fits_again() {
    let text = real_input();
    let (flights, _) = stopped(&text, "flights.csv", 1);
    let fits_again = |mut flights: Flights| {
        flights.rate = 1_000_000;
        flights.start().wait().expect_success("the start after the refusals");
        flights.check_complete().unwrap();
    };

    // Another parallelism does fit.
    let mut wider = flights.copy();
    wider.parallelism = 3;
    fits_again(wider);

    let changed = flights.copy();
    let mut other = text.clone().into_bytes();
    let at = text.find('\n').unwrap() + 1;
    other[at] = b'3';
    fs::write(changed.input_path(), other).unwrap();
    changed.start().wait().expect_error(&["flights.csv"]);
    fs::write(changed.input_path(), &text).unwrap();
    fits_again(changed);

    let shorter = flights.copy();
    fs::write(shorter.input_path(), &text[..at]).unwrap();
    shorter.start().wait().expect_error(&["flights.csv"]);
    fs::write(shorter.input_path(), &text).unwrap();
    fits_again(shorter);

    let wiped = flights.copy();
    let aside = wiped.scratch.path("aside");
    fs::rename(wiped.scratch.output(), &aside).unwrap();
    wiped.start().wait().expect_error(&["output", "directory"]);
    fs::remove_dir_all(wiped.scratch.output()).unwrap();
    fs::rename(&aside, wiped.scratch.output()).unwrap();
    fits_again(wiped);

    let forgotten = flights.copy();
    let aside = forgotten.scratch.path("aside");
    fs::rename(forgotten.scratch.store(), &aside).unwrap();
    forgotten.start().wait().expect_error(&["output", "another store"]);
    fs::remove_dir_all(forgotten.scratch.store()).unwrap();
    fs::rename(&aside, forgotten.scratch.store()).unwrap();
    fits_again(forgotten);
}

#[test]
fn a_store_in_use_refuses_a_second_process_and_is_not_harmed_by_it() {
    let mut seed = Seed::draw("a store in use");
    let mut holder = SecondJob::long(&mut seed, 1);
    let mut process = holder.start();
    assert!(process.wait_for("completed", 1), "the first process runs");
    // Held in the middle of its work, it cannot end before the second one has come.
    process.signal(Signal::STOP);
    holder.start().wait().expect_error(&["in use"]);
    process.signal(Signal::CONT);
    assert!(process.wait_for("completed", 2), "the first process goes on");
    process.kill();
    holder.check().unwrap();
    holder.hurry();
    holder.start().wait().expect_success("the start after the refusal");
    holder.check_complete().unwrap();
}
