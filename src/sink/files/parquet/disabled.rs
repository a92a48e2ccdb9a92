//! Stands in for Parquet files in a build without the feature `parquet`.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::super::writer::Writer;
use crate::error::{Error, ErrorKind, Result};

/// A Parquet file being written: never made in this build.
pub(crate) enum ParquetWriter {}

impl ParquetWriter {
    /// Says which feature is missing.
    pub(crate) fn new(path: &Path, _: File, _: &SchemaRef) -> Result<Self> {
        let message =
            format!("file \"{}\" is parquet, which this build cannot write", path.display());
        Err(Error::new(ErrorKind::Unsupported, message).with_hint("enable the feature `parquet`"))
    }
}

impl Writer for ParquetWriter {
    fn write(&mut self, _: &RecordBatch) -> Result<()> {
        match *self {}
    }

    fn flush(&mut self) -> Result<()> {
        match *self {}
    }

    fn finish(self: Box<Self>) -> Result<File> {
        match *self {}
    }
}
