//! The queues of blocking work: two that keep their order, and one for connectors that does not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_actors::ids::Moment;
use alluvium_actors::ports::blocking::{Blocking, Lane, Work};

use super::faults::Order;
use super::host::Shared;
use super::points::{Gate, SimulatedFaults};
use super::suspended::{self, Suspended, Worked};

/// All lanes, in the order in which they are looked at.
const LANES: [Lane; 3] = [Lane::Metadata, Lane::Blobs, Lane::Connectors];

/// How many pieces of the connectors' work are under way at once.
const CONNECTOR_THREADS: usize = 2;

/// How long work waits for its thread in the plain order.
const PLAIN_LATENCY: Duration = Duration::from_micros(100);

/// Where the drivers put their work.
#[derive(Default)]
pub(super) struct Inbox(Mutex<Vec<(Lane, Box<dyn Work>)>>);

impl Blocking for Inbox {
    fn run(&self, lane: Lane, work: Box<dyn Work>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((lane, work));
    }
}

/// The work that waits. A piece is carried out as a whole, some time after its turn has come, unless a fault lets it stand still in its middle. Its answer comes later by the time that the disk took for it;
/// until then its thread is busy.
#[derive(Default)]
pub(super) struct Lanes {
    inbox: Arc<Inbox>,
    queues: [VecDeque<Queued>; LANES.len()],
}

/// A piece of work.
enum Queued {
    /// Its turn has not come.
    Waits(Box<dyn Work>),
    /// It is carried out at this moment, drawn when its turn has come.
    Begun(Box<dyn Work>, Moment),
    /// It stands still in its middle.
    Stands(Suspended, Gate),
    /// It was carried out, and is answered at this moment.
    CarriedOut(Box<dyn Work>, Moment),
    /// It is at work.
    AtWork,
}

/// What became of a piece of work.
pub(super) enum Proceeded {
    /// It was carried out now.
    CarriedOut,
    /// It stands still in its middle.
    Stands,
    /// Only its answer was left.
    Answered,
}

/// Names one piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    lane: usize,
    index: usize,
}

impl Position {
    pub(super) fn lane_number(self) -> usize {
        self.lane
    }

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
    pub(super) fn begin(&mut self, shared: &mut Shared) {
        for (lane, work) in std::mem::take(&mut *self.inbox.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            let lane = LANES.iter().position(|known| *known == lane).expect("every lane is known");
            self.queues[lane].push_back(Queued::Waits(work));
        }
        for (lane, queue) in self.queues.iter_mut().enumerate() {
            for queued in queue.iter_mut().take(threads(lane)) {
                *queued = match std::mem::replace(queued, Queued::AtWork) {
                    Queued::Waits(work) => Queued::Begun(work, shared.now + latency(shared)),
                    begun => begun,
                };
            }
        }
    }

    /// What may be carried out, go on or be answered by now.
    pub(super) fn due<'a>(&'a self, now: Moment, faults: &'a SimulatedFaults) -> impl Iterator<Item = Position> + 'a {
        self.under_way()
            .filter(move |(position, at)| match &self.queues[position.lane][position.index] {
                Queued::Stands(_, gate) => faults.is_open(*gate, now),
                Queued::Waits(_) | Queued::Begun(..) | Queued::CarriedOut(..) | Queued::AtWork => *at <= now,
            })
            .map(|(position, _)| position)
    }

    /// When the next piece is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.under_way().map(|(_, at)| at).min()
    }

    fn under_way(&self) -> impl Iterator<Item = (Position, Moment)> + '_ {
        self.queues.iter().enumerate().flat_map(|(lane, queue)| {
            let begun = queue.iter().take(threads(lane)).enumerate();
            begun.filter_map(move |(index, queued)| match queued {
                Queued::Waits(_) | Queued::AtWork => None,
                Queued::Begun(_, at) | Queued::CarriedOut(_, at) => Some((Position { lane, index }, *at)),
                Queued::Stands(_, gate) => Some((Position { lane, index }, gate.at)),
            })
        })
    }

    /// Carries a piece out, unless it was, and answers it, unless its device is busy for some time; `cost` says for how long. With `may_suspend` it may
    /// stand still in its middle.
    pub(super) fn proceed(
        &mut self,
        position: Position,
        now: Moment,
        may_suspend: bool,
        cost: impl FnOnce() -> Duration,
    ) -> Proceeded {
        let queue = &mut self.queues[position.lane];
        let queued = queue.get_mut(position.index).expect("what is due is queued");
        let worked = match std::mem::replace(queued, Queued::AtWork) {
            Queued::Begun(work, _) | Queued::Waits(work) if may_suspend => suspended::begin(work),
            Queued::Begun(mut work, _) | Queued::Waits(mut work) => {
                work.carry_out();
                Worked::Done(Some(work))
            }
            Queued::Stands(suspended, _) => suspended.go_on(),
            Queued::CarriedOut(work, _) => {
                queue.remove(position.index);
                work.answer();
                return Proceeded::Answered;
            }
            Queued::AtWork => Worked::Done(None),
        };
        match worked {
            Worked::Stands(suspended, gate) => {
                *queued = Queued::Stands(suspended, gate);
                Proceeded::Stands
            }
            Worked::Done(work) => {
                let cost = cost();
                match work {
                    Some(work) if cost > Duration::ZERO => *queued = Queued::CarriedOut(work, now + cost),
                    work => {
                        queue.remove(position.index);
                        if let Some(work) = work {
                            work.answer();
                        }
                    }
                }
                Proceeded::CarriedOut
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

/// How long a piece of work waits for its thread: mostly little, at times very long.
fn latency(shared: &mut Shared) -> Duration {
    if shared.order == Order::Plain {
        return PLAIN_LATENCY;
    }
    let most = match shared.random.below(100) {
        0..70 => 200_000,
        70..97 => 4_000_000,
        _ => 100_000_000,
    };
    Duration::from_nanos(shared.random.below(most))
}
