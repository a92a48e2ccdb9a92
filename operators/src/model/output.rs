//! The columns that every keyed detector appends to its input.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Array, Int64Array, Int64Builder, ListArray, StringBuilder,
    StructArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::columns::{Columns, in_unit};
use super::explain::Explanation;
use super::extra::{ExtraBuilder, Numbers};
use super::{Extra, FeatureJudgement, Phase, Row};
use crate::detector::OUTPUT_COLUMNS;
use crate::detectors::anomaly::metadata;
use crate::detectors::decide::Verdict;
use crate::error::{OperatorError, Result};
use crate::time::EventTime;

/// The input columns followed by the detector's own.
pub(super) fn output_schema(
    owner: &str,
    detector: &str,
    input: &Schema,
    columns: &Columns,
    extras: &[(&'static str, DataType)],
) -> Result<SchemaRef> {
    for name in OUTPUT_COLUMNS {
        if input.field_with_name(name).is_ok() {
            return Err(OperatorError::Columns {
                owner: owner.into(),
                problem: format!("would write column \"{name}\", which its input already has"),
                hint: "select the column under another name".into(),
            });
        }
    }
    let time = input.field_with_name(columns.time_name())?.data_type();
    let metadata = HashMap::from([
        (metadata::DETECTOR.to_owned(), detector.to_owned()),
        (metadata::TIME.to_owned(), columns.time_name().to_owned()),
        (metadata::KEY.to_owned(), columns.key_names().join(",")),
    ]);
    let detail = DataType::Struct(detail_fields(time, extras));
    let types = [
        DataType::Float64,
        DataType::Boolean,
        DataType::Float64,
        DataType::Utf8,
        DataType::UInt64,
        detail,
    ];
    let own = OUTPUT_COLUMNS.iter().zip(types).map(|(name, t)| {
        let field = Field::new(*name, t, true);
        Arc::new(if *name == "detail" { field.with_metadata(metadata.clone()) } else { field })
    });
    let fields: Vec<FieldRef> = input.fields().iter().cloned().chain(own).collect();
    Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
}

fn share_fields() -> Fields {
    let fields: [Field; 2] =
        [Field::new("feature", DataType::Utf8, true), Field::new("share", DataType::Float64, true)];
    Fields::from_iter(fields)
}

fn share_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(share_fields()), true))
}

fn detail_fields(time: &DataType, extras: &[(&'static str, DataType)]) -> Fields {
    let named = [
        ("severity", DataType::Float64),
        ("probability", DataType::Float64),
        ("confidence", DataType::Float64),
        ("samples", DataType::UInt64),
        ("feature", DataType::Utf8),
        ("actual", DataType::Float64),
        ("expected", DataType::Float64),
        ("lower", DataType::Float64),
        ("upper", DataType::Float64),
        ("deviation", DataType::Float64),
        ("deviation_relative", DataType::Float64),
        ("direction", DataType::Utf8),
        ("attribution", DataType::List(share_item())),
        ("suppressed_by", DataType::Utf8),
        ("episode_start", time.clone()),
        ("episode_end", time.clone()),
        ("episode_peak", time.clone()),
        ("episode_peak_score", DataType::Float64),
        ("explanation", DataType::Utf8),
    ];
    named.into_iter().chain(extras.iter().cloned()).map(|(n, t)| Field::new(n, t, true)).collect()
}

/// What the model and the decider found out about one row.
#[derive(Clone, Copy)]
pub(super) struct Judged {
    pub(super) score: f64,
    pub(super) threshold: f64,
    pub(super) verdict: Verdict,
    pub(super) phase: Phase,
    pub(super) version: u64,
    pub(super) samples: u64,
    pub(super) confidence: f64,
}

impl Judged {
    /// For a row without a model.
    pub(super) fn none() -> Self {
        Self {
            score: f64::NAN,
            threshold: f64::NAN,
            verdict: Verdict::none(),
            phase: Phase::WarmingUp,
            version: 0,
            samples: 0,
            confidence: 0.0,
        }
    }
}

/// A row with all that was found out about it.
pub(super) struct Finding<'a> {
    pub(super) row: Row<'a>,
    pub(super) judged: &'a Judged,
    /// See [`Judgement`](super::Judgement).
    pub(super) features: &'a [FeatureJudgement],
    pub(super) extras: &'a [Extra],
}

/// Builders of the output columns of one batch.
pub(super) struct OutputWriter<'a> {
    columns: &'a Columns,
    names: Vec<&'a str>,
    score: Numbers,
    is_anomaly: BooleanBuilder,
    threshold: Numbers,
    phase: StringBuilder,
    version: Vec<u64>,
    severity: Numbers,
    probability: Numbers,
    confidence: Numbers,
    samples: Vec<u64>,
    feature: StringBuilder,
    actual: Numbers,
    expected: Numbers,
    lower: Numbers,
    upper: Numbers,
    deviation: Numbers,
    deviation_relative: Numbers,
    direction: StringBuilder,
    attribution: AttributionBuilder,
    suppressed_by: StringBuilder,
    /// Start, end and peak, in the unit of the time column.
    episode: [Int64Builder; 3],
    episode_peak_score: Numbers,
    explanation: StringBuilder,
    extras: Vec<ExtraBuilder>,
    absent: Absent,
}

/// Rows at the end of what most rows lack, whose nulls are not written yet: one call writes many.
#[derive(Clone, Copy, Debug, Default)]
struct Absent {
    episode: usize,
    suppressed_by: usize,
    explanation: usize,
}

impl<'a> OutputWriter<'a> {
    pub(super) fn new(
        columns: &'a Columns,
        extras: &[(&'static str, DataType)],
        rows: usize,
    ) -> Self {
        let number = || Numbers::with_capacity(rows);
        let time = || Int64Builder::with_capacity(rows);
        // Texts of most rows are short or absent.
        let text = |bytes: usize| StringBuilder::with_capacity(rows, rows * bytes);
        let names = columns.feature_names();
        Self {
            score: number(),
            is_anomaly: BooleanBuilder::with_capacity(rows),
            threshold: number(),
            phase: text(9),
            version: Vec::with_capacity(rows),
            severity: number(),
            probability: number(),
            confidence: number(),
            samples: Vec::with_capacity(rows),
            feature: text(8),
            actual: number(),
            expected: number(),
            lower: number(),
            upper: number(),
            deviation: number(),
            deviation_relative: number(),
            direction: text(4),
            attribution: AttributionBuilder::new(rows, names.len()),
            suppressed_by: text(0),
            episode: [time(), time(), time()],
            episode_peak_score: number(),
            explanation: text(0),
            extras: extras.iter().map(|(_, t)| ExtraBuilder::new(t, columns.unit)).collect(),
            absent: Absent::default(),
            columns,
            names,
        }
    }

    /// Writes one row.
    pub(super) fn push(&mut self, finding: &Finding<'_>) {
        let Finding { judged, features, extras, .. } = finding;
        let Judged { score, threshold, verdict, .. } = judged;
        self.score.push(*score);
        self.is_anomaly.append_option(verdict.is_anomaly);
        self.threshold.push(*threshold);
        self.phase.append_value(judged.phase.as_str());
        self.version.push(judged.version);
        self.severity.push(score / threshold);
        self.probability.push(verdict.probability);
        self.confidence.push(judged.confidence);
        self.samples.push(judged.samples);
        self.push_feature(finding);
        let shares = features.iter().map(|feature| feature.contribution);
        self.attribution.push(&self.names, shares, *score);
        match verdict.suppressed_by {
            Some(rule) => {
                self.suppressed_by.append_nulls(std::mem::take(&mut self.absent.suppressed_by));
                self.suppressed_by.append_value(rule.as_str());
            }
            None => self.absent.suppressed_by += 1,
        }
        self.push_episode(verdict);
        if verdict.is_anomaly == Some(true) {
            self.explanation.append_nulls(std::mem::take(&mut self.absent.explanation));
            let explanation = Explanation { names: &self.names, finding };
            write!(self.explanation, "{explanation}").expect("text in memory always has room");
            self.explanation.append_value("");
        } else {
            self.absent.explanation += 1;
        }
        for (builder, extra) in self.extras.iter_mut().zip(*extras) {
            builder.push(extra);
        }
    }

    fn push_feature(&mut self, finding: &Finding<'_>) {
        let Some(i) = finding.judged.verdict.feature else {
            self.feature.append_null();
            self.direction.append_null();
            for numbers in [
                &mut self.actual,
                &mut self.expected,
                &mut self.lower,
                &mut self.upper,
                &mut self.deviation,
                &mut self.deviation_relative,
            ] {
                numbers.push(f64::NAN);
            }
            return;
        };
        let (actual, judged) = (finding.row.features[i], &finding.features[i]);
        let deviation = actual - judged.expected;
        self.feature.append_value(self.names[i]);
        self.actual.push(actual);
        self.expected.push(judged.expected);
        self.lower.push(judged.lower);
        self.upper.push(judged.upper);
        self.deviation.push(deviation);
        let relative = deviation / judged.expected.abs();
        self.deviation_relative.push(if relative.is_finite() { relative } else { f64::NAN });
        self.direction.append_option(direction(deviation));
    }

    fn push_episode(&mut self, verdict: &Verdict) {
        let Some(episode) = verdict.episode else {
            self.absent.episode += 1;
            return;
        };
        self.without_episode();
        let unit = self.columns.unit;
        let time = |time: EventTime| in_unit(time, unit);
        self.episode[0].append_value(time(episode.start));
        self.episode[1].append_option(verdict.episode_is_over.then(|| time(episode.end)));
        self.episode[2].append_value(time(episode.peak));
        self.episode_peak_score.push(episode.peak_score);
    }

    /// Writes the nulls of rows without an episode.
    fn without_episode(&mut self) {
        let rows = std::mem::take(&mut self.absent.episode);
        self.episode.iter_mut().for_each(|time| time.append_nulls(rows));
        self.episode_peak_score.push_nulls(rows);
    }

    /// The input followed by what was written.
    pub(super) fn finish(mut self, input: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        self.without_episode();
        self.suppressed_by.append_nulls(self.absent.suppressed_by);
        self.explanation.append_nulls(self.absent.explanation);
        let detail_field = schema.field(schema.fields().len() - 1);
        let DataType::Struct(fields) = detail_field.data_type() else {
            return Err(ArrowError::SchemaError("detail is a struct".into()).into());
        };
        let time_type = input.schema_ref().field_with_name(self.columns.time_name())?.data_type();
        let [start, end, peak] = &mut self.episode;
        let time = |builder: &mut Int64Builder| -> Result<ArrayRef> {
            let ticks: Int64Array = builder.finish();
            Ok(cast(&ticks, time_type)?)
        };
        let mut detail: Vec<ArrayRef> = vec![
            Arc::new(self.severity.finish()),
            Arc::new(self.probability.finish()),
            Arc::new(self.confidence.finish()),
            Arc::new(UInt64Array::from(self.samples)),
            Arc::new(self.feature.finish()),
            Arc::new(self.actual.finish()),
            Arc::new(self.expected.finish()),
            Arc::new(self.lower.finish()),
            Arc::new(self.upper.finish()),
            Arc::new(self.deviation.finish()),
            Arc::new(self.deviation_relative.finish()),
            Arc::new(self.direction.finish()),
            Arc::new(self.attribution.finish()?),
            Arc::new(self.suppressed_by.finish()),
            time(start)?,
            time(end)?,
            time(peak)?,
            Arc::new(self.episode_peak_score.finish()),
            Arc::new(self.explanation.finish()),
        ];
        for extra in &mut self.extras {
            detail.push(extra.finish()?);
        }
        let mut columns = input.columns().to_vec();
        columns.extend([
            Arc::new(self.score.finish()) as ArrayRef,
            Arc::new(self.is_anomaly.finish()),
            Arc::new(self.threshold.finish()),
            Arc::new(self.phase.finish()),
            Arc::new(UInt64Array::from(self.version)),
            Arc::new(StructArray::try_new(fields.clone(), detail, None)?),
        ]);
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

fn direction(deviation: f64) -> Option<&'static str> {
    match deviation {
        d if d > 0.0 => Some("up"),
        d if d < 0.0 => Some("down"),
        _ => None,
    }
}

/// Shares of the features, a list per row.
struct AttributionBuilder {
    offsets: Vec<i32>,
    valid: Vec<bool>,
    feature: StringBuilder,
    share: Vec<f64>,
}

impl AttributionBuilder {
    fn new(rows: usize, features: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            offsets,
            valid: Vec::with_capacity(rows),
            feature: StringBuilder::with_capacity(rows * features, rows * features * 8),
            share: Vec::with_capacity(rows * features),
        }
    }

    /// Shares of the contributions that are known; equal ones where all are zero, NULL without a score.
    fn push(
        &mut self,
        names: &[&str],
        contributions: impl Iterator<Item = f64> + Clone,
        score: f64,
    ) {
        let known = contributions.clone().filter(|c| !c.is_nan());
        let (count, sum) = known.fold((0.0, 0.0), |(count, sum), c| (count + 1.0, sum + c));
        let valid = count > 0.0 && !score.is_nan();
        let mut end = self.offsets[self.offsets.len() - 1];
        if valid {
            for (name, c) in names.iter().zip(contributions).filter(|(_, c)| !c.is_nan()) {
                self.feature.append_value(name);
                self.share.push(if sum > 0.0 { c / sum } else { 1.0 / count });
                end += 1;
            }
        }
        self.offsets.push(end);
        self.valid.push(valid);
    }

    fn finish(&mut self) -> Result<ListArray> {
        let share = Float64Array::from(std::mem::take(&mut self.share));
        let shares: Vec<ArrayRef> = vec![Arc::new(self.feature.finish()), Arc::new(share)];
        let shares = StructArray::try_new(share_fields(), shares, None)?;
        let offsets = OffsetBuffer::new(std::mem::take(&mut self.offsets).into());
        let valid = NullBuffer::from(std::mem::take(&mut self.valid));
        Ok(ListArray::try_new(share_item(), offsets, Arc::new(shares), Some(valid))?)
    }
}
