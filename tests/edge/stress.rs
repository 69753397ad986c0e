//! Many edges between tasks on several arbiters, driven into the moments where a wake-up could be lost.
//!
//! Producers and consumers are futures that run on threads of their own. Each edge has a [`Tie`] through which one side
//! can hold still until the other one is about to sleep: a consumer reads on when its producer is about to be refused, and
//! a producer sends on when its consumer is about to find nothing. The one who holds still spins for a while before it
//! sleeps, and the other one spins for a random moment between the sign and the look. So the change falls around the look,
//! now before it, now behind it, thousands of times, and no clock is needed for that. What happens between the threads
//! differs from run to run; the verdict does not: a correct edge passes under every schedule.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use actix_rt::{Arbiter, System};
use alluvium_actors::drive::edge::{EdgeSender, Frame, edge};
use alluvium_actors::drive::gate::Gate;
use alluvium_actors::protocol::align::Channel;
use futures::task::AtomicWaker;

use crate::payload::Numbered;
use crate::quiet::Group;
use crate::script::{Chance, Planned, Script, frame, is_planned};

/// How long at most a side spins between its sign and its look.
const SIGN_SPINS: u64 = 100;

/// How many frames a task handles at most before it gives its thread back.
const FRAMES_PER_POLL: u64 = 64;

/// What the two sides of an edge know of each other, besides the edge.
#[derive(Default)]
struct Tie {
    /// How long at most who holds still spins before it sleeps, in turns of a loop.
    hold_spins: u64,
    /// Who holds still; at most one side, so that they cannot wait for each other.
    holder: AtomicU8,
    holder_waker: AtomicWaker,
    /// The producer is refused or about to be, and has not sent a batch since; or it is through.
    refused: AtomicBool,
    /// The consumer finds no frame or is about to, and no frame was sent since.
    empty: AtomicBool,
    /// Frames that the producer put into the edge.
    sent: AtomicU64,
    /// The consumer leaves: its batches go uncounted.
    leaves: AtomicBool,
    /// The consumer is gone.
    left: AtomicBool,
    /// Batches that the consumer took out of the edge.
    taken: AtomicU64,
    /// One more than the number of the last barrier whose message is in the consumer's mailbox.
    announced: AtomicU64,
}

const NOBODY: u8 = 0;
const PRODUCER: u8 = 1;
const CONSUMER: u8 = 2;

impl Tie {
    /// Tries to hold still.
    fn hold(&self, who: u8) -> bool {
        self.holder.compare_exchange(NOBODY, who, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether the holder still waits for `event`; else it is no holder any more.
    fn still_holds(&self, event: impl Fn() -> bool, context: &mut Context<'_>) -> bool {
        for _ in 0..self.hold_spins {
            if event() {
                break;
            }
            spin_loop();
        }
        self.holder_waker.register(context.waker());
        if event() {
            self.holder.store(NOBODY, Ordering::SeqCst);
        }
        self.holder.load(Ordering::SeqCst) != NOBODY
    }

    fn tell(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::SeqCst);
        self.holder_waker.wake();
    }

    /// Gives the sign that a sleep is near to whoever holds still, and lets a random moment go by.
    fn tell_before_look(&self, flag: &AtomicBool, chance: &mut Chance) {
        if self.holder.load(Ordering::SeqCst) == NOBODY {
            return;
        }
        self.tell(flag);
        for _ in 0..chance.below(SIGN_SPINS) {
            spin_loop();
        }
    }

    fn is_empty_or_left(&self) -> bool {
        self.empty.load(Ordering::SeqCst) || self.left.load(Ordering::SeqCst)
    }
}

/// How often the sides slept because of the edge.
#[derive(Default)]
struct Sleeps {
    refused: AtomicU64,
    empty: AtomicU64,
}

struct Output {
    sender: EdgeSender,
    tie: Arc<Tie>,
    script: Script,
    credits: u64,
    batches: u64,
}

struct Producer {
    outputs: Vec<Output>,
    chance: Chance,
    /// About how many frames go by before it holds still.
    frames_per_hold: u64,
    holding: Option<usize>,
    /// The output that refused a batch, and the batch.
    waiting: Option<(usize, Frame)>,
    alive: Arc<AtomicUsize>,
    sleeps: Arc<Sleeps>,
    messages: Vec<Arc<AtomicWaker>>,
}

impl Producer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..=self.chance.below(FRAMES_PER_POLL) {
            if let Some(index) = self.holding {
                let tie = &self.outputs[index].tie;
                if tie.still_holds(|| tie.is_empty_or_left(), context) {
                    return Poll::Pending;
                }
                self.holding = None;
            }
            if let Some((index, frame)) = self.waiting.take() {
                if !self.try_send(index, frame, context) {
                    return Poll::Pending;
                }
                continue;
            }
            let open: Vec<usize> = (0..self.outputs.len()).filter(|&i| !self.outputs[i].script.is_over()).collect();
            if open.is_empty() {
                return Poll::Ready(());
            }
            let index = open[self.chance.below(open.len() as u64) as usize];
            if self.chance.one_in(self.frames_per_hold) && self.outputs[index].tie.hold(PRODUCER) {
                self.holding = Some(index);
                continue;
            }
            if !self.send_next(index, context) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn send_next(&mut self, index: usize, context: &mut Context<'_>) -> bool {
        let output = &mut self.outputs[index];
        let (number, planned) = output.script.next().expect("only open outputs are chosen");
        let frame = frame(number, planned, &output.sender, &self.alive);
        output.tie.empty.store(false, Ordering::SeqCst);
        output.tie.sent.fetch_add(1, Ordering::SeqCst);
        match planned {
            Planned::Batch => return self.try_send(index, frame, context),
            Planned::ForcedBatch => {
                output.batches += 1;
                output.sender.force_send(frame);
            }
            Planned::Barrier => {
                output.sender.force_send(frame);
                output.tie.announced.store(number + 1, Ordering::SeqCst);
                self.messages[index].wake();
            }
            Planned::Cancel | Planned::EndOfData => output.sender.force_send(frame),
            Planned::EndOfChannel => {
                output.sender.force_send(frame);
                output.tie.tell(&output.tie.refused);
            }
        }
        true
    }

    fn try_send(&mut self, index: usize, frame: Frame, context: &mut Context<'_>) -> bool {
        let output = &mut self.outputs[index];
        let Frame::Batch(batch) = frame else { panic!("only batches are refused") };
        if output.batches.saturating_sub(output.tie.taken.load(Ordering::SeqCst)) >= output.credits {
            output.tie.tell_before_look(&output.tie.refused, &mut self.chance);
        }
        match output.sender.try_send(batch, context) {
            Ok(()) => {
                output.tie.refused.store(false, Ordering::SeqCst);
                output.batches += 1;
                // One more than the credits: the consumer may have taken a batch that it did not count yet.
                let inside = output.batches.saturating_sub(output.tie.taken.load(Ordering::SeqCst));
                let bounded = inside <= output.credits + 1 || output.tie.leaves.load(Ordering::SeqCst);
                assert!(bounded, "{inside} batches in an edge of {} credits", output.credits);
                true
            }
            Err(batch) => {
                self.waiting = Some((index, Frame::Batch(batch)));
                self.sleeps.refused.fetch_add(1, Ordering::SeqCst);
                output.tie.tell(&output.tie.refused);
                false
            }
        }
    }
}

struct Input {
    tie: Arc<Tie>,
    script: Script,
    held: bool,
}

struct Consumer {
    gate: Gate,
    inputs: Vec<Input>,
    chance: Chance,
    /// About how many frames go by before it holds still.
    frames_per_hold: u64,
    /// After so many frames it leaves without having read to the end.
    leaves_after: Option<u64>,
    read: u64,
    sleeps: Arc<Sleeps>,
    messages: Arc<AtomicWaker>,
}

impl Consumer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..=self.chance.below(FRAMES_PER_POLL) {
            if self.inputs.iter().all(|input| input.script.is_over()) || self.leaves_after == Some(self.read) {
                return Poll::Ready(());
            }
            self.hold_still(context);
            for input in self.inputs.iter().filter(|input| !input.held && !input.script.is_over()) {
                if input.tie.sent.load(Ordering::SeqCst) == input.script.position() {
                    input.tie.tell_before_look(&input.tie.empty, &mut self.chance);
                }
            }
            self.messages.register(context.waker());
            // The mailbox is read before the gate, as drivers do it.
            let announced: Vec<u64> =
                self.inputs.iter().map(|input| input.tie.announced.load(Ordering::SeqCst)).collect();
            let Poll::Ready((channel, frame)) = self.gate.poll_frame(context) else {
                self.sleeps.empty.fetch_add(1, Ordering::SeqCst);
                for (input, announced) in self.inputs.iter().zip(announced) {
                    if !input.held && !input.script.is_over() {
                        assert!(input.script.position() >= announced, "a message is there without its marker");
                        input.tie.tell(&input.tie.empty);
                    }
                }
                return Poll::Pending;
            };
            self.compare(channel, frame);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Goes on with the channels whose producer is about to sleep, and now and then stops reading one.
    fn hold_still(&mut self, context: &mut Context<'_>) {
        for (position, input) in self.inputs.iter_mut().enumerate() {
            let tie = &input.tie;
            if input.held && !tie.still_holds(|| tie.refused.load(Ordering::SeqCst), context) {
                input.held = false;
                self.gate.set_blocked(Channel(position as u32), false);
            }
        }
        if self.chance.one_in(self.frames_per_hold) {
            let position = self.chance.below(self.inputs.len() as u64) as usize;
            let input = &mut self.inputs[position];
            let awake = !input.held && !input.script.is_over() && !input.tie.refused.load(Ordering::SeqCst);
            if awake && input.tie.hold(CONSUMER) {
                input.held = true;
                self.gate.set_blocked(Channel(position as u32), true);
                // It may have been refused since the look above.
                context.waker().wake_by_ref();
            }
        }
    }

    fn compare(&mut self, channel: Channel, frame: Frame) {
        self.read += 1;
        let input = &mut self.inputs[channel.position()];
        let (number, planned) = input.script.next().expect("nothing follows the end of a channel");
        assert!(is_planned(&frame, number, planned), "{frame:?} came instead of number {number}, {planned:?}");
        match frame {
            Frame::Batch(batch) => {
                input.tie.taken.fetch_add(1, Ordering::SeqCst);
                let batch = Numbered::from_payload(batch);
                assert_eq!(batch.number, number, "a batch came out of order");
                if !self.chance.one_in(8) {
                    self.gate.give_back(channel, batch);
                }
            }
            Frame::EndOfChannel => {
                self.gate.ended(channel);
            }
            Frame::Barrier(_) | Frame::Cancel(_) | Frame::EndOfData => {}
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for input in &self.inputs {
            input.tie.leaves.store(true, Ordering::SeqCst);
        }
        // First the edges, so that a producer that is told finds them closed.
        self.gate = Gate::default();
        for input in &self.inputs {
            input.tie.tell(&input.tie.left);
        }
    }
}

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
            let tie = Arc::new(Tie { hold_spins: setting.hold_spins, ..Tie::default() });
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
