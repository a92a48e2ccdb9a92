//! Filter and projection over one batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatchOptions};
use arrow::compute::{FilterBuilder, and, prep_null_mask_filter};
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::cast::as_boolean_array;
use datafusion_expr::Expr;
use datafusion_physical_expr::PhysicalExpr;
use driftline_operators::error::{OperatorError, Result};
use driftline_operators::expression::Transform;

use super::compile::{compile, evaluate_condition, refused};
use super::literal::Distinct;
use crate::error;
use crate::lower::{numbered_schema, numbers};

/// Filters, then computes columns.
#[derive(Debug)]
pub(crate) struct Program {
    /// Over all columns; a later one sees only rows that passed the earlier ones.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// The columns that results are computed from; the others are not even filtered.
    needed: Vec<usize>,
    needed_schema: SchemaRef,
    /// Over the needed columns.
    distinct: Distinct,
    /// Which distinct expression each column of the result is.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Program {
    /// Compiles expressions over numbered columns of a schema.
    pub(crate) fn try_new(
        input: &SchemaRef,
        filters: &[Expr],
        exprs: &[Expr],
        names: &[String],
    ) -> error::Result<Self> {
        let all = numbered_schema(input, 0..input.fields().len())?;
        let filters =
            filters.iter().map(|expr| compile(expr, &all)).collect::<error::Result<_>>()?;
        let needed: BTreeSet<usize> = exprs.iter().flat_map(numbers).collect();
        let narrow = numbered_schema(input, needed.iter().copied())?;
        let (mut distinct, mut columns, mut fields) = (Distinct::default(), Vec::new(), Vec::new());
        for (expr, name) in exprs.iter().zip(names) {
            let compiled = compile(expr, &narrow)?;
            fields.push(field(&compiled, narrow.as_arrow(), name)?);
            columns.push(distinct.add(compiled));
        }
        Ok(Self {
            filters,
            needed: needed.into_iter().collect(),
            needed_schema: Arc::new(narrow.as_arrow().clone()),
            distinct,
            columns,
            schema: Arc::new(Schema::new(Fields::from(fields))),
        })
    }

    /// Rows that pass all filters; `None` where all rows do.
    fn mask(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let mut mask: Option<BooleanArray> = None;
        for filter in &self.filters {
            let next = match &mask {
                None => evaluate_condition(filter, batch)?,
                Some(passed) => {
                    let failed = |error| OperatorError::evaluation(filter.to_string(), error);
                    let value = filter.evaluate_selection(batch, passed).map_err(failed)?;
                    let array = value.into_array(batch.num_rows()).map_err(failed)?;
                    as_boolean_array(&array).map_err(failed)?.clone()
                }
            };
            let next = if next.null_count() > 0 { prep_null_mask_filter(&next) } else { next };
            mask = Some(match mask {
                Some(passed) => and(&passed, &next)?,
                None => next,
            });
        }
        Ok(mask.filter(|mask| mask.true_count() < mask.len()))
    }
}

impl Transform for Program {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mask = self.mask(batch)?;
        let mut rows = batch.num_rows();
        let mut needed: Vec<ArrayRef> =
            self.needed.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        if let Some(mask) = &mask {
            rows = mask.true_count();
            let mut builder = FilterBuilder::new(mask);
            if needed.len() > 1 {
                builder = builder.optimize();
            }
            let filter = builder.build();
            for column in &mut needed {
                *column = filter.filter(column.as_ref())?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let narrow =
            RecordBatch::try_new_with_options(Arc::clone(&self.needed_schema), needed, &options)?;
        let values = self.distinct.evaluate(&narrow)?;
        let columns = self.columns.iter().map(|index| Arc::clone(&values[*index])).collect();
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The field of a compiled expression, under the name it is given.
pub(super) fn field(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
    name: &str,
) -> error::Result<Arc<Field>> {
    let field = expr.return_field(schema).map_err(refused)?;
    Ok(Arc::new(field.as_ref().clone().with_name(name)))
}
