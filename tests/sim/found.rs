//! Seeds that once found something, run for ever.

use crate::many_seeds::JOBS;
use crate::schedules::quiet;

/// The job, the simulation, and what it found.
const FOUND: [(&str, &str, &str); 0] = [];

#[test]
fn what_was_found_once_stays_mended() {
    quiet::install();
    for (name, simulation, found) in FOUND {
        let job = JOBS.iter().find(|job| job.name == name).unwrap_or_else(|| panic!("there is no job `{name}`"));
        let simulation = simulation.parse().unwrap_or_else(|error| panic!("{simulation}: {error}"));
        job.twice(&simulation).unwrap_or_else(|trouble| panic!("{trouble}\nit had found: {found}"));
    }
}
