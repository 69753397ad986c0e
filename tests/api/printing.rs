//! A graph as text, as a picture in the DOT language, and as JSON: the same job gives the same, whatever its names hold.

use std::collections::BTreeSet;

use alluvium::connect::sink::Guarantee;
use alluvium::connect::{Collect, Generator};
use alluvium::graph::GraphDescription;
use alluvium::operator::{Access, Context, KeyedProcess, SideOutput, SideOutputs};
use alluvium::state::{List, Value};
use alluvium::{Graph, Job, OperatorResult};

const LATE: SideOutput<(String, u64)> = SideOutput::named("late");

#[derive(Clone)]
struct Keep;

impl KeyedProcess for Keep {
    type Key = u64;
    type In = u64;
    type Out = String;
    type State = (Value<u64>, List<u64>);

    fn state(&self) -> Self::State {
        (Value::named("count"), List::named("all"))
    }

    fn side_outputs(&self) -> SideOutputs {
        SideOutputs::none().with(&LATE)
    }

    fn process(&self, _: u64, _: Access<'_, Self>, _: Context<'_, Self>) -> OperatorResult {
        Ok(())
    }
}

/// Everything that a picture can show.
fn graph() -> Graph {
    let job = Job::new("picture").parallelism(2);
    let numbers = job.source("numbers", Generator::bounded(1, |index| index));
    let rules = job.source("rules", Generator::unbounded(|index| index)).parallelism(1);
    let joined = numbers.filter(|_| true).name("some").connect(&rules.broadcast()).map(|left| left, |right| right);
    let kept = joined.uid("both").key_by(|number| number).process("keep", Keep).credits(3);
    kept.sink("collected", Collect::new()).requires(Guarantee::ExactlyOnce).name("the collection").credits(5);
    kept.side(&LATE).global().for_each("late ones", |_| {}).first_worker(1);
    job.build().unwrap()
}

const TEXT: &str = "\
job picture
  [0] numbers -> some  (parallelism 2, max parallelism 128)
      numbers: source, bounded, replayable, emits u64
      some: filter, emits u64
  [1] rules  (parallelism 1, max parallelism 128)
      rules: source, unbounded, replayable, emits u64
  [2] both  (parallelism 2, max parallelism 128)
      both: connected map, emits u64
  [3] keep -> the collection  (parallelism 2, max parallelism 128)
      keep: process, value state count, list state all, emits String, side output late of (String, u64)
      the collection: sink, uid collected, exactly-once, exactly-once declared, note: credits 5 without effect: no edge leads here, it runs fused with the one before it
  [4] late ones  (parallelism 2, max parallelism 128, first worker 1)
      late ones: for_each, at-least-once, note: first worker 1: with fewer workers, counted from the first one again
  [1] rules -> [2] both input 1  (broadcast, all to all, 8 batches, u64)
  [0] some -> [2] both input 0  (forward, pointwise, 8 batches, u64)
  [2] both -> [3] keep  (hash, all to all, 3 batches, u64)
  [3] keep -> [4] late ones  (side output late, global, all to all, 8 batches, (String, u64))
guarantees of picture (under the best options)
  numbers -> collected: exactly-once, as declared
    exactly-once: numbers is read again from the position in the checkpoint
    exactly-once: collected commits what a checkpoint prepared when that checkpoint is complete
  numbers -> late ones: at-least-once
    exactly-once: numbers is read again from the position in the checkpoint
    at-least-once: late ones (for_each) lets records take effect again that are replayed after a failure
  rules -> collected: exactly-once, as declared
    exactly-once: rules is read again from the position in the checkpoint
    exactly-once: collected commits what a checkpoint prepared when that checkpoint is complete
  rules -> late ones: at-least-once
    exactly-once: rules is read again from the position in the checkpoint
    at-least-once: late ones (for_each) lets records take effect again that are replayed after a failure
";

#[test]
fn a_graph_describes_itself_as_text() {
    assert_eq!(graph().to_text(), TEXT);
    assert_eq!(graph().to_string(), TEXT);
}

const DOT: &str = r#"digraph "picture" {
  rankdir=LR;
  node [shape=box, style=rounded];
  subgraph cluster_0 {
    label="chain 0\nparallelism 2 of 128";
    operator_0 [label="numbers\nsource\nbounded\nreplayable\nemits u64", shape=cds];
    operator_2 [label="some\nfilter\nemits u64"];
  }
  subgraph cluster_1 {
    label="chain 1\nparallelism 1 of 128";
    operator_1 [label="rules\nsource\nunbounded\nreplayable\nemits u64", shape=cds];
  }
  subgraph cluster_2 {
    label="chain 2\nparallelism 2 of 128";
    operator_3 [label="both\nconnected map\nemits u64"];
  }
  subgraph cluster_3 {
    label="chain 3\nparallelism 2 of 128";
    operator_4 [label="keep\nprocess\nvalue state count\nlist state all\nemits String\nside output late of (String, u64)"];
    operator_5 [label="the collection\nsink\nuid collected\nexactly-once\nexactly-once declared\nnote: credits 5 without effect: no edge leads here, it runs fused with the one before it", shape=note];
  }
  subgraph cluster_4 {
    label="chain 4\nparallelism 2 of 128";
    operator_6 [label="late ones\nfor_each\nat-least-once\nnote: first worker 1: with fewer workers, counted from the first one again", shape=note];
  }
  operator_0 -> operator_2 [label="fused\nu64", style=dotted];
  operator_1 -> operator_3 [label="broadcast\nu64\ninput 1", style=bold];
  operator_2 -> operator_3 [label="forward\nu64\ninput 0"];
  operator_3 -> operator_4 [label="hash\nu64", style=bold];
  operator_4 -> operator_5 [label="fused\nString", style=dotted];
  operator_4 -> operator_6 [label="side output late, global\n(String, u64)", style=bold];
}
"#;

#[test]
fn a_graph_draws_itself() {
    assert_eq!(graph().to_dot(), DOT);
}

const JSON: &str = include_str!("picture.json");

#[test]
fn a_graph_is_json_that_reads_back_as_its_description() {
    let json = graph().to_json();
    assert_eq!(json, JSON.trim_end());
    let read: GraphDescription = serde_json::from_str(&json).unwrap();
    assert_eq!(read, graph().describe());
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["job"], "picture");
    assert_eq!(value["chains"][0]["name"], "numbers -> some");
    assert_eq!(value["operators"][4]["kind"], "process");
    assert_eq!(value["operators"][4]["states"][1], serde_json::json!({ "name": "all", "kind": "list" }));
    assert_eq!(value["operators"][4]["side_outputs"][0]["name"], "late");
    assert_eq!(
        value["operators"][1]["source"],
        serde_json::json!({ "bounded": false, "replay": "from_stored_position" })
    );
    assert_eq!(
        value["operators"][5]["sink"],
        serde_json::json!({ "guarantee": "exactly-once", "required": "exactly-once" })
    );
    assert_eq!(
        (
            &value["operators"][5]["notes"][0],
            &value["operators"][6]["notes"][0],
            value["operators"][4]["notes"].as_array().unwrap().len()
        ),
        (
            &serde_json::json!("credits 5 without effect: no edge leads here, it runs fused with the one before it"),
            &serde_json::json!("first worker 1: with fewer workers, counted from the first one again"),
            0
        )
    );
    let edge = value["edges"].as_array().unwrap().iter().find(|edge| edge["partitioning"] == "broadcast").unwrap();
    assert_eq!((&edge["joins"], &edge["credits"]), (&serde_json::json!("all_to_all"), &serde_json::json!(8)));
    assert_eq!(value["guarantees"]["paths"].as_array().unwrap().len(), 4);
}

#[test]
fn printing_twice_gives_the_same() {
    let (one, other) = (graph(), graph());
    assert_eq!(one.to_text(), other.to_text());
    assert_eq!(one.to_dot(), other.to_dot());
    assert_eq!(one.to_json(), other.to_json());
}

/// What stands in the text of a picture, told apart as the DOT language does. Panics where it is not valid.
#[derive(Debug, PartialEq)]
enum Word {
    Name(String),
    Quoted(String),
    Sign(String),
}

fn words(dot: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = dot.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '"' => {
                let mut text = String::new();
                loop {
                    match rest.next().expect("a quoted text ends") {
                        '"' => break,
                        '\\' => text.extend(['\\', rest.next().expect("an escape has a character")]),
                        '\n' => panic!("a line ends inside {text:?}"),
                        character => text.push(character),
                    }
                }
                words.push(Word::Quoted(text));
            }
            '-' if rest.peek() == Some(&'>') => {
                rest.next();
                words.push(Word::Sign("->".to_owned()));
            }
            '{' | '}' | '[' | ']' | ';' | ',' | '=' => words.push(Word::Sign(character.to_string())),
            character if character.is_whitespace() => {}
            character if character.is_alphabetic() || character == '_' => {
                let mut name = character.to_string();
                while let Some(next) = rest.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    name.push(next);
                }
                words.push(Word::Name(name));
            }
            character => panic!("{character:?} has no place in the language"),
        }
    }
    words
}

/// Reads a picture statement by statement; answers the nodes that it declares.
fn check_dot(dot: &str) -> BTreeSet<String> {
    let words = words(dot);
    let sign = |word: Option<&Word>, sign: &str| matches!(word, Some(Word::Sign(found)) if found == sign);
    assert!(
        matches!(&words[..3], [Word::Name(digraph), Word::Quoted(_), Word::Sign(open)] if digraph == "digraph" && open == "{")
    );
    let (mut nodes, mut used, mut depth, mut at) = (BTreeSet::new(), BTreeSet::new(), 1, 3);
    while at < words.len() {
        match &words[at..] {
            [Word::Sign(close), ..] if close == "}" => {
                depth -= 1;
                at += 1;
            }
            [Word::Name(subgraph), Word::Name(cluster), Word::Sign(open), ..] if subgraph == "subgraph" => {
                assert!(cluster.starts_with("cluster_") && open == "{");
                depth += 1;
                at += 3;
            }
            [Word::Name(_), Word::Sign(equal), Word::Name(_) | Word::Quoted(_), Word::Sign(end), ..]
                if equal == "=" =>
            {
                assert_eq!(end, ";");
                at += 4;
            }
            [Word::Name(name), ..] => {
                at += 1;
                if sign(words.get(at), "->") {
                    let Some(Word::Name(to)) = words.get(at + 1) else { panic!("an arrow leads to a node") };
                    used.extend([name.clone(), to.clone()]);
                    at += 2;
                } else if name != "node" {
                    assert!(nodes.insert(name.clone()), "{name} is declared twice");
                }
                assert!(sign(words.get(at), "["), "{name} has no attributes");
                while !sign(words.get(at), "]") {
                    assert!(matches!(words.get(at + 1), Some(Word::Name(_))));
                    assert!(
                        sign(words.get(at + 2), "=")
                            && matches!(words.get(at + 3), Some(Word::Name(_) | Word::Quoted(_)))
                    );
                    at += 4;
                    assert!(sign(words.get(at), ",") || sign(words.get(at), "]"));
                }
                assert!(sign(words.get(at + 1), ";"));
                at += 2;
            }
            other => panic!("no statement: {:?}", &other[..other.len().min(5)]),
        }
    }
    assert_eq!(depth, 0, "every brace is closed");
    assert!(used.is_subset(&nodes), "{used:?} are joined, {nodes:?} are declared");
    nodes
}

#[test]
fn the_picture_is_valid_whatever_the_names_hold() {
    assert_eq!(check_dot(&graph().to_dot()).len(), 7);
    let nasty = "a \"b\" \\ c\\\nd } -> ; \u{1b}[1m ä";
    let job = Job::new(nasty);
    job.source(nasty, Generator::bounded(1, |index| index)).map(|number| number).name(nasty).for_each("\"", |_| {});
    let graph = job.build().unwrap();
    assert_eq!(check_dot(&graph.to_dot()).len(), 3);
    assert!(graph.to_dot().contains(r#"a \"b\" \\ c\\\nd } -> ; "#), "{}", graph.to_dot());
    // A name does not begin a line of its own in the text.
    assert!(
        graph
            .to_text()
            .lines()
            .all(|line| line.starts_with("job ") || line.starts_with(' ') || line.starts_with("guarantees "))
    );
    assert_eq!(serde_json::from_str::<GraphDescription>(&graph.to_json()).unwrap().job, nasty);
}
