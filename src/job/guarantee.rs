//! What a graph promises when it is run with certain options.

use alluvium_actors::protocol::align::CheckpointMode;

use super::options::Options;
use crate::graph::{CheckpointBasis, Graph, GuaranteeReport};

impl Graph {
    /// What the job promises on each path from a source to a sink when it is started with these options, and why.
    ///
    /// ```
    /// use std::time::Duration;
    /// use alluvium::connect::{Generator, Lines};
    /// use alluvium::connect::sink::Guarantee;
    /// use alluvium::{Job, Options};
    ///
    /// let job = Job::new("numbers");
    /// job.source("numbers", Generator::bounded(10, |index| index.to_string())).sink("lines", Lines::exactly_once("out"));
    /// let graph = job.build()?;
    /// let options = Options::default().checkpoint_every(Duration::from_secs(1));
    /// // Checkpoints in memory end with the process.
    /// assert_eq!(graph.guarantees_with(&options).paths[0].guarantee, Guarantee::AtLeastOnce);
    /// assert_eq!(graph.guarantees_with(&options.store("state")).paths[0].guarantee, Guarantee::ExactlyOnce);
    /// # Ok::<(), alluvium::BuildErrors>(())
    /// ```
    #[must_use]
    pub fn guarantees_with(&self, options: &Options) -> GuaranteeReport {
        self.guarantees(Some(options.checkpoint_basis()))
    }
}

impl Options {
    pub(super) fn checkpoint_basis(&self) -> CheckpointBasis {
        let interval = self.interval.map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
        CheckpointBasis::new(self.mode == CheckpointMode::ExactlyOnce, interval, self.store.is_some())
            .accepting_repeats(self.fall_back_to_older && self.accept_repeats)
    }
}
