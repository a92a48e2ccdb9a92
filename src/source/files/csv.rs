//! Delimited text, record by record, so that one malformed line costs one line.
//!
//! Own code rather than a CSV crate, because recovery needs it: where a quote is opened and never closed, the usual
//! readers swallow the rest of the file as one field. Here a record of several lines that turns out malformed costs
//! its first line only, and reading goes on with the second.

use std::ops::Range;
use std::path::Path;

use arrow::datatypes::SchemaRef;

use super::failure::data;
use super::lines::{LineEnd, Lines, RECORD_BYTES_MAX, trim_line_end};
use super::malformed::Refusal;
use super::options::FileReadOptions;
use super::table::{RawBatch, Table, TextColumns, keeps_empty_text, match_columns};
use crate::error::{Error, Result};

/// The most malformed lines before a first record, where no header says how many columns there are.
const EARLY_MAX: usize = 100;

/// A delimited text file.
pub(super) struct CsvTable {
    records: Records,
    /// The names in the header, or made-up ones.
    names: Vec<String>,
    /// By target column: the file's column, and whether an empty field is text.
    targets: Vec<Target>,
    null_text: String,
    batch_rows: usize,
    /// Malformed lines before the first record, which were met on opening.
    early: Vec<Refusal>,
    /// An error that came after good rows, kept until these have been handed out.
    failure: Option<Error>,
}

#[derive(Clone, Copy)]
struct Target {
    column: Option<usize>,
    keeps_empty: bool,
}

impl CsvTable {
    /// Opens a file to read all of its columns as nullable text, for schema inference.
    pub(super) fn open_whole(path: &Path, options: &FileReadOptions) -> Result<Self> {
        let mut records = Records {
            lines: Lines::open(path)?,
            delimiter: options.csv.delimiter_for(path),
            fields: Fields::default(),
        };
        let mut early = Vec::new();
        let names = if options.csv.header {
            records.header()?
        } else {
            let width = records.peek_width(&mut early)?;
            (1..=width).map(|number| format!("column_{number}")).collect()
        };
        let whole = |column| Target { column: Some(column), keeps_empty: false };
        Ok(Self {
            records,
            targets: (0..names.len()).map(whole).collect(),
            names,
            null_text: options.csv.null_text.clone(),
            batch_rows: options.batch_rows,
            early,
            failure: None,
        })
    }

    /// Opens a file to read the columns of `target`.
    pub(super) fn open(path: &Path, target: &SchemaRef, options: &FileReadOptions) -> Result<Self> {
        let mut table = Self::open_whole(path, options)?;
        // A file of no bytes at all has no header either, and no rows to miss a column in.
        let columns = if table.names.is_empty() {
            vec![None; target.fields().len()]
        } else if options.csv.header || !options.columns.is_empty() {
            match_columns(path, target, &table.names, &options.columns)?
        } else {
            table.by_position(path, target)?
        };
        table.targets = columns
            .into_iter()
            .zip(target.fields())
            .map(|(column, field)| Target { column, keeps_empty: keeps_empty_text(field) })
            .collect();
        Ok(table)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn by_position(&self, path: &Path, target: &SchemaRef) -> Result<Vec<Option<usize>>> {
        let width = self.names.len();
        let columns = target.fields().iter().enumerate();
        columns
            .map(|(index, field)| match index < width {
                true => Ok(Some(index)),
                false if field.is_nullable() => Ok(None),
                false => Err(data(path, format!("has no column {:?}", field.name())).with_hint(
                    format!("without a header columns are matched by position, and it has {width}"),
                )),
            })
            .collect()
    }

    /// Reads one record into `columns`; false at the end of the file.
    fn read_record(&mut self, columns: &mut TextColumns) -> Result<bool> {
        let line = self.records.lines.number();
        let record = match self.records.next()? {
            Next::End => return Ok(false),
            Next::Blank => return Ok(true),
            Next::Refused(reason) => {
                columns.refuse(line, reason);
                return Ok(true);
            }
            Next::Record(record) => record,
        };
        if let Err(reason) = self.check(&record) {
            columns.refuse(line, reason);
            self.records.refuse(&record);
            return Ok(true);
        }
        for (index, target) in self.targets.iter().enumerate() {
            let Some(column) = target.column else { continue };
            let (bytes, is_quoted) = self.records.field(&record, column);
            let is_null = !is_quoted
                && (bytes == self.null_text.as_bytes() || bytes.is_empty())
                && !(target.keeps_empty && bytes.is_empty());
            // Checked to be UTF-8 above.
            columns.push(index, if is_null { None } else { std::str::from_utf8(bytes).ok() });
        }
        columns.end_row(line);
        self.records.accept(&record);
        Ok(true)
    }

    fn check(&self, record: &Record) -> Result<(), String> {
        let (found, wanted) = (self.records.fields.ranges.len(), self.names.len());
        if found != wanted {
            return Err(format!("it has {found} fields instead of {wanted}"));
        }
        for target in &self.targets {
            let Some(column) = target.column else { continue };
            if std::str::from_utf8(self.records.field(record, column).0).is_err() {
                return Err(format!("column {:?} is not UTF-8", self.names[column]));
            }
        }
        Ok(())
    }
}

impl Table for CsvTable {
    fn next(&mut self) -> Result<Option<RawBatch>> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let is_present = self.targets.iter().map(|target| target.column.is_some());
        let mut columns = TextColumns::new(is_present, self.batch_rows);
        for Refusal { line, reason } in self.early.drain(..) {
            columns.refuse(line, reason);
        }
        while !columns.is_full(self.batch_rows) {
            match self.read_record(&mut columns) {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) if columns.is_empty() => return Err(failure),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        Ok((!columns.is_empty()).then(|| columns.finish()))
    }
}

/// The records of a file, and the fields of the record last found.
struct Records {
    lines: Lines,
    delimiter: u8,
    fields: Fields,
}

/// A record at the start of the unread text.
struct Record {
    bytes: usize,
    lines: u64,
    first_line_bytes: usize,
    is_quoted: bool,
}

enum Next {
    Record(Record),
    Blank,
    /// A line that is no record, already consumed.
    Refused(String),
    End,
}

/// Where the fields of a record are: in the record itself, or unescaped in `text` if it has quotes.
#[derive(Default)]
struct Fields {
    ranges: Vec<(Range<usize>, bool)>,
    text: Vec<u8>,
}

impl Records {
    /// Finds the next record and its fields. The caller accepts or refuses it before asking for another.
    fn next(&mut self) -> Result<Next> {
        let first = match self.lines.line_end(0)? {
            LineEnd::File(0) => return Ok(Next::End),
            LineEnd::Feed(bytes) | LineEnd::File(bytes) => bytes,
            LineEnd::TooFar => {
                self.lines.skip_line()?;
                return Ok(Next::Refused(format!("it is longer than {RECORD_BYTES_MAX} bytes")));
            }
        };
        let line = trim_line_end(&self.lines.unread()[..first]);
        if line.is_empty() {
            self.lines.consume(first, 1);
            return Ok(Next::Blank);
        }
        if memchr::memchr(b'"', line).is_none() {
            self.fields.split_plain(line, self.delimiter);
            let is_quoted = false;
            return Ok(Next::Record(Record {
                bytes: first,
                lines: 1,
                first_line_bytes: first,
                is_quoted,
            }));
        }
        let mut quotes = Quotes::FieldStart;
        let (mut bytes, mut lines, mut scanned) = (first, 1, 0);
        loop {
            quotes = quotes.scan(&self.lines.unread()[scanned..bytes], self.delimiter);
            if !matches!(quotes, Quotes::Inside) {
                break;
            }
            scanned = bytes;
            match self.lines.line_end(bytes)? {
                LineEnd::Feed(end) if end <= RECORD_BYTES_MAX => bytes = end,
                LineEnd::File(end) if end > bytes && end <= RECORD_BYTES_MAX => bytes = end,
                _ => {
                    self.lines.consume(first, 1);
                    return Ok(Next::Refused("a quote is not closed".to_owned()));
                }
            }
            lines += 1;
        }
        let record = trim_line_end(&self.lines.unread()[..bytes]);
        self.fields.split_quoted(record, self.delimiter);
        Ok(Next::Record(Record { bytes, lines, first_line_bytes: first, is_quoted: true }))
    }

    fn field(&self, record: &Record, column: usize) -> (&[u8], bool) {
        let base = if record.is_quoted { &self.fields.text } else { self.lines.unread() };
        match self.fields.ranges.get(column) {
            Some((range, is_quoted)) => (&base[range.clone()], *is_quoted),
            None => (&[], false),
        }
    }

    fn accept(&mut self, record: &Record) {
        self.lines.consume(record.bytes, record.lines);
    }

    /// Gives up the first line of a record: what follows may be whole records.
    fn refuse(&mut self, record: &Record) {
        self.lines.consume(record.first_line_bytes, 1);
    }

    fn header(&mut self) -> Result<Vec<String>> {
        loop {
            match self.next()? {
                Next::End => return Ok(Vec::new()),
                Next::Blank => {}
                Next::Refused(reason) => {
                    return Err(data(
                        self.lines.path(),
                        format!("has a malformed header: {reason}"),
                    ));
                }
                Next::Record(record) => {
                    let names = (0..self.fields.ranges.len())
                        .map(|column| std::str::from_utf8(self.field(&record, column).0))
                        .map(|name| name.map(|name| name.trim().to_owned()))
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|error| {
                            data(self.lines.path(), "is not UTF-8 text").with_source(error)
                        })?;
                    self.accept(&record);
                    return Ok(names);
                }
            }
        }
    }

    /// The number of fields of the first record, which is not consumed.
    fn peek_width(&mut self, refused: &mut Vec<Refusal>) -> Result<usize> {
        while refused.len() < EARLY_MAX {
            let line = self.lines.number();
            match self.next()? {
                Next::End => return Ok(0),
                Next::Record(_) => return Ok(self.fields.ranges.len()),
                Next::Blank => {}
                Next::Refused(reason) => refused.push(Refusal { line, reason }),
            }
        }
        Err(data(self.lines.path(), format!("has no csv record in its first {EARLY_MAX} lines")))
    }
}

impl Fields {
    fn split_plain(&mut self, record: &[u8], delimiter: u8) {
        self.ranges.clear();
        let mut start = 0;
        for end in memchr::memchr_iter(delimiter, record) {
            self.ranges.push((start..end, false));
            start = end + 1;
        }
        self.ranges.push((start..record.len(), false));
    }

    /// Splits a record whose quotes are balanced. Text after a closing quote belongs to the field as it is.
    fn split_quoted(&mut self, record: &[u8], delimiter: u8) {
        self.ranges.clear();
        self.text.clear();
        let (mut start, mut is_quoted) = (0, false);
        let mut quotes = Quotes::FieldStart;
        for &byte in record {
            let before = quotes;
            quotes = quotes.step(byte, delimiter);
            match (before, quotes) {
                (Quotes::FieldStart, Quotes::Inside) => is_quoted = true,
                (Quotes::Inside, Quotes::Closing) => {}
                (_, Quotes::FieldStart) => {
                    self.ranges.push((start..self.text.len(), is_quoted));
                    (start, is_quoted) = (self.text.len(), false);
                }
                _ => self.text.push(byte),
            }
        }
        self.ranges.push((start..self.text.len(), is_quoted));
    }
}

/// Where in a field a scan is.
#[derive(Clone, Copy)]
enum Quotes {
    FieldStart,
    Plain,
    Inside,
    /// After a quote inside quotes: the end of the field, or the first half of an escaped quote.
    Closing,
}

impl Quotes {
    fn step(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::Inside, b'"') => Self::Closing,
            (Self::Inside, _) | (Self::FieldStart | Self::Closing, b'"') => Self::Inside,
            (_, byte) if byte == delimiter => Self::FieldStart,
            _ => Self::Plain,
        }
    }

    fn scan(self, bytes: &[u8], delimiter: u8) -> Self {
        bytes.iter().fold(self, |quotes, &byte| quotes.step(byte, delimiter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(record: &str) -> Vec<(String, bool)> {
        let mut fields = Fields::default();
        fields.split_quoted(record.as_bytes(), b',');
        let text =
            |range: &Range<usize>| String::from_utf8(fields.text[range.clone()].to_vec()).unwrap();
        fields.ranges.iter().map(|(range, is_quoted)| (text(range), *is_quoted)).collect()
    }

    #[test]
    fn quotes_are_undone() {
        let own = |fields: &[(&str, bool)]| -> Vec<(String, bool)> {
            fields.iter().map(|(text, is_quoted)| ((*text).to_owned(), *is_quoted)).collect()
        };
        assert_eq!(split(r#"a,"b,c",d"#), own(&[("a", false), ("b,c", true), ("d", false)]));
        assert_eq!(split(r#""say ""hi""",x"#), own(&[("say \"hi\"", true), ("x", false)]));
        assert_eq!(split(r#""","#), own(&[("", true), ("", false)]));
        assert_eq!(split(r#"5" disk,x"#), own(&[("5\" disk", false), ("x", false)]));
        assert_eq!(split("\"a\nb\",c"), own(&[("a\nb", true), ("c", false)]));
    }
}
