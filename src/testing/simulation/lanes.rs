//! The queues of blocking work: two that keep their order, and one for connectors that does not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::ports::blocking::{Blocking, Lane, Work};

use crate::testing::random::Random;

/// All lanes, in the order in which they are looked at.
const LANES: [Lane; 3] = [Lane::Metadata, Lane::Blobs, Lane::Connectors];

/// How many pieces of the connectors' work are under way at once.
const CONNECTOR_THREADS: usize = 2;

/// Where the drivers put their work.
#[derive(Default)]
pub(super) struct Inbox(Mutex<Vec<(Lane, Box<dyn Work>)>>);

impl Blocking for Inbox {
    fn run(&self, lane: Lane, work: Box<dyn Work>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((lane, work));
    }
}

/// The work that waits. A piece is carried out as a whole, some time after its turn has come. Its answer comes later by the time that the disk took for it;
/// until then its thread is busy.
#[derive(Default)]
pub(super) struct Lanes {
    inbox: Arc<Inbox>,
    queues: [VecDeque<Queued>; LANES.len()],
}

struct Queued {
    stage: Stage,
    work: Box<dyn Work>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Its turn has not come.
    Waits,
    /// It is carried out at this moment, drawn when its turn has come.
    Begun(Moment),
    /// It was carried out, and is answered at this moment.
    CarriedOut(Moment),
}

/// Names one piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    lane: usize,
    index: usize,
}

impl Position {
    pub(super) fn lane(self) -> Lane {
        LANES[self.lane]
    }
}

impl Lanes {
    /// The door for the drivers.
    pub(super) fn door(&self) -> Arc<dyn Blocking> {
        Arc::clone(&self.inbox) as Arc<dyn Blocking>
    }

    /// Begins what has its turn.
    pub(super) fn begin(&mut self, now: Moment, random: &mut Random) {
        for (lane, work) in std::mem::take(&mut *self.inbox.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            let lane = LANES.iter().position(|known| *known == lane).expect("every lane is known");
            self.queues[lane].push_back(Queued { stage: Stage::Waits, work });
        }
        for (lane, queue) in self.queues.iter_mut().enumerate() {
            for queued in queue.iter_mut().take(threads(lane)) {
                if matches!(queued.stage, Stage::Waits) {
                    queued.stage = Stage::Begun(Moment(now.0 + latency(random)));
                }
            }
        }
    }

    /// What may be carried out or answered by now.
    pub(super) fn due(&self, now: Moment) -> impl Iterator<Item = Position> + '_ {
        self.under_way().filter(move |(_, at)| *at <= now).map(|(position, _)| position)
    }

    /// When the next piece is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.under_way().map(|(_, at)| at).min()
    }

    fn under_way(&self) -> impl Iterator<Item = (Position, Moment)> + '_ {
        self.queues.iter().enumerate().flat_map(|(lane, queue)| {
            let begun = queue.iter().take(threads(lane)).enumerate();
            begun.filter_map(move |(index, queued)| match queued.stage {
                Stage::Waits => None,
                Stage::Begun(at) | Stage::CarriedOut(at) => Some((Position { lane, index }, at)),
            })
        })
    }

    /// Carries a piece out, unless it was, and answers it, unless its device is busy for some time; `cost` says for how long. True when it was
    /// carried out now, false when only its answer was left.
    pub(super) fn proceed(&mut self, position: Position, now: Moment, cost: impl FnOnce() -> Duration) -> bool {
        let queue = &mut self.queues[position.lane];
        let queued = queue.get_mut(position.index).expect("what is due is queued");
        let only_answered = matches!(queued.stage, Stage::CarriedOut(_));
        if !only_answered {
            queued.work.carry_out();
            let cost = cost();
            if cost > Duration::ZERO {
                queued.stage = Stage::CarriedOut(now + cost);
                return true;
            }
        }
        queue.remove(position.index).expect("it was there").work.answer();
        !only_answered
    }
}

fn threads(lane: usize) -> usize {
    match LANES[lane] {
        Lane::Metadata | Lane::Blobs => 1,
        Lane::Connectors => CONNECTOR_THREADS,
    }
}

/// How long a piece of work waits for its thread, in nanoseconds: mostly little, at times very long.
fn latency(random: &mut Random) -> u64 {
    let most = match random.below(100) {
        0..70 => 200_000,
        70..97 => 4_000_000,
        _ => 100_000_000,
    };
    random.below(most)
}
