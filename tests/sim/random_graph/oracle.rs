//! What must come out of a random graph, told from its shape alone, and what is wrong with what came out: in terms of records and nodes.
//!
//! Where order or placement are free, nothing is expected but this: each record once at every place where it belongs; under each key the numbers that the state
//! gives, each to one record; and records that took the same way, from one split through the same subtasks to the same key, in their order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use alluvium::CheckpointMode;

use super::record::{Decision, Id, Item, Mark, SIDE, mix};
use super::shape::{Exchange, Input, Kind, Shape};

/// How many wrong records an error shows.
const SHOWN: usize = 6;

/// What the instances of a node with broadcast rules are known by, among its keys.
const RULES: u64 = 1 << 32;

/// What passes a place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow(BTreeMap<Id, Passing>);

#[derive(Clone, Copy, Debug)]
struct Passing {
    count: u32,
    /// The same for records that keep their order among each other; `None` if there is no order, or if several records have this id.
    way: Option<u64>,
}

impl Flow {
    pub(crate) fn records(&self) -> u64 {
        self.0.values().map(|passing| u64::from(passing.count)).sum()
    }

    fn add(&mut self, id: Id, count: u32, way: Option<u64>) {
        let passing = self.0.entry(id).or_insert(Passing { count: 0, way });
        passing.count += count;
        if passing.count > 1 {
            passing.way = None;
        }
    }
}

/// A record as the state of a node with keys meets it.
#[derive(Clone, Debug)]
struct Met {
    key: u64,
    way: Option<u64>,
}

/// A node's part of the expectation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// What leaves it by each output; for a sink, what reaches it.
    outputs: Vec<Flow>,
    /// By the id that a record has directly behind a node with keys.
    met: BTreeMap<Id, Met>,
    /// How many records each key has.
    keys: BTreeMap<u64, u64>,
}

impl Expected {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.outputs.iter()
    }

    /// A record meets the state of its key, `count` times, and leaves.
    fn meet(&mut self, node: u16, (id, detail): (&Id, u16), keys: u64, side: bool, passing: Passing) {
        let key = id.decide(node, Decision::Key, keys);
        self.meet_at(node, (id, detail), key, side, passing);
    }

    /// The same for a state that is known by another number: that of an instance.
    fn meet_at(&mut self, node: u16, (id, detail): (&Id, u16), key: u64, side: bool, passing: Passing) {
        let way = passing.way.map(|way| mix(way, key));
        let output = usize::from(side && id.decide(node, Decision::Side, 3) == 0);
        for times in 1..=passing.count as u16 {
            let marked = id.then(node, detail, times);
            self.outputs[output].add(marked.clone(), 1, way);
            self.met.insert(marked, Met { key, way });
            *self.keys.entry(key).or_default() += 1;
        }
    }
}

/// The expectations of the nodes so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flows(Vec<Expected>);

/// A record on its way into a node.
struct Arriving<'a> {
    id: &'a Id,
    passing: Passing,
    /// The subtask that gets it, if it is one of several that get a copy each.
    subtask: Option<u16>,
}

impl Flows {
    pub(crate) fn of(shape: &Shape) -> Flows {
        let mut flows = Flows::default();
        for number in 0..shape.nodes.len() {
            let expected = flows.evaluate(shape, number);
            flows.push(expected);
        }
        flows
    }

    pub(crate) fn push(&mut self, expected: Expected) {
        self.0.push(expected);
    }

    /// Whether several records have one id in this input.
    pub(crate) fn has_repeats(&self, input: &Input) -> bool {
        let mut seen = Flow::default();
        for upstream in input {
            for (id, passing) in &self.0[upstream.node].outputs[upstream.port].0 {
                seen.add(id.clone(), passing.count, None);
            }
        }
        seen.0.values().any(|passing| passing.count > 1)
    }

    /// What becomes of a node's records. It reads from nodes that are evaluated.
    pub(crate) fn evaluate(&self, shape: &Shape, number: usize) -> Expected {
        let node = &shape.nodes[number];
        let this = number as u16;
        let mut expected =
            Expected { outputs: vec![Flow::default(); node.outputs.len().max(1)], ..Expected::default() };
        let arriving = |side: usize| self.arriving(shape, number, side);
        match node.kind {
            Kind::Source { records, splits, .. } => {
                for index in 0..records {
                    let way = mix(u64::from(this), u64::from(index % splits));
                    expected.outputs[0].add(Id::new(this, index), 1, Some(way));
                }
            }
            Kind::Map => {
                for Arriving { id, passing, .. } in arriving(0) {
                    expected.outputs[0].add(id.then(this, 0, 0), passing.count, passing.way);
                }
            }
            Kind::Filter { keep } => {
                for Arriving { id, passing, .. } in arriving(0) {
                    if id.decide(this, Decision::Keep, 4) < keep {
                        expected.outputs[0].add(id.clone(), passing.count, passing.way);
                    }
                }
            }
            Kind::FlatMap { most } => {
                for Arriving { id, passing, .. } in arriving(0) {
                    for copy in 0..id.decide(this, Decision::Copies, most + 1) {
                        expected.outputs[0].add(id.then(this, copy as u16, 0), passing.count, passing.way);
                    }
                }
            }
            Kind::Process { side, tells_subtask } => {
                for Arriving { id, passing, subtask } in arriving(0) {
                    let detail = if tells_subtask { subtask.map_or(0, |subtask| subtask + 1) } else { 0 };
                    let by_side = side && id.decide(this, Decision::Side, 3) == 0;
                    let detail = detail + if by_side { SIDE } else { 0 };
                    let output = &mut expected.outputs[usize::from(by_side)];
                    output.add(id.then(this, detail, 0), passing.count, passing.way);
                }
            }
            Kind::Split => {
                for Arriving { id, passing, .. } in arriving(0) {
                    let others = usize::from(id.decide(this, Decision::Side, 3) == 0);
                    expected.outputs[others].add(id.clone(), passing.count, passing.way);
                }
            }
            Kind::Connect { most } => {
                for (side, first) in [0, SIDE].into_iter().enumerate() {
                    for Arriving { id, passing, .. } in arriving(side) {
                        for copy in 0..id.decide(this, Decision::Copies, most + 1) {
                            let detail = first + copy as u16;
                            expected.outputs[0].add(id.then(this, detail, 0), passing.count, passing.way);
                        }
                    }
                }
            }
            Kind::Keyed { keys, side, .. } => {
                for (id, passing) in &merged(arriving(0)).0 {
                    expected.meet(this, (id, 0), keys, side, *passing);
                }
            }
            Kind::Join { keys, side } => {
                for (input, detail) in [0, SIDE].into_iter().enumerate() {
                    for (id, passing) in &merged(arriving(input)).0 {
                        expected.meet(this, (id, detail), keys, side, *passing);
                    }
                }
            }
            Kind::Numbered => {
                for (id, passing) in &merged(arriving(0)).0 {
                    let instance = id.decide(this, Decision::Subtask, u64::from(node.parallelism));
                    expected.meet_at(this, (id, 0), instance, false, *passing);
                }
            }
            Kind::Ruled { keys } => {
                let records = merged(arriving(0));
                for (id, passing) in &records.0 {
                    match keys {
                        Some(keys) => expected.meet(this, (id, 0), keys, false, *passing),
                        None => expected.outputs[0].add(id.then(this, 0, 0), passing.count, passing.way),
                    }
                }
                let rules = arriving(1);
                for instance in 0..node.parallelism as u16 {
                    let of_instance = |rule: &&Arriving<'_>| rule.subtask == Some(instance);
                    let mut met = Flow::default();
                    for Arriving { id, passing, .. } in rules.iter().filter(of_instance) {
                        met.add((*id).clone(), passing.count, passing.way);
                    }
                    for (id, passing) in &met.0 {
                        expected.meet_at(this, (id, SIDE + instance), RULES + u64::from(instance), false, *passing);
                    }
                }
            }
            Kind::Sink { .. } => expected.outputs[0] = merged(arriving(0)),
        }
        expected
    }

    /// What reaches a node by one of its inputs.
    fn arriving(&self, shape: &Shape, number: usize, side: usize) -> Vec<Arriving<'_>> {
        let node = &shape.nodes[number];
        let width = node.parallelism;
        let mut arriving = Vec::new();
        for (place, upstream) in node.inputs[side].iter().enumerate() {
            let same_width = shape.nodes[upstream.node].parallelism == width;
            let edge = (upstream.node as u64) << 32 | (upstream.port as u64) << 16 | (side as u64) << 8 | place as u64;
            for (id, passing) in &self.0[upstream.node].outputs[upstream.port].0 {
                let Passing { count, way } = *passing;
                let way = way.map(|way| mix(way, edge));
                let one = |count, way, subtask| Arriving { id, passing: Passing { count, way }, subtask };
                match upstream.exchange {
                    Exchange::Automatic | Exchange::Forward if same_width => arriving.push(one(count, way, None)),
                    Exchange::Automatic | Exchange::Forward | Exchange::Rebalance | Exchange::Shuffle => {
                        arriving.push(one(count, way.filter(|_| width == 1 && node.is_fixed), None));
                    }
                    Exchange::Broadcast => {
                        for subtask in 0..width {
                            let way = way.map(|way| mix(way, u64::from(subtask)));
                            arriving.push(one(count, way, Some(subtask as u16)));
                        }
                    }
                    Exchange::Global | Exchange::ByKey => arriving.push(one(count, way, None)),
                    Exchange::Partition => {
                        let subtask = id.decide(number as u16, Decision::Subtask, u64::from(width));
                        let way = way.filter(|_| node.is_fixed).map(|way| mix(way, subtask));
                        arriving.push(one(count, way, None));
                    }
                }
            }
        }
        arriving
    }

    /// Looks at all that came out, sink after sink, each in its order.
    pub(crate) fn check(&self, shape: &Shape, outputs: &BTreeMap<usize, Vec<Item>>) -> Result<(), String> {
        for (sink, records) in outputs {
            self.check_sink(shape, *sink, records)?;
        }
        if shape.mode == CheckpointMode::ExactlyOnce {
            self.check_marks(shape, outputs)?;
        }
        Ok(())
    }

    /// The same for two records that must come to a sink in their order; `None` if a record may come at any place.
    pub(crate) fn way(&self, sink: usize, id: &Id) -> Option<u64> {
        self.0[sink].outputs[0].0.get(id).and_then(|passing| passing.way)
    }

    fn check_sink(&self, shape: &Shape, sink: usize, records: &[Item]) -> Result<(), String> {
        let expected = &self.0[sink].outputs[0];
        let exactly = shape.mode == CheckpointMode::ExactlyOnce;
        let name = |id: &Id| if exactly { id.clone() } else { id.without_times() };
        let mut balance: BTreeMap<Id, i64> = BTreeMap::new();
        for (id, passing) in &expected.0 {
            *balance.entry(name(id)).or_default() -= i64::from(passing.count);
        }
        let mut unknown = Vec::new();
        for item in records {
            match balance.get_mut(&name(&item.id)) {
                Some(count) => *count += 1,
                None => unknown.push(item.id.to_string()),
            }
        }
        let missing = balance.iter().filter(|(_, count)| **count < 0);
        let missing: Vec<String> = missing.map(|(id, count)| times(id, -count)).collect();
        let surplus = balance.iter().filter(|(_, count)| exactly && **count > 0);
        let surplus: Vec<String> = surplus.map(|(id, count)| times(id, *count)).collect();
        let mut wrong = String::new();
        let lists = [("missing", missing), ("too many", surplus), ("never to come here", unknown)];
        for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            let more = if list.len() > SHOWN { ", ..." } else { "" };
            let _ = write!(wrong, "; {} {what}: {}{more}", list.len(), list[..list.len().min(SHOWN)].join(", "));
        }
        if !wrong.is_empty() {
            let (got, wanted) = (records.len(), expected.records());
            return Err(format!("sink n{sink} holds {got} records, {wanted} belong there{wrong}"));
        }
        if exactly {
            let ways = records.iter().filter_map(|item| Some((self.way(sink, &item.id)?, &item.id)));
            in_order(ways).map_err(|(first, second)| {
                format!("sink n{sink} got {first} before {second}, which took the same way earlier")
            })?;
        }
        Ok(())
    }

    /// Node and key of a mark, if the record goes there at all.
    pub(super) fn key_of(&self, item: &Item, mark: &Mark) -> Option<(u16, u64)> {
        let (id, node) = stamped(&item.id, mark);
        Some((node, self.0[usize::from(node)].met.get(&id)?.key))
    }

    /// What the nodes with keys say of records, over all sinks together.
    fn check_marks(&self, shape: &Shape, outputs: &BTreeMap<usize, Vec<Item>>) -> Result<(), String> {
        // By node, key and number.
        let mut numbered: BTreeMap<(u16, u64, u64), Id> = BTreeMap::new();
        let mut numbers: BTreeMap<Id, u64> = BTreeMap::new();
        for item in outputs.values().flatten() {
            for mark in &item.marks {
                let (id, node) = stamped(&item.id, mark);
                let Some(met) = self.0[usize::from(node)].met.get(&id) else {
                    return Err(format!("{} has met {id}, which never goes there", shape.describe(node.into())));
                };
                let expected = &self.0[usize::from(node)];
                let (key, sequence) = (met.key, mark.sequence);
                let of = expected.keys[&key];
                if !(1..=of).contains(&sequence) {
                    return Err(format!(
                        "n{node} gave {id} the number {sequence} of key {key}, which has {of} records"
                    ));
                }
                let same = numbered.entry((node, key, sequence)).or_insert_with(|| id.clone());
                if *same != id {
                    return Err(format!("n{node} gave the number {sequence} of key {key} to {same} and to {id}"));
                }
                let former = *numbers.entry(id.clone()).or_insert(sequence);
                if former != sequence {
                    return Err(format!("n{node} gave {id} the numbers {former} and {sequence} of key {key}"));
                }
            }
        }
        for node in 0..self.0.len() as u16 {
            let of_node = numbered.range((node, 0, 0)..(node + 1, 0, 0)).map(|(_, id)| id);
            let met = &self.0[usize::from(node)].met;
            in_order(of_node.filter_map(|id| Some((met[id].way?, id)))).map_err(|(first, second)| {
                format!("the state of n{node} met {first} before {second}, which took the same way earlier")
            })?;
        }
        Ok(())
    }
}

/// The record as it was at the node that set the mark, and that node.
fn stamped(id: &Id, mark: &Mark) -> (Id, u16) {
    let mut id = id.clone();
    id.trail.truncate(usize::from(mark.at));
    let node = id.trail.last().expect("a mark is set behind a step").node;
    (id, node)
}

fn times(id: &Id, count: i64) -> String {
    if count == 1 { id.to_string() } else { format!("{id} ({count} times)") }
}

fn merged(arriving: Vec<Arriving<'_>>) -> Flow {
    let mut flow = Flow::default();
    for Arriving { id, passing, .. } in arriving {
        flow.add(id.clone(), passing.count, passing.way);
    }
    flow
}

/// Looks for the first two records of one way that come the wrong way round.
fn in_order<'a>(records: impl Iterator<Item = (u64, &'a Id)>) -> Result<(), (&'a Id, &'a Id)> {
    let mut last: BTreeMap<u64, &Id> = BTreeMap::new();
    for (way, id) in records {
        let position = |id: &Id| (id.index, id.trail.iter().map(|step| step.detail).collect::<Vec<_>>());
        if let Some(former) = last.insert(way, id)
            && position(former) > position(id)
        {
            return Err((former, id));
        }
    }
    Ok(())
}
