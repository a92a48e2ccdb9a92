//! Anomalies as records: the rows with `is_anomaly` of any detector's output, for callbacks and logs.

#[cfg(test)]
mod tests;

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, TimeUnit, UInt64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;

use super::Direction;
use crate::error::{OperatorError, Result};
use crate::time::EventTime;

/// Metadata of the `detail` field, from which [`Anomaly::from_batch`] learns what it cannot tell from names.
pub(crate) mod metadata {
    /// The detector's name.
    pub(crate) const DETECTOR: &str = "driftline.detector";
    /// Names of the key columns, separated by commas.
    pub(crate) const KEY: &str = "driftline.key";
    /// Name of the time column.
    pub(crate) const TIME: &str = "driftline.time";
}

/// One anomalous row.
///
/// What a detector does not state is `None` or empty.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Anomaly {
    /// The detector's name; empty where the output has lost it on its way.
    pub detector: String,
    /// The model's key: column and value, in the order of PARTITION BY.
    pub key: Vec<(String, String)>,
    /// When it happened.
    pub time: EventTime,
    /// How anomalous the row is; comparable only within one detector.
    pub score: f64,
    /// The score above which rows are anomalous.
    pub threshold: Option<f64>,
    /// Score by threshold.
    pub severity: Option<f64>,
    /// Share of the key's past scores that were lower.
    pub probability: Option<f64>,
    /// How far the score can be trusted, in [0, 1].
    pub confidence: Option<f64>,
    /// Rows that the model had learned from.
    pub samples: Option<u64>,
    /// The model's version.
    pub model_version: Option<u64>,
    /// The model's phase.
    pub phase: String,
    /// The feature that explains most.
    pub feature: Option<String>,
    /// Its value.
    pub actual: Option<f64>,
    /// The value that would have been normal.
    pub expected: Option<f64>,
    /// The lowest value that would not have been raised.
    pub lower: Option<f64>,
    /// The highest value that would not have been raised.
    pub upper: Option<f64>,
    /// Actual minus expected.
    pub deviation: Option<f64>,
    /// Deviation by the size of the expected value.
    pub deviation_relative: Option<f64>,
    /// Whether the value is above or below the expected one.
    pub direction: Option<Direction>,
    /// Share of each feature in the score; the shares sum to 1.
    pub attribution: Vec<(String, f64)>,
    /// When the run of anomalous rows began.
    pub episode_start: Option<EventTime>,
    /// When its score was highest so far.
    pub episode_peak: Option<EventTime>,
    /// That score.
    pub episode_peak_score: Option<f64>,
    /// One sentence.
    pub explanation: Option<String>,
}

impl Anomaly {
    /// The rows of a detector's output that are anomalous, in their order.
    ///
    /// # Errors
    /// If the batch is not the output of a detector: a column is absent or of another type.
    pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>> {
        let is_anomaly = column(batch, "is_anomaly")?;
        let flags = is_anomaly
            .as_boolean_opt()
            .ok_or_else(|| refuse("holds an is_anomaly that is not BOOLEAN".into()))?;
        let rows: Vec<usize> =
            (0..batch.num_rows()).filter(|i| flags.is_valid(*i) && flags.value(*i)).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let reader = Reader::new(batch)?;
        rows.into_iter().map(|row| reader.read(row)).collect()
    }
}

impl fmt::Display for Anomaly {
    /// Detector, key and explanation on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.detector.is_empty() { "anomaly" } else { &self.detector })?;
        for (i, (column, value)) in self.key.iter().enumerate() {
            write!(f, "{}{column}={value}", if i == 0 { " [" } else { ", " })?;
        }
        if !self.key.is_empty() {
            f.write_str("]")?;
        }
        match &self.explanation {
            Some(explanation) => write!(f, ": {explanation}"),
            None => write!(f, ": score {}", self.score),
        }
    }
}

/// Columns of one batch, cast once.
struct Reader<'a> {
    batch: &'a RecordBatch,
    detector: String,
    key: Vec<(String, ArrayRef)>,
    time: ArrayRef,
    score: ArrayRef,
    threshold: Option<ArrayRef>,
    version: Option<ArrayRef>,
    phase: Option<ArrayRef>,
    detail: Option<StructArray>,
}

impl<'a> Reader<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self> {
        let schema = batch.schema_ref();
        let said = |key: &str| -> Option<String> {
            schema.field_with_name("detail").ok()?.metadata().get(key).cloned()
        };
        let time = said(metadata::TIME)
            .filter(|name| batch.column_by_name(name).is_some())
            .or_else(|| first_timestamp(schema))
            .ok_or_else(|| refuse("has no event time".into()))?;
        let key = said(metadata::KEY).unwrap_or_default();
        let key = key.split(',').filter_map(|name| {
            batch.column_by_name(name).map(|values| (name.to_owned(), values.clone()))
        });
        let number = |name| -> Result<Option<ArrayRef>> {
            batch.column_by_name(name).map(|c| Ok(cast(c, &DataType::Float64)?)).transpose()
        };
        let detail = batch.column_by_name("detail").and_then(|detail| detail.as_struct_opt());
        Ok(Self {
            detector: said(metadata::DETECTOR).unwrap_or_default(),
            key: key.collect(),
            time: nanoseconds(column(batch, &time)?)?,
            score: number("score")?.ok_or_else(|| refuse("has no column \"score\"".into()))?,
            threshold: number("threshold")?,
            version: batch.column_by_name("model_version").cloned(),
            phase: batch.column_by_name("phase").cloned(),
            detail: detail.cloned(),
            batch,
        })
    }

    fn read(&self, row: usize) -> Result<Anomaly> {
        let key = |(name, values): &(String, ArrayRef)| -> Result<(String, String)> {
            Ok((name.clone(), array_value_to_string(values, row)?))
        };
        let time = time_at(&self.time, row).ok_or_else(|| {
            refuse(format!("has no event time in row {row} of {}", self.batch.num_rows()))
        })?;
        Ok(Anomaly {
            detector: self.detector.clone(),
            key: self.key.iter().map(key).collect::<Result<_>>()?,
            time,
            score: number_at(&self.score, row).unwrap_or(f64::NAN),
            threshold: self.threshold.as_ref().and_then(|values| number_at(values, row)),
            severity: self.number("severity", row),
            probability: self.number("probability", row),
            confidence: self.number("confidence", row),
            samples: self.field("samples").and_then(|values| count_at(values, row)),
            model_version: self.version.as_ref().and_then(|values| count_at(values, row)),
            phase: self.phase.as_ref().and_then(|v| text_at(v, row)).unwrap_or_default().into(),
            feature: self.text("feature", row),
            actual: self.number("actual", row),
            expected: self.number("expected", row),
            lower: self.number("lower", row),
            upper: self.number("upper", row),
            deviation: self.number("deviation", row),
            deviation_relative: self.number("deviation_relative", row),
            direction: self.text("direction", row).and_then(|word| match word.as_str() {
                "up" => Some(Direction::Up),
                "down" => Some(Direction::Down),
                _ => None,
            }),
            attribution: self.attribution(row),
            episode_start: self.time("episode_start", row)?,
            episode_peak: self.time("episode_peak", row)?,
            episode_peak_score: self.number("episode_peak_score", row),
            explanation: self.text("explanation", row),
        })
    }

    fn field(&self, name: &str) -> Option<&ArrayRef> {
        self.detail.as_ref()?.column_by_name(name)
    }

    fn number(&self, name: &str, row: usize) -> Option<f64> {
        number_at(self.field(name)?, row)
    }

    fn text(&self, name: &str, row: usize) -> Option<String> {
        text_at(self.field(name)?, row).map(str::to_owned)
    }

    fn time(&self, name: &str, row: usize) -> Result<Option<EventTime>> {
        match self.field(name) {
            Some(values) => Ok(time_at(&nanoseconds(&values.slice(row, 1))?, 0)),
            None => Ok(None),
        }
    }

    fn attribution(&self, row: usize) -> Vec<(String, f64)> {
        let shares = self
            .field("attribution")
            .and_then(|lists| lists.as_list_opt::<i32>())
            .filter(|lists| lists.is_valid(row))
            .map(|lists| lists.value(row));
        let Some(shares) = shares.as_ref().and_then(|shares| shares.as_struct_opt()) else {
            return Vec::new();
        };
        let (Some(features), Some(values)) =
            (shares.column_by_name("feature"), shares.column_by_name("share"))
        else {
            return Vec::new();
        };
        let pair = |i| Some((text_at(features, i)?.to_owned(), number_at(values, i)?));
        (0..shares.len()).filter_map(pair).collect()
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| refuse(format!("has no column \"{name}\"")))
}

fn refuse(problem: String) -> OperatorError {
    let hint = "give a batch of a detector's output, as SELECT * FROM detector returns it".into();
    OperatorError::Columns { owner: "batch of anomalies".into(), problem, hint }
}

fn first_timestamp(schema: &Schema) -> Option<String> {
    let is_time = |t: &DataType| matches!(t, DataType::Timestamp(..));
    schema.fields().iter().find(|f| is_time(f.data_type())).map(|f| f.name().clone())
}

/// Times as Int64 nanoseconds. A time that nanoseconds cannot express becomes NULL.
fn nanoseconds(times: &ArrayRef) -> Result<ArrayRef> {
    let times = cast(times, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
    Ok(cast(&times, &DataType::Int64)?)
}

fn time_at(values: &ArrayRef, row: usize) -> Option<EventTime> {
    let values = values.as_primitive_opt::<Int64Type>()?;
    values.is_valid(row).then(|| EventTime(values.value(row)))
}

fn number_at(values: &ArrayRef, row: usize) -> Option<f64> {
    let values = values.as_primitive_opt::<Float64Type>()?;
    values.is_valid(row).then(|| values.value(row))
}

fn count_at(values: &ArrayRef, row: usize) -> Option<u64> {
    let values = values.as_primitive_opt::<UInt64Type>()?;
    values.is_valid(row).then(|| values.value(row))
}

fn text_at(values: &ArrayRef, row: usize) -> Option<&str> {
    let values = values.as_string_opt::<i32>()?;
    values.is_valid(row).then(|| values.value(row))
}
