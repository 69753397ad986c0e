//! Many edges between tasks on several arbiters, driven into the moments where a wake-up could be lost.
//!
//! Producers and consumers are futures that run on threads of their own. Each edge has a [`Tie`](crate::tie::Tie) through which one side
//! can hold still until the other one is about to sleep: a consumer reads on when its producer is about to be refused, and
//! a producer sends on when its consumer is about to find nothing. The one who holds still spins for a while before it
//! sleeps, and the other one spins for a random moment between the sign and the look. So the change falls around the look,
//! now before it, now behind it, thousands of times, and no clock is needed for that. What happens between the threads
//! differs from run to run; the verdict does not: a correct edge passes under every schedule.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;

use actix_rt::{Arbiter, System};
use alluvium_actors::drive::edge::edge;
use alluvium_actors::drive::gate::Gate;
use futures::task::AtomicWaker;

use crate::quiet::Group;
use crate::script::{Chance, Script};
use crate::tasks::{Consumer, Input, Output, Producer, Sleeps};
use crate::tie::Tie;

struct Setting {
    seed: u64,
    arbiters: usize,
    producers: usize,
    consumers: usize,
    /// Every edge has at least one.
    most_credits: u64,
    frames_per_edge: u64,
    /// About how many frames go by before a side holds still.
    frames_per_hold: u64,
    /// How long at most it spins before it sleeps. Only where nothing else is to be done meanwhile.
    hold_spins: u64,
    /// Every other consumer leaves in the middle.
    some_leave: bool,
}

/// Everybody sends to everybody. Returns how often the sides slept.
fn run(setting: &Setting) -> Arc<Sleeps> {
    let mut chance = Chance(setting.seed);
    let alive = Arc::new(AtomicUsize::new(0));
    let sleeps = Arc::new(Sleeps::default());
    let mut producers: Vec<Producer> = (0..setting.producers)
        .map(|_| Producer {
            outputs: Vec::new(),
            chance: Chance(chance.below(u64::MAX)),
            frames_per_hold: setting.frames_per_hold,
            holding: None,
            waiting: None,
            alive: Arc::clone(&alive),
            sleeps: Arc::clone(&sleeps),
            messages: Vec::new(),
        })
        .collect();
    let mut consumers = Vec::new();
    for number in 0..setting.consumers {
        let messages = Arc::new(AtomicWaker::new());
        let (mut edges, mut inputs) = (Vec::new(), Vec::new());
        for producer in &mut producers {
            let (seed, credits) = (chance.below(u64::MAX), 1 + chance.below(setting.most_credits));
            let (sender, receiver) = edge(credits as u32);
            let tie = Arc::new(Tie::new(setting.hold_spins));
            let script = || Script::new(seed, setting.frames_per_edge);
            producer.outputs.push(Output { sender, tie: Arc::clone(&tie), script: script(), credits, batches: 0 });
            producer.messages.push(Arc::clone(&messages));
            edges.push((0, receiver));
            inputs.push(Input { tie, script: script(), held: false });
        }
        let all = setting.frames_per_edge * setting.producers as u64;
        let leaves_after = (setting.some_leave && number % 2 == 0).then(|| chance.below(all / 2));
        let chance = Chance(chance.below(u64::MAX));
        let (gate, frames_per_hold, sleeps) = (Gate::new(edges), setting.frames_per_hold, Arc::clone(&sleeps));
        consumers.push(Consumer { gate, inputs, chance, frames_per_hold, leaves_after, read: 0, sleeps, messages });
    }
    drive(setting.arbiters, producers, consumers);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "batches outlived both ends of their edges");
    sleeps
}

/// Spreads the tasks over the arbiters, so that some edges cross threads and some do not, and waits for their verdict.
fn drive(arbiters: usize, producers: Vec<Producer>, consumers: Vec<Consumer>) {
    System::new().block_on(async move {
        let (group, verdict) = Group::new(producers.len() + consumers.len());
        let arbiters: Vec<Arbiter> = (0..arbiters).map(|_| Arbiter::new()).collect();
        let mut next = arbiters.iter().cycle();
        for mut consumer in consumers {
            let task = group.watch(async move { std::future::poll_fn(|context| consumer.poll(context)).await });
            assert!(next.next().expect("there are arbiters").spawn(task));
        }
        for mut producer in producers {
            let task = group.watch(async move { std::future::poll_fn(|context| producer.poll(context)).await });
            assert!(next.next().expect("there are arbiters").spawn(task));
        }
        let verdict = verdict.await.expect("a group gives its verdict before it ends");
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().expect("arbiters do not panic");
        }
        assert_eq!(verdict, Ok(()));
    });
}

/// Arbiters of two runs at once would only slow each other down.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone<T>(test: impl FnOnce() -> T) -> T {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    test()
}

#[test]
fn a_million_frames_cross_twelve_edges_in_order_and_nobody_sleeps_for_ever() {
    let setting = Setting {
        seed: 1,
        arbiters: 4,
        producers: 4,
        consumers: 3,
        most_credits: 8,
        frames_per_edge: 84_000,
        frames_per_hold: 200,
        hold_spins: 0,
        some_leave: false,
    };
    let sleeps = alone(|| run(&setting));
    assert!(sleeps.refused.load(Ordering::SeqCst) > 0, "no producer ever had to wait for credit");
    assert!(sleeps.empty.load(Ordering::SeqCst) > 0, "no consumer ever had to wait for a frame");
}

#[test]
fn both_sides_of_one_edge_may_change_it_at_the_moment_at_which_the_other_one_looks() {
    for seed in 1..=12 {
        let setting = Setting {
            seed,
            arbiters: 2,
            producers: 1,
            consumers: 1,
            // With few credits a lost wake-up is not made good by the next frame: there is none before it.
            most_credits: 2,
            frames_per_edge: 10_000,
            frames_per_hold: 10,
            hold_spins: 4_000,
            some_leave: false,
        };
        alone(|| run(&setting));
    }
}

#[test]
fn producers_end_although_their_consumers_leave_in_the_middle() {
    for seed in 1..=32 {
        let setting = Setting {
            seed,
            arbiters: 3,
            producers: 3,
            consumers: 3,
            most_credits: 8,
            frames_per_edge: 1_000,
            frames_per_hold: 50,
            hold_spins: 0,
            some_leave: true,
        };
        alone(|| run(&setting));
    }
}

#[test]
fn a_task_that_nobody_can_wake_is_noticed() {
    let (group, mut verdict) = Group::new(1);
    let mut task = Box::pin(group.watch(std::future::pending()));
    assert!(task.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
    let verdict = verdict.try_recv().expect("the group lives").expect("a verdict is there");
    assert_eq!(verdict, Err("1 tasks sleep, and nobody is left to wake them".to_owned()));
}
