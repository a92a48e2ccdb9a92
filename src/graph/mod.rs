//! From a plan to a dataflow: the only place where operators are wired.

pub(crate) mod describe;
mod parts;
pub(crate) mod render;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use driftline_operators::batch::Batch;
use driftline_operators::changes::result_schema;
use driftline_operators::dataflow::{
    Arriving, BatchStream, DetectStage, DistinctStage, GroupStage, JoinSide, JoinStage, Keyed,
    LogKeyStage, MAIN, NumberStage, Outbox, OverStage, QueryContext, QueryShared, Reorder,
    Retention, Route, SharedDetector, SharedLogKeys, TopStage, UpdatingJoinStage, WindowAssignment,
    WindowStage, aggregate_windows, append_additions, assign_windows, check_groups, check_side,
    check_top, collect_into, detect, distinct_rows, join, log_keys, look_up, maintain, number_rows,
    over_frames, transform, transform_changes, update_groups, update_top, update_windows,
    updating_join, with_schema,
};
use driftline_operators::detector::{DetectorPlan, SideRelation};
use driftline_operators::distinct::Distinct;
use driftline_operators::error::Result;
use driftline_operators::join::{AsOf, Join, Joining, Side};
use driftline_operators::key::{KeyInterner, KeySplitter};
use driftline_operators::keyed::KeyLimit;
use driftline_operators::model::Upkeep;
use driftline_operators::over::{Frames, Limits, Over};
use driftline_operators::state::SavedOperator;
use driftline_operators::time::Watermarks;
use driftline_operators::window::{
    Numbering, TimeType, UpdatingWindows, Window, WindowedAggregate,
};
use driftline_queries::{JoinProgram, Node, Plan, Retained, TimeColumn};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::{Filter, Map};

use crate::runtime::output::OutputPort;
use crate::runtime::{QueryId, SourceId};
use crate::settings::Settings;

pub(crate) use parts::Parts;

/// A query as the workers get it.
#[derive(Debug)]
pub(crate) struct QuerySpec {
    pub(crate) id: QueryId,
    pub(crate) plan: Plan,
    pub(crate) detector: Option<DetectorStage>,
    /// Where rows come from: one leaf for each scan of the plan, in the order of [`Plan::scans`].
    pub(crate) leaves: Vec<Leaf>,
    /// Where results go, besides the queries that read this one.
    pub(crate) port: Option<Arc<OutputPort>>,
    pub(crate) context: QueryShared,
    /// What its operators held in the checkpoint that it goes on from.
    pub(crate) saved: Option<Arc<Vec<SavedOperator>>>,
}

impl QuerySpec {
    /// The sources at the bottom, each once.
    pub(crate) fn sources(&self) -> BTreeSet<SourceId> {
        self.leaves.iter().flat_map(|leaf| leaf.sources.iter().copied()).collect()
    }
}

/// One way into a query.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) upstream: Upstream,
    /// The sources at the bottom, whose watermarks its rows follow. A source's own rows follow one.
    pub(crate) sources: BTreeSet<SourceId>,
    /// How far below the watermark rows of a source are taken in.
    pub(crate) late_ns: i64,
}

/// Where rows of a leaf come from.
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
    /// Which of them this is.
    pub(crate) worker: usize,
    pub(crate) context: QueryContext,
    pub(crate) parts: &'a Parts,
    /// Every `LOG_KEYS` that has been wired.
    pub(crate) log_keys: &'a RefCell<Vec<SharedLogKeys>>,
}

impl Wiring<'_> {
    /// The same for the operators of the next part, which are measured by themselves.
    fn of_next_part(&self) -> Self {
        let context = self.context.of_part(self.parts.next(), self.worker);
        Wiring { context, ..*self }
    }
}

/// A stream and the watermarks that its rows follow.
pub(crate) struct Flow<'scope> {
    pub(crate) stream: BatchStream<'scope>,
    pub(crate) watermarks: Watermarks,
}

impl<'scope> Flow<'scope> {
    fn try_map(
        self,
        step: impl FnOnce(BatchStream<'scope>, &Watermarks) -> Result<BatchStream<'scope>>,
    ) -> Result<Self> {
        Ok(Self { stream: step(self.stream, &self.watermarks)?, watermarks: self.watermarks })
    }
}

/// Builds the dataflow of a query behind one flow for each of its leaves; results are collected into `outbox`. Hands
/// out the detector, if the query has one.
pub(crate) fn build<'scope>(
    query: &QuerySpec,
    leaves: Vec<Flow<'scope>>,
    wiring: &Wiring<'_>,
    outbox: Outbox,
) -> Result<Option<SharedDetector>> {
    wiring.parts.begin(&leaves);
    let rows = wire(&query.plan, &mut leaves.into_iter(), wiring)?;
    let (results, detector) = match &query.detector {
        None => (rows, None),
        Some(stage) => {
            let part = &wiring.of_next_part();
            let stages = detect_stage(stage, &query.plan, part, &rows.watermarks)?;
            let detector = SharedDetector::new(stage.plan.detector());
            let judged = detect(rows.stream, stages, detector.clone())?;
            let kept = keep_up(judged, &stage.plan.relations(), part)?;
            let results = Flow { stream: kept, watermarks: rows.watermarks };
            (part.parts.close(results, &part.context, None), Some(detector))
        }
    };
    let part = wiring.of_next_part();
    let scope = results.stream.scope();
    collect_into(results.stream, outbox, part.context.clone());
    wiring.parts.own(scope.worker().peek_identifier(), &part.context);
    Ok(detector)
}

/// Finds out, before any worker is asked, whether a query can be built.
pub(crate) fn check(
    plan: &Plan,
    detector: Option<&DetectorStage>,
    settings: &Settings,
) -> Result<()> {
    let (workers, context) = (settings.workers, QueryContext::default());
    let (parts, log_keys) = (Parts::default(), RefCell::default());
    let wiring =
        Wiring { settings, workers, worker: 0, context, parts: &parts, log_keys: &log_keys };
    if let Some(stage) = detector {
        detect_stage(stage, plan, &wiring, &Watermarks::default())?;
    }
    check_node(plan, &wiring)
}

fn check_node(plan: &Plan, wiring: &Wiring<'_>) -> Result<()> {
    match &plan.node {
        Node::Scan(_)
        | Node::Transform { .. }
        | Node::TransformChanges { .. }
        | Node::Additions { .. }
        | Node::Lookup { .. }
        | Node::Union { .. } => {}
        Node::UpdateWindows { window, answering, .. } => {
            let aggregate = windowed_aggregate(plan, wiring.settings)?;
            UpdatingWindows::new(*window, aggregate, *answering)?;
        }
        Node::UpdateGroups { input, retained, program, .. } => {
            check_groups(program, &input.schema)?;
            retained.map(|retained| time_type(input, retained.time.index)).transpose()?;
        }
        Node::UpdateTop { input, retained, numbering, .. } => {
            check_top(numbering)?;
            retained.map(|retained| time_type(input, retained.time.index)).transpose()?;
        }
        Node::UpdateJoin { inputs, .. } => {
            updating_join_stage(plan, wiring, &Watermarks::default())?;
            inputs.iter().try_for_each(|input| check_side(&input.schema))?;
        }
        Node::AssignWindows { input, window, time } => {
            time_type(input, *time)?.check(&Window::Aligned(*window))?;
        }
        Node::AggregateWindows { program, .. } => {
            windowed_aggregate(plan, wiring.settings)?;
            KeyInterner::new(&program.key_fields())?;
        }
        Node::NumberRows { input, numbering } => {
            number_stage(input, numbering, wiring, &Watermarks::default())?;
        }
        Node::Distinct { input, time } => {
            distinct_stage(input, *time, wiring, &Watermarks::default())?;
        }
        Node::Join { .. } => {
            join_stage(plan, wiring, Default::default())?;
        }
        Node::Over { input, time, over, .. } => {
            over_stage(input, *time, over, wiring, &Watermarks::default())?;
        }
        Node::LogKeys { keys, .. } => drop(keys.stage()?),
    }
    plan.node.inputs().into_iter().try_for_each(|input| check_node(input, wiring))
}

/// Wires a plan, and measures what it gives. Its leaves are taken in the order of [`Plan::scans`].
fn wire<'scope>(
    plan: &Plan,
    leaves: &mut impl Iterator<Item = Flow<'scope>>,
    wiring: &Wiring<'_>,
) -> Result<Flow<'scope>> {
    let part = wiring.of_next_part();
    let flow = wire_node(plan, leaves, &part)?;
    let time = plan.time.filter(|_| matches!(plan.node, Node::Scan(_)));
    let typed = |time: TimeColumn| time_type(plan, time.index).map(|typed| (time.index, typed));
    let time = time.map(typed).transpose()?;
    Ok(wiring.parts.close(flow, &part.context, time))
}

fn wire_node<'scope>(
    plan: &Plan,
    leaves: &mut impl Iterator<Item = Flow<'scope>>,
    wiring: &Wiring<'_>,
) -> Result<Flow<'scope>> {
    let context = wiring.context.clone();
    match &plan.node {
        Node::Scan(_) => Ok(leaves.next().expect("a query has a leaf for each scan")),
        Node::Transform { input, program, .. } => wire(input, leaves, wiring)?
            .try_map(|rows, _| Ok(transform(rows, Arc::clone(program), context))),
        Node::AssignWindows { input, window, time } => {
            let assignment = WindowAssignment {
                window: *window,
                time_index: *time,
                time: time_type(input, *time)?,
                schema: plan.schema.clone(),
            };
            wire(input, leaves, wiring)?
                .try_map(|rows, _| Ok(assign_windows(rows, assignment, context)))
        }
        Node::AggregateWindows { input, .. } => {
            wire(input, leaves, wiring)?.try_map(|rows, watermarks| {
                aggregate_windows(rows, window_stage(plan, wiring, watermarks)?)
            })
        }
        Node::UpdateWindows { input, answering, .. } => {
            wire(input, leaves, wiring)?.try_map(|rows, watermarks| {
                update_windows(rows, window_stage(plan, wiring, watermarks)?, *answering)
            })
        }
        Node::UpdateGroups { input, retained, program, .. } => wire(input, leaves, wiring)?
            .try_map(|rows, watermarks| {
                let stage = GroupStage {
                    program: Arc::clone(program),
                    input: input.schema.clone(),
                    arriving: arriving(input, retained.as_ref(), wiring.settings, watermarks)?,
                    schema: plan.schema.clone(),
                    watermarks: watermarks.clone(),
                    context,
                };
                update_groups(rows, stage)
            }),
        Node::UpdateTop { input, retained, numbering, rows: most } => wire(input, leaves, wiring)?
            .try_map(|rows, watermarks| {
                let stage = TopStage {
                    numbering: numbering.clone(),
                    rows: *most,
                    arriving: arriving(input, retained.as_ref(), wiring.settings, watermarks)?,
                    schema: plan.schema.clone(),
                    watermarks: watermarks.clone(),
                    context,
                };
                update_top(rows, stage)
            }),
        Node::TransformChanges { input, program, .. } => {
            let schema = plan.schema.clone();
            wire(input, leaves, wiring)?.try_map(|rows, _| {
                Ok(transform_changes(rows, Arc::clone(program), schema, context))
            })
        }
        Node::Additions { input } => {
            let schema = plan.schema.clone();
            wire(input, leaves, wiring)?
                .try_map(|rows, _| Ok(append_additions(rows, schema, context)))
        }
        Node::NumberRows { input, numbering } => {
            wire(input, leaves, wiring)?.try_map(|rows, watermarks| {
                Ok(number_rows(rows, number_stage(input, numbering, wiring, watermarks)?))
            })
        }
        Node::Lookup { input, lookup, .. } => wire(input, leaves, wiring)?
            .try_map(|rows, _| Ok(look_up(rows, Arc::clone(lookup), context))),
        Node::Distinct { input, time } => {
            wire(input, leaves, wiring)?.try_map(|rows, watermarks| {
                distinct_rows(rows, distinct_stage(input, *time, wiring, watermarks)?)
            })
        }
        Node::Join { inputs, .. } => {
            let [left, right] = &**inputs;
            let (left, right) = (wire(left, leaves, wiring)?, wire(right, leaves, wiring)?);
            let watermarks = left.watermarks.clone().and(&right.watermarks);
            let stage = join_stage(plan, wiring, [left.watermarks, right.watermarks])?;
            Ok(Flow { stream: join(left.stream, right.stream, stage)?, watermarks })
        }
        Node::UpdateJoin { inputs, .. } => {
            let [left, right] = &**inputs;
            let (left, right) = (wire(left, leaves, wiring)?, wire(right, leaves, wiring)?);
            let watermarks = left.watermarks.and(&right.watermarks);
            let stage = updating_join_stage(plan, wiring, &watermarks)?;
            Ok(Flow { stream: updating_join(left.stream, right.stream, stage)?, watermarks })
        }
        Node::Over { input, time, over, .. } => {
            wire(input, leaves, wiring)?.try_map(|rows, watermarks| {
                over_frames(rows, over_stage(input, *time, over, wiring, watermarks)?)
            })
        }
        Node::LogKeys { input, keys, output, time } => {
            wire(input, leaves, wiring)?.try_map(|rows, watermarks| {
                let stage = LogKeyStage {
                    plan: (**keys).clone(),
                    output: *output,
                    reorder_rows_max: wiring.settings.reorder_rows_max,
                    lag_ns: time.lag_ns,
                    watermarks: watermarks.clone(),
                    context,
                };
                let (keyed, learned) = log_keys(rows, stage)?;
                wiring.log_keys.borrow_mut().push(learned);
                Ok(keyed)
            })
        }
        Node::Union { inputs } => {
            let inputs = inputs.iter().map(|input| wire(input, leaves, wiring));
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            let watermarks = inputs.iter().map(|flow| flow.watermarks.clone());
            let watermarks = watermarks.reduce(|a, b| a.and(&b)).unwrap_or_default();
            let streams = inputs.into_iter().map(|flow| flow.stream);
            let stream = streams.reduce(Concat::concat).expect("a union has inputs");
            Ok(Flow { stream: with_schema(stream, plan.schema.clone(), context), watermarks })
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

fn window_stage(plan: &Plan, wiring: &Wiring<'_>, watermarks: &Watermarks) -> Result<WindowStage> {
    let (Node::AggregateWindows { window, time, .. } | Node::UpdateWindows { window, time, .. }) =
        &plan.node
    else {
        unreachable!("callers match on the node");
    };
    Ok(WindowStage {
        window: *window,
        aggregate: windowed_aggregate(plan, wiring.settings)?,
        reorder_rows_max: wiring.settings.reorder_rows_max,
        lag_ns: time.lag_ns,
        watermarks: watermarks.clone(),
        context: wiring.context.clone(),
    })
}

/// How rows enter and leave what is computed over those that are in.
fn arriving(
    input: &Plan,
    retained: Option<&Retained>,
    settings: &Settings,
    watermarks: &Watermarks,
) -> Result<Arriving> {
    Ok(match retained {
        None => Arriving::Changes,
        Some(held) => {
            Arriving::Rows(retention(input, held, settings.reorder_rows_max, watermarks)?)
        }
    })
}

fn retention(
    input: &Plan,
    retained: &Retained,
    rows_max: usize,
    watermarks: &Watermarks,
) -> Result<Retention> {
    Ok(Retention {
        time_index: retained.time.index,
        time: time_type(input, retained.time.index)?,
        retain_ns: retained.retain_ns,
        every_ns: retained.every_ns,
        lag_ns: retained.time.lag_ns,
        rows_max,
        watermarks: watermarks.clone(),
    })
}

/// What the windows of a node compute. Its result has no column for changes.
fn windowed_aggregate(plan: &Plan, settings: &Settings) -> Result<WindowedAggregate> {
    let (input, window, time, program, schema) = match &plan.node {
        Node::AggregateWindows { input, window, time, program, .. } => {
            (input, window, time, program, plan.schema.clone())
        }
        Node::UpdateWindows { input, window, time, program, .. } => {
            (input, window, time, program, result_schema(&plan.schema)?)
        }
        _ => unreachable!("callers match on the node"),
    };
    let time_type = time_type(input, time.index)?;
    time_type.check(window)?;
    Ok(WindowedAggregate {
        time_index: time.index,
        time: time_type,
        program: Arc::clone(program),
        schema,
        groups_max: settings.window_groups_max,
        panes_max: settings.window_panes_max,
    })
}

fn number_stage(
    input: &Plan,
    numbering: &Numbering,
    wiring: &Wiring<'_>,
    watermarks: &Watermarks,
) -> Result<NumberStage> {
    let partition = numbering.partition.clone();
    Ok(NumberStage {
        splitter: KeySplitter::new(&input.schema, partition, wiring.workers)?,
        numbering: numbering.clone(),
        input: input.schema.clone(),
        rows_max: wiring.settings.reorder_rows_max,
        watermarks: watermarks.clone(),
        context: wiring.context.clone(),
    })
}

fn distinct_stage(
    input: &Plan,
    time: TimeColumn,
    wiring: &Wiring<'_>,
    watermarks: &Watermarks,
) -> Result<DistinctStage> {
    let columns = (0..input.schema.fields().len()).collect();
    Ok(DistinctStage {
        distinct: Distinct::new(&input.schema, time.index, wiring.settings.window_groups_max)?,
        splitter: KeySplitter::new(&input.schema, columns, wiring.workers)?,
        lag_ns: time.lag_ns,
        watermarks: watermarks.clone(),
        context: wiring.context.clone(),
    })
}

fn over_stage(
    input: &Plan,
    time: TimeColumn,
    over: &Over,
    wiring: &Wiring<'_>,
    watermarks: &Watermarks,
) -> Result<OverStage> {
    let settings = wiring.settings;
    let kind = time_type(input, time.index)?;
    let limits = Limits { keys: key_limit(settings), rows_max: settings.frame_rows_max };
    Ok(OverStage {
        splitter: KeySplitter::new(&input.schema, over.partition.clone(), wiring.workers)?,
        reorder: Reorder::new(time.index, kind.clone(), settings.reorder_rows_max)
            .keyed_by(Keyed::Columns(over.partition.clone())),
        frames: Frames::new(over.clone(), &input.schema, kind.clone(), limits)?,
        time_index: time.index,
        time: kind,
        lag_ns: time.lag_ns,
        watermarks: watermarks.clone(),
        context: wiring.context.clone(),
    })
}

fn join_stage(plan: &Plan, wiring: &Wiring<'_>, watermarks: [Watermarks; 2]) -> Result<JoinStage> {
    let Node::Join { inputs, join, times, .. } = &plan.node else {
        unreachable!("callers match on the node");
    };
    let schemas = [&inputs[0].schema, &inputs[1].schema];
    let rows_max = wiring.settings.join_rows_max;
    let (keys, whole, join, residual): (_, _, Box<dyn Joining>, _) = match join {
        JoinProgram::Pairs(spec) => {
            let join = Join::new(spec.clone(), schemas, rows_max)?;
            (&spec.keys, spec.whole, Box::new(join), spec.residual.clone())
        }
        JoinProgram::AsOf(spec) => {
            (&spec.keys, None, Box::new(AsOf::new(spec.clone(), schemas, rows_max)?), None)
        }
    };
    let route = |side: Side| match whole {
        Some(whole) if whole == side => Ok(Route::ToAll),
        Some(_) => Ok(Route::Stay),
        None => {
            let (schema, keys) = (schemas[side as usize], keys[side as usize].clone());
            KeySplitter::new(schema, keys, wiring.workers).map(Route::ByKey)
        }
    };
    Ok(JoinStage {
        routes: [route(Side::Left)?, route(Side::Right)?],
        join,
        residual,
        lags_ns: times.map(|time| time.lag_ns),
        watermarks,
        context: wiring.context.clone(),
    })
}

/// Rows of both inputs leave by the watermark of both, so that a pair does not depend on which source is ahead.
fn updating_join_stage(
    plan: &Plan,
    wiring: &Wiring<'_>,
    watermarks: &Watermarks,
) -> Result<UpdatingJoinStage> {
    let Node::UpdateJoin { inputs, kind, keys, retained, .. } = &plan.node else {
        unreachable!("callers match on the node");
    };
    let rows_max = (wiring.settings.join_rows_max / 2).max(1);
    let side = |side: Side| -> Result<JoinSide> {
        let (input, retained) = (&inputs[side as usize], &retained[side as usize]);
        Ok(JoinSide {
            schema: input.schema.clone(),
            keys: keys[side as usize].clone(),
            retention: retention(input, retained, rows_max, watermarks)?,
        })
    };
    Ok(UpdatingJoinStage {
        left: side(Side::Left)?,
        right: side(Side::Right)?,
        kind: *kind,
        schema: plan.schema.clone(),
        watermarks: watermarks.clone(),
        context: wiring.context.clone(),
    })
}

/// The bound on keys of an operator that keeps state for each of them.
fn key_limit(settings: &Settings) -> KeyLimit {
    KeyLimit { keys_max: settings.keyed_state_max, policy: settings.keyed_state_policy }
}

fn detect_stage(
    stage: &DetectorStage,
    plan: &Plan,
    wiring: &Wiring<'_>,
    watermarks: &Watermarks,
) -> Result<DetectStage> {
    let time = time_type(plan, stage.time.index)?;
    let partition_by = stage.partition_by.clone();
    Ok(DetectStage {
        splitter: KeySplitter::new(&plan.schema, partition_by.clone(), wiring.workers)?,
        reorder: Reorder::new(stage.time.index, time, wiring.settings.reorder_rows_max)
            .keyed_by(Keyed::Columns(partition_by)),
        lag_ns: stage.time.lag_ns,
        watermarks: watermarks.clone(),
        context: wiring.context.clone(),
    })
}

fn time_type(plan: &Plan, index: usize) -> Result<TimeType> {
    TimeType::new(plan.schema.field(index).data_type())
}
