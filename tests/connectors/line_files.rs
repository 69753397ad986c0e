//! Lines of text.

use alluvium::connect::LineFiles;
use alluvium::testing::sources::{check_replay, read_all};

use crate::{disk_with, site};

fn lines(content: impl AsRef<[u8]>) -> Vec<String> {
    let disk = disk_with("/in.txt", content);
    read_all(&LineFiles::new("/in.txt"), &site(&disk, 1), 1).unwrap().remove(0)
}

#[test]
fn a_line_ends_with_a_newline_of_either_kind_or_with_the_file() {
    assert_eq!(lines("a\nb\r\nc"), ["a", "b", "c"]);
    assert_eq!(lines("a\n\n\r\nb\n"), ["a", "", "", "b"]);
    assert_eq!(lines("a\rb\n"), ["a\rb"]);
}

#[test]
fn an_empty_file_has_no_lines() {
    assert!(lines("").is_empty());
    assert_eq!(lines("\n"), [""]);
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_line() {
    assert_eq!(lines("\u{feff}a\nb\n"), ["a", "b"]);
    assert!(lines("\u{feff}").is_empty());
}

#[test]
fn lines_longer_than_a_chunk_are_whole() {
    let long = "x".repeat(700_000);
    assert_eq!(lines(format!("a\n{long}\nb\n{long}")), ["a", &long, "b", &long]);
}

#[test]
fn bytes_that_are_not_text_end_the_job_and_name_file_and_line() {
    let disk = disk_with("/in.txt", b"fine\nfine\n\xff\xfe\nfine\n");
    let error = read_all(&LineFiles::new("/in.txt"), &site(&disk, 1), 1).unwrap_err();
    assert!(!error.is_retryable() && error.to_string().starts_with("/in.txt, line 3: "), "{error}");
}

#[test]
fn lines_replay_exactly_once_wherever_they_are_cut() {
    let content: String = (0..12_000)
        .map(|line| format!("{line}{}{}", "-".repeat(line % 60), if line % 3 == 0 { "\r\n" } else { "\n" }))
        .collect();
    for seed in 0..12 {
        let disk = disk_with("/in.txt", content.trim_end());
        check_replay(&LineFiles::new("/in.txt"), &site(&disk, 1 + seed as u32 % 2), seed).unwrap();
    }
}
