//! Appends window bounds to rows: one copy of a row for each window that holds it.

use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::range::within_range;
use super::{BatchStream, QueryContext};
use crate::error::Result;
use crate::time::EventTime;
use crate::window::{TimeType, WindowSpec};

/// How windows are assigned to rows.
#[derive(Clone, Debug)]
pub struct WindowAssignment {
    /// The windows.
    pub window: WindowSpec,
    /// Index of the event-time column in the input.
    pub time_index: usize,
    /// Its type.
    pub time: TimeType,
    /// The input's columns, then `window_start` and `window_end`.
    pub schema: SchemaRef,
}

impl WindowAssignment {
    /// The rows with their window bounds, windows of a row in order of their starts and ends.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let times = self.time.read(rows.column(self.time_index));
        let (mut indices, mut bounds) = (Vec::new(), Vec::new());
        for (row, &time) in times.iter().enumerate() {
            let (time, first) = (EventTime(time), bounds.len());
            for start in self.window.starts(time) {
                bounds.extend(self.window.ends(start, time).map(|end| (start, end)));
            }
            bounds[first..].sort_unstable();
            indices.resize(bounds.len(), row as u64);
        }
        let taken = take_record_batch(rows, &UInt64Array::from(indices))?;
        let mut columns = taken.columns().to_vec();
        columns.push(self.time.write(bounds.iter().map(|bounds| bounds.0)));
        columns.push(self.time.write(bounds.iter().map(|bounds| bounds.1)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Appends window bounds to every row.
pub fn assign_windows<'scope>(
    stream: BatchStream<'scope>,
    assignment: WindowAssignment,
    context: QueryContext,
) -> BatchStream<'scope> {
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "AssignWindows", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    let WindowAssignment { time, time_index, .. } = &assignment;
                    let rows = within_range(&context, time, *time_index, &batch.rows);
                    let rows = rows.and_then(|rows| context.attempt(|| assignment.apply(&rows)));
                    if let Some(rows) = rows.filter(|rows| rows.num_rows() > 0) {
                        session.give(batch.with_rows(rows));
                    }
                }
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, TimestampSecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampSecondType};

    use super::*;

    #[test]
    fn a_row_comes_once_for_each_window_that_holds_it() {
        let time = TimeType::new(&DataType::Timestamp(TimeUnit::Second, None)).unwrap();
        let fields = ["ts", "window_start", "window_end"]
            .map(|name| Field::new(name, time.data_type(), false));
        let assignment = WindowAssignment {
            window: WindowSpec::hop(5_000_000_000, 10_000_000_000, 0).unwrap(),
            time_index: 0,
            time,
            schema: Arc::new(Schema::new(fields.to_vec())),
        };
        let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![-1, 7]));
        let rows = RecordBatch::try_from_iter([("ts", times)]).unwrap();
        let assigned = assignment.apply(&rows).unwrap();
        let column = |i: usize| assigned.column(i).as_primitive::<TimestampSecondType>().values();
        assert_eq!(**column(0), [-1, -1, 7, 7]);
        assert_eq!(**column(1), [-10, -5, 0, 5]);
        assert_eq!(**column(2), [0, 5, 10, 15]);
        assert_eq!(assignment.apply(&rows.slice(0, 0)).unwrap().num_rows(), 0);
        let window = WindowSpec::cumulate(5_000_000_000, 10_000_000_000, 0).unwrap();
        let assigned = WindowAssignment { window, ..assignment }.apply(&rows).unwrap();
        let column = |i: usize| assigned.column(i).as_primitive::<TimestampSecondType>().values();
        assert_eq!(**column(0), [-1, 7]);
        assert_eq!(**column(1), [-10, 0]);
        assert_eq!(**column(2), [0, 10]);
    }
}
