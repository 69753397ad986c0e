//! One subtask with its edges, its chain and the host that records.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use alluvium_actors::drive::control::Control;
use alluvium_actors::drive::edge::{Barrier, EdgeReceiver, EdgeSender, Frame, edge};
use alluvium_actors::drive::gate::Gate;
use alluvium_actors::drive::operator::OperatorDriver;
use alluvium_actors::drive::outputs::{OutputChannel, Outputs};
use alluvium_actors::drive::overview::SubtaskWatch;
use alluvium_actors::drive::source::SourceDriver;
use alluvium_actors::drive::subtask::Restored;
use alluvium_actors::ids::{Attempt, CheckpointId, Moment, SubtaskId};
use alluvium_actors::ports::fence::{Fence, FenceSource};
use alluvium_actors::ports::host::{Address, Driver, Host, Step};
use alluvium_actors::ports::store::CheckpointKind;
use alluvium_actors::ports::task::Severity;
use alluvium_actors::protocol::align::{Alignment, CheckpointMode};
use alluvium_actors::protocol::coordinator::SubtaskFigures;

use crate::chain::{Chain, Number, Script};
use crate::host::Recorder;

pub(crate) const ATTEMPT: Attempt = Attempt(1);

pub(crate) struct Rig {
    driver: Box<dyn Driver>,
    host: Rc<Recorder>,
    pub(crate) chain: Script,
    fences: FenceSource,
    inputs: Vec<EdgeSender>,
    output: EdgeReceiver,
    pub(crate) watch: Arc<SubtaskWatch>,
}

/// Who sends into a channel.
pub(crate) fn producer(channel: u32) -> SubtaskId {
    SubtaskId::new(0, channel)
}

pub(crate) fn barrier(checkpoint: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(checkpoint),
        kind: CheckpointKind::Periodic,
        triggered: Moment(0),
        overtakes: None,
    }
}

/// One that overtakes from this moment on.
pub(crate) fn overtaking(checkpoint: u64, from: u64) -> Barrier {
    Barrier { overtakes: Some(Moment(from)), ..barrier(checkpoint) }
}

/// An operator with so many channels, started.
pub(crate) fn operator(mode: CheckpointMode, channels: u32) -> Rig {
    let mut rig = restored_operator(mode, channels, Restored::default());
    rig.tell(Control::Start);
    rig
}

/// An operator that waits for its start.
pub(crate) fn restored_operator(mode: CheckpointMode, channels: u32, restored: Restored) -> Rig {
    let edges: Vec<_> = (0..channels).map(|_| edge(8)).collect();
    let (inputs, receivers): (Vec<_>, Vec<_>) = edges.into_iter().unzip();
    let probes = receivers.iter().enumerate().map(|(channel, edge)| (producer(channel as u32), edge.probe()));
    let watch = Arc::new(SubtaskWatch::new(Arc::default(), probes.collect()));
    let gate = Gate::new(receivers.into_iter().map(|receiver| (0, receiver)).collect());
    let watched = Arc::clone(&watch);
    let rig = Rig::around(inputs, |host, fence, chain, outputs| {
        let alignment = Alignment::new(mode, channels);
        let (id, name) = (SubtaskId::new(1, 0), "counts[0]".to_owned());
        let driver = OperatorDriver::new(host, id, ATTEMPT, fence, name, chain, gate, outputs, alignment, restored);
        Box::new(driver.watched(watched))
    });
    Rig { watch, ..rig }
}

/// A source that waits for its start.
pub(crate) fn source(restored: Restored) -> Rig {
    Rig::around(Vec::new(), |host, fence, chain, outputs| {
        let alignment = Alignment::new(CheckpointMode::ExactlyOnce, 0);
        let (id, name) = (SubtaskId::new(0, 0), "numbers[0]".to_owned());
        Box::new(SourceDriver::new(host, id, ATTEMPT, fence, name, chain, outputs, alignment, restored))
    })
}

impl Rig {
    fn around(
        inputs: Vec<EdgeSender>,
        build: impl FnOnce(Rc<dyn Host>, Fence, Box<Chain>, Outputs) -> Box<dyn Driver>,
    ) -> Rig {
        let (sender, output) = edge(8);
        let consumer = Address::Subtask(SubtaskId::new(2, 0), ATTEMPT);
        let outputs = Outputs::new(vec![vec![OutputChannel { edge: sender, consumer, consumer_channel: 0 }]]);
        let (host, chain, fences) = (Rc::new(Recorder::default()), Script::default(), FenceSource::new());
        let driver = build(host.clone(), fences.advance(), Box::new(Chain(chain.clone())), outputs);
        let mut rig = Rig { driver, host, chain, fences, inputs, output, watch: Arc::default() };
        rig.run();
        rig.sent();
        rig
    }

    /// Steps until there is nothing more to do. True when the subtask has ended.
    pub(crate) fn run(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1_000 {
            match self.driver.step(&mut context) {
                Step::Again => {}
                Step::Wait => return false,
                Step::Finished => return true,
            }
        }
        panic!("a thousand steps, and still something to do");
    }

    /// Puts a message into the mailbox and runs.
    pub(crate) fn tell(&mut self, message: Control) -> bool {
        self.driver.receive(message);
        self.run()
    }

    /// The region of the subtask ends: whatever it does outside is refused from now on.
    pub(crate) fn end_of_the_fence(&self) {
        let _ = self.fences.advance();
    }

    pub(crate) fn receive(&mut self, message: Control) {
        self.driver.receive(message);
    }

    /// Puts frames into a channel and runs.
    pub(crate) fn send(&mut self, channel: usize, frames: &str) -> bool {
        self.put(channel, frames);
        self.run()
    }

    /// Puts frames into a channel, and lets nobody look: `5` is a record, `B1` a barrier, `U1` one that overtakes, `X1` a cancel marker, `end` the end of data,
    /// `close` that of the channel.
    pub(crate) fn put(&self, channel: usize, frames: &str) {
        for word in frames.split_whitespace() {
            let id = |digits: &str| digits.parse::<u64>().unwrap();
            let frame = match word {
                "end" => Frame::EndOfData,
                "close" => Frame::EndOfChannel,
                word if word.starts_with('B') => Frame::Barrier(barrier(id(&word[1..]))),
                word if word.starts_with('U') => Frame::Barrier(overtaking(id(&word[1..]), 0)),
                word if word.starts_with('X') => Frame::Cancel(CheckpointId(id(&word[1..]))),
                word => Frame::Batch(Box::new(Number(id(word)))),
            };
            self.inputs[channel].force_send(frame);
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.host.pass(time);
    }

    /// What the acknowledgements since the last call carried.
    pub(crate) fn figures(&self) -> Vec<SubtaskFigures> {
        let sent = self.host.take_sent().into_iter();
        sent.filter_map(|(_, message)| match message {
            Control::Acknowledge { figures, .. } => Some(figures),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn put_barrier(&mut self, channel: usize, barrier: Barrier) {
        self.inputs[channel].force_send(Frame::Barrier(barrier));
    }

    /// Lets the host's clock show this moment, in nanoseconds.
    pub(crate) fn pass_to(&self, moment: u64) {
        self.host.pass_to(Moment(moment));
    }

    pub(crate) fn trigger(&mut self, checkpoint: u64) -> bool {
        self.tell(Control::Trigger(barrier(checkpoint)))
    }

    pub(crate) fn complete(&mut self, checkpoint: u64, kind: CheckpointKind) -> bool {
        self.tell(Control::Completed { checkpoint: CheckpointId(checkpoint), kind })
    }

    pub(crate) fn abort(&mut self, checkpoint: u64) -> bool {
        self.tell(Control::Aborted { checkpoint: CheckpointId(checkpoint), last_completed: None })
    }

    /// How bad the failures are that the supervisor was told of since the last call.
    pub(crate) fn severities(&self) -> Vec<Severity> {
        let sent = self.host.take_sent().into_iter();
        sent.filter_map(|(_, message)| match message {
            Control::Failed { failure, .. } => Some(failure.severity),
            _ => None,
        })
        .collect()
    }

    /// What was sent to coordinator and supervisor since the last call.
    pub(crate) fn sent(&self) -> Vec<String> {
        let sent = self.host.take_sent().into_iter();
        sent.filter_map(|(_, message)| match message {
            Control::Acknowledge { checkpoint, snapshot, .. } => {
                let finished = if snapshot.finished { ", finished" } else { "" };
                Some(format!("acknowledge {checkpoint}{finished}"))
            }
            Control::Decline { checkpoint, reason, failure, .. } => {
                Some(format!("decline {checkpoint} {reason:?}: {}", failure.message))
            }
            Control::Failed { failure, .. } => Some(format!("failed {failure}")),
            Control::Ended { .. } => Some("ended".to_owned()),
            Control::EndOfData { .. } => Some("end of data".to_owned()),
            Control::Reader { event, .. } => Some(format!("{event:?}")),
            Control::BarrierAnnounced { .. } | Control::Restored { .. } => None,
            other => Some(format!("{other:?}")),
        })
        .collect()
    }

    /// What left by the output since the last call.
    pub(crate) fn out(&self) -> String {
        let mut context = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        while let Poll::Ready(frame) = self.output.poll_frame(&mut context) {
            let last = matches!(frame, Frame::EndOfChannel);
            out.push(match frame {
                Frame::Batch(_) => "record".to_owned(),
                Frame::Barrier(barrier) => format!("B{}", barrier.checkpoint),
                Frame::Cancel(checkpoint) => format!("X{checkpoint}"),
                Frame::EndOfData => "end".to_owned(),
                Frame::EndOfChannel => "close".to_owned(),
            });
            if last {
                break;
            }
        }
        out.join(" ")
    }
}
