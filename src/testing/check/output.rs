//! The output is what it should be, record by record, in any order.

use std::collections::BTreeMap;
use std::fmt;

use alluvium_actors::protocol::lifecycle::JobState;

use super::effects::{Effects, Place};
use super::{Check, Scene, Verdict, Violation, few};
use crate::record::Record;
use crate::testing::print::canonical;

/// What took effect is exactly what the test expects, each record as often as it is expected, in any order. For a job that was stopped before its end, nothing else is.
pub struct Output<S: Effects> {
    sink: S,
    /// By their text.
    expected: BTreeMap<String, u64>,
}

impl<S: Effects + Clone> Output<S>
where
    S::Record: Record,
{
    /// All effects of a finished job.
    pub fn new(sink: &S, expected: impl IntoIterator<Item = S::Record>) -> Output<S> {
        let mut counts = BTreeMap::new();
        for record in expected {
            *counts.entry(canonical(&record, false)).or_default() += 1;
        }
        Output { sink: sink.clone(), expected: counts }
    }
}

impl<S: Effects> Check for Output<S>
where
    S::Record: Record,
{
    fn rule(&self) -> &str {
        "the expected output"
    }

    fn ended(&mut self, scene: &Scene<'_>) -> Result<Verdict, Violation> {
        let mut found: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for effect in self.sink.all(scene)? {
            found.entry(canonical(&effect.record, false)).or_default().push(effect.place());
        }
        let wanted = |text: &String| self.expected.get(text).copied().unwrap_or_default();
        let finished = scene.world.state == JobState::Finished;
        let missing = self
            .expected
            .iter()
            .filter(|(text, wanted)| finished && found.get(*text).map_or(0, |places| places.len() as u64) < **wanted);
        let missing: Vec<String> = missing.map(|(text, _)| text.clone()).collect();
        let surplus = found.iter().filter(|(text, places)| places.len() as u64 > wanted(text));
        let surplus: Vec<String> = surplus
            .map(|(text, places)| {
                let at: Vec<String> = places.iter().map(ToString::to_string).collect();
                format!("{text} {}", at.join(" and "))
            })
            .collect();
        let mut parts = Vec::new();
        if !missing.is_empty() {
            parts.push(format!("missing: {}", few(missing)));
        }
        if !surplus.is_empty() {
            parts.push(format!("not expected, or not so often: {}", few(surplus)));
        }
        if parts.is_empty() {
            return Ok(Verdict::Kept);
        }
        Err(Violation::new(format!(
            "the output in `{}` is not what is expected; {}",
            self.sink.name(),
            parts.join("; ")
        )))
    }
}

impl<S: Effects> fmt::Debug for Output<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Output({}, {} different records)", self.sink.name(), self.expected.len())
    }
}
