//! Columns of a kind's own, in `detail` and in side relations.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Array, Int64Builder, StringBuilder};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};

use super::Extra;
use super::columns::in_unit;
use crate::error::Result;

/// Builds one such column.
pub(super) enum ExtraBuilder {
    Number(Numbers),
    Integer(Int64Builder),
    Text(StringBuilder),
    Flag(BooleanBuilder),
    /// Ticks of the input's event time, and the type that they get in the end.
    Time(Int64Builder, TimeUnit, DataType),
}

impl ExtraBuilder {
    /// A builder for a field; `unit` is that of the input's event time.
    pub(super) fn new(data_type: &DataType, unit: TimeUnit) -> Self {
        match data_type {
            DataType::Float64 => Self::Number(Numbers::default()),
            DataType::Int64 => Self::Integer(Int64Builder::new()),
            DataType::Boolean => Self::Flag(BooleanBuilder::new()),
            DataType::Timestamp(..) => Self::Time(Int64Builder::new(), unit, data_type.clone()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// A value of another type than the field's becomes NULL.
    pub(super) fn push(&mut self, extra: &Extra) {
        match (self, extra) {
            (Self::Number(numbers), Extra::Number(x)) => numbers.push(*x),
            (Self::Integer(builder), Extra::Integer(x)) => builder.append_value(*x),
            (Self::Text(builder), Extra::Text(x)) => builder.append_value(x),
            (Self::Flag(builder), Extra::Flag(x)) => builder.append_value(*x),
            (Self::Time(builder, unit, _), Extra::Time(x)) => {
                builder.append_value(in_unit(*x, *unit));
            }
            (Self::Number(numbers), _) => numbers.push(f64::NAN),
            (Self::Integer(builder) | Self::Time(builder, ..), _) => builder.append_null(),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Flag(builder), _) => builder.append_null(),
        }
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Number(numbers) => Arc::new(numbers.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Flag(builder) => Arc::new(builder.finish()),
            Self::Time(builder, _, data_type) => cast(&builder.finish(), data_type)?,
        })
    }
}

/// A column of numbers, NaN for NULL. Which of them are is found out for all together: a builder that is asked for each takes
/// longer than many a detector's arithmetic.
#[derive(Debug, Default)]
pub(super) struct Numbers(Vec<f64>);

impl Numbers {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self(Vec::with_capacity(rows))
    }

    #[inline]
    pub(super) fn push(&mut self, number: f64) {
        self.0.push(number);
    }

    pub(super) fn push_nulls(&mut self, rows: usize) {
        self.0.resize(self.0.len() + rows, f64::NAN);
    }

    pub(super) fn finish(&mut self) -> Float64Array {
        let numbers = std::mem::take(&mut self.0);
        let is_known = |row: usize| !numbers[row].is_nan();
        let known = NullBuffer::new(BooleanBuffer::collect_bool(numbers.len(), is_known));
        Float64Array::new(numbers.into(), (known.null_count() > 0).then_some(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_there_are_null() {
        let mut numbers = Numbers::with_capacity(2);
        numbers.push(1.5);
        numbers.push_nulls(2);
        numbers.push(f64::INFINITY);
        let expected = Float64Array::from(vec![Some(1.5), None, None, Some(f64::INFINITY)]);
        assert_eq!(numbers.finish(), expected);
        numbers.push(2.0);
        assert_eq!(numbers.finish(), Float64Array::from(vec![2.0]));
        assert_eq!(numbers.finish(), Float64Array::from(Vec::<f64>::new()));
    }
}
