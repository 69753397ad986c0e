//! What the operators of a job are called: the points say numbers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use alluvium_actors::plan::Plan;
use alluvium_actors::ports::host::Address;
use alluvium_actors::ports::points::{Hit, Who};
use alluvium_actors::ports::store::name_part;

/// The names of a job's chains, operators and sinks.
#[derive(Clone, Debug, Default)]
pub struct Names {
    chains: Vec<Chain>,
    sinks: Vec<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Chain {
    name: Arc<str>,
    /// What a fault at it calls it: the uid of one of its operators, or its name if none of them has one.
    called: String,
    /// The name of the chain, those of its operators, and the uids.
    known_as: BTreeSet<String>,
    /// The uids of its operators.
    uids: BTreeSet<String>,
}

impl Names {
    /// The names in a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Names {
        let chains = plan.nodes.iter().map(|node| {
            let uids = node.uids.iter().map(|uid| uid.as_str().to_owned());
            let parts = node.name.split(" -> ").map(str::to_owned);
            let known_as = uids.chain(parts).chain([node.name.clone()]).collect();
            let called = node.uids.first().map_or(node.name.as_str(), |uid| uid.as_str()).to_owned();
            let uids = node.uids.iter().map(|uid| uid.as_str().to_owned()).collect();
            Chain { name: Arc::from(node.name.as_str()), called, known_as, uids }
        });
        let sinks = plan.sinks.iter().map(|sink| Arc::from(sink.uid.as_str()));
        Names { chains: chains.collect(), sinks: sinks.collect() }
    }

    /// Where a point is reached.
    pub(crate) fn spot(&self, hit: &Hit<'_>) -> Spot {
        match self.place(hit) {
            Place::Chain(node, subtask) => Spot::Chain(node, subtask),
            Place::Instance(operator, subtask) => Spot::Instance(Arc::from(operator), subtask),
            Place::Sink(sink) => Spot::Sink(sink),
            Place::Elsewhere => Spot::Elsewhere,
        }
    }

    /// The operator and the subtask of a spot, as the filters of a fault name them.
    pub(crate) fn filters(&self, spot: &Spot) -> (Option<String>, Option<u32>) {
        match spot {
            Spot::Chain(node, subtask) => (self.chains.get(*node).map(|chain| chain.called.clone()), Some(*subtask)),
            Spot::Instance(operator, subtask) => (Some(operator.to_string()), Some(*subtask)),
            Spot::Sink(sink) => (self.sinks.get(*sink).map(ToString::to_string), None),
            Spot::Elsewhere => (None, None),
        }
    }

    /// Whether an operator, a source, a sink or a chain is called so.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn knows(&self, operator: &str) -> bool {
        self.chains.iter().any(|chain| chain.known_as.contains(operator))
            || self.sinks.iter().any(|uid| **uid == *operator)
    }

    /// All these names.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn known(&self) -> String {
        let chains = self.chains.iter().flat_map(|chain| &chain.known_as).map(String::as_str);
        let all: BTreeSet<&str> = chains.chain(self.sinks.iter().map(|uid| &**uid)).collect();
        all.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// Whether it is at this operator that a point is reached.
    pub(super) fn is_at(&self, operator: &str, hit: &Hit<'_>) -> bool {
        match self.place(hit) {
            Place::Chain(node, _) => self.chains.get(node).is_some_and(|chain| chain.known_as.contains(operator)),
            Place::Instance(file, _) => self.is_called(|uid| name_part(uid) == file, operator) || file == operator,
            Place::Sink(sink) => self
                .sinks
                .get(sink)
                .is_some_and(|name| **name == *operator || self.is_called(|uid| *uid == **name, operator)),
            Place::Elsewhere => false,
        }
    }

    /// Whether the operator with this uid is called so: by its uid, or by a name of its chain that is not the uid of another in it.
    fn is_called(&self, is_uid: impl Fn(&str) -> bool, operator: &str) -> bool {
        is_uid(operator)
            || self.chains.iter().any(|chain| {
                chain.uids.iter().any(|uid| is_uid(uid))
                    && chain.known_as.contains(operator)
                    && !chain.uids.contains(operator)
            })
    }

    /// The subtask that reaches a point.
    pub(super) fn subtask(&self, hit: &Hit<'_>) -> Option<u32> {
        match self.place(hit) {
            Place::Chain(_, subtask) | Place::Instance(_, subtask) => Some(subtask),
            Place::Sink(_) | Place::Elsewhere => None,
        }
    }

    fn place<'a>(&self, hit: &Hit<'a>) -> Place<'a> {
        let of = |address: Address| match address {
            Address::Subtask(subtask, _) => Place::Chain(subtask.node.0 as usize, subtask.index),
            Address::Sink(sink, _) => Place::Sink(sink as usize),
            Address::Supervisor | Address::Coordinator => Place::Elsewhere,
        };
        match hit.who {
            Who::Actor(address) => of(address),
            // A message belongs to the subtask that sends it, or else to the one that it is for.
            Who::Sender { from, to } => match of(from) {
                Place::Elsewhere => of(to),
                place => place,
            },
            Who::Instance { operator, subtask } => Place::Instance(operator, subtask),
            Who::Sink(sink) => Place::Sink(sink as usize),
            Who::Job => Place::Elsewhere,
        }
    }

    /// The name of an actor: `join[1]`, `sink lines`, `coordinator`.
    #[must_use]
    pub fn actor(&self, address: Address) -> String {
        match address {
            Address::Supervisor => "supervisor".to_owned(),
            Address::Coordinator => "coordinator".to_owned(),
            Address::Sink(sink, _) => match self.sinks.get(sink as usize) {
                Some(uid) => format!("sink {uid}"),
                None => format!("sink {sink}"),
            },
            Address::Subtask(subtask, _) => match self.chains.get(subtask.node.0 as usize) {
                Some(chain) => format!("{}[{}]", chain.name, subtask.index),
                None => format!("subtask {subtask}"),
            },
        }
    }

    /// Where a point is reached, in words.
    #[must_use]
    pub fn tell(&self, hit: &Hit<'_>) -> String {
        let mut text = match hit.who {
            Who::Actor(address) => self.actor(address),
            Who::Sender { from, to } => format!("{} to {}", self.actor(from), self.actor(to)),
            Who::Instance { operator, subtask } => format!("{operator}[{subtask}]"),
            Who::Sink(sink) => self.sinks.get(sink as usize).map_or_else(String::new, |uid| format!("sink {uid}")),
            Who::Job => "the job".to_owned(),
        };
        if let Some(checkpoint) = hit.checkpoint {
            let _ = write!(text, ", checkpoint {checkpoint}");
        }
        if let Some(end) = hit.channel {
            let consumer = self.actor(end.consumer);
            let _ = write!(text, ", channel {} of {consumer}, {} records", end.channel.0, end.records);
        }
        text
    }
}

/// Where a point is reached, to be counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    /// At a subtask of a chain.
    Chain(usize, u32),
    /// At the work for an instance of an operator, by the operator's name in files.
    Instance(Arc<str>, u32),
    /// At the committing side of a sink.
    Sink(usize),
    /// At none of them.
    Elsewhere,
}

/// Where a point is reached.
enum Place<'a> {
    Chain(usize, u32),
    Instance(&'a str, u32),
    Sink(usize),
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use alluvium_actors::ids::{Attempt, SubtaskId};
    use alluvium_actors::ports::points::Point;

    use super::*;

    /// A source, and behind it a chain of two operators and a sink.
    fn names() -> Names {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        let chain = |name: &str, called: &str, parts: &[&str], uids: &[&str]| Chain {
            name: Arc::from(name),
            called: called.to_owned(),
            known_as: texts(parts).into_iter().chain(texts(uids)).chain([name.to_owned()]).collect(),
            uids: texts(uids),
        };
        Names {
            chains: vec![
                chain("lines", "lines", &["lines"], &["lines"]),
                chain("join -> clean -> out", "join by name", &["join", "clean", "out"], &["join by name", "out/1"]),
            ],
            sinks: vec![Arc::from("out/1")],
        }
    }

    #[test]
    fn an_operator_is_found_by_every_name_that_is_known_wherever_a_point_is_reached() {
        let names = names();
        let (join, out) = (name_part("join by name"), name_part("out/1"));
        let chain = Who::Actor(Address::Subtask(SubtaskId::new(1, 0), Attempt(1)));
        let at = |who| Hit::work(Point::BlobWrite, who);
        let whole = ["join -> clean -> out", "join", "clean", "out"];
        for (hit, yes, no) in [
            (at(chain), &["join by name", "out/1"][..], &["lines"][..]),
            (at(Who::Instance { operator: &join, subtask: 0 }), &["join by name"], &["lines", "out/1"]),
            (at(Who::Instance { operator: &out, subtask: 0 }), &["out/1"], &["lines", "join by name"]),
            (at(Who::Sink(0)), &["out/1"], &["lines", "join by name"]),
        ] {
            for name in whole.iter().chain(yes) {
                assert!(names.is_at(name, &hit), "{name} at {hit:?}");
            }
            for name in no {
                assert!(!names.is_at(name, &hit), "{name} at {hit:?}");
            }
        }
        assert!(names.is_at(&join, &at(Who::Instance { operator: &join, subtask: 0 })), "as files are named");
        assert!(!names.is_at("join", &at(Who::Job)));
    }
}
