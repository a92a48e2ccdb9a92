//! How files are read: their format, the order and pace of their rows, and what becomes of malformed ones.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::TimeUnit;

use super::failure::settings;
use crate::error::Result;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFormat {
    /// Delimited text, one record a line or more (`.csv`, `.tsv`), plain or gzip.
    Csv,
    /// One JSON object a line (`.ndjson`, `.jsonl`, `.json`), plain or gzip.
    Ndjson,
    /// Apache Parquet (`.parquet`, `.pq`); needs the feature `parquet`.
    Parquet,
    /// Arrow IPC, the file format (`.arrow`, `.feather`, `.ipc`) and the stream format (`.arrows`).
    ArrowIpc,
}

impl FileFormat {
    /// The format that a file's name promises, looking through `.gz`.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        match extension_of(path)?.as_str() {
            "csv" | "tsv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "parquet" | "pq" => Some(Self::Parquet),
            "arrow" | "arrows" | "feather" | "ipc" => Some(Self::ArrowIpc),
            _ => None,
        }
    }

    /// The word for it in `WITH (format = ...)`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
            Self::ArrowIpc => "arrow_ipc",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            "arrow_ipc" | "arrow" | "ipc" => Some(Self::ArrowIpc),
            _ => None,
        }
    }
}

/// The last extension of a file's name before `.gz`, in lower case.
fn extension_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (_, extension) = name.strip_suffix(".gz").unwrap_or(&name).rsplit_once('.')?;
    Some(extension.to_owned())
}

/// Whether a file's name ends in `.gz`.
pub(crate) fn is_gzip_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// The order in which rows are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOrder {
    /// File after file in the order of their names, each from its first row to its last.
    #[default]
    AsTheyLie,
    /// All files merged by event time; rows of equal time in the order of files, then of rows.
    ///
    /// Every file is read twice: first its event times, to learn how far its rows are out of order, then its
    /// rows. Files must not change in between.
    EventTime,
}

/// How fast rows are handed out.
///
/// A source takes it as `WITH (pace = 60)`, and the engine waits. With a [`FileReader`](super::FileReader) the caller
/// does:
///
/// ```
/// use std::time::Duration;
/// use driftline::{FileReadOptions, FileReader, Pace, PacedBatch, infer_schema};
///
/// # let folder = std::env::temp_dir().join(format!("driftline-doc-pace-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("load.csv");
/// # std::fs::write(&path, "ts,cpu\n2024-01-01 00:00:00,0.5\n2024-01-01 00:10:00,0.7\n")?;
/// // Two rows, recorded ten minutes apart.
/// let options = FileReadOptions { pace: Pace::Times(60.0), ..FileReadOptions::default() };
/// let mut reader = FileReader::open(&path, infer_schema(&path, &options)?, options)?;
/// let paced = std::iter::from_fn(|| reader.next_paced()).collect::<Result<Vec<PacedBatch>, _>>()?;
/// assert_eq!(paced.iter().map(|it| it.due).collect::<Vec<_>>(), [Duration::ZERO, Duration::from_secs(10)]);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// As fast as they can be read.
    #[default]
    FullSpeed,
    /// At this many times the speed at which they were recorded: 1.0 is as recorded, 60.0 an hour in a minute.
    Times(f64),
}

/// What becomes of a row that cannot be read.
///
/// ```
/// use driftline::arrow::datatypes::{DataType, Field, Schema};
/// use driftline::{ErrorKind, FileReadOptions, FileReader, MalformedPolicy, MalformedRow};
///
/// # let folder = std::env::temp_dir().join(format!("driftline-doc-malformed-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("load.csv");
/// # std::fs::write(&path, "cpu\n0.5\nhigh\n0.7\n")?;
/// // The third line says "high" where a number is wanted.
/// let schema = std::sync::Arc::new(Schema::new(vec![Field::new("cpu", DataType::Float64, true)]));
/// let mut reader = FileReader::open(&path, schema.clone(), FileReadOptions::default())?;
/// assert_eq!(reader.next().transpose()?.map(|rows| rows.num_rows()), Some(2));
/// let first: &MalformedRow = &reader.malformed_examples()[0];
/// assert_eq!((reader.malformed_rows(), first.line), (1, 3));
///
/// let options = FileReadOptions { malformed: MalformedPolicy::Refuse, ..FileReadOptions::default() };
/// let mut reader = FileReader::open(&path, schema, options)?;
/// assert_eq!(reader.next().unwrap().unwrap_err().kind(), ErrorKind::Data);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MalformedPolicy {
    /// It is skipped and counted.
    #[default]
    Skip,
    /// It ends the reading with an error.
    Refuse,
}

/// How delimited text is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether the first record names the columns. Without it, columns are matched by position and are called
    /// `column_1`, `column_2` and so on.
    pub header: bool,
    /// The byte between fields; by default a tab for `.tsv` and a comma for all else.
    pub delimiter: Option<u8>,
    /// The unquoted text that means null, besides the empty field.
    pub null_text: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { header: true, delimiter: None, null_text: String::new() }
    }
}

impl CsvOptions {
    /// The delimiter for one file.
    pub(crate) fn delimiter_for(&self, path: &Path) -> u8 {
        let is_tabbed = extension_of(path).as_deref() == Some("tsv");
        self.delimiter.unwrap_or(if is_tabbed { b'\t' } else { b',' })
    }

    pub(crate) fn validate(&self) -> Result<()> {
        match self.delimiter {
            Some(byte) if !byte.is_ascii() || matches!(byte, b'"' | b'\n' | b'\r') => {
                Err(settings(
                    format!("option \"delimiter\" of a csv file is {:?}", char::from(byte)),
                    "choose one ASCII character other than a quote or a line end",
                ))
            }
            _ => Ok(()),
        }
    }
}

/// How a [`FileReader`](super::FileReader) reads.
#[derive(Clone, Debug, PartialEq)]
pub struct FileReadOptions {
    /// The format of every file; by default each file's own, told from its name.
    pub format: Option<FileFormat>,
    /// The most rows in one batch.
    pub batch_rows: usize,
    /// The order of rows.
    pub order: ReadOrder,
    /// The pace of rows, for [`FileReader::next_paced`](super::FileReader::next_paced).
    pub pace: Pace,
    /// How delimited text is written down.
    pub csv: CsvOptions,
    /// What becomes of rows that cannot be read.
    pub malformed: MalformedPolicy,
    /// The most rows that [`ReadOrder::EventTime`] may hold in memory to bring them into order.
    pub rows_in_order_max: usize,
    /// The file's name of a column, where it differs: column of the source to column of the file.
    pub columns: BTreeMap<String, String>,
    /// What a number means where a timestamp is wanted: so many of these units since 1970-01-01.
    ///
    /// By default it is told from each number's magnitude: below 1e11 seconds, below 1e14 milliseconds, below
    /// 1e17 microseconds, else nanoseconds. Times before 1974 that are not in seconds need the option.
    pub time_unit: Option<TimeUnit>,
    /// The column of event times, for order and pace; by default the only timestamp column of the source.
    pub time_column: Option<String>,
}

impl Default for FileReadOptions {
    fn default() -> Self {
        Self {
            format: None,
            batch_rows: 8_192,
            order: ReadOrder::default(),
            pace: Pace::default(),
            csv: CsvOptions::default(),
            malformed: MalformedPolicy::default(),
            rows_in_order_max: 1_000_000,
            columns: BTreeMap::new(),
            time_unit: None,
            time_column: None,
        }
    }
}

impl FileReadOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        self.csv.validate()?;
        if !(1..=BATCH_ROWS_MAX).contains(&self.batch_rows) {
            return Err(settings(
                format!("option \"batch_rows\" of a file source is {}", self.batch_rows),
                format!("choose 1 to {BATCH_ROWS_MAX}"),
            ));
        }
        match self.pace {
            Pace::Times(times) if !(0.0 < times && times <= PACE_MAX) => Err(settings(
                format!("option \"pace\" of a file source is {times}"),
                "choose 'full_speed', or how many times as fast as recorded, above 0 and up to 1e9",
            )),
            _ => Ok(()),
        }
    }

    /// The format of one file.
    pub(crate) fn format_of(&self, path: &Path) -> Result<FileFormat> {
        self.format.or_else(|| FileFormat::of_path(path)).ok_or_else(|| {
            settings(
                format!("the format of file \"{}\" cannot be told from its name", path.display()),
                "add format = 'csv', 'ndjson', 'parquet' or 'arrow_ipc'",
            )
        })
    }
}

/// The most rows of one batch that may be asked for; row numbers inside batches stay far below `u32::MAX`.
const BATCH_ROWS_MAX: usize = 1 << 20;
/// The fastest pace; a pace beyond it is full speed.
const PACE_MAX: f64 = 1e9;
