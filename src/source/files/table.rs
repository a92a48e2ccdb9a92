//! What every format's decoder yields, and the pieces that the text formats share.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};

use std::sync::Arc;

use super::failure::data;
use super::malformed::Refusal;
use crate::error::Result;

/// Text beyond which a batch is cut short, however few rows it has.
const BATCH_TEXT_BYTES_MAX: usize = 64 << 20;

/// Rows as they are in the file: one array for each column of the target, in the file's own types.
pub(super) struct RawBatch {
    /// By target column; `None` where the file has no such column.
    pub(super) columns: Vec<Option<ArrayRef>>,
    pub(super) rows: usize,
    pub(super) lines: RowLines,
    /// Rows that could not even be split into fields.
    pub(super) refused: Vec<Refusal>,
}

/// Where rows came from.
pub(super) enum RowLines {
    /// The line of each row.
    Listed(Vec<u64>),
    /// The number of the first row; the others follow.
    From(u64),
}

impl RowLines {
    pub(super) fn of(&self, row: usize) -> u64 {
        match self {
            Self::Listed(lines) => lines.get(row).copied().unwrap_or_default(),
            Self::From(first) => first + row as u64,
        }
    }
}

/// A file being decoded.
pub(super) trait Table: Send {
    /// The next rows; `None` at the end. After an error the table must not be asked again.
    fn next(&mut self) -> Result<Option<RawBatch>>;
}

/// Finds each target column among a file's columns: by the name mapped to it, by its name, by its name in any case.
pub(super) fn match_columns(
    path: &Path,
    target: &Schema,
    file_columns: &[String],
    mapping: &BTreeMap<String, String>,
) -> Result<Vec<Option<usize>>> {
    let hint = || {
        let names: Vec<_> = file_columns.iter().take(32).map(|name| format!("{name:?}")).collect();
        let rest = if file_columns.len() > 32 { ", ..." } else { "" };
        format!(
            "its columns are {}{rest}; \
             say which one is meant with columns = 'column_of_the_source=column_of_the_file'",
            names.join(", ")
        )
    };
    let mut found = Vec::with_capacity(target.fields().len());
    for field in target.fields() {
        let mapped = mapping.get(field.name());
        let wanted = mapped.unwrap_or(field.name());
        let place = exactly_one(file_columns, |name| name == wanted)
            .or_else(|| exactly_one(file_columns, |name| name.eq_ignore_ascii_case(wanted)));
        match place {
            Some(Place::One(index)) => found.push(Some(index)),
            Some(Place::Many) => {
                let problem = format!("has more than one column {wanted:?}");
                return Err(data(path, problem).with_hint(hint()));
            }
            None if field.is_nullable() && mapped.is_none() => found.push(None),
            None => {
                let problem = format!("has no column {wanted:?}");
                return Err(data(path, problem).with_hint(hint()));
            }
        }
    }
    if found.iter().all(Option::is_none) && !found.is_empty() {
        return Err(data(path, "has none of the columns of the source").with_hint(hint()));
    }
    Ok(found)
}

enum Place {
    One(usize),
    Many,
}

fn exactly_one(names: &[String], is_match: impl Fn(&String) -> bool) -> Option<Place> {
    let mut places = names.iter().enumerate().filter(|(_, name)| is_match(name));
    let (index, _) = places.next()?;
    Some(if places.next().is_some() { Place::Many } else { Place::One(index) })
}

/// Whether a type holds text, so that a file's text is taken as it is.
pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Whether an empty field of a column is the empty text rather than null.
pub(super) fn keeps_empty_text(field: &Field) -> bool {
    !field.is_nullable() && is_text(field.data_type())
}

/// Columns of text under construction.
pub(super) struct TextColumns {
    builders: Vec<Option<StringBuilder>>,
    lines: Vec<u64>,
    bytes: usize,
    refused: Vec<Refusal>,
}

impl TextColumns {
    /// One column for each `true`; `rows` is a guess at their number.
    pub(super) fn new(is_present: impl Iterator<Item = bool>, rows: usize) -> Self {
        let builder = || StringBuilder::with_capacity(rows, rows * 8);
        Self {
            builders: is_present.map(|present| present.then(builder)).collect(),
            lines: Vec::with_capacity(rows),
            bytes: 0,
            refused: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, column: usize, text: Option<&str>) {
        if let Some(builder) = &mut self.builders[column] {
            self.bytes += text.map_or(0, str::len);
            builder.append_option(text);
        }
    }

    /// Ends the row; every present column must have been pushed to.
    pub(super) fn end_row(&mut self, line: u64) {
        self.lines.push(line);
    }

    pub(super) fn refuse(&mut self, line: u64, reason: impl Into<String>) {
        self.refused.push(Refusal { line, reason: reason.into() });
    }

    /// Whether the batch should end here. Refused lines count, so that a file of garbage is read in steps too.
    pub(super) fn is_full(&self, batch_rows: usize) -> bool {
        self.lines.len() + self.refused.len() >= batch_rows || self.bytes >= BATCH_TEXT_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.refused.is_empty()
    }

    pub(super) fn finish(self) -> RawBatch {
        RawBatch {
            columns: self
                .builders
                .into_iter()
                .map(|builder| builder.map(|mut builder| Arc::new(builder.finish()) as ArrayRef))
                .collect(),
            rows: self.lines.len(),
            lines: RowLines::Listed(self.lines),
            refused: self.refused,
        }
    }
}
