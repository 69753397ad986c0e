//! Lengths of time and of content, as people write them.

use std::time::Duration;

/// A length of time with about three digits: `640 µs`, `812 ms`, `12.3 s`, `4 min 5 s`.
///
/// ```
/// use std::time::Duration;
///
/// let length = |milliseconds| alluvium_actors::protocol::story::length(Duration::from_millis(milliseconds));
/// assert_eq!((length(812).as_str(), length(12_345).as_str(), length(245_000).as_str()), ("812 ms", "12.3 s", "4 min 5 s"));
/// ```
#[must_use]
pub fn length(time: Duration) -> String {
    let (seconds, milliseconds) = (time.as_secs(), time.as_millis());
    match milliseconds {
        0 => format!("{} µs", time.as_micros()),
        1..10_000 => format!("{milliseconds} ms"),
        10_000..120_000 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A number of bytes with about three digits.
pub(super) fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1_000 {
        return format!("{bytes} bytes");
    }
    let mut scaled = bytes as f64;
    let mut unit = "";
    for next in units {
        // Not 1000.0 kB for what rounds up to a megabyte.
        if scaled < 999.95 {
            break;
        }
        scaled /= 1_000.0;
        unit = next;
    }
    format!("{scaled:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_written_in_the_unit_that_fits_and_never_rounded_up() {
        let written = |microseconds| length(Duration::from_micros(microseconds));
        assert_eq!([written(0), written(999), written(1_000)], ["0 µs", "999 µs", "1 ms"]);
        assert_eq!([written(9_999_999), written(10_000_000)], ["9999 ms", "10.0 s"]);
        assert_eq!([written(119_999_999), written(120_000_000)], ["119.9 s", "2 min 0 s"]);
        assert_eq!(length(Duration::from_secs(600)), "10 min 0 s");
    }

    #[test]
    fn sizes_are_written_in_the_unit_that_fits() {
        assert_eq!([size(0), size(999), size(1_000), size(1_234_567)], ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB"]);
        assert_eq!([size(999_999), size(2_500_000_000), size(u64::MAX)], ["1.0 MB", "2.5 GB", "18.4 EB"]);
    }
}
