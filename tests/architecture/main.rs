//! The house keeps its layers: who may import whom is read from the `use` lines.

mod conformance;
mod faults;
mod mutations;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the kernel, lowest first. A room may use what stands before it, and itself.
const ACTORS: &[&[&str]] = &[&["sync", "ids", "payload"], &["plan", "ports"], &["protocol"], &["drive"], &["run"]];

/// The rooms of the product, lowest first. Rooms of one row may use each other.
const PRODUCT: &[&[&str]] = &[
    &["error", "config", "fault"],
    &["record"],
    &["time", "state"],
    &["snapshot", "storage"],
    &["operator", "window", "connect"],
    &["graph"],
    &["job"],
    &["observe", "testing"],
    &["bin"],
];

/// What the lower rooms may name of a higher one, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("actors", "ports", "drive"), // the doors carry the messages and outputs of the drivers as opaque values
    ("actors", "ports", "protocol"), // events of the machines are part of what a listener hears
    ("actors", "plan", "ports"),
    ("actors", "ports", "plan"),
];

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The crate-internal rooms that a file names in its `use` lines and paths.
fn rooms_used(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut rooms = Vec::new();
    for (position, _) in code.match_indices("crate::") {
        let after = &code[position + "crate::".len()..];
        if let Some(list) = after.strip_prefix('{') {
            let names = list.split('}').next().unwrap_or_default().split(',');
            rooms.extend(names.map(|name| word(name.trim())));
        } else {
            rooms.push(word(after));
        }
    }
    rooms.retain(|room| !room.is_empty() && room.chars().next().is_some_and(char::is_lowercase));
    rooms
}

fn word(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

fn violations(name: &str, root: &Path, layers: &[&[&str]]) -> Vec<String> {
    let rank: BTreeMap<&str, usize> =
        layers.iter().enumerate().flat_map(|(rank, rooms)| rooms.iter().map(move |room| (*room, rank))).collect();
    let mut files = Vec::new();
    rust_files(root, &mut files);
    let mut found = Vec::new();
    for file in files {
        let relative = file.strip_prefix(root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = first.strip_suffix(".rs").unwrap_or(first);
        if room == "lib" {
            continue;
        }
        let Some(own) = rank.get(room) else {
            found.push(format!("{name}: {} stands in no layer", relative.display()));
            continue;
        };
        for used in rooms_used(&fs::read_to_string(&file).unwrap()) {
            let Some(theirs) = rank.get(used.as_str()) else { continue };
            if theirs > own && !EXCEPTIONS.contains(&(name, room, used.as_str())) {
                found.push(format!("{name}: {} uses `{used}`, which stands above `{room}`", relative.display()));
            }
        }
    }
    found
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn no_room_of_the_kernel_uses_a_room_above_it() {
    let found = violations("actors", &project().join("actors"), ACTORS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_room_of_the_product_uses_a_room_above_it() {
    let found = violations("src", &project().join("src"), PRODUCT);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_pure_rooms_of_the_kernel_name_no_runtime() {
    let mut files = Vec::new();
    rust_files(&project().join("actors"), &mut files);
    let pure = files.iter().filter(|file| !file.starts_with(project().join("actors/run")));
    let mut found = Vec::new();
    for file in pure {
        for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in ["actix", "tokio", "sled", "Instant", "SystemTime", "std::fs", "std::net"] {
                if code.contains(word) && !code.contains("feature = \"actix\"") {
                    found.push(format!("{}:{}: {word}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "the kernel outside run/ is pure:\n{}", found.join("\n"));
}

/// What reaches past the doors, and the files of the product that may name it, each with its reason.
const OUTSIDE: &[(&str, &[&str])] = &[
    // A drill is one of a real process: it ends by the process's clock, and says when something struck.
    // An exploration has a budget of real time, and shows how far it is: around runs, never in one.
    (
        "Instant",
        &[
            "job/drill.rs",
            "job/drill/judge.rs",
            "job/drill/state.rs",
            "testing/explore/mod.rs",
            "testing/explore/workers.rs",
        ],
    ),
    ("SystemTime", &["job/drill.rs", "job/drill/judge.rs", "job/drill/state.rs"]),
    ("std::net", &[]),
    ("thread::spawn", &[]),
    // sled has a thread of its own. Simulated blocking work that stands still has a thread of its own, and hands a baton to and fro.
    ("std::thread::{", &["storage/catalogue.rs", "testing/simulation/suspended.rs"]),
    // A start waits for the lock of a process that was just killed: before anything of the job runs.
    ("thread::sleep", &["job/mod.rs"]),
    // The file door itself, and sled's own directory. Schedules that failed are kept in files of the machine that runs the tests.
    (
        "std::fs",
        &[
            "storage/system.rs",
            "storage/catalogue.rs",
            "testing/explore/file.rs",
            "testing/explore/replay.rs",
            "testing/check/orphans.rs",
        ],
    ),
    // The seed of a new store is drawn once, by whoever starts a real job; a simulated one gets it from its own seed.
    ("RandomState", &["job/mod.rs"]),
    ("rand::", &[]),
];

/// The uses of what reaches past the doors in one file, outside comments and tests.
fn reaches_outside(relative: &str, text: &str) -> Vec<String> {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let lines = code.enumerate().map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()));
    let mut found = Vec::new();
    for (number, line) in lines {
        for (word, allowed) in OUTSIDE {
            if line.contains(word) && !allowed.contains(&relative) {
                found.push(format!("src/{relative}:{number}: {word}"));
            }
        }
    }
    found
}

#[test]
fn the_product_reaches_time_chance_threads_and_files_through_doors_only() {
    let root = project().join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let relative = file.strip_prefix(&root).unwrap().to_str().unwrap();
            reaches_outside(relative, &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "what a simulated job executes asks its host (law 8):\n{}", found.join("\n"));
}

#[test]
fn a_clock_that_is_read_past_the_host_would_be_seen() {
    let text = "fn f() {\n    let now = std::time::Instant::now(); // now\n}\n// Instant\n#[cfg(test)]\nInstant";
    assert_eq!(reaches_outside("graph/job.rs", text), ["src/graph/job.rs:2: Instant"]);
    assert!(reaches_outside("job/mod.rs", "std::thread::sleep(LOCK_PAUSE)").is_empty());
}

#[test]
fn the_top_level_holds_what_the_house_names() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "actors",
        "tests",
        "examples",
        "docs",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "clippy.toml",
        "rustfmt.toml",
        "deny.toml",
        "target",
    ];
    let output = std::process::Command::new("git").args(["ls-files"]).current_dir(project()).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let strangers: Vec<&str> = listed
        .lines()
        .map(|path| path.split('/').next().unwrap())
        .filter(|top| !top.starts_with('.') && !allowed.contains(top))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn a_use_line_that_breaks_the_order_would_be_seen() {
    assert_eq!(rooms_used("use crate::graph::Graph;\nuse crate::{state::Table, error};"), ["graph", "state", "error"]);
    assert!(rooms_used("// use crate::graph::Graph;").is_empty());
}

#[test]
fn no_file_is_longer_than_one_concept() {
    let mut files = Vec::new();
    for folder in ["actors", "src", "tests", "examples"] {
        rust_files(&project().join(folder), &mut files);
    }
    let long: Vec<String> = files
        .iter()
        .map(|file| (file, fs::read_to_string(file).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > 700)
        .map(|(file, lines)| format!("{}: {lines}", file.display()))
        .collect();
    assert!(long.is_empty(), "files over 700 lines want a split:\n{}", long.join("\n"));
}
