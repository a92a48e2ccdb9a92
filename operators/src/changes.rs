//! Changes of a result: its rows, and in a last column whether each now holds or no longer does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, SortField};
use hashbrown::HashMap;

use crate::error::Result;
use crate::expression::Transform;

/// The last column of changes: 1 for a row that now holds, -1 for one that no longer does.
pub const DIFF: &str = "_diff";

/// The columns of a result, and [`DIFF`].
#[must_use]
pub fn changes_schema(schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(DIFF, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// Rows and how each has changed, with the columns of `schema`.
///
/// # Errors
/// If the columns are not those of the schema.
pub fn with_changes(
    schema: &SchemaRef,
    rows: &RecordBatch,
    changes: impl IntoIterator<Item = i64>,
) -> Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(changes)) as ArrayRef);
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// How each row of a batch of changes has changed.
#[must_use]
pub fn diffs(changes: &RecordBatch) -> &Int64Array {
    changes.column(changes.num_columns() - 1).as_primitive::<Int64Type>()
}

/// Applies a filter and projection to changes: to the rows that no longer hold, and to those that now do. The program
/// sees the rows with their last column, which it does not read.
///
/// # Errors
/// As for [`Transform::apply`].
pub fn transform(
    program: &dyn Transform,
    schema: &SchemaRef,
    changes: &RecordBatch,
) -> Result<RecordBatch> {
    let holds: BooleanArray = diffs(changes).iter().map(|diff| diff.map(|diff| diff > 0)).collect();
    let mut parts = Vec::new();
    for (part, diff) in [(arrow::compute::not(&holds)?, -1), (holds, 1)] {
        if part.true_count() == 0 {
            continue;
        }
        let rows = program.apply(&filter_record_batch(changes, &part)?)?;
        let count = rows.num_rows();
        parts.push(with_changes(schema, &rows, std::iter::repeat_n(diff, count))?);
    }
    Ok(concat_batches(schema, &parts)?)
}

/// Leaves out rows that both no longer hold and now do; the others come in the order: what no longer holds, what now
/// does. Rows whose types cannot be compared are only ordered.
///
/// # Errors
/// If a kernel fails, which would be a bug.
pub fn consolidate(changes: &RecordBatch) -> Result<RecordBatch> {
    let diffs = diffs(changes);
    let columns = &changes.columns()[..changes.num_columns() - 1];
    let fields: Vec<SortField> =
        columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let has_both = diffs.values().iter().any(|d| *d > 0) && diffs.values().iter().any(|d| *d < 0);
    let mut left: Vec<i64> = diffs.values().to_vec();
    if has_both && !columns.is_empty() && RowConverter::supports_fields(&fields) {
        let rows = RowConverter::new(fields)?.convert_columns(columns)?;
        let mut totals: HashMap<&[u8], i64, foldhash::fast::FixedState> =
            HashMap::with_hasher(foldhash::fast::FixedState::with_seed(5));
        let encoded: Vec<arrow_row::Row<'_>> = rows.iter().collect();
        for (row, diff) in encoded.iter().zip(diffs.values()) {
            *totals.entry(row.data()).or_default() += diff;
        }
        for (row, left) in encoded.iter().zip(&mut left) {
            let total = totals.get_mut(row.data()).expect("every row was counted");
            if *total * *left > 0 {
                *total -= *left;
            } else {
                *left = 0;
            }
        }
    }
    let of = |sign: i64| {
        let left = left.iter().enumerate().filter(move |(_, diff)| diff.signum() == sign);
        left.map(|(row, _)| row as u32)
    };
    let order: UInt32Array = of(-1).chain(of(1)).collect();
    if order.len() == changes.num_rows() && order.values().is_sorted() {
        return Ok(changes.clone());
    }
    Ok(take_record_batch(changes, &order)?)
}

/// The columns of a result, without [`DIFF`].
///
/// # Errors
/// If there is no column.
pub fn result_schema(changes: &SchemaRef) -> Result<SchemaRef> {
    let kept: Vec<usize> = (0..changes.fields().len().saturating_sub(1)).collect();
    Ok(Arc::new(changes.project(&kept)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(rows: &[(i64, i64)]) -> RecordBatch {
        let values = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let diffs = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        RecordBatch::try_from_iter([("n", Arc::new(values) as ArrayRef), (DIFF, Arc::new(diffs))])
            .unwrap()
    }

    fn rows(changes: &RecordBatch) -> Vec<(i64, i64)> {
        let values = changes.column(0).as_primitive::<Int64Type>().values();
        values.iter().copied().zip(diffs(changes).values().iter().copied()).collect()
    }

    #[test]
    fn rows_that_come_and_go_at_once_vanish() {
        for (given, left) in [
            (vec![(1, 1), (1, -1)], vec![]),
            (vec![(1, 1), (2, -1), (1, 1), (2, 1), (1, -1)], vec![(1, 1)]),
            (vec![(1, 1), (2, -1)], vec![(2, -1), (1, 1)]),
            (vec![(3, 1), (3, 1)], vec![(3, 1), (3, 1)]),
            (vec![(4, -1), (4, 1), (4, -1)], vec![(4, -1)]),
        ] {
            assert_eq!(rows(&consolidate(&changes(&given)).unwrap()), left, "{given:?}");
        }
    }

    #[test]
    fn the_change_is_the_last_column() {
        let batch = changes(&[(1, 1), (2, -1)]);
        let plain = result_schema(&batch.schema()).unwrap();
        assert_eq!(plain.fields().len(), 1);
        assert_eq!(changes_schema(&plain).fields().len(), 2);
        let rows_alone = batch.project(&[0]).unwrap();
        let again = with_changes(&changes_schema(&plain), &rows_alone, [1, -1]).unwrap();
        assert_eq!(rows(&again), [(1, 1), (2, -1)]);
    }
}
