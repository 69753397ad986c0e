//! What a seed decides: a schedule with several faults, and what a process takes along when it ends.

use std::time::Duration;

use alluvium_actors::ports::files::FileOperation;

use super::schedule::{EventFault, Schedule, ScheduledFault};
use crate::fault::{Action, End, Fault, Point, Random, What};
use crate::testing::disk::{DiskFault, DiskRule};

/// How far into a process its faults lie, at most: about as far as small jobs come.
const EFFECTS: u64 = 120;
const EVENTS: u64 = 1024;
const HITS: u64 = 32;

/// After so many processes with faults, at most, nothing goes wrong any more.
const FAULTY_PROCESSES: u64 = 8;

/// The faults of a disk that a job has to live with.
const DISK_FAULTS: [DiskFault; 4] =
    [DiskFault::Error, DiskFault::ErrorAfterwards, DiskFault::FullDisk, DiskFault::FailedSync];

/// What may fail beside changes of the disk.
const READS: [FileOperation; 5] =
    [FileOperation::Open, FileOperation::Read, FileOperation::List, FileOperation::Metadata, FileOperation::Lock];

/// The faults that a seed stands for: several crashes, faults of the disk and, in every second run, faults at points; then none, for a job has to come to its end.
/// They do not depend on the job.
pub(super) fn schedule(seed: u64) -> Schedule {
    let mut random = Random::new(Random::new(seed).next());
    let mut points = Random::new(random.next());
    let processes = 1 + random.below(FAULTY_PROCESSES);
    let with_points = points.below(2) == 0;
    let mut faults = Vec::new();
    for process in 1..=processes as u32 {
        around_the_job(process, &mut random, &mut faults);
        if with_points {
            for _ in 0..points.below(3) {
                faults.push(ScheduledFault::Point(at_a_point(process, &mut points)));
            }
        }
    }
    Schedule::of(faults)
}

/// Crashes, and what the disk and the actors suffer.
fn around_the_job(process: u32, random: &mut Random, faults: &mut Vec<ScheduledFault>) {
    if random.below(3) == 0 {
        for _ in 0..=random.below(2) {
            let fault = *pick(&DISK_FAULTS, random);
            faults.push(ScheduledFault::Effect { process, effect: 1 + random.below(EFFECTS), fault });
        }
    }
    if random.below(6) == 0 {
        let rule = DiskRule::new(DiskFault::Error).operation(*pick(&READS, random));
        faults.push(ScheduledFault::Disk(rule.process(process).hit(soon(64, random))));
    }
    if random.below(6) == 0 {
        let event = 1 + random.below(EVENTS);
        faults.push(ScheduledFault::Event { process, event, what: EventFault::Panic });
    }
    let crash = |event| ScheduledFault::Event { process, event, what: EventFault::Crash(End::Any) };
    match random.below(8) {
        // It comes to its end, or fails by another fault.
        0 => {}
        1..4 => {
            let effect = 1 + random.below(EFFECTS);
            faults.push(ScheduledFault::Effect { process, effect, fault: DiskFault::PowerCut });
        }
        4..6 => faults.push(crash(1 + random.below(EVENTS))),
        _ => faults.push(crash(soon(EVENTS, random))),
    }
}

/// A fault at any point, anywhere.
fn at_a_point(process: u32, random: &mut Random) -> Fault {
    let point = *pick(Point::ALL, random);
    let actions: Vec<Action> = point.actions().iter().collect();
    let what = match pick(&actions, random) {
        Action::Crash => What::Crash(*pick(&[End::Process, End::Machine], random)),
        Action::Kill => What::Kill,
        Action::Error => What::Error,
        Action::Panic => What::Panic,
        Action::Delay => What::Delay(Duration::from_micros(soon(1 << 18, random))),
        Action::Drop => What::Drop,
        Action::Duplicate => What::Duplicate,
        Action::Hold => What::Hold(*pick(Point::ALL, random)),
    };
    let mut fault = Fault::at(point, what).expect("the point allows it").process(process).hit(soon(HITS, random));
    if random.below(3) == 0 {
        fault = fault.subtask(random.below(3) as u32);
    }
    if random.below(8) == 0 {
        fault = fault.checkpoint(1 + random.below(12)).hit(1);
    }
    if random.below(4) == 0 {
        fault = fault.times(2 + random.below(3));
    }
    if random.below(6) == 0 {
        let probability = *pick(&[0.1, 0.25, 0.5], random);
        fault = fault.probability(probability).expect("it is one");
    }
    fault
}

fn pick<'a, T>(all: &'a [T], random: &mut Random) -> &'a T {
    &all[random.below(all.len() as u64) as usize]
}

/// A number from 1 to about `most`, small ones as likely as large ones: many crashes come while a job starts.
fn soon(most: u64, random: &mut Random) -> u64 {
    let magnitude = random.below(u64::from(most.ilog2()) + 1);
    (1 << magnitude) + random.below(1 << magnitude)
}

/// What chance decides about the end of a process. It depends on the seed and the number of the process alone, so that it stays when other faults are left out.
pub(super) struct Ending {
    /// Whether the machine goes too, where nobody says.
    pub(super) machine: bool,
    /// What a machine loses.
    pub(super) loses: u64,
}

/// The end of a process.
pub(super) fn ending(seed: u64, process: u32) -> Ending {
    let mut random = Random::new(seed ^ (u64::from(process) << 40) ^ 0xe4d5);
    Ending { machine: random.below(2) == 0, loses: random.next() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn many_seeds_draw_every_action_at_every_point_and_every_fault_of_the_disk() {
        let mut drawn = BTreeSet::new();
        let mut kinds = [0_u32; 4];
        for seed in 0..20_000 {
            for fault in schedule(seed).faults() {
                match fault {
                    ScheduledFault::Point(fault) => {
                        drawn.insert((fault.point(), fault.what().action()));
                        kinds[0] += 1;
                    }
                    ScheduledFault::Event { .. } => kinds[1] += 1,
                    ScheduledFault::Effect { .. } => kinds[2] += 1,
                    ScheduledFault::Disk(_) => kinds[3] += 1,
                    ScheduledFault::End { .. } => panic!("ends are drawn by process"),
                }
            }
        }
        let all: usize = Point::ALL.iter().map(|point| point.actions().iter().count()).sum();
        assert_eq!(drawn.len(), all);
        assert!(kinds.iter().all(|count| *count > 1_000), "{kinds:?}");
    }

    #[test]
    fn every_second_seed_has_no_fault_at_a_point_and_no_process_has_faults_for_ever() {
        let seeds = || (0..2_000_u64).map(schedule);
        let without = seeds().filter(|schedule| schedule.points().is_empty()).count();
        assert!((900..1_500).contains(&without), "{without}");
        let last = seeds().flat_map(|schedule| schedule.faults().iter().map(|fault| fault.process()).max()).max();
        assert_eq!(last, Some(Some(FAULTY_PROCESSES as u32)));
    }

    #[test]
    fn a_drawn_schedule_is_read_back_from_its_text() {
        for seed in 0..500 {
            let schedule = schedule(seed);
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
        }
    }
}
