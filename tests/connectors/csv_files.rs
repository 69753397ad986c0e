//! Comma-separated values.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use alluvium::connect::CsvFiles;
use alluvium::error::OperatorError;
use alluvium::storage::SystemFiles;
use alluvium::testing::host::Site;
use alluvium::testing::sources::{check_replay, read_all};
use serde::{Deserialize, Serialize};

use crate::{disk_with, site};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    name: String,
    count: Option<i64>,
}

fn row(name: &str, count: i64) -> Row {
    Row { name: name.to_owned(), count: Some(count) }
}

fn read(content: impl AsRef<[u8]>) -> Result<Vec<Row>, OperatorError> {
    let disk = disk_with("/in.csv", content);
    Ok(read_all(&CsvFiles::new("/in.csv"), &site(&disk, 1), 1)?.remove(0))
}

fn refusal(content: impl AsRef<[u8]>) -> String {
    let error = read(content).unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    error.to_string()
}

#[test]
fn columns_are_found_by_their_names_in_the_header() {
    assert_eq!(read("name,count\na,1\nb,2\n").unwrap(), [row("a", 1), row("b", 2)]);
    assert_eq!(read("count,other,name\n1,x,a\n,y,b\n").unwrap(), [row("a", 1), Row { name: "b".into(), count: None }]);
}

#[test]
fn rows_end_with_a_newline_of_either_kind_or_with_the_file() {
    assert_eq!(read("name,count\r\na,1\r\nb,2").unwrap(), [row("a", 1), row("b", 2)]);
    assert_eq!(read("name,count\n\na,1\n\n\nb,2\n\n").unwrap(), [row("a", 1), row("b", 2)]);
}

#[test]
fn quoted_fields_may_hold_commas_quotes_and_newlines() {
    let content = "name,count\n\"a,b\",1\n\"say \"\"hi\"\"\",2\n\"two\r\nlines\",3\n";
    assert_eq!(read(content).unwrap(), [row("a,b", 1), row("say \"hi\"", 2), row("two\r\nlines", 3)]);
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_column() {
    assert_eq!(read("\u{feff}name,count\na,1\n").unwrap(), [row("a", 1)]);
}

#[test]
fn a_file_without_rows_is_read_to_its_end() {
    for content in ["", "name,count", "name,count\n", "name,count\r\n\r\n"] {
        assert!(read(content).unwrap().is_empty(), "{content:?}");
    }
}

#[test]
fn a_malformed_row_ends_the_job_and_names_file_line_and_column() {
    assert!(
        refusal("name,count\na,1\nb,two\n").starts_with("/in.csv, line 3: column `count` is `two`: "),
        "{}",
        refusal("name,count\na,1\nb,two\n")
    );
    // Whatever the kind of newline, and behind a field of several lines.
    assert!(refusal("name,count\r\na,1\r\nb,two\r\n").starts_with("/in.csv, line 3: "));
    assert!(refusal("name,count\n\"a\nb\nc\",1\n\n\nb,two\n").starts_with("/in.csv, line 7: "));
    assert!(refusal("name,count\r\n\"a\r\nb\",1\r\n\r\nb,two").starts_with("/in.csv, line 5: "));
}

#[test]
fn a_malformed_row_far_behind_names_its_line() {
    let mut content = "name,count\n".to_owned();
    for line in 2..30_000 {
        writeln!(content, "some name,{line}").unwrap();
    }
    assert!(refusal(format!("{content}x,y\n")).starts_with("/in.csv, line 30000: "));
}

#[test]
fn a_row_of_another_length_than_the_header_is_malformed() {
    assert_eq!(refusal("name,count\na,1\nb\n"), "/in.csv, line 3: 1 fields under a header of 2");
    assert_eq!(refusal("name,count\na,1,1\n"), "/in.csv, line 2: 3 fields under a header of 2");
}

#[test]
fn a_missing_column_is_named() {
    let refusal = refusal("title,count\na,1\n");
    assert!(refusal.contains("missing field `name`") && refusal.contains("title, count"), "{refusal}");
}

#[test]
fn rows_before_a_malformed_one_are_emitted() {
    let disk = disk_with("/in.csv", "name,count\na,1\nb,2\nc,x\n");
    let source = CsvFiles::<Row>::new("/in.csv");
    let mut run = alluvium::testing::sources::SourceRun::start(&source, &site(&disk, 1), None, 1).unwrap();
    assert!(run.finish().is_err());
    assert_eq!(run.emitted(), [row("a", 1), row("b", 2)]);
}

#[test]
fn rows_replay_exactly_once_wherever_they_are_cut() {
    let mut content = "name,count\r\n".to_owned();
    for count in 0..14_000 {
        let end = if count % 5 == 0 { "\n" } else { "\r\n" };
        let name = if count % 7 == 0 { "\"quoted,\r\nname\"" } else { "plain" };
        write!(content, "{name},{count}{end}").unwrap();
    }
    for seed in 0..12 {
        let disk = disk_with("/in.csv", content.trim_end());
        let source = CsvFiles::<Row>::new("/in.csv");
        check_replay(&source, &site(&disk, 1 + seed as u32 % 2), seed).unwrap();
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flight {
    tailnum: String,
    dep_delay: String,
    time_hour: String,
}

#[test]
fn the_example_input_is_read_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/flights-2013-01.csv");
    let source = CsvFiles::<Flight>::new(path);
    let flights = read_all(&source, &Site::new("flights", Arc::new(SystemFiles::new())), 1).unwrap().remove(0);
    assert_eq!(flights.len(), 27_004);
    assert_eq!(flights[0].tailnum, "N14228");
    assert_eq!(source.progress().rows_read(), 27_004);
    assert_eq!(source.progress().bytes_read(), 2_481_495);
    assert_eq!(source.progress().bytes_total(), 2_481_495);
}
