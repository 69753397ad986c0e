//! The story of a checkpoint that is under way: who has not acknowledged, and what is in the way.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{CheckpointId, Moment, SubtaskId};
use crate::protocol::coordinator::{CheckpointStatistics, CheckpointStatus};

use super::words::length;
use super::{Doing, Link, LinkKind, Names, Observe, Observed, Owing, Stage, Story, behind};

/// How many of those that have not acknowledged are asked: an explanation must not take long itself.
const ASKED: usize = 256;

/// A call that has not lasted so long explains nothing.
const WORTH_A_WORD: Duration = Duration::from_millis(1);

/// The story of a checkpoint that is neither complete nor aborted.
#[must_use]
pub fn under_way(checkpoint: &CheckpointStatistics, now: Moment, names: &dyn Names, observe: &dyn Observe) -> Story {
    let so_far = length(now.since(checkpoint.triggered));
    let outcome = format!("checkpoint {} has been under way for {so_far}", checkpoint.checkpoint);
    let (reason, links) = obstacle(checkpoint, now, names, observe);
    Story { checkpoint: checkpoint.checkpoint, outcome, reason, links }
}

/// What is, or was at its end, in the way of a checkpoint.
pub(super) fn obstacle(
    checkpoint: &CheckpointStatistics,
    now: Moment,
    names: &dyn Names,
    observe: &dyn Observe,
) -> (String, Vec<Link>) {
    let missing = checkpoint.missing.len();
    if missing == 0 {
        let Some(last) = checkpoint.latest_acknowledgement else {
            let reason = match checkpoint.status {
                CheckpointStatus::InProgress => "the enumerators of the sources have not given their state",
                _ => "no subtask had been told",
            };
            return (reason.to_owned(), Vec::new());
        };
        let lasts = now.since(last);
        let reason = format!("all have acknowledged, and its manifest has been in the making for {}", length(lasts));
        return (reason, vec![Link { kind: LinkKind::Manifest, lasts }]);
    }
    let asked = Asked { checkpoint: checkpoint.checkpoint, triggered: checkpoint.triggered, now, names, observe };
    // What stands longest is in the way of the others; of equals the first.
    let mut found: Option<Cause> = None;
    for subtask in checkpoint.missing.iter().take(ASKED) {
        let cause = asked.cause(*subtask);
        if found.as_ref().is_none_or(|found| cause.stands > found.stands) {
            found = Some(cause);
        }
    }
    let Cause { words, links, .. } = found.expect("one is missing at least");
    let have = if missing == 1 { "has" } else { "have" };
    let reason = format!("{missing} of {} subtasks {have} not acknowledged; {words}", checkpoint.subtasks);
    (reason, links)
}

/// Why one subtask has not acknowledged.
struct Cause {
    words: String,
    /// From the cause to the subtask.
    links: Vec<Link>,
    /// How long whoever is the cause has been in what it is doing.
    stands: Duration,
}

struct Asked<'a> {
    checkpoint: CheckpointId,
    triggered: Moment,
    now: Moment,
    names: &'a dyn Names,
    observe: &'a dyn Observe,
}

impl Asked<'_> {
    /// Goes from a subtask to those that it waits for, as far as there is one.
    fn cause(&self, subtask: SubtaskId) -> Cause {
        let mut seen = BTreeSet::from([subtask]);
        let mut links = Vec::new();
        let mut current = subtask;
        loop {
            let Some(observed) = self.observe.observe(current, self.checkpoint, self.now) else {
                let words = format!("`{}` is not there: it starts, or has ended", self.names.subtask(current));
                return self.caused(words, (LinkKind::Absent { subtask: current }, Duration::ZERO), links);
            };
            let unsent = observed.owing.iter().find(|owing| !owing.sent && !seen.contains(&owing.producer));
            match (observed.stage, unsent) {
                (Stage::Waiting, Some(owing)) => {
                    links.push(self.channel(current, owing));
                    seen.insert(owing.producer);
                    current = owing.producer;
                }
                (Stage::Collecting { since }, Some(owing)) => {
                    links.push(Link { kind: collecting(current, owing), lasts: self.now.since(since) });
                    seen.insert(owing.producer);
                    current = owing.producer;
                }
                _ => return self.standing(current, &observed, links),
            }
        }
    }

    /// The cause lies with this subtask: everything that it waits for is there.
    fn standing(&self, subtask: SubtaskId, observed: &Observed, links: Vec<Link>) -> Cause {
        let name = self.names.subtask(subtask);
        let (doing, stands) = self.doing(subtask, observed.doing, &mut BTreeSet::from([subtask]));
        let so_far = |since: Moment| self.now.since(since);
        let (words, kind, lasts) = match observed.stage {
            Stage::Acknowledged { at } => {
                let ago = so_far(at);
                let words = format!("`{name}` acknowledged {} ago, and that has not arrived", length(ago));
                return self.caused(words, (LinkKind::Acknowledgement { subtask }, ago), links);
            }
            Stage::Asynchronous { since } => {
                let lasts = so_far(since);
                let words = format!("the snapshot of `{name}` has been in writing for {}", length(lasts));
                (words, LinkKind::Asynchronous { subtask, bytes: None }, lasts)
            }
            Stage::Synchronous { since } => {
                let lasts = so_far(since);
                let words = format!("`{name}` has been taking its snapshot for {}", length(lasts));
                (words, LinkKind::Synchronous { subtask }, lasts)
            }
            Stage::Collecting { since } => {
                let lasts = so_far(since);
                let collects = format!("`{name}` has collected what its barrier overtook for {}", length(lasts));
                match observed.owing.iter().max_by_key(|owing| owing.batches) {
                    Some(owing) => {
                        let (channel, producer) = (owing.channel, self.names.subtask(owing.producer));
                        let marker = format!("the marker of channel {channel} (from `{producer}`)");
                        let words = format!("{collects}, up to {marker}, {}", behind(owing.batches));
                        (words, collecting(subtask, owing), lasts)
                    }
                    None => (collects, LinkKind::Asynchronous { subtask, bytes: None }, lasts),
                }
            }
            Stage::Waiting => {
                let lasts = so_far(self.triggered);
                // The last one that comes decides, and that is behind the most.
                match observed.owing.iter().max_by_key(|owing| (owing.sent, owing.batches)) {
                    Some(owing) => {
                        let words = format!(
                            "`{name}` has waited {} for channel {} (from `{}`), {}",
                            length(lasts),
                            owing.channel,
                            self.names.subtask(owing.producer),
                            behind(owing.batches)
                        );
                        (words, self.channel(subtask, owing).kind, lasts)
                    }
                    None => {
                        let words = format!("`{name}` has not taken up the trigger for {}", length(lasts));
                        (words, LinkKind::Trigger { subtask }, lasts)
                    }
                }
            }
        };
        let words = if doing.is_empty() { words } else { format!("{words}; {doing}") };
        let cause = self.caused(words, (kind, lasts), links);
        Cause { stands, ..cause }
    }

    fn caused(&self, words: String, last: (LinkKind, Duration), mut links: Vec<Link>) -> Cause {
        links.push(Link { kind: last.0, lasts: last.1 });
        links.reverse();
        Cause { words, links, stands: Duration::ZERO }
    }

    fn channel(&self, subtask: SubtaskId, owing: &Owing) -> Link {
        let kind =
            LinkKind::Channel { subtask, channel: owing.channel, producer: owing.producer, batches: owing.batches };
        Link { kind, lasts: self.now.since(self.triggered) }
    }

    /// What a subtask is doing, and for how long it has been; through those who take nothing, to the one that is at work.
    fn doing(&self, subtask: SubtaskId, doing: Doing, seen: &mut BTreeSet<SubtaskId>) -> (String, Duration) {
        let lasts = |since: Moment| self.now.since(since);
        match doing {
            // Every subtask is in one call or another when it is looked at.
            Doing::Inside { since, .. } if lasts(since) < WORTH_A_WORD => (String::new(), Duration::ZERO),
            Doing::Inside { operator, call, since } => {
                let operator = self.names.operator(subtask, operator);
                let lasts = lasts(since);
                (format!("`{operator}` has been inside a user call ({call}) for {}", length(lasts)), lasts)
            }
            Doing::Refuses { operator, since } => {
                let operator = self.names.operator(subtask, operator);
                let lasts = lasts(since);
                (format!("`{operator}` has taken no record for {}: it is not ready for one", length(lasts)), lasts)
            }
            Doing::HeldUp { consumer, since } => {
                let lasts = lasts(since);
                let taken =
                    format!("`{}` has taken nothing from it for {}", self.names.subtask(consumer), length(lasts));
                if !seen.insert(consumer) {
                    return (taken, lasts);
                }
                let theirs = self.observe.observe(consumer, self.checkpoint, self.now).map(|observed| observed.doing);
                match theirs.map(|doing| self.doing(consumer, doing, seen)) {
                    Some((words, stands)) if !words.is_empty() => (format!("{taken}; {words}"), stands.max(lasts)),
                    _ => (taken, lasts),
                }
            }
            Doing::Nothing => (String::new(), Duration::ZERO),
        }
    }
}

fn collecting(subtask: SubtaskId, owing: &Owing) -> LinkKind {
    LinkKind::Collecting { subtask, channel: owing.channel, producer: owing.producer, batches: owing.batches }
}
