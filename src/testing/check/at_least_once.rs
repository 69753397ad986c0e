//! Every record takes effect at least once.

use std::fmt;

use super::effects::Effects;
use super::lineage::{Origins, RecordKey, Tally};
use super::{Check, Scene, Verdict, Violation};
use crate::record::Record;
use crate::testing::models::Records;

/// Every record of a source has taken effect at least once at the end of the job, and nothing else has. When the job was stopped: every record before the barrier of its
/// last checkpoint. As [`ExactlyOnce`](super::ExactlyOnce), but records may take effect again.
pub struct AtLeastOnce<K, S: Effects>(Tally<K, S>);

impl<K: Ord + Clone + fmt::Debug + 'static, S: Effects + Clone> AtLeastOnce<K, S> {
    /// `key` names a record, or gives nothing for one that is to have no effect; `of` gives the name of the record that an effect comes from.
    pub fn new<T: Record, R: Into<Option<K>> + 'static>(
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
        sink: &S,
        of: impl Fn(&S::Record) -> K + 'static,
    ) -> AtLeastOnce<K, S> {
        AtLeastOnce::with_lineage(source, key, sink, move |effect| [of(effect)])
    }

    /// For effects that come from several records each, or from none.
    pub fn with_lineage<T: Record, R: Into<Option<K>> + 'static, I: IntoIterator<Item = K>>(
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
        sink: &S,
        lineage: impl Fn(&S::Record) -> I + 'static,
    ) -> AtLeastOnce<K, S> {
        let lineage = Box::new(move |effect: &S::Record| lineage(effect).into_iter().collect());
        AtLeastOnce(Tally::new(Origins::of(source, key), sink.clone(), lineage, false))
    }

    /// The records of another source take effect in the same place.
    #[must_use]
    pub fn and_from<T: Record, R: Into<Option<K>> + 'static>(
        mut self,
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
    ) -> AtLeastOnce<K, S> {
        self.0.origins().add(source, key);
        self
    }
}

impl<K: RecordKey, S: Effects> Check for AtLeastOnce<K, S> {
    fn rule(&self) -> &str {
        "at least once"
    }

    fn observe(&mut self, _: &Scene<'_>) -> Result<(), Violation> {
        self.0.observe()
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.0.ended(scene).map(|()| Verdict::Kept)
    }
}

impl<K, S: Effects> fmt::Debug for AtLeastOnce<K, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AtLeastOnce")
    }
}
