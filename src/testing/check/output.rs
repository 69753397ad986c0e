//! The output is what it should be, record by record, in any order.

use std::collections::BTreeMap;
use std::fmt;

use alluvium_actors::protocol::lifecycle::JobState;

use super::effects::{Effects, Place};
use super::{Check, Scene, Verdict, Violation, few};
use crate::record::Record;
use crate::testing::print::whole_text_of_record;
use crate::testing::tree::Tree;

/// What took effect is exactly what the test expects, each record as often as it is expected, in any order. For a job that was stopped before its end, nothing else is.
pub struct Output<S: Effects> {
    sink: S,
    expected: BTreeMap<Tree, Expected>,
    /// The first expected record that cannot be compared.
    unusable: Option<String>,
}

/// A record that is expected.
struct Expected {
    text: String,
    times: usize,
}

impl<S: Effects + Clone> Output<S>
where
    S::Record: Record,
{
    /// All effects of a finished job. Records are equal when their encodings are, maps without regard to their order.
    pub fn new(sink: &S, expected: impl IntoIterator<Item = S::Record>) -> Output<S> {
        let mut output = Output { sink: sink.clone(), expected: BTreeMap::new(), unusable: None };
        for record in expected {
            match Tree::of(&record) {
                Ok(tree) => {
                    let first = || Expected { text: whole_text_of_record(&record), times: 0 };
                    output.expected.entry(tree).or_insert_with(first).times += 1;
                }
                Err(error) => drop(output.unusable.get_or_insert(error)),
            }
        }
        output
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
        if let Some(error) = &self.unusable {
            return Err(Violation::new(format!(
                "an expected record cannot be encoded, and so not be compared: {error}"
            )));
        }
        let mut found: BTreeMap<Tree, (String, Vec<Place>)> = BTreeMap::new();
        for effect in self.sink.all(scene)? {
            let sink = self.sink.name();
            let tree = Tree::of(&effect.record).map_err(|error| {
                format!("a record in `{sink}` cannot be encoded, and so not be compared: {error}, {}", effect.place())
            })?;
            let first = || (whole_text_of_record(&effect.record), Vec::new());
            found.entry(tree).or_insert_with(first).1.push(effect.place());
        }
        let finished = scene.world.state == JobState::Finished;
        let is_missing = |(tree, expected): &(&Tree, &Expected)| {
            finished && found.get(tree).map_or(0, |(_, places)| places.len()) < expected.times
        };
        let missing: Vec<String> =
            self.expected.iter().filter(is_missing).map(|(_, expected)| expected.text.clone()).collect();
        let wanted = |tree: &Tree| self.expected.get(tree).map_or(0, |expected| expected.times);
        let surplus = found.iter().filter(|(tree, (_, places))| places.len() > wanted(tree));
        let surplus: Vec<String> = surplus
            .map(|(_, (text, places))| {
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
