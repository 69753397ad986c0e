//! A breadth-first explorer: walks every state that a small world can reach and keeps the shortest way to a bad one.
//!
//! A world is any value that can be cloned and hashed. Its possible next worlds come from one function, the rule
//! that must hold in all of them from another. States are remembered by a 128-bit fingerprint, so a walk holds only the
//! worlds of its frontier in memory; two different worlds of a million share one with a chance of about 1 to 10^27.

use std::collections::HashSet;
use std::fmt::{Debug, Write as _};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

/// How far a walk goes. A walk that meets a bound is not complete, and says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most different states to visit.
    pub states: usize,
    /// The most steps from the initial world.
    pub depth: usize,
}

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Exploration<S> {
    /// The name of the walk, for the printed line.
    pub name: String,
    /// How many different states were visited.
    pub states: usize,
    /// How many steps were taken, also those to states already known.
    pub steps: usize,
    /// How many states have no next one.
    pub at_rest: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// Whether every reachable state was visited: no bound was met and no counterexample ended the walk.
    pub complete: bool,
    /// The shortest way to a state that breaks the rule, if there is one.
    pub counterexample: Option<Counterexample<S>>,
}

/// A shortest way from the initial world to a state that breaks the rule.
#[derive(Debug)]
pub(crate) struct Counterexample<S> {
    /// The steps, in order.
    pub trace: Vec<S>,
    /// What does not hold after the last one.
    pub violation: String,
}

impl<S: Debug> Exploration<S> {
    /// Fails the test with the trace if the rule was broken, or if a bound ended the walk early.
    #[track_caller]
    pub(crate) fn assert_holds_everywhere(&self) {
        if let Some(counterexample) = &self.counterexample {
            panic!("{}: {}", self.name, counterexample.describe());
        }
        assert!(self.complete, "{}: a bound ended the walk, {} states were not enough", self.name, self.states);
    }

    /// The counterexample; fails the test if the walk found none.
    #[track_caller]
    pub(crate) fn expect_counterexample(&self) -> &Counterexample<S> {
        match &self.counterexample {
            Some(counterexample) => {
                println!("{}: {}", self.name, counterexample.describe());
                counterexample
            }
            None => panic!("{}: no state of {} breaks the rule", self.name, self.states),
        }
    }
}

impl<S: Debug> Counterexample<S> {
    fn describe(&self) -> String {
        let mut text = format!("{}\nafter {} steps:", self.violation, self.trace.len());
        for (number, step) in self.trace.iter().enumerate() {
            write!(text, "\n  {}. {step:?}", number + 1).expect("writing to a string succeeds");
        }
        text
    }
}

/// Where a visited state came from: the index of the state before it, and the step.
struct Visited<S> {
    before: Option<usize>,
    step: Option<S>,
}

/// Walks all states that `initial` can reach, breadth first, and ends at the first that breaks `rule`.
///
/// `steps` appends each possible next step with the world after it; an empty answer means that the world is at rest.
/// `rule` hears whether the world is at rest, so it can ask there for what must come true *in the end* (an endless run is
/// a cycle, which a world with finite supplies of events does not have). Prints one line with bounds and counts.
pub(crate) fn explore<W, S>(
    name: &str,
    initial: W,
    bounds: Bounds,
    steps: impl Fn(&W, &mut Vec<(S, W)>),
    rule: impl Fn(&W, AtRest) -> Result<(), String>,
) -> Exploration<S>
where
    W: Clone + Hash,
    S: Clone + Debug,
{
    let mut known: HashSet<u128, BuildHasherDefault<DefaultHasher>> = HashSet::default();
    known.insert(fingerprint(&initial));
    let mut visited = vec![Visited { before: None, step: None }];
    let mut frontier = vec![(0_usize, initial)];
    let mut found = Exploration {
        name: name.to_owned(),
        states: 1,
        steps: 0,
        at_rest: 0,
        depth: 0,
        complete: true,
        counterexample: None,
    };
    let mut successors = Vec::new();
    let mut depth = 0;
    'walk: while !frontier.is_empty() {
        found.depth = depth;
        let mut next = Vec::new();
        for (index, world) in frontier.drain(..) {
            successors.clear();
            steps(&world, &mut successors);
            let at_rest = AtRest(successors.is_empty());
            found.at_rest += usize::from(at_rest.0);
            if let Err(violation) = rule(&world, at_rest) {
                found.counterexample = Some(Counterexample { trace: trace(&visited, index), violation });
                found.complete = false;
                break 'walk;
            }
            found.steps += successors.len();
            for (step, after) in successors.drain(..) {
                if !known.insert(fingerprint(&after)) {
                    continue;
                }
                if visited.len() == bounds.states || depth == bounds.depth {
                    found.complete = false;
                    break 'walk;
                }
                visited.push(Visited { before: Some(index), step: Some(step) });
                next.push((visited.len() - 1, after));
            }
        }
        frontier = next;
        depth += 1;
    }
    found.states = visited.len();
    println!(
        "walk `{name}`: {} states, {} steps, {} at rest, depth {} (bounds: {} states, depth {}), {}",
        found.states,
        found.steps,
        found.at_rest,
        found.depth,
        bounds.states,
        bounds.depth,
        match (&found.counterexample, found.complete) {
            (Some(_), _) => "counterexample",
            (None, true) => "complete",
            (None, false) => "cut off at a bound",
        }
    );
    found
}

/// Whether a world has no next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtRest(pub bool);

fn trace<S: Clone>(visited: &[Visited<S>], end: usize) -> Vec<S> {
    let mut steps = Vec::new();
    let mut at = end;
    while let Visited { before: Some(before), step: Some(step) } = &visited[at] {
        steps.push(step.clone());
        at = *before;
    }
    steps.reverse();
    steps
}

/// Two SipHashes with fixed keys, told apart by a prefix: the same in every run.
fn fingerprint(world: &impl Hash) -> u128 {
    let half = |prefix: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(prefix);
        world.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}

mod tests {
    use super::{AtRest, Bounds, explore};

    const BOUNDS: Bounds = Bounds { states: 1_000, depth: 100 };

    /// Two counters up to 9 that are raised one at a time.
    fn raise((left, right): &(u8, u8), next: &mut Vec<(&'static str, (u8, u8))>) {
        if *left < 9 {
            next.push(("left", (left + 1, *right)));
        }
        if *right < 9 {
            next.push(("right", (*left, right + 1)));
        }
    }

    #[test]
    fn a_walk_visits_every_state_once() {
        let found = explore("counters", (0, 0), BOUNDS, raise, |_, _| Ok(()));
        found.assert_holds_everywhere();
        assert_eq!((found.states, found.steps, found.at_rest, found.depth), (100, 180, 1, 18));
    }

    #[test]
    fn a_walk_returns_the_shortest_way_to_a_broken_rule() {
        let found = explore("broken", (0, 0), BOUNDS, raise, |&(left, right), _| {
            if left + right == 3 && right == 1 { Err("three, one of them right".to_owned()) } else { Ok(()) }
        });
        let counterexample = found.expect_counterexample();
        assert_eq!(counterexample.violation, "three, one of them right");
        let mut trace = counterexample.trace.clone();
        trace.sort_unstable();
        assert_eq!(trace, ["left", "left", "right"]);
    }

    #[test]
    fn a_rule_for_the_end_is_asked_only_at_rest() {
        let found = explore("end", (0, 0), BOUNDS, raise, |world, at_rest| {
            if at_rest == AtRest(true) && *world == (9, 9) { Err("the end".to_owned()) } else { Ok(()) }
        });
        assert_eq!(found.expect_counterexample().trace.len(), 18);
    }

    #[test]
    #[should_panic(expected = "a bound ended the walk")]
    fn a_walk_that_meets_a_bound_does_not_pass() {
        let bounds = Bounds { states: 50, depth: 100 };
        explore("bounded", (0, 0), bounds, raise, |_, _| Ok(())).assert_holds_everywhere();
    }
}
