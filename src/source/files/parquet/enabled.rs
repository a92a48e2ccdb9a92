//! Parquet files, read a batch at a time and only in the columns that are wanted.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::super::failure::{decode_failed, read_failed, without_panic};
use super::super::options::FileReadOptions;
use super::super::table::{RawBatch, Table, match_columns};
use crate::error::Result;

const FORMAT: &str = "parquet";

/// A Parquet file.
pub(crate) struct ParquetTable {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    /// By target column: its place among the columns that are read.
    columns: Vec<Option<usize>>,
    row_number: u64,
}

impl ParquetTable {
    /// Opens a file to read the columns of `target`.
    pub(crate) fn open(path: &Path, target: &SchemaRef, options: &FileReadOptions) -> Result<Self> {
        let builder = open_builder(path)?;
        let fields = builder.schema().fields();
        let names: Vec<_> = fields.iter().map(|field| field.name().clone()).collect();
        let in_file = match_columns(path, target, &names, &options.columns)?;
        // The reader keeps the file's order of columns, whatever the order they are asked for.
        let mut wanted: Vec<usize> = in_file.iter().flatten().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let place = |at: usize| wanted.iter().position(|wanted| *wanted == at);
        let columns = in_file.iter().map(|at| at.and_then(place)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
        let builder = builder.with_projection(mask).with_batch_size(options.batch_rows);
        let batches = without_panic(path, FORMAT, || {
            builder.build().map_err(|error| decode_failed(path, FORMAT, error))
        })?;
        Ok(Self { path: path.to_owned(), batches, columns, row_number: 1 })
    }
}

impl Table for ParquetTable {
    fn next(&mut self) -> Result<Option<RawBatch>> {
        let (path, batches) = (&self.path, &mut self.batches);
        let batch = without_panic(path, FORMAT, || {
            batches.next().transpose().map_err(|error| decode_failed(path, FORMAT, error))
        })?;
        Ok(batch.map(|batch| {
            let first = self.row_number;
            self.row_number += batch.num_rows() as u64;
            RawBatch::of_columns(&batch, &self.columns, first)
        }))
    }
}

/// The schema of a file.
pub(crate) fn schema_of(path: &Path) -> Result<SchemaRef> {
    open_builder(path).map(|builder| builder.schema().clone())
}

fn open_builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|error| read_failed(path, error))?;
    without_panic(path, FORMAT, || {
        ParquetRecordBatchReaderBuilder::try_new(file)
            .map_err(|error| decode_failed(path, FORMAT, error))
    })
}
