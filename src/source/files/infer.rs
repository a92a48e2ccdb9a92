//! The schema that a file suggests, so that a recording can be replayed without declaring its columns first.

use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::csv::CsvTable;
use super::failure::data;
use super::lines::{LineEnd, trim_line_end};
use super::ndjson::{open_lines, push_text, visit_object};
use super::options::{FileFormat, FileReadOptions};
use super::table::Table;
use super::timestamps::parse_calendar;
use super::{ipc, parquet, paths};
use crate::error::Result;

/// How many rows of a text file are looked at.
const ROWS_MAX: usize = 1_000;
/// How many columns a text file may suggest.
const COLUMNS_MAX: usize = 10_000;
/// Numbers from here on, which is 1973 in seconds, may be times in a column whose name says so.
const EPOCH_MIN: i64 = 100_000_000;

/// Suggests a schema for `path`, from its first file.
///
/// Parquet and Arrow files have one. For text the first 1,000 rows are looked at: a column is BIGINT, DOUBLE,
/// BOOLEAN or TIMESTAMP (nanoseconds) if all its values are, else text; whole numbers are timestamps if the column's
/// name says so (`ts`, `time`, `timestamp`, `..._at` and the like). All columns of text files are nullable.
///
/// ```
/// use driftline::arrow::datatypes::DataType;
///
/// # let folder = std::env::temp_dir().join(format!("driftline-doc-infer-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("load.ndjson");
/// # std::fs::write(&path, "{\"host\": \"a\", \"cpu\": 0.5, \"cores\": 4}\n")?;
/// // {"host": "a", "cpu": 0.5, "cores": 4}
/// let schema = driftline::infer_schema(&path, &driftline::FileReadOptions::default())?;
/// let types: Vec<_> = schema.fields().iter().map(|field| field.data_type()).collect();
/// assert_eq!(types, [&DataType::Utf8, &DataType::Float64, &DataType::Int64]);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As for [`FileReader::open`](super::FileReader::open); kind `Data` if the file has no column.
pub fn infer_schema(path: impl AsRef<Path>, options: &FileReadOptions) -> Result<SchemaRef> {
    options.validate()?;
    let path = paths::resolve(path.as_ref(), options)?.swap_remove(0);
    let schema = match options.format_of(&path)? {
        FileFormat::Csv => of_csv(&path, options)?,
        FileFormat::Ndjson => of_ndjson(&path)?,
        FileFormat::Parquet => parquet::schema_of(&path)?,
        FileFormat::ArrowIpc => ipc::schema_of(&path)?,
    };
    if schema.fields().is_empty() {
        return Err(data(&path, "has no columns to infer a schema from"));
    }
    Ok(schema)
}

fn of_csv(path: &Path, options: &FileReadOptions) -> Result<SchemaRef> {
    let mut options = options.clone();
    options.batch_rows = ROWS_MAX;
    let mut table = CsvTable::open_whole(path, &options)?;
    let names = table.names().to_vec();
    let mut columns: Vec<Column> = names.into_iter().map(Column::new).collect();
    if let Some(rows) = table.next()? {
        for (column, values) in columns.iter_mut().zip(&rows.columns) {
            let Some(values) = values else { continue };
            for value in values.as_string::<i32>().iter().flatten() {
                column.see(value, false);
            }
        }
    }
    Ok(schema_of(&columns))
}

fn of_ndjson(path: &Path) -> Result<SchemaRef> {
    let mut lines = open_lines(path)?;
    let mut columns: Vec<Column> = Vec::new();
    for _ in 0..ROWS_MAX {
        let bytes = match lines.line_end(0)? {
            LineEnd::File(0) => break,
            LineEnd::Feed(bytes) | LineEnd::File(bytes) => bytes,
            LineEnd::TooFar => {
                lines.skip_line()?;
                continue;
            }
        };
        let line = trim_line_end(&lines.unread()[..bytes]);
        let mut text = String::new();
        // A malformed line suggests what it had up to its fault; it is counted when the file is read.
        let _malformed = visit_object(line, &mut |name, value| {
            let at = columns.iter().position(|column| column.name == name);
            let at = at.unwrap_or(columns.len());
            if at == columns.len() {
                if at == COLUMNS_MAX {
                    return;
                }
                columns.push(Column::new(name.to_owned()));
            }
            text.clear();
            if value != "null" && push_text(value, &mut text).is_ok() {
                columns[at].see(&text, value.starts_with('"'));
                if value.starts_with(['{', '[']) {
                    columns[at].nested.extend(serde_json::from_str(value));
                }
            }
        });
        lines.consume(bytes, 1);
    }
    Ok(schema_of(&columns))
}

fn schema_of(columns: &[Column]) -> SchemaRef {
    let field = |column: &Column| Field::new(&column.name, column.data_type(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// What the values of a column have in common.
struct Column {
    name: String,
    values: usize,
    integers: usize,
    floats: usize,
    booleans: usize,
    calendar: usize,
    smallest: i64,
    nested: Vec<serde_json::Value>,
}

impl Column {
    fn new(name: String) -> Self {
        Self {
            name,
            values: 0,
            integers: 0,
            floats: 0,
            booleans: 0,
            calendar: 0,
            smallest: i64::MAX,
            nested: Vec::new(),
        }
    }

    fn see(&mut self, value: &str, is_json_string: bool) {
        let value = value.trim();
        self.values += 1;
        if parse_calendar(value).is_some() {
            self.calendar += 1;
        } else if is_json_string {
            // Quoted numbers are names: a port, a status, a version.
        } else if let Ok(integer) = value.parse::<i64>() {
            self.integers += 1;
            self.smallest = self.smallest.min(integer);
        } else if value.parse::<f64>().is_ok() {
            self.floats += 1;
        } else if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
            self.booleans += 1;
        }
    }

    fn data_type(&self) -> DataType {
        let is_all = |count: usize| self.values > 0 && count == self.values;
        let timestamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
        if is_all(self.calendar) {
            timestamp
        } else if is_all(self.integers) {
            if self.smallest >= EPOCH_MIN && names_a_time(&self.name) {
                timestamp
            } else {
                DataType::Int64
            }
        } else if is_all(self.integers + self.floats) {
            DataType::Float64
        } else if is_all(self.booleans) {
            DataType::Boolean
        } else if is_all(self.nested.len()) {
            self.nested_type().unwrap_or(DataType::Utf8)
        } else {
            DataType::Utf8
        }
    }

    fn nested_type(&self) -> Option<DataType> {
        let rows = self.nested.iter().map(|value| Ok(serde_json::json!({ "value": value })));
        let schema = arrow_json::reader::infer_json_schema_from_iterator(rows).ok()?;
        schema.fields().first().map(|field| field.data_type().clone())
    }
}

fn names_a_time(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.trim_start_matches('@');
    ["ts", "time", "timestamp", "datetime", "date", "epoch"].contains(&name)
        || ["_ts", "_time", "_timestamp", "_at", "_ms", "_ns"].iter().any(|end| {
            name.ends_with(end) && !name.contains("duration") && !name.contains("latency")
        })
        || name.ends_with("unixnano")
}
