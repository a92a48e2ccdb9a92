//! Stands in for Parquet files in a build without the feature `parquet`.

use std::path::Path;

use arrow::datatypes::SchemaRef;

use super::super::options::FileReadOptions;
use super::super::table::{RawBatch, Table};
use crate::error::{Error, ErrorKind, Result};

/// A Parquet file: never made in this build.
pub(crate) enum ParquetTable {}

impl ParquetTable {
    /// Says which feature is missing.
    pub(crate) fn open(path: &Path, _: &SchemaRef, _: &FileReadOptions) -> Result<Self> {
        Err(missing_feature(path))
    }
}

impl Table for ParquetTable {
    fn next(&mut self) -> Result<Option<RawBatch>> {
        match *self {}
    }
}

/// Says which feature is missing.
pub(crate) fn schema_of(path: &Path) -> Result<SchemaRef> {
    Err(missing_feature(path))
}

fn missing_feature(path: &Path) -> Error {
    let message = format!("file \"{}\" is parquet, which this build cannot read", path.display());
    Error::new(ErrorKind::Unsupported, message).with_hint("enable the feature `parquet`")
}
