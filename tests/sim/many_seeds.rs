//! Many seeds: far more fault schedules of all jobs than a gate has time for. `.ci/many-seeds` runs it, for as long as one likes; the guide to testing tells how.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use alluvium::testing::simulation::{Report, Scenario, Simulation, Trouble};
use indicatif::{ProgressBar, ProgressStyle};

use crate::schedules::{Tally, number, quiet};
use crate::{at_least_once, cancelled, examples, flights, graph, random_graph, regions, second_job, union};

/// A job that many seeds are tried with.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// The test that repeats a seed of it.
    test: &'static str,
    /// Of every 32 schedules.
    share: u64,
    play: fn(&Simulation, Times) -> Result<Report, Trouble>,
}

#[derive(Clone, Copy, Debug)]
enum Times {
    Once,
    Twice,
}

fn play<S: Scenario>(simulation: &Simulation, times: Times, build: impl Fn() -> S) -> Result<Report, Trouble> {
    match times {
        Times::Once => simulation.run(&mut build()),
        Times::Twice => simulation.run_twice(build),
    }
}

/// All jobs of this suite.
pub(crate) const JOBS: [Entry; 14] = [
    Entry {
        name: "random graphs",
        test: "random_graphs_survive_random_crashes_and_faults",
        share: 14,
        play: |simulation, times| play(simulation, times, || random_graph::of(simulation)),
    },
    Entry {
        name: "flights",
        test: "flights_survive_random_crashes_and_faults",
        share: 1,
        play: |simulation, times| play(simulation, times, || flights::Flights::new(100, 2)),
    },
    Entry {
        name: "second job",
        test: "the_second_job_survives_random_crashes_and_faults_in_parallel",
        share: 2,
        play: |simulation, times| play(simulation, times, || second_job::SecondJob::new(2)),
    },
    Entry {
        name: "union",
        test: "a_union_survives_random_schedules",
        share: 1,
        play: |simulation, times| play(simulation, times, union::Union::new),
    },
    Entry {
        name: "ways",
        test: "broadcast_partitioner_and_side_outputs_survive_random_schedules",
        share: 2,
        play: |simulation, times| play(simulation, times, graph::Ways::new),
    },
    Entry {
        name: "at least once",
        test: "at_least_once_loses_nothing_under_random_crashes_and_repeats_some",
        share: 1,
        play: |simulation, times| play(simulation, times, at_least_once::Tracked::relaxed),
    },
    Entry {
        name: "regions",
        test: "two_regions_survive_random_crashes_and_faults",
        share: 3,
        play: |simulation, times| play(simulation, times, || regions::Regions::new(regions::Panics::Both)),
    },
    Entry {
        name: "cancelled",
        test: "a_cancellation_that_deletes_loses_nothing_with_random_crashes_and_faults",
        share: 1,
        play: |simulation, times| play(simulation, times, cancelled::Cancelled::default),
    },
    Entry {
        name: "example flights",
        test: "the_example_flights_survives_random_crashes_and_faults",
        share: 1,
        play: |simulation, times| play(simulation, times, || examples::Flights::new(100, 2)),
    },
    Entry {
        name: "example graph",
        test: "the_example_graph_survives_random_crashes_and_faults",
        share: 2,
        play: |simulation, times| play(simulation, times, examples::Weather::new),
    },
    Entry {
        name: "example connectors",
        test: "the_example_connectors_survive_random_crashes_and_faults",
        share: 1,
        play: |simulation, times| play(simulation, times, || examples::Connectors::new(2)),
    },
    Entry {
        name: "example embed, sales",
        test: "the_sales_of_the_example_embed_survive_random_crashes_and_faults",
        share: 1,
        play: |simulation, times| play(simulation, times, examples::Sales::new),
    },
    Entry {
        name: "example embed, digits",
        test: "the_digits_of_the_example_embed_survive_random_crashes_and_faults",
        share: 1,
        play: |simulation, times| play(simulation, times, examples::Digits::default),
    },
    Entry {
        name: "job of the recovery tests",
        test: "the_job_of_the_recovery_tests_survives_random_crashes_and_faults",
        share: 1,
        play: |simulation, times| play(simulation, times, || examples::SecondJob::new(2)),
    },
];

impl Entry {
    /// Makes a run twice. Panics inside of the job are part of the play.
    pub(crate) fn twice(&self, simulation: &Simulation) -> Result<Report, Trouble> {
        quiet::during(|| (self.play)(simulation, Times::Twice))
    }
}

/// The seed of schedule number 0: none of those that the gate uses.
const FIRST_SEED: u64 = 1_000_000;

/// So many schedules a thread takes at once, and so many of them pass until one is run twice.
const PORTION: u64 = 32;
const TWICE: u64 = 8;

/// After so many failures it makes no sense to go on.
const MOST_FAILURES: usize = 50;

/// The job of a schedule: those of 32 in a row are dealt out by their shares.
fn job_of(schedule: u64) -> &'static Entry {
    let mut place = schedule % JOBS.iter().map(|job| job.share).sum::<u64>();
    let found = JOBS.iter().find(|job| {
        let found = place < job.share;
        place = place.saturating_sub(job.share);
        found
    });
    found.expect("the shares cover every place")
}

/// How far it is. Its file is written every second, and read by the next start.
#[derive(Debug, Default)]
struct Progress {
    /// The next schedule that nobody has taken.
    next: u64,
    /// What threads have taken and not finished: the first of each portion.
    taken: Vec<u64>,
    tally: Tally,
    failures: Vec<String>,
}

impl Progress {
    /// All schedules before this one were run.
    fn reached(&self) -> u64 {
        self.taken.iter().copied().min().unwrap_or(self.next)
    }

    /// Where the last start stopped, and what all of them have found: that is forgotten only when somebody deletes the file.
    fn read(directory: &Path) -> Progress {
        let text = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let next = text("reached").trim().parse().unwrap_or(0);
        let failed = text("failed");
        // A failure is a line, and the command behind it.
        let lines: Vec<&str> = failed.lines().collect();
        let failures = lines.chunks(2).map(|lines| format!("{}\n", lines.join("\n"))).collect();
        Progress { next, failures, ..Progress::default() }
    }

    fn write(&self, directory: &Path) -> io::Result<()> {
        // Renamed into place: also a kill leaves the former or the new one.
        let new = directory.join("reached.new");
        fs::write(&new, format!("{}\n", self.reached()))?;
        fs::rename(new, directory.join("reached"))
    }
}

struct Shared {
    progress: Mutex<Progress>,
    end: u64,
    directory: PathBuf,
    interrupted: AtomicBool,
}

impl Shared {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.progress().failures.len() >= MOST_FAILURES
    }

    fn take(&self) -> Option<std::ops::Range<u64>> {
        if self.is_over() {
            return None;
        }
        let mut progress = self.progress();
        let first = progress.next;
        let end = (first + PORTION).min(self.end);
        (first < end).then(|| {
            progress.next = end;
            progress.taken.push(first);
            first..end
        })
    }

    fn work(&self) {
        while let Some(portion) = self.take() {
            let first = portion.start;
            let mut tally = Tally::default();
            for schedule in portion {
                let (job, simulation) = (job_of(schedule), Simulation::new(FIRST_SEED + schedule));
                let times = if schedule.is_multiple_of(TWICE) { Times::Twice } else { Times::Once };
                let played = quiet::during(|| catch_unwind(AssertUnwindSafe(|| (job.play)(&simulation, times))));
                match played {
                    Ok(Ok(report)) => tally.add(&simulation, &report),
                    Ok(Err(trouble)) => self.failed(job, &simulation, trouble.reason(), &trouble.to_string()),
                    Err(_) => self.failed(job, &simulation, "the oracle panicked", "the oracle panicked"),
                }
            }
            let mut progress = self.progress();
            progress.taken.retain(|taken| *taken != first);
            progress.tally.merge(&tally);
        }
    }

    /// Keeps what is needed to repeat a failure.
    fn failed(&self, job: &Entry, simulation: &Simulation, reason: &str, story: &str) {
        let reason = reason.lines().next().unwrap_or_default();
        let again = format!("ALLUVIUM_SIMULATION_SEED={simulation} cargo test --test sim {}", job.test);
        let line = format!("{}: {reason}\n    {again}\n", job.name);
        // A portion that was not finished is run again by the next start.
        if self.progress().failures.contains(&line) {
            return;
        }
        println!("failed: {line}");
        let name = format!("{}-{simulation}.txt", job.name.replace(' ', "-"));
        let kept = fs::write(self.directory.join(name), story).and_then(|()| {
            let failed = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("failed"));
            failed?.write_all(line.as_bytes())
        });
        if let Err(error) = kept {
            println!("it could not be kept in {}: {error}", self.directory.display());
        }
        self.progress().failures.push(line);
    }
}

/// Sets a flag at the first Ctrl-C; the second one ends the process at once.
fn hear_interrupts(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        actix_rt::System::new().block_on(async {
            if actix_rt::signal::ctrl_c().await.is_ok() {
                eprintln!("\nstopping when every thread has finished its portion; once more to end at once");
                shared.interrupted.store(true, Ordering::Relaxed);
                let _ = actix_rt::signal::ctrl_c().await;
                std::process::exit(130);
            }
        });
    });
}

fn watch(shared: &Shared, from: u64, workers: &[thread::JoinHandle<()>]) {
    let style = ProgressStyle::with_template("{bar:32} {pos} of {len} schedules  {per_sec}  {eta} left  {msg}");
    let bar = ProgressBar::new(shared.end).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_position(from);
    bar.reset_eta();
    let (began, mut told) = (Instant::now(), Instant::now());
    while workers.iter().any(|worker| !worker.is_finished()) {
        // How often the mark is kept that the next start goes on from, and a person is shown how far it is. What each thread does next does not wait for it.
        thread::sleep(Duration::from_millis(500));
        let progress = shared.progress();
        let (reached, crashes, failures) = (progress.reached(), progress.tally.crashes, progress.failures.len());
        if let Err(error) = progress.write(&shared.directory) {
            eprintln!("how far it is could not be written to {}: {error}", shared.directory.display());
        }
        drop(progress);
        bar.set_position(reached);
        bar.set_message(format!("{crashes} crashes, {failures} failed"));
        if !io::stderr().is_terminal() && told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            let speed = (reached - from) as f64 / began.elapsed().as_secs_f64();
            println!(
                "{reached} of {} schedules, {speed:.0} per second, {crashes} crashes, {failures} failed",
                shared.end
            );
        }
    }
    bar.finish_and_clear();
}

#[test]
#[ignore = "runs for hours: see .ci/many-seeds"]
fn many_seeds() {
    quiet::install();
    let directory = std::env::var_os("ALLUVIUM_SIMULATION_DIRECTORY").map_or("target/many-seeds".into(), PathBuf::from);
    fs::create_dir_all(&directory).expect("the directory for what is found can be made");
    let progress = Progress::read(&directory);
    let (from, failed) = (progress.next, progress.failures.len());
    let end = number("ALLUVIUM_SIMULATION_RUNS").unwrap_or(1_000_000);
    let threads = number("ALLUVIUM_SIMULATION_THREADS")
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, |threads| threads.get() as u64));
    println!("schedules {from} to {end} on {threads} threads; what is found is kept in {}", directory.display());
    let kept = directory.join("failed");
    if failed > 0 {
        println!("{failed} have failed before, see {}: delete it when they are mended", kept.display());
    }
    let progress = Mutex::new(progress);
    let shared = Arc::new(Shared { progress, end, directory, interrupted: AtomicBool::new(false) });
    hear_interrupts(&shared);
    let began = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work())
        })
        .collect();
    watch(&shared, from, &workers);
    let progress = shared.progress();
    progress.write(&shared.directory).expect("how far it is can be written");
    println!("{} in {:.0?}", progress.tally, began.elapsed());
    if progress.reached() < end {
        println!("schedule {} is the next one: start it again to go on", progress.reached());
    }
    let failures = &progress.failures;
    assert!(
        failures.is_empty(),
        "{} failed, of which {failed} in earlier starts ({} is to be deleted when they are mended):\n{}",
        failures.len(),
        kept.display(),
        failures.concat()
    );
}

#[test]
fn the_jobs_take_turns_by_their_shares() {
    let all: u64 = JOBS.iter().map(|job| job.share).sum();
    assert_eq!(all, 32);
    for job in &JOBS {
        let turns = (0..2 * all).filter(|schedule| job_of(*schedule).name == job.name).count() as u64;
        assert_eq!(turns, 2 * job.share, "{}", job.name);
    }
}

#[test]
fn what_threads_have_not_finished_is_run_again_by_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let read = || Progress::read(directory.path()).next;
    assert_eq!(read(), 0);
    let progress = Progress { next: 96, taken: vec![64, 32], ..Progress::default() };
    progress.write(directory.path()).expect("it can be written");
    assert_eq!(read(), 32);
    Progress { taken: Vec::new(), ..progress }.write(directory.path()).expect("it can be written");
    assert_eq!(read(), 96);
}

#[test]
fn what_an_earlier_start_has_found_is_not_forgotten_and_not_counted_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || Shared {
        progress: Mutex::new(Progress::read(directory.path())),
        end: 0,
        directory: directory.path().to_owned(),
        interrupted: AtomicBool::new(false),
    };
    let fail = |shared: &Shared, seed| {
        shared.failed(&JOBS[0], &Simulation::new(seed), "a record is missing\nand more", "the story");
    };
    let first = start();
    fail(&first, 1);
    fail(&first, 2);
    let second = start();
    assert_eq!(second.progress().failures, first.progress().failures);
    fail(&second, 2);
    fail(&second, 3);
    let failures = start().progress().failures.clone();
    assert_eq!(failures.len(), 3);
    for (failure, seed) in failures.iter().zip(1..) {
        let run = format!("ALLUVIUM_SIMULATION_SEED={} cargo test --test sim", Simulation::new(seed));
        assert!(failure.starts_with("random graphs: a record is missing\n") && failure.contains(&run), "{failure}");
    }
}
