//! The exactly-once file sink, step by step: whose directory it is, what is output and what is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use alluvium::OperatorError;
use alluvium::connect::Lines;
use alluvium::connect::lines::{LinesCommitter, LinesState, LinesWriter, PendingFile};
use alluvium::connect::sink::{CommitOutcome, Sink, SinkCommit, SinkWriter};
use alluvium::record::batch::Slice;
use alluvium::testing::disk::{DiskFault, SimulatedDisk};
use alluvium::testing::host::{ManualHost, Site};
use alluvium_actors::ids::CheckpointId;
use alluvium_actors::ports::fence::FenceSource;
use alluvium_actors::ports::files::FileOperation;

use crate::site;

fn lines() -> Lines {
    Lines::exactly_once("/out").suffix(".csv")
}

fn committer(site: &Site) -> LinesCommitter {
    Sink::<String>::committer(&lines(), site.sink_scope()).unwrap()
}

/// A writer that is ready.
fn writer(host: &ManualHost, site: &Site) -> LinesWriter {
    let mut writer = Sink::<String>::writer(&lines(), site.sink_context(host, 0)).unwrap();
    host.drive(|context| SinkWriter::<String>::poll_ready(&mut writer, context)).unwrap();
    writer
}

fn write(writer: &mut LinesWriter, text: &[&str]) {
    let records = text.iter().map(|line| (*line).to_owned()).collect::<Vec<String>>();
    writer.write_batch(&mut Slice { records, timestamps: vec![], hashes: vec![] }).unwrap();
}

fn prepare(host: &ManualHost, writer: &mut LinesWriter, id: u64) -> Result<Vec<PendingFile>, OperatorError> {
    SinkWriter::<String>::prepare(writer, CheckpointId(id)).unwrap();
    host.drive(|context| SinkWriter::<String>::poll_prepared(writer, CheckpointId(id), context))
}

fn state(writer: &mut LinesWriter) -> LinesState {
    SinkWriter::<String>::snapshot(writer, CheckpointId(0))
}

/// Writes two lines in a first run; gives what its checkpoint holds.
fn first_run(site: &Site) -> (Vec<PendingFile>, LinesState) {
    let host = ManualHost::new(1);
    committer(site).open(None).unwrap();
    let mut writer = writer(&host, site);
    write(&mut writer, &["one", "two"]);
    (prepare(&host, &mut writer, 1).unwrap(), state(&mut writer))
}

fn second(site: &Site) -> Site {
    Site { run: 2, restored: Some(1), ..site.clone() }
}

/// The files of the directory whose names end in `suffix`.
fn files(disk: &SimulatedDisk, suffix: &str) -> Vec<PathBuf> {
    disk.files()
        .into_iter()
        .filter(|path| path.starts_with("/out") && path.to_string_lossy().ends_with(suffix))
        .collect()
}

fn content(disk: &SimulatedDisk, path: &Path) -> String {
    String::from_utf8(disk.content(path).unwrap()).unwrap()
}

fn refusal(opened: Result<(), OperatorError>) -> String {
    let error = opened.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    error.to_string()
}

#[test]
fn lines_become_output_when_they_are_committed() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    let (prepared, _) = first_run(&site);
    assert_eq!((files(&disk, ".csv").len(), files(&disk, ".pending").len(), prepared.len()), (0, 1, 1));
    assert_eq!(committer(&site).commit(prepared[0].clone()), CommitOutcome::Done);
    assert_eq!(committer(&site).commit(prepared[0].clone()), CommitOutcome::AlreadyDone);
    let output = files(&disk, ".csv");
    assert_eq!(content(&disk, &output[0]), "one\ntwo\n");
    assert_eq!(
        output[0].to_string_lossy(),
        "/out/trial-connector-r0000000001-c00000000000000000001-s0-0.csv",
        "job, operator, run, checkpoint and subtask are in the name"
    );
    assert!(files(&disk, ".pending").is_empty() && files(&disk, ".inprogress").is_empty());
}

#[test]
fn a_checkpoint_without_records_makes_no_file() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    committer(&site).open(None).unwrap();
    let host = ManualHost::new(1);
    let mut writer = writer(&host, &site);
    assert_eq!(prepare(&host, &mut writer, 1).unwrap(), []);
    assert_eq!(disk.files(), [Path::new("/out/.alluvium-owner")]);
}

#[test]
fn what_is_prepared_survives_a_crash_before_it_is_acknowledged() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new();
        let (prepared, state) = first_run(&site(&disk, 1));
        let disk = disk.crash(seed);
        let site = second(&site(&disk, 1));
        let mut committer = committer(&site);
        committer.open(Some(vec![state])).unwrap();
        assert_eq!(committer.commit(prepared[0].clone()), CommitOutcome::Done, "seed {seed}");
        let disk = disk.crash(seed);
        assert_eq!(content(&disk, &files(&disk, ".csv")[0]), "one\ntwo\n", "seed {seed}");
    }
}

#[test]
fn several_checkpoints_may_be_prepared_before_the_first_is_asked_for() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    committer(&site).open(None).unwrap();
    let host = ManualHost::new(1);
    let mut writer = writer(&host, &site);
    for id in 1..=3 {
        write(&mut writer, &[&format!("line {id}")]);
        SinkWriter::<String>::prepare(&mut writer, CheckpointId(id)).unwrap();
    }
    for id in 1..=3 {
        let prepared =
            host.drive(|context| SinkWriter::<String>::poll_prepared(&mut writer, CheckpointId(id), context)).unwrap();
        assert_eq!(committer(&site).commit(prepared[0].clone()), CommitOutcome::Done);
        assert_eq!(content(&disk, &files(&disk, ".csv")[id as usize - 1]), format!("line {id}\n"));
    }
}

#[test]
fn a_writer_takes_no_more_records_while_two_buffers_wait() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    committer(&site).open(None).unwrap();
    let host = ManualHost::new(1);
    let mut writer = writer(&host, &site);
    let line = "x".repeat(128 * 1024);
    let waker = host.waker();
    let mut context = Context::from_waker(&waker);
    let mut taken = 0;
    while SinkWriter::<String>::poll_ready(&mut writer, &mut context).is_ready() {
        write(&mut writer, &[&line]);
        taken += line.len();
        assert!(taken < 4 << 20, "{taken} bytes were taken and none was written");
    }
    assert!(taken > 2 << 20);
    let before = host.wakes();
    host.run_blocking();
    assert!(host.wakes() > before, "nobody was woken");
    assert!(matches!(SinkWriter::<String>::poll_ready(&mut writer, &mut context), Poll::Ready(Ok(()))));
    let prepared = prepare(&host, &mut writer, 1).unwrap();
    assert_eq!(committer(&site).commit(prepared[0].clone()), CommitOutcome::Done);
    assert_eq!(content(&disk, &files(&disk, ".csv")[0]).len(), taken / line.len() * (line.len() + 1));
}

#[test]
fn leftovers_are_removed_and_files_of_others_are_not() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    let (_, state) = first_run(&site);
    let host = ManualHost::new(2);
    let mut writer = writer(&host, &site);
    write(&mut writer, &["lost"]);
    SinkWriter::<String>::prepare(&mut writer, CheckpointId(2)).unwrap();
    assert!(host.run_one_blocking(), "the lines are written, and not prepared");
    let others = [
        "/out/other-connector-r0000000001-s0-0.inprogress",
        "/out/trial-connector2-r0000000001-c00000000000000000001-s0-0.csv.pending",
        "/out/trial-connector-report.pending",
        "/out/notes.txt",
    ];
    for other in others {
        disk.set_content(Path::new(other), b"theirs");
    }
    assert_eq!(files(&disk, ".inprogress").len(), 2);
    // Of a wider former parallelism too.
    disk.set_content(Path::new("/out/trial-connector-r0000000001-s9-3.inprogress"), b"ours");
    let mut committer = committer(&second(&site));
    committer.open(Some(vec![state])).unwrap();
    committer.clean_up().unwrap();
    let mut left: Vec<PathBuf> = others.iter().map(PathBuf::from).collect();
    left.push(PathBuf::from("/out/.alluvium-owner"));
    left.sort();
    assert_eq!(disk.files(), left);
}

#[test]
fn a_directory_that_was_wiped_is_refused() {
    let disk = SimulatedDisk::new();
    let (prepared, state) = first_run(&site(&disk, 1));
    let wiped = SimulatedDisk::new();
    let site = second(&site(&wiped, 1));
    let text = refusal(committer(&site).open(Some(vec![state])));
    assert!(text.contains("/out is not the one that the checkpoint wrote to, or it was wiped"), "{text}");
    // Also when only the files are gone.
    let CommitOutcome::Fatal(error) = committer(&site).commit(prepared[0].clone()) else { panic!("it was committed") };
    assert!(error.to_string().contains("changed or wiped") && error.to_string().contains("-s0-0.csv"), "{error}");
}

#[test]
fn another_directory_of_the_same_job_is_refused() {
    let disk = SimulatedDisk::new();
    let first = site(&disk, 1);
    let (_, state) = first_run(&first);
    // The same job used another directory in a run that came to no checkpoint.
    let elsewhere = SimulatedDisk::new();
    committer(&Site { run: 7, ..site(&elsewhere, 1) }).open(None).unwrap();
    let text = refusal(committer(&Site { run: 8, restored: Some(1), ..site(&elsewhere, 1) }).open(Some(vec![state])));
    assert!(text.contains("is not the one that the checkpoint wrote to"), "{text}");
}

#[test]
fn a_directory_of_another_job_is_refused() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    first_run(&site);
    let text = refusal(committer(&Site { job: "other".to_owned(), ..site.clone() }).open(None));
    assert!(text.contains("belongs to the job `trial`"), "{text}");
    let text = refusal(committer(&Site { store: "ffffffffffffffff".to_owned(), ..site }).open(None));
    assert!(text.contains("from another store"), "{text}");
}

#[test]
fn output_without_a_checkpoint_is_refused() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    let (prepared, _) = first_run(&site);
    // Nothing was committed yet: the job may begin again.
    committer(&Site { run: 2, ..site.clone() }).open(None).unwrap();
    let _ = committer(&site).commit(prepared[0].clone());
    let text = refusal(committer(&Site { run: 3, ..site }).open(None));
    assert!(text.contains("holds output of this sink") && text.contains("choose another directory"), "{text}");
}

#[test]
fn a_damaged_owner_file_is_refused() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    let (_, state) = first_run(&site);
    disk.set_content(Path::new("/out/.alluvium-owner"), b"alluvium output directory, format 9\n");
    let text = refusal(committer(&second(&site)).open(Some(vec![state])));
    assert!(text.contains("/out/.alluvium-owner is damaged"), "{text}");
}

#[test]
fn a_changed_file_is_never_committed_or_replaced() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    let (prepared, _) = first_run(&site);
    let pending = files(&disk, ".pending").remove(0);
    let output = pending.with_extension("");
    disk.set_content(&output, b"theirs\n!");
    let CommitOutcome::Fatal(error) = committer(&site).commit(prepared[0].clone()) else { panic!("it was committed") };
    assert!(error.to_string().contains("other content"), "{error}");
    assert_eq!(content(&disk, &output), "theirs\n!");
    // The same content under both names is a commit that was half done.
    disk.set_content(&output, b"one\ntwo\n");
    assert_eq!(committer(&site).commit(prepared[0].clone()), CommitOutcome::AlreadyDone);
    assert!(files(&disk, ".pending").is_empty());
    // And a prepared file that was cut is not committed.
    let disk = SimulatedDisk::new();
    let site = crate::site(&disk, 1);
    let (prepared, _) = first_run(&site);
    disk.set_content(&files(&disk, ".pending")[0], b"one");
    assert!(matches!(committer(&site).commit(prepared[0].clone()), CommitOutcome::Fatal(_)));
}

#[test]
fn an_attempt_that_is_over_changes_nothing() {
    let disk = SimulatedDisk::new();
    let fences = FenceSource::new();
    let site = Site { fence: fences.advance(), ..site(&disk, 1) };
    let (prepared, _) = first_run(&site);
    let host = ManualHost::new(1);
    let mut writer = writer(&host, &site);
    write(&mut writer, &["late"]);
    let _next = fences.advance();
    let before = (disk.effects(), disk.files());
    assert!(prepare(&host, &mut writer, 2).unwrap_err().to_string().contains("is over"));
    assert!(matches!(committer(&site).commit(prepared[0].clone()), CommitOutcome::Fatal(_)));
    assert!(committer(&site).clean_up().is_err());
    assert!(committer(&site).open(None).is_err());
    assert_eq!((disk.effects(), disk.files()), before);
}

#[test]
fn a_full_disk_is_worth_a_restart_and_a_failed_sync_of_the_directory_is_not() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    committer(&site).open(None).unwrap();
    let host = ManualHost::new(1);
    let mut full = writer(&host, &site);
    write(&mut full, &["one"]);
    disk.set_free_space(Some(1));
    assert!(prepare(&host, &mut full, 1).unwrap_err().is_retryable());
    disk.set_free_space(None);
    let site = Site { run: 2, ..site };
    let mut unsynced = writer(&host, &site);
    write(&mut unsynced, &["one"]);
    disk.fail_next(FileOperation::SyncDirectory, DiskFault::FailedSync);
    let error = prepare(&host, &mut unsynced, 2).unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("check the disk"), "{error}");
}

#[test]
fn a_commit_waits_for_a_full_disk_and_gives_up_a_broken_one() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    let (prepared, _) = first_run(&site);
    let mut committer = committer(&site);
    for _ in 0..20 {
        disk.fail_next(FileOperation::Rename, DiskFault::FullDisk);
        assert!(matches!(committer.commit(prepared[0].clone()), CommitOutcome::RetryAfter(_)));
    }
    let mut put_off = 0;
    loop {
        disk.fail_next(FileOperation::Rename, DiskFault::Error);
        match committer.commit(prepared[0].clone()) {
            CommitOutcome::RetryAfter(_) => put_off += 1,
            CommitOutcome::Fatal(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!((1..10).contains(&put_off));
    // A rename that was done and said otherwise is found done.
    disk.fail_next(FileOperation::Rename, DiskFault::ErrorAfterwards);
    assert!(matches!(committer.commit(prepared[0].clone()), CommitOutcome::RetryAfter(_)));
    assert_eq!(committer.commit(prepared[0].clone()), CommitOutcome::AlreadyDone);
}

#[test]
fn sinks_of_one_job_share_a_directory() {
    let disk = SimulatedDisk::new();
    let first = site(&disk, 1);
    let (prepared, state) = first_run(&first);
    let _ = committer(&first).commit(prepared[0].clone());
    let other = Site { uid: "other".to_owned(), ..first.clone() };
    committer(&other).open(None).unwrap();
    committer(&second(&first)).open(Some(vec![state])).unwrap();
}

#[test]
fn a_committable_that_names_something_else_is_refused() {
    let disk = SimulatedDisk::new();
    let site = site(&disk, 1);
    let (prepared, _) = first_run(&site);
    disk.set_content(Path::new("/secret.pending"), b"one\ntwo\n");
    let encoded = serde_json::to_value(&prepared[0]).unwrap();
    for name in ["../secret", "/secret", "notes.txt"] {
        let mut hostile = encoded.clone();
        hostile["name"] = name.into();
        let outcome = committer(&site).commit(serde_json::from_value(hostile).unwrap());
        assert!(matches!(outcome, CommitOutcome::Fatal(_)), "{name}: {outcome:?}");
    }
}

#[test]
fn a_suffix_that_would_hide_output_is_refused() {
    let site = site(&SimulatedDisk::new(), 1);
    for suffix in ["", "csv", ".", ".pending", ".csv.inprogress", ".a/b"] {
        let sink = Lines::exactly_once("/out").suffix(suffix);
        let error = Sink::<String>::committer(&sink, site.sink_scope()).unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("give a suffix like"), "{suffix:?}: {error}");
    }
}

#[test]
fn a_directory_that_is_a_file_is_refused() {
    let disk = SimulatedDisk::new();
    disk.set_content(Path::new("/out"), b"a file");
    let text = refusal(committer(&site(&disk, 1)).open(None));
    assert!(text.contains("/out"), "{text}");
}

#[test]
fn writers_find_out_whose_directory_it_is_before_they_are_ready() {
    let disk = SimulatedDisk::new();
    let site = Site { files: Arc::new(disk.clone()), ..site(&disk, 1) };
    let host = ManualHost::new(1);
    let mut writer = Sink::<String>::writer(&lines(), site.sink_context(&host, 0)).unwrap();
    let error = host.drive(|context| SinkWriter::<String>::poll_ready(&mut writer, context)).unwrap_err();
    assert!(error.to_string().contains("lost its owner file"), "{error}");
}
