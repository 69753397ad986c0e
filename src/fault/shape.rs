//! The parts of a fault one by one, for who makes faults simpler.

use super::plan::{Fault, FaultError, What};

impl Fault {
    /// The only process in which it strikes, if there is one.
    #[must_use]
    pub fn only_in_process(&self) -> Option<u32> {
        self.process
    }

    /// The hit from which on it strikes.
    #[must_use]
    pub fn first_hit(&self) -> u64 {
        self.hit
    }

    /// How often it strikes, at most.
    #[must_use]
    pub fn strikes(&self) -> u64 {
        self.times
    }

    /// The same for certain, if it has a probability.
    #[must_use]
    pub fn without_probability(&self) -> Option<Fault> {
        self.probability.map(|_| Fault { probability: None, ..self.clone() })
    }

    /// The same with another thing that happens.
    ///
    /// # Errors
    /// When the point does not allow it.
    pub fn doing(&self, what: What) -> Result<Fault, FaultError> {
        let Fault { what, .. } = Fault::at(self.point, what)?;
        Ok(Fault { what, ..self.clone() })
    }

    /// The faults with one of its filters left out each.
    #[must_use]
    pub fn with_one_filter_less(&self) -> Vec<Fault> {
        let mut less = Vec::new();
        less.extend(self.checkpoint.map(|_| Fault { checkpoint: None, ..self.clone() }));
        less.extend(self.subtask.map(|_| Fault { subtask: None, ..self.clone() }));
        less.extend(self.operator.as_ref().map(|_| Fault { operator: None, ..self.clone() }));
        less.extend(self.process.map(|_| Fault { process: None, ..self.clone() }));
        less
    }
}
