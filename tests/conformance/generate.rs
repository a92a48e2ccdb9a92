//! Rows for any source, from a seed.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use driftline::arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampNanosecondType};

use crate::support::{SECOND, Seeded};

/// How event times go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Anywhere, and no two rows at the same time.
    Even,
    /// On quarters of a second; times tie, stand still and leap.
    Bursts,
}

impl Pattern {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "even" => Some(Self::Even),
            "bursts" => Some(Self::Bursts),
            _ => None,
        }
    }
}

/// Event times in order, a third of them before 1970.
fn times(pattern: Pattern, random: &mut Seeded, rows: usize, seconds: i64) -> Vec<i64> {
    let start = -seconds * SECOND / 3;
    match pattern {
        Pattern::Even => {
            let mut times: Vec<i64> =
                (0..rows).map(|_| start + random.below((seconds * SECOND) as u64) as i64).collect();
            times.sort_unstable();
            for row in 1..rows {
                times[row] = times[row].max(times[row - 1] + 1);
            }
            times
        }
        Pattern::Bursts => {
            let mut time = start;
            let mut next = || {
                time += match random.below(20) {
                    0..8 => 0,
                    8..19 => random.below(3) as i64 * SECOND / 4,
                    _ => random.below(9) as i64 * SECOND,
                };
                time
            };
            (0..rows).map(|_| next()).collect()
        }
    }
}

/// Rows in order of event time, which is the first column that is a timestamp.
pub(crate) fn rows(
    schema: &SchemaRef,
    pattern: Pattern,
    seed: u64,
    rows: usize,
    seconds: i64,
) -> RecordBatch {
    let mut random = Seeded(seed);
    let times = times(pattern, &mut random, rows, seconds);
    rows_at(schema, &mut random, &times)
}

/// Rows with these event times. Where a column may be null, some are; some numbers are NaN or negative.
pub(crate) fn rows_at(schema: &SchemaRef, random: &mut Seeded, times: &[i64]) -> RecordBatch {
    let event_time = time_column(schema);
    let count = times.len();
    let columns = schema.fields().iter().enumerate().map(|(index, field)| -> ArrayRef {
        let absent = |random: &mut Seeded| field.is_nullable() && random.below(10) == 0;
        let name = field.name();
        match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, None) if index == event_time => {
                Arc::new(TimestampNanosecondArray::from(times.to_vec()))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, None) => {
                let moved = |time: &i64| time + random.below(10 * SECOND as u64) as i64;
                Arc::new(TimestampNanosecondArray::from_iter_values(times.iter().map(moved)))
            }
            DataType::Utf8 => Arc::new(StringArray::from_iter(
                (0..count)
                    .map(|_| (!absent(random)).then(|| format!("{name}-{}", random.below(3)))),
            )),
            DataType::Int64 => Arc::new(Int64Array::from_iter(
                (0..count).map(|_| (!absent(random)).then(|| random.below(10_000) as i64)),
            )),
            DataType::Float64 => Arc::new(Float64Array::from_iter((0..count).map(|_| {
                (!absent(random)).then(|| match field.is_nullable() && random.below(20) == 0 {
                    true => f64::NAN,
                    false => random.unit() * 100.0 - 20.0,
                })
            }))),
            DataType::Boolean => Arc::new(BooleanArray::from_iter(
                (0..count).map(|_| (!absent(random)).then(|| random.below(2) == 0)),
            )),
            other => panic!("no generator for columns of type {other}"),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).expect("columns fit the schema")
}

/// The first column that is a timestamp.
pub(crate) fn time_column(schema: &SchemaRef) -> usize {
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
    schema
        .fields()
        .iter()
        .position(|field| is_time(field.data_type()))
        .expect("a source has an event time")
}

/// The event times of rows.
pub(crate) fn times_of(rows: &RecordBatch) -> Vec<i64> {
    let column = rows.column(time_column(rows.schema_ref()));
    column.as_primitive::<TimestampNanosecondType>().values().to_vec()
}
