//! Medians, percentiles, and what the operating system knows of this process.

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value below which so many percent lie; 0 of nothing.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    sorted[((percent / 100.0 * last as f64).round() as usize).min(last)]
}

/// The smallest and the largest.
pub fn spread(values: &[f64]) -> (f64, f64) {
    (percentile(values, 0.0), percentile(values, 100.0))
}

/// The processor time of this process so far, in nanoseconds.
pub fn cpu_nanoseconds() -> f64 {
    // Fields 14 and 15 of the line, in hundredths of a second; the second field may hold blanks, but ends with a parenthesis.
    let line = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = line.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |position: usize| fields.get(position).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 1e7
}

/// The largest resident set of this process so far, in bytes.
pub fn peak_rss_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// The resident set of this process, in bytes.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}
