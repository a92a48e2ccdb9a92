//! Rows in arrow's row format, back as columns.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow_row::RowConverter;

use crate::error::Result;
use crate::state::decode_rows;

/// The columns of rows that `converter` has made, of the types that they had then: rows forget that a column was a
/// dictionary.
pub(crate) fn columns_of<'r, 't>(
    converter: &RowConverter,
    rows: impl IntoIterator<Item = &'r [u8]>,
    types: impl IntoIterator<Item = &'t DataType>,
) -> Result<Vec<ArrayRef>> {
    let parser = converter.parser();
    let columns = decode_rows(converter, rows.into_iter().map(|row| parser.parse(row)))?;
    let typed = columns.into_iter().zip(types);
    typed
        .map(|(column, kind)| match column.data_type() == kind {
            true => Ok(column),
            false => Ok(cast(&column, kind)?),
        })
        .collect()
}
