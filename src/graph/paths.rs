//! From which source to which sink records come, and over which operators.
//!
//! A job may have as many paths as it has sources times sinks. So none of them is written down: for each source stands what its records reach, for each sink
//! what its records come from, as sets of bits; what lies on the way is what both have in common. To find these sets takes one pass over the edges each.

use super::builder::{End, Operator};

/// All ways from sources to sinks.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    sources: Vec<Terminal>,
    sinks: Vec<Terminal>,
}

/// A source or a sink.
#[derive(Clone, Debug)]
struct Terminal {
    /// Its position among the operators.
    operator: usize,
    /// For a source the operators that its records reach, for a sink those from which records come to it; itself included.
    reach: Bits,
}

/// The ways from one source to one sink.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    /// The position of the source.
    pub(super) source: usize,
    /// The position of the sink.
    pub(super) sink: usize,
    below: &'a Bits,
    above: &'a Bits,
}

impl Paths {
    /// Those of a job in which upstream operators come before downstream ones.
    pub(super) fn new(operators: &[&Operator]) -> Paths {
        let positions = |wanted: fn(&End) -> bool| -> Vec<usize> {
            let ends = operators.iter().enumerate();
            ends.filter(|(_, operator)| wanted(&operator.end)).map(|(index, _)| index).collect()
        };
        let sources = positions(|end| matches!(end, End::Source { .. }));
        let sinks = positions(|end| matches!(end, End::Sink { .. }));
        let upstreams = |index: usize| {
            let inputs = operators[index].inputs.iter();
            inputs.flat_map(|input| &input.upstreams).map(|upstream| upstream.operator)
        };
        // Which sources are above each operator, by their number.
        let mut from = own_numbers(operators.len(), &sources);
        for index in 0..operators.len() {
            let (before, rest) = from.split_at_mut(index);
            upstreams(index).for_each(|upstream| rest[0].add_all(&before[upstream]));
        }
        // Which sinks are below each operator.
        let mut to = own_numbers(operators.len(), &sinks);
        for index in (0..operators.len()).rev() {
            let (before, rest) = to.split_at_mut(index);
            upstreams(index).for_each(|upstream| before[upstream].add_all(&rest[0]));
        }
        Paths { sources: ends(&sources, &from), sinks: ends(&sinks, &to) }
    }

    /// All of them, source by source and, for each, sink by sink.
    pub(super) fn all(&self) -> impl Iterator<Item = Path<'_>> {
        self.sources.iter().flat_map(|source| {
            let sinks = self.sinks.iter().filter(|sink| source.reach.contains(sink.operator));
            sinks.map(|sink| Path {
                source: source.operator,
                sink: sink.operator,
                below: &source.reach,
                above: &sink.reach,
            })
        })
    }

    /// For each sink its position and the operators from which records come to it, itself included.
    pub(super) fn sinks(&self) -> impl Iterator<Item = (usize, &Bits)> {
        self.sinks.iter().map(|sink| (sink.operator, &sink.reach))
    }
}

/// For each of `operators` a set: that of an end holds its own number among the ends.
fn own_numbers(operators: usize, ends: &[usize]) -> Vec<Bits> {
    let mut sets = vec![Bits::new(ends.len()); operators];
    for (number, index) in ends.iter().enumerate() {
        sets[*index].add(number);
    }
    sets
}

/// From the ends of each operator to the operators of each end.
fn ends(positions: &[usize], of_operators: &[Bits]) -> Vec<Terminal> {
    let mut ends: Vec<Terminal> =
        positions.iter().map(|index| Terminal { operator: *index, reach: Bits::new(of_operators.len()) }).collect();
    for (index, set) in of_operators.iter().enumerate() {
        set.iter().for_each(|end| ends[end].reach.add(index));
    }
    ends
}

impl<'a> Path<'a> {
    /// The positions of all operators on any of the ways, both ends included, in order.
    pub(super) fn operators(&self) -> impl Iterator<Item = usize> + use<'a> {
        let (below, above) = (self.below, self.above);
        below.words.iter().zip(&above.words).enumerate().flat_map(|(word, (one, other))| set_bits(word, one & other))
    }

    /// Whether an operator is on any of the ways.
    pub(super) fn contains(&self, operator: usize) -> bool {
        self.below.contains(operator) && self.above.contains(operator)
    }
}

/// A set of small numbers.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// No number, and room for those below `end`.
    pub(super) fn new(end: usize) -> Bits {
        Bits { words: vec![0; end.div_ceil(64)] }
    }

    pub(super) fn add(&mut self, number: usize) {
        self.words[number / 64] |= 1 << (number % 64);
    }

    fn add_all(&mut self, other: &Bits) {
        for (word, others) in self.words.iter_mut().zip(&other.words) {
            *word |= others;
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.words[number / 64] & (1 << (number % 64)) != 0
    }

    /// Whether both have a number in common.
    pub(super) fn meets(&self, other: &Bits) -> bool {
        self.words.iter().zip(&other.words).any(|(word, others)| word & others != 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(word, bits)| set_bits(word, *bits))
    }
}

/// The numbers in the word at this place.
fn set_bits(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (lowest < 64).then_some(word * 64 + lowest as usize)
    })
}
