//! Puts rows into order of event time: they wait until the watermark says that no earlier row can come.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::compute::{SortOptions, interleave_record_batch, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow_row::{RowConverter, SortField};

use crate::batch::Batch;
use crate::error::Result;
use crate::expression::AggregateProgram;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::EventTime;
use crate::window::TimeType;

/// How rows are split over workers.
#[derive(Clone, Debug)]
pub enum Keyed {
    /// By columns of theirs; without columns the first worker has all.
    Columns(Vec<usize>),
    /// By the keys that a program works out.
    Program(Arc<dyn AggregateProgram>),
}

/// Rows that wait for the watermark.
///
/// Rows come out sorted by event time. Rows of equal time come out in order of arrival; where there is no order of
/// arrival, because a window or a detector made them, in order of their columns' values, so that neither the number
/// of workers nor the way rows were cut into batches shows.
#[derive(Debug)]
pub struct Reorder {
    time_index: usize,
    time: TimeType,
    rows_max: usize,
    keys: Keyed,
    waiting: Vec<Waiting>,
    rows: usize,
    bytes: usize,
    refused: u64,
}

#[derive(Debug)]
struct Waiting {
    /// Sorted by event time; rows before `next` have been released.
    rows: RecordBatch,
    times: arrow::buffer::ScalarBuffer<i64>,
    sequence: u64,
    next: usize,
    bytes: usize,
}

impl Reorder {
    /// Holds at most `rows_max` rows.
    #[must_use]
    pub fn new(time_index: usize, time: TimeType, rows_max: usize) -> Self {
        Self {
            time_index,
            time,
            rows_max,
            keys: Keyed::Columns(Vec::new()),
            waiting: Vec::new(),
            rows: 0,
            bytes: 0,
            refused: 0,
        }
    }

    /// Says how the rows are split over workers, for a checkpoint.
    #[must_use]
    pub fn keyed_by(self, keys: Keyed) -> Self {
        Self { keys, ..self }
    }

    /// Adds rows. Those beyond the bound are refused and counted.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn push(&mut self, batch: &Batch) -> Result<()> {
        let room = self.rows_max.saturating_sub(self.rows);
        let take = batch.rows.num_rows().min(room);
        self.refused += (batch.rows.num_rows() - take) as u64;
        if take == 0 {
            return Ok(());
        }
        let mut rows = batch.rows.slice(0, take);
        let mut times = self.time.read(rows.column(self.time_index));
        if !times.is_sorted() {
            let mut order: Vec<u32> = (0..take as u32).collect();
            order.sort_by_key(|&row| times[row as usize]);
            rows = take_record_batch(&rows, &arrow::array::UInt32Array::from(order))?;
            times = self.time.read(rows.column(self.time_index));
        }
        let bytes = rows.get_array_memory_size();
        self.rows += take;
        self.bytes += bytes;
        self.waiting.push(Waiting { rows, times, sequence: batch.sequence, next: 0, bytes });
        Ok(())
    }

    /// Takes the rows below `complete`, in order; `None` if there are none.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn release(&mut self, complete: EventTime) -> Result<Option<RecordBatch>> {
        let (mut places, mut batches, mut arrived) = (Vec::new(), Vec::new(), true);
        for waiting in &mut self.waiting {
            let rest = &waiting.times[waiting.next..];
            // `MAX` means that the input has ended, so that even a row at the last instant is complete.
            let end = match complete {
                EventTime::MAX => rest.len(),
                EventTime(bound) => rest.partition_point(|&time| time < bound),
            };
            if end == 0 {
                continue;
            }
            arrived &= waiting.sequence != 0;
            let rows = waiting.next..waiting.next + end;
            places
                .extend(rows.map(|row| (waiting.times[row], waiting.sequence, batches.len(), row)));
            batches.push(waiting.rows.clone());
            waiting.next += end;
        }
        self.waiting.retain(|waiting| {
            let keep = waiting.next < waiting.rows.num_rows();
            self.bytes -= if keep { 0 } else { waiting.bytes };
            keep
        });
        self.rows -= places.len();
        if places.is_empty() {
            return Ok(None);
        }
        places.sort_unstable();
        let places: Vec<(usize, usize)> = places.into_iter().map(|p| (p.2, p.3)).collect();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let rows = interleave_record_batch(&batches, &places)?;
        Ok(Some(if arrived { rows } else { self.sort_by_content(rows)? }))
    }

    /// Sorts by time, then by the values of all columns.
    fn sort_by_content(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let ties = self.time.read(rows.column(self.time_index));
        if ties.windows(2).all(|pair| pair[0] < pair[1]) {
            return Ok(rows);
        }
        let fields: Vec<SortField> = rows
            .schema()
            .fields()
            .iter()
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        if RowConverter::supports_fields(&fields) {
            let content = RowConverter::new(fields)?.convert_columns(rows.columns())?;
            let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
            order.sort_by(|&a, &b| {
                let (a, b) = (a as usize, b as usize);
                ties[a].cmp(&ties[b]).then_with(|| content.row(a).cmp(&content.row(b)))
            });
            return Ok(take_record_batch(&rows, &arrow::array::UInt32Array::from(order))?);
        }
        let by_time = arrow::compute::SortColumn {
            values: rows.column(self.time_index).clone(),
            options: Some(SortOptions::default()),
        };
        let order = lexsort_to_indices(&[by_time], None)?;
        Ok(take_record_batch(&rows, &order)?)
    }

    /// Rows refused since the last call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Bytes held, estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The column of sequence numbers, behind those of the rows.
const SEQUENCE: &str = "sequence";

impl Stateful for Reorder {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        for Waiting { rows, sequence, next, .. } in &self.waiting {
            let rows = rows.slice(*next, rows.num_rows() - next);
            let sequences = Arc::new(UInt64Array::from_value(*sequence, rows.num_rows()));
            let plain = rows.clone();
            let (schema, mut columns, _) = rows.into_parts();
            let schema = with_sequence(&schema);
            columns.push(sequences);
            let rows = RecordBatch::try_new(schema, columns)?;
            match &self.keys {
                Keyed::Columns(keys) => out.keyed("waiting", rows, keys)?,
                Keyed::Program(program) => {
                    let keys = program.prepare(&plain)?.keys;
                    out.keyed_by("waiting", rows, &program.key_fields(), &keys)?;
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        // Fewer workers hold more rows each, and lose none of those that others held.
        let rows_max = std::mem::replace(&mut self.rows_max, usize::MAX);
        for mut rows in saved.rows("waiting")? {
            let last = rows.num_columns() - 1;
            let sequences = rows.remove_column(last);
            let sequences = sequences.as_primitive::<UInt64Type>().values().clone();
            let mut start = 0;
            // Rows of one batch stand together, in their order.
            for alike in sequences.chunk_by(|a, b| a == b) {
                let rows = rows.slice(start, alike.len());
                start += alike.len();
                self.push(&Batch { sequence: alike[0], ..Batch::from(rows) })?;
            }
        }
        self.rows_max = rows_max;
        Ok(())
    }
}

fn with_sequence(schema: &SchemaRef) -> SchemaRef {
    let field = Arc::new(Field::new(SEQUENCE, DataType::UInt64, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([field]).collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, TimestampNanosecondArray};
    use arrow::datatypes::{Int64Type, TimeUnit};

    use super::*;

    fn batch(sequence: u64, rows: &[(i64, i64)]) -> Batch {
        let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|r| r.0));
        let values = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
        let columns = [("ts", Arc::new(times) as ArrayRef), ("value", Arc::new(values))];
        Batch { sequence, ..Batch::from(RecordBatch::try_from_iter(columns).unwrap()) }
    }

    fn reorder(rows_max: usize) -> Reorder {
        let time = TimeType::new(&DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap();
        Reorder::new(0, time, rows_max)
    }

    fn values(rows: Option<RecordBatch>) -> Vec<i64> {
        rows.map_or(vec![], |rows| rows.column(1).as_primitive::<Int64Type>().values().to_vec())
    }

    #[test]
    fn rows_wait_for_the_watermark_and_come_out_in_order() {
        let mut reorder = reorder(100);
        reorder.push(&batch(2, &[(5, 50), (3, 31), (9, 90)])).unwrap();
        reorder.push(&batch(1, &[(3, 30), (7, 70)])).unwrap();
        assert!(values(reorder.release(EventTime(3)).unwrap()).is_empty());
        assert_eq!(values(reorder.release(EventTime(7)).unwrap()), [30, 31, 50]);
        assert_eq!(values(reorder.release(EventTime::MAX).unwrap()), [70, 90]);
        assert!(values(reorder.release(EventTime::MAX).unwrap()).is_empty());
    }

    #[test]
    fn rows_that_a_window_made_are_ordered_by_content() {
        let orders = [[(1, 3), (1, 1), (1, 2)], [(1, 2), (1, 3), (1, 1)]];
        for rows in orders {
            let mut reorder = reorder(100);
            for row in rows {
                reorder.push(&batch(0, &[row])).unwrap();
            }
            assert_eq!(values(reorder.release(EventTime(2)).unwrap()), [1, 2, 3]);
        }
    }

    #[test]
    fn rows_beyond_the_bound_are_refused_and_counted() {
        let mut reorder = reorder(2);
        reorder.push(&batch(1, &[(1, 1), (2, 2), (3, 3)])).unwrap();
        assert_eq!(reorder.take_refused(), 1);
        assert_eq!(values(reorder.release(EventTime::MAX).unwrap()), [1, 2]);
        reorder.push(&batch(2, &[(4, 4)])).unwrap();
        assert_eq!(reorder.take_refused(), 0);
    }
}
