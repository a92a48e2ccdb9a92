//! Columns of a batch by name, as plain vectors.

use driftline::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use driftline::arrow::compute::cast;
use driftline::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};

use crate::BoxResult;
use crate::pipeline::{KEY, TIME};

pub struct Columns<'a>(pub &'a RecordBatch);

impl Columns<'_> {
    fn cast(&self, name: &str, to: &DataType) -> BoxResult<ArrayRef> {
        let column =
            self.0.column_by_name(name).ok_or_else(|| format!("there is no column {name}"))?;
        Ok(cast(column, to)?)
    }

    pub fn keys(&self) -> BoxResult<Vec<String>> {
        self.texts(KEY)
    }

    /// Milliseconds since 1970.
    pub fn times(&self) -> BoxResult<Vec<i64>> {
        let times = self.cast(TIME, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        let times = cast(&times, &DataType::Int64)?;
        Ok(times.as_primitive::<Int64Type>().values().to_vec())
    }

    pub fn texts(&self, name: &str) -> BoxResult<Vec<String>> {
        let texts = self.cast(name, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        Ok(texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
    }

    /// NaN for NULL.
    pub fn numbers(&self, name: &str) -> BoxResult<Vec<f64>> {
        let numbers = self.cast(name, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        Ok(numbers.iter().map(|number| number.unwrap_or(f64::NAN)).collect())
    }

    pub fn integers(&self, name: &str) -> BoxResult<Vec<Option<i64>>> {
        let integers = self.cast(name, &DataType::Int64)?;
        Ok(integers.as_primitive::<Int64Type>().iter().collect())
    }

    /// False for NULL.
    pub fn flags(&self, name: &str) -> BoxResult<Vec<bool>> {
        let flags = self.cast(name, &DataType::Boolean)?;
        let flags = flags.as_boolean();
        Ok((0..flags.len()).map(|row| flags.is_valid(row) && flags.value(row)).collect())
    }
}
