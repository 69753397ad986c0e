//! Large graphs: long lines run, and what grows with sources times sinks is written out only when it is asked for.

use alluvium::connect::sink::Guarantee;
use alluvium::connect::{Collect, Generator};
use alluvium::graph::{GraphDescription, LISTED_PATHS};
use alluvium::{Graph, Job, Options};

/// More operators in a line than fit on a stack, one inside of the other.
const LINE: u64 = 10_000;

#[test]
fn a_long_line_of_operators_runs_in_chains_that_fit_on_a_stack() {
    let collect = Collect::new();
    let job = Job::new("line");
    let mut stream = job.source("numbers", Generator::bounded(10, |index| index));
    for _ in 0..LINE {
        stream = stream.map(|number| number + 1);
    }
    stream.sink("collected", collect.clone()).requires(Guarantee::ExactlyOnce);
    let graph = job.build().unwrap();
    let description = graph.describe();
    let longest = description.chains.iter().map(|chain| chain.operators.len()).max();
    assert_eq!(longest, Some(64));
    assert_eq!(description.chains.len(), (LINE as usize + 2).div_ceil(64));
    assert_eq!(description.guarantees.paths[0].operators.len(), LINE as usize + 2);
    graph.start(&Options::default().workers(2)).unwrap().wait_blocking().unwrap();
    assert_eq!(collect.collected(), (LINE..LINE + 10).collect::<Vec<_>>());
}

#[test]
fn many_operators_side_by_side_stay_in_one_chain() {
    let job = Job::new("comb");
    let source = job.source("numbers", Generator::bounded(1, |index| index));
    for tooth in 0..200 {
        source.filter(|_| true).for_each(&format!("tooth-{tooth}"), |_| {});
    }
    assert_eq!(job.build().unwrap().plan().nodes.len(), 1);
}

/// Every source reaches every sink: `ends` times `ends` paths, and four times as many operators as `ends`.
fn wide(ends: u64) -> Graph {
    let job = Job::new("wide").requires(Guarantee::ExactlyOnce);
    let sources = (0..ends)
        .map(|end| job.source(&format!("source-{end}"), Generator::bounded(1, |index| index)).map(|number| number));
    let all = job.union(sources).map(|number| number);
    for end in 0..ends {
        all.filter(move |number| number % ends == end).sink(&format!("sink-{end}"), Collect::new());
    }
    job.build().unwrap()
}

#[test]
fn a_wide_graph_is_built_and_printed_without_a_word_for_each_of_its_paths() {
    let graph = wide(500);
    let description = graph.describe();
    assert_eq!(description.operators.len(), 2_001);
    assert_eq!(description.guarantees.paths.len(), LISTED_PATHS);
    assert_eq!(description.guarantees.left_out, 250_000 - LISTED_PATHS);
    assert!(graph.to_text().ends_with("  and 249000 more paths: `Graph::guarantees` lists all of them\n"));
    let read: GraphDescription = serde_json::from_str(&graph.to_json()).unwrap();
    assert_eq!(read, description);
}

#[test]
fn a_report_that_is_asked_for_has_all_paths() {
    let graph = wide(40);
    let report = graph.guarantees(None);
    assert_eq!((report.paths.len(), report.left_out), (1_600, 0));
    let names = |end: usize| {
        [
            format!("source-{}", end / 40),
            "map".to_owned(),
            "map".to_owned(),
            "filter".to_owned(),
            format!("sink-{}", end % 40),
        ]
    };
    for (end, path) in report.paths.iter().enumerate() {
        assert_eq!(path.operators, names(end));
    }
}
