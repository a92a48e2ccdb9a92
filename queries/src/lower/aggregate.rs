//! Aggregates over windows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Aggregate;
use driftline_operators::error::OperatorError;
use driftline_operators::expression::AggregateProgram;
use driftline_operators::window::{TimeType, Window, WindowSpec};

use super::columns::{describe, number, numbered, numbers, renumber, substitute};
use super::state::{Base, State, picked};
use super::traits::{Traits, origins};
use super::{internal, unalias};
use crate::error::{Result, SqlError};
use crate::physical;
use crate::plan::{Node, Plan, TimeColumn};
use crate::planner::window::{Partition, WINDOW_END, WINDOW_START, Windowing};

const NO_WINDOW_HINT: &str = "add a window: FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY ..., window_start, window_end, or \
                              GROUP BY ..., tumble(INTERVAL '1 minute'); or group by the event time itself";

/// Groups the rows of a window, or those of equal event time.
pub(super) fn lower(aggregate: &Aggregate, state: State) -> Result<State> {
    let (mut state, same_time) = match &state.base {
        Base::Windowed { .. } => (state, None),
        Base::Rows(_) => {
            let (state, column) = by_time(aggregate, state)?;
            (state, Some(column))
        }
        Base::Table { name, .. } => return Err(super::lookup::alone(name)),
    };
    let below = state.take_filters_below();
    let Base::Windowed { input, by, time } = state.base else {
        return Err(internal("aggregate without a window"));
    };
    let width = input.schema.fields().len();
    let mut keys = Keys::sort_out(aggregate, &state.exprs, width, by.window, same_time)?;
    check_partition(&keys.exprs, &by, &input.schema)?;
    check_filters(&state.filters, &by, width)?;
    let above = state
        .filters
        .iter()
        .map(|filter| bounds_only(filter, width, "condition"))
        .collect::<Result<Vec<_>>>()?;
    let mut aggregates = aggregate
        .aggr_expr
        .iter()
        .map(|expr| argument(expr, aggregate, &state.exprs, width))
        .collect::<Result<Vec<_>>>()?;
    let read = keys.exprs.iter().chain(&aggregates).flat_map(numbers).chain([time.index]);
    let read: Vec<usize> = read.collect::<BTreeSet<_>>().into_iter().collect();
    let input = narrowed(input, &below, &read, time)?;
    let place = |index: usize| read.binary_search(&index).ok();
    let time = TimeColumn { index: place(time.index).unwrap_or(time.index), ..time };
    for expr in keys.exprs.iter_mut().chain(&mut aggregates) {
        *expr = renumber(expr, |index| place(index).map(numbered))?;
    }
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
            window: by.window,
            time,
            program: Arc::new(program),
            label,
        },
    };
    Ok(State { base: Base::Rows(plan), exprs, filters: above })
}

/// Filters a plan, and leaves columns that are not read: with several workers rows may move. A plan does not change when
/// its source gets a column more, so that a checkpoint is gone on from.
fn narrowed(input: Plan, filters: &[Expr], read: &[usize], time: TimeColumn) -> Result<Plan> {
    let fields = input.schema.fields();
    if filters.is_empty() && read.len() == fields.len() && !has_all_columns_of_a_source(&input) {
        return Ok(input);
    }
    let names: Vec<String> = read.iter().map(|&index| fields[index].name().clone()).collect();
    let exprs: Vec<Expr> = read.iter().copied().map(numbered).collect();
    let origins: Vec<Option<usize>> = read.iter().copied().map(Some).collect();
    let mut traits = Traits::of_built(&input).pick(&origins);
    let index = read.iter().position(|&index| index == time.index);
    traits.times = index.map(|index| TimeColumn { index, ..time }).into_iter().collect();
    picked(input, filters, &exprs, &names, &traits)
}

fn has_all_columns_of_a_source(plan: &Plan) -> bool {
    match &plan.node {
        Node::Scan(_) => true,
        Node::Transform { input, .. } => {
            let is_as_wide = plan.schema.fields().len() == input.schema.fields().len();
            is_as_wide && has_all_columns_of_a_source(input)
        }
        _ => false,
    }
}

/// Rows that are grouped by their event time: windows of one unit of it, whose start is that time. Gives the column too.
fn by_time(aggregate: &Aggregate, state: State) -> Result<(State, usize)> {
    let traits = Traits::of(&aggregate.input);
    let Some((_, time)) = traits.time_among(&origins(&aggregate.group_expr, &aggregate.input))
    else {
        return Err(SqlError::unsupported("aggregate without a window is not supported")
            .hint(NO_WINDOW_HINT));
    };
    let input = state.build(&traits, aggregate.input.schema().as_arrow())?;
    let refused = |error: OperatorError| internal(&error.to_string());
    let kind = TimeType::new(input.schema.field(time.index).data_type()).map_err(refused)?;
    let window = WindowSpec::tumble(kind.unit_ns(), 0).map_err(refused)?;
    let by = Windowing { window: Window::Aligned(window), partition: Partition::GroupKeys };
    Ok((State::over(Base::Windowed { input, by, time }), time.index))
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
    fn sort_out(
        aggregate: &Aggregate,
        exprs: &[Expr],
        width: usize,
        window: Window,
        same_time: Option<usize>,
    ) -> Result<Self> {
        let mut sorted = Self { exprs: Vec::new(), indexes: Vec::new(), output: Vec::new() };
        let (mut has_start, mut has_end) = (false, false);
        for (index, group) in aggregate.group_expr.iter().enumerate() {
            if matches!(group, Expr::GroupingSet(_)) {
                return Err(SqlError::unsupported(
                    "GROUPING SETS, CUBE or ROLLUP is not supported in a streaming query",
                )
                .hint("write one query per grouping"));
            }
            let mut expr = substitute(unalias(group), aggregate.input.schema(), exprs)?;
            if same_time.is_some() && number(&expr) == same_time {
                expr = numbered(width);
            }
            let read = numbers(&expr);
            if read.iter().all(|n| *n < width) {
                sorted.output.push(numbered(2 + sorted.exprs.len()));
                sorted.exprs.push(expr);
                sorted.indexes.push(index);
            } else {
                has_start |= number(&expr) == Some(width);
                has_end |= number(&expr) == Some(width + 1);
                sorted.output.push(bounds_only(&expr, width, "group key")?);
            }
        }
        let (is_known, hint) = match window {
            Window::Aligned(window) if window.is_cumulate() => {
                (has_end, "several windows share a start: add window_start, window_end to GROUP BY")
            }
            Window::Count(_) => (
                has_start && has_end,
                "several windows may share a bound: add window_start, window_end to GROUP BY",
            ),
            _ => (has_start || has_end, "add window_start, window_end to GROUP BY"),
        };
        if is_known {
            return Ok(sorted);
        }
        Err(SqlError::query("aggregate over a window is not grouped by the window").hint(hint))
    }
}

/// Refuses a grouping that is not by what the window keeps apart: bounds of a session mean something for its rows only.
fn check_partition(keys: &[Expr], by: &Windowing, schema: &SchemaRef) -> Result<()> {
    let Partition::Columns(columns) = &by.partition else { return Ok(()) };
    if !by.depends_on_rows() {
        return Ok(());
    }
    let grouped: Vec<Option<usize>> = keys.iter().map(number).collect();
    if let Some(column) = columns.iter().find(|column| !grouped.contains(&Some(**column))) {
        return Err(SqlError::query(format!(
            "column \"{}\" partitions {} and is not in GROUP BY",
            schema.field(*column).name(),
            by.name()
        ))
        .hint("group by all columns of PARTITION BY"));
    }
    let is_extra = |key: &Option<usize>| !key.is_some_and(|column| columns.contains(&column));
    let Some(extra) = grouped.iter().position(is_extra) else { return Ok(()) };
    let name = keys.get(extra).map(|key| describe(key, schema)).unwrap_or_default();
    Err(SqlError::query(format!("group key \"{name}\" does not partition {}", by.name()))
        .hint("name it in PARTITION BY of the window, or write the window in GROUP BY"))
}

/// Refuses a condition on rows that stands above a window whose bounds depend on rows.
fn check_filters(filters: &[Expr], by: &Windowing, width: usize) -> Result<()> {
    let reads_rows = |filter: &Expr| numbers(filter).into_iter().any(|n| n < width);
    if by.depends_on_rows() && filters.iter().any(reads_rows) {
        return Err(SqlError::unsupported(format!(
            "condition on the rows of {} is not supported above it",
            by.name()
        ))
        .hint(format!(
            "filter before: FROM {}((SELECT * FROM t WHERE ...), ...), or write the window in GROUP BY",
            by.name()
        )));
    }
    Ok(())
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

pub(super) fn label(input: &Plan, keys: &[Expr], aggregates: &[Expr]) -> String {
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
