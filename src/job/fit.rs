//! Whether a checkpoint fits a graph: every state finds its operator, and no operator changed its width.

use alluvium_actors::plan::Plan;
use alluvium_actors::ports::store::Manifest;
use alluvium_actors::ports::task::Failure;

/// Compares the shapes in a manifest with those of a plan.
///
/// # Errors
/// Every mismatch at once, each with its mend. Unrecoverable: another attempt would find the same.
pub(super) fn check_fit(plan: &Plan, manifest: &Manifest) -> Result<(), Failure> {
    let mut problems = misfits(plan, manifest);
    for stored in &manifest.shapes {
        let Some(node) = plan.nodes.iter().find(|node| node.uids.contains(&stored.uid)) else { continue };
        if node.parallelism != stored.parallelism {
            problems.push(format!(
                "`{}` has parallelism {} and had {} in the checkpoint: start it with {}, other widths cannot be restored yet",
                stored.uid, node.parallelism, stored.parallelism, stored.parallelism
            ));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!("checkpoint {} does not fit the job: {}", manifest.checkpoint, problems.join("; "));
    Err(Failure::unrecoverable("restore", message))
}

/// What keeps a checkpoint from being restored at any parallelism, each with its mend.
pub(crate) fn misfits(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    for stored in &manifest.shapes {
        let Some(node) = plan.nodes.iter().find(|node| node.uids.contains(&stored.uid)) else {
            problems.push(format!(
                "the checkpoint holds state of `{}`, which the job does not have: give the operator its former uid back, or start afresh",
                stored.uid
            ));
            continue;
        };
        if node.max_parallelism != stored.max_parallelism {
            problems.push(format!(
                "`{}` has max parallelism {} and had {} in the checkpoint: it can never change, set it to {}",
                stored.uid, node.max_parallelism, stored.max_parallelism, stored.max_parallelism
            ));
        }
    }
    problems
}
