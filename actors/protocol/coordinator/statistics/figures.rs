//! Minimum, maximum, average and quantiles of a series of values.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Of how many of the last values quantiles are computed.
const WINDOW: usize = 1_000;

/// What figures can be made of.
pub trait Measure: Copy {
    /// As a number.
    fn to_number(self) -> u64;
    /// From a number.
    fn from_number(number: u64) -> Self;
}

impl Measure for u64 {
    fn to_number(self) -> u64 {
        self
    }

    fn from_number(number: u64) -> u64 {
        number
    }
}

/// In nanoseconds; 584 years at most.
impl Measure for Duration {
    fn to_number(self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn from_number(number: u64) -> Duration {
        Duration::from_nanos(number)
    }
}

/// Minimum, maximum, sum and average of all values, and quantiles of the last 1,000.
///
/// ```
/// use alluvium_actors::protocol::coordinator::Figures;
///
/// let mut sizes = Figures::<u64>::default();
/// assert_eq!(sizes.average(), None);
/// for size in [10, 20, 90] {
///     sizes.add(size);
/// }
/// assert_eq!((sizes.minimum(), sizes.average(), sizes.maximum()), (Some(10), Some(40), Some(90)));
/// assert_eq!(sizes.quantile(0.5), Some(20));
/// ```
#[derive(Clone)]
pub struct Figures<T> {
    count: u64,
    minimum: u64,
    maximum: u64,
    sum: u128,
    last: VecDeque<u64>,
    measure: PhantomData<fn() -> T>,
}

impl<T> Default for Figures<T> {
    fn default() -> Figures<T> {
        Figures { count: 0, minimum: u64::MAX, maximum: 0, sum: 0, last: VecDeque::new(), measure: PhantomData }
    }
}

impl<T> PartialEq for Figures<T> {
    fn eq(&self, other: &Figures<T>) -> bool {
        (self.count, self.minimum, self.maximum, self.sum) == (other.count, other.minimum, other.maximum, other.sum)
            && self.last == other.last
    }
}

impl<T> Eq for Figures<T> {}

impl<T: Measure + fmt::Debug> fmt::Debug for Figures<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Figures")
            .field("count", &self.count)
            .field("minimum", &self.minimum())
            .field("average", &self.average())
            .field("maximum", &self.maximum())
            .finish_non_exhaustive()
    }
}

impl<T: Measure> Figures<T> {
    /// Adds a value.
    pub fn add(&mut self, value: T) {
        let number = value.to_number();
        self.count += 1;
        self.minimum = self.minimum.min(number);
        self.maximum = self.maximum.max(number);
        self.sum += u128::from(number);
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(number);
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, if there was one.
    #[must_use]
    pub fn minimum(&self) -> Option<T> {
        (self.count > 0).then(|| T::from_number(self.minimum))
    }

    /// The largest value, if there was one.
    #[must_use]
    pub fn maximum(&self) -> Option<T> {
        (self.count > 0).then(|| T::from_number(self.maximum))
    }

    /// The sum of all values, as far as it fits.
    #[must_use]
    pub fn sum(&self) -> T {
        T::from_number(u64::try_from(self.sum).unwrap_or(u64::MAX))
    }

    /// The average, rounded down, if there was a value.
    #[must_use]
    pub fn average(&self) -> Option<T> {
        let average = self.sum.checked_div(u128::from(self.count))?;
        Some(T::from_number(u64::try_from(average).unwrap_or(u64::MAX)))
    }

    /// The smallest of the last 1,000 values that at least this share of them does not exceed: 0.5 gives the median, 0.99 what
    /// one in a hundred is above. A share outside of 0 to 1 is taken for the nearer end.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<T> {
        let mut sorted: Vec<u64> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().map(T::from_number)
    }
}
