//! The exactly-once file sink against crashes: at random, and at every single effect on the disk.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use alluvium::connect::Lines;
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium::testing::sinks::{AttemptEnd, SinkTrial, check_exactly_once};

/// The lines of all output files.
fn output(disk: &SimulatedDisk) -> Vec<String> {
    let files = disk.files();
    let output = files.iter().filter(|path| path.starts_with("/out") && path.to_string_lossy().ends_with(".csv"));
    let content = output.map(|path| String::from_utf8(disk.content(path).unwrap()).unwrap());
    content.flat_map(|content| content.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Puts the sink through the trial. `crash` is called between two attempts with the disk, the number of the attempt before and the reason of its end.
fn trial(
    disk: SimulatedDisk,
    records: u32,
    parallelism: u32,
    seed: u64,
    crash: &dyn Fn(&SimulatedDisk, u64, AttemptEnd) -> SimulatedDisk,
) -> (SimulatedDisk, u64) {
    let alien = Path::new("/out/other-lines-r0000000001-s0-0.inprogress");
    disk.set_content(alien, b"theirs");
    let current = RefCell::new(disk);
    let mut attempts = 0;
    let attempts = check_exactly_once(
        &Lines::exactly_once("/out").suffix(".csv"),
        SinkTrial {
            records: (0..records).map(|record| format!("record {record}")).collect(),
            parallelism,
            job: "trial".to_owned(),
            uid: "lines".to_owned(),
            restart: &mut |reason| {
                attempts += 1;
                if let Some(reason) = reason {
                    let crashed = crash(&current.borrow(), attempts, reason);
                    *current.borrow_mut() = crashed;
                }
                Arc::new(current.borrow().clone())
            },
            committed: &|| output(&current.borrow()),
        },
        seed,
    );
    let disk = current.into_inner();
    // What was committed stays, also when the machine goes down right after.
    let disk = disk.crash(seed);
    assert_eq!(output(&disk).len(), records as usize, "committed lines were lost");
    assert_eq!(disk.content(alien).as_deref(), Some(b"theirs".as_slice()), "a file of another job was touched");
    (disk, attempts)
}

#[test]
fn killed_at_any_moment_every_line_is_output_once() {
    let mut attempts = 0;
    for seed in 0..60 {
        let (_, tried) = trial(SimulatedDisk::new(), 800, 1 + seed as u32 % 3, seed, &|disk, attempt, reason| {
            assert_eq!(reason, AttemptEnd::Killed);
            // The process, or the machine with all that was not synced.
            if attempt % 2 == 0 { disk.kill_process() } else { disk.crash(seed + attempt) }
        });
        attempts += tried;
    }
    assert!(attempts > 150, "the trial died only {attempts} times");
}

#[test]
fn with_the_power_cut_at_every_single_effect_every_line_is_output_once() {
    let (disk, _) = trial(SimulatedDisk::new(), 300, 2, 11, &|disk, _, _| disk.kill_process());
    let effects = disk.effects();
    assert!(effects > 40, "{effects} effects");
    for effect in 1..=effects {
        for seed in 0..4 {
            let disk = SimulatedDisk::new();
            disk.fail_at_effect(effect, DiskFault::PowerCut);
            let (disk, _) = trial(disk, 300, 2, 11, &|disk, attempt, reason| {
                let by_power_cut = disk.is_powered_off();
                assert!(by_power_cut || reason == AttemptEnd::Killed, "{reason:?}");
                if by_power_cut { disk.crash(seed * 1000 + attempt) } else { disk.kill_process() }
            });
            assert_eq!(output(&disk).len(), 300);
        }
    }
}

#[test]
fn with_an_error_at_every_single_effect_every_line_is_output_once() {
    let (disk, _) = trial(SimulatedDisk::new(), 200, 1, 5, &|disk, _, _| disk.kill_process());
    for effect in 1..=disk.effects() {
        for fault in [DiskFault::Error, DiskFault::ErrorAfterwards, DiskFault::FullDisk, DiskFault::FailedSync] {
            let disk = SimulatedDisk::new();
            disk.fail_at_effect(effect, fault);
            // Whatever the error, the next start of the job mends it. (After a failed sync the machine is started again too.)
            trial(disk, 200, 1, 5, &|disk, attempt, reason| match reason {
                AttemptEnd::Killed => disk.kill_process(),
                AttemptEnd::Failed(_) => disk.crash(effect * 100 + attempt),
            });
        }
    }
}
