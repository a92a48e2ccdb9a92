//! Tables: rows that do not change while a query runs, to be looked up by the rows of a stream.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use driftline_queries::TableRows;

use crate::error::{Error, ErrorKind, Result};
use crate::source::{FileReadOptions, FileReader, infer_schema};

/// The rows of a table as they stand now. A query takes them as they are when it starts.
#[derive(Clone, Debug)]
pub(crate) struct TableObject {
    rows: TableRows,
    bytes: usize,
    /// The file that it was read from; empty where there is none.
    pub(crate) from: String,
}

impl TableObject {
    /// A table without rows.
    pub(crate) fn empty(schema: SchemaRef) -> Self {
        Self { rows: TableRows::new(schema, Vec::new()), bytes: 0, from: String::new() }
    }

    /// Reads a table, all of it, with these columns or those that its file suggests.
    pub(crate) fn read(
        name: &str,
        path: &Path,
        options: FileReadOptions,
        columns: Option<SchemaRef>,
        bytes_max: usize,
    ) -> Result<Self> {
        let schema = columns.map_or_else(|| infer_schema(path, &options), Ok)?;
        let mut reader = FileReader::open(path, schema.clone(), options)?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(rows) = reader.next().transpose()? {
            bytes += rows.get_array_memory_size();
            check_bytes(name, bytes, bytes_max)?;
            batches.push(rows);
        }
        let rows = TableRows::new(schema, batches);
        Ok(Self { rows, bytes, from: path.display().to_string() })
    }

    /// Adds rows, which have the table's columns.
    pub(crate) fn append(&mut self, name: &str, rows: RecordBatch, bytes_max: usize) -> Result<()> {
        check_bytes(name, self.bytes.saturating_add(rows.get_array_memory_size()), bytes_max)?;
        let (schema, mut rows) = (self.schema(), rows);
        let mut batches = self.rows.batches().to_vec();
        // A batch is put together with those before it that are no larger, so that many small ones stay few.
        while let Some(last) = batches.pop_if(|last| last.num_rows() <= rows.num_rows()) {
            rows = concat_batches(&schema, [&last, &rows]).map_err(|error| {
                Error::internal("rows do not fit their table").with_source(error)
            })?;
        }
        batches.push(rows);
        self.bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        self.rows = TableRows::new(schema, batches);
        Ok(())
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    pub(crate) fn rows(&self) -> TableRows {
        self.rows.clone()
    }

    /// How many rows it has.
    pub(crate) fn len(&self) -> usize {
        self.rows.batches().iter().map(RecordBatch::num_rows).sum()
    }
}

fn check_bytes(name: &str, bytes: usize, bytes_max: usize) -> Result<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("table \"{name}\" would have more than {bytes_max} bytes");
    Err(Error::new(ErrorKind::Settings, message)
        .with_hint("raise the setting \"table_bytes_max\", or leave out rows and columns"))
}
