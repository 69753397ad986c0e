//! What cannot be armed.

use crate::fault::ParseFaultError;

/// Faults cannot be armed in this process.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DrillError {
    /// The variable of the environment is no plan of faults.
    #[error("the variable {variable}: {error}; mend the text, or unset the variable")]
    Text {
        /// Which variable.
        variable: &'static str,
        /// What is wrong with it.
        error: ParseFaultError,
    },
    /// The variable of the environment is no seed, or no text at all.
    #[error("the variable {variable} is {value:?}, which is not {wanted}; mend it, or unset the variable")]
    Variable {
        /// Which variable.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// The fault is one of simulated runs.
    #[error(
        "`{fault}` can only happen in a simulated run: in a real process there is no `process=`, no `crash(machine)` and no `disk[...]`; leave it out, or give the plan to `testing::simulation`"
    )]
    OnlySimulated {
        /// The fault.
        fault: String,
    },
    /// The program was built so that a panic ends it.
    #[error(
        "`{fault}` would end the process, because it was built with panic = \"abort\": use crash, or build it with panic = \"unwind\""
    )]
    Aborts {
        /// The fault.
        fault: String,
    },
    /// No job of the drill has an operator of this name.
    #[error("no operator, source or sink is called `{operator}`; there are {known}")]
    UnknownOperator {
        /// The name.
        operator: String,
        /// The names that there are.
        known: String,
    },
    /// A simulated run was given a drill.
    #[error(
        "Options::faults is for real processes: a simulated run has faults of its own, give the plan to `Simulation::with(Faults::Points(..))`"
    )]
    Simulated,
}
