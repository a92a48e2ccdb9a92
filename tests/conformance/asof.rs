//! The ASOF join, slow and obviously right: `ASOF_JOIN(left, right, key, left_time, right_time)` in a batch form is each
//! left row with the columns of the latest right row of its key at or before it, named `right_` and their name.

use std::sync::Arc;

use driftline::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use driftline::arrow::compute::{cast, take};
use driftline::arrow::datatypes::{DataType, Int64Type};
use driftline::arrow::util::display::array_value_to_string;

/// Rows without a key or a time match nothing.
pub(crate) fn joined(
    left: &RecordBatch,
    right: &RecordBatch,
    [key, left_time, right_time]: [&str; 3],
) -> Result<RecordBatch, String> {
    let column = |rows: &RecordBatch, name: &str| {
        rows.column_by_name(name).cloned().ok_or_else(|| format!("no column {name}"))
    };
    let times = |rows: &RecordBatch, name: &str| {
        let times =
            cast(&column(rows, name)?, &DataType::Int64).map_err(|error| error.to_string())?;
        Ok::<_, String>(times.as_primitive::<Int64Type>().clone())
    };
    let (left_keys, right_keys) = (column(left, key)?, column(right, key)?);
    let (left_times, right_times) = (times(left, left_time)?, times(right, right_time)?);
    let text = |keys: &ArrayRef, row: usize| {
        (!keys.is_null(row)).then(|| array_value_to_string(keys, row).expect("keys can be shown"))
    };
    let mut matches: Vec<Option<u32>> = Vec::new();
    for row in 0..left.num_rows() {
        let mut best: Option<usize> = None;
        if let Some(key) = text(&left_keys, row) {
            for other in 0..right.num_rows() {
                let fits = text(&right_keys, other).as_ref() == Some(&key)
                    && right_times.value(other) <= left_times.value(row);
                if fits
                    && best.is_none_or(|best| right_times.value(other) > right_times.value(best))
                {
                    best = Some(other);
                }
            }
        }
        matches.push(best.map(|row| row as u32));
    }
    let places = UInt32Array::from(matches);
    let schema = left.schema();
    let own = schema.fields().iter().map(|field| field.name().clone());
    let mut columns: Vec<(String, ArrayRef)> = own.zip(left.columns().iter().cloned()).collect();
    for (field, values) in right.schema().fields().iter().zip(right.columns()) {
        let values = take(values, &places, None).map_err(|error| error.to_string())?;
        columns.push((format!("right_{}", field.name()), Arc::clone(&values)));
    }
    let columns = columns.into_iter().map(|(name, values)| (name, values, true));
    RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| error.to_string())
}
