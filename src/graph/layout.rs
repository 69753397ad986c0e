//! Which operators run fused, which edges join the chains, and how the task of a subtask is put together from that.
//!
//! A consumer runs fused with its producer when it has a single input that is fed by that producer alone, forward, at the same parallelism and max parallelism.

use std::sync::Arc;

use alluvium_actors::ports::task::{Failure, OperatorTask, SourceTask, TaskContext};

use super::builder::{Builder, End, Exchange, Operator, at};
use super::check::width;
use crate::operator::assembly::{AnyLink, HashRecipe, Recipe, Site, Target};
use crate::operator::place::Places;

/// The operators of a job with the decisions of the planner.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) operators: Vec<Placed>,
    /// Chain by chain, the operators in it, the head first.
    pub(super) chains: Vec<Vec<usize>>,
}

/// An operator and where it runs.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) operator: Operator,
    pub(super) label: Arc<str>,
    pub(super) parallelism: u32,
    pub(super) max_parallelism: u32,
    pub(super) chain: usize,
    /// Who gets its output.
    pub(super) consumers: Vec<Consumer>,
    /// Its number among the sinks; 0 for others.
    pub(super) sink: u32,
}

/// Who gets an operator's output, and how.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) operator: usize,
    pub(super) input: usize,
    pub(super) route: Route,
}

/// How records get from an operator to a consumer.
pub(super) enum Route {
    /// By a call: both are in the same chain.
    Fused,
    /// By an edge to the subtask of the same index.
    Forward { output: usize },
    /// By edges to all subtasks in turn.
    Rebalance { target: Target },
    /// By edges to the owner of the key.
    Hash { target: Target, recipe: HashRecipe, label: Arc<str> },
}

impl Layout {
    /// Decides. The job was checked.
    pub(super) fn new(builder: Builder) -> Layout {
        let widths: Vec<_> = builder.operators.iter().map(|operator| width(&builder, operator)).collect();
        let mut layout = Layout { operators: Vec::new(), chains: Vec::new() };
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
            for (input, fed) in operator.inputs.iter().enumerate() {
                for upstream in &fed.upstreams {
                    let producer = &mut layout.operators[upstream.operator];
                    assert_eq!(
                        Some(fed.stream.payload),
                        producer.operator.output.map(|stream| stream.payload),
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
                        Exchange::Hash { recipe, location } => Route::Hash {
                            target,
                            recipe: Arc::clone(recipe),
                            label: format!("key_by at {}", at(location)).into(),
                        },
                    };
                    if !matches!(route, Route::Fused) {
                        *output += 1;
                    }
                    producer.consumers.push(Consumer { operator: index, input, route });
                }
            }
            let sink = sinks;
            sinks += u32::from(matches!(operator.end, End::Sink { .. }));
            layout.operators.push(Placed {
                label: operator.label().into(),
                operator,
                parallelism,
                max_parallelism,
                chain,
                consumers: Vec::new(),
                sink,
            });
        }
        layout
    }

    /// The producer in whose chain an operator runs, if there is one.
    fn fused_with(&self, operator: &Operator, parallelism: u32, max_parallelism: u32) -> Option<usize> {
        let [input] = &operator.inputs[..] else { return None };
        let [upstream] = &input.upstreams[..] else { return None };
        let producer = &self.operators[upstream.operator];
        let same_width = producer.parallelism == parallelism && producer.max_parallelism == max_parallelism;
        let forward = matches!(upstream.exchange, Exchange::Automatic | Exchange::Forward);
        (same_width && forward).then_some(upstream.operator)
    }

    /// The first operator of a chain.
    pub(super) fn head(&self, chain: usize) -> &Placed {
        &self.operators[self.chains[chain][0]]
    }

    /// Builds the task of a chain whose head takes batches.
    pub(super) fn operator_task(&self, chain: usize, task: &TaskContext) -> Result<Box<dyn OperatorTask>, Failure> {
        let mut places = Places::new();
        let index = self.chains[chain][0];
        let head = &self.operators[index];
        match &head.operator.recipe {
            Recipe::Join(recipe) => {
                let site = site(head, task, &mut places);
                let next = self.behind(index, &site, &mut places)?;
                recipe(site, next, places)
            }
            Recipe::Link(_) | Recipe::Tail(_) => {
                let link = self.link(index, task, &mut places)?;
                Ok((head.operator.inputs[0].stream.head)(link, places, task.clone()))
            }
            Recipe::Source(_) => {
                Err(Failure::unrecoverable(&*head.label, "built as an operator: a bug in the planner"))
            }
        }
    }

    /// Builds the task of a chain whose head is a source reader.
    pub(super) fn source_task(&self, chain: usize, task: &TaskContext) -> Result<Box<dyn SourceTask>, Failure> {
        let mut places = Places::new();
        let index = self.chains[chain][0];
        let head = &self.operators[index];
        let Recipe::Source(recipe) = &head.operator.recipe else {
            return Err(Failure::unrecoverable(&*head.label, "built as a source: a bug in the planner"));
        };
        let site = site(head, task, &mut places);
        let next = self.behind(index, &site, &mut places)?;
        recipe(site, next, places)
    }

    /// The operator at `index` with everything behind it.
    fn link(&self, index: usize, task: &TaskContext, places: &mut Places) -> Result<AnyLink, Failure> {
        let placed = &self.operators[index];
        let site = site(placed, task, places);
        match &placed.operator.recipe {
            Recipe::Link(recipe) => {
                let next = self.behind(index, &site, places)?;
                recipe(site, next)
            }
            Recipe::Tail(recipe) => recipe(site),
            Recipe::Source(_) | Recipe::Join(_) => {
                Err(Failure::unrecoverable(&*placed.label, "built in the middle of a chain: a bug in the planner"))
            }
        }
    }

    /// Everything behind the operator at `index`, whose own site is `before`.
    fn behind(&self, index: usize, before: &Site, places: &mut Places) -> Result<AnyLink, Failure> {
        let placed = &self.operators[index];
        let stream = placed.operator.output.expect("sinks have nothing behind them");
        let mut links = Vec::with_capacity(placed.consumers.len());
        for consumer in &placed.consumers {
            links.push(match &consumer.route {
                Route::Fused => self.link(consumer.operator, &before.task, places)?,
                Route::Forward { output } => (stream.forward)(*output),
                Route::Rebalance { target } => (stream.rebalance)(*target, before.task.subtask.index),
                Route::Hash { target, recipe, label } => {
                    let place = places.add(Arc::clone(label));
                    recipe(Site { task: before.task.clone(), place, sink: 0 }, *target)
                }
            });
        }
        match links.pop() {
            Some(only) if links.is_empty() => Ok(only),
            last => {
                links.extend(last);
                Ok((stream.tee)(links, before.place.clone()))
            }
        }
    }
}

fn site(placed: &Placed, task: &TaskContext, places: &mut Places) -> Site {
    Site { task: task.clone(), place: places.add(Arc::clone(&placed.label)), sink: placed.sink }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Route::Fused => "fused",
            Route::Forward { .. } => "forward",
            Route::Rebalance { .. } => "rebalance",
            Route::Hash { .. } => "hash",
        })
    }
}
