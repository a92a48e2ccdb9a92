//! The constant rows of an INSERT as a batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion_sql::planner::{PlannerContext, SqlToRel};
use sqlparser::ast::{self, Spanned};

use super::context::Context;
use super::{Planner, errors, prepare};
use crate::catalog::{Catalog, Relation};
use crate::error::{Result, SqlError};
use crate::parse::position;
use crate::physical::constant;
use crate::statement::InsertValues;

/// There is nothing to read in a constant.
struct Nothing;

impl Catalog for Nothing {
    fn relation(&self, _name: &str) -> Option<Relation> {
        None
    }

    fn relation_names(&self) -> Vec<String> {
        Vec::new()
    }
}

pub(super) fn evaluate(
    planner: &Planner,
    insert: &InsertValues,
    schema: SchemaRef,
) -> Result<RecordBatch> {
    let targets = targets(insert, &schema)?;
    let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); targets.len()];
    let context = Context::new(planner, &Nothing);
    for row in &insert.rows {
        let place =
            row.first().and_then(|expr| position(expr.span())).unwrap_or(insert.target.position);
        if row.len() != targets.len() {
            return Err(SqlError::query(format!(
                "row has {} values for {} columns",
                row.len(),
                targets.len()
            ))
            .at(place)
            .hint("give one value per column, or name the columns after the target"));
        }
        for ((expr, target), column) in row.iter().zip(&targets).zip(&mut columns) {
            let field = schema.field(*target);
            let value = cell(planner, &context, expr, field)
                .map_err(|error| error.at(position(expr.span())).at(place))?;
            column.push(value);
        }
    }
    let mut arrays: Vec<Option<ArrayRef>> = vec![None; schema.fields().len()];
    for (target, column) in targets.iter().zip(columns) {
        let array = ScalarValue::iter_to_array(column)
            .map_err(|error| SqlError::query(error.strip_backtrace()).at(insert.target.position))?;
        if let Some(slot) = arrays.get_mut(*target) {
            *slot = Some(array);
        }
    }
    let count = insert.rows.len();
    let arrays = schema
        .fields()
        .iter()
        .zip(arrays)
        .map(|(field, array)| match array {
            Some(array) => Ok(array),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), count)),
            None => Err(null_refused(field).at(insert.target.position)),
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(schema, arrays, &options)
        .map_err(|error| SqlError::query(error.to_string()).at(insert.target.position))
}

/// Indexes of the columns that values are given for.
fn targets(insert: &InsertValues, schema: &SchemaRef) -> Result<Vec<usize>> {
    if insert.columns.is_empty() {
        return Ok((0..schema.fields().len()).collect());
    }
    insert
        .columns
        .iter()
        .map(|name| {
            schema.index_of(&name.text).map_err(|_| {
                let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
                SqlError::query(format!(
                    "column \"{}\" not found in \"{}\"",
                    name.text, insert.target.text
                ))
                .at(name.position)
                .hint(format!("columns are {}", super::context::list(&names)))
            })
        })
        .collect()
}

fn cell(
    planner: &Planner,
    context: &Context<'_>,
    expr: &ast::Expr,
    field: &Field,
) -> Result<ScalarValue> {
    prepare::check_expression(expr, &planner.functions)?;
    let value = fold_constant(planner, context, expr).map_err(errors::unwrap)?;
    let kind = value.data_type();
    let value = value.cast_to(field.data_type()).map_err(|_| {
        SqlError::query(format!("value {expr} does not fit column \"{}\"", field.name()))
            .hint(format!("the value is a {kind}, the column is a {}", field.data_type()))
    })?;
    if value.is_null() && !field.is_nullable() {
        return Err(null_refused(field));
    }
    Ok(value)
}

fn null_refused(field: &Field) -> SqlError {
    SqlError::query(format!("column \"{}\" takes no null", field.name()))
        .hint("give it a value: the source says NOT NULL")
}

fn fold_constant(
    planner: &Planner,
    context: &Context<'_>,
    expr: &ast::Expr,
) -> DfResult<ScalarValue> {
    let empty = DFSchema::empty();
    let expr =
        SqlToRel::new(context).sql_to_expr(expr.clone(), &empty, &mut PlannerContext::new())?;
    if let Expr::Literal(value, _) = expr {
        return Ok(value);
    }
    let row = LogicalPlanBuilder::empty(true).build()?;
    let plan = LogicalPlan::Projection(Projection::try_new(vec![expr], Arc::new(row))?);
    let plan = planner.analyze(plan)?;
    constant(plan.expressions().first())
}
