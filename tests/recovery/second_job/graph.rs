//! The graph of the second job: what runs in processes of its own, and in the simulator.

#[path = "input.rs"]
pub(crate) mod input;
#[path = "join.rs"]
mod join;

use std::path::Path;
use std::time::Duration;

use alluvium::connect::{AtLeastOnce, Generator, Lines};
use alluvium::{BuildErrors, Graph, Job};

use input::{Input, SOURCES};
use join::{Join, Joined, Numbered};

/// What differs from one run of the job to the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) input: Input,
    /// How fast the sources are, in hundredths.
    pub(crate) speed: u64,
    /// How long the slow work takes for a record.
    pub(crate) work: Duration,
    pub(crate) parallelism: u32,
    /// Whether the sinks promise no more than at least once.
    pub(crate) at_least_once: bool,
    /// The records of a region of its own, if there is one.
    pub(crate) apart: Option<u64>,
}

/// The job. The simulator runs this very job, too.
pub(crate) fn build(shape: Shape, output: &Path) -> Result<Graph, BuildErrors> {
    let Shape { input, speed, work, .. } = shape;
    let job = Job::new("second job").parallelism(shape.parallelism);
    let source = |number: usize| {
        let (name, rate) = SOURCES[number];
        let rate = (rate * speed / 100).max(1);
        let records = Generator::bounded(input.count(number), move |index| {
            let id = Input::id(number, index);
            Numbered { id, key: input.key(id) }
        });
        job.source(name, records.rate(rate))
    };
    let left = source(0).union(&[&source(1)]).key_by(|record| &record.key);
    let right = source(2).union(&[&source(3)]).rebalance().map(move |record| {
        // A slow call of user code: barriers wait behind its input while those of the other side are long there.
        std::thread::sleep(work);
        record.id
    });
    let right = right.key_by_value(move |id| input.key(*id));
    let joined = left.connect(&right).process("join", Join);
    let all = joined.map(Joined::line);
    let marked = joined.filter(move |joined| input.is_marked(joined.id)).rebalance().map(Joined::line);
    for (name, lines) in [("all", all), ("marked", marked)] {
        let sink = Lines::exactly_once(output.join(name)).suffix(".csv");
        if shape.at_least_once {
            lines.sink(name, AtLeastOnce::new(sink));
        } else {
            lines.sink(name, sink);
        }
    }
    if let Some(count) = shape.apart {
        let rate = (input::RATE_APART * speed / 100).max(1);
        job.source("apart", Generator::bounded(count, |index| index).splits(1).rate(rate))
            .key_by_value(|index| index % input::KEYS_APART)
            .aggregate("counting apart", 0_u64, |_, count, index| {
                *count += 1;
                format!("{index},{count}")
            })
            .sink("lines apart", Lines::exactly_once(output.join("apart")).suffix(".csv"));
    }
    job.build()
}
