//! Joins on the syntax tree: which forms are taken, and what the others are refused with.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    JoinConstraint, JoinOperator, Spanned, TableWithJoins,
};
use sqlparser::tokenizer::Span;

use super::prepare::{check_expression, prepare_factor, refuse};
use crate::error::{Result, SqlError};
use crate::functions::{ASOF, Functions};
use crate::parse::position;

/// Most joins of one FROM.
const JOINS_MAX: usize = 16;

pub(super) const JOIN_HINT: &str =
    "write a JOIN b ON a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '1 minute' AND b.ts";

/// Checks a relation and what is joined to it.
pub(super) fn prepare(table: &mut TableWithJoins, functions: &Functions) -> Result<()> {
    prepare_factor(&mut table.relation, functions)?;
    if let Some(join) = table.joins.get(JOINS_MAX) {
        return Err(SqlError::query(format!("FROM has more than {JOINS_MAX} joins"))
            .at(position(join.relation.span()))
            .hint("put some of them into a view"));
    }
    for join in &mut table.joins {
        let span = join.relation.span();
        let refuse = |what: &str| refuse(what, span);
        prepare_factor(&mut join.relation, functions)?;
        let constraint = match &join.join_operator {
            _ if join.global => return Err(refuse("GLOBAL JOIN").hint(JOIN_HINT)),
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint) => constraint,
            JoinOperator::CrossJoin(_) | JoinOperator::StraightJoin(_) => {
                return Err(refuse("CROSS JOIN").hint(JOIN_HINT));
            }
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightAnti(_) => {
                return Err(refuse("a semi or anti join").hint(
                    "write a LEFT JOIN, and WHERE b.k IS NOT NULL or IS NULL on a column that is never null",
                ));
            }
            JoinOperator::CrossApply | JoinOperator::OuterApply => {
                return Err(refuse("APPLY").hint(JOIN_HINT));
            }
            _ => return Err(refuse("this form of join").hint(JOIN_HINT)),
        };
        match constraint {
            JoinConstraint::On(condition) => check_condition(condition, functions)?,
            JoinConstraint::Using(_) => {}
            JoinConstraint::Natural => {
                return Err(refuse("NATURAL JOIN").hint(
                    "name the columns: JOIN b USING (k, window_end), or JOIN b ON a.k = b.k AND ...",
                ));
            }
            JoinConstraint::None => return Err(refuse("JOIN without ON").hint(JOIN_HINT)),
        }
    }
    Ok(())
}

/// The mark of an ASOF join where it is not one of the terms of ON.
pub(super) fn stray_mark(span: Span) -> SqlError {
    SqlError::query("conditions of ASOF JOIN are not joined by AND")
        .at(position(span))
        .hint("write MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k AND ...")
}

/// Refuses a condition of ON; one of the terms that are joined by AND may be the mark of an ASOF join.
fn check_condition(condition: &Expr, functions: &Functions) -> Result<()> {
    let mut rest = condition;
    while let Expr::BinaryOp { left, op: BinaryOperator::And, right } = rest {
        check_expression(inside_mark(right), functions)?;
        rest = left;
    }
    check_expression(inside_mark(rest), functions)
}

fn inside_mark(expr: &Expr) -> &Expr {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else {
        return expr;
    };
    let is_mark = matches!(name.0.as_slice(), [part]
        if part.as_ident().is_some_and(|ident| ident.value == ASOF));
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(inside))] if is_mark => inside,
        _ => expr,
    }
}
