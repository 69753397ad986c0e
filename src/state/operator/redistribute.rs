//! Which part of the stored operator state an instance takes: a pure function of how it was stored and how many instances there are now.

use std::ops::Range;

use alluvium_actors::protocol::mutation::{Mutation, is_active};

use crate::state::StateKind;

/// What becomes of a state of an operator when it is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Redistribution {
    /// The elements of all former instances, in their order, are dealt out evenly. At the parallelism of the checkpoint each instance keeps its own.
    Split,
    /// Every instance gets the elements of all former ones.
    Union,
    /// Every instance gets what one former instance stored: all stored the same.
    Broadcast,
}

impl Redistribution {
    /// That of a kind of operator state; nothing for keyed state.
    #[must_use]
    pub fn of(kind: StateKind) -> Option<Redistribution> {
        match kind {
            StateKind::SplitList => Some(Redistribution::Split),
            StateKind::UnionList => Some(Redistribution::Union),
            StateKind::BroadcastMap => Some(Redistribution::Broadcast),
            StateKind::Value | StateKind::List | StateKind::Map | StateKind::Reducing | StateKind::Aggregating => None,
        }
    }
}

/// How many elements of a state a former instance stored. An instance that stored nothing at all may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The parallel index of the former instance.
    pub subtask: u32,
    /// How many elements.
    pub elements: u64,
}

/// Elements that an instance takes of those that a former one stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The position of the former instance in the list of what is held.
    pub held: usize,
    /// Which of its elements, by their place in the list.
    pub elements: Range<u64>,
}

/// What instance `subtask` of `parallelism` takes of a state that `former` instances stored: in the order in which it has to put it together. `held` is sorted by the former
/// instances.
///
/// ```
/// use alluvium::state::{Held, Redistribution, Share, shares};
///
/// // Two instances stored three elements and two; the first of four takes two, the others one each.
/// let held = [Held { subtask: 0, elements: 3 }, Held { subtask: 1, elements: 2 }];
/// let of = |subtask| shares(Redistribution::Split, &held, 2, 4, subtask);
/// assert_eq!(of(0), [Share { held: 0, elements: 0..2 }]);
/// assert_eq!(of(3), [Share { held: 1, elements: 1..2 }]);
/// ```
#[must_use]
pub fn shares(
    redistribution: Redistribution,
    held: &[Held],
    former: u32,
    parallelism: u32,
    subtask: u32,
) -> Vec<Share> {
    let whole = |(position, held): (usize, &Held)| Share { held: position, elements: 0..held.elements };
    let all = held.iter().enumerate();
    match redistribution {
        Redistribution::Split if former == parallelism => {
            all.filter(|(_, held)| held.subtask == subtask).map(whole).collect()
        }
        Redistribution::Split => dealt(held, part(held, parallelism, subtask)),
        Redistribution::Union => {
            let own_only = is_active(Mutation::UnionOfItsOwn);
            all.filter(|(_, held)| !own_only || held.subtask == subtask).map(whole).collect()
        }
        Redistribution::Broadcast => {
            if held.is_empty() || (is_active(Mutation::BroadcastLostOnScaleUp) && subtask >= former) {
                return Vec::new();
            }
            // Its own if it has one: nothing is read twice. Else in turn, so that not all read the same.
            let own = held.iter().position(|held| held.subtask == subtask);
            let position = own.unwrap_or(subtask as usize % held.len());
            vec![whole((position, &held[position]))]
        }
    }
}

/// The place of an instance's part in the row of all elements. The first instances take one more where the division leaves a rest.
fn part(held: &[Held], parallelism: u32, subtask: u32) -> Range<u64> {
    let total: u64 = held.iter().map(|held| held.elements).sum();
    let (parallelism, subtask) = (u64::from(parallelism.max(1)), u64::from(subtask));
    let (each, rest) = (total / parallelism, total % parallelism);
    let start = |subtask: u64| subtask * each + subtask.min(rest);
    let end = start(subtask + 1);
    let end = if is_active(Mutation::SplitLosesTheLast) && end == total { end.saturating_sub(1) } else { end };
    start(subtask)..end
}

/// The elements of a part, by who holds them.
fn dealt(held: &[Held], part: Range<u64>) -> Vec<Share> {
    let mut shares = Vec::new();
    let mut first = 0;
    for (position, Held { elements, .. }) in held.iter().enumerate() {
        let (from, to) = (part.start.max(first), part.end.min(first + elements));
        if from < to {
            shares.push(Share { held: position, elements: from - first..to - first });
        }
        first += elements;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(elements: &[u64]) -> Vec<Held> {
        elements.iter().zip(0..).map(|(elements, subtask)| Held { subtask, elements: *elements }).collect()
    }

    fn of_all(kind: Redistribution, held: &[Held], former: u32, parallelism: u32) -> Vec<Vec<(u32, Range<u64>)>> {
        let of = |subtask| {
            let shares = shares(kind, held, former, parallelism, subtask);
            shares.into_iter().map(|share| (held[share.held].subtask, share.elements)).collect()
        };
        (0..parallelism).map(of).collect()
    }

    #[test]
    fn a_split_list_is_dealt_out_evenly_and_in_order() {
        assert_eq!(
            of_all(Redistribution::Split, &held(&[3, 1, 3]), 3, 2),
            [vec![(0, 0..3), (1, 0..1)], vec![(2, 0..3)]]
        );
        assert_eq!(
            of_all(Redistribution::Split, &held(&[5]), 1, 3),
            [vec![(0, 0..2)], vec![(0, 2..4)], vec![(0, 4..5)]]
        );
        assert_eq!(of_all(Redistribution::Split, &held(&[1]), 1, 2), [vec![(0, 0..1)], vec![]]);
    }

    #[test]
    fn a_split_list_stays_where_it_is_at_the_same_parallelism() {
        assert_eq!(
            of_all(Redistribution::Split, &held(&[3, 0, 1]), 3, 3),
            [vec![(0, 0..3)], vec![(1, 0..0)], vec![(2, 0..1)]]
        );
    }

    #[test]
    fn every_instance_gets_all_of_a_union_list() {
        let all = vec![(0, 0..2), (1, 0..1)];
        assert_eq!(of_all(Redistribution::Union, &held(&[2, 1]), 2, 3), [all.clone(), all.clone(), all.clone()]);
        assert_eq!(of_all(Redistribution::Union, &held(&[2, 1]), 2, 2), [all.clone(), all.clone()]);
        assert_eq!(of_all(Redistribution::Union, &held(&[2, 1]), 2, 1), [all]);
    }

    #[test]
    fn every_instance_gets_a_broadcast_map_once() {
        assert_eq!(
            of_all(Redistribution::Broadcast, &held(&[4, 4]), 2, 3),
            [vec![(0, 0..4)], vec![(1, 0..4)], vec![(0, 0..4)]]
        );
        assert_eq!(of_all(Redistribution::Broadcast, &held(&[4, 4, 4]), 3, 1), [vec![(0, 0..4)]]);
    }

    #[test]
    fn a_broadcast_map_survives_instances_that_stored_nothing() {
        let some = [Held { subtask: 1, elements: 4 }, Held { subtask: 3, elements: 4 }];
        for parallelism in 1..=6 {
            for (subtask, shares) in of_all(Redistribution::Broadcast, &some, 4, parallelism).iter().enumerate() {
                assert_eq!(shares.len(), 1, "instance {subtask} of {parallelism}");
                assert_eq!(shares[0].1, 0..4);
            }
        }
        assert_eq!(of_all(Redistribution::Broadcast, &[], 2, 2), [vec![], vec![]]);
    }

    #[test]
    fn lists_survive_instances_that_stored_nothing_or_an_empty_list() {
        let some =
            [Held { subtask: 1, elements: 2 }, Held { subtask: 2, elements: 0 }, Held { subtask: 3, elements: 1 }];
        assert_eq!(of_all(Redistribution::Split, &some, 4, 2), [vec![(1, 0..2)], vec![(3, 0..1)]]);
        let all = vec![(1, 0..2), (2, 0..0), (3, 0..1)];
        assert_eq!(of_all(Redistribution::Union, &some, 4, 2), [all.clone(), all]);
    }

    #[test]
    fn whatever_the_sizes_every_element_of_a_split_list_is_dealt_once_and_in_order() {
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..2_000 {
            let former = 1 + draw(9) as u32;
            let parallelism = 1 + draw(9) as u32;
            let stored: Vec<u64> = (0..former).map(|_| draw(7)).collect();
            let held = held(&stored);
            let dealt = of_all(Redistribution::Split, &held, former, parallelism);
            let expected: Vec<(u32, u64)> =
                held.iter().flat_map(|held| (0..held.elements).map(|element| (held.subtask, element))).collect();
            let got: Vec<(u32, u64)> = dealt
                .iter()
                .flatten()
                .flat_map(|(subtask, elements)| elements.clone().map(|element| (*subtask, element)))
                .collect();
            assert_eq!(got, expected, "{stored:?} into {parallelism}");
            let sizes: Vec<u64> = dealt
                .iter()
                .map(|shares| shares.iter().map(|(_, elements)| elements.end - elements.start).sum())
                .collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(former == parallelism || most - least <= 1, "{stored:?} into {sizes:?}");
            let union = of_all(Redistribution::Union, &held, former, parallelism);
            assert!(union.iter().all(|shares| shares.len() == held.len()));
        }
    }
}
