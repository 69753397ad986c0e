//! The story of a checkpoint that ended: its path, and the slowest link on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{Moment, SubtaskId};
use crate::protocol::coordinator::{CheckpointStatistics, FailureReason, LastMarker, SubtaskFigures};

use super::under_way::obstacle;
use super::words::{length, size};
use super::{Link, LinkKind, Names, Observe, Story, behind, was_inside};

/// A subtask refused the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// Which.
    pub subtask: SubtaskId,
    /// What it said.
    pub message: String,
}

/// The story of a completed checkpoint: what the subtask that acknowledged last had waited for.
#[must_use]
pub fn completed(checkpoint: &CheckpointStatistics, names: &dyn Names) -> Story {
    let ended = checkpoint.ended.unwrap_or(checkpoint.triggered);
    let outcome = format!("checkpoint {} took {}", checkpoint.checkpoint, length(ended.since(checkpoint.triggered)));
    let figures: BTreeMap<SubtaskId, &SubtaskFigures> =
        checkpoint.by_subtask.iter().map(|part| (part.subtask, &part.figures)).collect();
    let links = path(checkpoint, &figures, ended);
    // Of equal ones the earliest: what follows may be its consequence.
    let slowest = links.iter().rev().max_by_key(|link| link.lasts);
    let reason = slowest.map(|link| describe(link, &figures, names)).unwrap_or_default();
    Story { checkpoint: checkpoint.checkpoint, outcome, reason, links }
}

/// The story of one that failed, of which it is still seen what the subtasks are doing.
#[must_use]
pub fn failed(
    checkpoint: &CheckpointStatistics,
    reason: FailureReason,
    declined: Option<&Declined>,
    names: &dyn Names,
    observe: &dyn Observe,
) -> Story {
    let ended = checkpoint.ended.unwrap_or(checkpoint.triggered);
    let after = length(ended.since(checkpoint.triggered));
    let outcome = format!("checkpoint {} failed after {after} ({reason})", checkpoint.checkpoint);
    if let Some(Declined { subtask, message }) = declined {
        let reason = format!("`{}` said: {message}", names.subtask(*subtask));
        return Story { checkpoint: checkpoint.checkpoint, outcome, reason, links: Vec::new() };
    }
    let (reason, links) = obstacle(checkpoint, ended, names, observe);
    Story { checkpoint: checkpoint.checkpoint, outcome, reason, links }
}

/// The links of the last acknowledgement, from the trigger on, and what came behind it.
fn path(checkpoint: &CheckpointStatistics, figures: &BTreeMap<SubtaskId, &SubtaskFigures>, ended: Moment) -> Vec<Link> {
    let mut links = Vec::new();
    // From the end to the trigger.
    if let Some(last) = checkpoint.latest_acknowledgement {
        links.push(Link { kind: LinkKind::Manifest, lasts: ended.since(last) });
    }
    let acknowledged = checkpoint.by_subtask.iter().filter_map(|part| Some((part.acknowledged?, part)));
    let Some((at, last)) = acknowledged.max_by_key(|(at, part)| (*at, part.subtask)) else { return links };
    let subtask = last.subtask;
    let sent = checkpoint.triggered + last.figures.acknowledged_after();
    links.push(Link { kind: LinkKind::Acknowledgement { subtask }, lasts: at.since(sent) });
    let bytes = Some(last.figures.written_bytes);
    let mut next = Some(subtask);
    let mut writing = last.figures.asynchronous;
    let mut collecting = None;
    if let (Some(overtook), Some(marker)) = (last.figures.overtook, last.figures.last_marker) {
        // Where its producer sent it after the cut, all but the way of the marker was the producer's time.
        let sent = figures.get(&marker.producer).map_or(Duration::ZERO, |producer| producer.sent_after());
        let late = sent.checked_sub(last.figures.sent_after()).filter(|late| *late <= overtook.collecting);
        writing = writing.saturating_sub(overtook.collecting);
        let LastMarker { channel, producer, batches } = marker;
        let kind = LinkKind::Collecting { subtask, channel, producer, batches };
        collecting = Some(Link { kind, lasts: overtook.collecting.saturating_sub(late.unwrap_or_default()) });
        next = late.map_or(next, |_| Some(producer));
    }
    links.push(Link { kind: LinkKind::Asynchronous { subtask, bytes }, lasts: writing });
    links.extend(collecting);
    let mut seen = BTreeSet::new();
    while let Some(subtask) = next.take() {
        // Plans have no loops yet; figures of different attempts must not make one.
        let (Some(own), true) = (figures.get(&subtask), seen.insert(subtask)) else { break };
        links.push(Link { kind: LinkKind::Synchronous { subtask }, lasts: own.synchronous });
        let (kind, from) = match (own.overtook, own.last_marker) {
            (Some(overtook), _) => {
                (LinkKind::Overtaking { subtask, producer: overtook.heard_from }, overtook.heard_from)
            }
            (None, Some(LastMarker { channel, producer, batches })) => {
                (LinkKind::Channel { subtask, channel, producer, batches }, Some(producer))
            }
            (None, None) => (LinkKind::Trigger { subtask }, None),
        };
        let sent = from.and_then(|from| figures.get(&from)).map_or(Duration::ZERO, |producer| producer.sent_after());
        links.push(Link { kind, lasts: own.cut_after().saturating_sub(sent) });
        next = from;
    }
    links.reverse();
    links
}

/// A link in words.
fn describe(link: &Link, figures: &BTreeMap<SubtaskId, &SubtaskFigures>, names: &dyn Names) -> String {
    let (name, lasts) = (|subtask| names.subtask(subtask), length(link.lasts));
    match link.kind {
        LinkKind::Trigger { subtask } => {
            let because = why(link, subtask, figures, names);
            format!("`{}` took up the trigger after {lasts}{because}", name(subtask))
        }
        LinkKind::Channel { subtask, channel, producer, batches: in_front } => format!(
            "waited {lasts} for channel {channel} of `{}` (from `{}`), {}{}",
            name(subtask),
            name(producer),
            behind(in_front),
            why(link, subtask, figures, names)
        ),
        LinkKind::Overtaking { subtask, producer } => {
            let because = why(link, subtask, figures, names);
            // From when on it might overtake, its barrier says: what passed between the notice and the cut.
            let waited =
                figures.get(&subtask).map_or(Duration::ZERO, |own| own.cut_after().saturating_sub(own.notice_delay));
            if waited * 2 >= link.lasts {
                return format!(
                    "`{}` waited {} for its markers before its barrier overtook{because}",
                    name(subtask),
                    length(waited)
                );
            }
            let from = producer.map_or_else(String::new, |producer| format!(" of `{}`", name(producer)));
            format!("`{}` took up the barrier{from} after {lasts}{because}", name(subtask))
        }
        LinkKind::Collecting { subtask, channel, producer, batches: in_front } => {
            let records = figures.get(&subtask).map_or(0, |own| own.in_flight_records);
            let in_flight = figures.get(&subtask).map_or(0, |own| own.in_flight_bytes);
            format!(
                "collecting what the barrier overtook in front of `{}` took {lasts} ({records} records, {}); the last marker came by channel \
                 {channel} (from `{}`), {}{}",
                name(subtask),
                size(in_flight),
                name(producer),
                behind(in_front),
                why(link, subtask, figures, names)
            )
        }
        LinkKind::Synchronous { subtask } => {
            format!("the snapshot of `{}` held it up for {lasts}{}", name(subtask), why(link, subtask, figures, names))
        }
        LinkKind::Asynchronous { subtask, bytes } => {
            let bytes = bytes.map_or_else(String::new, |bytes| format!(" ({})", size(bytes)));
            format!("writing the snapshot of `{}`{bytes} took {lasts}", name(subtask))
        }
        LinkKind::Acknowledgement { subtask } => {
            format!("the acknowledgement of `{}` was on its way for {lasts}", name(subtask))
        }
        LinkKind::Manifest => format!("writing the manifest took {lasts}"),
        LinkKind::Absent { subtask } => format!("`{}` was not there", name(subtask)),
    }
}

/// What kept a subtask from its barrier, if that is known: user code of its own, or whoever took nothing from it, and that one's user code.
fn why(link: &Link, subtask: SubtaskId, figures: &BTreeMap<SubtaskId, &SubtaskFigures>, names: &dyn Names) -> String {
    let explains = |time: Duration| time * 2 >= link.lasts;
    let Some(own) = figures.get(&subtask) else { return String::new() };
    if let Some(busy) = own.busy.filter(|busy| explains(busy.inside)) {
        return format!("; {}", was_inside(names, subtask, &busy));
    }
    let Some(held_up) = own.held_up.filter(|held_up| explains(held_up.lasts)) else { return String::new() };
    let consumer = held_up.consumer;
    let took_nothing = format!("; `{}` took nothing from it for {}", names.subtask(consumer), length(held_up.lasts));
    let busy = figures.get(&consumer).and_then(|theirs| theirs.busy).filter(|busy| explains(busy.inside));
    match busy {
        Some(busy) => format!("{took_nothing}; {}", was_inside(names, consumer, &busy)),
        None => took_nothing,
    }
}
