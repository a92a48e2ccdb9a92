//! Calls over frames: `f(...) OVER (PARTITION BY ... ORDER BY ts ...)` on event time.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::expr::{
    AggregateFunction, NullTreatment, WindowFunction, WindowFunctionParams,
};
use datafusion_expr::logical_plan::Window;
use datafusion_expr::{
    AggregateUDF, Expr, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use driftline_operators::over::{Call, Frame, FrameAggregates, FrameUnits, OtherRow, Over, Rank};
use driftline_operators::time::SPAN_NS_MAX;

use super::columns::{describe, numbered, substitute};
use super::state::{Base, State};
use super::traits::Traits;
use super::{internal, refused, unalias};
use crate::error::{Result, SqlError};
use crate::physical;
use crate::plan::{Node, Plan, TimeColumn};

/// Most rows from the start of a partition that NTH_VALUE keeps for ever.
const NTH_MAX: i64 = 1_000;

const ORDER_HINT: &str = "order by the event-time column: OVER (PARTITION BY ... ORDER BY ts)";

/// How much later rows leave an OVER than they come.
pub(super) enum Delay {
    /// By so much event time.
    Ns(i64),
    /// By rows of their partition: there is no telling.
    Rows,
}

/// The order and the delay of an OVER; `None` if it is none that could be lowered.
pub(super) fn delay(window: &Window, traits: &Traits) -> Option<(TimeColumn, Delay)> {
    let mut time = None;
    let (mut ns, mut waits) = (0, false);
    for expr in &window.window_expr {
        let call = call(expr).ok()?;
        time = Some(order(call, &window.input, traits).ok()?.0);
        match kind(call).ok()? {
            Kind::Rank(_) => {}
            Kind::Shift(sign) => waits |= shift(call, sign).ok()? > 0,
            Kind::Aggregate(_) | Kind::Nth(_) => match frame(call).ok()? {
                Frame { units: FrameUnits::Range, end, .. } => ns = ns.max(end),
                Frame { units: FrameUnits::Rows, end, .. } => waits |= end > 0,
            },
        }
    }
    Some((time?, if waits { Delay::Rows } else { Delay::Ns(ns) }))
}

/// What is called.
enum Kind<'a> {
    Aggregate(&'a Arc<AggregateUDF>),
    /// LAG or LEAD: the sign of their offset.
    Shift(i64),
    /// FIRST_VALUE and LAST_VALUE, or `None` for NTH_VALUE.
    Nth(Option<i64>),
    Rank(Rank),
}

/// Lowers calls that share a partition and an order.
pub(super) fn lower(window: &Window, state: State) -> Result<State> {
    let traits = Traits::of(&window.input);
    let schema = window.input.schema().as_arrow();
    let plan = state.build(&traits, schema)?;
    let width = plan.schema.fields().len();
    let mut inputs = Inputs { input: &window.input, width, computed: Vec::new() };
    let (mut time, mut over) = (None, None);
    let mut columns = Vec::new();
    for expr in &window.window_expr {
        let call = call(expr)?;
        let (order_by, ties) = order(call, &window.input, &traits)?;
        time = Some(order_by);
        let over = match &mut over {
            Some(over) => over,
            none => none.insert(Building {
                partition: inputs.columns(&call.params.partition_by)?,
                ties: ties
                    .iter()
                    .map(|(expr, options)| Ok((inputs.column(expr)?, *options)))
                    .collect::<Result<_>>()?,
                groups: Vec::new(),
                calls: Vec::new(),
            }),
        };
        columns.push(over.add(call, &mut inputs)?);
    }
    let (Some(time), Some(over)) = (time, over) else { return Err(internal("empty OVER")) };
    let input = inputs.build(plan, &traits)?;
    let plan = over.finish(input, time)?;
    let first = plan.schema.fields().len() - columns.len();
    let mut state = State::over(Base::Rows(plan));
    state.exprs.drain(width..first);
    Ok(state)
}

/// The columns of the input, and those computed for partitions and arguments.
struct Inputs<'a> {
    input: &'a LogicalPlan,
    width: usize,
    computed: Vec<Expr>,
}

impl Inputs<'_> {
    /// The column that an expression is, or that will be computed for it.
    fn column(&mut self, expr: &Expr) -> Result<usize> {
        let schema = self.input.schema();
        // An aggregate of the input is a column there, named after how it is computed.
        let named = |expr: Expr| match &expr {
            Expr::AggregateFunction(_) => {
                let name = expr.schema_name().to_string();
                Ok(match schema.index_of_column_by_name(None, &name) {
                    Some(index) => {
                        Transformed::yes(Expr::Column(Column::from(schema.qualified_field(index))))
                    }
                    None => Transformed::no(expr),
                })
            }
            _ => Ok(Transformed::no(expr)),
        };
        let expr = unalias(expr).clone().transform_up(named).map_err(|error| refused(&error))?.data;
        if let Expr::Column(column) = &expr
            && let Some(index) = schema.maybe_index_of_column(column)
        {
            return Ok(index);
        }
        let all: Vec<Expr> = (0..self.width).map(numbered).collect();
        let expr = substitute(&expr, schema, &all)?;
        let index = self.computed.iter().position(|other| *other == expr);
        Ok(self.width
            + index.unwrap_or_else(|| {
                self.computed.push(expr);
                self.computed.len() - 1
            }))
    }

    fn columns(&mut self, exprs: &[Expr]) -> Result<Vec<usize>> {
        exprs.iter().map(|expr| self.column(expr)).collect()
    }

    /// An expression as users would read it.
    fn describe(&self, expr: &Expr) -> String {
        let schema = self.input.schema();
        let names =
            schema.fields().iter().map(|field| Expr::Column(Column::new_unqualified(field.name())));
        let named = substitute(unalias(expr), schema, &names.collect::<Vec<_>>());
        named
            .map_or_else(|_| expr.to_string(), |named| describe(&named, &Arc::new(Schema::empty())))
    }

    fn data_type(&self, expr: &Expr) -> Result<DataType> {
        use datafusion_expr::ExprSchemable;
        unalias(expr).get_type(self.input.schema()).map_err(|error| refused(&error))
    }

    /// The plan with the computed columns.
    fn build(self, plan: Plan, traits: &Traits) -> Result<Plan> {
        if self.computed.is_empty() {
            return Ok(plan);
        }
        let mut names: Vec<String> =
            plan.schema.fields().iter().map(|field| field.name().clone()).collect();
        names.extend((0..self.computed.len()).map(|n| format!("argument_{n}")));
        let mut state = State::over(Base::Rows(plan));
        state.exprs.extend(self.computed);
        state.build_named(traits, &names)
    }
}

/// An OVER on its way.
struct Building {
    partition: Vec<usize>,
    ties: Vec<(usize, SortOptions)>,
    groups: Vec<Group>,
    calls: Vec<Planned>,
}

/// Aggregates over one frame.
struct Group {
    frame: Frame,
    combines: bool,
    /// Columns that they read, by the column of the input.
    arguments: Vec<usize>,
    /// Over these, each with its name.
    aggregates: Vec<(Expr, String)>,
}

/// One call.
struct Planned {
    /// Its column's name.
    name: String,
    call: Call,
    /// What EXPLAIN prints.
    label: String,
    /// The type of a value.
    kind: Option<DataType>,
}

impl Building {
    /// Adds a call; answers with its place.
    fn add(&mut self, call: &WindowFunction, inputs: &mut Inputs<'_>) -> Result<usize> {
        let WindowFunctionParams { args, filter, distinct, null_treatment, .. } = &call.params;
        let name = call.fun.name();
        if *null_treatment == Some(NullTreatment::IgnoreNulls) {
            return Err(unsupported(name, "with IGNORE NULLS")
                .hint("leave nulls out in a subquery: FROM (SELECT ... WHERE x IS NOT NULL)"));
        }
        let called = kind(call)?;
        if !matches!(called, Kind::Aggregate(_)) && (filter.is_some() || *distinct) {
            return Err(unsupported(name, "with FILTER or DISTINCT").hint("leave it away"));
        }
        let args_described: Vec<String> = args.iter().map(|arg| inputs.describe(arg)).collect();
        let mut label = format!("{name}({})", args_described.join(", "));
        let mut value_type = None;
        let planned = match called {
            Kind::Aggregate(udf) => {
                let frame = frame(call)?;
                label = format!("{label} {frame}");
                self.aggregate(udf, call, frame, inputs)?
            }
            Kind::Rank(rank) => Call::Rank(rank),
            Kind::Shift(sign) => {
                let row = OtherRow::Shift(shift(call, sign)?);
                value(call, row, inputs, &mut value_type)?
            }
            Kind::Nth(n) => {
                let frame = frame(call)?;
                label = format!("{label} {frame}");
                let n = match n {
                    Some(n) => n,
                    None => integer(name, args.get(1))?.unwrap_or(1),
                };
                if frame.start.is_none() && n > NTH_MAX {
                    return Err(unsupported(
                        name,
                        &format!("of row {n} of a frame without a start"),
                    )
                    .hint(format!("give the frame a start, or ask for a row up to {NTH_MAX}")));
                }
                value(call, OtherRow::Nth(frame, n), inputs, &mut value_type)?
            }
        };
        let planned = Planned { name: name.to_owned(), call: planned, label, kind: value_type };
        self.calls.push(planned);
        Ok(self.calls.len() - 1)
    }

    /// Adds an aggregate to those of its frame.
    fn aggregate(
        &mut self,
        udf: &Arc<AggregateUDF>,
        call: &WindowFunction,
        frame: Frame,
        inputs: &mut Inputs<'_>,
    ) -> Result<Call> {
        let WindowFunctionParams { args, filter, distinct, null_treatment, .. } = &call.params;
        let combines = combines(udf.name(), *distinct);
        if !combines && frame.start.is_none() {
            return Err(unsupported(udf.name(), "over a frame without a start")
                .hint("it would keep every row: give the frame a start, such as RANGE INTERVAL '1 hour' PRECEDING"));
        }
        let index =
            self.groups.iter().position(|group| group.frame == frame && group.combines == combines);
        let index = index.unwrap_or_else(|| {
            let (arguments, aggregates) = (Vec::new(), Vec::new());
            self.groups.push(Group { frame, combines, arguments, aggregates });
            self.groups.len() - 1
        });
        let group = &mut self.groups[index];
        let mut read = |expr: &Expr| {
            // Constants are seen to by the aggregate.
            if let constant @ Expr::Literal(..) = unalias(expr) {
                return Ok(constant.clone());
            }
            let column = inputs.column(expr)?;
            let place = group.arguments.iter().position(|known| *known == column);
            Ok::<_, SqlError>(numbered(place.unwrap_or_else(|| {
                group.arguments.push(column);
                group.arguments.len() - 1
            })))
        };
        let args = args.iter().map(&mut read).collect::<Result<Vec<_>>>()?;
        let filter = filter.as_deref().map(&mut read).transpose()?.map(Box::new);
        let (udf, distinct) = (Arc::clone(udf), *distinct);
        let aggregate =
            AggregateFunction::new_udf(udf, args, distinct, filter, Vec::new(), *null_treatment);
        group.aggregates.push((Expr::AggregateFunction(aggregate), call.fun.name().to_owned()));
        Ok(Call::Aggregate { group: index, index: group.aggregates.len() - 1 })
    }

    fn finish(self, input: Plan, time: TimeColumn) -> Result<Plan> {
        let mut aggregates = Vec::new();
        for group in self.groups {
            let schema = narrow(&input.schema, &group.arguments);
            let (exprs, names): (Vec<Expr>, Vec<String>) = group.aggregates.into_iter().unzip();
            let program = physical::GroupProgram::try_new(&schema, (&[], &[]), (&exprs, &names))?;
            aggregates.push(FrameAggregates {
                frame: group.frame,
                combines: group.combines,
                arguments: group.arguments,
                schema,
                program: Arc::new(program),
            });
        }
        let mut fields = input.schema.fields().to_vec();
        let (mut calls, mut labels) = (Vec::new(), Vec::new());
        for Planned { name, call, label, kind } in self.calls {
            let field = match &call {
                Call::Aggregate { group, index } => {
                    let fields = aggregates.get(*group).map(|group| group.program.output_fields());
                    let field = fields.and_then(|fields| fields.get(*index).cloned());
                    let field = field.ok_or_else(|| internal("aggregate without a field"))?;
                    Arc::new(field.as_ref().clone().with_name(name))
                }
                Call::Value { .. } => {
                    let kind = kind.ok_or_else(|| internal("value without a type"))?;
                    Arc::new(Field::new(name, kind, true))
                }
                Call::Rank(_) => Arc::new(Field::new(name, DataType::UInt64, false)),
            };
            fields.push(field);
            calls.push(call);
            labels.push(label);
        }
        let schema = Arc::new(Schema::new(fields));
        let over = Over {
            partition: self.partition,
            time_index: time.index,
            ties: self.ties,
            aggregates,
            calls,
            schema: Arc::clone(&schema),
        };
        let lag_ns = time.lag_ns.saturating_add(over.range_after_ns());
        Ok(Plan {
            time: (over.rows_after() == 0).then_some(TimeColumn { lag_ns, ..time }),
            window_bounds: input.window_bounds.clone(),
            schema,
            node: Node::Over { input: Box::new(input), time, over, label: labels.join(", ") },
        })
    }
}

/// A call for the value of another row, and the value's type.
fn value(
    call: &WindowFunction,
    row: OtherRow,
    inputs: &mut Inputs<'_>,
    value_type: &mut Option<DataType>,
) -> Result<Call> {
    let name = call.fun.name();
    let args = &call.params.args;
    let Some(value) = args.first() else {
        return Err(SqlError::query(format!("function \"{name}\" takes a value"))
            .hint(format!("write {name}(x)")));
    };
    let kind = inputs.data_type(value)?;
    if kind == DataType::Null {
        return Err(unsupported(name, "of NULL").hint("give it a column"));
    }
    let missing = match (row, args.get(2)) {
        (OtherRow::Shift(_), Some(default)) => constant(name, default)?,
        _ => ScalarValue::Null,
    };
    let missing = missing.cast_to(&kind).and_then(|missing| missing.to_array());
    let missing: ArrayRef = missing.map_err(|error| refused(&error))?;
    *value_type = Some(kind);
    Ok(Call::Value { column: inputs.column(value)?, row, missing })
}

fn narrow(schema: &SchemaRef, columns: &[usize]) -> SchemaRef {
    let fields = columns.iter().filter_map(|index| schema.fields().get(*index).cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn call(expr: &Expr) -> Result<&WindowFunction> {
    match unalias(expr) {
        Expr::WindowFunction(call) => Ok(call),
        _ => Err(internal("window function is not a call")),
    }
}

fn unsupported(name: &str, what: &str) -> SqlError {
    SqlError::unsupported(format!(
        "window function \"{name}\" {what} is not supported in a streaming query"
    ))
}

fn kind(call: &WindowFunction) -> Result<Kind<'_>> {
    let udf = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(udf) => return Ok(Kind::Aggregate(udf)),
        WindowFunctionDefinition::WindowUDF(udf) => udf,
    };
    Ok(match udf.name() {
        "row_number" => Kind::Rank(Rank::RowNumber),
        "rank" => Kind::Rank(Rank::Rank),
        "dense_rank" => Kind::Rank(Rank::DenseRank),
        "lag" => Kind::Shift(-1),
        "lead" => Kind::Shift(1),
        "first_value" => Kind::Nth(Some(1)),
        "last_value" => Kind::Nth(Some(-1)),
        "nth_value" => Kind::Nth(None),
        name => {
            return Err(unsupported(name, "OVER a stream")
                .hint("it needs all rows of its partition, which has no end"));
        }
    })
}

/// The event-time column that orders a call's rows, and what orders those of one time.
fn order<'a>(
    call: &'a WindowFunction,
    input: &LogicalPlan,
    traits: &Traits,
) -> Result<(TimeColumn, Vec<(&'a Expr, SortOptions)>)> {
    let name = call.fun.name();
    let [first, ties @ ..] = call.params.order_by.as_slice() else {
        return Err(unsupported(name, "OVER without ORDER BY").hint(ORDER_HINT));
    };
    let index = match unalias(&first.expr) {
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        _ => None,
    };
    let Some(time) = traits.times.iter().find(|time| Some(time.index) == index) else {
        let hint = match traits.times.first() {
            Some(time) => {
                let column = input.schema().field(time.index).name();
                format!("order by the event time: OVER (PARTITION BY ... ORDER BY {column})")
            }
            None => "the relation has no event time, such as a source with a WATERMARK has; behind LEAD or \
                     ROWS ... FOLLOWING there is none"
                .to_owned(),
        };
        let also = match name {
            "row_number" => {
                "; a window's results may be numbered in any order: PARTITION BY window_start, window_end"
            }
            _ => "",
        };
        return Err(unsupported(name, "OVER rows that are not ordered by event time")
            .hint(format!("{hint}{also}{}", top_hint(name))));
    };
    if !first.asc {
        return Err(unsupported(name, "OVER rows from the last to the first").hint(format!(
            "a stream has no last row: order by event time ascending, or take the last of each window: GROUP BY a \
             window, with last_value(x ORDER BY ts), or ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY ... DESC){}",
            top_hint(name)
        )));
    }
    let ties: Vec<_> = ties
        .iter()
        .map(|sort| {
            (&sort.expr, SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first })
        })
        .collect();
    if !ties.is_empty()
        && matches!(kind(call), Ok(Kind::Aggregate(_) | Kind::Nth(_)))
        && call.params.window_frame.units == WindowFrameUnits::Range
    {
        return Err(unsupported(name, "with RANGE and more than one ORDER BY column")
            .hint("write a frame of rows: ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"));
    }
    Ok((*time, ties))
}

/// What else a call may ask for whose rows have another order.
fn top_hint(name: &str) -> &'static str {
    match name {
        "row_number" => {
            "; or keep the first rows of each key as they are by now: WHERE place <= 10 in an outer query that ends with \
             EMIT ON UPDATE RETAIN INTERVAL '1 hour'"
        }
        _ => "",
    }
}

/// The frame of a call.
fn frame(call: &WindowFunction) -> Result<Frame> {
    let name = call.fun.name();
    let WindowFrame { units, start_bound, end_bound, .. } = &call.params.window_frame;
    let units = match units {
        WindowFrameUnits::Rows => FrameUnits::Rows,
        WindowFrameUnits::Range => FrameUnits::Range,
        WindowFrameUnits::Groups => {
            return Err(unsupported(name, "with GROUPS")
                .hint("use RANGE with an interval, which takes rows of equal time together"));
        }
    };
    let distance = |value: &ScalarValue| distance(name, units, value);
    let start = match start_bound {
        WindowFrameBound::Preceding(value) if value.is_null() => None,
        WindowFrameBound::Preceding(value) => Some(-distance(value)?),
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Following(value) => Some(distance(value)?),
    };
    let end = match end_bound {
        WindowFrameBound::Preceding(value) => -distance(value)?,
        WindowFrameBound::CurrentRow => 0,
        WindowFrameBound::Following(value) if value.is_null() => {
            return Err(unsupported(name, "with UNBOUNDED FOLLOWING")
                .hint("a stream has no last row: end the frame at CURRENT ROW, or so many rows or an interval later"));
        }
        WindowFrameBound::Following(value) => distance(value)?,
    };
    Ok(Frame { units, start, end })
}

/// A bound's distance from the row, in rows or nanoseconds.
fn distance(name: &str, units: FrameUnits, value: &ScalarValue) -> Result<i64> {
    let found = match (units, value) {
        (FrameUnits::Rows, ScalarValue::UInt64(Some(rows))) => i64::try_from(*rows).ok(),
        (FrameUnits::Range, ScalarValue::IntervalMonthDayNano(Some(length))) => {
            if length.months != 0 {
                return Err(unsupported(name, "with a frame of months")
                    .hint("months differ in length: write days, up to 400 of them"));
            }
            (i64::from(length.days) * 86_400_000_000_000)
                .checked_add(length.nanoseconds)
                .filter(|ns| (0..=SPAN_NS_MAX).contains(ns))
        }
        _ => None,
    };
    let hint = match units {
        FrameUnits::Rows => "write a number of rows: ROWS BETWEEN 9 PRECEDING AND CURRENT ROW",
        FrameUnits::Range => {
            "write an interval from 0 to 400 days: RANGE BETWEEN INTERVAL '5 minutes' PRECEDING AND CURRENT ROW"
        }
    };
    found.ok_or_else(|| {
        SqlError::query(format!("window function \"{name}\" has a frame bound that is no distance"))
            .hint(hint)
    })
}

/// How many rows further on LAG and LEAD look.
fn shift(call: &WindowFunction, sign: i64) -> Result<i64> {
    let offset = integer(call.fun.name(), call.params.args.get(1))?.unwrap_or(1);
    Ok(offset.saturating_mul(sign))
}

/// An argument that is a constant number.
fn integer(name: &str, expr: Option<&Expr>) -> Result<Option<i64>> {
    let Some(expr) = expr else { return Ok(None) };
    match constant(name, expr)?.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => Ok(number),
        _ => Err(SqlError::query(format!("function \"{name}\" takes a whole number of rows"))
            .hint("write lag(x, 2)")),
    }
}

fn constant(name: &str, expr: &Expr) -> Result<ScalarValue> {
    physical::constant(Some(unalias(expr))).map_err(|_| {
        SqlError::unsupported(format!(
            "function \"{name}\" with an offset or default that is not constant"
        ))
        .hint("write constants; use coalesce(lag(x) OVER (...), y) for another column's value")
    })
}

/// Whether partial states of an aggregate may be merged in any order and do not hold all rows.
fn combines(name: &str, distinct: bool) -> bool {
    let keeps_rows = matches!(
        name,
        "array_agg"
            | "string_agg"
            | "median"
            | "percentile_cont"
            | "first_value"
            | "last_value"
            | "nth_value"
    );
    !distinct && !keeps_rows
}

/// The traits of what comes out: only the column that orders rows is still an event time.
pub(super) fn traits(window: &Window, mut input: Traits) -> Traits {
    let Some((time, delay)) = delay(window, &input) else {
        return input;
    };
    input.times.clear();
    input.together.clear();
    if let Delay::Ns(ns) = delay {
        input.times.push(TimeColumn { lag_ns: time.lag_ns.saturating_add(ns), ..time });
        // Rows of one time leave together.
        input.together.push(time.index);
    }
    input
}
