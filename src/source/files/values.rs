//! One column of values, turned into another type: casts that lose nothing, timestamps and nested JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, make_array, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
};
use arrow::error::ArrowError;

use super::convert::Faults;
use super::table::is_text;
use super::timestamps::{epoch_float_to_ns, epoch_to_ns, parse_timestamp, unit_ns};

/// A cast whose failures become nulls, to be told from the nulls that were there before.
const SAFE: CastOptions<'static> =
    CastOptions { safe: true, format_options: arrow::util::display::FormatOptions::new() };
/// How much of an offending value a reason quotes.
const QUOTED_CHARS_MAX: usize = 40;

#[derive(Clone, Copy)]
pub(super) struct ValueOptions {
    pub(super) time_unit: Option<TimeUnit>,
}

/// Converts `column` to the type of `field`; a value that does not fit becomes null and a fault of its row.
pub(super) fn convert_values(
    column: &ArrayRef,
    field: &FieldRef,
    options: ValueOptions,
    faults: &mut Faults,
) -> Result<ArrayRef, ArrowError> {
    let (source, target) = (column.data_type(), field.data_type());
    if source == target {
        return Ok(column.clone());
    }
    if *source == DataType::Null {
        return Ok(new_null_array(target, column.len()));
    }
    if let DataType::Timestamp(..) = target {
        return to_timestamps(column, field, options, faults);
    }
    if !is_text(source) {
        let converted = safe_cast(column, target)?;
        refuse_fractions(column, &converted, field, faults);
        return Ok(refuse_lost(column, converted, field, faults));
    }
    let text = safe_cast(column, &DataType::Utf8)?;
    let text = text.as_string::<i32>();
    if target.is_nested() {
        return decode_json(text, field, faults);
    }
    let array: ArrayRef = Arc::new(text.clone());
    let converted = safe_cast(&array, target)?;
    if is_text(target) || converted.null_count() == text.null_count() {
        return Ok(converted);
    }
    let tidied: ArrayRef = Arc::new(tidy(text, &converted));
    let converted = safe_cast(&tidied, target)?;
    Ok(refuse_lost(&tidied, converted, field, faults))
}

fn safe_cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    if !can_cast_types(array.data_type(), target) {
        let message = format!("no cast from {} to {target}", array.data_type());
        return Err(ArrowError::CastError(message));
    }
    cast_with_options(array, target, &SAFE)
}

/// Marks rows whose value became null by conversion.
fn refuse_lost(before: &ArrayRef, after: ArrayRef, field: &Field, faults: &mut Faults) -> ArrayRef {
    if after.null_count() > before.null_count() {
        for row in 0..before.len() {
            if after.is_null(row) && before.is_valid(row) {
                faults.add(row, || unreadable(field, &shown(before, row)));
            }
        }
    }
    after
}

/// Marks rows where a cast from float to integer would cut off a fraction.
fn refuse_fractions(before: &ArrayRef, after: &ArrayRef, field: &Field, faults: &mut Faults) {
    if !(before.data_type().is_floating() && after.data_type().is_integer()) {
        return;
    }
    let Ok(floats) = safe_cast(before, &DataType::Float64) else { return };
    for (row, value) in floats.as_primitive::<Float64Type>().iter().enumerate() {
        if value.is_some_and(|value| value.is_finite() && value.fract() != 0.0) {
            faults.add(row, || unreadable(field, &shown(before, row)));
        }
    }
}

/// Spells values anew that did not convert as they stand: without blanks around them, empty ones as null, and
/// whole numbers without `.0`, which table tools append to integers of columns that have gaps.
fn tidy(text: &StringArray, converted: &ArrayRef) -> StringArray {
    let is_integer = converted.data_type().is_integer();
    let rows = text.iter().enumerate();
    rows.map(|(row, value)| {
        let value = value?;
        if converted.is_valid(row) {
            return Some(value);
        }
        let value = value.trim();
        let value = match value.split_once('.') {
            Some((whole, zeros)) if is_integer && zeros.bytes().all(|b| b == b'0') => whole,
            _ => value,
        };
        (!value.is_empty()).then_some(value)
    })
    .collect()
}

fn to_timestamps(
    column: &ArrayRef,
    field: &Field,
    options: ValueOptions,
    faults: &mut Faults,
) -> Result<ArrayRef, ArrowError> {
    let DataType::Timestamp(unit, _) = field.data_type() else {
        return Err(ArrowError::CastError(format!("{} is no timestamp", field.data_type())));
    };
    let source = column.data_type();
    if let DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 = source {
        // A zone is a label: the instant stays, so the cast goes by units only.
        let zone = match source {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let cast = safe_cast(column, &DataType::Timestamp(*unit, zone))?;
        return with_type(&refuse_lost(column, cast, field, faults), field.data_type());
    }
    let mut ns: Vec<Option<i64>> = Vec::with_capacity(column.len());
    if is_text(source) {
        let text = safe_cast(column, &DataType::Utf8)?;
        let values = text.as_string::<i32>().iter().enumerate();
        ns.extend(values.map(|(row, value)| {
            let value = value.filter(|value| !value.trim().is_empty())?;
            let parsed = parse_timestamp(value, options.time_unit);
            if parsed.is_none() {
                faults.add(row, || unreadable(field, value));
            }
            parsed
        }));
    } else if source.is_floating() {
        let floats = safe_cast(column, &DataType::Float64)?;
        let values = floats.as_primitive::<Float64Type>().iter();
        ns.extend(values.map(|value| epoch_float_to_ns(value?, options.time_unit)));
    } else if source.is_integer() {
        let integers = safe_cast(column, &DataType::Int64)?;
        let values = integers.as_primitive::<Int64Type>().iter();
        ns.extend(values.map(|value| epoch_to_ns(value?, options.time_unit)));
    } else {
        return Err(ArrowError::CastError(format!("no cast from {source} to a timestamp")));
    }
    let divisor = i64::try_from(unit_ns(*unit)).unwrap_or(1);
    let values: Int64Array = ns.into_iter().map(|ns| ns.map(|ns| ns.div_euclid(divisor))).collect();
    let values: ArrayRef = Arc::new(values);
    let values = if is_text(source) { values } else { refuse_lost(column, values, field, faults) };
    with_type(&values, field.data_type())
}

fn with_type(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(array.to_data().into_builder().data_type(target.clone()).build()?))
}

/// Decodes a struct, list or map from JSON text.
fn decode_json(
    text: &StringArray,
    field: &FieldRef,
    faults: &mut Faults,
) -> Result<ArrayRef, ArrowError> {
    let nullable = Arc::new(field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new([nullable]));
    let mut values: Vec<Option<&str>> =
        text.iter().map(|value| value.filter(|value| !value.trim().is_empty())).collect();
    for (row, value) in values.iter_mut().enumerate() {
        // Checked one by one, so that no text can reach beyond its own row.
        if value.is_some_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()) {
            faults.add(row, || unreadable(field, value.unwrap_or_default()));
            *value = None;
        }
    }
    if let Ok(array) = decode_rows(&schema, &values) {
        return Ok(array);
    }
    for (row, value) in values.iter_mut().enumerate() {
        if value.is_some() && decode_rows(&schema, &[*value]).is_err() {
            faults.add(row, || unreadable(field, value.unwrap_or_default()));
            *value = None;
        }
    }
    decode_rows(&schema, &values)
}

fn decode_rows(schema: &SchemaRef, values: &[Option<&str>]) -> Result<ArrayRef, ArrowError> {
    let name = serde_json::Value::from(schema.field(0).name().as_str()).to_string();
    let mut decoder = arrow_json::ReaderBuilder::new(schema.clone())
        .with_batch_size(values.len().max(1))
        .with_coerce_primitive(true)
        .build_decoder()?;
    for value in values {
        let row = format!("{{{name}:{}}}\n", value.unwrap_or("null"));
        decoder.decode(row.as_bytes())?;
    }
    match decoder.flush()? {
        Some(batch) if batch.num_rows() == values.len() => Ok(batch.column(0).clone()),
        None if values.is_empty() => Ok(new_null_array(schema.field(0).data_type(), 0)),
        _ => Err(ArrowError::JsonError("rows went missing".to_owned())),
    }
}

fn unreadable(field: &Field, value: &str) -> String {
    let mut quoted: String = value.chars().take(QUOTED_CHARS_MAX).collect();
    if quoted.len() < value.len() {
        quoted.push_str("...");
    }
    format!("column {:?} holds {quoted:?}, which is no {}", field.name(), field.data_type())
}

fn shown(array: &ArrayRef, row: usize) -> String {
    arrow::util::display::array_value_to_string(array, row).unwrap_or_default()
}
