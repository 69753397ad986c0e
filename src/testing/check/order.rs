//! The effects of one key come in their order.

use std::collections::BTreeMap;
use std::fmt;

use super::effects::{Effect, Effects, Place};
use super::{Check, Scene, Verdict, Violation};

/// The effects of each key have ascending positions: sequence numbers that the job counts, or those of the input. With [`PerKeyOrder::without_gaps`] they have to be 1, 2, 3
/// and so on: a count that state which was lost begins anew, or that skips a record, is found by this.
///
/// A job keeps the order of a key from its exchange by key on, so no other exchange may stand between there and the sink.
pub struct PerKeyOrder<K, S: Effects> {
    sink: S,
    position: Box<dyn Fn(&S::Record) -> (K, u64)>,
    gaps: bool,
    read: usize,
    last: BTreeMap<K, (u64, Place)>,
}

impl<K: Ord + Clone + fmt::Debug + 'static, S: Effects + Clone> PerKeyOrder<K, S> {
    /// `key` gives the key of an effect, `position` its place among the effects of this key.
    pub fn new(
        sink: &S,
        key: impl Fn(&S::Record) -> K + 'static,
        position: impl Fn(&S::Record) -> u64 + 'static,
    ) -> PerKeyOrder<K, S> {
        let position = Box::new(move |effect: &S::Record| (key(effect), position(effect)));
        PerKeyOrder { sink: sink.clone(), position, gaps: true, read: 0, last: BTreeMap::new() }
    }

    /// The first position of a key is 1, and each is one more than the one before.
    #[must_use]
    pub fn without_gaps(mut self) -> PerKeyOrder<K, S> {
        self.gaps = false;
        self
    }

    fn follow(&mut self, effects: &[Effect<S::Record>]) -> Result<(), Violation> {
        for effect in effects {
            let (key, position) = (self.position)(&effect.record);
            let place = effect.place();
            let former = self.last.insert(key.clone(), (position, place));
            let sink = self.sink.name();
            match former {
                None if self.gaps || position == 1 => {}
                None => {
                    return Err(Violation::new(format!(
                        "the effects of key {key:?} in `{sink}` begin with {position} instead of 1: {place}"
                    )));
                }
                Some((before, _)) if position > before && (self.gaps || position == before + 1) => {}
                Some((before, former)) => {
                    let rule =
                        if position <= before { "an effect went back" } else { "effects are missing between them" };
                    return Err(Violation::new(format!(
                        "key {key:?} in `{sink}`: {position}, {place}, came after {before}, {former}: {rule}"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl<K: Ord + Clone + fmt::Debug + 'static, S: Effects + Clone> Check for PerKeyOrder<K, S> {
    fn rule(&self) -> &str {
        "order per key"
    }

    fn observe(&mut self, _: &Scene<'_>) -> Result<(), Violation> {
        let effects = self.sink.from(self.read);
        self.read += effects.len();
        self.follow(&effects)
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        self.last.clear();
        self.read = 0;
        let effects = self.sink.all(scene)?;
        // Another process may follow: what was followed here is not followed once more there.
        self.read = effects.len();
        self.follow(&effects).map(|()| Verdict::Kept)
    }
}

impl<K, S: Effects> fmt::Debug for PerKeyOrder<K, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PerKeyOrder({})", self.sink.name())
    }
}
