//! Refuses on the syntax tree what a stream cannot answer, and brings windows into one form.
//!
//! This step comes first because only the syntax tree knows where things stand, and because DataFusion drops some
//! clauses silently.

use std::ops::ControlFlow;

use datafusion_expr::Volatility;
use sqlparser::ast::{
    Distinct as SelectDistinct, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, GroupByExpr, Query, Select, SetExpr, SetOperator,
    SetQuantifier, Spanned, TableFactor, Value, Visit, Visitor, WindowType,
};
use sqlparser::tokenizer::Span;

use super::group_by;
use super::joins::{self, JOIN_HINT};
use crate::error::{Result, SqlError};
use crate::functions::{ASOF, Functions};
use crate::parse::{fold, position};

/// Most tables in one WITH clause.
const TABLES_MAX: usize = 32;
/// Most columns in one SELECT.
const COLUMNS_MAX: usize = 4_096;

/// Checks and rewrites a query in place.
pub(super) fn prepare(query: &mut Query, functions: &Functions) -> Result<()> {
    if let Some(with) = &mut query.with {
        if with.recursive {
            return Err(refuse("recursive queries", with.with_token.0.span)
                .hint("write the steps as views, one after another"));
        }
        if with.cte_tables.len() > TABLES_MAX {
            return Err(SqlError::query(format!("WITH has more than {TABLES_MAX} tables"))
                .at(position(with.with_token.0.span))
                .hint("create views"));
        }
        for table in &mut with.cte_tables {
            prepare(&mut table.query, functions)?;
        }
    }
    check_tail(query)?;
    let mut branches = 1;
    prepare_body(&mut query.body, functions, &mut branches)
}

/// Most branches of one UNION.
const BRANCHES_MAX: usize = 64;

fn prepare_body(body: &mut SetExpr, functions: &Functions, branches: &mut usize) -> Result<()> {
    let span = body.span();
    match body {
        SetExpr::Select(select) => prepare_select(select, functions),
        SetExpr::Query(inner) => prepare(inner, functions),
        SetExpr::SetOperation {
            op: SetOperator::Union,
            set_quantifier: SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None,
            left,
            right,
        } => {
            *branches += 1;
            if *branches > BRANCHES_MAX {
                return Err(SqlError::query(format!(
                    "UNION has more than {BRANCHES_MAX} branches"
                ))
                .at(position(span))
                .hint("put what belongs together into one source"));
            }
            prepare_body(left, functions, branches)?;
            prepare_body(right, functions, branches)
        }
        SetExpr::SetOperation { op: SetOperator::Union, .. } => Err(refuse("UNION BY NAME", span)
            .hint("select the columns in one order, and write UNION ALL")),
        SetExpr::SetOperation { op, .. } => Err(refuse(&op.to_string(), span)
            .hint("run one query per branch, or insert both branches into one sink")),
        SetExpr::Values(_) => Err(refuse("VALUES as a relation", span)
            .hint("a streaming query reads sources; INSERT INTO source VALUES (...) adds rows")),
        _ => Err(refuse("this statement in place of a SELECT", span).hint("write a SELECT")),
    }
}

/// What may follow the body of a query.
fn check_tail(query: &Query) -> Result<()> {
    let body = query.body.span();
    if let Some(order_by) = &query.order_by {
        let span = order_by.span();
        return Err(refuse("ORDER BY", if span == Span::empty() { body } else { span })
            .hint("a stream has no end to sort at; windows come out in order of their end"));
    }
    if let Some(limit) = &query.limit_clause {
        let span = limit.span();
        return Err(refuse("LIMIT", if span == Span::empty() { body } else { span })
            .hint("stop reading the subscription instead"));
    }
    let clauses = [
        ("FETCH", query.fetch.is_some()),
        ("FOR UPDATE", !query.locks.is_empty()),
        ("FOR XML or FOR JSON", query.for_clause.is_some()),
        ("SETTINGS", query.settings.is_some()),
        ("FORMAT", query.format_clause.is_some()),
        ("the pipe operator", !query.pipe_operators.is_empty()),
    ];
    match clauses.into_iter().find(|(_, is_there)| *is_there) {
        Some((clause, _)) => Err(refuse(clause, body).hint("leave the clause away")),
        None => Ok(()),
    }
}

fn prepare_select(select: &mut Select, functions: &Functions) -> Result<()> {
    check_clauses(select)?;
    let start = select.select_token.0.span;
    let [table] = select.from.as_mut_slice() else {
        return Err(match select.from.get(1) {
            None => {
                refuse("SELECT without FROM", start).hint("read a source, a view or a detector")
            }
            Some(second) => refuse("a join by comma", second.span()).hint(JOIN_HINT),
        });
    };
    joins::prepare(table, functions)?;
    let mut check = ExpressionCheck { functions, doubling: 0 };
    let mut visit = || {
        select.projection.visit(&mut check)?;
        select.selection.visit(&mut check)?;
        select.group_by.visit(&mut check)?;
        select.having.visit(&mut check)?;
        select.qualify.visit(&mut check)?;
        select.named_window.visit(&mut check)
    };
    if let ControlFlow::Break(error) = visit() {
        return Err(error);
    }
    group_by::rewrite(select)
}

fn check_clauses(select: &Select) -> Result<()> {
    let start = select.select_token.0.span;
    if let Some(SelectDistinct::On(_)) = &select.distinct {
        return Err(refuse("DISTINCT ON", start).hint(
            "number the rows with ROW_NUMBER() OVER (...), and keep the first in an outer query",
        ));
    }
    if select.projection.len() > COLUMNS_MAX {
        return Err(SqlError::query(format!("SELECT has more than {COLUMNS_MAX} columns"))
            .at(position(start))
            .hint("select fewer columns"));
    }
    if let GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers) = &select.group_by
        && !modifiers.is_empty()
    {
        return Err(refuse("GROUP BY ... WITH", start).hint("write one query per grouping"));
    }
    let clauses = [
        ("TOP", select.top.is_some()),
        ("INTO", select.into.is_some()),
        ("LATERAL VIEW", !select.lateral_views.is_empty()),
        ("PREWHERE", select.prewhere.is_some()),
        ("CONNECT BY", !select.connect_by.is_empty()),
        ("CLUSTER BY", !select.cluster_by.is_empty()),
        ("DISTRIBUTE BY", !select.distribute_by.is_empty()),
        ("SORT BY", !select.sort_by.is_empty()),
        ("SELECT AS VALUE", select.value_table_mode.is_some()),
        ("EXCLUDE", select.exclude.is_some()),
        ("a SELECT modifier", select.select_modifiers.is_some()),
    ];
    match clauses.into_iter().find(|(_, is_there)| *is_there) {
        Some((clause, _)) => Err(refuse(clause, start).hint("leave the clause away")),
        None => Ok(()),
    }
}

pub(super) fn prepare_factor(factor: &mut TableFactor, functions: &Functions) -> Result<()> {
    let span = factor.span();
    match factor {
        TableFactor::Derived { lateral: false, subquery, sample: None, .. } => {
            prepare(subquery, functions)
        }
        TableFactor::Table {
            args,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
            ..
        } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => args
            .iter_mut()
            .flat_map(|args| &mut args.args)
            .try_for_each(|arg| prepare_arg(arg, functions)),
        TableFactor::TableFunction { expr, .. } => prepare_relation(expr, functions),
        TableFactor::NestedJoin { table_with_joins, .. } => {
            joins::prepare(table_with_joins, functions)
        }
        TableFactor::Derived { lateral: true, .. } => Err(refuse("LATERAL", span)
            .hint("join a query that stands alone: JOIN (SELECT ...) AS b ON a.k = b.k AND ...")),
        _ => Err(refuse("this form of FROM", span)
            .hint("read a relation, a subquery, a window such as TUMBLE(...), or LATE(...)")),
    }
}

/// A relation handed to a window function may be a query or another such function.
fn prepare_arg(arg: &mut FunctionArg, functions: &Functions) -> Result<()> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => {
            prepare_relation(expr, functions)
        }
        _ => Ok(()),
    }
}

fn prepare_relation(expr: &mut Expr, functions: &Functions) -> Result<()> {
    match expr {
        Expr::Subquery(query) => prepare(query, functions),
        Expr::Nested(inner) => prepare_relation(inner, functions),
        Expr::Function(Function { args: FunctionArguments::List(list), .. }) => {
            list.args.iter_mut().try_for_each(|arg| prepare_arg(arg, functions))
        }
        Expr::Function(Function { args: FunctionArguments::Subquery(query), .. }) => {
            prepare(query, functions)
        }
        _ => Ok(()),
    }
}

/// Refuses a single expression; for those outside of queries.
pub(super) fn check_expression(expr: &Expr, functions: &Functions) -> Result<()> {
    match expr.visit(&mut ExpressionCheck { functions, doubling: 0 }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Most expressions within each other that DataFusion rewrites to use an operand twice.
const DOUBLING_MAX: usize = 8;

struct ExpressionCheck<'a> {
    functions: &'a Functions,
    /// How many doubling expressions are around the one being visited.
    doubling: usize,
}

/// Whether an operand is doubled: nested in itself, such an expression grows exponentially.
fn doubles(expr: &Expr) -> bool {
    match expr {
        Expr::Between { .. } | Expr::InList { .. } => true,
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident());
            name.is_some_and(|ident| {
                matches!(
                    ident.value.to_lowercase().as_str(),
                    "coalesce" | "ifnull" | "nvl" | "nvl2" | "nullif" | "greatest" | "least"
                )
            })
        }
        _ => false,
    }
}

impl Visitor for ExpressionCheck<'_> {
    type Break = SqlError;

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        self.doubling -= usize::from(doubles(expr));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        self.doubling += usize::from(doubles(expr));
        if self.doubling > DOUBLING_MAX {
            let error = SqlError::query(format!(
                "expression nests more than {DOUBLING_MAX} of coalesce, nullif, greatest, BETWEEN and IN"
            ));
            return ControlFlow::Break(
                error.at(position(expr.span())).hint("compute the inner ones in a subquery"),
            );
        }
        let error = match expr {
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                refuse("a subquery in an expression", expr.span())
                    .hint("a query may stand in FROM; compare with constants or columns")
            }
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
                refuse("GROUPING SETS, CUBE or ROLLUP", expr.span())
                    .hint("write one query per grouping")
            }
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                refuse("a parameter", value.span).hint("write the value into the text")
            }
            Expr::Function(function) => match self.check_function(function) {
                Some(error) => error,
                None => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        ControlFlow::Break(error)
    }
}

impl ExpressionCheck<'_> {
    fn check_function(&self, function: &Function) -> Option<SqlError> {
        let ident = function.name.0.last()?.as_ident()?;
        let (name, span) = (fold(&ident.value, ident.quote_style), ident.span);
        if function.over.is_some() {
            return check_over(&name, span, function);
        }
        if name == ASOF {
            return Some(joins::stray_mark(span));
        }
        if let FunctionArguments::Subquery(_) = function.args {
            return Some(
                refuse("a subquery in an expression", span).hint("a query may stand in FROM"),
            );
        }
        if matches!(name.as_str(), "unnest" | "grouping") {
            return Some(refuse(&format!("function \"{name}\""), span).hint("leave it away"));
        }
        if let Some(udf) = self.functions.scalar.get(&name)
            && udf.signature().volatility != Volatility::Immutable
        {
            return Some(
                refuse(&format!("function \"{name}\""), span).hint(
                    "answers must be a function of the rows: use the event-time column, or let the host put the value \
                     into the row",
                ),
            );
        }
        let aggregate = self.functions.aggregate.get(&name)?;
        let is_ordered = is_ordered(function);
        match aggregate.name() {
            "first_value" | "last_value" | "nth_value" | "array_agg" | "string_agg"
                if !is_ordered =>
            {
                Some(
                    refuse(&format!("aggregate \"{name}\" without ORDER BY"), span).hint(
                        "its result would depend on arrival: add ORDER BY ts inside the call",
                    ),
                )
            }
            "any_value" => {
                Some(refuse(&format!("aggregate \"{name}\""), span).hint(
                    "its result would depend on arrival: use min, or first_value with ORDER BY",
                ))
            }
            "nth_value" | "string_agg" => Some(
                refuse(&format!("aggregate \"{name}\""), span)
                    .hint("it needs its rows in order: use array_agg with ORDER BY"),
            ),
            "array_agg" if is_ordered && is_distinct(function) => Some(
                refuse(&format!("aggregate \"{name}\" with DISTINCT and ORDER BY"), span)
                    .hint("leave DISTINCT away, and use array_distinct on the result"),
            ),
            _ => None,
        }
    }
}

/// Refuses what the planner would leave away from a call over a frame. Frames and orders are looked at later, when names
/// are resolved.
fn check_over(name: &str, span: Span, function: &Function) -> Option<SqlError> {
    let over = |what: &str| refuse(&format!("window function \"{name}\" {what}"), span);
    if !matches!(function.args, FunctionArguments::List(_) | FunctionArguments::None) {
        return Some(over("of a subquery").hint("a query may stand in FROM"));
    }
    if is_ordered(function) {
        return Some(over("with an order of its own").hint(
            "its rows come in the order of OVER (... ORDER BY ts): leave the other ORDER BY or WITHIN GROUP away",
        ));
    }
    if matches!(name, "any_value" | "grouping") {
        return Some(over("OVER").hint("use first_value, which takes the first row of the frame"));
    }
    if let Some(WindowType::WindowSpec(spec)) = &function.over
        && let Some(named) = &spec.window_name
    {
        return Some(
            refuse(&format!("OVER that extends window \"{named}\""), named.span)
                .hint("write OVER w alone, or all of the window within the parentheses"),
        );
    }
    None
}

fn is_ordered(function: &Function) -> bool {
    let inside = match &function.args {
        FunctionArguments::List(list) => {
            list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
        }
        _ => false,
    };
    inside || !function.within_group.is_empty()
}

fn is_distinct(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list)
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

/// A refusal at a place.
pub(super) fn refuse(what: &str, span: Span) -> SqlError {
    SqlError::unsupported(format!("{what} is not supported in a streaming query"))
        .at(position(span))
}
