//! Parquet files, where the feature `parquet` is enabled.

#[cfg(not(feature = "parquet"))]
mod disabled;
#[cfg(feature = "parquet")]
mod enabled;

#[cfg(not(feature = "parquet"))]
pub(super) use disabled::ParquetWriter;
#[cfg(feature = "parquet")]
pub(super) use enabled::ParquetWriter;
