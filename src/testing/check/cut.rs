//! The cut is consistent: no record on both sides of a barrier, none on neither.

use std::fmt;

use alluvium_actors::ids::CheckpointId;

use super::effects::{Effect, Effects};
use super::lineage::{LineageOf, Origins, RecordKey, RecordPlace};
use super::{Check, Scene, Verdict, Violation};
use crate::record::Record;
use crate::testing::models::Records;

/// A checkpoint cuts source and sink in the same place: what lies before its barrier at the source is in the transactions up to this checkpoint, what lies behind it is not.
///
/// Positions are those that the readers of [`Records`] stored, transactions those that were committed. A job that keeps records back in its state (a window) takes
/// [`CutConsistency::effects_may_lag`].
pub struct CutConsistency<K, S: Effects> {
    origins: Origins<K>,
    sink: S,
    lineage: LineageOf<S::Record, K>,
    read: usize,
    lag: bool,
}

impl<K: Ord + Clone + fmt::Debug + 'static, S: Effects + Clone> CutConsistency<K, S> {
    /// `key` names a record, or gives nothing for one that is to have no effect; `of` gives the name of the record that an effect comes from. The sink has to tell the
    /// checkpoint of its effects: a [`Ledger`](crate::testing::models::Ledger), a [`Collect`](crate::connect::Collect), [`FileLines`](super::FileLines).
    pub fn new<T: Record, R: Into<Option<K>> + 'static>(
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
        sink: &S,
        of: impl Fn(&S::Record) -> K + 'static,
    ) -> CutConsistency<K, S> {
        CutConsistency::with_lineage(source, key, sink, move |effect| [of(effect)])
    }

    /// For effects that come from several records each, or from none.
    pub fn with_lineage<T: Record, R: Into<Option<K>> + 'static, I: IntoIterator<Item = K>>(
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
        sink: &S,
        lineage: impl Fn(&S::Record) -> I + 'static,
    ) -> CutConsistency<K, S> {
        let lineage = Box::new(move |effect: &S::Record| lineage(effect).into_iter().collect());
        CutConsistency { origins: Origins::of(source, key), sink: sink.clone(), lineage, read: 0, lag: false }
    }

    /// The records of another source take effect in the same place.
    #[must_use]
    pub fn and_from<T: Record, R: Into<Option<K>> + 'static>(
        mut self,
        source: &Records<T>,
        key: impl Fn(&T) -> R + 'static,
    ) -> CutConsistency<K, S> {
        self.origins.add(source, key);
        self
    }

    /// A record may stay in the state of the job across a barrier, and take effect with a later checkpoint.
    #[must_use]
    pub fn effects_may_lag(mut self) -> CutConsistency<K, S> {
        self.lag = true;
        self
    }
}

impl<K: Ord + Clone + fmt::Debug + 'static, S: Effects> CutConsistency<K, S> {
    /// No effect of a transaction comes from behind the barrier that closed it.
    fn none_behind(&mut self, effects: &[Effect<S::Record>], scene: &Scene<'_>) -> Result<(), Violation> {
        if effects.is_empty() {
            return Ok(());
        }
        let complete: Vec<CheckpointId> = scene.history.complete().map(|(checkpoint, _)| checkpoint).collect();
        for effect in effects {
            let Some(transaction) = effect.checkpoint else { continue };
            // Its own checkpoint may have been aborted; then the next one that was complete committed it.
            let committed_by = complete.get(complete.partition_point(|checkpoint| *checkpoint < transaction));
            let Some(checkpoint) = committed_by.copied() else { continue };
            for key in (self.lineage)(&effect.record) {
                let Some(records) = self.origins.named().get(&key).cloned() else { continue };
                let is_before = |record: &RecordPlace| {
                    self.origins.origins[record.origin].is_before(record.index, checkpoint, scene.history)
                };
                if records.iter().any(is_before) {
                    continue;
                }
                let (source, place, sink) = (self.place(records[0]), effect.place(), self.sink.name());
                return Err(Violation::new(format!(
                    "{key:?}, {source}, lies behind the barrier of checkpoint {checkpoint} at the source and before it at the sink: \
                     it took effect in `{sink}` {place}"
                )));
            }
        }
        Ok(())
    }

    /// No record before a barrier takes effect with a later checkpoint, or never.
    fn none_late(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let complete: Vec<CheckpointId> = scene.history.complete().map(|(checkpoint, _)| checkpoint).collect();
        let mut with = std::collections::BTreeMap::new();
        for effect in self.sink.all(scene)? {
            for key in (self.lineage)(&effect.record) {
                let place = effect.place();
                with.entry(key).or_insert(place);
            }
        }
        let sink = self.sink.name();
        self.origins.named();
        let named = self.origins.named().clone();
        for (key, records) in named {
            // Several records of one name cannot be told apart.
            let [record] = records[..] else { continue };
            let origin = &self.origins.origins[record.origin];
            let first = complete.iter().find(|at| origin.is_before(record.index, **at, scene.history));
            let Some(first) = first else { continue };
            let source = self.place(record);
            match with.get(&key) {
                Some(place) if place.checkpoint.is_none_or(|checkpoint| checkpoint <= *first) => {}
                Some(place) => {
                    return Err(Violation::new(format!(
                        "{key:?}, {source}, lies before the barrier of checkpoint {first} at the source and behind it at the sink: \
                         it took effect in `{sink}` {place}"
                    )));
                }
                None => {
                    return Err(Violation::new(format!(
                        "{key:?}, {source}, lies before the barrier of checkpoint {first} at the source and took no effect in `{sink}`"
                    )));
                }
            }
        }
        Ok(())
    }

    fn place(&self, record: RecordPlace) -> String {
        let origin = &self.origins.origins[record.origin];
        let split = origin.split_of(record.index).map(|split| format!(" in split {split}")).unwrap_or_default();
        format!("#{}{split} of `{}`", record.index, origin.name())
    }

    fn contradiction(&self) -> Result<(), Violation> {
        let wrong = self.origins.origins.iter().find_map(|origin| origin.contradiction());
        wrong.map_or(Ok(()), |wrong| Err(Violation::new(wrong)))
    }
}

impl<K: RecordKey, S: Effects> Check for CutConsistency<K, S> {
    fn rule(&self) -> &str {
        "a consistent cut"
    }

    fn observe(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        self.contradiction()?;
        let effects = self.sink.from(self.read);
        self.read += effects.len();
        self.none_behind(&effects, scene)
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.contradiction()?;
        let effects = self.sink.all(scene)?;
        self.none_behind(&effects, scene)?;
        if !self.lag {
            self.none_late(scene)?;
        }
        Ok(Verdict::Kept)
    }
}

impl<K, S: Effects> fmt::Debug for CutConsistency<K, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CutConsistency")
    }
}
