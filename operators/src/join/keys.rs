//! The columns in which the rows of a match are equal, as bytes.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, Rows, SortField};

use super::Side;
use crate::error::{OperatorError, Result};

/// Key columns of both sides.
#[derive(Debug)]
pub(super) struct Keys {
    columns: [Vec<usize>; 2],
    converter: RowConverter,
}

impl Keys {
    /// # Errors
    /// If a column's type cannot be compared, or the types of both sides differ.
    pub(super) fn new(columns: &[Vec<usize>; 2], inputs: [&SchemaRef; 2]) -> Result<Self> {
        let mut fields = Vec::new();
        for (&left, &right) in columns[0].iter().zip(&columns[1]) {
            let (left, right) = (inputs[0].field(left), inputs[1].field(right));
            let field = SortField::new(left.data_type().clone());
            if left.data_type() != right.data_type()
                || !RowConverter::supports_fields(std::slice::from_ref(&field))
            {
                return Err(OperatorError::Columns {
                    owner: "join".into(),
                    problem: format!(
                        "compares \"{}\" of type {} with \"{}\" of type {}",
                        left.name(),
                        left.data_type(),
                        right.name(),
                        right.data_type()
                    ),
                    hint: "cast both sides to one simple type".into(),
                });
            }
            fields.push(field);
        }
        Ok(Self { columns: columns.clone(), converter: RowConverter::new(fields)? })
    }

    /// Which of a side's rows have a key and a time. Others equal nothing.
    pub(super) fn present(&self, side: Side, rows: &RecordBatch, time: usize) -> Present {
        let columns = self.columns[side as usize].iter().chain([&time]);
        Present::of(columns.map(|&index| rows.column(index)))
    }

    /// The keys of a side's rows, from all columns of them.
    pub(super) fn read(&self, side: Side, columns: &[ArrayRef]) -> Result<KeyRows> {
        let own = self.columns[side as usize].iter().map(|&index| columns[index].clone());
        let own: Vec<ArrayRef> = own.collect();
        let present = Present::of(own.iter());
        let rows = match own.as_slice() {
            [] => None,
            own => Some(self.converter.convert_columns(own)?),
        };
        Ok(KeyRows { present, rows })
    }
}

/// Which rows have no null in some columns.
#[derive(Debug)]
pub(super) struct Present(Option<NullBuffer>);

impl Present {
    fn of<'a>(columns: impl Iterator<Item = &'a ArrayRef>) -> Self {
        Self(columns.fold(None, |nulls, column| {
            NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
        }))
    }

    pub(super) fn has(&self, row: usize) -> bool {
        self.0.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    /// The times of those rows.
    pub(super) fn times(&self, all: &ScalarBuffer<i64>) -> ScalarBuffer<i64> {
        match &self.0 {
            None => all.clone(),
            Some(nulls) => nulls.valid_indices().map(|row| all[row]).collect(),
        }
    }
}

/// The keys of some rows.
#[derive(Debug)]
pub(super) struct KeyRows {
    present: Present,
    /// `None` if all rows are equal, for want of key columns.
    rows: Option<Rows>,
}

impl KeyRows {
    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, Rows::size)
    }

    /// The key of a row, unless it has none.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        self.present
            .has(row)
            .then(|| self.rows.as_ref().map_or(&[][..], |rows| rows.row(row).data()))
    }
}
