//! How far a benchmark is, on a terminal. Elsewhere (a pipe, a log) nothing is drawn.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with one step for each run.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub fn new(runs: usize) -> Progress {
        let bar = ProgressBar::new(runs as u64);
        let template = "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("a right template").progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress { bar }
    }

    /// Runs one step under its name.
    pub fn step<T>(&self, name: impl Into<String>, run: impl FnOnce() -> T) -> T {
        self.bar.set_message(name.into());
        let answer = run();
        self.bar.inc(1);
        answer
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
