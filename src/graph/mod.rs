//! From a plan to a dataflow: the only place where operators are wired.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use driftline_operators::batch::Batch;
use driftline_operators::dataflow::{
    BatchStream, DetectStage, MAIN, NumberStage, Outbox, QueryContext, Reorder, SharedDetector,
    WindowAssignment, WindowStage, aggregate_windows, assign_windows, collect_into, detect,
    maintain, number_rows, transform,
};
use driftline_operators::detector::{DetectorPlan, SideRelation};
use driftline_operators::error::Result;
use driftline_operators::key::{KeyInterner, KeySplitter};
use driftline_operators::model::Upkeep;
use driftline_operators::time::Watermarks;
use driftline_operators::window::{Numbering, TimeType, Window, WindowedAggregate};
use driftline_queries::{Node, Plan, TimeColumn};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::{Filter, Map};

use crate::runtime::output::OutputPort;
use crate::runtime::{QueryId, SourceId};
use crate::settings::Settings;

/// A query as the workers get it.
#[derive(Debug)]
pub(crate) struct QuerySpec {
    pub(crate) id: QueryId,
    pub(crate) plan: Plan,
    pub(crate) detector: Option<DetectorStage>,
    pub(crate) upstream: Upstream,
    /// The source at the bottom, whose watermark the query follows.
    pub(crate) source: SourceId,
    /// Where results go, besides the queries that read this one.
    pub(crate) port: Option<Arc<OutputPort>>,
    pub(crate) context: QueryContext,
}

/// Where a query's rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// The in-time rows of a source.
    Source,
    /// The rows that a source could not take.
    Late,
    /// One relation of another query: its results, or what its detector keeps beside them.
    Query(QueryId, u32),
}

/// A detector at the end of a query.
#[derive(Clone, Debug)]
pub(crate) struct DetectorStage {
    pub(crate) plan: Arc<dyn DetectorPlan>,
    pub(crate) partition_by: Vec<usize>,
    pub(crate) time: TimeColumn,
}

/// What the operators of a query share on one worker.
pub(crate) struct Wiring<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) workers: usize,
    pub(crate) watermarks: Watermarks,
    pub(crate) context: QueryContext,
}

/// Builds the dataflow of a query behind `input`; results are collected into `outbox`. Hands out the detector, if the
/// query has one.
pub(crate) fn build(
    query: &QuerySpec,
    input: BatchStream<'_>,
    wiring: &Wiring<'_>,
    outbox: Outbox,
) -> Result<Option<SharedDetector>> {
    let rows = wire(&query.plan, input, wiring)?;
    let (results, detector) = match &query.detector {
        None => (rows, None),
        Some(stage) => {
            let stages = detect_stage(stage, &query.plan, wiring)?;
            let detector = Rc::new(RefCell::new(stage.plan.detector()));
            let judged = detect(rows, stages, Rc::clone(&detector));
            (keep_up(judged, &stage.plan.relations(), wiring)?, Some(detector))
        }
    };
    collect_into(results, outbox, wiring.context.clone());
    Ok(detector)
}

/// Finds out, before any worker is asked, whether a query can be built.
pub(crate) fn check(
    plan: &Plan,
    detector: Option<&DetectorStage>,
    settings: &Settings,
) -> Result<()> {
    let wiring = Wiring {
        settings,
        workers: settings.workers,
        watermarks: Watermarks::default(),
        context: QueryContext::default(),
    };
    if let Some(stage) = detector {
        detect_stage(stage, plan, &wiring)?;
    }
    let mut plan = plan;
    loop {
        plan = match &plan.node {
            Node::Scan(_) => return Ok(()),
            Node::Transform { input, .. } => input,
            Node::AssignWindows { input, window, time } => {
                time_type(input, *time)?.check(&Window::Aligned(*window))?;
                input
            }
            Node::AggregateWindows { input, program, .. } => {
                windowed_aggregate(plan, settings)?;
                KeyInterner::new(&program.key_fields())?;
                input
            }
            Node::NumberRows { input, numbering } => {
                number_stage(input, numbering, &wiring)?;
                input
            }
        };
    }
}

fn wire<'scope>(
    plan: &Plan,
    input: BatchStream<'scope>,
    wiring: &Wiring<'_>,
) -> Result<BatchStream<'scope>> {
    let context = wiring.context.clone();
    match &plan.node {
        Node::Scan(_) => Ok(input),
        Node::Transform { input: below, program, .. } => {
            Ok(transform(wire(below, input, wiring)?, Arc::clone(program), context))
        }
        Node::AssignWindows { input: below, window, time } => {
            let assignment = WindowAssignment {
                window: *window,
                time_index: *time,
                time: time_type(below, *time)?,
                schema: plan.schema.clone(),
            };
            Ok(assign_windows(wire(below, input, wiring)?, assignment, context))
        }
        Node::AggregateWindows { input: below, window, time, .. } => {
            let stage = WindowStage {
                window: *window,
                aggregate: windowed_aggregate(plan, wiring.settings)?,
                reorder_rows_max: wiring.settings.reorder_rows_max,
                lag_ns: time.lag_ns,
                watermarks: wiring.watermarks.clone(),
                context,
            };
            aggregate_windows(wire(below, input, wiring)?, stage)
        }
        Node::NumberRows { input: below, numbering } => {
            let stage = number_stage(below, numbering, wiring)?;
            Ok(number_rows(wire(below, input, wiring)?, stage))
        }
    }
}

/// Maintains the side relations that count, and lets the other rows through.
fn keep_up<'scope>(
    judged: BatchStream<'scope>,
    relations: &[SideRelation],
    wiring: &Wiring<'_>,
) -> Result<BatchStream<'scope>> {
    let counted = |relation: &SideRelation| relation.upkeep != Upkeep::Append;
    let mut streams = Vec::new();
    for (index, relation) in relations.iter().enumerate().filter(|(_, r)| counted(r)) {
        let number = MAIN + 1 + index as u32;
        let reported = judged.clone().filter(move |batch| batch.target == number);
        let kept = maintain(reported, relation, wiring.context.clone())?;
        streams.push(kept.map(move |batch| Batch { target: number, ..batch }));
    }
    if streams.is_empty() {
        return Ok(judged);
    }
    let appended: Vec<bool> = relations.iter().map(|relation| !counted(relation)).collect();
    let others = judged.filter(move |batch| {
        batch.target == MAIN || appended.get((batch.target - MAIN - 1) as usize) == Some(&true)
    });
    Ok(streams.into_iter().fold(others, Concat::concat))
}

fn windowed_aggregate(plan: &Plan, settings: &Settings) -> Result<WindowedAggregate> {
    let Node::AggregateWindows { input, window, time, program, .. } = &plan.node else {
        unreachable!("callers match on the node");
    };
    let time_type = time_type(input, time.index)?;
    time_type.check(window)?;
    Ok(WindowedAggregate {
        time_index: time.index,
        time: time_type,
        program: Arc::clone(program),
        schema: plan.schema.clone(),
        groups_max: settings.window_groups_max,
        panes_max: settings.window_panes_max,
    })
}

fn number_stage(input: &Plan, numbering: &Numbering, wiring: &Wiring<'_>) -> Result<NumberStage> {
    let partition = numbering.partition.clone();
    Ok(NumberStage {
        splitter: KeySplitter::new(&input.schema, partition, wiring.workers)?,
        numbering: numbering.clone(),
        input: input.schema.clone(),
        rows_max: wiring.settings.reorder_rows_max,
        watermarks: wiring.watermarks.clone(),
        context: wiring.context.clone(),
    })
}

fn detect_stage(stage: &DetectorStage, plan: &Plan, wiring: &Wiring<'_>) -> Result<DetectStage> {
    let time = time_type(plan, stage.time.index)?;
    let partition_by = stage.partition_by.clone();
    Ok(DetectStage {
        splitter: KeySplitter::new(&plan.schema, partition_by, wiring.workers)?,
        reorder: Reorder::new(stage.time.index, time, wiring.settings.reorder_rows_max),
        lag_ns: stage.time.lag_ns,
        watermarks: wiring.watermarks.clone(),
        context: wiring.context.clone(),
    })
}

fn time_type(plan: &Plan, index: usize) -> Result<TimeType> {
    TimeType::new(plan.schema.field(index).data_type())
}
