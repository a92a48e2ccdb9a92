//! Answers as arrow columns: one row for each entry, and one for each session that has ended.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBuilder, Float64Array, Float64Builder, Int64Array,
    Int64Builder, StringArray, StringBuilder, StructArray, UInt64Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::record_batch::RecordBatch;

use super::explain::SessionDiagnosis;
use super::key_model::{EntryJudgement, Rank, SessionJudgement};
use super::settings::{Settings, detail_fields};
use crate::detector::Answers;
use crate::error::Result;
use crate::logs::workflow::{Oddity, Workflow, workflow_columns};
use crate::model::Phase;
use crate::time::EventTime;

/// What is said about one row.
#[derive(Clone, Debug, Default)]
pub(super) struct RowAnswer {
    pub(super) entry: Option<EntryJudgement>,
    pub(super) is_anomaly: bool,
    pub(super) score: f64,
    pub(super) threshold: f64,
    pub(super) expected: String,
    pub(super) place: u32,
    pub(super) explanation: String,
    /// Error and bound of its values, if they were judged.
    pub(super) values: Option<(f64, f64)>,
    pub(super) phase: Option<Phase>,
}

/// What is said about one session.
#[derive(Clone, Debug)]
pub(super) struct SessionAnswer {
    pub(super) name: String,
    pub(super) start: EventTime,
    pub(super) end: EventTime,
    pub(super) judgement: SessionJudgement,
    /// Score, threshold, and whether it is an anomaly, once there is a model.
    pub(super) verdict: Option<(f64, f64, bool)>,
    pub(super) reasons: Vec<&'static str>,
}

/// Expected keys in one text, the most probable first.
pub(super) fn expected_text(expected: &[(&str, f64)]) -> String {
    let mut text = String::new();
    for (key, p) in expected {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{key} ({p:.3})");
    }
    text
}

pub(super) fn write_rows(
    settings: &Settings,
    rows: &RecordBatch,
    answers: &[RowAnswer],
    version: u64,
    out: &mut Answers,
) -> Result<()> {
    let mut numbers: [Float64Builder; 5] = std::array::from_fn(|_| Float64Builder::new());
    let (mut is_anomaly, mut unseen) = (BooleanBuilder::new(), BooleanBuilder::new());
    let (mut phase, mut expected, mut explanation) =
        (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut rank, mut place) = (Int64Builder::new(), Int64Builder::new());
    let mut versions = UInt64Builder::new();
    for answer in answers {
        let [score, threshold, severity, probability, surprise] = &mut numbers;
        let is_scored = answer.entry.is_some();
        let number = |value: f64| is_scored.then_some(value).filter(|value| !value.is_nan());
        score.append_option(number(answer.score));
        threshold.append_option(number(answer.threshold));
        severity.append_option(number(answer.score / answer.threshold));
        probability.append_option(answer.entry.map(|entry| entry.probability));
        surprise.append_option(answer.entry.map(EntryJudgement::nll));
        is_anomaly.append_option(is_scored.then_some(answer.is_anomaly));
        unseen.append_option(answer.entry.map(|entry| entry.rank == Rank::Unseen));
        phase.append_value(answer.phase.unwrap_or(Phase::WarmingUp).as_str());
        versions.append_value(if answer.phase.is_some_and(Phase::scores) { version } else { 0 });
        rank.append_option(answer.entry.and_then(|entry| match entry.rank {
            Rank::Key(rank) => Some(i64::from(rank)),
            Rank::Unseen | Rank::End => None,
        }));
        expected.append_option(answer.is_anomaly.then_some(&answer.expected));
        place.append_value(i64::from(answer.place));
        explanation.append_option(answer.is_anomaly.then_some(&answer.explanation));
    }
    let [score, threshold, severity, probability, surprise] = &mut numbers;
    let mut detail: Vec<ArrayRef> = vec![
        Arc::new(severity.finish()),
        Arc::new(probability.finish()),
        Arc::new(surprise.finish()),
        Arc::new(rank.finish()),
        Arc::new(unseen.finish()),
        Arc::new(expected.finish()),
        Arc::new(place.finish()),
        Arc::new(explanation.finish()),
    ];
    if settings.values.is_some() {
        let of = |pick: fn((f64, f64)) -> f64| -> ArrayRef {
            Arc::new(answers.iter().map(|answer| answer.values.map(pick)).collect::<Float64Array>())
        };
        detail.extend([of(|(error, _)| error), of(|(_, bound)| bound)]);
    }
    let fields = detail_fields(settings.values.is_some());
    let detail = StructArray::try_new(fields.into(), detail, None)?;
    let own: [ArrayRef; 6] = [
        Arc::new(score.finish()),
        Arc::new(is_anomaly.finish()),
        Arc::new(threshold.finish()),
        Arc::new(phase.finish()),
        Arc::new(versions.finish()),
        Arc::new(detail),
    ];
    let columns = rows.columns().iter().cloned().chain(own).collect();
    out.rows.push(RecordBatch::try_new(Arc::clone(&settings.schema), columns)?);
    Ok(())
}

pub(super) fn write_sessions(
    settings: &Settings,
    answers: &[SessionAnswer],
    out: &mut Answers,
) -> Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    let schema = Arc::clone(&settings.relation.schema);
    let time_type = schema.field(1).data_type().clone();
    let times = |of: &dyn Fn(&SessionAnswer) -> EventTime| -> Result<ArrayRef> {
        let ticks =
            answers.iter().map(|answer| of(answer).0.div_euclid(unit_ns(settings.columns.unit)));
        Ok(cast(&Int64Array::from_iter_values(ticks), &time_type)?)
    };
    let integers = |of: &dyn Fn(&SessionJudgement) -> u32| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(answers.iter().map(|a| i64::from(of(&a.judgement)))))
    };
    let numbers = |of: &dyn Fn(&SessionAnswer) -> f64| -> ArrayRef {
        let mut builder = Float64Builder::new();
        for answer in answers {
            builder
                .append_option(answer.verdict.map(|_| of(answer)).filter(|value| !value.is_nan()));
        }
        Arc::new(builder.finish())
    };
    let mut names = StringBuilder::new();
    let mut reasons = StringBuilder::new();
    let mut is_anomaly = BooleanBuilder::new();
    for answer in answers {
        names.append_option(settings.columns.session.map(|_| &answer.name));
        reasons.append_option((!answer.reasons.is_empty()).then(|| answer.reasons.join(", ")));
        is_anomaly.append_option(answer.verdict.map(|(.., odd)| odd));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(names.finish()),
        times(&|answer| answer.end)?,
        times(&|answer| answer.start)?,
        integers(&|judged| judged.entries),
        integers(&|judged| judged.abnormal.saturating_add(judged.values)),
        integers(&|judged| judged.unseen),
        integers(&|judged| judged.rank_max),
        numbers(&|answer| answer.judgement.nll_max),
        numbers(&|answer| answer.judgement.nll_mean()),
        numbers(&|answer| answer.judgement.distance),
        numbers(&|answer| answer.verdict.map_or(f64::NAN, |(score, ..)| score)),
        numbers(&|answer| answer.verdict.map_or(f64::NAN, |(_, threshold, _)| threshold)),
        Arc::new(is_anomaly.finish()),
        Arc::new(reasons.finish()),
    ];
    out.side.push((0, RecordBatch::try_new(schema, columns)?));
    Ok(())
}

/// Workflows that hold from a time on.
pub(super) fn write_workflows(
    settings: &Settings,
    at: EventTime,
    workflows: &[Workflow],
    out: &mut Answers,
) -> Result<()> {
    let schema = settings.columns.workflow().schema;
    let columns = workflow_columns(workflows);
    let rows = columns.first().map_or(0, Array::len);
    if rows == 0 {
        return Ok(());
    }
    let ticks = at.0.div_euclid(unit_ns(settings.columns.unit));
    let times = cast(&Int64Array::from(vec![ticks; rows]), schema.field(0).data_type())?;
    let columns = std::iter::once(times).chain(columns).collect();
    out.side.push((1, RecordBatch::try_new(schema, columns)?));
    Ok(())
}

/// Where sessions left the workflows.
pub(super) fn write_diagnoses(
    settings: &Settings,
    found: &[SessionDiagnosis],
    out: &mut Answers,
) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let schema = settings.columns.diagnosis().schema;
    let unit = unit_ns(settings.columns.unit);
    let ticks = Int64Array::from_iter_values(found.iter().map(|one| one.end.0.div_euclid(unit)));
    let named = settings.columns.session.is_some();
    let text = |of: &dyn Fn(&SessionDiagnosis) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(of)))
    };
    let integer = |of: &dyn Fn(&SessionDiagnosis) -> usize| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(found.iter().map(|one| of(one) as i64)))
    };
    let number = |of: &dyn Fn(&Oddity) -> Option<f64>| -> ArrayRef {
        Arc::new(found.iter().map(|one| of(&one.diagnosis.oddity)).collect::<Float64Array>())
    };
    let session = found.iter().map(|one| named.then_some(one.session.as_str()));
    let severity = found.iter().map(|one| one.diagnosis.severity);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(session.collect::<StringArray>()),
        cast(&ticks, schema.field(1).data_type())?,
        Arc::new(found.iter().map(|one| Some(one.is_anomaly)).collect::<BooleanArray>()),
        integer(&|one| one.task),
        integer(&|one| one.diagnosis.place),
        text(&|one| one.diagnosis.from.clone()),
        text(&|one| one.diagnosis.to.clone()),
        text(&|one| one.diagnosis.oddity.as_str().to_owned()),
        number(&|oddity| oddity.slow().map(|(seconds, ..)| seconds)),
        number(&|oddity| oddity.slow().map(|(_, usual, _)| usual)),
        number(&|oddity| oddity.slow().map(|(.., deviation)| deviation)),
        Arc::new(severity.map(|x| Some(x).filter(|x| x.is_finite())).collect::<Float64Array>()),
        text(&|one| one.diagnosis.to_string()),
    ];
    out.side.push((2, RecordBatch::try_new(schema, columns)?));
    Ok(())
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

/// A column of text or of whole numbers as text.
pub(super) fn as_text(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8 => Arc::clone(column),
        _ => cast(column, &DataType::Utf8)?,
    })
}
