//! What a running query has done: figures of each operator on each worker, as EXPLAIN ANALYZE shows them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::TimestampNanosecondArray;
use arrow::util::display::array_value_to_string;
use driftline_operators::dataflow::{Counters, Meter};
use driftline_operators::time::EventTime;
use driftline_queries::ExplainFormat;
use serde::Serialize;

use crate::graph::describe::{Dataflow, Operator};
use crate::graph::render::render;
use crate::metrics::InferenceMetrics;

/// What the operators of one query have done; see [`Engine::analyze`](crate::Engine::analyze).
///
/// Figures are read one after another while the query runs: they agree once the engine has nothing to do.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Analysis {
    /// The query, as SHOW QUERIES names it.
    pub query: String,
    /// Its operators, each after those that it takes rows from.
    pub operators: Vec<OperatorAnalysis>,
    /// The inference service as a whole, where the query's detector is placed on it.
    pub inference: Option<InferenceMetrics>,
    #[serde(skip)]
    dataflow: Dataflow,
}

/// One operator of a query.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OperatorAnalysis {
    /// Its name, as EXPLAIN gives it.
    pub name: String,
    /// What it does.
    pub detail: String,
    /// Places of the operators that it takes rows from.
    pub inputs: Vec<usize>,
    /// Its figures on each worker.
    pub workers: Vec<WorkerAnalysis>,
}

/// What one operator has done on one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorkerAnalysis {
    /// The worker.
    pub worker: usize,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that it gave.
    pub rows_out: u64,
    /// Batches that came in.
    pub batches_in: u64,
    /// Batches that it gave.
    pub batches_out: u64,
    /// Rows left out because an expression failed on them.
    pub rows_failed: u64,
    /// Rows left out because a bound was reached.
    pub rows_refused: u64,
    /// How often it was run, whether or not there was something to do.
    pub turns: u64,
    /// Milliseconds that it was busy. Moving rows to other workers counts with the operator that they are moved to.
    pub busy_millis: f64,
    /// The watermark up to which it has given everything; none before the first, or where there is no event time.
    pub watermark: Option<EventTime>,
    /// Whether its input has ended, and it has given everything.
    pub has_ended: bool,
    /// By how many seconds of event time the watermark is behind the latest row that the query has read.
    pub lag_seconds: Option<f64>,
    /// Bytes of state, estimated as of the last closed window or epoch.
    pub state_bytes: u64,
}

impl Analysis {
    pub(crate) fn new(
        query: &str,
        dataflow: Dataflow,
        meters: &[Arc<Meter>],
        inference: Option<InferenceMetrics>,
    ) -> Self {
        let latest = meters.iter().map(|meter| meter.latest()).max().unwrap_or(EventTime::MIN);
        let mut operators: Vec<OperatorAnalysis> = Vec::new();
        for (place, operator) in dataflow.operators.iter().enumerate() {
            // An operator that is not measured by itself is the last of its part.
            let is_last =
                dataflow.operators.get(place + 1).is_none_or(|next| next.part != operator.part);
            let mut workers: Vec<WorkerAnalysis> = meters
                .iter()
                .filter(|meter| is_of(meter, operator, is_last))
                .map(|meter| figures(meter, latest))
                .collect();
            workers.sort_by_key(|figures| figures.worker);
            // Where rows stay on their worker, what comes in is what the operators before gave there.
            let is_told = workers.iter().any(|figures| figures.batches_in > 0);
            for figures in &mut workers {
                let before = operator.inputs.iter().filter_map(|input| operators.get(*input));
                let before = before.flat_map(|input| &input.workers);
                let before: Vec<_> = before.filter(|w| w.worker == figures.worker).collect();
                if operator.inputs.is_empty() {
                    (figures.rows_in, figures.batches_in) = (figures.rows_out, figures.batches_out);
                } else if !is_told {
                    figures.rows_in = before.iter().map(|w| w.rows_out).sum();
                    figures.batches_in = before.iter().map(|w| w.batches_out).sum();
                }
            }
            operators.push(OperatorAnalysis {
                name: operator.step.name.to_owned(),
                detail: operator.step.detail.clone(),
                inputs: operator.inputs.clone(),
                workers,
            });
        }
        Self { query: query.to_owned(), operators, inference, dataflow }
    }

    /// The dataflow as a Mermaid flowchart, with figures summed over workers.
    #[must_use]
    pub fn mermaid(&self) -> String {
        render(&self.dataflow, ExplainFormat::Mermaid, &|place| self.sums(place))
    }

    /// The dataflow in the DOT language of Graphviz, with figures summed over workers.
    #[must_use]
    pub fn dot(&self) -> String {
        render(&self.dataflow, ExplainFormat::Dot, &|place| self.sums(place))
    }

    /// Figures of an operator, summed over workers, in lines.
    fn sums(&self, place: usize) -> Vec<String> {
        let Some(operator) = self.operators.get(place) else { return Vec::new() };
        let sum =
            |figure: fn(&WorkerAnalysis) -> u64| operator.workers.iter().map(figure).sum::<u64>();
        let busy: f64 = operator.workers.iter().map(|worker| worker.busy_millis).sum();
        let mut lines = vec![
            format!("{} rows in, {} out", sum(|w| w.rows_in), sum(|w| w.rows_out)),
            format!("{} batches out, busy {busy:.1} ms", sum(|w| w.batches_out)),
        ];
        if let Some(slowest) = operator.workers.iter().min_by_key(|worker| worker.watermark) {
            lines.extend(slowest.progress());
        }
        lines.extend(
            Some(sum(|w| w.state_bytes)).filter(|b| *b > 0).map(|b| format!("state {b} bytes")),
        );
        lines
    }
}

/// Each operator with a line for each worker.
impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.query)?;
        let notes = |place: usize| {
            let workers = self.operators.get(place).map_or(&[][..], |operator| &operator.workers);
            workers.iter().map(ToString::to_string).collect()
        };
        f.write_str(&render(&self.dataflow, ExplainFormat::Text, &notes))?;
        match &self.inference {
            Some(inference) => write!(f, "\n{inference}"),
            None => Ok(()),
        }
    }
}

impl WorkerAnalysis {
    /// How far it has come.
    fn progress(&self) -> Option<String> {
        let watermark = match self.watermark {
            _ if self.has_ended => return Some("ended".to_owned()),
            Some(EventTime(ns)) => {
                let time = TimestampNanosecondArray::from(vec![ns]).with_timezone("+00:00");
                array_value_to_string(&time, 0).ok()?
            }
            None => return None,
        };
        let lag = self.lag_seconds.map(|seconds| format!(", {seconds} s behind the latest row"));
        Some(format!("watermark {watermark}{}", lag.unwrap_or_default()))
    }
}

impl fmt::Display for WorkerAnalysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "worker {}: {} rows of {} batches in, {} rows of {} batches out, busy {:.3} ms in {} turns",
            self.worker,
            self.rows_in,
            self.batches_in,
            self.rows_out,
            self.batches_out,
            self.busy_millis,
            self.turns,
        )?;
        if let Some(progress) = self.progress() {
            write!(f, ", {progress}")?;
        }
        for (figure, what) in [
            (self.state_bytes, "bytes of state"),
            (self.rows_failed, "rows failed"),
            (self.rows_refused, "rows refused"),
        ] {
            if figure > 0 {
                write!(f, ", {figure} {what}")?;
            }
        }
        Ok(())
    }
}

/// Whether a meter is an operator's: its own, or for the last operator of a part that of the part.
fn is_of(meter: &Meter, operator: &Operator, is_last: bool) -> bool {
    let is_own = meter.step == operator.step.name || (meter.step.is_empty() && is_last);
    meter.part == operator.part && is_own
}

fn figures(meter: &Meter, latest: EventTime) -> WorkerAnalysis {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let Counters { rows_in, rows_out, rows_failed, rows_refused, state_bytes, .. } =
        &meter.counters;
    let reached = meter.watermark();
    let watermark = Some(reached).filter(|at| *at != EventTime::MIN && *at != EventTime::MAX);
    let lag_ns =
        watermark.filter(|_| latest != EventTime::MIN).map(|at| latest.0.saturating_sub(at.0));
    WorkerAnalysis {
        worker: meter.worker,
        rows_in: read(rows_in),
        rows_out: read(rows_out),
        batches_in: read(&meter.batches_in),
        batches_out: read(&meter.batches_out),
        rows_failed: read(rows_failed),
        rows_refused: read(rows_refused),
        turns: read(&meter.turns),
        busy_millis: read(&meter.busy_ns) as f64 / 1e6,
        watermark,
        has_ended: reached == EventTime::MAX,
        lag_seconds: lag_ns.map(|ns| ns as f64 / 1e9),
        state_bytes: read(state_bytes),
    }
}
