//! Writing rows to a file: CSV, NDJSON, Parquet or Arrow IPC.
//!
//! A [`FileSink`] either replaces a file as a whole, so that a reader sees the old one or the new one and never a
//! half, or adds to a file batch by batch, so that it can be followed. Whatever cannot be written is an error.

mod options;
mod output;
mod parquet;
mod text;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use options::FileWriteOptions as Options;
use output::{Destination, mend_last_line};
use parquet::ParquetWriter;
use writer::{IpcWriter, TextFormat, TextWriter, Writer};

pub(crate) use options::sink_options;
pub use options::{FileWriteOptions, WriteMode};

use crate::error::{Error, ErrorKind, Result};
use crate::source::files::failure::{data, settings, write_failed};
use crate::source::files::{FileFormat, csv_header};

/// Writes batches of one schema to a file.
///
/// Structs, lists and maps are written as JSON text to csv, and as they are to the other formats. CSV and NDJSON
/// are written without a buffer that could be lost; with [`WriteMode::Replace`] nothing is seen at the path before
/// [`finish`](Self::finish), and a sink that is dropped unfinished leaves its rows in `<path>.partial`.
///
/// ```
/// use std::sync::Arc;
/// use driftline::arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use driftline::{FileSink, FileWriteOptions, WriteMode};
///
/// # let folder = std::env::temp_dir().join(format!("driftline-doc-append-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("seen.csv");
/// let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)])?;
/// let options = FileWriteOptions { mode: WriteMode::Append, ..FileWriteOptions::default() };
/// for _ in 0..2 {
///     let mut sink = FileSink::create(&path, rows.schema(), &options)?;
///     sink.write(&rows)?;
///     assert_eq!((sink.rows_written(), sink.path()), (2, path.as_path()));
///     sink.finish()?;
/// }
/// assert_eq!(std::fs::read_to_string(&path)?, "n\n1\n2\n1\n2\n");
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "rows are safe once the sink is finished"]
pub struct FileSink {
    destination: Destination,
    schema: SchemaRef,
    writer: Box<dyn Writer>,
    rows_written: u64,
    is_broken: bool,
}

impl FileSink {
    /// Opens `path` for batches of `schema`.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable` if the file cannot be created or another sink writes it, `Settings` or `Unsupported` if
    /// the options do not fit together, `Incompatible` if the file that is to grow has other columns, `Data` if
    /// the format cannot hold a column.
    pub fn create(
        path: impl AsRef<Path>,
        schema: SchemaRef,
        options: &FileWriteOptions,
    ) -> Result<Self> {
        let path = path.as_ref();
        if options.mode == WriteMode::Checkpoint {
            let message = format!(
                "file sink \"{}\" belongs to no engine that takes checkpoints",
                path.display()
            );
            return Err(settings(message, "choose another mode, or CREATE SINK in an engine"));
        }
        Self::create_like(path, path, schema, options)
    }

    /// Opens `path` for a file that will have a name like `named`, which tells its format.
    pub(super) fn create_like(
        path: impl AsRef<Path>,
        named: &Path,
        schema: SchemaRef,
        options: &FileWriteOptions,
    ) -> Result<Self> {
        options.validate(named)?;
        if schema.fields().is_empty() {
            let message = format!("file sink \"{}\" has no columns", named.display());
            return Err(settings(message, "select at least one column"));
        }
        let (destination, file) = Destination::open(path.as_ref(), options.mode)?;
        let mut writer = open_writer(named, file, &schema, options)?;
        // A column that the format cannot hold is refused here, before the first row.
        writer.write(&RecordBatch::new_empty(schema.clone()))?;
        Ok(Self { destination, schema, writer, rows_written: 0, is_broken: false })
    }

    /// Writes a batch.
    ///
    /// # Errors
    ///
    /// Kind `Data` if the batch has other columns, `Unavailable` if the disk is full or the file cannot be written,
    /// `Closed` after such a failure where the format cannot take up again. CSV and NDJSON without gzip can: a
    /// batch that failed has left no trace and may be written again.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.check_whole()?;
        let is_same = batch.num_columns() == self.schema.fields().len()
            && self.schema.fields().iter().zip(batch.schema().fields()).all(|(wanted, found)| {
                wanted.name() == found.name() && wanted.data_type() == found.data_type()
            });
        if !is_same {
            return Err(data(&self.destination.path, "is written with another schema")
                .with_hint("write batches of the schema that the sink was created with"));
        }
        if let Err(error) = self.writer.write(batch) {
            self.is_broken = !self.writer.is_intact();
            return Err(error);
        }
        self.rows_written += batch.num_rows() as u64;
        Ok(())
    }

    /// Hands everything written so far to the operating system; in Parquet this ends a row group.
    ///
    /// It does not promise that the rows survive a loss of power: [`finish`](Self::finish) does.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn flush(&mut self) -> Result<()> {
        self.check_whole()?;
        self.writer.flush().inspect_err(|_| self.is_broken = true)
    }

    /// Ends the file, makes it durable and puts it in its place. Returns the number of rows written.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable` if that fails; the path is then as it was before, and the rows, as far as they were
    /// written, are in `<path>.partial`. Kind `Closed` after a failed write: half a file takes no one's place.
    pub fn finish(self) -> Result<u64> {
        self.check_whole()?;
        let file = self.writer.finish()?;
        self.destination.settle(&file, false)?;
        Ok(self.rows_written)
    }

    /// Ends the file and puts it in this place instead, on the same disk; what cannot be made durable is an error.
    pub(super) fn finish_as(mut self, path: &Path) -> Result<()> {
        self.check_whole()?;
        path.clone_into(&mut self.destination.path);
        let file = self.writer.finish()?;
        self.destination.settle(&file, true)
    }

    /// Drops what was written.
    pub(super) fn discard(self) {
        self.destination.discard();
    }

    /// Refuses a file that a sink is writing.
    pub(super) fn refuse_locked(path: &Path) -> Result<()> {
        let file = std::fs::File::open(path).map_err(|error| write_failed(path, error))?;
        output::lock(&file, path)
    }

    /// The number of rows written.
    #[must_use]
    pub fn rows_written(&self) -> u64 {
        self.rows_written
    }

    /// The path, as it will be once the sink is finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.destination.path
    }

    fn check_whole(&self) -> Result<()> {
        if self.is_broken {
            let message = format!(
                "file sink \"{}\" is closed, an earlier write to it failed",
                self.destination.path.display()
            );
            return Err(Error::new(ErrorKind::Closed, message));
        }
        Ok(())
    }
}

impl fmt::Debug for FileSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink")
            .field("path", &self.destination.path)
            .field("rows_written", &self.rows_written)
            .field("is_broken", &self.is_broken)
            .finish_non_exhaustive()
    }
}

fn open_writer(
    path: &Path,
    mut file: std::fs::File,
    schema: &SchemaRef,
    options: &Options,
) -> Result<Box<dyn Writer>> {
    let format = options.format_of(path)?;
    let text = match format {
        FileFormat::Parquet => return Ok(Box::new(ParquetWriter::new(path, file, schema)?)),
        FileFormat::ArrowIpc => {
            let is_stream = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("arrows"));
            return Ok(Box::new(IpcWriter::new(path, file, schema, is_stream)?));
        }
        FileFormat::Csv => {
            TextFormat::Csv { csv: options.csv.clone(), delimiter: options.csv.delimiter_for(path) }
        }
        FileFormat::Ndjson => TextFormat::Ndjson,
    };
    let has_rows = options.mode == WriteMode::Append && mend_last_line(&mut file, path)?;
    if has_rows && format == FileFormat::Csv && options.csv.header {
        check_header(path, schema, options)?;
    }
    let is_gzip = options.is_gzip(path);
    Ok(Box::new(TextWriter::new(path, file, schema, text, is_gzip, has_rows)?))
}

fn check_header(path: &Path, schema: &SchemaRef, options: &Options) -> Result<()> {
    let found = csv_header(path, &options.csv)?;
    if schema.fields().iter().map(|field| field.name().trim()).eq(found.iter().map(String::as_str))
    {
        return Ok(());
    }
    let message = format!("file \"{}\" has other columns than its sink", path.display());
    Err(Error::new(ErrorKind::Incompatible, message)
        .with_hint(format!("its columns are {}; choose another path", found.join(", "))))
}
