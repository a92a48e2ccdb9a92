//! Parquet files, where the feature `parquet` is enabled.

#[cfg(not(feature = "parquet"))]
mod disabled;
#[cfg(feature = "parquet")]
mod enabled;

#[cfg(not(feature = "parquet"))]
pub(super) use disabled::{ParquetTable, schema_of};
#[cfg(feature = "parquet")]
pub(super) use enabled::{ParquetTable, schema_of};
