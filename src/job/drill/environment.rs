//! Faults from the environment of the process.

use std::env::{self, VarError};

use super::{DrillError, FaultDrill};
use crate::fault::FaultPlan;

/// The variable with the faults of a process, in their text form.
pub const FAULTS_VARIABLE: &str = "ALLUVIUM_FAULTS";

/// The variable with the seed of faults from the environment that have a probability: a whole number. Without it one is drawn and told.
pub const SEED_VARIABLE: &str = "ALLUVIUM_FAULTS_SEED";

fn variable(name: &'static str, wanted: &'static str) -> Result<Option<String>, DrillError> {
    match env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => {
            Err(DrillError::Variable { variable: name, value: value.to_string_lossy().into_owned(), wanted })
        }
    }
}

/// The faults that the environment asks for.
///
/// # Errors
/// When the text is no plan: it is never passed over.
pub(super) fn plan() -> Result<FaultPlan, DrillError> {
    let Some(text) = variable(FAULTS_VARIABLE, "a text")? else { return Ok(FaultPlan::default()) };
    text.parse().map_err(|error| DrillError::Text { variable: FAULTS_VARIABLE, error })
}

/// A drill for them.
///
/// # Errors
/// When the seed is no number.
pub(super) fn drill() -> Result<FaultDrill, DrillError> {
    const WANTED: &str = "a whole number";
    let Some(text) = variable(SEED_VARIABLE, WANTED)? else { return Ok(FaultDrill::new()) };
    let wrong = |_| DrillError::Variable { variable: SEED_VARIABLE, value: text.clone(), wanted: WANTED };
    Ok(FaultDrill::seeded(text.trim().parse().map_err(wrong)?))
}
