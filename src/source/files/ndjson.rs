//! One JSON object a line: its members become columns of text, which are then read as the target's types.
//!
//! Strings lose their quotes and escapes; numbers, booleans, arrays and objects keep their JSON spelling, so that
//! numbers reach their type without passing through a float, and nested values can be decoded as a whole.

use std::fmt;
use std::path::Path;

use arrow::datatypes::{DataType, SchemaRef};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::failure::data;
use super::lines::{LineEnd, Lines, RECORD_BYTES_MAX, trim_line_end};
use super::options::FileReadOptions;
use super::table::{RawBatch, Table, TextColumns};
use crate::error::{Error, Result};

/// A file of one JSON object a line.
pub(super) struct NdjsonTable {
    lines: Lines,
    slots: Vec<Slot>,
    batch_rows: usize,
    failure: Option<Error>,
}

/// One target column and its value in the row being read.
struct Slot {
    name: String,
    /// A column of nulls has no text: it is left out.
    is_present: bool,
    found: Found,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    No,
    InAnotherCase,
    Exactly,
}

impl NdjsonTable {
    /// Opens a file to read the columns of `target`.
    pub(super) fn open(path: &Path, target: &SchemaRef, options: &FileReadOptions) -> Result<Self> {
        let slot = |name: &String, data_type: &DataType| Slot {
            name: options.columns.get(name).unwrap_or(name).clone(),
            is_present: *data_type != DataType::Null,
            found: Found::No,
            text: String::new(),
        };
        let fields = target.fields().iter();
        Ok(Self {
            lines: open_lines(path)?,
            slots: fields.map(|field| slot(field.name(), field.data_type())).collect(),
            batch_rows: options.batch_rows,
            failure: None,
        })
    }

    /// Reads one line into `columns`; false at the end of the file.
    fn read_line(&mut self, columns: &mut TextColumns) -> Result<bool> {
        let number = self.lines.number();
        let bytes = match self.lines.line_end(0)? {
            LineEnd::File(0) => return Ok(false),
            LineEnd::Feed(bytes) | LineEnd::File(bytes) => bytes,
            LineEnd::TooFar => {
                self.lines.skip_line()?;
                columns.refuse(number, format!("it is longer than {RECORD_BYTES_MAX} bytes"));
                return Ok(true);
            }
        };
        let line = trim_line_end(&self.lines.unread()[..bytes]).trim_ascii();
        if !line.is_empty() {
            match read_object(line, &mut self.slots) {
                Ok(()) => {
                    for (index, slot) in self.slots.iter().enumerate() {
                        columns.push(index, (slot.found != Found::No).then_some(&slot.text));
                    }
                    columns.end_row(number);
                }
                Err(reason) => columns.refuse(number, reason),
            }
        }
        self.lines.consume(bytes, 1);
        Ok(true)
    }
}

impl Table for NdjsonTable {
    fn next(&mut self) -> Result<Option<RawBatch>> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let is_present = self.slots.iter().map(|slot| slot.is_present);
        let mut columns = TextColumns::new(is_present, self.batch_rows);
        while !columns.is_full(self.batch_rows) {
            match self.read_line(&mut columns) {
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

/// Opens the lines of a file, refusing a JSON document that is not one object a line.
pub(super) fn open_lines(path: &Path) -> Result<Lines> {
    let mut lines = Lines::open(path)?;
    lines.line_end(0)?;
    if lines.unread().trim_ascii_start().starts_with(b"[") {
        return Err(data(path, "holds a JSON array, not one object a line")
            .with_hint("write one object a line, for example with jq -c '.[]'"));
    }
    Ok(lines)
}

fn read_object(line: &[u8], slots: &mut [Slot]) -> Result<(), String> {
    for slot in slots.iter_mut() {
        slot.found = Found::No;
    }
    let mut problem = None;
    visit_object(line, &mut |key, value| {
        let exact = slots.iter().position(|slot| slot.name == key).map(|at| (at, Found::Exactly));
        let found = exact.or_else(|| {
            let at = slots.iter().position(|slot| slot.name.eq_ignore_ascii_case(key))?;
            (slots[at].found != Found::Exactly).then_some((at, Found::InAnotherCase))
        });
        let Some((at, found)) = found else { return };
        let slot = &mut slots[at];
        slot.found = if value == "null" { Found::No } else { found };
        slot.text.clear();
        if let Err(error) = push_text(value, &mut slot.text) {
            problem = Some(format!("member {key:?} is malformed: {error}"));
        }
    })
    .map_err(|error| format!("it is not a JSON object: {error}"))?;
    problem.map_or(Ok(()), Err)
}

/// Appends a JSON value as text: a string without its quotes and escapes, all else as it is spelled.
pub(super) fn push_text(value: &str, text: &mut String) -> Result<(), serde_json::Error> {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => text.push_str(value),
        Some(inner) if !inner.contains('\\') => text.push_str(inner),
        Some(_) => text.push_str(&serde_json::from_str::<String>(value)?),
    }
    Ok(())
}

/// Calls `visit` with the name and the JSON text of every member of the object in `line`.
pub(super) fn visit_object(
    line: &[u8],
    visit: &mut dyn FnMut(&str, &str),
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    Members(visit).deserialize(&mut deserializer)?;
    deserializer.end()
}

struct Members<'v>(&'v mut dyn FnMut(&str, &str));

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // One buffer for all names: most are borrowed from the line, those with escapes are not.
        let mut name = String::new();
        while map.next_key_seed(Name(&mut name))?.is_some() {
            let value: &RawValue = map.next_value()?;
            (self.0)(&name, value.get());
        }
        Ok(())
    }
}

struct Name<'n>(&'n mut String);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(name);
        Ok(())
    }
}
