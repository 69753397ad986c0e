//! What is simpler than a fault: the candidates for making a failing schedule smaller, the simplest first.

use std::time::Duration;

use crate::fault::{End, Fault, What};
use crate::testing::disk::DiskFault;
use crate::testing::simulation::{EventFault, ScheduledFault};

/// Simpler faults. Each of them is further down an order without cycles: fewer words, a simpler action, an earlier hit, a shorter time, an earlier process.
pub(super) fn than(fault: &ScheduledFault) -> Vec<ScheduledFault> {
    let mut simpler = match fault {
        ScheduledFault::Point(fault) => at_point(fault).into_iter().map(ScheduledFault::Point).collect(),
        ScheduledFault::Event { process, event, what } => {
            let with = |event, what| ScheduledFault::Event { process: *process, event, what };
            let whats: &[EventFault] = match what {
                EventFault::Crash(End::Process) => &[],
                EventFault::Crash(End::Machine) => &[EventFault::Crash(End::Process)],
                EventFault::Crash(End::Any) => &[EventFault::Crash(End::Process), EventFault::Crash(End::Machine)],
                EventFault::Panic => &[EventFault::Crash(End::Process)],
            };
            let mut simpler: Vec<_> = whats.iter().map(|what| with(*event, *what)).collect();
            simpler.extend(earlier(*event).map(|event| with(event, *what)));
            simpler
        }
        ScheduledFault::Effect { process, effect, fault } => {
            let with = |effect, fault| ScheduledFault::Effect { process: *process, effect, fault };
            let cut = (*fault != DiskFault::PowerCut).then(|| with(*effect, DiskFault::PowerCut));
            cut.into_iter().chain(earlier(*effect).map(|effect| with(effect, *fault))).collect()
        }
        ScheduledFault::Disk(rule) => {
            let mut simpler = Vec::new();
            if rule.has_a_chance() {
                simpler.push(rule.clone().certainly());
            }
            if rule.strikes() != 1 {
                simpler.push(rule.clone().times(1));
            }
            simpler.extend(earlier(rule.first_hit()).map(|hit| rule.clone().hit(hit)));
            simpler.into_iter().map(ScheduledFault::Disk).collect()
        }
        ScheduledFault::End { .. } => Vec::new(),
    };
    if let Some(process) = fault.process().filter(|process| *process > 1) {
        simpler.push(fault.in_process(process - 1));
    }
    simpler
}

fn at_point(fault: &Fault) -> Vec<Fault> {
    let mut simpler = Vec::new();
    simpler.extend(fault.without_probability());
    if fault.strikes() != 1 {
        simpler.push(fault.clone().times(1));
    }
    simpler.extend(plainer(fault.what()).into_iter().filter_map(|what| fault.doing(what).ok()));
    simpler.extend(fault.with_one_filter_less());
    simpler.extend(earlier(fault.first_hit()).map(|hit| fault.clone().hit(hit)));
    simpler
}

/// Actions from the plainest to the subtlest: a crash needs no explanation, an order of messages does.
fn plainer(what: &What) -> Vec<What> {
    let ranks =
        [What::Crash(End::Process), What::Crash(End::Machine), What::Kill, What::Error, What::Panic, What::Drop];
    let shorter = |delay: Duration| (delay > Duration::from_micros(1)).then(|| What::Delay(rounded(delay / 4)));
    match what {
        What::Crash(End::Any) => ranks[..2].to_vec(),
        What::Duplicate => ranks.to_vec(),
        What::Delay(delay) => ranks.iter().cloned().chain(shorter(*delay)).collect(),
        What::Hold(_) => ranks.into_iter().chain([What::Delay(Duration::from_millis(1))]).collect(),
        listed => ranks.into_iter().take_while(|rank| rank != listed).collect(),
    }
}

/// Whole microseconds: shorter to read.
fn rounded(delay: Duration) -> Duration {
    Duration::from_micros((delay.as_micros() as u64).max(1))
}

/// Earlier numbers, the earliest first.
fn earlier(number: u64) -> impl Iterator<Item = u64> {
    let mut numbers = [1, number / 2, number - number / 4, number.saturating_sub(1)];
    numbers.sort_unstable();
    let mut last = 0;
    numbers.into_iter().filter(move |earlier| {
        let is_new = *earlier > last && *earlier < number;
        last = last.max(*earlier);
        is_new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        than(&text.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn simpler_faults_come_earlier_are_plainer_and_say_less() {
        assert_eq!(of("end[process=1]=machine"), [""; 0]);
        assert_eq!(of("event[process=1,hit=1]=crash(process)"), [""; 0]);
        assert_eq!(
            of("event[process=2,hit=8]=crash(machine)"),
            [
                "event[process=2,hit=8]=crash(process)",
                "event[process=2,hit=1]=crash(machine)",
                "event[process=2,hit=4]=crash(machine)",
                "event[process=2,hit=6]=crash(machine)",
                "event[process=2,hit=7]=crash(machine)",
                "event[process=1,hit=8]=crash(machine)",
            ]
        );
        assert_eq!(
            of("acknowledge.sent[subtask=1,hit=2,times=3,probability=0.5]=drop"),
            [
                "acknowledge.sent[subtask=1,hit=2,times=3]=drop",
                "acknowledge.sent[subtask=1,hit=2,probability=0.5]=drop",
                "acknowledge.sent[subtask=1,hit=2,times=3,probability=0.5]=crash(process)",
                "acknowledge.sent[subtask=1,hit=2,times=3,probability=0.5]=crash(machine)",
                "acknowledge.sent[subtask=1,hit=2,times=3,probability=0.5]=kill",
                "acknowledge.sent[subtask=1,hit=2,times=3,probability=0.5]=panic",
                "acknowledge.sent[hit=2,times=3,probability=0.5]=drop",
                "acknowledge.sent[subtask=1,times=3,probability=0.5]=drop",
            ]
        );
        assert_eq!(
            of("disk[operation=read,process=1,hit=2,times=4]=error"),
            ["disk[operation=read,process=1,hit=2]=error", "disk[operation=read,process=1,times=4]=error"]
        );
    }

    #[test]
    fn making_a_fault_simpler_comes_to_an_end() {
        for text in [
            "event[process=9,hit=1024]=panic",
            "effect[process=3,hit=120]=failed-sync",
            "barrier.sent[subtask=2,checkpoint=9,process=8,hit=32,times=4,probability=0.25]=hold(commit.done)",
            "blob.write[process=8,hit=32,times=4]=delay(262144us)",
            "disk[operation=open,process=4,hit=60,always]=slow(5ms)",
        ] {
            let mut fault: ScheduledFault = text.parse().unwrap();
            let mut steps = 0;
            // The worst case: the last candidate is always taken.
            while let Some(simpler) = than(&fault).pop() {
                fault = simpler;
                steps += 1;
                assert!(steps < 2_000, "{text}");
            }
        }
    }
}
