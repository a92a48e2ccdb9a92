//! One file of any format, read as batches of the source's schema.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::convert::Converter;
use super::csv::CsvTable;
use super::ipc::IpcTable;
use super::malformed::MalformedRows;
use super::ndjson::NdjsonTable;
use super::options::{FileFormat, FileReadOptions};
use super::parquet::ParquetTable;
use super::table::Table;
use crate::error::Result;

/// A file being read.
pub(super) struct OpenFile {
    table: Box<dyn Table>,
    converter: Converter,
}

impl OpenFile {
    pub(super) fn open(path: &Path, schema: &SchemaRef, options: &FileReadOptions) -> Result<Self> {
        let table: Box<dyn Table> = match options.format_of(path)? {
            FileFormat::Csv => Box::new(CsvTable::open(path, schema, options)?),
            FileFormat::Ndjson => Box::new(NdjsonTable::open(path, schema, options)?),
            FileFormat::Parquet => Box::new(ParquetTable::open(path, schema, options)?),
            FileFormat::ArrowIpc => Box::new(IpcTable::open(path, schema, options)?),
        };
        let converter = Converter::new(path.to_owned(), schema.clone(), options);
        Ok(Self { table, converter })
    }

    /// The next batch that has rows; `None` at the end. After an error the file must not be asked again.
    pub(super) fn next(&mut self, malformed: &mut MalformedRows) -> Result<Option<RecordBatch>> {
        while let Some(raw) = self.table.next()? {
            let batch = self.converter.convert(raw, malformed)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
