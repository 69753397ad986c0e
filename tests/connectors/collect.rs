//! The sinks in memory.

use std::sync::{Arc, Mutex};

use alluvium::connect::sink::{CommitOutcome, Guarantee, Sink, SinkCommit, SinkWriter};
use alluvium::connect::{Collect, ForEach};
use alluvium::record::batch::Slice;
use alluvium::testing::disk::SimulatedDisk;
use alluvium::testing::host::{ManualHost, Site};
use alluvium::testing::sinks::{SinkTrial, check_exactly_once};

use crate::site;

#[test]
fn collected_records_are_those_of_completed_checkpoints_each_once() {
    let mut attempts = 0;
    for seed in 0..40 {
        let collect = Collect::new();
        let look = collect.clone();
        attempts += check_exactly_once(
            &collect,
            SinkTrial {
                records: (0..1500_u32).collect(),
                parallelism: 1 + seed as u32 % 3,
                job: "trial".to_owned(),
                uid: "collect".to_owned(),
                restart: &mut |_| Arc::new(SimulatedDisk::new()),
                committed: &|| look.collected(),
            },
            seed,
        );
    }
    assert!(attempts > 100, "the trial died only {attempts} times");
}

#[test]
fn a_start_without_a_checkpoint_begins_a_new_collection() {
    let site = site(&SimulatedDisk::new(), 1);
    let host = ManualHost::new(1);
    let collect = Collect::new();
    for _ in 0..2 {
        let mut committer = Sink::<u8>::committer(&collect, site.sink_scope()).unwrap();
        committer.open(None).unwrap();
        let mut writer = Sink::<u8>::writer(&collect, site.sink_context(&host, 0)).unwrap();
        writer.write_batch(&mut Slice { records: vec![1, 2], timestamps: vec![], hashes: vec![] }).unwrap();
        let checkpoint = alluvium_actors::ids::CheckpointId(1);
        writer.prepare(checkpoint).unwrap();
        for part in host.drive(|context| writer.poll_prepared(checkpoint, context)).unwrap() {
            let _ = committer.commit(part);
        }
        assert_eq!(collect.collected(), [1, 2]);
    }
}

#[test]
fn what_one_sink_begins_anew_leaves_to_the_others_what_they_collected() {
    let disk = SimulatedDisk::new();
    let checkpoint = alluvium_actors::ids::CheckpointId(1);
    let collect = Collect::new();
    let collect_as = |job: &str, uid: &str, record: u8| {
        let site = Site { job: job.into(), uid: uid.into(), ..site(&disk, 1) };
        let host = ManualHost::new(1);
        let mut committer = Sink::<u8>::committer(&collect, site.sink_scope()).unwrap();
        committer.open(None).unwrap();
        let mut writer = Sink::<u8>::writer(&collect, site.sink_context(&host, 0)).unwrap();
        writer.write_batch(&mut Slice { records: vec![record], timestamps: vec![], hashes: vec![] }).unwrap();
        writer.prepare(checkpoint).unwrap();
        for part in host.drive(|context| writer.poll_prepared(checkpoint, context)).unwrap() {
            assert_eq!(committer.commit(part.clone()), CommitOutcome::Done);
            assert_eq!(committer.commit(part), CommitOutcome::AlreadyDone);
        }
    };
    collect_as("job", "even", 2);
    collect_as("job", "odd", 1);
    collect_as("another", "even", 4);
    assert_eq!(collect.collected(), [4, 2, 1]);
    collect_as("job", "even", 6);
    assert_eq!(collect.collected(), [4, 6, 1]);
}

#[test]
fn for_each_calls_at_once_and_promises_no_more_than_that() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let sink = ForEach::new(move |record: u8| keep.lock().unwrap().push(record));
    assert_eq!(Sink::<u8>::guarantee(&sink), Guarantee::AtLeastOnce);
    let site = site(&SimulatedDisk::new(), 1);
    let mut writer = Sink::<u8>::writer(&sink, site.sink_context(&ManualHost::new(1), 0)).unwrap();
    let mut slice = Slice { records: vec![3, 4], timestamps: vec![], hashes: vec![] };
    writer.write_batch(&mut slice).unwrap();
    assert!(slice.is_empty());
    assert_eq!(*seen.lock().unwrap(), [3, 4]);
}
