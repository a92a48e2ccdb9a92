//! Numbers rows within their partition, in a given order: what `ROW_NUMBER() OVER (PARTITION BY ..., window_end ORDER BY
//! ...)` asks of the results of a window.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{SortOptions, concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, Rows, SortField};

use crate::error::Result;

/// How rows are numbered.
#[derive(Clone, Debug)]
pub struct Numbering {
    /// Indexes of the columns in which rows of a partition agree.
    pub partition: Vec<usize>,
    /// Indexes of the columns that order them, the most important first.
    pub order: Vec<(usize, SortOptions)>,
    /// The input's columns, then the number.
    pub schema: SchemaRef,
}

impl Numbering {
    /// Numbers rows from 1, each partition for itself. Rows that tie are ordered by the values of all their columns, so
    /// that neither the number of workers nor the way rows were cut into batches shows. They come out in order of
    /// partition and number.
    ///
    /// # Errors
    /// If a column that partitions or orders cannot be compared.
    pub fn apply(&self, input: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
        let rows = concat_batches(input, batches)?;
        let plain: Vec<_> = self.partition.iter().map(|&i| (i, SortOptions::default())).collect();
        let partitions = encode(&rows, &plain)?;
        let ties = (0..rows.num_columns()).map(|i| (i, SortOptions::default())).filter(|(i, _)| {
            RowConverter::supports_fields(&[SortField::new(rows.column(*i).data_type().clone())])
        });
        let keys: Vec<_> = self.order.iter().copied().chain(ties).collect();
        let keys = encode(&rows, &keys)?;
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        let key = |row: u32| (partitions.row(row as usize), keys.row(row as usize));
        order.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)));
        let mut numbers = Vec::with_capacity(order.len());
        for part in order.chunk_by(|a, b| key(*a).0 == key(*b).0) {
            numbers.extend(1..=part.len() as u64);
        }
        let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(numbers)) as ArrayRef);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn encode(rows: &RecordBatch, columns: &[(usize, SortOptions)]) -> Result<Rows> {
    let field = |(i, options): &(usize, SortOptions)| {
        SortField::new_with_options(rows.column(*i).data_type().clone(), *options)
    };
    let converter = RowConverter::new(columns.iter().map(field).collect())?;
    let columns: Vec<ArrayRef> = columns.iter().map(|(i, _)| rows.column(*i).clone()).collect();
    Ok(converter.convert_columns(&columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};

    use super::*;

    #[test]
    fn rows_are_numbered_within_their_partition() {
        let batch = |keys: Vec<&str>, values: Vec<Option<i64>>| {
            RecordBatch::try_from_iter_with_nullable([
                ("k", Arc::new(StringArray::from(keys)) as ArrayRef, true),
                ("v", Arc::new(Int64Array::from(values)), true),
            ])
            .unwrap()
        };
        let first = batch(vec!["b", "a", "a"], vec![Some(1), Some(3), None]);
        let second = batch(vec!["a", "b"], vec![Some(7), Some(1)]);
        let mut fields = first.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("n", DataType::UInt64, false)));
        let numbering = Numbering {
            partition: vec![0],
            order: vec![(1, SortOptions { descending: true, nulls_first: false })],
            schema: Arc::new(Schema::new(fields)),
        };
        for batches in [[first.clone(), second.clone()], [second, first.clone()]] {
            let out = numbering.apply(&first.schema(), &batches).unwrap();
            let keys: Vec<&str> = out.column(0).as_string::<i32>().iter().flatten().collect();
            assert_eq!(keys, ["a", "a", "a", "b", "b"]);
            let values: Vec<_> = out.column(1).as_primitive::<Int64Type>().iter().collect();
            assert_eq!(values, [Some(7), Some(3), None, Some(1), Some(1)]);
            assert_eq!(*out.column(2).as_primitive::<UInt64Type>().values(), [1, 2, 3, 1, 2]);
        }
    }
}
