//! The queues of blocking work: two that keep their order, and one for connectors that does not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_actors::ids::Moment;
use alluvium_actors::ports::blocking::{Blocking, Lane, Work};

use super::points::{Gate, SimulatedFaults};
use super::suspended::{self, Suspended, Worked};
use crate::testing::random::Random;

/// All lanes, in the order in which they are looked at.
const LANES: [Lane; 3] = [Lane::Metadata, Lane::Blobs, Lane::Connectors];

/// How many pieces of the connectors' work are under way at once.
const CONNECTOR_THREADS: usize = 2;

/// Where the drivers put their work.
#[derive(Default)]
pub(super) struct Inbox(Mutex<Vec<(Lane, Work)>>);

impl Blocking for Inbox {
    fn run(&self, lane: Lane, work: Work) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((lane, work));
    }
}

/// The work that waits. Each piece is carried out as a whole at the moment at which it is done.
#[derive(Default)]
pub(super) struct Lanes {
    inbox: Arc<Inbox>,
    queues: [VecDeque<Queued>; LANES.len()],
}

struct Queued {
    /// When it is done, drawn when its turn has come.
    done: Option<Moment>,
    work: Stage,
}

/// How far a piece of work is.
enum Stage {
    /// It has not begun.
    Fresh(Work),
    /// It stands in front of a gate.
    Suspended(Suspended, Gate),
    /// It is being carried out.
    UnderWay,
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
            self.queues[lane].push_back(Queued { done: None, work: Stage::Fresh(work) });
        }
        for (lane, queue) in self.queues.iter_mut().enumerate() {
            for queued in queue.iter_mut().take(threads(lane)) {
                queued.done.get_or_insert_with(|| Moment(now.0 + latency(random)));
            }
        }
    }

    /// What may be done by now.
    pub(super) fn due<'a>(&'a self, now: Moment, faults: &'a SimulatedFaults) -> impl Iterator<Item = Position> + 'a {
        self.under_way()
            .filter(move |(position, done)| match &self.queues[position.lane][position.index].work {
                Stage::Suspended(_, gate) => faults.is_open(*gate, now),
                Stage::Fresh(_) | Stage::UnderWay => *done <= now,
            })
            .map(|(position, _)| position)
    }

    /// When the next piece is done, or goes on.
    pub(super) fn next(&self) -> Option<Moment> {
        self.under_way().map(|(_, done)| done).min()
    }

    fn under_way(&self) -> impl Iterator<Item = (Position, Moment)> + '_ {
        self.queues.iter().enumerate().flat_map(|(lane, queue)| {
            let begun = queue.iter().take(threads(lane)).enumerate();
            begun.filter_map(move |(index, queued)| Some((Position { lane, index }, queued.done?)))
        })
    }

    /// Carries a piece out, or a part of it up to where it stands still. It keeps its place until it is done.
    pub(super) fn carry_out(&mut self, position: Position, may_suspend: bool) {
        let queue = &mut self.queues[position.lane];
        let queued = queue.get_mut(position.index).expect("what is due is queued");
        let worked = match std::mem::replace(&mut queued.work, Stage::UnderWay) {
            Stage::Fresh(work) if may_suspend => suspended::begin(work),
            Stage::Fresh(work) => {
                work();
                Worked::Done
            }
            Stage::Suspended(suspended, _) => suspended.go_on(),
            Stage::UnderWay => Worked::Done,
        };
        match worked {
            Worked::Done => drop(queue.remove(position.index)),
            Worked::Stands(suspended, gate) => {
                queued.done = Some(gate.at);
                queued.work = Stage::Suspended(suspended, gate);
            }
        }
    }
}

fn threads(lane: usize) -> usize {
    match LANES[lane] {
        Lane::Metadata | Lane::Blobs => 1,
        Lane::Connectors => CONNECTOR_THREADS,
    }
}

/// How long a piece of work takes, in nanoseconds: mostly little, at times very long.
fn latency(random: &mut Random) -> u64 {
    let most = match random.below(100) {
        0..70 => 200_000,
        70..97 => 4_000_000,
        _ => 100_000_000,
    };
    random.below(most)
}
