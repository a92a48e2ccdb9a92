//! The place of an error that names nothing: the smallest expression that is refused alone as the whole query is.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, Spanned, Visit, Visitor,
};

use crate::error::Position;
use crate::parse::position;

/// Most expressions that are tried, the smallest ones first.
const TRIES_MAX: usize = 64;

/// Looks through the expressions of the outermost SELECT; `refusal` plans a query, and gives the message if it is refused.
pub(super) fn of_expression(
    query: &Query,
    message: &str,
    refusal: impl Fn(&Query) -> Option<String>,
) -> Option<Position> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let mut collected = Collected(Vec::new());
    let _ = select.projection.visit(&mut collected);
    let _ = select.selection.visit(&mut collected);
    let _ = select.having.visit(&mut collected);
    collected
        .0
        .into_iter()
        .filter(|expr| !matches!(expr, Expr::Identifier(_) | Expr::Value(_)))
        .take(TRIES_MAX)
        .find(|expr| refusal(&alone(query, select, expr)).as_deref() == Some(message))
        .and_then(|expr| position(expr.span()))
}

/// The query with one expression as all that it selects.
fn alone(query: &Query, select: &Select, expr: &Expr) -> Query {
    let select = Select {
        projection: vec![SelectItem::UnnamedExpr(expr.clone())],
        distinct: None,
        selection: None,
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        having: None,
        qualify: None,
        ..select.clone()
    };
    Query { body: Box::new(SetExpr::Select(Box::new(select))), ..query.clone() }
}

/// Expressions, each after those within it.
struct Collected(Vec<Expr>);

impl Visitor for Collected {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.0.push(expr.clone());
        ControlFlow::Continue(())
    }
}
