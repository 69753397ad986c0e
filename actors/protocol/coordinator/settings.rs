//! What the coordinator is told about when and how often to take a checkpoint.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::ids::NodeId;

/// The settings of a [`Coordinator`](super::Coordinator). They are checked where a job is built; the machine takes
/// them as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The time from one periodic trigger to the next. It is a schedule, not a gap: after a trigger that had to wait,
    /// the next one comes at the moment the schedule says. None switches periodic checkpoints off.
    pub interval: Option<Duration>,
    /// The time from the trigger after which a checkpoint is aborted as expired. It ends when the last acknowledgement
    /// has come: a manifest that is being written may exist, so its write is waited for.
    pub timeout: Duration,
    /// The time from the completion of a checkpoint to the next periodic trigger, at least. If it is longer than the
    /// interval it takes the interval's place. Requests of a user do not wait for it.
    pub minimum_pause: Duration,
    /// The time from the trigger of a periodic or manual checkpoint after which its barriers overtake what waits in front of them; zero for at once. None
    /// aligns always. Needs one checkpoint at a time.
    pub overtake_after: Option<Duration>,
    /// The most checkpoints that may be under way at one time.
    pub maximum_concurrent: NonZeroUsize,
    /// How many completed checkpoints are kept; older ones are deleted.
    pub retained: NonZeroUsize,
    /// The most requests of users that may wait for their turn.
    pub maximum_queued_requests: NonZeroUsize,
    /// How many periodic and manual checkpoints may fail in a row; one more fails the attempt. None tolerates all. Final
    /// and stopping checkpoints do not count: the final one has tries of its own, with a growing wait between them, and a
    /// stop whose checkpoint fails is answered with the reason while the job goes on.
    pub tolerable_failures: Option<u32>,
    /// How often the final checkpoint is tried before the job fails because it cannot be taken.
    pub final_attempts: NonZeroU32,
    /// The wait after the first final checkpoint that was aborted. It doubles with each further one.
    pub final_delay: Duration,
    /// The longest wait between two tries of the final checkpoint.
    pub final_delay_maximum: Duration,
    /// How many checkpoint ids one reservation takes.
    pub ids_per_block: NonZeroU64,
    /// After this time from its trigger it is told that a checkpoint takes long, and why. None never tells.
    pub slow_after: Option<Duration>,
    /// Of how many checkpoints the store keeps a record beyond the process.
    pub records: usize,
    /// Of how many checkpoints the statistics are kept, those under way included.
    pub history: usize,
    /// The nodes with an operator that keeps a union list: no checkpoint may hold some of their subtasks as finished and others as not. The plan says which they are.
    pub union_nodes: BTreeSet<NodeId>,
}

impl Default for Settings {
    /// No periodic checkpoints; a timeout of 10 minutes, no pause, one at a time, one retained, 1,000 waiting requests; all failures
    /// are tolerated, but the final checkpoint is tried 10 times, after 100 ms first and 10 s at most; ids in blocks of 1,024; a history
    /// of 10.
    fn default() -> Settings {
        Settings {
            interval: None,
            timeout: Duration::from_secs(600),
            minimum_pause: Duration::ZERO,
            overtake_after: None,
            maximum_concurrent: NonZeroUsize::MIN,
            retained: NonZeroUsize::MIN,
            maximum_queued_requests: NonZeroUsize::new(1_000).expect("1,000 is not zero"),
            tolerable_failures: None,
            final_attempts: NonZeroU32::new(10).expect("10 is not zero"),
            final_delay: Duration::from_millis(100),
            final_delay_maximum: Duration::from_secs(10),
            ids_per_block: NonZeroU64::new(1_024).expect("1,024 is not zero"),
            slow_after: None,
            records: 0,
            history: 10,
            union_nodes: BTreeSet::new(),
        }
    }
}
