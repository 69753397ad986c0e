//! The graph of the second job: what runs in processes of its own, and in the simulator.

#[path = "input.rs"]
pub(crate) mod input;
#[path = "join.rs"]
mod join;

use std::path::Path;
use std::time::Duration;

use alluvium::connect::{Generator, Lines};
use alluvium::{BuildErrors, Graph, Job};

use input::{Input, SOURCES};
use join::{Join, Joined, Numbered};

/// The job. The simulator runs this very job, too.
pub(crate) fn build(
    input: Input,
    speed: u64,
    work: Duration,
    parallelism: u32,
    output: &Path,
) -> Result<Graph, BuildErrors> {
    let job = Job::new("second job").parallelism(parallelism);
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
    joined.map(Joined::line).sink("all", Lines::exactly_once(output.join("all")).suffix(".csv"));
    let marked = joined.filter(move |joined| input.is_marked(joined.id)).rebalance().map(Joined::line);
    marked.sink("marked", Lines::exactly_once(output.join("marked")).suffix(".csv"));
    job.build()
}
