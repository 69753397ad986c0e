//! Faults in a running process: the actix host behind the door for faults. Only in builds with the feature `fault-injection`.
//!
//! A [`Judge`] decides what strikes; what follows is carried out here. Blocking work that is to wait blocks its thread. An actor that is to wait does so after the slice
//! in which it reached the point: it takes no message and no step, and what it sent behind the point leaves with it; the other actors of its arbiter go on. A message that is to wait
//! waits in front of its receiver's driver, and what follows between the same two actors waits behind it. The simulated host does the same. What the slice put into edges
//! behind the point is there at once: edges are no messages.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use crate::drive::control::Control;
use crate::ports::host::Address;
use crate::ports::points::{Faults, Hit, InjectedEnd, InjectedPanic, Reaction};

/// Decides what strikes at a point, and how long what waits has to.
pub trait Judge: Send + Sync {
    /// A point is reached: what happens there, if anything does. A wait begins at `from`: one wait comes after the other.
    fn judge(&self, hit: &Hit<'_>, from: Instant) -> Option<Blow>;

    /// Whether what waits under this number may go on. If not, `waker` is woken when it may.
    fn is_released(&self, number: u64, waker: &Waker) -> bool;
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The process ends at once.
    Crash,
    /// The actor ends.
    Kill,
    /// What was about to be done fails.
    Error,
    /// The code panics.
    Panic,
    /// The message is lost.
    Drop,
    /// The message arrives twice.
    Duplicate,
    /// It waits.
    Wait {
        /// Until this number is released,
        number: u64,
        /// but no longer than to this moment.
        at: Instant,
    },
}

/// What waits.
#[derive(Clone, Copy, Debug)]
struct Gate {
    number: u64,
    /// When it opens by itself.
    at: Instant,
}

thread_local! {
    /// What the actor that acts on this thread has to wait for when it is done; none where no actor acts.
    static ACTING: RefCell<Option<Vec<Gate>>> = const { RefCell::new(None) };
}

/// Lets an actor act on this thread.
fn act<T>(call: impl FnOnce() -> T) -> (std::thread::Result<T>, Vec<Gate>) {
    ACTING.set(Some(Vec::new()));
    let acted = catch_unwind(AssertUnwindSafe(call));
    (acted, ACTING.take().unwrap_or_default())
}

/// Whether the actor that acts on this thread has to wait: then it does no further slice.
pub(super) fn acting_has_to_wait() -> bool {
    ACTING.with_borrow(|acting| acting.as_ref().is_some_and(|gates| !gates.is_empty()))
}

/// The door for faults of one job.
pub(super) struct Door {
    judge: Arc<dyn Judge>,
    bell: Arc<Bell>,
}

impl Door {
    pub(super) fn new(judge: Arc<dyn Judge>) -> Door {
        Door { judge, bell: Arc::default() }
    }

    /// The job is over: no thread waits any more.
    pub(super) fn close(&self) {
        self.bell.state().closed = true;
        self.bell.rung.notify_all();
    }

    fn strike(&self, hit: &Hit<'_>) -> Option<Blow> {
        // A second panic while one unwinds would abort the process, and say nothing of why.
        if std::thread::panicking() {
            return None;
        }
        let now = Instant::now();
        let waits_until = ACTING.with_borrow(|acting| acting.iter().flatten().map(|gate| gate.at).max());
        self.judge.judge(hit, waits_until.map_or(now, |at| at.max(now)))
    }

    fn is_open(&self, gate: &Gate, waker: &Waker) -> bool {
        Instant::now() >= gate.at || self.judge.is_released(gate.number, waker)
    }

    /// Whoever is at a point waits: an actor after its slice, blocking work here and now.
    fn wait(&self, gate: Gate) {
        let is_actor = ACTING.with_borrow_mut(|acting| acting.as_mut().map(|gates| gates.push(gate)).is_some());
        if is_actor {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.bell));
        loop {
            let heard = self.bell.state().rings;
            if self.is_open(&gate, &waker) || !self.bell.wait(heard, gate.at) {
                return;
            }
        }
    }

    /// What becomes of a message that an actor sends: what is to arrive, in its order.
    pub(super) fn send(&self, from: Address, to: Address, message: Control) -> [Option<Letter>; 2] {
        // What a waiting actor sends leaves when it goes on.
        let busy = ACTING.with_borrow(|acting| acting.clone().unwrap_or_default());
        let letter = |message, gates| Some(Letter { from: Some(from), message, gates, passed: false });
        match message.sent(from, to).and_then(|hit| self.deliver_or_unwind(&hit)) {
            None => [letter(message, busy), None],
            Some(Way::Lost) => [None, None],
            Some(Way::Twice) => {
                let again = message.again();
                [letter(message, busy), again.and_then(|again| letter(again, Vec::new()))]
            }
            Some(Way::Waits(gate)) => {
                let gates = busy.into_iter().chain([gate]).collect();
                [letter(message, gates), None]
            }
        }
    }

    fn deliver_or_unwind(&self, hit: &Hit<'_>) -> Option<Way> {
        match self.strike(hit)? {
            Blow::Crash => end_process(),
            Blow::Kill => resume_unwind(Box::new(InjectedEnd::Kill)),
            Blow::Panic => resume_unwind(Box::new(InjectedPanic(hit.point))),
            Blow::Drop => Some(Way::Lost),
            Blow::Duplicate => Some(Way::Twice),
            Blow::Wait { number, at } => Some(Way::Waits(Gate { number, at })),
            // No message allows it.
            Blow::Error => None,
        }
    }
}

/// What becomes of a message, if it does not simply go on.
enum Way {
    Lost,
    Twice,
    Waits(Gate),
}

impl Faults for Door {
    fn reach(&self, hit: &Hit<'_>) -> Reaction {
        match self.strike(hit) {
            None => Reaction::Go,
            Some(Blow::Crash) => end_process(),
            Some(Blow::Kill) => resume_unwind(Box::new(InjectedEnd::Kill)),
            Some(Blow::Panic) => resume_unwind(Box::new(InjectedPanic(hit.point))),
            Some(Blow::Error) => Reaction::Fail,
            Some(Blow::Wait { number, at }) => {
                self.wait(Gate { number, at });
                Reaction::Go
            }
            // No step allows them.
            Some(Blow::Drop | Blow::Duplicate) => Reaction::Go,
        }
    }
}

/// The process ends as by a kill from outside. SIGKILL is sent instead of calling `abort`, because SIGABRT can be handled, and writes a core; no destructor runs, nothing
/// that is buffered is written, and the parent sees the same as after the out-of-memory killer.
fn end_process() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal may take a moment, or (in theory) be refused.
    std::process::abort()
}

/// Wakes the threads that wait.
#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Default)]
struct BellState {
    rings: u64,
    closed: bool,
}

impl Bell {
    fn state(&self) -> MutexGuard<'_, BellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it rings after `heard` rings, or until a moment. False when nobody is to wait any more.
    fn wait(&self, heard: u64, until: Instant) -> bool {
        let rest = until.saturating_duration_since(Instant::now());
        let still = |state: &mut BellState| state.rings == heard && !state.closed;
        let waited = self.rung.wait_timeout_while(self.state(), rest, still);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.state().rings += 1;
        self.rung.notify_all();
    }
}

/// A message on its way from an actor.
#[derive(Debug)]
pub struct Letter {
    from: Option<Address>,
    message: Control,
    /// What it waits for.
    gates: Vec<Gate>,
    /// Whether the point of its receipt has let it pass.
    passed: bool,
}

impl Letter {
    /// From outside of the job's actors.
    pub(super) fn from_outside(message: Control) -> Letter {
        Letter { from: None, message, gates: Vec::new(), passed: false }
    }
}

/// What stands between the mailbox of an actor and its driver.
pub(super) struct Inbox {
    door: Arc<Door>,
    address: Address,
    arrived: VecDeque<Letter>,
    /// What waits, and what waits behind it, by sender.
    waiting: BTreeMap<Option<Address>, VecDeque<Letter>>,
    /// What the actor itself waits for.
    standing: Vec<Gate>,
}

/// What becomes of a letter now.
enum Passage {
    Goes(Control, Option<Control>),
    Lost,
    Waits(Letter),
}

impl Inbox {
    pub(super) fn new(door: Arc<Door>, address: Address) -> Inbox {
        Inbox { door, address, arrived: VecDeque::new(), waiting: BTreeMap::new(), standing: Vec::new() }
    }

    /// Lets the actor act. What it has to wait for then, it waits for.
    pub(super) fn act<T>(&mut self, call: impl FnOnce() -> T) -> std::thread::Result<T> {
        let (acted, gates) = act(call);
        self.standing.extend(gates);
        acted
    }

    pub(super) fn push(&mut self, letter: Letter) {
        self.arrived.push_back(letter);
    }

    /// Whether the actor has to wait.
    pub(super) fn stands(&mut self, context: &mut Context<'_>) -> bool {
        let door = Arc::clone(&self.door);
        self.standing.retain(|gate| !door.is_open(gate, context.waker()));
        !self.standing.is_empty()
    }

    /// Whether there is something that the actor has to wait for, open by now or not.
    pub(super) fn has_to_wait(&self) -> bool {
        !self.standing.is_empty()
    }

    /// When something that waits may go on by itself.
    pub(super) fn next(&self) -> Option<Instant> {
        if !self.standing.is_empty() {
            return self.standing.iter().map(|gate| gate.at).max();
        }
        let fronts = self.waiting.values().filter_map(VecDeque::front);
        fronts.filter_map(|letter| letter.gates.iter().map(|gate| gate.at).max()).min()
    }

    /// Hands over what may be. A fault may end the actor here: then it unwinds.
    pub(super) fn take_in(&mut self, context: &mut Context<'_>, mut hand_over: impl FnMut(Control)) {
        for from in self.waiting.keys().copied().collect::<Vec<_>>() {
            let mut letters = self.waiting.remove(&from).unwrap_or_default();
            while let Some(letter) = letters.pop_front() {
                if let Some(letter) = self.pass(letter, context, &mut hand_over) {
                    letters.push_front(letter);
                    break;
                }
            }
            if !letters.is_empty() {
                self.waiting.insert(from, letters);
            }
        }
        while let Some(letter) = self.arrived.pop_front() {
            if let Some(before) = self.waiting.get_mut(&letter.from) {
                before.push_back(letter);
            } else if let Some(letter) = self.pass(letter, context, &mut hand_over) {
                self.waiting.insert(letter.from, VecDeque::from([letter]));
            }
        }
    }

    /// Hands a letter over, or gives it back if it has to wait.
    fn pass(
        &mut self,
        letter: Letter,
        context: &mut Context<'_>,
        hand_over: &mut impl FnMut(Control),
    ) -> Option<Letter> {
        match self.passage(letter, context) {
            Passage::Waits(letter) => return Some(letter),
            Passage::Lost => {}
            Passage::Goes(message, again) => {
                hand_over(message);
                if let Some(again) = again {
                    hand_over(again);
                }
            }
        }
        None
    }

    fn passage(&self, mut letter: Letter, context: &mut Context<'_>) -> Passage {
        loop {
            letter.gates.retain(|gate| !self.door.is_open(gate, context.waker()));
            if !letter.gates.is_empty() {
                return Passage::Waits(letter);
            }
            if std::mem::replace(&mut letter.passed, true) {
                return Passage::Goes(letter.message, None);
            }
            match letter.message.received(self.address).and_then(|hit| self.door.deliver_or_unwind(&hit)) {
                None => {}
                Some(Way::Lost) => return Passage::Lost,
                Some(Way::Twice) => {
                    let again = letter.message.again();
                    return Passage::Goes(letter.message, again);
                }
                Some(Way::Waits(gate)) => letter.gates.push(gate),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::drive::edge::Barrier;
    use crate::ids::{Attempt, CheckpointId, Moment, SubtaskId};
    use crate::ports::points::Point;
    use crate::ports::store::CheckpointKind;

    const LONG: std::time::Duration = std::time::Duration::from_secs(3_600);

    /// Lets one kind of blow fall at one point, each with the next number.
    struct At {
        point: Point,
        blow: fn(u64) -> Blow,
        numbers: Mutex<u64>,
        released: Mutex<BTreeSet<u64>>,
    }

    impl At {
        fn new(point: Point, blow: fn(u64) -> Blow) -> Arc<At> {
            Arc::new(At { point, blow, numbers: Mutex::default(), released: Mutex::default() })
        }

        fn release(&self, number: u64) {
            self.released.lock().unwrap().insert(number);
        }
    }

    impl Judge for At {
        fn judge(&self, hit: &Hit<'_>, _: Instant) -> Option<Blow> {
            (hit.point == self.point).then(|| {
                let mut numbers = self.numbers.lock().unwrap();
                *numbers += 1;
                (self.blow)(*numbers)
            })
        }

        fn is_released(&self, number: u64, _: &Waker) -> bool {
            self.released.lock().unwrap().contains(&number)
        }
    }

    fn wait(number: u64) -> Blow {
        Blow::Wait { number, at: Instant::now() + LONG }
    }

    fn here() -> Address {
        Address::Subtask(SubtaskId::new(0, 0), Attempt(1))
    }

    fn there() -> Address {
        Address::Subtask(SubtaskId::new(1, 0), Attempt(1))
    }

    fn barrier(checkpoint: u64) -> Barrier {
        let kind = CheckpointKind::Periodic;
        Barrier { checkpoint: CheckpointId(checkpoint), triggered: Moment::default(), kind, overtakes: None }
    }

    fn trigger(checkpoint: u64) -> Control {
        Control::Trigger(barrier(checkpoint))
    }

    /// Triggers come from the coordinator, announcements from another subtask.
    fn announced(checkpoint: u64) -> Control {
        Control::BarrierAnnounced { channel: 0, barrier: barrier(checkpoint) }
    }

    struct Mailbox {
        door: Arc<Door>,
        inbox: Inbox,
    }

    impl Mailbox {
        fn new(judge: Arc<At>) -> Mailbox {
            let door = Arc::new(Door::new(judge));
            Mailbox { inbox: Inbox::new(Arc::clone(&door), here()), door }
        }

        fn send(&mut self, from: Address, message: Control) {
            let letters = self.door.send(from, here(), message);
            letters.into_iter().flatten().for_each(|letter| self.inbox.push(letter));
        }

        /// What is handed over now.
        fn taken(&mut self) -> Vec<String> {
            let mut taken = Vec::new();
            self.inbox.take_in(&mut Context::from_waker(Waker::noop()), |message| {
                taken.push(match message {
                    Control::Trigger(barrier) => format!("trigger {}", barrier.checkpoint),
                    Control::BarrierAnnounced { barrier, .. } => format!("barrier {}", barrier.checkpoint),
                    _ => "other".to_owned(),
                });
            });
            taken
        }
    }

    #[test]
    fn what_follows_a_held_message_from_the_same_sender_waits_behind_it_and_nothing_else_does() {
        for point in [Point::TriggerSent, Point::TriggerReceived] {
            let judge = At::new(point, wait);
            let mut mailbox = Mailbox::new(Arc::clone(&judge));
            mailbox.send(Address::Coordinator, trigger(1));
            mailbox.send(Address::Coordinator, Control::GoOn);
            mailbox.send(there(), announced(1));
            assert_eq!(mailbox.taken(), ["barrier 1"], "{point}");
            mailbox.send(Address::Coordinator, trigger(2));
            assert!(mailbox.taken().is_empty() && mailbox.inbox.next().is_some(), "{point}");
            judge.release(1);
            assert_eq!(mailbox.taken(), ["trigger 1", "other"], "{point}");
            judge.release(2);
            assert_eq!(mailbox.taken(), ["trigger 2"], "{point}");
            assert!(mailbox.inbox.next().is_none(), "{point}");
        }
    }

    #[test]
    fn a_message_is_lost_or_doubled_where_the_judge_says_so() {
        for (blow, taken) in [
            ((|_| Blow::Drop) as fn(u64) -> Blow, &["barrier 1"][..]),
            (|_| Blow::Duplicate, &["trigger 1", "trigger 1", "barrier 1"]),
        ] {
            for point in [Point::TriggerSent, Point::TriggerReceived] {
                let mut mailbox = Mailbox::new(At::new(point, blow));
                mailbox.send(Address::Coordinator, trigger(1));
                mailbox.send(there(), announced(1));
                assert_eq!(mailbox.taken(), taken, "{point}");
            }
        }
    }

    #[test]
    fn an_actor_that_reaches_a_wait_goes_no_further_and_what_it_sends_behind_it_waits_too() {
        let judge = At::new(Point::SnapshotSynchronous, wait);
        let mut mailbox = Mailbox::new(Arc::clone(&judge));
        let door = Arc::clone(&mailbox.door);
        let acted = mailbox.inbox.act(|| {
            let before = door.send(here(), there(), announced(1));
            assert!(!acting_has_to_wait());
            assert_eq!(door.reach(&Hit::of(Point::SnapshotSynchronous, here())), Reaction::Go);
            assert!(acting_has_to_wait(), "no further slice");
            (before, door.send(here(), there(), announced(2)))
        });
        let (before, behind) = acted.unwrap();
        let gates = |letters: &[Option<Letter>; 2]| letters[0].as_ref().unwrap().gates.len();
        assert_eq!((gates(&before), gates(&behind)), (0, 1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(mailbox.inbox.stands(&mut context));
        judge.release(1);
        assert!(!mailbox.inbox.stands(&mut context));
    }

    #[test]
    fn blocking_work_waits_on_its_thread_until_the_job_is_over() {
        let judge = At::new(Point::ManifestWrite, wait);
        let door = Arc::new(Door::new(judge));
        let working = Arc::clone(&door);
        let work = Hit::work(Point::ManifestWrite, crate::ports::points::Who::Job);
        let thread = std::thread::spawn(move || working.reach(&work));
        door.close();
        assert_eq!(thread.join().unwrap(), Reaction::Go);
    }

    #[test]
    fn a_kill_unwinds_where_a_message_is_sent_and_where_it_is_taken_in() {
        let mut mailbox = Mailbox::new(At::new(Point::TriggerReceived, |_| Blow::Kill));
        mailbox.send(Address::Coordinator, trigger(1));
        let end = catch_unwind(AssertUnwindSafe(|| mailbox.taken())).unwrap_err();
        assert_eq!(end.downcast_ref(), Some(&InjectedEnd::Kill));
        let mut mailbox = Mailbox::new(At::new(Point::TriggerSent, |_| Blow::Panic));
        let sent = catch_unwind(AssertUnwindSafe(|| mailbox.send(Address::Coordinator, trigger(1))));
        assert_eq!(sent.unwrap_err().downcast_ref(), Some(&InjectedPanic(Point::TriggerSent)));
    }
}
