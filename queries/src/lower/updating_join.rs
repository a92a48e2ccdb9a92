//! Joins of rows that enter and leave: `EMIT ON UPDATE RETAIN` over a join that has no bound in time.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::Result as DfResult;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::logical_plan::{Extension, Join};
use datafusion_expr::{Expr, LogicalPlan};
use driftline_operators::join::{JoinKind, Side};

use super::columns::{numbered, renumber};
use super::emit::{Changing, changes_below};
use super::join::{self, Conditions};
use super::state::{Base, State};
use crate::error::{Result, SqlError};
use crate::plan::{Node, Plan, Retained};
use crate::planner::updates::{Retaining, UpdatingJoinNode};

/// Puts an [`UpdatingJoinNode`] in place of each join without a bound in time.
pub(crate) fn retain_joins(plan: LogicalPlan, retaining: Retaining) -> DfResult<LogicalPlan> {
    let found = match &plan {
        LogicalPlan::Filter(filter) => join::above(&filter.predicate, &filter.input),
        LogicalPlan::Join(join) => Some((join.clone(), Vec::new())),
        _ => None,
    };
    match found {
        Some((join, above)) => retain_join(plan, join, above, retaining),
        None => {
            let children =
                plan.map_children(|child| Ok(Transformed::yes(retain_joins(child, retaining)?)));
            Ok(children?.data)
        }
    }
}

/// `plan` is the join, or a filter over it whose conditions are `above`.
fn retain_join(
    plan: LogicalPlan,
    join: Join,
    above: Vec<Expr>,
    retaining: Retaining,
) -> DfResult<LogicalPlan> {
    // What is wrong with a join is said when it is lowered.
    let Ok(conditions) = Conditions::of(&join, &above) else { return Ok(plan) };
    let [left_before, right_before] = conditions.before;
    let input = |input: &LogicalPlan, before: Vec<Expr>| match join::plain_inner(input) {
        Some(inner) => retain_join(input.clone(), inner.clone(), before, retaining),
        None => retain_joins(input.clone(), retaining),
    };
    let left = Arc::new(input(&join.left, left_before)?);
    let right = Arc::new(input(&join.right, right_before)?);
    let join = Join { left, right, ..join };
    // An input that has become a join of retained rows has no event time any more.
    let is_unbounded = Conditions::of(&join, &above).is_ok_and(|known| known.bounds.is_empty());
    Ok(match plan {
        _ if is_unbounded => {
            let node = Arc::new(UpdatingJoinNode { join, above, retaining });
            LogicalPlan::Extension(Extension { node })
        }
        LogicalPlan::Filter(mut filter) => {
            filter.input = Arc::new(LogicalPlan::Join(join));
            LogicalPlan::Filter(filter)
        }
        _ => LogicalPlan::Join(join),
    })
}

/// Joins the retained rows of two inputs. The plan has no `_diff` yet: what is above is planned as for rows.
pub(super) fn lower(node: &UpdatingJoinNode) -> Result<State> {
    let join = &node.join;
    let conditions = Conditions::of(join, &node.above)?;
    let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = conditions.keys.iter().cloned().unzip();
    let (left, left_places) =
        join::input(&join.left, &conditions.inputs[0], &conditions.before[0], &left_keys)?;
    let (right, right_places) =
        join::input(&join.right, &conditions.inputs[1], &conditions.before[1], &right_keys)?;
    if [&left, &right].into_iter().any(|input| changes_below(input, Changing::Held)) {
        return Err(SqlError::unsupported("join over results that change is not supported").hint(
            "join rows or the results of windows, and aggregate above the join; of several joins in a row all but the \
             last say how far event times lie apart",
        ));
    }
    check(&conditions)?;
    let retained = |side: Side| {
        let Some(time) = conditions.inputs[side as usize].times.first().copied() else {
            return Err(SqlError::query(
                "RETAIN needs rows with event time on both sides of a join",
            )
            .hint("select the source's event-time column, or window_end, in the subquery"));
        };
        let Retaining { retain_ns, every_ns } = node.retaining;
        Ok(Retained { time, retain_ns, every_ns })
    };
    let retained = [retained(Side::Left)?, retained(Side::Right)?];
    for (a, b) in left_places.iter().zip(&right_places) {
        let (a, b) = (left.schema.field(*a), right.schema.field(*b));
        if a.data_type() != b.data_type() {
            return Err(SqlError::query(format!(
                "join compares \"{}\" of type {} with type {}",
                a.name(),
                a.data_type(),
                b.data_type()
            ))
            .hint("cast both sides to one type"));
        }
    }
    let label = join::label(join, &conditions, None)?;
    let mut fields = join::side_fields(&left, conditions.kind, Side::Left);
    fields.extend(join::side_fields(&right, conditions.kind, Side::Right));
    let first = left.schema.fields().len();
    let place = |index: usize| numbered(join::place(index, conditions.width, first));
    let rest = conditions.rest.iter().map(|expr| renumber(expr, |index| Some(place(index))));
    let filters = rest.collect::<Result<Vec<_>>>()?;
    let exprs = (0..join.schema.fields().len()).map(place).collect();
    let plan = Plan {
        schema: Arc::new(Schema::new(fields)),
        time: None,
        window_bounds: Vec::new(),
        node: Node::UpdateJoin {
            inputs: Box::new([left, right]),
            kind: conditions.kind,
            keys: [left_places, right_places],
            retained,
            label,
        },
    };
    Ok(State { base: Base::Rows(plan), exprs, filters })
}

/// Refuses conditions that retained rows cannot be joined by.
fn check(conditions: &Conditions) -> Result<()> {
    if conditions.keys.is_empty() {
        return Err(SqlError::unsupported(
            "join of retained rows without an equality is not supported",
        )
        .hint("add an equality of both sides to ON, a.k = b.k"));
    }
    if conditions.kind == JoinKind::Inner || conditions.rest.is_empty() {
        return Ok(());
    }
    Err(SqlError::unsupported(
        "outer join of retained rows on more than equalities is not supported",
    )
    .hint(
        "filter the side that is kept in a subquery, and pairs by WHERE; or say in ON how far event times lie apart, \
         without RETAIN",
    ))
}
