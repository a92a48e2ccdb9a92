//! What the detector does about values beside keys (DL-09 to DL-12, DL-15): which columns hold them, and a model of them
//! where the crate is built with the feature `neural`; else its absence.

#[cfg(not(feature = "neural"))]
mod disabled;
#[cfg(feature = "neural")]
mod enabled;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::record_batch::RecordBatch;

#[cfg(not(feature = "neural"))]
pub(in crate::detectors::deeplog) use self::disabled::{Learned, SavedValues, Values};
#[cfg(feature = "neural")]
pub(in crate::detectors::deeplog) use self::enabled::{Learned, SavedValues, Values};
use crate::error::{OperatorError, Result};
use crate::options::OptionReader;
use crate::time::EventTime;

/// Numbers of a vector; what is beyond them is left out.
const WIDTH_MAX: usize = 64;
/// The field of a parameter of `LOG_KEYS` that is read.
const NUMBER: &str = "number";

/// Where an entry stands among all: its time, and its place among the rows.
pub(in crate::detectors::deeplog) type At = (EventTime, u64);

/// What the options say about values.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "neural"), allow(dead_code, reason = "there is no model to use it"))]
pub(in crate::detectors::deeplog) struct ValueOptions {
    /// Columns whose numbers, one after the other, are the vector of a row.
    columns: Vec<usize>,
    /// Vectors of a key that are learned from, and the fewest that suffice.
    pub(super) vectors_max: usize,
    pub(super) vectors_min: usize,
    /// Errors that a bound rests on, at least.
    pub(super) errors_min: usize,
    pub(super) history: usize,
    pub(super) confidence: f64,
    pub(super) seed: u64,
}

/// What is said about the values of one entry.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::detectors::deeplog) struct ValueAnswer {
    pub(in crate::detectors::deeplog) error: f64,
    pub(in crate::detectors::deeplog) bound: f64,
    pub(in crate::detectors::deeplog) is_anomaly: bool,
    /// What was expected, and what is odd; of an anomaly alone.
    pub(in crate::detectors::deeplog) expected: String,
    pub(in crate::detectors::deeplog) explanation: String,
}

impl ValueOptions {
    /// Reads the options; `None` without values.
    pub(in crate::detectors::deeplog) fn read(
        owner: &str,
        input: &Schema,
        reader: &OptionReader,
    ) -> Result<Option<Self>> {
        let names = reader.text("values").split(',').map(str::trim);
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Ok(None);
        }
        Values::available()?;
        let find = |name: &&str| -> Result<usize> {
            let refused = |problem: String, hint: &str| OperatorError::Columns {
                owner: owner.into(),
                problem,
                hint: hint.into(),
            };
            let Ok(place) = input.index_of(name) else {
                let problem = format!("has no column \"{name}\" for its values");
                return Err(refused(problem, "name it in the option values"));
            };
            let found = input.field(place).data_type();
            if is_readable(found) {
                return Ok(place);
            }
            let hint = "give columns of numbers, of lists of numbers, or the parameters of LOG_KEYS, as in \
                        values = 'elapsed, parameters'";
            Err(refused(format!("cannot read \"{name}\" as its values: it is {found}"), hint))
        };
        let options = Self {
            columns: names.iter().map(find).collect::<Result<_>>()?,
            vectors_max: reader.count("values_max"),
            vectors_min: reader.count("values_min"),
            errors_min: reader.count("values_errors_min"),
            history: reader.count("values_history"),
            confidence: reader.number("confidence"),
            seed: reader.integer("seed") as u64,
        };
        let fewest = options.vectors_min.max(3 * options.history).max(2 * options.errors_min);
        if options.vectors_max < fewest {
            return Err(reader.refuse(
                "values_max",
                format!(
                    "is {}, but a key has a model from {fewest} vectors on",
                    options.vectors_max
                ),
                format!(
                    "set it to {fewest} or more, or values_min, values_history (a third of it) or values_errors_min (half of \
                     it) lower"
                ),
            ));
        }
        Ok(Some(options))
    }

    /// The values of some rows.
    pub(in crate::detectors::deeplog) fn of(&self, rows: &RecordBatch) -> Result<ValueRows> {
        let columns = self.columns.iter().map(|place| Column::of(rows.column(*place)));
        Ok(ValueRows(columns.collect::<Result<_>>()?))
    }
}

/// Numbers, lists of numbers, and parameters of `LOG_KEYS`.
fn is_readable(found: &DataType) -> bool {
    match found {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_numeric() || number_field(item.data_type()).is_some()
        }
        _ => found.is_numeric(),
    }
}

fn number_field(item: &DataType) -> Option<usize> {
    let DataType::Struct(fields) = item else { return None };
    fields.iter().position(|field| field.name() == NUMBER && field.data_type().is_numeric())
}

enum Column {
    Numbers(Float64Array),
    Lists(ListArray),
}

impl Column {
    fn of(column: &ArrayRef) -> Result<Self> {
        let item = |number| Arc::new(Field::new("item", number, true));
        let (DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _)) =
            column.data_type()
        else {
            let numbers = cast(column, &DataType::Float64)?;
            return Ok(Self::Numbers(numbers.as_primitive::<Float64Type>().clone()));
        };
        let Some(place) = number_field(of.data_type()) else {
            let lists = cast(column, &DataType::List(item(DataType::Float64)))?;
            return Ok(Self::Lists(lists.as_list::<i32>().clone()));
        };
        let lists = cast(column, &DataType::List(Arc::clone(of)))?;
        let lists = lists.as_list::<i32>();
        let numbers = cast(lists.values().as_struct().column(place), &DataType::Float64)?;
        let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
        Ok(Self::Lists(ListArray::try_new(item(DataType::Float64), offsets, numbers, nulls)?))
    }
}

/// Vectors of the rows of a batch.
pub(in crate::detectors::deeplog) struct ValueRows(Vec<Column>);

impl ValueRows {
    /// The vector of a row, with NaN for what is NULL; `None` if all of it is.
    pub(in crate::detectors::deeplog) fn vector(&self, row: usize) -> Option<Vec<f64>> {
        let number = |numbers: &Float64Array, place: usize| {
            if numbers.is_valid(place) { numbers.value(place) } else { f64::NAN }
        };
        let mut vector = Vec::new();
        for column in &self.0 {
            match column {
                Column::Numbers(numbers) => vector.push(number(numbers, row)),
                Column::Lists(lists) if lists.is_null(row) => {}
                Column::Lists(lists) => {
                    let items = lists.value(row);
                    let items = items.as_primitive::<Float64Type>();
                    vector.extend((0..items.len().min(WIDTH_MAX)).map(|i| number(items, i)));
                }
            }
        }
        vector.truncate(WIDTH_MAX);
        vector.iter().any(|x| !x.is_nan()).then_some(vector)
    }
}
