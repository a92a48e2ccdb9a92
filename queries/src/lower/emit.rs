//! Makes a plan answer as its EMIT clause says: the outermost windows give changes, and so does all that is above them.

use driftline_operators::changes::{DIFF, changes_schema};
use driftline_operators::window::{Answering, Window};

use crate::error::{Result, SqlError};
use crate::plan::{Node, Plan, Scan};
use crate::statement::Emit;

/// What makes changes.
#[derive(Clone, Copy)]
pub(super) enum Changing<'a> {
    /// Aggregates, first rows and joins of rows that are retained. Windows below them close as usual.
    Held,
    /// Those, and the outermost windows.
    Windows(&'a dyn Fn(&Plan) -> Answering),
}

/// Applies the clause to a query's plan; `lateness_ns` tells what a source allows.
pub(crate) fn emit(plan: Plan, emit: Emit, lateness_ns: &dyn Fn(&str) -> i64) -> Result<Plan> {
    match emit {
        Emit::WindowClose { delay_ns: 0 } => Ok(plan),
        Emit::WindowClose { .. } => {
            check_delay(&plan)?;
            Ok(plan)
        }
        Emit::Corrections { .. } => {
            let answering = |input: &Plan| Answering::Ahead(ahead_ns(input, lateness_ns));
            let changing = Changing::Windows(&answering);
            if !changes_below(&plan, changing) {
                return Err(SqlError::query("WITH CORRECTIONS needs an aggregate over a window")
                    .hint("group by a window, or leave the clause away: rows are not corrected"));
            }
            change(plan, changing)
        }
        Emit::Update { every_ns, retain_ns } => {
            let answering = every_ns.map_or(Answering::OnUpdate, Answering::Every);
            let answer = |_: &Plan| answering;
            let changing = Changing::Windows(&answer);
            if retain_ns.is_some() && !changes(&plan, Changing::Held) {
                return Err(SqlError::query(
                    "RETAIN needs an aggregate or a join without a window",
                )
                .hint(
                    "leave RETAIN away: what a window holds is gone when it closes, and a join with a bound in time \
                     forgets by itself",
                ));
            }
            if every_ns.is_some() && !changes_below(&plan, changing) {
                return Err(SqlError::query("EVERY needs an aggregate")
                    .hint("leave EVERY away: a row that only passes through is given at once"));
            }
            change(plan, changing)
        }
    }
}

/// Refuses a delay that nothing would notice.
fn check_delay(plan: &Plan) -> Result<()> {
    if !waits(plan) {
        return Err(SqlError::query("WITH DELAY needs a window")
            .hint("leave the clause away: rows that only pass through wait for nothing"));
    }
    if plan.scans().into_iter().any(|scan| scan.late_ns > 0) {
        return Ok(());
    }
    Err(SqlError::query("WITH DELAY needs a source with event time")
        .hint("results of a detector are final: let the source allow lateness"))
}

/// Whether an operator of the plan acts by the watermark.
fn waits(plan: &Plan) -> bool {
    !passes_on(&plan.node) || plan.node.inputs().into_iter().any(waits)
}

/// Whether rows leave a node as soon as they come, late ones too.
fn passes_on(node: &Node) -> bool {
    matches!(
        node,
        Node::Scan(_)
            | Node::Transform { .. }
            | Node::AssignWindows { .. }
            | Node::Lookup { .. }
            | Node::Union { .. }
    )
}

/// How much sooner than it closes a window over `input` may answer: its rows may come so much after the watermark that
/// their source would have without allowed lateness.
fn ahead_ns(input: &Plan, lateness_ns: &dyn Fn(&str) -> i64) -> i64 {
    /// The latest rows that the query takes in beyond what sources allow, and the least that a source allows.
    fn scans(plan: &Plan, lateness_ns: &dyn Fn(&str) -> i64) -> (i64, i64) {
        match &plan.node {
            Node::Scan(Scan { relation, late_ns, .. }) => (*late_ns, lateness_ns(relation)),
            node if passes_on(node) => node
                .inputs()
                .into_iter()
                .map(|input| scans(input, lateness_ns))
                .reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)))
                .unwrap_or_default(),
            // What a window or a detector gives is complete by the watermark.
            _ => (0, 0),
        }
    }
    let (late, allowed) = scans(input, lateness_ns);
    late.saturating_add(allowed)
}

/// Whether a plan gives changes, or would.
pub(super) fn changes(plan: &Plan, changing: Changing<'_>) -> bool {
    match &plan.node {
        Node::UpdateGroups { .. } | Node::UpdateTop { .. } | Node::UpdateJoin { .. } => true,
        Node::AggregateWindows { .. } => matches!(changing, Changing::Windows(_)),
        Node::Transform { input, .. } => changes(input, changing),
        Node::Union { inputs } => inputs.iter().any(|input| changes(input, changing)),
        _ => false,
    }
}

/// Makes a plan give changes.
pub(super) fn change(plan: Plan, changing: Changing<'_>) -> Result<Plan> {
    if plan.schema.index_of(DIFF).is_ok() {
        return Err(SqlError::query(format!("column \"{DIFF}\" is there twice"))
            .hint("the clause adds a column of this name: call yours another name, with AS"));
    }
    let schema = changes_schema(&plan.schema);
    let does_change = changes(&plan, changing);
    let node = match (plan.node, changing) {
        (
            node @ (Node::UpdateGroups { .. } | Node::UpdateTop { .. } | Node::UpdateJoin { .. }),
            _,
        ) => node,
        (Node::AggregateWindows { window: Window::Count(_), .. }, Changing::Windows(_)) => {
            return Err(SqlError::unsupported(
                "COUNT_WINDOW whose results change is not supported",
            )
            .hint("leave the clause away: a window of so many rows answers with its last row"));
        }
        (
            Node::AggregateWindows { input, window, time, program, label },
            Changing::Windows(answering),
        ) => {
            let answering = answering(&input);
            Node::UpdateWindows { input, window, time, program, answering, label }
        }
        (Node::Transform { input, program, label }, _) if does_change => {
            let input = Box::new(change(*input, changing)?);
            Node::TransformChanges { input, program, label }
        }
        (Node::Union { inputs }, _) if does_change => {
            let inputs = inputs.into_iter().map(|input| change(input, changing));
            Node::Union { inputs: inputs.collect::<Result<_>>()? }
        }
        (node, _) if node.inputs().into_iter().any(|input| changes_below(input, changing)) => {
            return Err(SqlError::unsupported(
                "a step over results that change is not supported, but for filters and projections",
            )
            .hint("join, number or detect over results that are final"));
        }
        (node, _) => {
            let Plan { schema, time, window_bounds, .. } = plan;
            let rows = Plan { node, schema, time, window_bounds };
            Node::Additions { input: Box::new(rows) }
        }
    };
    Ok(Plan { node, schema, time: None, window_bounds: Vec::new() })
}

/// Whether changes would come up anywhere below.
pub(super) fn changes_below(plan: &Plan, changing: Changing<'_>) -> bool {
    changes(plan, changing)
        || plan.node.inputs().into_iter().any(|input| changes_below(input, changing))
}
