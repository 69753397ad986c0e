//! From where a run came past to the faults that can be let happen there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::{Action, End, Fault, Point, What};
use crate::testing::simulation::Place;

/// At which of the hits of a point by one subtask a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// The first.
    First,
    /// The first, the one in the middle, and the last.
    FirstMiddleLast,
    /// Each of them.
    Every,
}

impl Hits {
    fn of(self, hits: u64) -> Vec<u64> {
        let mut chosen = match self {
            Hits::First => vec![1],
            Hits::FirstMiddleLast => vec![1, hits.div_ceil(2), hits],
            Hits::Every => (1..=hits).collect(),
        };
        chosen.dedup();
        chosen
    }
}

/// Who reaches a point how often, whatever the checkpoint and the process.
pub(super) type Spots = BTreeMap<(Point, Option<String>, Option<u32>), u64>;

pub(super) fn spots(places: &BTreeMap<Place, u64>) -> Spots {
    let mut spots = Spots::new();
    for (place, hits) in places {
        *spots.entry((place.point, place.operator.clone(), place.subtask)).or_default() += hits;
    }
    spots
}

/// Every fault at every spot whose point `wants`.
pub(super) fn faults(spots: &Spots, hits: Hits, wants: impl Fn(Point) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for ((point, operator, subtask), reached) in spots.iter().filter(|((point, ..), _)| wants(*point)) {
        for what in point.actions().iter().flat_map(whats) {
            for hit in hits.of(*reached) {
                let mut fault = Fault::at(*point, what.clone()).expect("the point allows it").hit(hit);
                if let Some(operator) = operator {
                    fault = fault.operator(operator.clone());
                }
                if let Some(subtask) = subtask {
                    fault = fault.subtask(*subtask);
                }
                faults.push(fault);
            }
        }
    }
    faults
}

/// What stands for an action when all of them are tried.
fn whats(action: Action) -> Vec<What> {
    match action {
        Action::Crash => vec![What::Crash(End::Process), What::Crash(End::Machine)],
        Action::Kill => vec![What::Kill],
        Action::Error => vec![What::Error],
        Action::Panic => vec![What::Panic],
        // One that others overtake, and one that lets checkpoints run into their timeout.
        Action::Delay => vec![What::Delay(Duration::from_millis(7)), What::Delay(Duration::from_millis(700))],
        Action::Drop => vec![What::Drop],
        Action::Duplicate => vec![What::Duplicate],
        Action::Hold => vec![What::Hold(Point::CompletionReceived)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spot_gets_every_action_at_the_hits_that_were_asked_for() {
        assert_eq!(Hits::FirstMiddleLast.of(1), [1]);
        assert_eq!(Hits::FirstMiddleLast.of(2), [1, 2]);
        assert_eq!(Hits::FirstMiddleLast.of(9), [1, 5, 9]);
        assert_eq!(Hits::Every.of(3), [1, 2, 3]);
        let spots = Spots::from([
            ((Point::AcknowledgeSent, Some("join".to_owned()), Some(1)), 4),
            ((Point::RunBegins, None, None), 1),
        ]);
        let texts: Vec<_> = faults(&spots, Hits::First, |_| true).iter().map(ToString::to_string).collect();
        assert!(texts.contains(&"acknowledge.sent[operator=join,subtask=1]=drop".to_owned()), "{texts:?}");
        assert!(texts.contains(&"run.begins=error".to_owned()), "{texts:?}");
        assert_eq!(texts.len(), 9 + 7);
        assert!(faults(&spots, Hits::Every, |point| point == Point::RunBegins).len() == 7);
    }
}
