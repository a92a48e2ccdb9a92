//! The first of equal rows: rows that hold an event time need to be remembered only until none like them can come.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};
use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::error::{OperatorError, Result};
use crate::key::fixed_hasher;
use crate::rows::columns_of;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::EventTime;
use crate::window::TimeType;

/// What is remembered is forgotten so much event time at a time.
const CHUNK_NS: i64 = 1_000_000_000;

/// The rows that have been seen.
#[derive(Debug)]
pub struct Distinct {
    schema: SchemaRef,
    time_index: usize,
    time: TimeType,
    rows: RowConverter,
    hasher: FixedState,
    /// Rows as bytes, by chunk of time.
    seen: BTreeMap<i64, HashSet<Box<[u8]>, FixedState>>,
    count: usize,
    bytes: usize,
    rows_max: usize,
    refused: u64,
}

impl Distinct {
    /// Remembers at most `rows_max` rows of a schema, by their event-time column.
    ///
    /// # Errors
    /// If a column's type cannot be compared, or the time column is no timestamp.
    pub fn new(schema: &SchemaRef, time_index: usize, rows_max: usize) -> Result<Self> {
        let fields = schema.fields().iter();
        let sorts: Vec<_> = fields.map(|f| SortField::new(f.data_type().clone())).collect();
        let is_unfit =
            |sort: &SortField| !RowConverter::supports_fields(std::slice::from_ref(sort));
        if let Some(index) = sorts.iter().position(is_unfit) {
            let field = schema.field(index);
            return Err(OperatorError::Columns {
                owner: "DISTINCT".into(),
                problem: format!("compares \"{}\" of type {}", field.name(), field.data_type()),
                hint: "leave the column away, or cast it to a simple type".into(),
            });
        }
        Ok(Self {
            schema: Arc::clone(schema),
            time_index,
            time: TimeType::new(schema.field(time_index).data_type())?,
            rows: RowConverter::new(sorts)?,
            hasher: fixed_hasher(),
            seen: BTreeMap::new(),
            count: 0,
            bytes: 0,
            rows_max,
            refused: 0,
        })
    }

    /// Takes rows and gives those that are the first of their kind, if any. Rows for which there is no room are refused
    /// and counted.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let times = self.time.read(batch.column(self.time_index));
        let rows = self.rows.convert_columns(batch.columns())?;
        let mut first: Vec<u32> = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let chunk = times[place].div_euclid(CHUNK_NS);
            let hasher = &self.hasher;
            let seen =
                self.seen.entry(chunk).or_insert_with(|| HashSet::with_hasher(hasher.clone()));
            if seen.contains(row.data()) {
                continue;
            }
            if self.count >= self.rows_max {
                self.refused += 1;
                continue;
            }
            seen.insert(row.data().into());
            self.count += 1;
            self.bytes += row.data().len();
            first.push(place as u32);
        }
        if first.is_empty() {
            return Ok(None);
        }
        if first.len() == batch.num_rows() {
            return Ok(Some(batch.clone()));
        }
        Ok(Some(take_record_batch(batch, &UInt32Array::from(first))?))
    }

    /// From now on no row comes whose time is below `complete`.
    pub fn forget(&mut self, complete: EventTime) {
        let open = complete.0.div_euclid(CHUNK_NS);
        while let Some(oldest) = self.seen.first_entry()
            && (complete == EventTime::MAX || *oldest.key() < open)
        {
            let rows = oldest.remove();
            self.count -= rows.len();
            self.bytes -= rows.iter().map(|row| row.len()).sum::<usize>();
        }
    }

    /// Rows refused since the last call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Bytes held, estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.count * (size_of::<Box<[u8]>>() + 1)
    }
}

impl Stateful for Distinct {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        for seen in self.seen.values() {
            // In an order that does not depend on hashes, so that equal states are equal bytes.
            let mut rows: Vec<&[u8]> = seen.iter().map(|row| &**row).collect();
            rows.sort_unstable();
            let types = self.schema.fields().iter().map(|field| field.data_type());
            let arrays = columns_of(&self.rows, rows, types)?;
            out.keyed("seen", RecordBatch::try_new(Arc::clone(&self.schema), arrays)?, &columns)?;
        }
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        // Fewer workers hold more rows each.
        let rows_max = std::mem::replace(&mut self.rows_max, usize::MAX);
        for rows in saved.rows_as("seen", &Arc::clone(&self.schema))? {
            self.add(&rows)?;
        }
        self.rows_max = rows_max;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampNanosecondArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(rows: &[(i64, i64)]) -> RecordBatch {
        let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|r| r.0 * CHUNK_NS));
        let values = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
        RecordBatch::try_from_iter([("t", Arc::new(times) as ArrayRef), ("v", Arc::new(values))])
            .unwrap()
    }

    fn values(rows: Option<RecordBatch>) -> Vec<i64> {
        rows.map_or(vec![], |rows| rows.column(1).as_primitive::<Int64Type>().values().to_vec())
    }

    #[test]
    fn equal_rows_pass_once_until_they_are_past() {
        let mut distinct = Distinct::new(&batch(&[]).schema(), 0, 3).unwrap();
        let mut add = |rows: &[(i64, i64)]| {
            (values(distinct.add(&batch(rows)).unwrap()), distinct.take_refused())
        };
        assert_eq!(add(&[(1, 1), (1, 2), (1, 1)]), (vec![1, 2], 0));
        assert_eq!(add(&[(1, 2), (1, 1)]), (vec![], 0));
        // Another time is another row; there is room for three.
        assert_eq!(add(&[(2, 1), (2, 2), (1, 1)]), (vec![1], 1));
        distinct.forget(EventTime(2 * CHUNK_NS));
        let mut add = |rows: &[(i64, i64)]| values(distinct.add(&batch(rows)).unwrap());
        assert_eq!(add(&[(2, 1), (2, 2), (3, 1)]), [2, 1]);
        distinct.forget(EventTime::MAX);
        assert_eq!((distinct.count, distinct.bytes()), (0, 0));
    }
}
