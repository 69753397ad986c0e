//! Names of operators and of the connections between them that do not change when widths do: by these a checkpoint finds what was in flight again.

use alluvium_actors::ids::OperatorUid;
use alluvium_actors::plan::EdgeName;
use xxhash_rust::xxh3::Xxh3Default;

use super::builder::{Builder, Operator};

/// The names of a job.
pub(super) struct Naming {
    /// For each operator its uid, or else its kind and position.
    names: Vec<OperatorUid>,
    /// Whether the name is a uid.
    given: Vec<bool>,
    /// A fingerprint of the operators in their order, with how they are connected. Neither widths nor what only people see goes into it.
    pub(super) graph: u64,
}

impl Naming {
    pub(super) fn of(builder: &Builder) -> Naming {
        let operators = builder.operators.iter().enumerate();
        let names = operators.map(|(position, operator)| {
            operator.uid.clone().unwrap_or_else(|| OperatorUid::new(&format!("{} #{position}", operator.kind)))
        });
        let given = builder.operators.iter().map(|operator| operator.uid.is_some()).collect();
        Naming { names: names.collect(), given, graph: fingerprint(builder) }
    }

    /// The connection by which the operator at `to` is fed: from the operator at `place` among those of an input.
    pub(super) fn edge(&self, to: usize, input: usize, place: usize, operator: &Operator) -> EdgeName {
        let upstreams = &operator.inputs[input].upstreams;
        let (from, port) = (upstreams[place].operator, upstreams[place].port);
        let same = upstreams[..place].iter().filter(|upstream| (upstream.operator, upstream.port) == (from, port));
        EdgeName {
            from: self.names[from].clone(),
            port: port as u32,
            to: self.names[to].clone(),
            input: input as u32,
            nth: same.count() as u32,
            graph: if self.given[from] && self.given[to] { 0 } else { self.graph },
        }
    }
}

/// Never 0.
fn fingerprint(builder: &Builder) -> u64 {
    let mut hash = Xxh3Default::new();
    let mut text = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for operator in &builder.operators {
        text(operator.kind);
        text(operator.uid.as_ref().map_or("", OperatorUid::as_str));
        for input in &operator.inputs {
            text("input");
            for upstream in &input.upstreams {
                text(&format!("{} {} {}", upstream.operator, upstream.port, upstream.exchange.name()));
            }
        }
    }
    hash.digest().max(1)
}

#[cfg(test)]
mod tests {
    use crate::Job;
    use crate::connect::{Collect, Generator};

    fn graph(parallelism: u32, keep: u64, extra: bool) -> u64 {
        let job = Job::new("named").parallelism(parallelism);
        let mut numbers = job.source("numbers", Generator::bounded(10, |index| index));
        if extra {
            numbers = numbers.map(|number| number);
        }
        let kept = numbers.filter(move |number| *number < keep).parallelism(2);
        kept.sink("sink", Collect::new());
        job.build().unwrap().plan().graph
    }

    #[test]
    fn the_fingerprint_of_a_graph_is_that_of_its_operators_and_not_of_their_widths() {
        assert_eq!(graph(1, 5, false), graph(3, 7, false));
        assert_ne!(graph(1, 5, false), graph(1, 5, true));
    }

    #[test]
    fn an_edge_keeps_its_name_when_it_becomes_part_of_a_chain() {
        let names = |parallelism| {
            let job = Job::new("named").parallelism(parallelism);
            let numbers = job.source("numbers", Generator::bounded(10, |index| index));
            let again = numbers.map(|number| number).parallelism(2);
            again
                .union(&[&again])
                .key_by_value(|number| *number)
                .reduce("sum", |one, other| one + other)
                .sink("sink", Collect::new());
            let plan = job.build().unwrap().plan();
            let mut names: Vec<_> = plan.connections().map(|(_, name, _)| name.clone()).collect();
            names.sort();
            (names, plan.fused.len())
        };
        let ((wide, apart), (narrow, together)) = (names(3), names(2));
        assert_eq!((wide.len(), &wide), (4, &narrow));
        assert_eq!((apart, together), (1, 2));
        let twice: Vec<_> =
            wide.iter().filter(|name| name.to.as_str() == "sum").map(|name| (name.nth, name.graph != 0)).collect();
        assert_eq!(twice, [(0, true), (1, true)], "one stream twice, from an operator without a uid");
        let of_uids = wide.iter().find(|name| name.from.as_str() == "sum").expect("it feeds the sink");
        assert_eq!((of_uids.to.as_str(), of_uids.graph), ("sink", 0));
    }
}
