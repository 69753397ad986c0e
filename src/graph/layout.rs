//! Which operators run fused, which edges join the chains, and how the task of a subtask is put together from that.
//!
//! A consumer runs fused with its producer when it has a single input that is fed by that producer alone, forward, at the same parallelism and max parallelism,
//! and nobody has said that it should not: the job, one of the two, or another first worker. A chain that grows too long is cut, see [`LONGEST_CHAIN`].

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use alluvium_actors::drive::edge::CREDITS;
use alluvium_actors::drive::finished::ended_operators;
use alluvium_actors::ids::OperatorUid;
use alluvium_actors::plan::{EdgeName, Pattern, Routing, key_groups};
use alluvium_actors::ports::task::{Failure, OperatorTask, SourceTask, TaskContext};

use super::builder::{Builder, Chaining, End, Exchange, Operator, at};
use super::check::width;
use super::naming::Naming;
use crate::operator::assembly::{AnyLink, Next, PartitionRecipe, Recipe, Site, Target};
use crate::operator::in_flight::{ChainParts, HEAD, Inlet, InputName, Repartition};
use crate::operator::place::Places;

/// So many operators records pass one after the other in a chain at most; the next one begins a chain of its own.
///
/// Each operator of a chain calls the one behind it, so its depth is a depth of the stack, in a build, in a step and when the chain is dropped. A link takes less than
/// 1 kB of stack in a debug build (where 3,000 of them overflow the 2 MB of a thread), one whose records are large a few kB: with 64 most of the stack is left
/// to user code, also on an arbiter with a quarter of that stack. An edge for every 64 operators costs less than 64 calls by far. How many operators stand side by side in a chain
/// is not limited.
pub(super) const LONGEST_CHAIN: usize = 64;

/// The operators of a job with the decisions of the planner.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) operators: Vec<Placed>,
    /// Chain by chain, the operators in it, the head first.
    pub(super) chains: Vec<Vec<usize>>,
    /// A fingerprint of the graph, whatever its widths are.
    pub(super) graph: u64,
    /// For each chain, the edges that lead to it.
    inputs: Vec<Arc<[InputName]>>,
    chaining: bool,
}

/// An operator and where it runs.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) operator: Operator,
    pub(super) label: Arc<str>,
    pub(super) parallelism: u32,
    pub(super) max_parallelism: u32,
    /// Whether the program says it, for the operator or for the job.
    max_parallelism_is_given: bool,
    pub(super) first_worker: Option<u32>,
    /// How many batches may wait in each edge that leads to it.
    pub(super) credits: u32,
    pub(super) chain: usize,
    /// How many operators of its chain records pass before it.
    depth: usize,
    /// Who gets its output.
    pub(super) consumers: Vec<Consumer>,
    /// For each of its inputs, for each operator that feeds it, that operator and the position of this one among its consumers.
    fed_by: Vec<Vec<(usize, usize)>>,
    /// Its number among the sinks; 0 for others.
    pub(super) sink: u32,
}

/// Who gets an operator's output, and how.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) operator: usize,
    pub(super) input: usize,
    /// Which output of the producer it gets, see [`Upstream::port`](super::builder::Upstream::port).
    pub(super) port: usize,
    pub(super) route: Route,
    pub(super) name: EdgeName,
}

/// How records get from an operator to a consumer.
pub(super) enum Route {
    /// By a call: both are in the same chain.
    Fused,
    /// By an edge to the subtask of the same index.
    Forward { output: usize },
    /// By edges to all subtasks in turn.
    Rebalance { target: Target },
    /// By edges to subtasks that are drawn.
    Shuffle { target: Target },
    /// By edges to all subtasks at once.
    Broadcast { target: Target },
    /// By the edge to the first subtask.
    Global { output: usize },
    /// By edges to the subtask that user code decides: by key, or by a function.
    Partition { target: Target, recipe: PartitionRecipe, label: Arc<str>, by_key: bool },
}

impl Placed {
    /// Its uid, and where it has none, its label.
    pub(super) fn uid(&self) -> OperatorUid {
        self.operator.uid.clone().unwrap_or_else(|| OperatorUid::new(&self.label))
    }
}

impl Layout {
    /// Decides. The job was checked.
    pub(super) fn new(builder: Builder) -> Layout {
        let widths: Vec<_> = builder.operators.iter().map(|operator| width(&builder, operator)).collect();
        let job_gives = builder.max_parallelism.is_some();
        let (chaining, job_credits) = (builder.chaining, builder.credits.unwrap_or(CREDITS));
        let naming = Naming::of(&builder);
        let graph = naming.graph;
        let mut layout = Layout { operators: Vec::new(), chains: Vec::new(), graph, inputs: Vec::new(), chaining };
        let mut outputs: Vec<usize> = Vec::new();
        let mut sinks = 0;
        for (index, (operator, (parallelism, max_parallelism))) in builder.operators.into_iter().zip(widths).enumerate()
        {
            let fused_with = layout.fused_with(&operator, parallelism, max_parallelism);
            let chain = fused_with.map_or(layout.chains.len(), |upstream| layout.operators[upstream].chain);
            if fused_with.is_none() {
                layout.chains.push(Vec::new());
                outputs.push(0);
            }
            layout.chains[chain].push(index);
            let mut fed_by = vec![Vec::new(); operator.inputs.len()];
            for (input, fed) in operator.inputs.iter().enumerate() {
                for (place, upstream) in fed.upstreams.iter().enumerate() {
                    let name = naming.edge(index, input, place, &operator);
                    let producer = &mut layout.operators[upstream.operator];
                    assert_eq!(
                        fed.stream.payload,
                        producer.operator.stream(upstream.port).payload,
                        "the two ends of an edge carry different records: a bug in the graph builder"
                    );
                    let output = &mut outputs[producer.chain];
                    let target = Target { output: *output, channels: parallelism, max_parallelism };
                    let same_width = producer.parallelism == parallelism;
                    let route = match &upstream.exchange {
                        Exchange::Automatic | Exchange::Forward if fused_with.is_some() => Route::Fused,
                        Exchange::Forward => Route::Forward { output: *output },
                        Exchange::Automatic if same_width => Route::Forward { output: *output },
                        Exchange::Automatic | Exchange::Rebalance => Route::Rebalance { target },
                        Exchange::Shuffle => Route::Shuffle { target },
                        Exchange::Broadcast => Route::Broadcast { target },
                        Exchange::Global => Route::Global { output: *output },
                        Exchange::Partition { recipe, location } | Exchange::Hash { recipe, location } => {
                            Route::Partition {
                                target,
                                recipe: Arc::clone(recipe),
                                label: format!("{} at {}", upstream.exchange.name(), at(location)).into(),
                                by_key: matches!(upstream.exchange, Exchange::Hash { .. }),
                            }
                        }
                    };
                    if !matches!(route, Route::Fused) {
                        *output += 1;
                    }
                    fed_by[input].push((upstream.operator, producer.consumers.len()));
                    producer.consumers.push(Consumer { operator: index, input, port: upstream.port, route, name });
                }
            }
            let sink = sinks;
            let inherited = fused_with.and_then(|upstream| layout.operators[upstream].first_worker);
            sinks += u32::from(matches!(operator.end, End::Sink { .. }));
            layout.operators.push(Placed {
                label: operator.label().into(),
                first_worker: operator.first_worker.or(inherited),
                credits: operator.credits.unwrap_or(job_credits),
                max_parallelism_is_given: job_gives || operator.max_parallelism.is_some(),
                operator,
                parallelism,
                max_parallelism,
                chain,
                depth: fused_with.map_or(0, |upstream| layout.operators[upstream].depth + 1),
                consumers: Vec::new(),
                fed_by,
                sink,
            });
        }
        layout.inputs = layout.name_inputs();
        layout
    }

    /// The connections that are edges, in the order in which the plan has them, each with its producer.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&Placed, &Consumer)> {
        let connections = self.operators.iter().flat_map(|placed| placed.consumers.iter().map(move |to| (placed, to)));
        connections.filter(|(_, consumer)| consumer.route.edge().is_some())
    }

    fn name_inputs(&self) -> Vec<Arc<[InputName]>> {
        let mut inputs = vec![Vec::new(); self.chains.len()];
        for (edge, (_, consumer)) in (0..).zip(self.edges()) {
            let (name, routing) = (consumer.name.clone(), consumer.route.routing());
            inputs[self.operators[consumer.operator].chain].push(InputName { edge, name, routing });
        }
        inputs.into_iter().map(Arc::from).collect()
    }

    /// What the task of a chain begins with: its places, and where something enters that was in flight when the task's checkpoint was taken.
    fn parts(&self, chain: usize, task: &TaskContext) -> ChainParts {
        let (mut places, mut inlets) = (Places::new(&task.calls), Vec::new());
        let in_flight = task.restored.iter().flat_map(|manifest| manifest.in_flight());
        let edges = in_flight.flat_map(|(_, in_flight)| &in_flight.edges).filter(|edge| edge.records > 0);
        let names: BTreeSet<&EdgeName> = edges.map(|edge| &edge.name).collect();
        if !names.is_empty() {
            for (number, index) in self.chains[chain].iter().enumerate() {
                let placed = &self.operators[*index];
                for (input, (fed, by)) in placed.operator.inputs.iter().zip(&placed.fed_by).enumerate() {
                    let consumers = by.iter().map(|(producer, at)| &self.operators[*producer].consumers[*at]);
                    for consumer in consumers.filter(|consumer| names.contains(&consumer.name)) {
                        let partitioner = match &consumer.route {
                            Route::Partition { target, recipe, label, .. } => {
                                let place = places.add(Arc::clone(label));
                                let target = self.restored_target(*target, *index, task);
                                let site = Site { task: task.clone(), place, sink: 0 };
                                let partitioner =
                                    recipe(site, Target { output: 0, ..target }, Arc::clone(&placed.label));
                                Some(Repartition { partitioner, owned: fed.stream.owned })
                            }
                            _ => None,
                        };
                        inlets.push(Inlet {
                            name: consumer.name.clone(),
                            routing: consumer.route.routing(),
                            label: Arc::clone(&placed.label),
                            number,
                            input,
                            decode: fed.stream.payload.decode,
                            partitioner,
                        });
                    }
                }
            }
        }
        let ended = task.restored.as_deref().map(|manifest| ended_operators(self.graph, manifest)).unwrap_or_default();
        ChainParts { places, inputs: Arc::clone(&self.inputs[chain]), inlets, ended }
    }

    /// The producer in whose chain an operator runs, if there is one.
    fn fused_with(&self, operator: &Operator, parallelism: u32, max_parallelism: u32) -> Option<usize> {
        let [input] = &operator.inputs[..] else { return None };
        let [upstream] = &input.upstreams[..] else { return None };
        let producer = &self.operators[upstream.operator];
        let same_width = producer.parallelism == parallelism && producer.max_parallelism == max_parallelism;
        let forward = matches!(upstream.exchange, Exchange::Automatic | Exchange::Forward);
        let same_worker = operator.first_worker.is_none() || operator.first_worker == producer.first_worker;
        let allowed = self.chaining
            && operator.chaining == Chaining::Both
            && producer.operator.chaining != Chaining::Never
            && producer.depth + 1 < LONGEST_CHAIN
            && same_worker;
        (same_width && forward && allowed).then_some(upstream.operator)
    }

    /// The uid of the operator at this position.
    pub(super) fn uid(&self, operator: usize) -> OperatorUid {
        self.operators[operator].uid()
    }

    /// The names of a chain's operators, joined by arrows.
    pub(super) fn chain_name(&self, chain: usize) -> String {
        let names: Vec<_> =
            self.chains[chain].iter().map(|index| self.operators[*index].operator.display_name()).collect();
        names.join(" -> ")
    }

    /// The uids of the operators of a chain that have state, in their order.
    pub(super) fn stateful(&self, chain: usize) -> Vec<OperatorUid> {
        let members = self.chains[chain].iter().map(|index| &self.operators[*index].operator);
        members.filter(|operator| operator.is_stateful()).filter_map(|operator| operator.uid.clone()).collect()
    }

    /// Whether the program says how many key groups one of the operators of a chain has.
    pub(super) fn max_parallelism_is_given(&self, chain: usize) -> bool {
        self.chains[chain].iter().any(|index| self.operators[*index].max_parallelism_is_given)
    }

    /// A target with the number of key groups that the consumer has where the job goes on from the task's checkpoint: whoever sends by key must
    /// know it, too.
    fn restored_target(&self, target: Target, consumer: usize, task: &TaskContext) -> Target {
        let chain = self.operators[consumer].chain;
        let (uids, is_given) = (self.stateful(chain), self.max_parallelism_is_given(chain));
        let max_parallelism = key_groups(&uids, target.max_parallelism, is_given, task.restored.as_deref());
        Target { max_parallelism, ..target }
    }

    /// The first operator of a chain.
    pub(super) fn head(&self, chain: usize) -> &Placed {
        &self.operators[self.chains[chain][0]]
    }

    /// Builds the task of a chain whose head takes batches.
    pub(super) fn operator_task(&self, chain: usize, task: &TaskContext) -> Result<Box<dyn OperatorTask>, Failure> {
        let mut parts = self.parts(chain, task);
        let index = self.chains[chain][0];
        let head = &self.operators[index];
        match &head.operator.recipe {
            Recipe::Join(recipe) => {
                let site = self.site(index, task, &mut parts);
                let next = self.behind(index, &site, &mut parts)?;
                recipe(site, next, parts)
            }
            Recipe::Link(_) | Recipe::Tail(_) => {
                let link = self.link(index, task, &mut parts)?;
                Ok((head.operator.inputs[0].stream.head)(link, parts, task.clone()))
            }
            Recipe::Source(_) => {
                Err(Failure::unrecoverable(&*head.label, "built as an operator: a bug in the planner"))
            }
        }
    }

    /// Builds the task of a chain whose head is a source reader.
    pub(super) fn source_task(&self, chain: usize, task: &TaskContext) -> Result<Box<dyn SourceTask>, Failure> {
        let mut parts = self.parts(chain, task);
        let index = self.chains[chain][0];
        let head = &self.operators[index];
        let Recipe::Source(recipe) = &head.operator.recipe else {
            return Err(Failure::unrecoverable(&*head.label, "built as a source: a bug in the planner"));
        };
        let site = self.site(index, task, &mut parts);
        let next = self.behind(index, &site, &mut parts)?;
        recipe(site, next, parts)
    }

    fn site(&self, index: usize, task: &TaskContext, parts: &mut ChainParts) -> Site {
        let placed = &self.operators[index];
        let place = parts.places.add(Arc::clone(&placed.label)).ended_before(parts.ended.contains(&(index as u32)));
        Site { task: task.clone(), place, sink: placed.sink }
    }

    /// The operator at `index` with everything behind it.
    fn link(&self, index: usize, task: &TaskContext, parts: &mut ChainParts) -> Result<AnyLink, Failure> {
        let placed = &self.operators[index];
        let site = self.site(index, task, parts);
        let link = match &placed.operator.recipe {
            Recipe::Link(recipe) => {
                let next = self.behind(index, &site, parts)?;
                recipe(site, next)?
            }
            Recipe::Tail(recipe) => recipe(site)?,
            Recipe::Source(_) | Recipe::Join(_) => {
                let text = "built in the middle of a chain: a bug in the planner";
                return Err(Failure::unrecoverable(&*placed.label, text));
            }
        };
        let number = self.chains[placed.chain].iter().position(|member| *member == index).unwrap_or(HEAD);
        if number == HEAD || parts.inlets.iter().all(|inlet| inlet.number != number) {
            return Ok(link);
        }
        Ok((placed.operator.inputs[0].stream.inlet)(link, number))
    }

    /// Everything behind the operator at `index`, whose own site is `before`: behind each of its outputs.
    fn behind(&self, index: usize, before: &Site, parts: &mut ChainParts) -> Result<Next, Failure> {
        let main = self.behind_port(index, 0, before, parts)?;
        let mut sides = Vec::new();
        for (number, side) in self.operators[index].operator.sides.iter().enumerate() {
            let link = self.behind_port(index, number + 1, before, parts)?;
            sides.push((side.stream.outlet)(side.name.clone(), link));
        }
        Ok(Next::new(main, sides))
    }

    fn behind_port(
        &self,
        index: usize,
        port: usize,
        before: &Site,
        parts: &mut ChainParts,
    ) -> Result<AnyLink, Failure> {
        let placed = &self.operators[index];
        let stream = placed.operator.stream(port);
        let mut links = Vec::with_capacity(placed.consumers.len());
        for consumer in placed.consumers.iter().filter(|consumer| consumer.port == port) {
            links.push(match &consumer.route {
                Route::Fused => self.link(consumer.operator, &before.task, parts)?,
                Route::Forward { output } => (stream.forward)(*output),
                Route::Rebalance { target } => (stream.rebalance)(*target, before.task.subtask.index),
                Route::Shuffle { target } => (stream.shuffle)(*target, Rc::clone(&before.task.host)),
                Route::Broadcast { target } => (stream.broadcast)(*target, before.place.clone()),
                // The channel of the first subtask is the first one, as on a pointwise edge.
                Route::Global { output } => (stream.forward)(*output),
                Route::Partition { target, recipe, label, .. } => {
                    let place = parts.places.add(Arc::clone(label));
                    let target = self.restored_target(*target, consumer.operator, &before.task);
                    let consumer = Arc::clone(&self.operators[consumer.operator].label);
                    let site = Site { task: before.task.clone(), place, sink: 0 };
                    (stream.partitioner)(recipe(site, target, consumer))
                }
            });
        }
        match links.pop() {
            None => Ok((stream.discard)()),
            Some(only) if links.is_empty() => Ok(only),
            last => {
                links.extend(last);
                Ok((stream.tee)(links, before.place.clone()))
            }
        }
    }
}

impl Route {
    /// The output of the producer's task and the pattern of the edge; none inside a chain.
    pub(super) fn edge(&self) -> Option<(usize, Pattern)> {
        match self {
            Route::Fused => None,
            Route::Forward { output } => Some((*output, Pattern::Pointwise)),
            Route::Global { output } => Some((*output, Pattern::AllToAll)),
            Route::Rebalance { target }
            | Route::Shuffle { target }
            | Route::Broadcast { target }
            | Route::Partition { target, .. } => Some((target.output, Pattern::AllToAll)),
        }
    }

    /// How a record finds its consumer on that edge.
    pub(super) fn routing(&self) -> Routing {
        match self {
            Route::Fused | Route::Forward { .. } | Route::Rebalance { .. } | Route::Shuffle { .. } => Routing::Any,
            Route::Broadcast { .. } => Routing::Copies,
            Route::Global { .. } => Routing::First,
            Route::Partition { by_key: true, .. } => Routing::KeyGroup,
            Route::Partition { by_key: false, .. } => Routing::Custom,
        }
    }

    /// Whether a record that comes again may go to another subtask than before: who gets it depends on what else there was, or on chance.
    pub(super) fn scatters(&self) -> bool {
        match self {
            Route::Rebalance { target } | Route::Shuffle { target } => target.channels > 1,
            Route::Fused
            | Route::Forward { .. }
            | Route::Broadcast { .. }
            | Route::Global { .. }
            | Route::Partition { .. } => false,
        }
    }

    /// How pictures call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Route::Fused => "fused",
            Route::Forward { .. } => "forward",
            Route::Rebalance { .. } => "rebalance",
            Route::Shuffle { .. } => "shuffle",
            Route::Broadcast { .. } => "broadcast",
            Route::Global { .. } => "global",
            Route::Partition { by_key: true, .. } => "hash",
            Route::Partition { by_key: false, .. } => "partition",
        }
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
