//! A graph for people: as text and as a picture.

use std::fmt::{self, Write};

use super::Graph;
use super::describe::{EdgeDescription, GraphDescription, Joins, OperatorDescription};
use crate::connect::source::Replay;

/// As [`Graph::to_text`].
impl fmt::Display for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(&self.describe(), formatter)
    }
}

impl Graph {
    /// The graph as text: chains with their operators, edges, and what is promised on each path.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// The graph as a picture in the DOT language of Graphviz: a box for each chain, in it the operators. `dot -Tsvg` draws it.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut out = String::new();
        dot(&self.describe(), &mut out).expect("writing into a text does not fail");
        out
    }
}

fn text(graph: &GraphDescription, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "job {}", one_line(&graph.job))?;
    for chain in &graph.chains {
        let worker = chain.first_worker.map_or_else(String::new, |worker| format!(", first worker {worker}"));
        writeln!(
            out,
            "  [{}] {}  (parallelism {}, max parallelism {}{worker})",
            chain.chain,
            one_line(&chain.name),
            chain.parallelism,
            chain.max_parallelism
        )?;
        for index in &chain.operators {
            let operator = &graph.operators[*index];
            writeln!(out, "      {}: {}", one_line(&operator.name), one_line(&facts(operator).join(", ")))?;
        }
    }
    let several_inputs = with_several_inputs(graph);
    for edge in graph.edges.iter().filter(|edge| edge.joins != Joins::SameSubtask) {
        let (from, to) = (&graph.operators[edge.from], &graph.operators[edge.to]);
        write!(out, "  [{}] {} -> [{}] {}", from.chain, one_line(&from.name), to.chain, one_line(&to.name))?;
        if several_inputs[edge.to] {
            write!(out, " input {}", edge.input)?;
        }
        let joins = if edge.joins == Joins::Pointwise { "pointwise" } else { "all to all" };
        let credits = edge.credits.unwrap_or_default();
        writeln!(out, "  ({}, {joins}, {credits} batches, {})", one_line(&how(edge)), short(&edge.record))?;
    }
    write!(out, "{}", graph.guarantees)
}

/// What there is to say of an operator beside its name.
fn facts(operator: &OperatorDescription) -> Vec<String> {
    let mut facts = vec![operator.kind.clone()];
    if let Some(uid) = operator.uid.as_ref().filter(|uid| **uid != operator.name) {
        facts.push(format!("uid {uid}"));
    }
    if let Some(source) = &operator.source {
        facts.push(if source.bounded { "bounded" } else { "unbounded" }.to_owned());
        facts.push(match source.replay {
            Replay::FromStoredPosition => "replayable".to_owned(),
            Replay::ByTheProgram => "replayed by the program only".to_owned(),
            Replay::Never => "not replayable".to_owned(),
        });
    }
    if let Some(sink) = &operator.sink {
        facts.push(sink.guarantee.to_string());
        facts.extend(sink.required.map(|required| format!("{required} declared")));
    }
    facts.extend(operator.states.iter().map(|state| format!("{} state {}", state.kind, state.name)));
    facts.extend(operator.emits.as_ref().map(|record| format!("emits {}", short(record))));
    facts.extend(
        operator.side_outputs.iter().map(|side| format!("side output {} of {}", side.name, short(&side.record))),
    );
    facts.extend(operator.notes.iter().map(|note| format!("note: {note}")));
    facts
}

fn how(edge: &EdgeDescription) -> String {
    match &edge.side_output {
        None => edge.partitioning.clone(),
        Some(side) => format!("side output {side}, {}", edge.partitioning),
    }
}

/// For each operator whether it has several inputs.
fn with_several_inputs(graph: &GraphDescription) -> Vec<bool> {
    let mut several = vec![false; graph.operators.len()];
    for edge in graph.edges.iter().filter(|edge| edge.input > 0) {
        several[edge.to] = true;
    }
    several
}

fn dot(graph: &GraphDescription, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "digraph {} {{", quoted(&[&graph.job]))?;
    writeln!(out, "  rankdir=LR;")?;
    writeln!(out, "  node [shape=box, style=rounded];")?;
    for chain in &graph.chains {
        let width = format!("parallelism {} of {}", chain.parallelism, chain.max_parallelism);
        writeln!(out, "  subgraph cluster_{} {{", chain.chain)?;
        writeln!(out, "    label={};", quoted(&[&format!("chain {}", chain.chain), &width]))?;
        for index in &chain.operators {
            let operator = &graph.operators[*index];
            let facts = facts(operator);
            let lines: Vec<&str> = std::iter::once(&operator.name).chain(&facts).map(String::as_str).collect();
            let shape = match (&operator.source, &operator.sink) {
                (Some(_), _) => ", shape=cds",
                (_, Some(_)) => ", shape=note",
                (None, None) => "",
            };
            writeln!(out, "    operator_{index} [label={}{shape}];", quoted(&lines))?;
        }
        writeln!(out, "  }}")?;
    }
    let several_inputs = with_several_inputs(graph);
    for edge in &graph.edges {
        let mut label = vec![how(edge), short(&edge.record)];
        if several_inputs[edge.to] {
            label.push(format!("input {}", edge.input));
        }
        let lines: Vec<&str> = label.iter().map(String::as_str).collect();
        let style = match edge.joins {
            Joins::SameSubtask => ", style=dotted",
            Joins::Pointwise => "",
            Joins::AllToAll => ", style=bold",
        };
        writeln!(out, "  operator_{} -> operator_{} [label={}{style}];", edge.from, edge.to, quoted(&lines))?;
    }
    writeln!(out, "}}")
}

/// A quoted text of the DOT language, in lines. Control characters have no place in it.
fn quoted(lines: &[&str]) -> String {
    let mut quoted = String::from("\"");
    for (number, line) in lines.iter().enumerate() {
        for character in line.chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                character if character.is_control() => quoted.push('\u{fffd}'),
                character => quoted.push(character),
            }
        }
        if number + 1 < lines.len() {
            quoted.push_str("\\n");
        }
    }
    quoted.push('"');
    quoted
}

/// Names are the user's and may hold anything: a line stays a line.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A type without the paths of its modules: `alloc::vec::Vec<alloc::string::String>` is `Vec<String>`.
fn short(type_name: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    let mut characters = type_name.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ':' && characters.peek() == Some(&':') {
            characters.next();
            word.clear();
        } else if character.is_alphanumeric() || character == '_' {
            word.push(character);
        } else {
            short.push_str(&word);
            word.clear();
            short.push(character);
        }
    }
    short + &word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_lose_their_paths() {
        for (long, expected) in [
            ("u64", "u64"),
            ("alloc::string::String", "String"),
            ("(alloc::string::String, u64)", "(String, u64)"),
            ("alloc::vec::Vec<core::option::Option<my_crate::records::Flight>>", "Vec<Option<Flight>>"),
            ("[u8; 4]", "[u8; 4]"),
            ("&str", "&str"),
        ] {
            assert_eq!(short(long), expected);
        }
    }

    #[test]
    fn quotes_backslashes_and_lines_are_escaped() {
        assert_eq!(quoted(&["a \"b\" \\l", "c\nd\0"]), "\"a \\\"b\\\" \\\\l\\nc\\nd\u{fffd}\"");
        assert_eq!(one_line("a\nb\u{1b}[1m"), "a\\nb\\u{1b}[1m");
    }
}
