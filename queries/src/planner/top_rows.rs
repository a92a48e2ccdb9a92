//! The first rows of each key, of the rows of the last so long: `WHERE place <= n` over a ROW_NUMBER that no window and no
//! event time puts an end to, under `EMIT ON UPDATE RETAIN`.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchemaRef, DataFusionError, Result as DfResult, ScalarValue};
use datafusion_expr::logical_plan::{Filter, Window};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{
    Between, BinaryExpr, Expr, Extension, LogicalPlan, Operator, UserDefinedLogicalNodeCore,
    WindowFunctionDefinition,
};

use super::updates::Retaining;
use crate::lower::{numbers_for_good, unalias};

/// The first rows of each key. It has the columns of the window, whose one call is the number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct UpdatingTopNode {
    pub(crate) window: Window,
    /// How many of each key.
    pub(crate) rows: u64,
    pub(crate) retaining: Retaining,
}

/// The filter with an [`UpdatingTopNode`] in place of the ROW_NUMBER below, if it keeps the first so many rows and there is
/// no other way to know them.
pub(super) fn mark(filter: &Filter, retaining: Retaining) -> DfResult<Option<LogicalPlan>> {
    let most = |part: &Expr| -> Option<u64> {
        let (column, most) = upper_bound(part)?;
        let index = filter.input.schema().maybe_index_of_column(column)?;
        is_number(&filter.input, index).then_some(most)
    };
    let Some(rows) = split_conjunction(&filter.predicate).into_iter().filter_map(most).min() else {
        return Ok(None);
    };
    let input = numbered(filter.input.as_ref().clone(), rows, retaining)?;
    let mut marked = filter.clone();
    marked.input = Arc::new(input);
    Ok(Some(LogicalPlan::Filter(marked)))
}

/// A column and the most that a condition lets it be.
fn upper_bound(condition: &Expr) -> Option<(&Column, u64)> {
    let (value, op, bound) = match unalias(condition) {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match unalias(right) {
            Expr::Literal(bound, _) => (left, *op, bound),
            _ => match unalias(left) {
                Expr::Literal(bound, _) => (right, op.swap()?, bound),
                _ => return None,
            },
        },
        Expr::Between(Between { expr, negated: false, high, .. }) => match unalias(high) {
            Expr::Literal(bound, _) => (expr, Operator::LtEq, bound),
            _ => return None,
        },
        _ => return None,
    };
    let Expr::Column(column) = uncast(value) else { return None };
    let is_whole = |kind: &DataType| {
        kind.is_integer() || matches!(kind, DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0))
    };
    if !is_whole(&bound.data_type()) {
        return None;
    }
    let ScalarValue::Int64(Some(bound)) = bound.cast_to(&DataType::Int64).ok()? else {
        return None;
    };
    let most = match op {
        Operator::Eq | Operator::LtEq => bound,
        Operator::Lt => bound.saturating_sub(1),
        _ => return None,
    };
    Some((column, u64::try_from(most).unwrap_or(0)))
}

/// Whether a column is the only call of a ROW_NUMBER below, which nothing but names stands between.
fn is_number(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_number(&alias.input, index),
        LogicalPlan::Filter(filter) => is_number(&filter.input, index),
        LogicalPlan::Projection(projection) => match projection.expr.get(index).map(unalias) {
            Some(Expr::Column(column)) => {
                let index = projection.input.schema().maybe_index_of_column(column);
                index.is_some_and(|index| is_number(&projection.input, index))
            }
            _ => false,
        },
        LogicalPlan::Window(window) => {
            let is_last = window.input.schema().fields().len() == index;
            let [expr] = window.window_expr.as_slice() else { return false };
            let Expr::WindowFunction(call) = unalias(expr) else { return false };
            let is_row_number = matches!(&call.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number");
            is_last
                && is_row_number
                && !call.params.order_by.is_empty()
                && !numbers_for_good(window)
        }
        _ => false,
    }
}

/// Puts the node in place of the window at the bottom.
fn numbered(plan: LogicalPlan, rows: u64, retaining: Retaining) -> DfResult<LogicalPlan> {
    match plan {
        LogicalPlan::Window(window) => {
            let node = UpdatingTopNode { window, rows, retaining };
            Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
        }
        plan => {
            let below =
                plan.map_children(|child| Ok(Transformed::yes(numbered(child, rows, retaining)?)));
            Ok(below?.data)
        }
    }
}

fn uncast(expr: &Expr) -> &Expr {
    match unalias(expr) {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}

impl UserDefinedLogicalNodeCore for UpdatingTopNode {
    fn name(&self) -> &'static str {
        "UpdatingTop"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.window.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.window.schema
    }

    /// None: no rule of DataFusion runs once a plan is marked.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpdatingTop: first {} rows", self.rows)
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("numbering has no input".to_owned()))?;
        let window = Window { input: Arc::new(input), ..self.window.clone() };
        Ok(Self { window, ..self.clone() })
    }
}
