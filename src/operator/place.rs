//! Where in its chain a task is at work: so that a panic, which the driver catches far away, is reported with the name of the operator.

use std::cell::Cell;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use alluvium_actors::ports::calls::CallWatch;
use alluvium_actors::ports::task::Failure;

use crate::error::OperatorError;

/// The operators of one chain, and which of them is at work.
#[derive(Debug, Default)]
pub(crate) struct Places {
    current: Rc<Cell<usize>>,
    labels: Vec<Arc<str>>,
    /// Tells the supervisor, on its thread, the same.
    calls: Arc<CallWatch>,
}

impl Places {
    /// No operator yet.
    pub(crate) fn new(calls: &Arc<CallWatch>) -> Places {
        Places { calls: Arc::clone(calls), ..Places::default() }
    }

    /// A place for one more operator.
    pub(crate) fn add(&mut self, label: Arc<str>) -> Place {
        let (current, calls) = (Rc::clone(&self.current), Arc::clone(&self.calls));
        let watched = calls.add(Arc::clone(&label));
        let label_of_place = Arc::clone(&label);
        let place =
            Place { current, index: self.labels.len(), label: label_of_place, calls, watched, had_ended: false };
        self.labels.push(label);
        place
    }

    /// The operator that is at work, or was last.
    pub(crate) fn current(&self) -> &str {
        self.labels.get(self.current.get()).map_or("", |label| label)
    }
}

/// The place of one operator in its chain.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    current: Rc<Cell<usize>>,
    index: usize,
    label: Arc<str>,
    calls: Arc<CallWatch>,
    /// Its position there.
    watched: usize,
    /// See [`Place::had_ended`].
    had_ended: bool,
}

impl Place {
    /// The place of an operator that had come to the end of its data, in all its instances, before the restored checkpoint: what it does there was done.
    pub(crate) fn ended_before(self, had_ended: bool) -> Place {
        Place { had_ended, ..self }
    }

    /// Whether it had; it runs again only because others of its chain had not.
    pub(crate) fn had_ended(&self) -> bool {
        self.had_ended
    }

    /// This operator is at work now. Costs two stores: called once per slice.
    #[inline]
    pub(crate) fn enter(&self) {
        self.current.set(self.index);
        self.calls.enter(self.watched);
    }

    /// The operator's label: how errors name it.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The failure of this operator's user code.
    #[cold]
    pub(crate) fn fail(&self, error: OperatorError) -> Failure {
        error.at(&self.label)
    }

    /// A failure of this operator that no restart mends.
    #[cold]
    pub(crate) fn unrecoverable(&self, message: impl Display) -> Failure {
        Failure::unrecoverable(&*self.label, message)
    }
}
