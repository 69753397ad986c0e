//! The names of stored objects. They carry the numbers that recovery decides by, so that a damaged file can be named
//! and its number is never used again.

use alluvium_actors::ids::{CheckpointId, RunNumber};

pub(crate) const RUNS: &str = "runs/";
pub(crate) const RESERVATIONS: &str = "reservations/";
pub(crate) const MANIFESTS: &str = "manifests/";
pub(crate) const BLOBS: &str = "blobs/";

/// The name of a run record, which also tells below which id the run may hand out ids.
pub(crate) fn run(run: RunNumber, below: CheckpointId) -> String {
    format!("{RUNS}r{:010}-b{:020}", run.0, below.0)
}

/// The name of a reservation of ids.
pub(crate) fn reservation(below: CheckpointId) -> String {
    format!("{RESERVATIONS}b{:020}", below.0)
}

/// The name of a manifest.
pub(crate) fn manifest(run: RunNumber, checkpoint: CheckpointId) -> String {
    format!("{MANIFESTS}r{:010}-c{:020}", run.0, checkpoint.0)
}

/// The digits after `letter`, and what follows them.
fn numbered(text: &str, letter: char) -> Option<(u64, &str)> {
    let text = text.strip_prefix(letter)?;
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The numbers in the name of a run record. `None` if it is not exactly such a name.
pub(crate) fn parse_run(name: &str) -> Option<(RunNumber, CheckpointId)> {
    let (number, rest) = numbered(name.strip_prefix(RUNS)?, 'r')?;
    let (below, _) = numbered(rest.strip_prefix('-')?, 'b')?;
    let parsed = (RunNumber(number), CheckpointId(below));
    (run(parsed.0, parsed.1) == name).then_some(parsed)
}

/// The number in the name of a reservation. `None` if it is not exactly such a name.
pub(crate) fn parse_reservation(name: &str) -> Option<CheckpointId> {
    let (below, _) = numbered(name.strip_prefix(RESERVATIONS)?, 'b')?;
    (reservation(CheckpointId(below)) == name).then_some(CheckpointId(below))
}

/// The numbers in the name of a manifest. `None` if it is not exactly such a name.
pub(crate) fn parse_manifest(name: &str) -> Option<(RunNumber, CheckpointId)> {
    let (number, rest) = numbered(name.strip_prefix(MANIFESTS)?, 'r')?;
    let (checkpoint, _) = numbered(rest.strip_prefix('-')?, 'c')?;
    let parsed = (RunNumber(number), CheckpointId(checkpoint));
    (manifest(parsed.0, parsed.1) == name).then_some(parsed)
}

/// The checkpoint whose published manifest has this name in a store. `None` for every other file.
pub(crate) fn complete_checkpoint(name: &str) -> Option<CheckpointId> {
    published_checkpoint(name).map(|(_, checkpoint)| checkpoint)
}

/// The same, with the run that published it.
pub(crate) fn published_checkpoint(name: &str) -> Option<(RunNumber, CheckpointId)> {
    parse_manifest(name)
}

/// The run that wrote a blob, from its name. `None` for files that are not blobs of a store.
pub(crate) fn run_of_blob(name: &str) -> Option<RunNumber> {
    let (number, rest) = numbered(name.strip_prefix(BLOBS)?, 'r')?;
    rest.starts_with("-c").then_some(RunNumber(number))
}

/// The checkpoint that a blob was written for, and by whom for what, from its name. `None` for files that are not blobs of a store.
pub(crate) fn checkpoint_of_blob(name: &str) -> Option<(CheckpointId, &str)> {
    let (_, rest) = numbered(name.strip_prefix(BLOBS)?, 'r')?;
    let (checkpoint, writer) = numbered(rest.strip_prefix('-')?, 'c')?;
    Some((CheckpointId(checkpoint), writer))
}

#[cfg(test)]
mod tests {
    use alluvium_actors::ids::OperatorUid;
    use alluvium_actors::ports::store::blob_name;

    use super::*;
    use crate::storage::check_name;

    #[test]
    fn names_are_read_back_as_they_were_written_and_nothing_else_is_taken_for_one() {
        let (number, id) = (RunNumber(12), CheckpointId(u64::MAX));
        assert_eq!(parse_run(&run(number, id)), Some((number, id)));
        assert_eq!(parse_manifest(&manifest(number, id)), Some((number, id)));
        assert_eq!(parse_reservation(&reservation(id)), Some(id));
        let blob = format!("{BLOBS}{}", blob_name(number, id, &OperatorUid::new("a/b"), 3, "keyed"));
        assert_eq!(run_of_blob(&blob), Some(number));
        assert_eq!(checkpoint_of_blob(&blob), Some((id, "-s3-a%2Fb-keyed")));
        for name in [&run(number, id), &manifest(number, id), &reservation(id), &blob] {
            check_name(name).unwrap();
        }
        for name in ["manifests/r1-c2", "manifests/r0000000001-c00000000000000000002x", "manifests/notes.txt", "", "x"]
        {
            assert_eq!(parse_manifest(name), None, "{name}");
            assert_eq!(parse_run(name), None, "{name}");
            assert_eq!(parse_reservation(name), None, "{name}");
            assert_eq!(run_of_blob(name), None, "{name}");
            assert_eq!(checkpoint_of_blob(name), None, "{name}");
        }
    }
}
