//! What may go wrong at an operation of the disk, and its text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use alluvium_actors::ports::files::FileOperation;

use super::rule::ParseDiskRuleError;

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFault {
    /// It is not carried out and gives an error.
    Error,
    /// It is carried out, and gives an error all the same.
    ErrorAfterwards,
    /// It is not carried out, because the disk is full.
    FullDisk,
    /// A sync fails: what it should have made durable is lost at the next crash, whatever is synced later.
    /// At any other operation the same as `Error`.
    FailedSync,
    /// The power goes before it is carried out. Everything fails until [`SimulatedDisk::crash`](super::SimulatedDisk::crash) is called.
    PowerCut,
    /// It is carried out and takes so much longer. In a simulation the answer comes later by that time, and the thread is busy until then.
    Slow(Duration),
    /// One bit of what is read is wrong, this time; the stored content is right.
    FlipOnRead,
    /// One bit of the stored content of the file flips before the operation, durably. A sync flips it when it is done: what reached the device is wrong.
    FlipAtRest,
}

/// Every operation, in the order in which rules list them.
pub(super) const OPERATIONS: [FileOperation; 12] = [
    FileOperation::Create,
    FileOperation::Open,
    FileOperation::Append,
    FileOperation::Sync,
    FileOperation::Read,
    FileOperation::Rename,
    FileOperation::SyncDirectory,
    FileOperation::List,
    FileOperation::Remove,
    FileOperation::CreateDirectories,
    FileOperation::Metadata,
    FileOperation::Lock,
];

/// The name of an operation in rules.
pub(super) fn operation_name(operation: FileOperation) -> &'static str {
    match operation {
        FileOperation::Create => "create",
        FileOperation::Open => "open",
        FileOperation::Append => "append",
        FileOperation::Sync => "sync",
        FileOperation::Read => "read",
        FileOperation::Rename => "rename",
        FileOperation::SyncDirectory => "sync-directory",
        FileOperation::List => "list",
        FileOperation::Remove => "remove",
        FileOperation::CreateDirectories => "create-directories",
        FileOperation::Metadata => "metadata",
        FileOperation::Lock => "lock",
    }
}

/// Whether an operation changes the disk or makes a change durable.
pub(super) fn is_effect(operation: FileOperation) -> bool {
    match operation {
        FileOperation::Create
        | FileOperation::Append
        | FileOperation::Sync
        | FileOperation::Rename
        | FileOperation::SyncDirectory
        | FileOperation::Remove
        | FileOperation::CreateDirectories => true,
        FileOperation::Open
        | FileOperation::Read
        | FileOperation::List
        | FileOperation::Metadata
        | FileOperation::Lock => false,
    }
}

impl DiskFault {
    /// Whether it can happen at this operation.
    #[must_use]
    pub fn applies_to(self, operation: FileOperation) -> bool {
        use FileOperation::{Append, Create, CreateDirectories, Lock, Open, Read, Rename, Sync, SyncDirectory};
        match self {
            DiskFault::Error | DiskFault::ErrorAfterwards | DiskFault::PowerCut | DiskFault::Slow(_) => true,
            DiskFault::FullDisk => matches!(operation, Create | Append | Sync | Rename | CreateDirectories | Lock),
            DiskFault::FailedSync => matches!(operation, Sync | SyncDirectory),
            DiskFault::FlipOnRead => matches!(operation, Read),
            DiskFault::FlipAtRest => matches!(operation, Open | Read | Sync),
        }
    }

    /// Its name, without the time of one that is slow.
    pub(super) fn name(self) -> &'static str {
        match self {
            DiskFault::Error => "error",
            DiskFault::ErrorAfterwards => "error-afterwards",
            DiskFault::FullDisk => "full-disk",
            DiskFault::FailedSync => "failed-sync",
            DiskFault::PowerCut => "power-cut",
            DiskFault::Slow(_) => "slow",
            DiskFault::FlipOnRead => "flip-on-read",
            DiskFault::FlipAtRest => "flip-at-rest",
        }
    }

    /// The operations at which it can happen, in words.
    pub(super) fn where_it_applies(self) -> String {
        let names = OPERATIONS.into_iter().filter(|operation| self.applies_to(*operation)).map(operation_name);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskFault::Slow(time) => write!(formatter, "slow:{}", DurationText(*time)),
            other => formatter.write_str(other.name()),
        }
    }
}

impl FromStr for DiskFault {
    type Err = ParseDiskRuleError;

    fn from_str(text: &str) -> Result<DiskFault, ParseDiskRuleError> {
        if let Some(time) = text.strip_prefix("slow:") {
            let time = duration(time).ok_or_else(|| {
                ParseDiskRuleError(format!(
                    "`{time}` is not a time: give a whole number and ns, us, ms or s, as in slow:50ms"
                ))
            })?;
            return Ok(DiskFault::Slow(time));
        }
        Ok(match text {
            "error" => DiskFault::Error,
            "error-afterwards" => DiskFault::ErrorAfterwards,
            "full-disk" => DiskFault::FullDisk,
            "failed-sync" => DiskFault::FailedSync,
            "power-cut" => DiskFault::PowerCut,
            "flip-on-read" => DiskFault::FlipOnRead,
            "flip-at-rest" => DiskFault::FlipAtRest,
            other => {
                return Err(ParseDiskRuleError(format!(
                    "`{other}` is no fault of a disk: give error, error-afterwards, full-disk, failed-sync, power-cut, slow:TIME, flip-on-read or \
                     flip-at-rest"
                )));
            }
        })
    }
}

/// A time in the largest unit that leaves a whole number.
struct DurationText(Duration);

/// Nanoseconds per unit, the largest first.
const UNITS: [(u128, &str); 4] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];

impl fmt::Display for DurationText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (size, unit) = UNITS.into_iter().find(|(size, _)| nanos.is_multiple_of(*size)).unwrap_or((1, "ns"));
        write!(formatter, "{}{unit}", nanos / size)
    }
}

fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let (size, _) = UNITS.into_iter().find(|(_, name)| *name == unit)?;
    let nanos = number.parse::<u64>().ok()?.checked_mul(u64::try_from(size).ok()?)?;
    Some(Duration::from_nanos(nanos))
}
