//! What a random graph is: a list of nodes, each of which reads from nodes before it. Plain data, drawn from a seed; a person reads it when a run fails.

use std::fmt;

use alluvium::{CheckpointMode, FailoverStrategy};

use super::oracle::Flows;
use super::record::mix;

/// Most records that leave a node, and that all nodes of a graph take together: so that a run takes milliseconds.
const MOST_RECORDS_OF_A_NODE: u64 = 240;
const MOST_RECORDS: u64 = 1_600;

/// Most subtasks of all nodes together, before chains make them fewer.
const MOST_SUBTASKS: u32 = 30;

/// A graph, and how it is run.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) mode: CheckpointMode,
    pub(crate) failover: FailoverStrategy,
    pub(crate) chaining: bool,
    pub(crate) credits: Option<u32>,
    /// In an order in which each reads only from those before it.
    pub(crate) nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// None for a source, two for a node with two sides.
    pub(crate) inputs: Vec<Input>,
    pub(crate) parallelism: u32,
    /// Whether it has this parallelism in every process.
    pub(crate) is_fixed: bool,
    pub(crate) credits: Option<u32>,
    pub(crate) chain: Chain,
    /// The types of its outputs: of the main one first.
    pub(crate) outputs: Vec<Carrier>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Source {
        from: From,
        records: u32,
        rate: u64,
        splits: u32,
    },
    Map,
    /// So many of four stay.
    Filter {
        keep: u64,
    },
    /// Up to so many copies of each.
    FlatMap {
        most: u64,
    },
    /// Some leave by the side. Behind a broadcast it can tell the subtask that it is.
    Process {
        side: bool,
        tells_subtask: bool,
    },
    Split,
    /// Two inputs without keys: up to so many copies of each.
    Connect {
        most: u64,
    },
    Keyed {
        states: States,
        keys: u64,
        text: bool,
        side: bool,
    },
    /// Two inputs by key into one state.
    Join {
        keys: u64,
        side: bool,
    },
    /// Without keys: each instance numbers the records that a function sends to it.
    Numbered,
    /// A stream, maybe with keys, by what a broadcast one says; without keys there are none.
    Ruled {
        keys: Option<u64>,
    },
    Sink {
        into: Into,
    },
}

/// What a source reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Generator,
    Items,
    Files,
}

/// What a node with keys keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum States {
    /// A value and a map.
    Two,
    /// Value, list, map, reducing and aggregating state, which must agree.
    Five,
    List,
    /// `aggregate`.
    Aggregate,
    /// `reduce`.
    Reduce,
}

/// Where a sink writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    Collection,
    Lines,
}

/// The type of a stream's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Item,
    Note,
}

/// Whether chains are forced apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    Free,
    Head,
    Never,
}

/// A union of outputs of other nodes.
pub(crate) type Input = Vec<Upstream>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) node: usize,
    pub(crate) port: usize,
    pub(crate) exchange: Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    Automatic,
    Forward,
    Rebalance,
    Shuffle,
    Broadcast,
    Global,
    Partition,
    ByKey,
}

/// A generator of numbers of its own: the shape of a seed never changes because another part of a run draws more.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        (mix(self.0, 77) % limit.max(1) as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A stream that something can read from.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: usize,
    port: usize,
    carrier: Carrier,
    read: bool,
}

/// A shape under construction.
struct Drawing {
    chance: Chance,
    shape: Shape,
    flows: Flows,
    open: Vec<Open>,
    records: u64,
    subtasks: u32,
}

impl Shape {
    /// The graph of a seed.
    pub(crate) fn of(seed: u64) -> Shape {
        let mut chance = Chance(mix(seed, 4_711));
        let shape = Shape {
            seed,
            mode: if chance.one_in(5) { CheckpointMode::AtLeastOnce } else { CheckpointMode::ExactlyOnce },
            failover: if chance.one_in(4) { FailoverStrategy::Full } else { FailoverStrategy::Region },
            chaining: !chance.one_in(6),
            credits: chance.one_in(3).then(|| 1 + chance.below(8) as u32),
            nodes: Vec::new(),
        };
        let flows = Flows::default();
        let mut drawing = Drawing { chance, shape, flows, open: Vec::new(), records: 0, subtasks: 0 };
        for _ in 0..=drawing.chance.below(3) {
            drawing.source();
        }
        let nodes = 2 + drawing.chance.below(7);
        let mut tries = 0;
        while drawing.shape.nodes.len() < nodes + 1 && tries < 40 {
            drawing.operator();
            tries += 1;
        }
        drawing.sinks();
        drawing.shape
    }

    /// Whether a stream comes out of it in one order only.
    pub(crate) fn describe(&self, node: usize) -> String {
        let mut text = String::new();
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{}", Line(node, &self.nodes[node])));
        text
    }
}

impl Drawing {
    fn parallelism(&mut self) -> u32 {
        let parallelism = self.chance.of(&[1, 1, 2, 2, 2, 3, 4]);
        if self.subtasks + parallelism > MOST_SUBTASKS { 1 } else { parallelism }
    }

    /// Adds a node if its records are not too many and not none.
    fn add(&mut self, kind: Kind, inputs: Vec<Input>, parallelism: u32, outputs: Vec<Carrier>) -> bool {
        let chain = match self.chance.below(6) {
            0 => Chain::Head,
            1 => Chain::Never,
            _ => Chain::Free,
        };
        let credits = (!inputs.is_empty() && self.chance.one_in(4)).then(|| 1 + self.chance.below(8) as u32);
        self.shape.nodes.push(Node { kind, inputs, parallelism, is_fixed: true, credits, chain, outputs });
        let number = self.shape.nodes.len() - 1;
        let flows = self.flows.evaluate(&self.shape, number);
        let total: u64 = flows.iter().map(|flow| flow.records()).sum();
        let is_sink = self.shape.nodes[number].outputs.is_empty();
        let fits = total <= MOST_RECORDS_OF_A_NODE && self.records + total <= MOST_RECORDS;
        if !is_sink && (total == 0 || !fits) {
            self.shape.nodes.pop();
            return false;
        }
        self.flows.push(flows);
        self.records += total;
        self.subtasks += parallelism;
        let node = self.shape.nodes[number].clone();
        for upstream in node.inputs.iter().flatten() {
            for open in &mut self.open {
                open.read |= open.node == upstream.node && open.port == upstream.port;
            }
        }
        let outputs = node.outputs.iter().enumerate();
        self.open.extend(outputs.map(|(port, carrier)| Open { node: number, port, carrier: *carrier, read: false }));
        true
    }

    fn carrier(&mut self) -> Carrier {
        self.chance.of(&[Carrier::Item, Carrier::Item, Carrier::Note])
    }

    fn source(&mut self) {
        let kind = Kind::Source {
            from: self.chance.of(&[From::Generator, From::Generator, From::Items, From::Files]),
            records: 3 + self.chance.below(60) as u32,
            rate: self.chance.of(&[600, 2_000, 8_000, 50_000]),
            splits: 1 + self.chance.below(4) as u32,
        };
        let (parallelism, carrier) = (self.parallelism(), self.carrier());
        self.add(kind, Vec::new(), parallelism, vec![carrier]);
    }

    /// An output to read from, rather one that nobody reads yet.
    fn pick(&mut self, carrier: Option<Carrier>) -> Option<Open> {
        let fits = |open: &&Open| carrier.is_none_or(|carrier| carrier == open.carrier);
        let unread: Vec<Open> = self.open.iter().filter(fits).filter(|open| !open.read).copied().collect();
        let all: Vec<Open> = self.open.iter().filter(fits).copied().collect();
        let from = if unread.is_empty() || self.chance.one_in(4) { all } else { unread };
        (!from.is_empty()).then(|| from[self.chance.below(from.len())])
    }

    /// A union of one to three streams of one type.
    fn input(&mut self, parallelism: u32, by_key: bool) -> Option<(Input, Carrier)> {
        let first = self.pick(None)?;
        let mut input = vec![self.upstream(first, parallelism, by_key)];
        for _ in 0..self.chance.of(&[0, 0, 0, 1, 1, 2]) {
            let Some(other) = self.pick(Some(first.carrier)) else { break };
            if input.iter().all(|upstream| (upstream.node, upstream.port) != (other.node, other.port)) {
                let upstream = self.upstream(other, parallelism, by_key);
                input.push(upstream);
            }
        }
        Some((input, first.carrier))
    }

    fn upstream(&mut self, open: Open, parallelism: u32, by_key: bool) -> Upstream {
        let same_width = self.shape.nodes[open.node].parallelism == parallelism;
        let exchange = if by_key {
            Exchange::ByKey
        } else {
            match self.chance.below(16) {
                0..7 => Exchange::Automatic,
                7 | 8 if same_width => Exchange::Forward,
                7..10 => Exchange::Rebalance,
                10 | 11 => Exchange::Shuffle,
                12 => Exchange::Global,
                13 => Exchange::Broadcast,
                _ => Exchange::Partition,
            }
        };
        Upstream { node: open.node, port: open.port, exchange }
    }

    fn operator(&mut self) {
        let parallelism = self.parallelism();
        let kind = match self.chance.below(19) {
            0 | 1 => Kind::Map,
            2 => Kind::Filter { keep: 1 + self.chance.below(3) as u64 },
            3 => Kind::FlatMap { most: 1 + self.chance.below(3) as u64 },
            4 | 5 => Kind::Process { side: self.chance.one_in(2), tells_subtask: false },
            6 => Kind::Split,
            7 | 8 => Kind::Connect { most: 1 + self.chance.below(2) as u64 },
            9..14 => Kind::Keyed {
                states: self.chance.of(&[
                    States::Two,
                    States::Five,
                    States::Five,
                    States::List,
                    States::Aggregate,
                    States::Reduce,
                ]),
                keys: self.chance.of(&[1, 3, 7, 20]),
                text: self.chance.one_in(2),
                side: self.chance.one_in(3),
            },
            14 | 15 => Kind::Join { keys: self.chance.of(&[1, 3, 7, 20]), side: self.chance.one_in(3) },
            16 => Kind::Numbered,
            _ => Kind::Ruled { keys: self.chance.of(&[None, Some(1), Some(7)]) },
        };
        let by_key = matches!(kind, Kind::Keyed { .. } | Kind::Join { .. } | Kind::Ruled { keys: Some(_) });
        let Some((mut input, carrier)) = self.input(parallelism, by_key) else { return };
        let other = self.carrier();
        match kind {
            Kind::Map => drop(self.add(kind, vec![input], parallelism, vec![other])),
            Kind::Filter { .. } | Kind::FlatMap { .. } => {
                self.add(kind, vec![input], parallelism, vec![carrier]);
            }
            Kind::Process { side, .. } => {
                let all_to_all = input.iter().all(|upstream| upstream.exchange == Exchange::Broadcast);
                let kind = Kind::Process { side, tells_subtask: all_to_all && self.chance.one_in(2) };
                let outputs = if side { vec![other, Carrier::Note] } else { vec![other] };
                self.add(kind, vec![input], parallelism, outputs);
            }
            Kind::Split => drop(self.add(kind, vec![input], parallelism, vec![carrier, carrier])),
            Kind::Connect { .. } | Kind::Join { .. } => {
                let Some((right, _)) = self.input(parallelism, by_key) else { return };
                let side = matches!(kind, Kind::Join { side: true, .. });
                let outputs = if side { vec![other, Carrier::Note] } else { vec![other] };
                self.add(kind, vec![input, right], parallelism, outputs);
            }
            Kind::Numbered => {
                // So that it is known which instance gets a record.
                input.iter_mut().for_each(|upstream| upstream.exchange = Exchange::Partition);
                self.add(kind, vec![input], parallelism, vec![other]);
            }
            Kind::Ruled { .. } => {
                let Some((mut rules, _)) = self.input(parallelism, false) else { return };
                rules.iter_mut().for_each(|upstream| upstream.exchange = Exchange::Broadcast);
                self.add(kind, vec![input, rules], parallelism, vec![other]);
            }
            Kind::Keyed { states, .. } => {
                // `reduce` cannot tell a record from the same one that came before.
                let repeats = self.flows.has_repeats(&input);
                let states = if states == States::Reduce && repeats { States::Two } else { states };
                let own = matches!(states, States::Aggregate | States::Reduce);
                let Kind::Keyed { keys, text, side, .. } = kind else { return };
                let side = side && !own;
                let mut outputs = vec![if states == States::Reduce { carrier } else { other }];
                if side {
                    outputs.push(Carrier::Note);
                }
                self.add(Kind::Keyed { states, keys, text, side }, vec![input], parallelism, outputs);
            }
            Kind::Source { .. } | Kind::Sink { .. } => {}
        }
    }

    /// Everything that nobody reads comes out somewhere; a few that somebody reads do, too.
    fn sinks(&mut self) {
        for carrier in [Carrier::Item, Carrier::Note] {
            let mut left: Vec<Open> = self.open.iter().filter(|open| open.carrier == carrier).copied().collect();
            left.retain(|open| {
                let side = open.port > 0 && self.chance.one_in(4);
                if open.read { self.chance.one_in(6) } else { !side }
            });
            while !left.is_empty() {
                let parallelism = self.parallelism();
                let count = 1 + self.chance.below(left.len());
                let taken: Vec<Open> = left.drain(..count).collect();
                let input = taken.into_iter().map(|open| self.upstream(open, parallelism, false)).collect();
                let into = self.chance.of(&[Into::Collection, Into::Lines]);
                self.add(Kind::Sink { into }, vec![input], parallelism, Vec::new());
            }
        }
    }
}

struct Line<'a>(usize, &'a Node);

impl fmt::Display for Line<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(number, node) = self;
        write!(formatter, "n{number}: ")?;
        match &node.kind {
            Kind::Source { from, records, rate, splits } => {
                write!(formatter, "source of {records} records, {from:?}, {rate} per second, {splits} splits")?;
            }
            Kind::Map => formatter.write_str("map")?,
            Kind::Filter { keep } => write!(formatter, "filter, {keep} of 4 stay")?,
            Kind::FlatMap { most } => write!(formatter, "flat_map, up to {most} copies")?,
            Kind::Process { tells_subtask, .. } => {
                write!(formatter, "process{}", if *tells_subtask { ", tells its subtask" } else { "" })?;
            }
            Kind::Split => formatter.write_str("split")?,
            Kind::Connect { most } => write!(formatter, "connect, up to {most} copies")?,
            Kind::Keyed { states, keys, text, .. } => {
                write!(formatter, "keyed, {states:?}, {keys} {} keys", if *text { "text" } else { "number" })?;
            }
            Kind::Join { keys, .. } => write!(formatter, "join of two sides, {keys} keys")?,
            Kind::Numbered => formatter.write_str("numbered by its instances, in lists")?,
            Kind::Ruled { keys: None } => formatter.write_str("by broadcast rules")?,
            Kind::Ruled { keys: Some(keys) } => write!(formatter, "keyed, by broadcast rules, {keys} keys")?,
            Kind::Sink { into } => write!(formatter, "sink, {into:?}")?,
        }
        for (side, input) in node.inputs.iter().enumerate() {
            formatter.write_str(if side == 0 { "  <- " } else { "  and <- " })?;
            for (place, Upstream { node, port, exchange }) in input.iter().enumerate() {
                write!(formatter, "{}n{node}", if place > 0 { " + " } else { "" })?;
                if *port > 0 {
                    write!(formatter, ".side")?;
                }
                if *exchange != Exchange::Automatic {
                    write!(formatter, " ({exchange:?})")?;
                }
            }
        }
        write!(formatter, "  x{}", node.parallelism)?;
        if let Some(credits) = node.credits {
            write!(formatter, ", credits {credits}")?;
        }
        match node.chain {
            Chain::Free => {}
            Chain::Head => formatter.write_str(", begins a chain")?,
            Chain::Never => formatter.write_str(", not chained")?,
        }
        if !node.outputs.is_empty() {
            write!(formatter, "  -> {:?}", node.outputs)?;
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { seed, mode, failover, chaining, credits, nodes } = self;
        write!(formatter, "graph {seed}: {mode:?}, failover {failover:?}, chaining {chaining}, credits {credits:?}")?;
        for (number, node) in nodes.iter().enumerate() {
            write!(formatter, "\n  {}", Line(number, node))?;
        }
        Ok(())
    }
}
