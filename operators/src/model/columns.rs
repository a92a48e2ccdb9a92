//! Which columns a keyed detector reads, and how one batch of them becomes features, keys and times.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, Rows, SortField};

use super::VALUE_MAX;
use crate::detector::DetectorRequest;
use crate::error::{OperatorError, Result};
use crate::keyed::Key;
use crate::options::nearest_name;
use crate::state::decode_rows;
use crate::time::EventTime;

/// The columns of one detector, as indexes into its input.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    owner: String,
    schema: arrow::datatypes::SchemaRef,
    time: usize,
    pub(super) unit: TimeUnit,
    keys: Vec<usize>,
    features: Vec<usize>,
}

impl Columns {
    /// Settles columns; `features` lists names separated by commas, or is empty for all that can serve.
    pub(super) fn settle(
        owner: &str,
        request: &DetectorRequest<'_>,
        features: &str,
    ) -> Result<Self> {
        let schema = request.schema.clone();
        let refuse = |problem: String, hint: String| {
            Err(OperatorError::Columns { owner: owner.into(), problem, hint })
        };
        let DataType::Timestamp(unit, _) = schema.field(request.time).data_type() else {
            let field = schema.field(request.time);
            return refuse(
                format!("needs an event time, but \"{}\" is {}", field.name(), field.data_type()),
                "cast the column to TIMESTAMP".into(),
            );
        };
        let usable = usable_features(request);
        let features = if features.trim().is_empty() {
            usable.clone()
        } else {
            named_features(owner, &schema, &usable, features)?
        };
        if features.is_empty() {
            return refuse(
                "has no numeric column to read".into(),
                "select at least one number beside key, time and window bounds".into(),
            );
        }
        let (unit, time) = (*unit, request.time);
        // A column that is named twice is one key column: side relations have it once.
        let mut keys: Vec<usize> = Vec::new();
        for key in &request.partition_by {
            if !keys.contains(key) {
                keys.push(*key);
            }
        }
        Ok(Self { owner: owner.into(), schema, time, unit, keys, features })
    }

    /// Names of the features, in the order of [`super::Row::features`].
    pub(super) fn feature_names(&self) -> Vec<&str> {
        self.names(&self.features)
    }

    pub(super) fn key_names(&self) -> Vec<&str> {
        self.names(&self.keys)
    }

    /// The key columns of a batch.
    pub(super) fn key_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|i| batch.column(*i).clone()).collect()
    }

    /// Key columns from the bytes of keys, as [`Columns::keys`] gave them.
    pub(super) fn key_arrays(
        &self,
        keys: &[Key<'_>],
        converter: Option<&RowConverter>,
    ) -> Result<Vec<ArrayRef>> {
        if self.keys.is_empty() {
            return Ok(Vec::new());
        }
        let Some(converter) = converter else {
            let texts = keys.iter().map(|key| key.map(String::from_utf8_lossy));
            return Ok(vec![std::sync::Arc::new(texts.collect::<StringArray>())]);
        };
        let parser = converter.parser();
        let rows = keys.iter().map(|key| parser.parse(key.unwrap_or(&[])));
        decode_rows(converter, rows)
    }

    pub(super) fn is_keyed(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(super) fn key_fields(&self) -> Vec<arrow::datatypes::FieldRef> {
        self.keys.iter().map(|i| self.schema.fields()[*i].clone()).collect()
    }

    pub(super) fn time_column(&self) -> usize {
        self.time
    }

    pub(super) fn time_field(&self) -> arrow::datatypes::FieldRef {
        self.schema.fields()[self.time].clone()
    }

    pub(super) fn time_name(&self) -> &str {
        self.schema.field(self.time).name()
    }

    fn names(&self, columns: &[usize]) -> Vec<&str> {
        columns.iter().map(|i| self.schema.field(*i).name().as_str()).collect()
    }

    /// A converter for keys that are not one text column.
    pub(super) fn key_converter(&self) -> Result<Option<RowConverter>> {
        let types: Vec<_> = self.keys.iter().map(|i| self.schema.field(*i).data_type()).collect();
        if matches!(types[..], [] | [DataType::Utf8]) {
            return Ok(None);
        }
        let fields = types.into_iter().map(|t| SortField::new(t.clone())).collect();
        Ok(Some(RowConverter::new(fields)?))
    }

    /// Refuses a batch whose columns are not the planned ones.
    pub(super) fn check(&self, batch: &RecordBatch) -> Result<()> {
        let types = |schema: &Schema| -> Vec<DataType> {
            schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        if std::sync::Arc::ptr_eq(&self.schema, batch.schema_ref())
            || types(&self.schema) == types(batch.schema_ref())
        {
            return Ok(());
        }
        Err(OperatorError::Columns {
            owner: self.owner.clone(),
            problem: "was given a batch of other columns than planned".into(),
            hint: format!("the plan reads {}", self.names(&self.features).join(", ")),
        })
    }

    /// Keys of a batch, row by row.
    pub(super) fn keys(
        &self,
        batch: &RecordBatch,
        converter: Option<&RowConverter>,
    ) -> Result<BatchKeys> {
        let columns = self.key_columns(batch);
        Ok(match converter {
            Some(converter) => BatchKeys::Rows(converter.convert_columns(&columns)?),
            None => match columns.first() {
                Some(column) => BatchKeys::Text(column.as_string::<i32>().clone()),
                None => BatchKeys::One,
            },
        })
    }

    /// Event times of a batch, in nanoseconds.
    pub(super) fn times(&self, batch: &RecordBatch, out: &mut Vec<i64>) -> Result<()> {
        let column = batch.column(self.time);
        if column.null_count() > 0 {
            return Err(OperatorError::Columns {
                owner: self.owner.clone(),
                problem: format!("was given NULL in \"{}\"", self.time_name()),
                hint: "leave rows without event time out".into(),
            });
        }
        let values = match self.unit {
            TimeUnit::Second => column.as_primitive::<TimestampSecondType>().values(),
            TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values(),
            TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().values(),
            TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().values(),
        };
        let unit_ns = unit_ns(self.unit);
        out.clear();
        out.extend(values.iter().map(|value| value.saturating_mul(unit_ns)));
        Ok(())
    }

    /// Features of a batch, one row after the other; what is not finite becomes NaN.
    pub(super) fn features(&self, batch: &RecordBatch, out: &mut Vec<f64>) -> Result<()> {
        let width = self.features.len();
        out.clear();
        out.resize(batch.num_rows() * width, f64::NAN);
        for (feature, column) in self.features.iter().enumerate() {
            let numbers = cast(batch.column(*column), &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>();
            for (row, &value) in numbers.values().iter().enumerate() {
                if value.is_finite() && numbers.is_valid(row) {
                    out[row * width + feature] = value.clamp(-VALUE_MAX, VALUE_MAX);
                }
            }
        }
        Ok(())
    }
}

/// Nanoseconds in one unit.
pub(super) fn unit_ns(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// Numeric columns that are neither key, time nor window bound.
fn usable_features(request: &DetectorRequest<'_>) -> Vec<usize> {
    let taken = |i: &usize| {
        *i == request.time || request.partition_by.contains(i) || request.window_bounds.contains(i)
    };
    let numeric = |t: &DataType| t.is_numeric() || *t == DataType::Boolean;
    (0..request.schema.fields().len())
        .filter(|i| !taken(i) && numeric(request.schema.field(*i).data_type()))
        .collect()
}

fn named_features(
    owner: &str,
    schema: &Schema,
    usable: &[usize],
    features: &str,
) -> Result<Vec<usize>> {
    let name_of = |i: usize| schema.field(i).name().as_str();
    let usable_names: Vec<&str> = usable.iter().map(|i| name_of(*i)).collect();
    let mut found: Vec<usize> = Vec::new();
    for name in features.split(',').map(str::trim) {
        let position = usable.iter().copied().find(|i| name_of(*i) == name);
        let problem = match position {
            Some(i) if found.contains(&i) => format!("names feature \"{name}\" twice"),
            Some(i) => {
                found.push(i);
                continue;
            }
            None if schema.field_with_name(name).is_ok() => {
                format!("cannot use \"{name}\" as a feature: not a number, or key, time or bound")
            }
            None => format!("has no feature column \"{name}\""),
        };
        let list = format!("columns that can serve: {}", usable_names.join(", "));
        let hint = match nearest_name(name, usable_names.iter().copied()) {
            Some(nearest) if position.is_none() => format!("did you mean \"{nearest}\"? {list}"),
            _ => list,
        };
        return Err(OperatorError::Columns { owner: owner.into(), problem, hint });
    }
    Ok(found)
}

/// The key of each row of a batch.
pub(super) enum BatchKeys {
    /// All rows have the same key.
    One,
    /// One text column, read in place.
    Text(StringArray),
    /// Anything else, in arrow's row format.
    Rows(Rows),
}

impl BatchKeys {
    pub(super) fn get(&self, row: usize) -> Key<'_> {
        match self {
            Self::One => Some(&[]),
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Rows(rows) => Some(rows.row(row).data()),
        }
    }
}

/// The time in a column's own unit.
pub(super) fn in_unit(time: EventTime, unit: TimeUnit) -> i64 {
    time.0.div_euclid(unit_ns(unit))
}
