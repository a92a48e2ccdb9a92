//! Aggregates over windows.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Aggregate;
use driftline_operators::expression::AggregateProgram;

use super::columns::{describe, number, numbered, numbers, renumber, substitute};
use super::state::{Base, State, filtered};
use super::{internal, unalias};
use crate::error::{Result, SqlError};
use crate::physical;
use crate::plan::{Node, Plan, TimeColumn};
use crate::planner::window::{WINDOW_END, WINDOW_START};

const NO_WINDOW_HINT: &str = "add a window: FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY ..., window_start, window_end, or \
                              GROUP BY ..., tumble(INTERVAL '1 minute')";

/// Groups the rows of a window.
pub(super) fn lower(aggregate: &Aggregate, mut state: State) -> Result<State> {
    let below = state.take_filters_below();
    let Base::Windowed { input, window, time } = state.base else {
        return Err(SqlError::unsupported("aggregate without a window is not supported")
            .hint(NO_WINDOW_HINT));
    };
    let width = input.schema.fields().len();
    let keys = Keys::sort_out(aggregate, &state.exprs, width)?;
    let above = state
        .filters
        .iter()
        .map(|filter| bounds_only(filter, width, "condition"))
        .collect::<Result<Vec<_>>>()?;
    let aggregates = aggregate
        .aggr_expr
        .iter()
        .map(|expr| argument(expr, aggregate, &state.exprs, width))
        .collect::<Result<Vec<_>>>()?;
    let input = filtered(input, &below)?;
    let name = |index: usize| aggregate.schema.field(index).name().clone();
    let key_names: Vec<String> = keys.indexes.iter().map(|i| name(*i)).collect();
    let groups = aggregate.group_expr.len();
    let aggregate_names: Vec<String> = (0..aggregates.len()).map(|i| name(groups + i)).collect();
    let program = physical::GroupProgram::try_new(
        &input.schema,
        (&keys.exprs, &key_names),
        (&aggregates, &aggregate_names),
    )?;
    let label = label(&input, &keys.exprs, &aggregates);
    let mut exprs = keys.output;
    let first = 2 + keys.exprs.len();
    exprs.extend((0..aggregates.len()).map(|i| numbered(first + i)));
    let plan = Plan {
        schema: output_schema(&input, time, &program)?,
        time: Some(TimeColumn { index: 1, lag_ns: time.lag_ns }),
        window_bounds: vec![0, 1],
        node: Node::AggregateWindows {
            input: Box::new(input),
            window,
            time,
            program: Arc::new(program),
            label,
        },
    };
    Ok(State { base: Base::Rows(plan), exprs, filters: above })
}

/// Group keys, sorted out.
struct Keys {
    /// Keys over the input's columns.
    exprs: Vec<Expr>,
    /// Which group expression each key is.
    indexes: Vec<usize>,
    /// Each group expression over the columns of the result.
    output: Vec<Expr>,
}

impl Keys {
    fn sort_out(aggregate: &Aggregate, exprs: &[Expr], width: usize) -> Result<Self> {
        let mut sorted = Self { exprs: Vec::new(), indexes: Vec::new(), output: Vec::new() };
        let mut has_bound = false;
        for (index, group) in aggregate.group_expr.iter().enumerate() {
            if matches!(group, Expr::GroupingSet(_)) {
                return Err(SqlError::unsupported(
                    "GROUPING SETS, CUBE or ROLLUP is not supported in a streaming query",
                )
                .hint("write one query per grouping"));
            }
            let expr = substitute(unalias(group), aggregate.input.schema(), exprs)?;
            let read = numbers(&expr);
            if read.iter().all(|n| *n < width) {
                sorted.output.push(numbered(2 + sorted.exprs.len()));
                sorted.exprs.push(expr);
                sorted.indexes.push(index);
            } else {
                has_bound |= number(&expr).is_some();
                sorted.output.push(bounds_only(&expr, width, "group key")?);
            }
        }
        if has_bound {
            return Ok(sorted);
        }
        Err(SqlError::query("aggregate over a window is not grouped by the window")
            .hint("add window_start, window_end to GROUP BY"))
    }
}

/// An expression over window bounds alone, as one over the result of the aggregate.
fn bounds_only(expr: &Expr, width: usize, what: &str) -> Result<Expr> {
    if numbers(expr).into_iter().any(|n| n < width) {
        return Err(SqlError::unsupported(format!(
            "{what} that mixes window bounds with other columns is not supported under an aggregate"
        ))
        .hint("compare window bounds with constants, or compute on them in an outer query"));
    }
    renumber(expr, |n| n.checked_sub(width).map(numbered))
}

fn argument(expr: &Expr, aggregate: &Aggregate, exprs: &[Expr], width: usize) -> Result<Expr> {
    let expr = substitute(unalias(expr), aggregate.input.schema(), exprs)?;
    if !matches!(expr, Expr::AggregateFunction(_)) {
        return Err(internal("aggregate is not a function"));
    }
    if numbers(&expr).into_iter().any(|n| n >= width) {
        return Err(SqlError::unsupported("aggregate that reads window bounds is not supported")
            .hint(
                "a bound is the same for all rows of a group: compute on it outside the aggregate",
            ));
    }
    Ok(expr)
}

fn output_schema(
    input: &Plan,
    time: TimeColumn,
    program: &physical::GroupProgram,
) -> Result<Arc<Schema>> {
    let kind = input
        .schema
        .fields()
        .get(time.index)
        .map(|field| field.data_type().clone())
        .ok_or_else(|| internal("event-time column is missing"))?;
    let mut fields: Vec<Arc<Field>> = [WINDOW_START, WINDOW_END]
        .map(|name| Arc::new(Field::new(name, kind.clone(), false)))
        .to_vec();
    fields.extend(program.key_fields().iter().map(Arc::clone));
    fields.extend(program.output_fields().iter().map(Arc::clone));
    Ok(Arc::new(Schema::new(fields)))
}

fn label(input: &Plan, keys: &[Expr], aggregates: &[Expr]) -> String {
    let list = |exprs: &[Expr]| {
        let texts: Vec<String> = exprs.iter().map(|e| describe(e, &input.schema)).collect();
        texts.join(", ")
    };
    match (keys.is_empty(), aggregates.is_empty()) {
        (true, _) => list(aggregates),
        (false, true) => format!("BY {}", list(keys)),
        (false, false) => format!("{} BY {}", list(aggregates), list(keys)),
    }
}
