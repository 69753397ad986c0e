//! Schedules that once found something, run for ever: the files in `tests/sim/schedules`.

use std::path::Path;

use alluvium::testing::explore::Replay;

use crate::many_seeds::JOBS;
use crate::schedules::quiet;

fn replay() -> Replay<'static> {
    quiet::install();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/schedules");
    JOBS.iter().fold(Replay::of(directory), |replay, job| replay.playing(job.name, |simulation| job.twice(simulation)))
}

#[test]
fn what_was_found_once_stays_mended() {
    let replayed = replay().run();
    assert!(replayed.files > 0, "there are none");
}
