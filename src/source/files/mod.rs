//! Reading recorded telemetry from files: CSV, NDJSON, Parquet and Arrow IPC, a file or a folder at a time.
//!
//! A [`FileReader`] turns whatever a file holds into batches of one schema. It streams: memory is bounded by a batch,
//! or by [`FileReadOptions::rows_in_order_max`] rows where the order of event time is asked for. It reads no clock
//! and does not sleep: a paced batch says when it is due, and the caller waits.
//!
//! The layers, from the bytes up: `lines` (text, gzip), one module a format (a `Table` of raw columns), `values` and
//! `convert` (the source's types, malformed rows), `open` (one file), `order` (many files by event time).

mod convert;
mod csv;
mod event_time;
pub(crate) mod failure;
mod infer;
mod ipc;
mod lines;
mod malformed;
mod ndjson;
mod open;
pub(crate) mod options;
mod order;
mod parquet;
mod paths;
mod table;
mod timestamps;
mod values;
pub(crate) mod with;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use event_time::{Pacer, time_column_index};
use malformed::MalformedRows;
use open::OpenFile;
use order::Merge;

pub use event_time::PacedBatch;
pub use infer::infer_schema;
pub(crate) use ipc::batches_of;
pub use malformed::MalformedRow;
pub use options::{CsvOptions, FileFormat, FileReadOptions, MalformedPolicy, Pace, ReadOrder};

use crate::error::Result;

/// Reads files as batches of one schema.
///
/// Columns are found by name, in any case if not exactly, and turned into the schema's types: timestamps from the
/// common spellings and from numbers, structs and lists from JSON text. A nullable column that a file lacks is
/// null. Rows that do not fit are counted and skipped, or refused: see [`FileReadOptions::malformed`].
///
/// As an iterator it ends after the first error.
///
/// ```
/// use driftline::{CsvOptions, FileFormat, FileReadOptions, FileReader, ReadOrder, infer_schema};
///
/// # let folder = std::env::temp_dir().join(format!("driftline-doc-reader-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # std::fs::write(folder.join("a.log"), "ts;cpu\n2024-01-01 00:00:00;0.5\n2024-01-01 00:00:02;0.7\n")?;
/// # std::fs::write(folder.join("b.log"), "ts;cpu\n2024-01-01 00:00:01;0.6\n")?;
/// // Two files whose names do not tell their format, with rows of the same time span.
/// let options = FileReadOptions {
///     format: Some(FileFormat::Csv),
///     csv: CsvOptions { delimiter: Some(b';'), ..CsvOptions::default() },
///     order: ReadOrder::EventTime,
///     ..FileReadOptions::default()
/// };
/// let path = folder.join("*.log");
/// let mut reader = FileReader::open(&path, infer_schema(&path, &options)?, options.clone())?;
/// assert_eq!(reader.files().len(), 2);
/// reader.skip_rows(1)?;
/// // The row of the second file lies between those of the first.
/// let rows = reader.next().transpose()?.expect("two rows are left");
/// assert_eq!(rows["cpu"].as_ref(), &driftline::arrow::array::Float64Array::from(vec![0.6]));
/// assert_eq!(reader.rows_read(), 2);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileReader {
    paths: Vec<PathBuf>,
    schema: SchemaRef,
    options: FileReadOptions,
    malformed: MalformedRows,
    rows_read: u64,
    /// What skipping left over of a batch.
    remainder: Option<RecordBatch>,
    stage: Stage,
    pacer: Option<Pacer>,
}

/// The column names in the header of a csv file; none where it is empty.
pub(crate) fn csv_header(path: &Path, csv: &CsvOptions) -> Result<Vec<String>> {
    let options = FileReadOptions { csv: csv.clone(), ..FileReadOptions::default() };
    Ok(csv::CsvTable::open_whole(path, &options)?.names().to_vec())
}

enum Stage {
    /// File after file: the place of the next one, and the one being read.
    AsTheyLie {
        next: usize,
        file: Option<OpenFile>,
    },
    /// In order of event time, not yet surveyed.
    Unsurveyed {
        time_index: usize,
    },
    Merging(Box<Merge>),
    Ended,
}

impl FileReader {
    /// Opens `path` to read it as batches of `schema`.
    ///
    /// The path is a file, a folder, or a pattern whose file name has `*` and `?`. The list of files is settled
    /// here, and the first one is opened to check its columns; the others are opened in their turn.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable` if no file is found or one cannot be opened, `Data` if the first file is of another
    /// format or lacks a column, `Settings` if an option is out of range or the format cannot be told.
    pub fn open(
        path: impl AsRef<Path>,
        schema: SchemaRef,
        options: FileReadOptions,
    ) -> Result<Self> {
        options.validate()?;
        let time_index = || time_column_index(&schema, options.time_column.as_deref());
        let pacer = match options.pace {
            Pace::FullSpeed => None,
            Pace::Times(times) => Some(Pacer::new(times, time_index()?)),
        };
        let mut stage = match options.order {
            ReadOrder::AsTheyLie => Stage::AsTheyLie { next: 0, file: None },
            ReadOrder::EventTime => Stage::Unsurveyed { time_index: time_index()? },
        };
        let paths = paths::resolve(path.as_ref(), &options)?;
        for path in &paths {
            options.format_of(path)?;
        }
        let first =
            paths.first().map(|path| OpenFile::open(path, &schema, &options)).transpose()?;
        if let Stage::AsTheyLie { next, file } = &mut stage {
            *next = usize::from(first.is_some());
            *file = first;
        }
        let malformed = MalformedRows::new(options.malformed);
        Ok(Self { paths, schema, options, malformed, rows_read: 0, remainder: None, stage, pacer })
    }

    /// The schema of every batch.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The files that are read, in the order of their names.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.paths
    }

    /// How many rows were malformed and skipped so far.
    #[must_use]
    pub fn malformed_rows(&self) -> u64 {
        self.malformed.count()
    }

    /// The first few malformed rows.
    #[must_use]
    pub fn malformed_examples(&self) -> &[MalformedRow] {
        self.malformed.examples()
    }

    /// How many rows were read so far, malformed ones not among them: the place to resume at.
    ///
    /// A batch that [`next_paced`](Self::next_paced) hands out in pieces counts as a whole.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// Passes over the first `rows` rows, to resume where another reader of the same files and options stopped.
    ///
    /// The rows are read and dropped; malformed ones among them are counted again.
    ///
    /// # Errors
    ///
    /// As for reading; fewer rows than asked for are no error.
    pub fn skip_rows(&mut self, rows: u64) -> Result<()> {
        let end = self.rows_read.saturating_add(rows);
        while self.rows_read < end {
            let before = self.rows_read;
            let Some(batch) = self.next().transpose()? else { return Ok(()) };
            if let Ok(start) = usize::try_from(end - before)
                && start < batch.num_rows()
            {
                self.rows_read = end;
                self.remainder = Some(batch.slice(start, batch.num_rows() - start));
            }
        }
        Ok(())
    }

    /// The next batch with the moment at which it is due; at full speed every batch is due at once.
    ///
    /// A paced batch stands for at most a tenth of a second of real time. The caller starts its clock with the
    /// first batch, and waits until `due` has passed since then. Do not mix with [`Iterator::next`].
    pub fn next_paced(&mut self) -> Option<Result<PacedBatch>> {
        loop {
            if let Some(piece) = self.pacer.as_mut().and_then(Pacer::next_piece) {
                return Some(Ok(piece));
            }
            let batch = match self.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            };
            match &mut self.pacer {
                None => return Some(Ok(PacedBatch { batch, due: std::time::Duration::ZERO })),
                Some(pacer) => {
                    if let Err(error) = pacer.put(batch) {
                        return Some(Err(self.end(error)));
                    }
                }
            }
        }
    }

    fn end(&mut self, error: crate::error::Error) -> crate::error::Error {
        self.stage = Stage::Ended;
        error
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(remainder) = self.remainder.take() {
            return Ok(Some(remainder));
        }
        loop {
            match &mut self.stage {
                Stage::Ended => return Ok(None),
                Stage::AsTheyLie { next, file } => {
                    if let Some(open) = file {
                        if let Some(batch) = open.next(&mut self.malformed)? {
                            return Ok(Some(batch));
                        }
                        *file = None;
                    }
                    let Some(path) = self.paths.get(*next) else { return Ok(None) };
                    *next += 1;
                    *file = Some(OpenFile::open(path, &self.schema, &self.options)?);
                }
                Stage::Unsurveyed { time_index } => {
                    let time_index = *time_index;
                    let merge =
                        Merge::survey(&self.paths, &self.schema, time_index, &self.options)?;
                    self.stage = Stage::Merging(Box::new(merge));
                }
                Stage::Merging(merge) => return merge.next(&mut self.malformed),
            }
        }
    }
}

impl Iterator for FileReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(Some(batch)) => {
                self.rows_read += batch.num_rows() as u64;
                Some(Ok(batch))
            }
            Ok(None) => {
                self.stage = Stage::Ended;
                None
            }
            Err(error) => Some(Err(self.end(error))),
        }
    }
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader")
            .field("files", &self.paths.len())
            .field("rows_read", &self.rows_read)
            .field("malformed", &self.malformed)
            .finish_non_exhaustive()
    }
}
