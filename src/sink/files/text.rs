//! Rows as text: delimited, or one JSON object a line.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_json::LineDelimitedWriter;
use arrow_json::writer::{EncoderOptions, NullableEncoder, make_encoder};

use crate::source::files::CsvOptions;

/// Appends rows as one JSON object a line. Nulls are left out; NaN and infinity, which JSON lacks, become null.
pub(super) fn encode_ndjson(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let mut writer = LineDelimitedWriter::new(out);
    writer.write(batch)?;
    writer.finish()
}

/// Appends the names of the columns.
pub(super) fn encode_header(schema: &Schema, csv: &CsvOptions, delimiter: u8, out: &mut Vec<u8>) {
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            out.push(delimiter);
        }
        push_field(field.name(), csv, delimiter, out);
    }
    out.push(b'\n');
}

/// Appends rows as delimited text. Structs, lists and maps are written as JSON.
///
/// Null is the null text; text that equals it is quoted, and so is empty text, so that both survive.
pub(super) fn encode_csv(
    batch: &RecordBatch,
    csv: &CsvOptions,
    delimiter: u8,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let schema = batch.schema();
    let json = EncoderOptions::default();
    let display = FormatOptions::new();
    let mut columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| Column::new(field, array, &json, &display))
        .collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (index, (column, array)) in columns.iter_mut().zip(batch.columns()).enumerate() {
            if index > 0 {
                out.push(delimiter);
            }
            if array.is_null(row) {
                // A record of nothing but one empty field would be a blank line, which is no record.
                let is_blank_line = csv.null_text.is_empty() && batch.num_columns() == 1;
                let null = if is_blank_line { "\"\"" } else { &csv.null_text };
                out.extend_from_slice(null.as_bytes());
                continue;
            }
            text.clear();
            column.push(row, &mut text)?;
            push_field(&text, csv, delimiter, out);
        }
        out.push(b'\n');
    }
    Ok(())
}

enum Column<'a> {
    Plain(ArrayFormatter<'a>),
    Json(NullableEncoder<'a>, Vec<u8>),
}

impl<'a> Column<'a> {
    fn new(
        field: &'a FieldRef,
        array: &'a ArrayRef,
        json: &'a EncoderOptions,
        display: &FormatOptions<'a>,
    ) -> Result<Self, ArrowError> {
        Ok(if array.data_type().is_nested() {
            Self::Json(make_encoder(field, array, json)?, Vec::new())
        } else {
            Self::Plain(ArrayFormatter::try_new(array, display)?)
        })
    }

    fn push(&mut self, row: usize, text: &mut String) -> Result<(), ArrowError> {
        match self {
            Self::Plain(formatter) => write!(text, "{}", formatter.value(row))
                .map_err(|_| ArrowError::CsvError("a value has no text".to_owned())),
            Self::Json(encoder, bytes) => {
                bytes.clear();
                encoder.encode(row, bytes);
                let json = std::str::from_utf8(bytes);
                text.push_str(json.map_err(|error| ArrowError::JsonError(error.to_string()))?);
                Ok(())
            }
        }
    }
}

fn push_field(text: &str, csv: &CsvOptions, delimiter: u8, out: &mut Vec<u8>) {
    let is_special = |byte: u8| byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r');
    if !(text.is_empty() || text == csv.null_text || text.bytes().any(is_special)) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
