//! Logical expressions to physical ones, and the errors of both.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatchOptions};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use datafusion_common::cast::as_boolean_array;
use datafusion_common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{ColumnarValue, Expr};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use driftline_operators::error::OperatorError;

use crate::error::{Result, SqlError};

/// Compiles an expression over the columns of a schema.
pub(super) fn compile(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
        .map_err(refused)
}

/// An expression that cannot be compiled.
pub(super) fn refused(error: DataFusionError) -> SqlError {
    let is_unsupported = matches!(error, DataFusionError::NotImplemented(_));
    let message = match error {
        DataFusionError::Plan(message) | DataFusionError::NotImplemented(message) => message,
        other => other.strip_backtrace(),
    };
    let first = message.lines().next().unwrap_or_default().trim_end_matches('.').to_owned();
    if is_unsupported { SqlError::unsupported(first) } else { SqlError::query(first) }
}

/// Evaluates an expression to an array as long as the batch.
pub(super) fn evaluate(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<ArrayRef, OperatorError> {
    let rows = batch.num_rows();
    let failed = |error: DataFusionError| OperatorError::evaluation(expr.to_string(), error);
    let array = expr.evaluate(batch).and_then(|value| value.into_array(rows)).map_err(failed)?;
    if array.len() == rows {
        return Ok(array);
    }
    Err(failed(DataFusionError::Execution(format!("{} rows for {rows}", array.len()))))
}

/// Evaluates a condition; rows for which it is null do not pass.
pub(super) fn evaluate_condition(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<BooleanArray, OperatorError> {
    let array = evaluate(expr, batch)?;
    as_boolean_array(&array)
        .cloned()
        .map_err(|error| OperatorError::evaluation(expr.to_string(), error))
}

/// The value of an expression that reads no columns.
pub(crate) fn constant(expr: Option<&Expr>) -> DfResult<ScalarValue> {
    let expr = expr.ok_or_else(|| DataFusionError::Plan("value is missing".to_owned()))?;
    if let Expr::Literal(value, _) = expr {
        return Ok(value.clone());
    }
    let compiled = create_physical_expr(
        expr,
        &DFSchema::empty(),
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    match compiled.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
    }
}
