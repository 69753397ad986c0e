//! Every record takes effect exactly once.

use std::fmt;

use super::effects::Effects;
use super::lineage::{Origins, RecordKey, Tally};
use super::{Check, Scene, Verdict, Violation};
use crate::record::Record;
use crate::testing::models::Records;

/// Every record of a source has taken effect exactly once at the end of the job, and none twice at any time. When the job was stopped: every record before the barrier of
/// its last checkpoint.
///
/// The user names each record of the source, and says of each effect which record it comes from.
///
/// ```
/// use alluvium::testing::check::ExactlyOnce;
/// use alluvium::testing::models::{Ledger, Records};
/// use alluvium::testing::simulation::Outside;
///
/// let outside = Outside::detached(1);
/// let orders = Records::bounded(&outside, "orders", 100, |index| index);
/// let bills: Ledger<(u64, String)> = Ledger::new(&outside, "bills");
/// // Odd orders are not to be billed.
/// let check = ExactlyOnce::new(&orders, |order| (order % 2 == 0).then_some(*order), &bills, |(order, _)| *order);
/// # let _ = check;
/// ```
pub struct ExactlyOnce<K, S: Effects>(Tally<K, S>);

impl<K: Ord + Clone + fmt::Debug + 'static, S: Effects + Clone> ExactlyOnce<K, S> {
    /// `key` names a record, or gives nothing for one that is to have no effect; `of` gives the name of the record that an effect comes from.
    pub fn new<T: Record, R: Into<Option<K>> + 'static>(
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
        sink: &S,
        of: impl Fn(&S::Record) -> K + 'static,
    ) -> ExactlyOnce<K, S> {
        ExactlyOnce::with_lineage(source, key, sink, move |effect| [of(effect)])
    }

    /// For effects that come from several records each, or from none.
    pub fn with_lineage<T: Record, R: Into<Option<K>> + 'static, I: IntoIterator<Item = K>>(
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
        sink: &S,
        lineage: impl Fn(&S::Record) -> I + 'static,
    ) -> ExactlyOnce<K, S> {
        let lineage = Box::new(move |effect: &S::Record| lineage(effect).into_iter().collect());
        ExactlyOnce(Tally::new(Origins::of(source, key), sink.clone(), lineage, true))
    }

    /// The records of another source take effect in the same place.
    #[must_use]
    pub fn and_from<T: Record, R: Into<Option<K>> + 'static>(
        mut self,
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
    ) -> ExactlyOnce<K, S> {
        self.0.origins().add(source, key);
        self
    }
}

impl<K: RecordKey, S: Effects> Check for ExactlyOnce<K, S> {
    fn rule(&self) -> &str {
        "exactly once"
    }

    fn observe(&mut self, _: &Scene<'_>) -> Result<(), Violation> {
        self.0.observe()
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.0.ended(scene).map(|()| Verdict::Kept)
    }
}

impl<K, S: Effects> fmt::Debug for ExactlyOnce<K, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ExactlyOnce")
    }
}
