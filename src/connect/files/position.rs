//! Where a reader is in a file, and the check that the file is still the one that was read.

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::error::{OperatorError, OperatorResult};

/// How far a file was read: behind the last record that was emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes of the uncompressed text.
    pub offset: u64,
    /// Records.
    pub records: u64,
    /// CRC-32C of the text up to here.
    pub checksum: u32,
}

impl Position {
    /// The position behind `text`, which followed this one and held `records` records.
    pub fn behind(self, text: &[u8], records: u64) -> Position {
        Position {
            offset: self.offset + text.len() as u64,
            records: self.records + records,
            checksum: crc32c::crc32c_append(self.checksum, text),
        }
    }
}

/// Where a text was left: its position, and the number of the line on which the next byte stands, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub position: Position,
    pub line: u64,
}

/// Reads `text` from its beginning up to where `stored` says that it was read, or over `head` bytes when it was not read at all. What the stored
/// position has read must still be there.
///
/// # Errors
/// When the text is another one, or cannot be read.
pub(super) fn find(text: &mut Text, head: u64, stored: Position) -> OperatorResult<Place> {
    let target = if stored.offset == 0 { head } else { stored.offset };
    let mut found = Place { position: Position { records: stored.records, ..Position::default() }, line: 1 };
    let mut buffer = vec![0; usize::try_from(target).unwrap_or(usize::MAX).min(64 * 1024)];
    let mut last = b'\n';
    while found.position.offset < target {
        let wanted = usize::try_from(target - found.position.offset).unwrap_or(usize::MAX).min(buffer.len());
        let read = text.fill(&mut buffer[..wanted]).map_err(|error| Text::failure(text.path(), &error))?;
        let part = &buffer[..read];
        found.position = found.position.behind(part, 0);
        found.line += newlines(part);
        last = part.last().copied().unwrap_or(last);
        if read < wanted {
            break;
        }
    }
    if stored.offset > 0 && (found.position.offset, found.position.checksum) != (stored.offset, stored.checksum) {
        let reason = if found.position.offset < stored.offset {
            format!("it has only {} bytes of text", found.position.offset)
        } else {
            "they are other bytes now".to_owned()
        };
        return Err(OperatorError::unrecoverable(format!(
            "{} is not the input that the checkpoint read {} bytes of: {reason}; give the job its former input, or begin anew",
            text.path().display(),
            stored.offset
        )));
    }
    if stored.records > 0 && last != b'\n' && last != b'\r' {
        check_nothing_was_appended(text, found)?;
    }
    Ok(found)
}

/// A file that was read to an end without a newline must still end there: what was appended belongs to a line that was emitted.
fn check_nothing_was_appended(text: &mut Text, place: Place) -> OperatorResult {
    let more = text.fill(&mut [0]).map_err(|error| Text::failure(text.path(), &error))?;
    if more == 0 {
        return Ok(());
    }
    Err(OperatorError::unrecoverable(format!(
        "{} was read to its end, which was in the middle of line {}, and grew since: only whole lines may be appended",
        text.path().display(),
        place.line
    )))
}

pub(super) fn newlines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}
