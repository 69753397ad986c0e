//! The pages that promise tests keep their word: every row of the list of Apache Flink's tests stands in `docs/conformance.md`, and every test that
//! this page or `docs/protocol.md` names exists.
//!
//! The ordinary run compares with the tests in the sources. `.ci/conformance` compares with what the built test binaries list, which also
//! finds a file that no module names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{project, rust_files};

const ROWS: &str = include_str!("conformance_rows.txt");

/// Names, by `binary/module`.
#[derive(Debug, Default)]
struct Tests(BTreeMap<String, BTreeSet<String>>);

impl Tests {
    /// Adds a test by the path that a binary lists: `module::name`, or `name` for one in its main file.
    fn add(&mut self, binary: &str, path: &str) {
        let (module, name) = path.rsplit_once("::").unwrap_or(("main", path));
        self.0.entry(format!("{binary}/{module}")).or_default().insert(name.to_owned());
    }

    /// Every `#[test]` of the workspace.
    fn of_sources(project: &Path) -> Tests {
        let mut tests = Tests::default();
        for binary in fs::read_dir(project.join("tests")).unwrap().map(|entry| entry.unwrap().path()) {
            if binary.is_dir() {
                tests.of_folder(&binary, binary.file_name().unwrap().to_str().unwrap(), false);
            }
        }
        tests.of_folder(&project.join("src"), "alluvium", true);
        tests.of_folder(&project.join("actors"), "alluvium_actors", true);
        tests
    }

    /// The tests of one binary. Those of a library stand in a module `tests` of their file.
    fn of_folder(&mut self, root: &Path, binary: &str, library: bool) {
        let mut files = Vec::new();
        rust_files(root, &mut files);
        for file in files {
            let relative = file.strip_prefix(root).unwrap().with_extension("");
            let mut path: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
            path.pop_if(|last| *last == "mod" || *last == "main");
            if library {
                path.push("tests");
            }
            let mut test_follows = false;
            for line in fs::read_to_string(&file).unwrap().lines().map(str::trim_start) {
                if line == "#[test]" || line.starts_with("#[should_panic") || line.starts_with("#[ignore") {
                    test_follows = true;
                } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| test_follows) {
                    path.push(rest.split('(').next().unwrap());
                    self.add(binary, &path.join("::"));
                    path.pop();
                    test_follows = false;
                }
            }
        }
    }

    /// Reads what `.ci/conformance` collected: a line `= binary` before what that binary lists.
    fn of_list(list: &str) -> Tests {
        let mut tests = Tests::default();
        let mut binary = String::new();
        for line in list.lines() {
            if let Some(name) = line.strip_prefix("= ") {
                name.clone_into(&mut binary);
            } else if let Some(path) = line.strip_suffix(": test") {
                tests.add(&binary, path);
            }
        }
        tests
    }

    fn has_binary(&self, binary: &str) -> bool {
        self.0.keys().any(|module| module.split_once('/').is_some_and(|(name, _)| name == binary))
    }

    /// What is wrong with the names in `line`; `module` is that of the name before, for `..name`.
    fn trouble(&self, line: &str, module: &mut String) -> Option<String> {
        for quoted in line.split('`').skip(1).step_by(2) {
            let name = if let Some(name) = quoted.strip_prefix("..").filter(|name| is_snake(name)) {
                name
            } else if let Some((place, name)) = quoted.rsplit_once("::").filter(|(place, _)| self.is_place(place)) {
                place.clone_into(module);
                name
            } else if self.is_place(quoted) {
                if !self.0.contains_key(quoted) {
                    return Some(format!("there is no module `{quoted}` with tests"));
                }
                continue;
            } else if quoted.matches('_').count() > 3 && is_snake(quoted) {
                return Some(format!("`{quoted}` looks like a test: write `binary/module::name`"));
            } else {
                continue;
            };
            if !self.0.get(module.as_str()).is_some_and(|names| names.contains(name)) {
                return Some(format!("there is no test `{module}::{name}`"));
            }
        }
        None
    }

    /// Whether this is the place of tests: `binary/module`.
    fn is_place(&self, text: &str) -> bool {
        text.split_once('/').is_some_and(|(binary, module)| self.has_binary(binary) && is_snake(module))
    }

    /// Every line of `page` with a test that does not exist.
    fn missing_from(&self, name: &str, page: &str) -> Vec<String> {
        let mut module = String::new();
        let lines = page.lines().enumerate();
        lines
            .filter_map(|(number, line)| {
                let trouble = self.trouble(line, &mut module)?;
                Some(format!("{name}:{}: {trouble}", number + 1))
            })
            .collect()
    }
}

fn is_snake(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_:".contains(letter))
}

/// The words with which a row begins that has no test.
const REASONS: [&str; 4] = ["Does not apply: ", "Not built: ", "Differs: ", "Elsewhere: "];

/// The sections whose rows may still say `To be written.`
const BEING_WRITTEN: &str = "R";

/// Rows by section, as (section, row).
fn listed(rows: &str) -> BTreeSet<(char, &str)> {
    let mut section = ' ';
    let mut listed = BTreeSet::new();
    for line in rows.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.strip_prefix("  ") {
            Some(row) => assert!(listed.insert((section, row)), "{row} is listed twice"),
            None => section = line.chars().next().unwrap(),
        }
    }
    listed
}

/// What is wrong with the tables of `page`, given the list.
fn trouble_with_rows(page: &str, rows: &str) -> Vec<String> {
    let mut missing = listed(rows);
    let mut section = ' ';
    let mut trouble = Vec::new();
    for (number, line) in page.lines().enumerate() {
        let mut complain = |text: String| trouble.push(format!("docs/conformance.md:{}: {text}", number + 1));
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.chars().next().unwrap_or(' ');
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let Some((theirs, ours)) = cells.split_once(" | ") else { continue };
        if theirs == "---" || theirs == "Apache Flink" {
            continue;
        }
        for row in theirs.split(", ") {
            if !missing.remove(&(section, row)) {
                complain(format!("{row} is not in the list of section {section}, or is here twice"));
            }
        }
        let has_test = ours.split('`').skip(1).step_by(2).any(|quoted| quoted.contains("::"));
        let has_reason = REASONS.iter().any(|reason| ours.len() > reason.len() + 9 && ours.starts_with(reason));
        let is_open = ours == "To be written." && BEING_WRITTEN.contains(section);
        if !has_test && !has_reason && !is_open {
            complain(format!("neither a test nor a reason: begin with one of {REASONS:?}"));
        }
    }
    trouble.extend(missing.iter().map(|(section, row)| format!("docs/conformance.md: section {section} lacks {row}")));
    trouble
}

fn page(name: &str) -> String {
    fs::read_to_string(project().join("docs").join(name)).unwrap()
}

fn missing_from_the_pages(tests: &Tests) -> Vec<String> {
    let of = |name: &str| tests.missing_from(&format!("docs/{name}"), &page(name));
    [of("conformance.md"), of("protocol.md")].concat()
}

#[test]
fn every_row_of_apache_flink_s_tests_has_a_test_or_a_reason() {
    let trouble = trouble_with_rows(&page("conformance.md"), ROWS);
    assert!(trouble.is_empty(), "{}", trouble.join("\n"));
}

#[test]
fn every_test_that_the_pages_name_is_in_the_sources() {
    let missing = missing_from_the_pages(&Tests::of_sources(project()));
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
#[ignore = "needs the lists of the built test binaries: run .ci/conformance"]
fn every_test_that_the_pages_name_is_in_the_test_binaries() {
    let list = std::env::var("ALLUVIUM_TEST_LIST").expect("ALLUVIUM_TEST_LIST names the file with the lists");
    let tests = Tests::of_list(&fs::read_to_string(list).unwrap());
    let missing = missing_from_the_pages(&tests);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    println!("{} tests are listed", tests.0.values().map(BTreeSet::len).sum::<usize>());
}

#[test]
fn a_name_that_does_not_exist_is_found_with_its_line() {
    let tests = Tests::of_list(
        "= model\ncases::one: test\ncases::two: test\n0 benchmarks\n= compat\nat_the_top: test\n= alluvium\nstate::span::tests::three: test\n",
    );
    let right = "`model/cases::one`, `..two`, all of `model/cases`\n`compat/main::at_the_top`, `alluvium/state::span::tests::three`\n\
                 `actors/protocol/`, `src/x.rs`, `tests/model`, `Type::with_a_long_name`";
    assert_eq!(tests.missing_from("page", right), [""; 0]);
    let wrong = "`model/cases::one`, `..three`\n`model/other::one`\n`model/other`\n`a_name_without_its_own_module`";
    assert_eq!(
        tests.missing_from("page", wrong),
        [
            "page:1: there is no test `model/cases::three`",
            "page:2: there is no test `model/other::one`",
            "page:3: there is no module `model/other` with tests",
            "page:4: `a_name_without_its_own_module` looks like a test: write `binary/module::name`",
        ]
    );
}

#[test]
fn a_row_that_is_missing_wrong_or_empty_is_found() {
    let rows = "# facts\nA\n  X.one\n  X.two\nQ\n  X.one\n";
    let right = "## A. Title\n| Apache Flink | alluvium |\n| --- | --- |\n| X.one, X.two | `model/a::b` |\n## Q. Title\n| X.one | Not built: the sink of it |";
    assert_eq!(trouble_with_rows(right, rows), [""; 0]);
    let wrong = "## A. Title\n| X.one, X.three | `model/a::b` |\n## Q. Title\n| X.one | nothing to say |";
    let trouble = trouble_with_rows(wrong, rows);
    assert_eq!(trouble[0], "docs/conformance.md:2: X.three is not in the list of section A, or is here twice");
    assert!(trouble[1].starts_with("docs/conformance.md:4: neither a test nor a reason"), "{trouble:?}");
    assert_eq!(trouble[2..], ["docs/conformance.md: section A lacks X.two"]);
}
