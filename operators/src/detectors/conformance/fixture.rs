//! Seeded telemetry and small helpers: plan a kind, run it over batches, read its output.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, TimestampMillisecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit, UInt64Type};
use arrow::record_batch::RecordBatch;

use crate::detector::{Answers, Detector, DetectorKind, DetectorPlan, DetectorRequest};
use crate::detectors::{DetectorSpec, builtin_kinds};
use crate::error::Result;
use crate::options::{OptionValue, Options};

/// Whether a kind reads numeric columns, chosen by the option `features`, with a model for each key.
pub(super) fn reads_features(kind: &dyn DetectorKind) -> bool {
    kind.options().iter().any(|option| option.name == "features")
}

/// Runs a proof over every builtin kind that reads features, naming the kind that fails.
pub(super) fn for_each_kind(proof: impl Fn(&dyn DetectorKind)) {
    run_over(&|kind| reads_features(kind), proof);
}

/// Runs a proof over every builtin kind, naming the kind that fails. What a kind needs besides features, the fixture has.
pub(super) fn for_every_kind(proof: impl Fn(&dyn DetectorKind)) {
    run_over(&|_| true, proof);
}

fn run_over(is_meant: &dyn Fn(&dyn DetectorKind) -> bool, proof: impl Fn(&dyn DetectorKind)) {
    for kind in builtin_kinds().into_iter().filter(|kind| is_meant(&**kind)) {
        let name = kind.name().to_owned();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| proof(&*kind)));
        assert!(result.is_ok(), "kind \"{name}\" does not conform");
    }
}

/// Rows of telemetry: a key, a second, and two features that may be missing. Besides, made of these, a log key that is
/// odd where a feature has a spike, and the session that it is of.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) key: Vec<Option<String>>,
    pub(super) second: Vec<i64>,
    pub(super) cpu: Vec<Option<f64>>,
    pub(super) memory: Vec<Option<f64>>,
}

impl Rows {
    pub(super) fn push(&mut self, key: &str, second: i64, cpu: f64, memory: f64) {
        self.key.push(Some(key.into()));
        self.second.push(second);
        self.cpu.push(Some(cpu));
        self.memory.push(Some(memory));
    }

    pub(super) fn batch(&self) -> RecordBatch {
        let time = self.second.iter().map(|second| second * 1_000);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(self.key.clone())),
            Arc::new(TimestampMillisecondArray::from_iter_values(time).with_timezone("UTC")),
            Arc::new(Float64Array::from(self.cpu.clone())),
            Arc::new(Float64Array::from(self.memory.clone())),
            Arc::new(StringArray::from(self.log_keys())),
            Arc::new(StringArray::from(self.sessions())),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    fn log_keys(&self) -> Vec<Option<String>> {
        let key = |(second, cpu): (&i64, &Option<f64>)| match cpu {
            Some(cpu) if *cpu > 80.0 => Some("odd".to_owned()),
            Some(_) => Some(format!("step {}", second.rem_euclid(SESSION_SECONDS))),
            None => None,
        };
        self.second.iter().zip(&self.cpu).map(key).collect()
    }

    fn sessions(&self) -> Vec<Option<String>> {
        let session = |(key, second): (&Option<String>, &i64)| {
            key.as_ref().map(|key| format!("{key} {}", second.div_euclid(SESSION_SECONDS)))
        };
        self.key.iter().zip(&self.second).map(session).collect()
    }
}

const SESSION_SECONDS: i64 = 10;

pub(super) fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("component", DataType::Utf8, true),
        Field::new("ts", time, false),
        Field::new("cpu", DataType::Float64, true),
        Field::new("memory", DataType::Float64, true),
        Field::new("log_key", DataType::Utf8, true),
        Field::new("session", DataType::Utf8, true),
    ]))
}

/// Options without which a kind would have nothing to prove on this fixture, or only after hours of training.
fn needs(kind: &dyn DetectorKind) -> Options {
    match kind.name() {
        "deeplog" => Options::new()
            .with("session", "session")
            .with("model", "ngram")
            .with("history", 3)
            .with("training", 30)
            .with("gap", Duration::from_secs(20))
            .with("swap_after", Duration::from_secs(10)),
        _ => Options::new(),
    }
}

/// Xorshift noise, near enough to normal: the sum of twelve uniform numbers.
#[derive(Clone, Debug)]
pub(super) struct Noise(pub(super) u64);

impl Noise {
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Where the last value of [`telemetry`] has a spike of this many deviations.
pub(super) fn is_spike(row: usize) -> bool {
    row > 700 && row.is_multiple_of(97)
}

/// One key with noise around 50 and 200, and spikes in `cpu`.
pub(super) fn telemetry(key: &str, rows: usize) -> Rows {
    let seed = key.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
    let mut noise = Noise(seed);
    let mut out = Rows::default();
    for row in 0..rows {
        let spike = if is_spike(row) { 40.0 + 10.0 * noise.uniform() } else { 0.0 };
        let (cpu, memory) = (50.0 + 2.0 * noise.normal() + spike, 200.0 + 5.0 * noise.normal());
        out.push(key, i64::try_from(row).unwrap(), cpu, memory);
    }
    out
}

/// Some of the rows.
pub(super) fn select(rows: &Rows, kept: &[usize]) -> Rows {
    Rows {
        key: kept.iter().map(|row| rows.key[*row].clone()).collect(),
        second: kept.iter().map(|row| rows.second[*row]).collect(),
        cpu: kept.iter().map(|row| rows.cpu[*row]).collect(),
        memory: kept.iter().map(|row| rows.memory[*row]).collect(),
    }
}

/// Rows of several keys, in order of time.
pub(super) fn interleave(parts: &[Rows]) -> Rows {
    let mut order: Vec<(i64, usize, usize)> = Vec::new();
    for (part, rows) in parts.iter().enumerate() {
        order.extend(rows.second.iter().enumerate().map(|(row, second)| (*second, part, row)));
    }
    order.sort_unstable();
    let mut out = Rows::default();
    for (_, part, row) in order {
        let rows = &parts[part];
        out.key.push(rows.key[row].clone());
        out.second.push(rows.second[row]);
        out.cpu.push(rows.cpu[row]);
        out.memory.push(rows.memory[row]);
    }
    out
}

/// Rows of training for kinds that would train for longer than the fixture lasts.
pub(super) const TRAINING: i64 = 400;

/// How a detector under test is set up.
pub(super) struct Setup {
    pub(super) options: Options,
    pub(super) partition_by: Vec<usize>,
    pub(super) models_max: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { options: Options::new(), partition_by: vec![0], models_max: 1_000 }
    }
}

impl Setup {
    pub(super) fn with(name: &str, value: impl Into<crate::options::OptionValue>) -> Self {
        Self { options: Options::new().with(name, value), ..Self::default() }
    }

    /// The options, with a `training` that is over before the fixture's first spikes: where a kind takes so many rows
    /// before its first score that there would be nothing to prove, and no test says otherwise.
    fn options(&self, kind: &dyn DetectorKind) -> Options {
        let specs = kind.options();
        let mut options = self.options.clone();
        let needs = needs(kind);
        for spec in &specs {
            let is_default = options.get(spec.name).is_none_or(|given| *given == spec.default);
            if let Some(needed) = needs.get(spec.name).filter(|_| is_default) {
                options.set(spec.name, needed.clone());
            }
        }
        if !reads_features(kind) {
            return options;
        }
        let Some(spec) = specs.into_iter().find(|spec| spec.name == "training") else {
            return self.options.clone();
        };
        let is_long = matches!(spec.default, OptionValue::Integer(rows) if rows > TRAINING);
        let given = self.options.get("training").unwrap_or(&spec.default);
        if is_long && *given == spec.default {
            return self.options.clone().with("training", TRAINING);
        }
        self.options.clone()
    }

    pub(super) fn plan(&self, kind: &dyn DetectorKind) -> Result<Arc<dyn DetectorPlan>> {
        kind.plan(&DetectorRequest {
            name: "test",
            schema: schema(),
            time: 1,
            partition_by: if reads_features(kind) { self.partition_by.clone() } else { Vec::new() },
            window_bounds: Vec::new(),
            options: &self.options(kind),
            models_max: self.models_max,
            executor: Arc::new(crate::background::Lazy),
            inference: Arc::new(crate::inference::OnWorkers),
        })
    }

    pub(super) fn detector(&self, kind: &dyn DetectorKind) -> Box<dyn Detector> {
        self.plan(kind).unwrap().detector()
    }

    /// A fresh detector over all rows in one batch.
    pub(super) fn run(&self, kind: &dyn DetectorKind, rows: &Rows) -> RecordBatch {
        process(&mut *self.detector(kind), &rows.batch(), usize::MAX)
    }
}

/// The plan of a spec over the fixture's schema.
pub(super) fn run_spec(spec: &DetectorSpec, rows: &Rows) -> RecordBatch {
    let kinds = builtin_kinds();
    let kind = kinds.iter().find(|kind| kind.name() == spec.kind).unwrap();
    let request = DetectorRequest::from_spec("test", spec, schema(), 1, 1_000).unwrap();
    let mut detector = kind.plan(&request).unwrap().detector();
    process(&mut *detector, &rows.batch(), usize::MAX)
}

/// Processes a batch cut into pieces, and joins the answers.
pub(super) fn process(
    detector: &mut dyn Detector,
    batch: &RecordBatch,
    piece: usize,
) -> RecordBatch {
    let mut out = Answers::default();
    let mut start = 0;
    while start < batch.num_rows() {
        let length = piece.min(batch.num_rows() - start);
        detector.process(&batch.slice(start, length), &mut out).unwrap();
        start += length;
    }
    concat_batches(out.rows[0].schema_ref(), &out.rows).unwrap()
}

/// Columns of an output, by name.
pub(super) trait Output {
    fn numbers(&self, name: &str) -> Vec<Option<f64>>;
    fn counts(&self, name: &str) -> Vec<u64>;
    fn texts(&self, name: &str) -> Vec<Option<String>>;
    fn flags(&self) -> Vec<Option<bool>>;
    fn detail(&self, name: &str) -> ArrayRef;
    fn scores(&self) -> Vec<Option<f64>> {
        self.numbers("score")
    }
}

impl Output for RecordBatch {
    fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        let column = self.column_by_name(name).cloned().unwrap_or_else(|| self.detail(name));
        column.as_primitive::<Float64Type>().iter().collect()
    }

    fn counts(&self, name: &str) -> Vec<u64> {
        let column = self.column_by_name(name).cloned().unwrap_or_else(|| self.detail(name));
        column.as_primitive::<UInt64Type>().values().to_vec()
    }

    fn texts(&self, name: &str) -> Vec<Option<String>> {
        let column = self.column_by_name(name).cloned().unwrap_or_else(|| self.detail(name));
        column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    fn flags(&self) -> Vec<Option<bool>> {
        let flags: &BooleanArray = self.column_by_name("is_anomaly").unwrap().as_boolean();
        flags.iter().collect()
    }

    fn detail(&self, name: &str) -> ArrayRef {
        let detail = self.column_by_name("detail").unwrap().as_struct();
        assert_eq!(detail.null_count(), 0);
        detail.column_by_name(name).unwrap().clone()
    }
}

/// Share of (spike, normal) pairs of scored rows in which the spike scores higher; ties count half.
pub(super) fn area_under_curve(scores: &[Option<f64>], is_positive: impl Fn(usize) -> bool) -> f64 {
    let scored = scores.iter().enumerate().filter_map(|(row, score)| Some((row, (*score)?)));
    let (positive, negative): (Vec<_>, Vec<_>) = scored.partition(|(row, _)| is_positive(*row));
    let mut wins = 0.0;
    for (_, high) in &positive {
        for (_, low) in &negative {
            wins += if high > low {
                1.0
            } else if high < low {
                0.0
            } else {
                0.5
            };
        }
    }
    wins / (positive.len() * negative.len()) as f64
}
