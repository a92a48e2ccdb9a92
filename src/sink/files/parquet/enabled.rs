//! Parquet files, compressed with zstd, a row group at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::super::writer::Writer;
use crate::error::{Error, Result};
use crate::source::files::failure::encode_failed;

/// A row group is closed at this size, however few rows it has; until then it is held in memory.
const ROW_GROUP_BYTES_MAX: usize = 64 << 20;

/// A Parquet file being written.
pub(crate) struct ParquetWriter {
    path: PathBuf,
    writer: ArrowWriter<File>,
}

impl ParquetWriter {
    /// Begins a file.
    pub(crate) fn new(path: &Path, file: File, schema: &SchemaRef) -> Result<Self> {
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|error| failed(path, error))?;
        Ok(Self { path: path.to_owned(), writer })
    }
}

impl Writer for ParquetWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(|error| failed(&self.path, error))?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| failed(&self.path, error))
    }

    fn finish(self: Box<Self>) -> Result<File> {
        self.writer.into_inner().map_err(|error| failed(&self.path, error))
    }
}

fn failed(path: &Path, error: ParquetError) -> Error {
    encode_failed(path, "parquet", error)
}
