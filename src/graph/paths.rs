//! From which source to which sink records come, and over which operators.

use std::collections::BTreeSet;

use super::builder::{End, Operator};

/// The ways from one source to one sink.
#[derive(Debug)]
pub(super) struct Path {
    /// The position of the source.
    pub(super) source: usize,
    /// The position of the sink.
    pub(super) sink: usize,
    /// The positions of all operators on any of the ways, both ends included, in order.
    pub(super) operators: Vec<usize>,
}

/// All of them, source by source and, for each, sink by sink.
pub(super) fn all(operators: &[Operator]) -> Vec<Path> {
    let upstream_of = upstream_of(operators);
    let mut paths = Vec::new();
    for source in positions(operators, |end| matches!(end, End::Source { .. })) {
        for sink in positions(operators, |end| matches!(end, End::Sink { .. })) {
            if upstream_of[sink].contains(&source) {
                let on_the_way =
                    upstream_of[sink].iter().copied().filter(|index| upstream_of[*index].contains(&source));
                paths.push(Path { source, sink, operators: on_the_way.collect() });
            }
        }
    }
    paths
}

fn positions(operators: &[Operator], wanted: impl Fn(&End) -> bool) -> impl Iterator<Item = usize> {
    operators.iter().enumerate().filter(move |(_, operator)| wanted(&operator.end)).map(|(index, _)| index)
}

/// For each operator the positions of all from which records come to it, itself included.
fn upstream_of(operators: &[Operator]) -> Vec<BTreeSet<usize>> {
    let mut found: Vec<BTreeSet<usize>> = Vec::with_capacity(operators.len());
    for (index, operator) in operators.iter().enumerate() {
        // Upstream operators come before downstream ones.
        let upstreams = operator.inputs.iter().flat_map(|input| &input.upstreams);
        let mut from: BTreeSet<usize> = upstreams.flat_map(|upstream| found[upstream.operator].clone()).collect();
        from.insert(index);
        found.push(from);
    }
    found
}
