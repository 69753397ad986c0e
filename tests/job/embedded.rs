//! Jobs inside of a user's own actix `System`: what they share with it, and what becomes of them when it stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actix::{Actor, Arbiter, Context, Handler, Message, System};
use alluvium::connect::{Collect, Generator};
use alluvium::{Arbiters, Job, JobError, JobEvent, JobHandle, JobOutcome, JobState, Listener, Options};

use crate::{assert_exact, every_20_ms, lines, numbers, numbers_named};

/// An actor of the user's.
struct Counter(u64);

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Count;

impl Handler<Count> for Counter {
    type Result = u64;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// Calls a function with every event.
struct Hears<F>(F);

impl<F: Fn(JobEvent) + Send + Sync> Listener for Hears<F> {
    fn event(&self, event: JobEvent) {
        (self.0)(event);
    }
}

fn hears(function: impl Fn(JobEvent) + Send + Sync + 'static) -> Arc<dyn Listener> {
    Arc::new(Hears(function))
}

fn threads_of(job: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.contains(job)).collect()
}

#[test]
fn two_jobs_and_two_stores_live_beside_the_users_actors_on_one_arbiter() {
    let place = tempfile::tempdir().unwrap();
    System::new().block_on(async {
        let counter = Counter(0).start();
        let mut jobs = Vec::new();
        for name in ["one", "two"] {
            let output = place.path().join(format!("{name}-output"));
            let options = every_20_ms(&place.path().join(name)).arbiters(Arbiters::current().unwrap());
            jobs.push((numbers_named(name, &output, None, 2).start(&options).unwrap(), output));
        }
        let mut counted = 0;
        for (handle, output) in jobs {
            counted = counter.send(Count).await.unwrap();
            assert_eq!(handle.wait().await.unwrap().outcome, JobOutcome::Finished);
            assert_exact(&lines(&output));
        }
        assert_eq!(counted, 2, "the user's actor lives on");
    });
}

#[test]
fn a_job_on_the_users_arbiters_has_threads_for_blocking_work_only() {
    let place = tempfile::tempdir().unwrap();
    let (named, seen) = mpsc::channel();
    System::new().block_on(async {
        let named = Mutex::new(named);
        let options = every_20_ms(&place.path().join("store")).arbiters(Arbiters::current().unwrap()).listener(hears(
            move |event| {
                if matches!(event, JobEvent::Completed { .. }) {
                    let _ = named.lock().unwrap().send((std::thread::current().id(), threads_of("lanes")));
                }
            },
        ));
        let graph = numbers_named("lanes", &place.path().join("output"), None, 1);
        graph.start(&options).unwrap().wait().await.unwrap();
    });
    let (thread, mut names) = seen.recv().unwrap();
    assert_eq!(thread, std::thread::current().id(), "the coordinator runs on the user's thread");
    names.sort();
    assert_eq!(names, ["lanes blobs", "lanes connector", "lanes connector", "lanes metadata"], "the kernel cuts names");
}

#[test]
fn subtasks_run_on_the_arbiters_that_were_handed_over() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    System::new().block_on(async {
        let arbiters: Vec<Arbiter> = (0..2).map(|_| Arbiter::new()).collect();
        let options = every_20_ms(&place.path().join("store"))
            .arbiters(Arbiters::handed_over(arbiters.iter().map(Arbiter::handle)));
        let handle = numbers_named("numbers", &output, None, 2).start(&options).unwrap();
        assert_eq!(handle.wait().await.unwrap().outcome, JobOutcome::Finished);
        for arbiter in &arbiters {
            assert!(arbiter.alive(), "the job ends, the user's arbiters do not");
        }
    });
    assert_exact(&lines(&output));
}

/// Runs the job of [`numbers`] in a `System` that stops as soon as `when` says so of an event. Returns how it ended, seen from the thread of the `System`.
fn stopped_when(
    store: &std::path::Path,
    output: &std::path::Path,
    workers: usize,
    when: impl Fn(&JobEvent) -> bool + Send + Sync + 'static,
) -> (JobHandle, Result<alluvium::JobReport, JobError>) {
    let runner = System::new();
    let handle = runner.block_on(async {
        let system = System::current();
        let mut arbiters = vec![Arbiter::current()];
        arbiters.extend((0..workers).map(|_| Arbiter::new().handle()));
        let options = every_20_ms(store).arbiters(Arbiters::handed_over(arbiters)).listener(hears(move |event| {
            if when(&event) {
                system.stop();
            }
        }));
        numbers_named("numbers", output, Some(40_000), 2).start(&options).unwrap()
    });
    runner.run().unwrap();
    // On the thread of the `System`, which has stopped: nothing of the job runs here any more.
    let ended = handle.wait_blocking();
    (handle, ended)
}

#[test]
fn a_system_that_stops_ends_its_job_and_the_next_start_goes_on_from_the_last_completed_checkpoint() {
    type When = fn(&JobEvent) -> bool;
    let moments: [When; 5] = [
        |event| matches!(event, JobEvent::RunBegan { .. }),
        |event| matches!(event, JobEvent::State(JobState::Running)),
        |event| matches!(event, JobEvent::Triggered { checkpoint, .. } if checkpoint.0 >= 3),
        |event| matches!(event, JobEvent::Acknowledged { checkpoint, .. } if checkpoint.0 >= 3),
        |event| matches!(event, JobEvent::Completed { checkpoint, .. } if checkpoint.0 >= 3),
    ];
    for when in moments {
        for workers in [0, 2] {
            let place = tempfile::tempdir().unwrap();
            let (store, output) = (place.path().join("store"), place.path().join("output"));
            let (handle, ended) = stopped_when(&store, &output, workers, when);
            let Err(JobError::ArbiterStopped { last_completed }) = ended else { panic!("{ended:?}") };
            assert_eq!(handle.status().state, JobState::Failed);
            // The lock is free, at once and in this process; what was written last may be newer than what was heard of last.
            let report = numbers_named("numbers", &output, None, 2).start(&every_20_ms(&store)).unwrap();
            let report = report.wait_blocking().unwrap();
            assert!(report.status.restored_from >= last_completed, "{:?}, {last_completed:?}", report.status);
            assert_eq!(report.outcome, JobOutcome::Finished);
            assert_exact(&lines(&output));
        }
    }
}

#[test]
fn an_arbiter_that_stops_under_a_job_ends_it_and_says_so() {
    for stopped in 0..3 {
        let place = tempfile::tempdir().unwrap();
        let (store, output) = (place.path().join("store"), place.path().join("output"));
        let last = System::new().block_on(async {
            let arbiters: Vec<Arbiter> = (0..3).map(|_| Arbiter::new()).collect();
            let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
            let stop = handles[stopped].clone();
            let options = every_20_ms(&store).arbiters(Arbiters::handed_over(handles)).listener(hears(move |event| {
                if matches!(event, JobEvent::Completed { checkpoint, .. } if checkpoint.0 == 2) {
                    stop.stop();
                }
            }));
            let handle = numbers_named("numbers", &output, Some(40_000), 3).start(&options).unwrap();
            let ended = handle.wait().await;
            let Err(JobError::ArbiterStopped { last_completed }) = ended else { panic!("{ended:?}") };
            assert!(ended.unwrap_err().to_string().contains("goes on from checkpoint"));
            last_completed
        });
        let report = numbers_named("numbers", &output, None, 3).start(&every_20_ms(&store)).unwrap();
        let report = report.wait_blocking().unwrap();
        assert!(report.status.restored_from >= last && last.is_some());
        assert_exact(&lines(&output));
    }
}

#[test]
fn a_job_is_not_started_on_an_arbiter_that_has_stopped() {
    let place = tempfile::tempdir().unwrap();
    System::new().block_on(async {
        let arbiter = Arbiter::new();
        let handed_over = Arbiters::handed_over([arbiter.handle()]);
        arbiter.stop();
        arbiter.join().unwrap();
        let handle = numbers(&place.path().join("output"), None)
            .start(&every_20_ms(&place.path().join("store")).arbiters(handed_over))
            .unwrap();
        let ended = handle.wait().await;
        assert!(matches!(ended, Err(JobError::ArbiterStopped { last_completed: None })), "{ended:?}");
    });
}

#[test]
fn a_job_with_threads_of_its_own_outlives_the_system_that_started_it() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("output");
    let runner = System::new();
    let handle = runner.block_on(async {
        let handle = numbers(&output, None).start(&every_20_ms(&place.path().join("store"))).unwrap();
        System::current().stop();
        handle
    });
    runner.run().unwrap();
    assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Finished);
    assert_exact(&lines(&output));
}

fn endless(name: &str) -> alluvium::Graph {
    let job = Job::new(name);
    job.source("numbers", Generator::unbounded(|index| index).rate(10_000)).for_each("nothing", |_| ());
    job.build().unwrap()
}

#[test]
fn blocking_for_a_job_on_its_own_arbiter_is_refused_and_not_a_hang() {
    let runner = System::new();
    let handle = runner.block_on(async {
        let here = Options::default().arbiters(Arbiters::current().unwrap());
        // Known at once, or only after a look at which thread the arbiter runs on.
        let there = Options::default().arbiters(Arbiters::handed_over([Arbiter::current()]));
        for options in [here, there] {
            let handle = endless("blocks").start(&options).unwrap();
            let refused = [
                handle.wait_blocking().unwrap_err(),
                handle.stop_blocking().unwrap_err(),
                handle.trigger_checkpoint_blocking().unwrap_err(),
            ];
            for error in refused {
                assert!(matches!(error, JobError::WouldBlockItself { .. }), "{error}");
                assert!(error.to_string().contains("await"), "{error}");
            }
            handle.cancel();
            assert_eq!(handle.wait().await.unwrap().outcome, JobOutcome::Cancelled);
            // Over: there is nothing to wait for.
            assert_eq!(handle.wait_blocking().unwrap().outcome, JobOutcome::Cancelled);
        }
        endless("stays").start(&Options::default().arbiters(Arbiters::current().unwrap())).unwrap()
    });
    // The `System` is still there but does not run: nothing would move the job.
    assert!(matches!(handle.wait_blocking(), Err(JobError::WouldBlockItself { .. })));
    drop(runner);
    assert!(matches!(handle.wait_blocking(), Err(JobError::ArbiterStopped { .. })));
}

#[test]
fn user_code_of_a_job_cannot_wait_for_the_job_that_runs_it() {
    let handle: Arc<Mutex<Option<JobHandle>>> = Arc::default();
    let refused = Arc::new(AtomicBool::new(false));
    let (inside, says) = (Arc::clone(&handle), Arc::clone(&refused));
    let collected = Collect::<u64>::new();
    let job = Job::new("waits-for-itself");
    job.source("numbers", Generator::bounded(100, |index| index).rate(1_000))
        .map(move |number| {
            if let Some(handle) = inside.lock().unwrap().as_ref() {
                says.store(matches!(handle.wait_blocking(), Err(JobError::WouldBlockItself { .. })), Ordering::SeqCst);
            }
            number
        })
        .sink("collect", collected.clone());
    let graph = job.build().unwrap();
    {
        let mut place = handle.lock().unwrap();
        *place = Some(graph.start(&Options::default()).unwrap());
    }
    let outside = handle.lock().unwrap().clone().unwrap();
    outside.wait_blocking().unwrap();
    assert!(refused.load(Ordering::SeqCst));
    assert_eq!(collected.collected().len(), 100);
}

#[test]
fn the_handle_of_an_embedded_job_works_on_a_plain_thread_on_tokio_and_on_its_own_arbiter() {
    System::new().block_on(async {
        let options = Options::default().arbiters(Arbiters::current().unwrap());
        let handle = endless("everywhere").start(&options).unwrap();
        let running = handle.clone();
        // Here, beside the job's actors.
        let first = loop {
            // Refused as long as the subtasks do not run.
            if let Ok(checkpoint) = running.trigger_checkpoint().await {
                break checkpoint;
            }
        };
        // A plain thread blocks; the job's arbiter does not.
        let (told, heard) = futures::channel::oneshot::channel();
        let on_thread = handle.clone();
        std::thread::spawn(move || {
            let _ = told.send(on_thread.trigger_checkpoint_blocking());
        });
        let second = heard.await.unwrap().unwrap();
        // A runtime of somebody else.
        let (told, heard) = futures::channel::oneshot::channel();
        let on_tokio = handle.clone();
        std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            let third = tokio.block_on(async move {
                tokio::spawn(async move { on_tokio.trigger_checkpoint().await }).await.unwrap()
            });
            let _ = told.send(third);
        });
        let third = heard.await.unwrap().unwrap();
        assert!(first < second && second < third);
        handle.stop().await.unwrap();
        assert_eq!(handle.wait().await.unwrap().outcome, JobOutcome::Stopped);
    });
}

#[test]
fn what_cannot_be_run_on_is_refused_before_anything_begins() {
    assert!(Arbiters::current().unwrap_err().to_string().contains("System"));
    let nowhere = Options::default().arbiters(Arbiters::handed_over([]));
    let error = endless("nowhere").start(&nowhere).unwrap_err().to_string();
    assert!(error.contains("at least 1"), "{error}");
    System::new().block_on(async {
        let both = Options::default().workers(2).arbiters(Arbiters::current().unwrap());
        let error = endless("both").start(&both).unwrap_err().to_string();
        assert!(error.contains("workers") && error.contains("arbiters"), "{error}");
    });
}

#[test]
fn a_second_job_cannot_take_the_store_of_an_embedded_one_and_can_when_its_system_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let options = Options::default().store(place.path()).checkpoint_every(Duration::from_millis(20));
    let runner = System::new();
    let handle = runner
        .block_on(async { endless("holder").start(&options.clone().arbiters(Arbiters::current().unwrap())).unwrap() });
    let error = endless("holder").start(&options).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    drop(runner);
    assert!(matches!(handle.wait_blocking(), Err(JobError::ArbiterStopped { .. })));
    let next = endless("holder").start(&options).unwrap();
    next.cancel();
    next.wait_blocking().unwrap();
}

/// Hears of results and of events, in its mailbox.
#[derive(Default)]
struct Audience {
    records: Vec<u64>,
    completed: u64,
    finished: Option<futures::channel::oneshot::Sender<(Vec<u64>, u64)>>,
}

impl Actor for Audience {
    type Context = Context<Self>;
}

impl Handler<alluvium::connect::Delivery<u64>> for Audience {
    type Result = ();

    fn handle(&mut self, delivery: alluvium::connect::Delivery<u64>, _: &mut Context<Self>) {
        assert!(delivery.checkpoint.is_some());
        self.records.extend(delivery.records);
    }
}

impl Handler<JobEvent> for Audience {
    type Result = ();

    fn handle(&mut self, event: JobEvent, _: &mut Context<Self>) {
        match event {
            JobEvent::Completed { .. } => self.completed += 1,
            JobEvent::State(JobState::Finished) => {
                let _ = self.finished.take().unwrap().send((std::mem::take(&mut self.records), self.completed));
            }
            _ => {}
        }
    }
}

#[test]
fn actors_hear_of_committed_results_and_of_checkpoints_in_their_mailboxes() {
    System::new().block_on(async {
        let (told, heard) = futures::channel::oneshot::channel();
        let audience = Audience { finished: Some(told), ..Audience::default() }.start();
        let (pusher, pushed) = alluvium::connect::Push::channel(100);
        let job = Job::new("heard");
        job.source("numbers", pushed)
            .map(|number: u64| number + 1)
            .sink("results", alluvium::connect::Deliver::committed(audience.clone().recipient()));
        let options = Options::default()
            .checkpoint_every(Duration::from_millis(20))
            .arbiters(Arbiters::current().unwrap())
            .listener(Arc::new(alluvium::EventsTo::new(audience.recipient())));
        let handle = job.build().unwrap().start(&options).unwrap();
        for number in 0..50 {
            // Acknowledged one by one, beside the job's own actors.
            pusher.push(number).await.unwrap().await.unwrap();
        }
        pusher.close();
        handle.wait().await.unwrap();
        let (records, completed) = heard.await.unwrap();
        assert_eq!(records, (1..=50).collect::<Vec<_>>());
        assert_eq!(completed, handle.status().checkpoints_completed);
    });
}
