//! Columns as files hold them, turned into the types of the source; rows that do not fit are singled out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, make_array, new_null_array,
};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::failure::data;
use super::malformed::{FileTally, MalformedRows, Refusal};
use super::options::FileReadOptions;
use super::table::RawBatch;
use super::values::{ValueOptions, convert_values};
use crate::error::Result;

/// Turns the raw batches of one file into batches of the source's schema.
pub(super) struct Converter {
    path: PathBuf,
    target: SchemaRef,
    values: ValueOptions,
    tally: FileTally,
}

/// Rows that do not fit, each with the first reason that was found.
#[derive(Default)]
pub(super) struct Faults(BTreeMap<usize, String>);

impl Faults {
    pub(super) fn add(&mut self, row: usize, reason: impl FnOnce() -> String) {
        self.0.entry(row).or_insert_with(reason);
    }
}

impl Converter {
    pub(super) fn new(path: PathBuf, target: SchemaRef, options: &FileReadOptions) -> Self {
        let values = ValueOptions { time_unit: options.time_unit };
        Self { path, target, values, tally: FileTally::default() }
    }

    /// Converts a batch and counts its malformed rows.
    pub(super) fn convert(
        &mut self,
        raw: RawBatch,
        malformed: &mut MalformedRows,
    ) -> Result<RecordBatch> {
        let mut faults = Faults::default();
        let mut columns = Vec::with_capacity(raw.columns.len());
        for (column, field) in raw.columns.into_iter().zip(self.target.fields()) {
            let converted = match column {
                None => new_null_array(field.data_type(), raw.rows),
                Some(column) => {
                    convert_values(&column, field, self.values, &mut faults).map_err(|error| {
                        self.mistyped(&column, field.name(), field.data_type(), error)
                    })?
                }
            };
            if !field.is_nullable() && converted.null_count() > 0 {
                for row in (0..raw.rows).filter(|row| converted.is_null(*row)) {
                    faults.add(row, || format!("column {:?} is null", field.name()));
                }
            }
            columns.push(converted);
        }
        let rows = raw.rows - faults.0.len();
        if rows < raw.rows {
            let keep: BooleanArray =
                (0..raw.rows).map(|row| Some(!faults.0.contains_key(&row))).collect();
            columns = columns
                .iter()
                .map(|column| filter(column, &keep))
                .collect::<Result<_, _>>()
                .map_err(|error| self.misfit(error))?;
        }
        let mut refused = raw.refused;
        let line_of = |row| raw.lines.of(row);
        refused.extend(
            faults.0.into_iter().map(|(row, reason)| Refusal { line: line_of(row), reason }),
        );
        refused.sort_by_key(|refusal| refusal.line);
        malformed.record(&self.path, &mut self.tally, rows, refused)?;
        let columns: Vec<ArrayRef> = columns
            .into_iter()
            .zip(self.target.fields())
            .map(|(column, field)| relabel(column, field.data_type()))
            .collect::<Result<_, _>>()
            .map_err(|error| self.misfit(error))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.target.clone(), columns, &options)
            .map_err(|error| self.misfit(error))
    }

    fn misfit(&self, error: ArrowError) -> crate::error::Error {
        data(&self.path, "does not fit the schema of the source").with_source(error)
    }

    fn mistyped(
        &self,
        column: &ArrayRef,
        name: &str,
        wanted: &arrow::datatypes::DataType,
        error: ArrowError,
    ) -> crate::error::Error {
        let found = column.data_type();
        data(
            &self.path,
            format!("has {found} in column {name:?}, which cannot be read as {wanted}"),
        )
        .with_hint("declare the column with another type, or leave it out of the source")
        .with_source(error)
    }
}

/// Gives an array the exact type of its target where they differ in names inside a nested type only.
fn relabel(array: ArrayRef, target: &arrow::datatypes::DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == target {
        return Ok(array);
    }
    let data = array.to_data().into_builder().data_type(target.clone()).build()?;
    Ok(make_array(data))
}
