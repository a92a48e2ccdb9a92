//! Joins of a stream with a table.
//!
//! The table's side is evaluated here, once: its filters and projections, and the index over its keys. What is left is
//! one stateless step over the stream, so that event time and window bounds pass through it. A join above rows that have
//! been assigned to windows is done below them, because it does not matter to an aligned window which copies of a row it
//! holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion_common::{JoinType, NullEquality};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::utils::split_conjunction_owned;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use driftline_operators::expression::Transform;
use driftline_operators::lookup::{Lookup, LookupTable};

use super::columns::{describe, number, numbered, numbers, renumber, substitute};
use super::state::{Base, State, filtered, transform};
use super::{Traits, internal, node};
use crate::error::{Result, SqlError};
use crate::physical;
use crate::plan::{Node, Plan};
use crate::planner::RelationSource;

/// Whether a plan is a join one of whose sides is a table.
pub(super) fn reads_table(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if is_table(&join.left) || is_table(&join.right))
}

/// Whether a plan is a table, filtered and projected or not.
fn is_table(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let source = scan.source.downcast_ref::<RelationSource>();
            source.is_some_and(|source| source.table.is_some())
        }
        LogicalPlan::SubqueryAlias(alias) => is_table(&alias.input),
        LogicalPlan::Filter(filter) => is_table(&filter.input),
        LogicalPlan::Projection(projection) => is_table(&projection.input),
        _ => false,
    }
}

/// A table where a stream is asked for.
pub(super) fn alone(name: &str) -> SqlError {
    SqlError::unsupported(format!("table \"{name}\" is read without a stream"))
        .hint("a table is there to be looked up: FROM stream AS s JOIN table AS t ON s.key = t.key")
}

/// What is known of the result of a join with a table: what is known of the stream.
pub(super) fn traits(join: &Join) -> Traits {
    if is_table(&join.right) {
        return Traits::of(&join.left);
    }
    Traits::of(&join.right).shifted(join.left.schema().fields().len())
}

/// A conjunction, taken apart.
struct Condition {
    /// What is equal, over columns of the stream's side and of the table's.
    equal: Vec<(Expr, Expr)>,
    rest: Vec<Expr>,
}

impl Condition {
    fn of(join: &Join, stream: &LogicalPlan, table: &LogicalPlan) -> Self {
        let reads = |expr: &Expr, side: &LogicalPlan| {
            let columns = expr.column_refs();
            let is_there = |column| side.schema().maybe_index_of_column(column).is_some();
            !columns.is_empty() && columns.into_iter().all(is_there)
        };
        let mut condition = Self { equal: Vec::new(), rest: Vec::new() };
        let pairs = join.on.iter().map(|(a, b)| {
            Expr::BinaryExpr(BinaryExpr::new(
                Box::new(a.clone()),
                Operator::Eq,
                Box::new(b.clone()),
            ))
        });
        let filter = join.filter.clone().into_iter().flat_map(split_conjunction_owned);
        for part in pairs.chain(filter) {
            match part {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right })
                    if reads(&left, stream) && reads(&right, table) =>
                {
                    condition.equal.push((*left, *right));
                }
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right })
                    if reads(&left, table) && reads(&right, stream) =>
                {
                    condition.equal.push((*right, *left));
                }
                part => condition.rest.push(part),
            }
        }
        condition
    }
}

/// Turns a join with a table into one step over the stream.
pub(super) fn lower(join: &Join) -> Result<State> {
    if is_table(&join.left) && is_table(&join.right) {
        return Err(SqlError::unsupported("a join of two tables is not supported")
            .hint("join the stream with one after the other, or keep one table with both"));
    }
    let is_right = is_table(&join.right);
    let (stream, table) =
        if is_right { (&join.left, &join.right) } else { (&join.right, &join.left) };
    let keeps_unmatched = match (join.join_type, is_right) {
        (JoinType::Inner, _) => false,
        (JoinType::Left, true) | (JoinType::Right, false) => true,
        (kind, _) => return Err(refused(kind)),
    };
    if join.null_equality == NullEquality::NullEqualsNull {
        return Err(SqlError::unsupported("a join with a table in which NULL equals NULL")
            .hint("compare with =, which no NULL satisfies"));
    }
    let condition = Condition::of(join, stream, table);
    if condition.equal.is_empty() {
        return Err(SqlError::unsupported("a join with a table that compares no columns")
            .hint("add a condition such as ON s.host = t.host: rows are looked up by key"));
    }
    let table = Table::evaluate(node(table)?, table, &condition)?;
    let joined =
        Lowering { stream: node(stream)?, input: stream, table, condition, keeps_unmatched };
    joined.lower(join, is_right)
}

fn refused(kind: JoinType) -> SqlError {
    let error = SqlError::unsupported(format!(
        "{} JOIN that keeps the rows of a table is not supported",
        kind.to_string().to_uppercase()
    ));
    error.hint(
        "a stream has no end at which to say which rows of the table had no match: use JOIN, or LEFT JOIN with the table on the right",
    )
}

/// The side of the table, evaluated.
struct Table {
    name: String,
    rows: RecordBatch,
    keys: RecordBatch,
}

impl Table {
    fn evaluate(state: State, plan: &LogicalPlan, condition: &Condition) -> Result<Self> {
        let State { base: Base::Table { name, rows }, exprs, filters } = state else {
            return Err(internal("side of a table is not a table"));
        };
        let keys = condition.equal.iter().map(|(_, key)| substitute(key, plan.schema(), &exprs));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let all = concat_batches(&rows.schema(), rows.batches())
            .map_err(|error| SqlError::query(format!("table \"{name}\": {error}")))?;
        let names = |count: usize| (0..count).map(|i| format!("#{i}")).collect::<Vec<_>>();
        let own: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
        let evaluate = |exprs: &[Expr], names: &[String]| {
            let program = physical::Program::try_new(&all.schema(), &filters, exprs, names)?;
            program.apply(&all).map_err(|error| {
                let cause = std::error::Error::source(&error);
                let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
                SqlError::query(format!("table \"{name}\": {error}{cause}"))
                    .hint("mend the table's rows, or the expression over them")
            })
        };
        Ok(Self {
            rows: evaluate(&exprs, &own)?,
            keys: evaluate(&keys, &names(keys.len()))?,
            name: name.clone(),
        })
    }
}

struct Lowering<'a> {
    stream: State,
    input: &'a LogicalPlan,
    table: Table,
    condition: Condition,
    keeps_unmatched: bool,
}

impl Lowering<'_> {
    fn lower(self, join: &Join, is_right: bool) -> Result<State> {
        let Self { mut stream, input, table, condition, keeps_unmatched } = self;
        let below = stream.take_filters_below();
        let keys =
            condition.equal.iter().map(|(key, _)| substitute(key, input.schema(), &stream.exprs));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let State { base, exprs, mut filters } = stream;
        let (plan, window) = match base {
            Base::Rows(plan) => (plan, None),
            Base::Windowed { input, by, time } => (input, Some((by, time))),
            Base::Table { name, .. } => return Err(alone(&name)),
        };
        let below = match &window {
            None => std::mem::take(&mut filters),
            Some((by, _)) if by.depends_on_rows() => {
                return Err(SqlError::unsupported(format!(
                    "a join with a table above {} is not supported",
                    by.name()
                ))
                .hint(format!(
                    "join before: FROM {}((SELECT ... FROM stream JOIN table ON ...), ...)",
                    by.name()
                )));
            }
            Some(_) => below,
        };
        let width = plan.schema.fields().len();
        if keys.iter().flat_map(numbers).any(|n| n >= width) {
            return Err(SqlError::unsupported("a join of window bounds with a table")
                .hint("group by the window first, and join its results"));
        }
        let label = label(&plan, &table.name, &keys, &condition, keeps_unmatched);
        let (plan, keys) = keyed(plan, &below, &keys)?;
        let kinds = keys.iter().map(|key| plan.schema.field(*key).data_type());
        if kinds.zip(table.keys.columns()).any(|(a, b)| a != b.data_type()) {
            return Err(internal("keys of a join are of different types"));
        }
        let added = table.rows.num_columns();
        let index = LookupTable::new(table.rows, table.keys.columns())
            .map_err(|error| SqlError::query(error.to_string()))?;
        let lookup = Lookup::new(Arc::new(index), &plan.schema, keys, width, keeps_unmatched);
        // Bounds come after the columns of the table from now on.
        let shift = |n: usize| Some(numbered(if n < width { n } else { n + added }));
        let own = exprs.iter().map(|expr| renumber(expr, shift)).collect::<Result<Vec<_>>>()?;
        let found: Vec<Expr> = (width..width + added).map(numbered).collect();
        let exprs: Vec<Expr> = if is_right { [own, found].concat() } else { [found, own].concat() };
        let mut filters =
            filters.iter().map(|filter| renumber(filter, shift)).collect::<Result<Vec<_>>>()?;
        let rest = condition.rest.iter().map(|part| substitute(part, &join.schema, &exprs));
        let rest = rest.collect::<Result<Vec<_>>>()?;
        let lookup = match keeps_unmatched && !rest.is_empty() {
            true => with_residual(lookup, &rest, width + added)?,
            false => {
                filters.extend(rest);
                lookup
            }
        };
        let built = Plan {
            schema: lookup.schema(),
            time: plan.time,
            window_bounds: plan.window_bounds.iter().copied().filter(|i| *i < width).collect(),
            node: Node::Lookup { input: Box::new(plan), lookup: Arc::new(lookup), label },
        };
        let base = match window {
            None => Base::Rows(built),
            Some((by, time)) => Base::Windowed { input: built, by, time },
        };
        Ok(State { base, exprs, filters })
    }
}

/// The rows that pass `filters` with the key columns among them, and where these are. Keys that are computed come last.
fn keyed(plan: Plan, filters: &[Expr], keys: &[Expr]) -> Result<(Plan, Vec<usize>)> {
    if let Some(keys) = keys.iter().map(number).collect::<Option<Vec<usize>>>() {
        return Ok((filtered(plan, filters)?, keys));
    }
    let width = plan.schema.fields().len();
    let exprs: Vec<Expr> = (0..width).map(numbered).chain(keys.iter().cloned()).collect();
    let mut names: Vec<String> = plan.schema.fields().iter().map(|f| f.name().clone()).collect();
    names.extend((0..keys.len()).map(|key| format!("key_{key}")));
    let traits = Traits::of_built(&plan);
    let plan = transform(plan, filters, &exprs, &names, &traits)?;
    Ok((plan, (width..width + keys.len()).collect()))
}

/// What else must hold for a row of the table to be a match, where a row without one is kept.
fn with_residual(lookup: Lookup, rest: &[Expr], width: usize) -> Result<Lookup> {
    let read: BTreeSet<usize> = rest.iter().flat_map(numbers).collect();
    if read.iter().any(|n| *n >= width) {
        return Err(SqlError::unsupported(
            "a condition on window bounds in a LEFT JOIN with a table is not supported",
        )
        .hint("put the condition on the bounds into WHERE"));
    }
    let schema = lookup.candidates();
    let names = ["match".to_owned()];
    let program = physical::Program::try_new(&schema, rest, &[numbered(width)], &names)?;
    Ok(lookup.with_residual(Arc::new(program)))
}

fn label(
    plan: &Plan,
    name: &str,
    keys: &[Expr],
    condition: &Condition,
    keeps_unmatched: bool,
) -> String {
    let equal = keys.iter().zip(&condition.equal);
    let equal = equal.map(|(key, (_, of_table))| {
        format!("{} = {}", describe(key, &plan.schema), describe(of_table, &plan.schema))
    });
    let rest = condition.rest.iter().map(|part| describe(part, &plan.schema));
    let conditions: Vec<String> = equal.chain(rest).collect();
    let optional = if keeps_unmatched { "optional " } else { "" };
    format!("{optional}{name} ON {}", conditions.join(" AND "))
}
