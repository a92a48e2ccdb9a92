//! The GROUP BY form of windows, rewritten to the FROM form.
//!
//! `FROM t GROUP BY k, tumble(INTERVAL '5 minutes')` becomes
//! `FROM tumble(t, INTERVAL '5 minutes') GROUP BY k, window_start, window_end`. Where the call is selected, it becomes
//! a struct of both bounds; `w.start` and `w.end` of its alias become the bounds. Sessions and windows of so many rows
//! are told to keep apart what the query groups by.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName, Select, SelectItem,
    Spanned, TableFactor, TableFunctionArgs, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::tokenizer::Span;

use super::prepare::refuse;
use super::window::{WINDOW_END, WINDOW_START};
use crate::error::{Result, SqlError};
use crate::parse::{PARTITION_BY, fold, position};

/// Names that make windows.
const WINDOWS: [&str; 5] = ["tumble", "hop", "cumulate", "session", "count_window"];
/// Those whose bounds depend on rows, and so on whose rows are taken together.
const PARTITIONED: [&str; 2] = ["session", "count_window"];

/// Rewrites one SELECT in place, if it groups by a window.
pub(super) fn rewrite(select: &mut Select) -> Result<()> {
    let Some(call) = find_call(select)? else {
        return check_strays(select);
    };
    let span = call.name.span();
    let Some(table) = select.from.first_mut() else {
        return Err(refuse("SELECT without FROM", span));
    };
    if let Some(join) = table.joins.first() {
        return Err(refuse("a window in GROUP BY over a join", join.relation.span()).hint(
            "window the join in FROM: FROM TUMBLE((SELECT ... FROM a JOIN b ON ...), ts, size) \
             GROUP BY ..., window_start, window_end",
        ));
    }
    window_the_relation(&mut table.relation, &call)?;
    replace_in_group_by(select, &call, span);
    replace_in_select(select, &call, span);
    check_strays(select)
}

/// The window call that the query groups by.
fn find_call(select: &Select) -> Result<Option<Function>> {
    let GroupByExpr::Expressions(exprs, _) = &select.group_by else { return Ok(None) };
    let mut found: Option<Function> = None;
    for expr in exprs {
        let Some(call) = resolve(expr, &select.projection) else { continue };
        match &found {
            Some(other) if !is_same(other, call) => {
                return Err(SqlError::query("query groups by two windows")
                    .at(position(expr.span()))
                    .hint("group by one window; window its result again in an outer query"));
            }
            _ => found = Some(call.clone()),
        }
    }
    Ok(found)
}

/// The window call that an item of GROUP BY is: itself, by alias or by number.
fn resolve<'a>(expr: &'a Expr, projection: &'a [SelectItem]) -> Option<&'a Function> {
    match expr {
        Expr::Function(function) if is_window(function) => Some(function),
        Expr::Nested(inner) => resolve(inner, projection),
        Expr::Identifier(ident) => projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr: Expr::Function(function), alias }
                if is_window(function) && folded(alias) == folded(ident) =>
            {
                Some(function)
            }
            _ => None,
        }),
        Expr::Value(value) => {
            let Value::Number(digits, _) = &value.value else { return None };
            let index = digits.parse::<usize>().ok()?.checked_sub(1)?;
            match projection.get(index)? {
                SelectItem::UnnamedExpr(Expr::Function(function))
                | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. }
                    if is_window(function) =>
                {
                    Some(function)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_window(function: &Function) -> bool {
    is_among(function, &WINDOWS)
}

fn is_among(function: &Function, names: &[&str]) -> bool {
    match function.name.0.as_slice() {
        [part] => part.as_ident().is_some_and(|ident| names.contains(&folded(ident).as_str())),
        _ => false,
    }
}

fn folded(ident: &Ident) -> String {
    fold(&ident.value, ident.quote_style)
}

fn is_same(left: &Function, right: &Function) -> bool {
    left == right || left.to_string().eq_ignore_ascii_case(&right.to_string())
}

fn window_the_relation(relation: &mut TableFactor, call: &Function) -> Result<()> {
    let span = relation.span();
    let (argument, alias) = match relation {
        TableFactor::Table { name, alias, args: None, .. } => {
            let parts: Vec<Ident> = name.0.iter().filter_map(|p| p.as_ident().cloned()).collect();
            (Expr::CompoundIdentifier(parts), alias.take())
        }
        TableFactor::Derived { subquery, alias, .. } => {
            (Expr::Subquery(subquery.clone()), alias.take())
        }
        _ => {
            return Err(SqlError::query("query has a window in FROM and one in GROUP BY")
                .at(position(span))
                .hint("keep one of them: GROUP BY window_start, window_end goes with a window in FROM"));
        }
    };
    let FunctionArguments::List(list) = &call.args else {
        return Err(SqlError::query("window has no size").at(position(call.name.span())));
    };
    let mut args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))];
    // The alias names the windowed relation, not the one inside.
    let name = alias.as_ref().map(|alias| folded(&alias.name));
    args.extend(list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts))) => {
            match parts.as_slice() {
                [relation, column] if Some(folded(relation)) == name => {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column.clone())))
                }
                _ => arg.clone(),
            }
        }
        _ => arg.clone(),
    }));
    if is_among(call, &PARTITIONED) {
        args.push(FunctionArg::Named {
            name: Ident::with_span(call.name.span(), PARTITION_BY),
            arg: FunctionArgExpr::Wildcard,
            operator: FunctionArgOperator::RightArrow,
        });
    }
    *relation = TableFactor::Table {
        name: call.name.clone(),
        alias,
        args: Some(TableFunctionArgs { args, settings: None }),
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    Ok(())
}

fn replace_in_group_by(select: &mut Select, call: &Function, span: Span) {
    let projection = &select.projection;
    let GroupByExpr::Expressions(exprs, _) = &mut select.group_by else { return };
    exprs.retain(|expr| !resolve(expr, projection).is_some_and(|found| is_same(found, call)));
    for name in [WINDOW_START, WINDOW_END] {
        let bound = bound(name, span);
        if !exprs.contains(&bound) {
            exprs.push(bound);
        }
    }
}

fn replace_in_select(select: &mut Select, call: &Function, span: Span) {
    let mut aliases = Vec::new();
    for item in &mut select.projection {
        match item {
            SelectItem::ExprWithAlias { expr: Expr::Function(function), alias }
                if is_same(function, call) =>
            {
                aliases.push(folded(alias));
            }
            SelectItem::UnnamedExpr(Expr::Function(function)) if is_same(function, call) => {
                let expr = Expr::Function(function.clone());
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::new("window") };
            }
            _ => {}
        }
    }
    let mut replace = Replace { call, aliases, span };
    let _: ControlFlow<()> = VisitMut::visit(&mut select.projection, &mut replace);
    let _: ControlFlow<()> = VisitMut::visit(&mut select.having, &mut replace);
}

struct Replace<'a> {
    call: &'a Function,
    aliases: Vec<String>,
    span: Span,
}

impl VisitorMut for Replace<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundFieldAccess { root, access_chain } = expr
            && let Expr::Function(function) = root.as_ref()
            && is_same(function, self.call)
            && let [AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice()
            && let Some(bound) = bound_of(field)
        {
            *expr = bound;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if is_same(function, self.call) => {
                *expr = bounds_struct(self.span);
            }
            Expr::CompoundIdentifier(parts) => {
                if let [alias, field] = parts.as_slice()
                    && self.aliases.contains(&folded(alias))
                    && let Some(bound) = bound_of(field)
                {
                    *expr = bound;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `start` and `end` of a window.
fn bound_of(field: &Ident) -> Option<Expr> {
    match folded(field).as_str() {
        "start" => Some(bound(WINDOW_START, field.span)),
        "end" => Some(bound(WINDOW_END, field.span)),
        _ => None,
    }
}

fn bound(name: &str, span: Span) -> Expr {
    Expr::Identifier(Ident::with_span(span, name))
}

/// `named_struct('start', window_start, 'end', window_end)`.
fn bounds_struct(span: Span) -> Expr {
    let text = |text: &str| Expr::value(Value::SingleQuotedString(text.to_owned()));
    let args = [text("start"), bound(WINDOW_START, span), text("end"), bound(WINDOW_END, span)];
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(span, "named_struct")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).to_vec(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Refuses a window call that is neither in FROM nor in GROUP BY.
fn check_strays(select: &Select) -> Result<()> {
    struct Strays;
    impl Visitor for Strays {
        type Break = SqlError;

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
            match expr {
                Expr::Function(function) if is_window(function) => ControlFlow::Break(
                    SqlError::query(format!("window \"{function}\" is not in GROUP BY"))
                        .at(position(function.name.span()))
                        .hint("repeat the same call in GROUP BY, or window the relation in FROM"),
                ),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let parts = [
        select.projection.visit(&mut Strays),
        select.selection.visit(&mut Strays),
        select.group_by.visit(&mut Strays),
        select.having.visit(&mut Strays),
    ];
    match parts.into_iter().find_map(ControlFlow::break_value) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
