//! Keeps rows out of window arithmetic whose event time is beyond what a row may carry.
//!
//! A source refuses such rows itself. But the bounds of a window lie up to 400 days beyond its rows, and those of windows
//! over windows further still: without a limit they would leave the range of nanoseconds in the end.

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;

use super::QueryContext;
use crate::time::EventTime;
use crate::window::TimeType;

/// The rows whose event time a row may carry; the others are counted as refused. `None` if the query is over.
pub(super) fn within_range(
    context: &QueryContext,
    time: &TimeType,
    time_index: usize,
    rows: &RecordBatch,
) -> Option<RecordBatch> {
    let column = rows.column(time_index);
    if time.is_in_range(column) {
        return Some(rows.clone());
    }
    let times = time.read(column);
    let keep: BooleanArray = times.iter().map(|ns| Some(EventTime(*ns).is_in_range())).collect();
    let refused = rows.num_rows() - keep.true_count();
    context.count(|c| &c.rows_refused, refused as u64);
    context.attempt(|| Ok(filter_record_batch(rows, &keep)?))
}
