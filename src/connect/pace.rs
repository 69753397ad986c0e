//! How many records may leave a source by now, for sources with a rate. Time is an argument.

use std::time::Duration;

use alluvium_actors::ids::Moment;

const NANOS: u128 = 1_000_000_000;

/// So much time's worth of records may follow at once after the source was held up.
const CATCH_UP: Duration = Duration::from_millis(500);

/// The pace of one part of a source: `share` of `shares` of the source's rate.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Records per `per` nanoseconds.
    records: u128,
    per: u128,
    began: Option<Moment>,
    spent: u128,
}

impl Pace {
    /// A pace of `rate * share / shares` records per second.
    pub(crate) fn new(rate: u64, share: u64, shares: u64) -> Pace {
        Pace {
            records: u128::from(rate.max(1)) * u128::from(share.max(1)),
            per: NANOS * u128::from(shares.max(1)),
            began: None,
            spent: 0,
        }
    }

    /// Takes up to `wanted` records; if none is due, the moment at which it is worth to ask again (about a millisecond's worth of
    /// records, and at least one).
    pub(crate) fn take(&mut self, now: Moment, wanted: usize) -> Result<usize, Moment> {
        let began = *self.began.get_or_insert(now);
        let elapsed = now.since(began).as_nanos();
        // The first record is due at once, the next one a period later.
        let due = elapsed * self.records / self.per + 1;
        let mut available = due.saturating_sub(self.spent);
        let most = (CATCH_UP.as_nanos() * self.records / self.per).max(1);
        if available > most {
            self.began = Some(now);
            self.spent = 0;
            available = 1;
        }
        if available > 0 {
            let taken = wanted.min(usize::try_from(available).unwrap_or(usize::MAX));
            self.spent += taken as u128;
            return Ok(taken);
        }
        let worthwhile = (self.records * 1_000_000 / self.per).clamp(1, wanted.max(1) as u128);
        let until = ((self.spent + worthwhile - 1) * self.per).div_ceil(self.records);
        Err(began + Duration::from_nanos(u64::try_from(until).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records that leave within `seconds` when the pace is asked whenever it said.
    fn within(mut pace: Pace, seconds: u64) -> u64 {
        let end = Moment(seconds * 1_000_000_000);
        let (mut now, mut taken) = (Moment(0), 0);
        while now < end {
            match pace.take(now, 256) {
                Ok(count) => taken += count as u64,
                Err(later) => {
                    assert!(later > now, "waits until {later:?} at {now:?}");
                    now = later;
                }
            }
        }
        taken
    }

    #[test]
    fn a_pace_keeps_its_rate_over_any_time() {
        for (rate, share, shares) in [(1, 1, 1), (7, 1, 3), (1000, 1, 1), (1_000_000, 2, 3), (10_000_000, 1, 1)] {
            let expected = 3 * rate * share / shares;
            let taken = within(Pace::new(rate, share, shares), 3);
            assert!(taken.abs_diff(expected) <= 257, "{taken} instead of {expected}");
        }
    }

    #[test]
    fn time_in_which_the_source_was_held_up_is_not_made_up_for_in_one_burst() {
        let mut pace = Pace::new(1000, 1, 1);
        assert_eq!(pace.take(Moment(0), 256), Ok(1));
        assert_eq!(pace.take(Moment(3_600_000_000_000), 256), Ok(1));
        assert!(pace.take(Moment(3_600_000_000_000), 256).is_err());
    }
}
