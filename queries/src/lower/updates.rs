//! Aggregates over rows that enter and leave.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_expr::Expr;
use driftline_operators::expression::AggregateProgram;

use super::aggregate::label;
use super::columns::{numbered, substitute};
use super::emit::{Changing, change, changes};
use super::state::{Base, State};
use super::{Traits, internal, unalias};
use crate::error::{Result, SqlError};
use crate::physical;
use crate::plan::{Node, Plan, Retained};
use crate::planner::updates::{Retaining, UpdatingNode};

/// Groups rows by key. The plan has no `_diff` yet: what is above is planned as for rows.
pub(super) fn lower(node: &UpdatingNode) -> Result<State> {
    let traits = Traits::of(&node.input);
    let input = super::node(&node.input)?.build(&traits, node.input.schema().as_arrow())?;
    let columns: Vec<Expr> = (0..input.schema.fields().len()).map(numbered).collect();
    let over_input = |expr: &Expr| {
        if matches!(unalias(expr), Expr::GroupingSet(_)) {
            return Err(SqlError::unsupported(
                "GROUPING SETS, CUBE or ROLLUP is not supported in a streaming query",
            )
            .hint("write one query per grouping"));
        }
        substitute(unalias(expr), node.input.schema(), &columns)
    };
    let keys = node.group_expr.iter().map(over_input).collect::<Result<Vec<_>>>()?;
    let aggregates = node.aggr_expr.iter().map(over_input).collect::<Result<Vec<_>>>()?;
    let mut names = node.names();
    if names.len() != keys.len() + aggregates.len() {
        return Err(internal("aggregate has other columns than expressions"));
    }
    let aggregate_names = names.split_off(keys.len());
    let program = physical::GroupProgram::try_new(
        &input.schema,
        (&keys, &names),
        (&aggregates, &aggregate_names),
    )?;
    let label = label(&input, &keys, &aggregates);
    let UpdatingNode { retaining, .. } = *node;
    let (input, retained) = entering(input, &traits, retaining)?;
    let mut fields: Vec<Arc<Field>> = program.key_fields().iter().map(Arc::clone).collect();
    fields.extend(program.output_fields().iter().map(Arc::clone));
    let plan = Plan {
        schema: Arc::new(Schema::new(fields)),
        time: None,
        window_bounds: Vec::new(),
        node: Node::UpdateGroups {
            input: Box::new(input),
            retained,
            program: Arc::new(program),
            label,
        },
    };
    Ok(State::over(Base::Rows(plan)))
}

/// How rows of an input enter and leave what is computed over those that are in: by its changes, if it has any, else by
/// event time.
pub(super) fn entering(
    input: Plan,
    traits: &Traits,
    retaining: Retaining,
) -> Result<(Plan, Option<Retained>)> {
    if changes(&input, Changing::Held) {
        return Ok((change(input, Changing::Held)?, None));
    }
    let Some(time) = traits.times.first().copied() else {
        return Err(SqlError::query("RETAIN needs rows with event time")
            .hint("select the source's event-time column, or window_end, in the subquery"));
    };
    let Retaining { retain_ns, every_ns } = retaining;
    Ok((input, Some(Retained { time, retain_ns, every_ns })))
}
