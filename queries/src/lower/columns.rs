//! Columns of a base, named by number: `#0`, `#1`, ...

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema};
use datafusion_expr::Expr;

use super::{internal, refused};
use crate::error::Result;

/// Column number `index` of the base.
pub(crate) fn numbered(index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(format!("#{index}")))
}

/// The number of a numbered column.
pub(super) fn number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => number_of(column),
        _ => None,
    }
}

fn number_of(column: &Column) -> Option<usize> {
    column.name.strip_prefix('#').and_then(|digits| digits.parse().ok())
}

/// Numbers of all columns that an expression reads.
pub(crate) fn numbers(expr: &Expr) -> BTreeSet<usize> {
    expr.column_refs().into_iter().filter_map(number_of).collect()
}

/// Puts `exprs[i]` in place of column `i` of `schema`.
pub(super) fn substitute(expr: &Expr, schema: &DFSchema, exprs: &[Expr]) -> Result<Expr> {
    rewrite(expr, |column| {
        let index = schema.index_of_column(column).map_err(|error| refused(&error))?;
        exprs.get(index).cloned().ok_or_else(|| internal("column without an expression"))
    })
}

/// Puts `replace(i)` in place of numbered column `i`.
pub(super) fn renumber(expr: &Expr, replace: impl Fn(usize) -> Option<Expr>) -> Result<Expr> {
    rewrite(expr, |column| {
        number_of(column).and_then(&replace).ok_or_else(|| internal("column without a number"))
    })
}

fn rewrite(expr: &Expr, replace: impl Fn(&Column) -> Result<Expr>) -> Result<Expr> {
    let mut problem = None;
    let rewritten = expr
        .clone()
        .transform_up(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            match replace(column) {
                Ok(replacement) => {
                    // What was put in is over other columns and must not be looked into again.
                    Ok(Transformed::new(replacement, true, TreeNodeRecursion::Jump))
                }
                Err(error) => {
                    problem = Some(error);
                    Ok(Transformed::new(expr, false, TreeNodeRecursion::Stop))
                }
            }
        })
        .map_err(|error| refused(&error))?;
    match problem {
        Some(error) => Err(error),
        None => Ok(rewritten.data),
    }
}

/// The columns `kept` of a base, under their numbers.
pub(crate) fn numbered_schema(
    schema: &SchemaRef,
    kept: impl IntoIterator<Item = usize>,
) -> Result<DFSchema> {
    let fields = kept
        .into_iter()
        .filter_map(|index| {
            let field: &Arc<Field> = schema.fields().get(index)?;
            let field = field.as_ref().clone().with_name(format!("#{index}"));
            Some((None, Arc::new(field)))
        })
        .collect();
    DFSchema::new_with_metadata(fields, std::collections::HashMap::new())
        .map_err(|error| refused(&error))
}

/// An expression over numbered columns as users would read it.
pub(super) fn describe(expr: &Expr, schema: &SchemaRef) -> String {
    let named = renumber(expr, |index| {
        let field = schema.fields().get(index)?;
        Some(Expr::Column(Column::new_unqualified(field.name())))
    });
    plain(&named.map_or_else(|_| expr.to_string(), |expr| expr.to_string()))
}

/// Constants without their types: `'a'` for `Utf8("a")`, `1` for `Int64(1)`.
fn plain(text: &str) -> String {
    let mut plain = text.to_owned();
    for kind in ["UInt64", "Int64", "Float64", "Boolean", "Utf8"] {
        let open = format!("{kind}(");
        let mut from = 0;
        while let Some(start) =
            plain.get(from..).and_then(|rest| rest.find(&open)).map(|i| i + from)
        {
            let inside = start + open.len();
            let Some(end) = plain.get(inside..).and_then(|rest| rest.find(')')).map(|i| i + inside)
            else {
                break;
            };
            let value = plain.get(inside..end).unwrap_or_default().replace('"', "'");
            plain.replace_range(start..=end, &value);
            from = start + value.len();
        }
    }
    plain
}
