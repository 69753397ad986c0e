//! Looks for everything that is wrong with a job.

use std::collections::BTreeMap;

use super::builder::{Builder, Exchange, Operator};
use super::error::BuildError;
use super::promises;
use crate::record::{MAX_PARALLELISM_LIMIT, default_max_parallelism};

/// The longest uid, in bytes.
const LONGEST_UID: usize = 255;

/// The most batches that may wait in an edge.
const MOST_CREDITS: u32 = 1024;

/// All errors of a job: those of the job, then those of its operators in their order.
pub(super) fn check(builder: &Builder) -> Vec<BuildError> {
    let mut errors = Vec::new();
    if builder.name.is_empty() {
        errors.push(BuildError::JobWithoutName);
    }
    if !builder.operators.iter().any(|operator| operator.inputs.is_empty()) {
        errors.push(BuildError::NoSource);
    }
    errors.extend(builder.errors.iter().cloned());
    let consumed = consumed(builder);
    let mut uids = BTreeMap::new();
    for (index, operator) in builder.operators.iter().enumerate() {
        check_uid(operator, &mut uids, &mut errors);
        check_states(operator, &mut errors);
        check_sides(operator, &mut errors);
        check_credits(operator, &mut errors);
        check_width(builder, operator, &mut errors);
        check_forward(builder, operator, &mut errors);
        if operator.output.is_some() && !consumed[index] {
            errors.push(BuildError::EndsNowhere { operator: operator.label() });
        }
    }
    errors.extend(promises::check(builder));
    errors
}

/// For each operator whether somebody takes, or wanted to take, one of its outputs.
fn consumed(builder: &Builder) -> Vec<bool> {
    let mut consumed = vec![false; builder.operators.len()];
    let inputs = builder.operators.iter().flat_map(|consumer| &consumer.inputs);
    let upstreams = inputs.flat_map(|input| &input.upstreams).map(|upstream| upstream.operator);
    for operator in upstreams.chain(builder.asked_wrongly.iter().copied()) {
        consumed[operator] = true;
    }
    consumed
}

/// Parallelism and max parallelism of an operator.
pub(super) fn width(builder: &Builder, operator: &Operator) -> (u32, u32) {
    let parallelism = operator.parallelism.unwrap_or(builder.parallelism);
    let max_parallelism = operator.max_parallelism.or(builder.max_parallelism);
    (parallelism, max_parallelism.unwrap_or_else(|| default_max_parallelism(parallelism)))
}

/// Whether a number of credits lies within the bounds.
pub(super) fn credits(operator: &str, batches: u32) -> Result<(), BuildError> {
    if (1..=MOST_CREDITS).contains(&batches) {
        Ok(())
    } else {
        Err(BuildError::Credits { operator: operator.to_owned(), batches })
    }
}

/// Whether a max parallelism lies within the bounds.
pub(super) fn max_parallelism(operator: &str, max_parallelism: u32) -> Result<(), BuildError> {
    if (1..=MAX_PARALLELISM_LIMIT).contains(&max_parallelism) {
        Ok(())
    } else {
        Err(BuildError::MaxParallelism { operator: operator.to_owned(), max_parallelism })
    }
}

fn check_uid<'a>(operator: &'a Operator, uids: &mut BTreeMap<&'a str, String>, errors: &mut Vec<BuildError>) {
    let Some(uid) = operator.uid.as_ref().map(|uid| uid.as_str()) else { return };
    if uid.is_empty() {
        errors.push(BuildError::EmptyUid { operator: operator.origin() });
    } else if uid.len() > LONGEST_UID {
        errors.push(BuildError::LongUid { operator: operator.origin(), length: uid.len(), limit: LONGEST_UID });
    } else if let Some(first) = uids.get(uid) {
        errors.push(BuildError::DuplicateUid { uid: uid.to_owned(), first: first.clone(), second: operator.origin() });
    } else {
        uids.insert(uid, operator.origin());
    }
}

fn check_states(operator: &Operator, errors: &mut Vec<BuildError>) {
    let names: Vec<&str> = operator.states.iter().map(|state| state.name.as_str()).collect();
    if names.contains(&"") {
        errors.push(BuildError::EmptyStateName { operator: operator.label() });
    }
    for name in twice(names) {
        errors.push(BuildError::DuplicateState { operator: operator.label(), state: name.to_owned() });
    }
}

fn check_sides(operator: &Operator, errors: &mut Vec<BuildError>) {
    let names: Vec<&str> = operator.sides.iter().map(|side| &*side.name).collect();
    if names.contains(&"") {
        errors.push(BuildError::EmptySideOutputName { operator: operator.label() });
    }
    for name in twice(names) {
        errors.push(BuildError::DuplicateSideOutput { operator: operator.label(), side: name.to_owned() });
    }
}

/// The names that stand several times, each once.
fn twice(mut names: Vec<&str>) -> Vec<&str> {
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    let mut twice: Vec<&str> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    twice.dedup();
    twice
}

fn check_credits(operator: &Operator, errors: &mut Vec<BuildError>) {
    let Some(batches) = operator.credits else { return };
    if operator.inputs.is_empty() {
        errors.push(BuildError::CreditsOfSource { operator: operator.label() });
    }
    errors.extend(credits(&operator.label(), batches).err());
}

fn check_width(builder: &Builder, operator: &Operator, errors: &mut Vec<BuildError>) {
    let label = operator.label();
    // What the job sets wrongly was reported once, when it was set.
    if operator.parallelism == Some(0) {
        errors.push(BuildError::ZeroParallelism { operator: label.clone() });
    }
    if let Some(set) = operator.max_parallelism
        && let Err(error) = max_parallelism(&label, set)
    {
        errors.push(error);
        return;
    }
    let (parallelism, max_parallelism) = width(builder, operator);
    if parallelism > max_parallelism && (1..=MAX_PARALLELISM_LIMIT).contains(&max_parallelism) {
        errors.push(BuildError::ParallelismAboveMax { operator: label, parallelism, max_parallelism });
    }
}

fn check_forward(builder: &Builder, operator: &Operator, errors: &mut Vec<BuildError>) {
    let (parallelism, _) = width(builder, operator);
    for upstream in operator.inputs.iter().flat_map(|input| &input.upstreams) {
        let producer = &builder.operators[upstream.operator];
        let (upstream_parallelism, _) = width(builder, producer);
        if matches!(upstream.exchange, Exchange::Forward) && upstream_parallelism != parallelism {
            errors.push(BuildError::ForwardBetweenDifferentParallelism {
                operator: operator.label(),
                parallelism,
                upstream: producer.label(),
                upstream_parallelism,
            });
        }
    }
}
