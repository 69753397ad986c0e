//! What may go wrong at an operation of a simulated disk, and its text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use alluvium_actors::ports::files::FileOperation;

use super::disk_rule::ParseDiskRuleError;
use super::text::{DurationText, duration};

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
    /// A sync fails: what it should have made durable, content or the names in a directory, is lost at the next crash, whatever is synced later. In a simulation the machine goes with the
    /// process whose sync of a directory failed: a file system with a journal takes nothing more then until it is mounted again.
    /// At any other operation the same as `Error`.
    FailedSync,
    /// The power goes before it is carried out. Everything fails until [`SimulatedDisk::crash`](crate::testing::disk::SimulatedDisk::crash) is called.
    PowerCut,
    /// It is carried out and takes so much longer. In a simulation the answer comes later by that time, and the thread is busy until then.
    Slow(Duration),
    /// One bit of what is read is wrong, this time; the stored content is right.
    FlipOnRead,
    /// One bit of the stored content of the file flips before the operation, durably. A sync flips it when it is done: what reached the device is wrong.
    FlipAtRest,
}

/// Every operation, in the order in which rules list them.
pub(crate) const OPERATIONS: [FileOperation; 12] = [
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
pub(crate) fn operation_name(operation: FileOperation) -> &'static str {
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
pub(crate) fn is_effect(operation: FileOperation) -> bool {
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
    /// Whether a job may fail by it that is right: an error may come to it, and it has nothing to go on with.
    pub(crate) fn may_fail_a_job(self) -> bool {
        match self {
            DiskFault::Error
            | DiskFault::ErrorAfterwards
            | DiskFault::FullDisk
            | DiskFault::FailedSync
            | DiskFault::FlipOnRead => true,
            // Damage stays: a start that is refused for it is refused for ever.
            DiskFault::FlipAtRest | DiskFault::PowerCut | DiskFault::Slow(_) => false,
        }
    }

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
    pub(crate) fn name(self) -> &'static str {
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
    pub(crate) fn where_it_applies(self) -> String {
        let names = OPERATIONS.into_iter().filter(|operation| self.applies_to(*operation)).map(operation_name);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskFault::Slow(time) => write!(formatter, "slow({})", DurationText(*time)),
            other => formatter.write_str(other.name()),
        }
    }
}

impl FromStr for DiskFault {
    type Err = ParseDiskRuleError;

    fn from_str(text: &str) -> Result<DiskFault, ParseDiskRuleError> {
        if let Some(time) = text.strip_prefix("slow(").and_then(|rest| rest.strip_suffix(')')) {
            let time = duration(time).ok_or_else(|| {
                ParseDiskRuleError(format!(
                    "`{time}` is not a time: give a whole number and ns, us, ms or s, as in slow(50ms)"
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
                    "`{other}` is no fault of a disk: give error, error-afterwards, full-disk, failed-sync, power-cut, slow(TIME), flip-on-read or \
                     flip-at-rest"
                )));
            }
        })
    }
}
