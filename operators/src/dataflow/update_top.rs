//! The first rows of each key among those that are in: changes of them once per epoch.
//!
//! The first rows of a key are the first among the first of its buckets, so that a row that comes or goes is compared
//! with the rows of its bucket, and with a few from each of the others. Rows are held as bytes that compare as the order
//! asks, ties by the columns that it does not name: differential-dataflow hands them over in that order, which shows
//! neither arrival nor workers.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;

use super::arriving::{Arriving, enter};
use super::bytes::{Codec, give_changes};
use super::retain::Held;
use super::{BatchStream, QueryContext};
use crate::error::Result;
use crate::time::Watermarks;
use crate::window::Numbering;

/// The first rows of each key, as a dataflow finds them.
#[derive(Clone, Debug)]
pub struct TopStage {
    /// What makes a key, and how its rows are ordered and numbered.
    pub numbering: Numbering,
    /// How many rows of each key are given.
    pub rows: usize,
    /// How rows enter and leave.
    pub arriving: Arriving,
    /// Columns of the changes: those of the numbered rows, and the change.
    pub schema: SchemaRef,
    /// The watermarks of the sources at the bottom.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// A row and its number within its key.
type Numbered = (Vec<u8>, u64);

impl Held for Numbered {
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Gives the first rows of each key with their numbers.
///
/// # Errors
/// If a column's type cannot be compared.
pub fn update_top<'scope>(
    stream: BatchStream<'scope>,
    stage: TopStage,
) -> Result<BatchStream<'scope>> {
    let TopStage { numbering, rows: most, arriving, schema, watermarks, context } = stage;
    let (encoder, decoder) = (OrderedRows::new(&numbering)?, OrderedRows::new(&numbering)?);
    let rows = enter(stream, arriving, context.clone(), move |rows| encoder.encode(rows))?;
    let firsts = rows.reduce_named(
        "FirstOfBuckets",
        move |_bucket, rows: &[(&Vec<u8>, isize)], out: &mut Vec<(Vec<u8>, isize)>| {
            out.extend(first(rows, most).map(|(row, count)| (row.clone(), count as isize)));
        },
    );
    let by_key = firsts.map(|((key, _bucket), row)| (key, row));
    let numbered = by_key.reduce_named(
        "NumberFirst",
        move |_key, rows: &[(&Vec<u8>, isize)], out: &mut Vec<(Numbered, isize)>| {
            let rows = first(rows, most);
            let rows = rows.flat_map(|(row, count)| std::iter::repeat_n(row, count));
            out.extend((1..).zip(rows).map(|(number, row)| ((row.clone(), number), 1)));
        },
    );
    let numbered = numbered.map(|(_key, row)| row);
    Ok(give_changes(numbered, schema, watermarks, context, move |rows| decoder.decode(rows)))
}

/// Finds out whether rows can be ordered so.
///
/// # Errors
/// As for [`update_top`].
pub fn check_top(numbering: &Numbering) -> Result<()> {
    OrderedRows::new(numbering).map(|_| ())
}

/// The first of some rows, which are in order, and how often each is there: `most` in all, or fewer if there are fewer.
fn first<'a>(
    rows: &'a [(&'a Vec<u8>, isize)],
    most: usize,
) -> impl Iterator<Item = (&'a Vec<u8>, usize)> {
    let mut left = most;
    let counted = rows.iter().map_while(move |(row, count)| {
        let count = usize::try_from(*count).unwrap_or(0).min(left);
        let is_full = left == 0;
        left -= count;
        (!is_full).then_some((*row, count))
    });
    counted.filter(|(_, count)| *count > 0)
}

/// Between rows and bytes that compare as a numbering orders them.
struct OrderedRows {
    keys: Codec,
    rows: Codec,
    partition: Vec<usize>,
    /// Indexes of all columns, those that order rows first.
    columns: Vec<usize>,
}

impl OrderedRows {
    fn new(numbering: &Numbering) -> Result<Self> {
        let Numbering { partition, order, schema } = numbering;
        // The last column is the number.
        let width = schema.fields().len() - 1;
        let mut columns: Vec<(usize, SortOptions)> = Vec::with_capacity(width);
        let ties = (0..width).map(|index| (index, SortOptions::default()));
        // A column that is named again says nothing more.
        for (index, options) in order.iter().copied().chain(ties) {
            if columns.iter().all(|(known, _)| *known != index) {
                columns.push((index, options));
            }
        }
        let kind = |index: usize| schema.field(index).data_type();
        Ok(Self {
            keys: Codec::new(partition.iter().map(|index| kind(*index)))?,
            rows: Codec::ordered(columns.iter().map(|(index, options)| (kind(*index), *options)))?,
            partition: partition.clone(),
            columns: columns.into_iter().map(|(index, _)| index).collect(),
        })
    }

    /// The key and the whole of each row.
    fn encode(
        &self,
        rows: &RecordBatch,
    ) -> Result<impl Iterator<Item = (Vec<u8>, Vec<u8>)> + use<>> {
        let pick = |indexes: &[usize]| -> Vec<ArrayRef> {
            indexes.iter().map(|index| rows.column(*index).clone()).collect()
        };
        let keys = self.keys.encode(&pick(&self.partition), rows.num_rows())?;
        Ok(keys.into_iter().zip(self.rows.encode(&pick(&self.columns), rows.num_rows())?))
    }

    /// The columns of rows, in their own order, and the numbers.
    fn decode(&self, rows: &[&Numbered]) -> Result<Vec<ArrayRef>> {
        let decoded = self.rows.decode(rows.iter().map(|row| row.0.as_slice()))?;
        let mut placed: Vec<(usize, ArrayRef)> =
            self.columns.iter().copied().zip(decoded).collect();
        placed.sort_unstable_by_key(|(index, _)| *index);
        let mut columns: Vec<ArrayRef> = placed.into_iter().map(|(_, column)| column).collect();
        let numbers = UInt64Array::from_iter_values(rows.iter().map(|row| row.1));
        columns.push(Arc::new(numbers));
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    #[test]
    fn the_first_rows_are_those_with_the_least_bytes() {
        let bytes: Vec<Vec<u8>> = (0..4).map(|byte| vec![byte]).collect();
        let taken = |counts: [isize; 4], most: usize| -> Vec<(u8, usize)> {
            let rows: Vec<_> = bytes.iter().zip(counts).collect();
            first(&rows, most).map(|(row, count)| (row[0], count)).collect()
        };
        assert_eq!(taken([1, 1, 1, 1], 2), [(0, 1), (1, 1)]);
        assert_eq!(taken([1, 3, 1, 1], 3), [(0, 1), (1, 2)]);
        assert_eq!(taken([0, -1, 2, 1], 9), [(2, 2), (3, 1)]);
        assert_eq!(taken([5, 1, 1, 1], 1), [(0, 1)]);
        assert_eq!(taken([1, 1, 1, 1], 0), []);
    }

    #[test]
    fn bytes_are_in_the_order_that_is_asked_for_and_give_rows_back() {
        let fields = [("k", DataType::Utf8), ("v", DataType::Int64), ("number", DataType::UInt64)];
        let fields = fields.map(|(name, kind)| Field::new(name, kind, true));
        let down = SortOptions { descending: true, nulls_first: false };
        let numbering = Numbering {
            partition: vec![0],
            order: vec![(1, down), (1, SortOptions::default())],
            schema: Arc::new(Schema::new(fields.to_vec())),
        };
        let ordered = OrderedRows::new(&numbering).unwrap();
        let rows = RecordBatch::try_from_iter([
            ("k", Arc::new(StringArray::from(vec!["b", "a", "a", "a"])) as ArrayRef),
            ("v", Arc::new(Int64Array::from(vec![Some(5), Some(5), None, Some(9)]))),
        ])
        .unwrap();
        let mut encoded: Vec<_> = ordered.encode(&rows).unwrap().map(|(_, row)| row).collect();
        encoded.sort();
        let numbered: Vec<Numbered> = encoded.into_iter().zip(1..).collect();
        let columns = ordered.decode(&numbered.iter().collect::<Vec<_>>()).unwrap();
        let keys: Vec<&str> = columns[0].as_string::<i32>().iter().flatten().collect();
        assert_eq!(keys, ["a", "a", "b", "a"]);
        let values: Vec<_> = columns[1].as_primitive::<Int64Type>().iter().collect();
        assert_eq!(values, [Some(9), Some(5), Some(5), None]);
        assert_eq!(columns.len(), 3);
    }
}
