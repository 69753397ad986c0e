//! Taps: consumers that are planned and never built. Who runs a plan by hand reads the edges that lead to them.

use std::panic::Location;
use std::sync::Arc;

use alluvium_actors::ports::task::Failure;

use super::builder::{Chaining, Exchange, Input, Operator, Upstream};
use super::{Job, Stream};
use crate::operator::assembly::{Recipe, StreamType};
use crate::record::Record;

/// A tap behind a side output.
#[derive(Clone, Debug)]
pub(crate) struct SideTap {
    /// The name of its node in the plan.
    pub(crate) node: String,
    /// The name of the side output.
    pub(crate) side: String,
}

impl<T: Record> Stream<T> {
    /// Adds a consumer that is a node of its own called `node`, with one subtask.
    #[track_caller]
    pub(crate) fn tap(&self, node: &str) {
        self.shared.add(tap(node, self.input()));
    }
}

impl Job {
    /// Adds a tap behind every side output that is declared so far; the numbers of their nodes begin with `prefix`.
    #[track_caller]
    pub(crate) fn tap_sides(&self, prefix: &str) -> Vec<SideTap> {
        let declared: Vec<(usize, usize, StreamType, String)> = {
            let builder = self.shared.lock();
            let sides = builder.operators.iter().enumerate().flat_map(|(operator, declaring)| {
                let numbered = declaring.sides.iter().enumerate();
                numbered.map(move |(side, declared)| (operator, side + 1, declared.stream, declared.name.to_string()))
            });
            sides.collect()
        };
        let mut taps = Vec::new();
        for (operator, port, stream, side) in declared {
            let node = format!("{prefix}{}", taps.len());
            let upstream = Upstream { operator, port, exchange: Exchange::Automatic };
            self.shared.add(tap(&node, Input { upstreams: vec![upstream], stream }));
            taps.push(SideTap { node, side });
        }
        taps
    }
}

#[track_caller]
fn tap(node: &str, input: Input) -> Operator {
    let recipe =
        Recipe::Tail(Arc::new(|_| Err(Failure::unrecoverable("tap", "a tap is read by hand and never built"))));
    let mut operator = Operator::new("tap", Location::caller(), None, recipe);
    operator.name = Some(node.to_owned());
    operator.chaining = Chaining::Never;
    operator.parallelism = Some(1);
    operator.inputs = vec![input];
    operator
}
