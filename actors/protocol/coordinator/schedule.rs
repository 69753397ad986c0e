//! When the next periodic checkpoint is due.

use std::time::Duration;

use crate::ids::Moment;

/// The periodic triggers: a fixed grid of moments, of which at most one waits to be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Schedule {
    /// The distance of the grid; none if periodic checkpoints are off.
    interval: Option<Duration>,
    /// The next moment of the grid.
    next: Option<Moment>,
    /// Whether a moment of the grid passed and its checkpoint has not begun.
    due: bool,
}

impl Schedule {
    /// Starts anew: the first moment lies at random between the pause and the interval from now, so that jobs which
    /// start together do not take their checkpoints together. A pause longer than the interval takes its place.
    pub(super) fn start(&mut self, now: Moment, interval: Option<Duration>, pause: Duration, random: u64) {
        // A grid needs a distance; what is too short for a job was refused where the job was built.
        self.interval = interval.map(|interval| interval.max(pause).max(Duration::from_nanos(1)));
        self.due = false;
        self.next = self.interval.map(|interval| {
            let spread = nanoseconds(interval.saturating_sub(pause));
            let within = spread.checked_add(1).map_or(random, |bound| random % bound);
            now + pause + Duration::from_nanos(within)
        });
    }

    /// Goes on after a time in which nothing could begin: a moment of the grid that was missed is due. A region that fails more often than the interval
    /// thus takes no checkpoint from the others. False if there is no schedule to go on with.
    pub(super) fn resume(&mut self, now: Moment) -> bool {
        self.advance(now);
        self.next.is_some()
    }

    /// Ends it: nothing is due and nothing becomes due.
    pub(super) fn stop(&mut self) {
        self.next = None;
        self.due = false;
    }

    /// Notes what became due up to now. However many moments passed, one checkpoint is due.
    pub(super) fn advance(&mut self, now: Moment) {
        let (Some(interval), Some(next)) = (self.interval, self.next) else { return };
        if next > now {
            return;
        }
        self.due = true;
        let interval = nanoseconds(interval).max(1);
        let missed = nanoseconds(now.since(next)) / interval;
        self.next = Some(Moment(next.0.saturating_add(interval.saturating_mul(missed.saturating_add(1)))));
    }

    /// Drops what is due, without moving the grid.
    pub(super) fn served(&mut self) {
        self.due = false;
    }

    /// Drops what is due because the pause is not over; the grid begins again at the end of the pause.
    pub(super) fn postpone(&mut self, until: Moment) {
        self.due = false;
        if self.interval.is_some() {
            self.next = Some(until);
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.next
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
