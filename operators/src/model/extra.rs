//! Columns of a kind's own, in `detail` and in side relations.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};

use super::Extra;
use super::columns::in_unit;
use crate::error::Result;

/// Builds one such column.
pub(super) enum ExtraBuilder {
    Number(Float64Builder),
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
            DataType::Float64 => Self::Number(Float64Builder::new()),
            DataType::Int64 => Self::Integer(Int64Builder::new()),
            DataType::Boolean => Self::Flag(BooleanBuilder::new()),
            DataType::Timestamp(..) => Self::Time(Int64Builder::new(), unit, data_type.clone()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// A value of another type than the field's becomes NULL.
    pub(super) fn push(&mut self, extra: &Extra) {
        match (self, extra) {
            (Self::Number(builder), Extra::Number(x)) => push(builder, *x),
            (Self::Integer(builder), Extra::Integer(x)) => builder.append_value(*x),
            (Self::Text(builder), Extra::Text(x)) => builder.append_value(x),
            (Self::Flag(builder), Extra::Flag(x)) => builder.append_value(*x),
            (Self::Time(builder, unit, _), Extra::Time(x)) => {
                builder.append_value(in_unit(*x, *unit));
            }
            (Self::Number(builder), _) => builder.append_null(),
            (Self::Integer(builder) | Self::Time(builder, ..), _) => builder.append_null(),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Flag(builder), _) => builder.append_null(),
        }
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Number(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Flag(builder) => Arc::new(builder.finish()),
            Self::Time(builder, _, data_type) => cast(&builder.finish(), data_type)?,
        })
    }
}

/// Appends a number, NaN as NULL.
pub(super) fn push(builder: &mut Float64Builder, number: f64) {
    builder.append_option((!number.is_nan()).then_some(number));
}
