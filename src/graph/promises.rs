//! Judges what a job promises on each path: what its ends and the options let through.
//!
//! A path is judged when somebody asks, not when the job is built: there may be as many as sources times sinks.

use alluvium_actors::ids::NodeId;
use alluvium_actors::plan::{Pattern, Plan};

use super::builder::{Builder, End, Operator, SinkPromise};
use super::error::BuildError;
use super::guarantee::{CheckpointBasis, GuaranteeLink, GuaranteeNotHeld, PathGuarantee};
use super::layout::Layout;
use super::paths::{Bits, Path, Paths};
use crate::connect::sink::{Effect, Guarantee};
use crate::connect::source::Replay;

/// What is known of a job whatever its options are.
#[derive(Clone, Debug)]
pub(super) struct Promises {
    paths: Paths,
    /// One for each operator.
    parts: Vec<Part>,
    chains: Vec<Chain>,
    /// The operators whose chain takes records of several channels.
    wide: Bits,
}

/// What matters of an operator.
#[derive(Clone, Debug)]
struct Part {
    /// Its name in pictures.
    display_name: String,
    /// Its uid, and where it has none, how errors call it.
    name: String,
    /// How errors call it.
    label: String,
    kind: &'static str,
    replay: Replay,
    sink: Option<SinkPromise>,
    required: Option<Guarantee>,
    /// Its number.
    chain: usize,
    /// The producers from which a record that comes again may come to another subtask of it, with the name of the route.
    scattering: Vec<(usize, &'static str)>,
}

/// What matters of a chain.
#[derive(Clone, Debug)]
struct Chain {
    name: String,
    /// How many channels lead to one of its subtasks.
    channels: u32,
}

/// What a part of a path lets through, before anybody wants to read it.
enum Reason<'a> {
    Source(&'a Part),
    /// Nothing on the path needs barriers that are not aligned.
    Checkpoints(CheckpointBasis),
    /// A chain that takes records of several channels, and does not align them.
    Unaligned(&'a Chain, CheckpointBasis),
    /// The checkpoints end with the process; whether the effects do, too.
    InMemory {
        effects: Effect,
    },
    /// The checkpoints outlive the process, and the effects of the sink do not.
    EffectsEnd(&'a Part),
    /// Output may be repeated as the options say.
    AcceptedRepeats,
    Sink(&'a Part, &'a SinkPromise),
}

impl Promises {
    /// What is known before there is a plan: enough for the best options.
    fn of_operators(operators: &[&Operator]) -> Promises {
        Promises {
            paths: Paths::new(operators),
            parts: operators.iter().map(|operator| Part::new(operator)).collect(),
            chains: Vec::new(),
            wide: Bits::new(operators.len()),
        }
    }

    /// What is known of a job that was planned.
    pub(super) fn of_plan(layout: &Layout, plan: &Plan) -> Promises {
        let operators: Vec<&Operator> = layout.operators.iter().map(|placed| &placed.operator).collect();
        let mut promises = Promises::of_operators(&operators);
        promises.chains = plan.nodes.iter().map(|node| Chain { name: node.name.clone(), channels: 0 }).collect();
        for edge in &plan.edges {
            let NodeId(chain) = edge.to;
            promises.chains[chain as usize].channels += match edge.pattern {
                Pattern::Pointwise => 1,
                Pattern::AllToAll => plan.node(edge.from).parallelism,
            };
        }
        for (index, placed) in layout.operators.iter().enumerate() {
            promises.parts[index].chain = placed.chain;
            if promises.chains[placed.chain].channels > 1 {
                promises.wide.add(index);
            }
            for consumer in placed.consumers.iter().filter(|consumer| consumer.route.scatters()) {
                promises.parts[consumer.operator].scattering.push((index, consumer.route.name()));
            }
        }
        promises
    }

    /// How many paths there are.
    pub(super) fn count(&self) -> usize {
        self.paths.all().count()
    }

    /// What holds on the first `most` paths.
    pub(super) fn report(&self, checkpoints: Option<CheckpointBasis>, most: usize) -> Vec<PathGuarantee> {
        self.paths.all().take(most).map(|path| self.judge(&path, checkpoints)).collect()
    }

    /// What was declared and does not hold. Only paths of which that is true are written out.
    pub(super) fn unmet(&self, checkpoints: Option<CheckpointBasis>) -> Vec<GuaranteeNotHeld> {
        let unmet = |path: Path<'_>| {
            let required = self.parts[path.sink].required?;
            if held(&self.reasons(&path, checkpoints)).includes(required) {
                return None;
            }
            self.judge(&path, checkpoints).unmet()
        };
        self.paths.all().filter_map(unmet).collect()
    }

    /// The positions of the sinks that promise exactly once on paths that do not.
    pub(super) fn sinks_behind_unaligned(&self, checkpoints: CheckpointBasis) -> impl Iterator<Item = usize> {
        let promising = self.paths.sinks().filter(move |(sink, above)| {
            let promise = self.parts[*sink].sink.as_ref();
            !checkpoints.aligned
                && above.meets(&self.wide)
                && promise.is_some_and(|promise| promise.guarantee == Guarantee::ExactlyOnce)
        });
        promising.map(|(sink, _)| sink)
    }

    fn judge(&self, path: &Path<'_>, checkpoints: Option<CheckpointBasis>) -> PathGuarantee {
        let reasons = self.reasons(path, checkpoints);
        let guarantee = held(&reasons);
        let scattering = path.operators().find_map(|index| {
            let part = &self.parts[index];
            let (_, route) = part.scattering.iter().find(|(producer, _)| path.contains(*producer))?;
            Some((&part.label, route))
        });
        let note = |(operator, route): (&String, &&str)| {
            format!(
                "what is repeated may come to another subtask of {operator} than before, by `{route}`, and in another order"
            )
        };
        PathGuarantee {
            source: self.parts[path.source].name.clone(),
            sink: self.parts[path.sink].name.clone(),
            operators: path.operators().map(|index| self.parts[index].display_name.clone()).collect(),
            guarantee,
            required: self.parts[path.sink].required,
            links: reasons.iter().map(Reason::link).collect(),
            notes: scattering.filter(|_| guarantee.repeats()).map(note).into_iter().collect(),
        }
    }

    /// Everything that decides what a path promises, from its source to its sink.
    fn reasons<'a>(&'a self, path: &Path<'_>, checkpoints: Option<CheckpointBasis>) -> Vec<Reason<'a>> {
        let mut reasons = vec![Reason::Source(&self.parts[path.source])];
        let sink = &self.parts[path.sink];
        let promise = sink.sink.as_ref();
        let effects = promise.map_or(Effect::Outside, |promise| promise.effect);
        if let Some(basis) = checkpoints {
            self.reasons_of_checkpoints(path, basis, &mut reasons);
            if !basis.durable {
                reasons.push(Reason::InMemory { effects });
            } else if effects == Effect::InProcess {
                reasons.push(Reason::EffectsEnd(sink));
            }
            if basis.accepts_repeats {
                reasons.push(Reason::AcceptedRepeats);
            }
        }
        reasons.extend(promise.map(|promise| Reason::Sink(sink, promise)));
        reasons
    }

    fn reasons_of_checkpoints<'a>(&'a self, path: &Path<'_>, basis: CheckpointBasis, reasons: &mut Vec<Reason<'a>>) {
        let before = reasons.len();
        if !basis.aligned {
            let mut seen = Vec::new();
            for index in path.operators().filter(|index| self.wide.contains(*index)) {
                let chain = self.parts[index].chain;
                if !seen.contains(&chain) {
                    seen.push(chain);
                    reasons.push(Reason::Unaligned(&self.chains[chain], basis));
                }
            }
        }
        if reasons.len() == before {
            reasons.push(Reason::Checkpoints(basis));
        }
    }
}

/// What all of them together let through.
fn held(reasons: &[Reason<'_>]) -> Guarantee {
    reasons.iter().fold(Guarantee::ExactlyOnce, |held, reason| held.and(reason.guarantee()))
}

impl Part {
    fn new(operator: &Operator) -> Part {
        let label = operator.label();
        let (replay, sink) = match &operator.end {
            End::Inner => (Replay::FromStoredPosition, None),
            End::Source { replay, .. } => (*replay, None),
            End::Sink { promise, .. } => (Replay::FromStoredPosition, Some(promise.clone())),
        };
        Part {
            display_name: operator.display_name().to_owned(),
            name: operator.uid.as_ref().map_or_else(|| label.clone(), ToString::to_string),
            label,
            kind: operator.kind,
            replay,
            sink,
            required: operator.required,
            chain: 0,
            scattering: Vec::new(),
        }
    }

    /// Its name in a link.
    fn subject(&self) -> String {
        if self.kind == "sink" || self.kind == "source" {
            self.name.clone()
        } else {
            format!("{} ({})", self.name, self.kind)
        }
    }
}

impl Reason<'_> {
    fn guarantee(&self) -> Guarantee {
        match self {
            Reason::Source(source) => match source.replay {
                Replay::FromStoredPosition => Guarantee::ExactlyOnce,
                Replay::Never | Replay::ByTheProgram => Guarantee::AtMostOnce,
            },
            Reason::Checkpoints(_) => Guarantee::ExactlyOnce,
            Reason::Unaligned(..) | Reason::AcceptedRepeats => Guarantee::AtLeastOnce,
            // Checkpoints, state and effects end together: whoever can look at the effects sees each record once.
            Reason::InMemory { effects: Effect::InProcess } => Guarantee::ExactlyOnce,
            Reason::InMemory { effects: Effect::Outside } => Guarantee::AtLeastOnce,
            // What was committed before is gone and does not come again; what the last checkpoint had prepared does.
            Reason::EffectsEnd(_) => Guarantee::BestEffort,
            Reason::Sink(_, promise) => promise.guarantee,
        }
    }

    fn link(&self) -> GuaranteeLink {
        let (subject, reason, mend) = match self {
            Reason::Source(source) => match source.replay {
                Replay::FromStoredPosition => {
                    (source.subject(), "is read again from the position in the checkpoint".to_owned(), None)
                }
                Replay::Never => (
                    source.subject(),
                    "cannot be read again: what came since the last checkpoint is lost with a failure".to_owned(),
                    Some("read from what keeps its records, such as files or a log"),
                ),
                Replay::ByTheProgram => (
                    source.subject(),
                    "cannot be read again: what came since the last checkpoint is lost with a failure, unless the program pushes it again"
                        .to_owned(),
                    Some(
                        "wait for the receipt of each push and repeat those that fail: then every record counts at least once",
                    ),
                ),
            },
            Reason::Checkpoints(basis) => {
                let mode = if basis.aligned {
                    "with aligned barriers"
                } else {
                    "in at-least-once mode; but nothing on this path has several channels to align"
                };
                ("checkpoints".to_owned(), format!("{}, {mode}", rhythm(*basis)), None)
            }
            Reason::Unaligned(chain, basis) => (
                chain.name.clone(),
                format!(
                    "takes records of {} channels without aligning them, since checkpoints, which {}, are in at-least-once mode",
                    chain.channels,
                    rhythm(*basis)
                ),
                Some("use `CheckpointMode::ExactlyOnce`"),
            ),
            Reason::InMemory { effects: Effect::InProcess } => (
                "the store".to_owned(),
                "is in memory and ends with the process, as do the effects of the sink: another process begins both again at the start"
                    .to_owned(),
                None,
            ),
            Reason::InMemory { effects: Effect::Outside } => (
                "the store".to_owned(),
                "is in memory and ends with the process: another process begins again at the start".to_owned(),
                Some("give a directory by `Options::store`"),
            ),
            Reason::EffectsEnd(sink) => (
                sink.subject(),
                "has its effects in the memory of the process, and the checkpoints outlive it: another process goes on behind what was lost with \
                 this one, and what the last checkpoint had prepared takes effect again"
                    .to_owned(),
                Some("use a sink with its effects outside of the process, such as `Lines::exactly_once`, or leave out `Options::store`"),
            ),
            Reason::AcceptedRepeats => (
                "`Options::accept_repeats`".to_owned(),
                "lets a start pass over a damaged checkpoint to an older one, although output that was committed is then repeated"
                    .to_owned(),
                Some("leave it out: a start that would repeat output is then refused"),
            ),
            Reason::Sink(sink, promise) => {
                let mend = promise.reason.mend.as_ref().map(ToString::to_string);
                let reason = promise.reason.reason.to_string();
                return GuaranteeLink { subject: sink.subject(), guarantee: promise.guarantee, reason, mend };
            }
        };
        GuaranteeLink { subject, guarantee: self.guarantee(), reason, mend: mend.map(ToOwned::to_owned) }
    }
}

/// When checkpoints are taken.
fn rhythm(basis: CheckpointBasis) -> String {
    match basis.interval_millis {
        Some(millis) => format!("are taken every {millis} ms"),
        None => {
            "are not taken periodically, only the final one: a failure repeats everything since the start".to_owned()
        }
    }
}

/// The declared guarantees that hold under no options.
pub(super) fn check(builder: &Builder) -> Vec<BuildError> {
    if builder.operators.iter().all(|operator| operator.required.is_none()) {
        return Vec::new();
    }
    let operators: Vec<&Operator> = builder.operators.iter().collect();
    let unmet = Promises::of_operators(&operators).unmet(None);
    unmet.into_iter().map(BuildError::GuaranteeNotHeld).collect()
}
