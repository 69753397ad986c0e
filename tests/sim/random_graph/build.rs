//! Builds the job of a shape.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

use alluvium::connect::files::LineFiles;
use alluvium::connect::{AtLeastOnce, Collect, Generator, Items, Lines};
use alluvium::graph::StreamEnd;
use alluvium::{BuildErrors, CheckpointMode, Graph, Job, Stream};

use super::operators::{BY_SIDE, Five, Join, Keyed, KeyedRuled, Listed, NodeKey, Numbered, Pass, Place, Ruled, Two};
use super::record::{Carries, Decision, Id, Item, Note};
use super::shape::{Carrier, Chain, Exchange, From, Input, Into, Kind, Node, Shape, States, Upstream};
use crate::chance::Fuse;

/// The name of every random job.
pub(crate) const JOB: &str = "random graph";

/// What outlives the process: the collections of sinks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    items: BTreeMap<usize, Collect<Item>>,
    notes: BTreeMap<usize, Collect<Note>>,
}

impl Outside {
    pub(crate) fn of(shape: &Shape) -> Outside {
        let mut outside = Outside::default();
        for (number, node) in shape.nodes.iter().enumerate() {
            if matches!(node.kind, Kind::Sink { into: Into::Collection }) {
                outside.items.insert(number, Collect::new());
                outside.notes.insert(number, Collect::new());
            }
        }
        outside
    }

    /// What a collecting sink holds.
    pub(crate) fn collected(&self, sink: usize) -> Vec<Item> {
        let notes = self.notes[&sink].collected().into_iter().map(Carries::into_item);
        self.items[&sink].collected().into_iter().chain(notes).collect()
    }
}

/// The directory of a sink that writes lines.
pub(crate) fn directory(sink: usize) -> String {
    format!("/output/n{sink}")
}

/// The file of one split of a source that reads files.
pub(crate) fn file(source: usize, split: u32) -> PathBuf {
    PathBuf::from(format!("/input/n{source}-{split}.txt"))
}

/// A stream of either type.
#[derive(Clone, Debug)]
enum AnyStream {
    Items(Stream<Item>),
    Notes(Stream<Note>),
}

/// Does the same with a stream of either type.
macro_rules! with {
    ($any:expr, $stream:ident => $body:expr) => {
        match $any {
            AnyStream::Items($stream) => $body,
            AnyStream::Notes($stream) => $body,
        }
    };
}

/// Makes a stream of the type that is wanted.
macro_rules! made {
    ($carrier:expr, $made:ident => $body:expr) => {
        match $carrier {
            Carrier::Item => {
                type $made = Item;
                $made::any($body)
            }
            Carrier::Note => {
                type $made = Note;
                $made::any($body)
            }
        }
    };
}

/// A type of records with its streams.
trait Streamed: Carries {
    fn any(stream: Stream<Self>) -> AnyStream;
    fn stream(any: &AnyStream) -> &Stream<Self>;
}

impl Streamed for Item {
    fn any(stream: Stream<Item>) -> AnyStream {
        AnyStream::Items(stream)
    }

    fn stream(any: &AnyStream) -> &Stream<Item> {
        match any {
            AnyStream::Items(stream) => stream,
            AnyStream::Notes(_) => panic!("a union of two types was drawn"),
        }
    }
}

impl Streamed for Note {
    fn any(stream: Stream<Note>) -> AnyStream {
        AnyStream::Notes(stream)
    }

    fn stream(any: &AnyStream) -> &Stream<Note> {
        match any {
            AnyStream::Notes(stream) => stream,
            AnyStream::Items(_) => panic!("a union of two types was drawn"),
        }
    }
}

/// A job under construction.
struct Building<'a> {
    shape: &'a Shape,
    outside: &'a Outside,
    fuses: &'a BTreeMap<usize, Fuse>,
    job: Job,
    /// The outputs of the nodes so far.
    streams: Vec<Vec<AnyStream>>,
}

/// The job of a shape. The functions of some nodes panic, as their fuses say.
pub(crate) fn graph(shape: &Shape, outside: &Outside, fuses: &BTreeMap<usize, Fuse>) -> Result<Graph, BuildErrors> {
    let mut job = Job::new(JOB).chaining(shape.chaining);
    if let Some(credits) = shape.credits {
        job = job.credits(credits);
    }
    let mut building = Building { shape, outside, fuses, job, streams: Vec::new() };
    for number in 0..shape.nodes.len() {
        let outputs = building.node(number);
        building.streams.push(outputs);
    }
    building.job.build()
}

impl Building<'_> {
    fn place(&self, number: usize) -> Place {
        let fuse = self.fuses.get(&number).cloned().unwrap_or_else(Fuse::never);
        Place { node: number as u16, fuse }
    }

    fn node(&self, number: usize) -> Vec<AnyStream> {
        let node = &self.shape.nodes[number];
        let uid = format!("n{number}");
        let place = self.place(number);
        let main = node.outputs.first().copied().unwrap_or(Carrier::Item);
        let input = |side: usize| self.input(&node.inputs[side], number);
        match node.kind {
            Kind::Source { from, records, rate, splits } => {
                let source = made!(main, T => self.source::<T>(number, from, records, (rate, splits)));
                vec![source]
            }
            Kind::Map => vec![with!(input(0), stream => made!(main, U => {
                set(&stream.map(move |record| place.map::<_, U>(record)), node)
            }))],
            Kind::Filter { keep } => vec![with!(input(0), stream => {
                Streamed::any(set(&stream.filter(move |record| place.keeps(record.id(), keep)), node))
            })],
            Kind::FlatMap { most } => vec![with!(input(0), stream => made!(main, U => {
                set(&stream.flat_map(move |record| place.copies::<_, U>(record, most, 0)), node)
            }))],
            Kind::Process { side, tells_subtask } => with!(input(0), stream => {
                let by_side;
                let passed = made!(main, U => {
                    let pass = Pass { place, side, tells_subtask, types: PhantomData::<fn(_) -> U> };
                    let passed = set(&stream.process(pass), node);
                    by_side = side.then(|| passed.side(&BY_SIDE));
                    passed
                });
                outputs(passed, by_side)
            }),
            Kind::Split => with!(input(0), stream => {
                let (fitting, others) = stream.split(move |record| !place.by_side(record.id()));
                vec![Streamed::any(set(&fitting, node)), Streamed::any(others)]
            }),
            Kind::Connect { most } => {
                let other = place.clone();
                vec![with!(input(0), left => with!(input(1), right => made!(main, U => {
                    let connected = left.connect(&right).flat_map(
                        move |record| place.copies::<_, U>(record, most, 0),
                        move |record| other.copies::<_, U>(record, most, super::record::SIDE),
                    );
                    set(&connected, node)
                })))]
            }
            Kind::Keyed { states, keys, text: false, side } => {
                with!(input(0), stream => keyed::<_, u64>(&stream, node, &uid, place, (states, keys, side)))
            }
            Kind::Keyed { states, keys, text: true, side } => {
                with!(input(0), stream => keyed::<_, String>(&stream, node, &uid, place, (states, keys, side)))
            }
            Kind::Join { keys, side } => with!(input(0), left => with!(input(1), right => {
                let by_side;
                let (of_left, of_right) = (place.clone(), place.clone());
                let left = left.key_by_value(move |record| of_left.key::<u64>(record.id(), keys));
                let right = right.key_by_value(move |record| of_right.key::<u64>(record.id(), keys));
                let joined = made!(main, U => {
                    let keyed = Keyed { place, side, types: PhantomData::<fn(_, _) -> U> };
                    let joined = set(&left.connect(&right).process(&uid, Join { keyed }), node);
                    by_side = side.then(|| joined.side(&BY_SIDE));
                    joined
                });
                outputs(joined, by_side)
            })),
            Kind::Numbered => vec![with!(input(0), stream => made!(main, U => {
                let numbered = Numbered { place, types: PhantomData::<fn(_) -> U> };
                set(&stream.stateful_process(&uid, numbered), node)
            }))],
            Kind::Ruled { keys: None } => {
                vec![with!(input(0), stream => with!(input(1), rules => made!(main, U => {
                    let ruled = Ruled { place, types: PhantomData::<fn(_, _) -> U> };
                    set(&stream.connect_broadcast(&rules).process(&uid, ruled), node)
                })))]
            }
            Kind::Ruled { keys: Some(keys) } => {
                let of = place.clone();
                vec![with!(input(0), stream => with!(input(1), rules => made!(main, U => {
                    let keyed = stream.key_by_value(move |record| of.key::<u64>(record.id(), keys));
                    let ruled = KeyedRuled(Ruled { place, types: PhantomData::<fn(_, _) -> U> });
                    set(&keyed.connect_broadcast(&rules).process(&uid, ruled), node)
                })))]
            }
            Kind::Sink { into } => {
                match (input(0), into) {
                    (AnyStream::Items(stream), Into::Collection) => {
                        self.sink(&stream, &uid, self.outside.items[&number].clone(), node);
                    }
                    (AnyStream::Notes(stream), Into::Collection) => {
                        self.sink(&stream, &uid, self.outside.notes[&number].clone(), node);
                    }
                    (any, Into::Lines) => {
                        let lines = Lines::exactly_once(directory(number)).suffix(".csv");
                        let text = with!(any, stream => stream.map(|record| {
                            serde_json::to_string(&record.into_item()).expect("an item is plain data")
                        }));
                        self.sink(&text.parallelism(node.parallelism), &uid, lines, node);
                    }
                }
                Vec::new()
            }
        }
    }

    /// A union of outputs, each with its exchange.
    fn input(&self, input: &Input, reader: usize) -> AnyStream {
        match &self.streams[input[0].node][input[0].port] {
            AnyStream::Items(_) => AnyStream::Items(self.union(input, reader)),
            AnyStream::Notes(_) => AnyStream::Notes(self.union(input, reader)),
        }
    }

    fn union<T: Streamed>(&self, input: &Input, reader: usize) -> Stream<T> {
        let place = self.place(reader);
        self.job.union(input.iter().map(|Upstream { node, port, exchange }| {
            let stream = T::stream(&self.streams[*node][*port]).clone();
            let place = place.clone();
            match exchange {
                Exchange::Automatic | Exchange::ByKey => stream,
                Exchange::Forward => stream.forward(),
                Exchange::Rebalance => stream.rebalance(),
                Exchange::Shuffle => stream.shuffle(),
                Exchange::Broadcast => stream.broadcast(),
                Exchange::Global => stream.global(),
                Exchange::Partition => stream.partition(move |record, subtasks| {
                    record.id().decide(place.node, Decision::Subtask, u64::from(subtasks)) as u32
                }),
            }
        }))
    }

    fn source<T: Carries>(&self, number: usize, from: From, records: u32, (rate, splits): (u64, u32)) -> Stream<T> {
        let (node, source) = (&self.shape.nodes[number], number as u16);
        let uid = format!("n{number}");
        let record = move |index: u64| T::of(Item::new(source, index as u32));
        match from {
            From::Generator => {
                let generator = Generator::bounded(u64::from(records), record).splits(splits).rate(rate);
                set(&self.job.source(&uid, generator), node)
            }
            From::Items => {
                let items = Items::new((0..u64::from(records)).map(record).collect()).splits(splits).rate(rate);
                set(&self.job.source(&uid, items), node)
            }
            From::Files => {
                let files = LineFiles::several((0..splits).map(|split| file(number, split))).rate(rate);
                let read = set(&self.job.source(&uid, files), node);
                let parsed = read.map(move |line: String| record(line.parse().expect("the file holds numbers")));
                parsed.parallelism(node.parallelism)
            }
        }
    }

    fn sink<T: alluvium::record::Record, S: alluvium::connect::sink::Sink<T>>(
        &self,
        stream: &Stream<T>,
        uid: &str,
        sink: S,
        node: &Node,
    ) {
        let end = if self.shape.mode == CheckpointMode::AtLeastOnce {
            stream.sink(uid, AtLeastOnce::new(sink))
        } else {
            stream.sink(uid, sink)
        };
        set_end(end, node);
    }
}

fn outputs(main: AnyStream, side: Option<Stream<Note>>) -> Vec<AnyStream> {
    std::iter::once(main).chain(side.map(Note::any)).collect()
}

/// A node with keys of one type.
fn keyed<T: Streamed, K: NodeKey>(
    stream: &Stream<T>,
    node: &Node,
    uid: &str,
    place: Place,
    (states, keys, side): (States, u64, bool),
) -> Vec<AnyStream> {
    let of = place.clone();
    let grouped = stream.key_by_value(move |record| of.key::<K>(record.id(), keys));
    let by_side;
    if states == States::Reduce {
        let (fuse, number) = (place.fuse, place.node);
        let reduced = grouped.reduce(uid, move |before: T, record: T| {
            fuse.burn();
            let combined = before.into_item().combined + 1;
            T::of(Item { combined, ..record.into_item() })
        });
        let numbered = set(&reduced, node).map(move |record: T| {
            let item = record.into_item();
            let combined = item.combined;
            T::of(Item { combined: 1, ..item }.mark(number, 0, 1, combined))
        });
        return vec![T::any(numbered.parallelism(node.parallelism))];
    }
    let main = made!(node.outputs[0], U => {
        let number = place.node;
        let fuse = place.fuse.clone();
        let keyed = Keyed { place, side, types: PhantomData::<fn(K, T) -> U> };
        let out = match states {
            States::Two => grouped.process(uid, Two(keyed)),
            States::Five => grouped.process(uid, Five(keyed)),
            States::List => grouped.process(uid, Listed(keyed)),
            States::Aggregate | States::Reduce => {
                grouped.aggregate(uid, (0_u64, BTreeMap::<Id, u16>::new()), move |_, (sequence, seen), record| {
                    fuse.burn();
                    let item = record.into_item();
                    *sequence += 1;
                    let times = seen.entry(item.id.clone()).or_insert(0);
                    *times += 1;
                    U::of(item.mark(number, 0, *times, *sequence))
                })
            }
        };
        let out = set(&out, node);
        by_side = side.then(|| out.side(&BY_SIDE));
        out
    });
    outputs(main, by_side)
}

/// The settings of a node.
fn set<T: alluvium::record::Record>(stream: &Stream<T>, node: &Node) -> Stream<T> {
    let mut stream = stream.parallelism(node.parallelism);
    if let Some(credits) = node.credits {
        stream = stream.credits(credits);
    }
    match node.chain {
        Chain::Free => stream,
        Chain::Head => stream.start_new_chain(),
        Chain::Never => stream.disable_chaining(),
    }
}

fn set_end(end: StreamEnd, node: &Node) {
    let mut end = end.parallelism(node.parallelism);
    if let Some(credits) = node.credits {
        end = end.credits(credits);
    }
    if node.chain != Chain::Free {
        end.disable_chaining();
    }
}
