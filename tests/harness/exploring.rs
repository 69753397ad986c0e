//! Exploration: what it runs, what it says was not tested, and how what it finds becomes small and is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium::testing::check::{ExactlyOnce, PerKeyOrder};
use alluvium::testing::explore::{Exploration, Found, Hits, Replay, ReplayError, ScheduleFile};
use alluvium::testing::faults::{Action, Point};
use alluvium::testing::simulation::{EventFault, Faults, ScheduledFault, Simulation};
use alluvium::testing::{JobTest, TestRun};
use alluvium::{Job, LocalRecovery, Options};

use crate::billing::{Bill, Order, billing, order};

/// Small jobs: the number of runs of an exploration grows with them.
const ORDERS: u64 = 40;

fn options() -> Options {
    Options::default().inline_limit(64).checkpoint_every(Duration::from_millis(10)).continue_on_checkpoint_errors()
}

fn right() -> JobTest<'static> {
    right_with(options())
}

/// Barriers overtake and there are local copies, so that their points are reached too.
fn right_everywhere() -> JobTest<'static> {
    right_with(options().unaligned().local_recovery(LocalRecovery::default()))
}

fn right_with(options: Options) -> JobTest<'static> {
    JobTest::new(move |run: &mut TestRun| {
        let orders = run.records("orders", ORDERS, order).splits(2).rate(2_000);
        let bills = run.ledger("bills");
        run.check(ExactlyOnce::new(&orders, |order| order.number, &bills, |bill: &Bill| bill.order));
        run.check(PerKeyOrder::new(&bills, |bill| bill.customer, |bill| bill.sequence).without_gaps());
        run.options(options.clone());
        run.job(move |_| billing(orders.clone(), bills.clone()));
    })
    .once()
}

/// Its operator counts in a plain field, which no checkpoint holds.
fn forgetful() -> JobTest<'static> {
    forgetful_and(true)
}

/// The same job, and whether anybody looks.
fn forgetful_and(looked_at: bool) -> JobTest<'static> {
    JobTest::new(move |run: &mut TestRun| {
        let orders = run.records("orders", ORDERS, order).rate(2_000);
        let bills = run.ledger("bills");
        if looked_at {
            run.check(PerKeyOrder::new(&bills, |bill: &Bill| bill.customer, |bill| bill.sequence).without_gaps());
        }
        run.options(options());
        run.job(move |_| {
            let job = Job::new("forgetful");
            let counted = Arc::new(AtomicU64::new(0));
            let bills = bills.clone();
            let bill = move |order: Order| Bill {
                customer: 0,
                sequence: counted.fetch_add(1, Ordering::Relaxed) + 1,
                order: order.number,
            };
            job.source("orders", orders.clone()).map(bill).sink("bills", bills);
            job.build()
        });
    })
    .once()
}

fn found_in(test: &JobTest<'_>, threads: usize) -> Box<Found> {
    let exploration = Exploration::of(test).named("forgetful").random(0..100).threads(threads);
    exploration.try_run().expect_err("a counter in a plain field was not noticed")
}

#[test]
fn a_right_job_survives_every_fault_at_every_point_and_no_point_is_left_out() {
    let report =
        Exploration::of(&right_everywhere()).points_at(Hits::First).crashes(5).pairs(60).random(0..60).threads(2).run();
    println!("{report}");
    assert_eq!(report.never_struck(), []);
    // What only a fault leads to is reached behind that fault.
    for point in [Point::DeclineReceived, Point::AbortReceived, Point::RestoreBlob, Point::ManifestReadBack] {
        assert!(report.reached.contains_key(&point), "{point}");
    }
    for action in Action::ALL {
        assert!(report.struck.keys().any(|(_, struck)| struck == action), "{action}");
    }
    let stages: Vec<&str> = report.stages.iter().map(|stage| stage.name).collect();
    assert_eq!(
        stages,
        [
            "without faults",
            "a fault at a point",
            "a fault at a point behind a fault",
            "crashes at changes of the disk",
            "crashes at events",
            "pairs of faults",
            "random"
        ]
    );
    assert!(report.stages.iter().all(|stage| stage.made == stage.planned), "{report}");
    assert_eq!(report.never_reached(), []);
}

#[test]
fn what_was_not_tested_is_said_point_by_point() {
    // Of one calm run, which comes past nothing that only a failure leads to.
    let report = Exploration::of(&right_everywhere()).run();
    let never = report.never_reached();
    let failures_lead_to = [
        Point::RestoreBlob,
        Point::LocalRead,
        Point::DeclineSent,
        Point::DeclineReceived,
        Point::ManifestReadBack,
        Point::AbortSent,
        Point::AbortReceived,
        Point::BlobsDelete,
    ];
    assert_eq!(never, failures_lead_to);
    let text = report.to_string();
    let said = text.lines().last().and_then(|line| line.strip_prefix("never reached, so not tested: "));
    let said: Vec<&str> = said.unwrap_or_else(|| panic!("{text}")).split(", ").collect();
    assert_eq!(said, never.iter().map(|point| point.name()).collect::<Vec<_>>());
}

#[test]
fn a_wrong_job_is_found_by_chance_and_shrinks_to_one_crash() {
    let found = found_in(&forgetful(), 2);
    let from = found.failures()[0].0.clone();
    assert_eq!(from.faults(), &Faults::Random);
    let shrunk = found.shrunk().simulation();
    let Faults::Exactly(schedule) = shrunk.faults() else { panic!("{shrunk}") };
    assert!(found.shrunk().is_complete(), "{found}");
    assert!(
        matches!(schedule.faults(), [ScheduledFault::Event { process: 1, what: EventFault::Crash(_), .. }])
            || matches!(schedule.faults(), [ScheduledFault::Effect { process: 1, .. }]),
        "{found}"
    );
    let text = found.to_string();
    assert!(text.contains("order per key is violated") && text.contains("ALLUVIUM_SIMULATION_SEED='"), "{text}");
    // The smallest one fails by itself, and without its fault it does not.
    let again = forgetful().try_run(&shrunk).expect_err("it fails");
    assert_eq!(again.reason(), found.shrunk().trouble().reason());
    forgetful().try_run(&shrunk.with(Faults::None)).expect("without faults it is right");
}

#[test]
fn what_is_found_does_not_depend_on_the_number_of_threads() {
    let (one, three) = (found_in(&forgetful(), 1), found_in(&forgetful(), 3));
    assert_eq!(one.failures()[0], three.failures()[0]);
    assert_eq!(one.shrunk().simulation(), three.shrunk().simulation());
    assert_eq!(one.shrunk().runs(), three.shrunk().runs());
}

#[test]
fn what_was_found_is_saved_and_fails_for_ever_until_it_is_mended() {
    let directory = tempfile::tempdir().expect("a directory");
    let wrong = forgetful();
    let exploration = Exploration::of(&wrong).named("billing").random(0..100).threads(1).save_to(directory.path());
    let found = exploration.try_run().expect_err("a counter in a plain field was not noticed");
    let path = found.saved().expect("it is saved").clone();
    assert_eq!(ScheduleFile::read(&path).expect("it is read").simulation(), found.shrunk().simulation());
    let errors = Replay::of(directory.path()).job("billing", &wrong).try_run().expect_err("it is not mended");
    assert!(matches!(errors.as_slice(), [ReplayError::Failed { .. }]), "{errors:?}");
    assert!(errors[0].to_string().contains(&path.display().to_string()), "{}", errors[0]);
    let right = right();
    assert_eq!(Replay::of(directory.path()).job("billing", &right).run().files, 1);
    // Files that say something else are not silently left out.
    let errors = Replay::of(directory.path()).job("invoices", &right).try_run().expect_err("no such scenario");
    assert!(errors[0].to_string().contains("there is no scenario `billing`; known are `invoices`"), "{}", errors[0]);
    std::fs::write(directory.path().join("broken.schedule"), "alluvium schedule 9\n").expect("it is written");
    let errors = Replay::of(directory.path()).job("billing", &right).try_run().expect_err("another version");
    assert!(errors.len() == 1 && errors[0].to_string().contains("version 9"), "{errors:?}");
    let errors = Replay::of(directory.path().join("missing")).try_run().expect_err("no such directory");
    assert!(matches!(errors.as_slice(), [ReplayError::Directory { .. }]), "{errors:?}");
}

#[test]
fn a_time_budget_that_is_spent_is_said() {
    let report = Exploration::of(&right()).random(0..1_000).time_budget(Duration::ZERO).run();
    assert!(report.is_out_of_time);
    assert_eq!(report.runs(), 1);
    assert!(report.to_string().contains("random: 0 of 1000"), "{report}");
}

#[test]
fn a_saved_schedule_of_which_a_fault_strikes_nothing_tests_nothing_any_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let right = right();
    let replay = |faults: &str| {
        let text = format!(
            "alluvium schedule 1\nscenario: billing\nreason: it was wrong\nseed: 1\norder: plain\nfaults:\n{faults}\n"
        );
        std::fs::write(directory.path().join("kept.schedule"), text).expect("it is written");
        Replay::of(directory.path()).job("billing", &right).try_run()
    };
    let striking = "event[process=1,hit=40]=crash(process)\neffect[process=2,hit=3]=power-cut\nend[process=2]=machine\nevent[process=3,hit=9]=panic\n\
                    disk[operation=sync,process=3]=error\ncommit.done=crash(process)";
    assert_eq!(replay(striking).expect("all of them strike").files, 1);
    for dead in [
        "event[process=1,hit=900000]=crash(process)",
        "event[process=1,hit=900000]=panic",
        "event[process=70,hit=1]=panic",
        "effect[process=1,hit=900000]=error",
        "effect[process=70,hit=1]=power-cut",
        "end[process=70]=machine",
        "disk[operation=sync,process=70]=error",
        "commit.done[operator=bilss]=crash(process)",
    ] {
        let errors = replay(&format!("event[process=1,hit=40]=crash(process)\n{dead}")).expect_err(dead);
        let [ReplayError::NeverStruck { faults, reason, .. }] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!((faults.as_slice(), reason.as_str()), ([dead.to_owned()].as_slice(), "it was wrong"));
        assert!(
            errors[0].to_string().contains(&format!("never struck: {dead}; since it was saved the job has changed")),
            "{}",
            errors[0]
        );
    }
}

#[test]
fn a_failure_that_does_not_come_again_from_its_schedule_is_told_and_not_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wrong, right) = (forgetful(), right());
    // What the faults of a seed are named one by one it is right with: something in it depends on more than the run.
    let play = |simulation: &Simulation| match simulation.faults() {
        Faults::Random => wrong.try_run(simulation),
        _ => right.try_run(simulation),
    };
    let exploration = Exploration::playing("moody", play).random(0..100).threads(1).save_to(directory.path());
    let found = exploration.try_run().expect_err("it fails with a seed");
    assert_eq!((found.file(), found.saved()), (None, None));
    assert_eq!(found.shrunk().simulation(), found.failures()[0].0, "as it was found");
    let text = found.to_string();
    assert!(text.contains("did not fail in the same way again when everything that went wrong"), "{text}");
    assert!(!text.contains("to save it"), "what does not come again cannot be kept: {text}");
    assert!(std::fs::read_dir(directory.path()).expect("it is there").next().is_none());
}

#[test]
fn what_is_not_to_be_made_smaller_is_saved_as_a_run_that_was_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let wrong = forgetful();
    let exploration =
        Exploration::of(&wrong).named("billing").random(0..100).shrinking_runs(0).save_to(directory.path());
    let found = exploration.try_run().expect_err("a counter in a plain field was not noticed");
    assert_eq!(found.shrunk().runs(), 1);
    let file = ScheduleFile::read(found.saved().expect("it is saved")).expect("it is read");
    let again = wrong.try_run(&file.simulation()).expect_err("it fails");
    assert_eq!(again.reason(), found.shrunk().trouble().reason());
    // And where nobody looks, all of it strikes as it did: it holds nothing that did not come to it.
    let unseen = Replay::of(directory.path()).job("billing", &forgetful_and(false)).try_run();
    assert!(unseen.is_ok(), "{unseen:?}");
}

#[test]
fn a_schedule_file_that_cannot_be_read_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    // A directory in the place of a file: whoever runs the tests, it cannot be read.
    std::fs::create_dir(directory.path().join("kept.schedule")).expect("it is made");
    let errors = Replay::of(directory.path()).try_run().expect_err("it is no file");
    assert!(matches!(errors.as_slice(), [ReplayError::Unreadable { .. }]), "{errors:?}");
    let text = errors[0].to_string();
    assert!(
        text.contains("kept.schedule cannot be read: ") && text.contains("give this user the right to read it"),
        "{text}"
    );
}
