//! The detector under test, through the public engine: rows in, scores, alarms and causes out.

use std::fmt::Write;
use std::sync::Arc;

use driftline::Engine;
use driftline::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::Float64Type;

use super::BoxResult;
use super::data::Component;
use super::judge::Said;

/// The kind that this bench is about.
pub(crate) const KIND: &str = "drift_insight";

/// What the detector said of one component's test part.
pub(crate) struct Verdicts {
    pub(crate) said: Said,
    /// What each metric adds to the score, per row of the test part.
    pub(crate) shares: Vec<Vec<f64>>,
}

/// The statements that create source and detector over `metrics` columns m1, m2, ...
/// with options besides the length of training, such as `, eps = 1`.
pub(crate) fn statements(
    metrics: usize,
    training: usize,
    options: &str,
    watermark: &str,
) -> String {
    let mut columns = String::new();
    let mut names = String::new();
    for metric in 1..=metrics {
        let _ = write!(columns, "m{metric} DOUBLE, ");
        let _ = write!(names, ", m{metric}");
    }
    format!(
        "CREATE SOURCE metrics (component TEXT, ts TIMESTAMP, {columns}{watermark});
         CREATE DETECTOR drift USING {KIND} PARTITION BY component WITH (training = {training}{options})
           AS SELECT component, ts{names} FROM metrics"
    )
}

/// Pushes the last `training` rows of each training part, and [`SETTLE_ROWS`] before them, then the test part, through
/// one worker, and returns what the detector said of the test parts.
pub(crate) fn run(
    components: &[Component],
    training: usize,
    options: &str,
) -> BoxResult<Vec<Verdicts>> {
    let engine = Engine::builder().workers(1).build()?;
    let metrics = components[0].rows[0].len();
    engine.execute(&statements(metrics, training, options, "WATERMARK FOR ts"))?;
    let results = engine.subscribe("drift")?;
    let source = engine.source("metrics")?;
    let reader = std::thread::spawn(move || results.collect::<driftline::Result<Vec<_>>>());
    for component in components {
        source.push(batch(component, first_row(component, training))?)?;
    }
    engine.shutdown()?;
    let batches = reader.join().map_err(|_| "the reader panicked")??;
    let mut all: Vec<Verdicts> = components
        .iter()
        .map(|_| Verdicts {
            said: Said { scores: Vec::new(), raised: Vec::new() },
            shares: Vec::new(),
        })
        .collect();
    for batch in &batches {
        read(batch, components, metrics, &mut all)?;
    }
    for (component, verdicts) in components.iter().zip(&mut all) {
        let (expected, first) = (component.rows.len(), first_row(component, training));
        let Verdicts { said, shares } = verdicts;
        if said.scores.len() + first != expected {
            let rows = said.scores.len();
            return Err(format!("{}: {rows} rows, not {}", component.name, expected - first).into());
        }
        let before = component.train_rows - first;
        said.scores.drain(..before);
        said.raised.drain(..before);
        shares.drain(..before);
    }
    Ok(all)
}

/// Rows that a first model has until it counts, so that it scores the whole test part.
pub(crate) const SETTLE_ROWS: usize = 2;

fn first_row(component: &Component, training: usize) -> usize {
    component.train_rows.saturating_sub(training + SETTLE_ROWS)
}

fn batch(component: &Component, first: usize) -> BoxResult<RecordBatch> {
    let rows = &component.rows[first..];
    let names = StringArray::from(vec![component.name.as_str(); rows.len()]);
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("component".into(), Arc::new(names)),
        ("ts".into(), Arc::new(TimestampNanosecondArray::from(component.times[first..].to_vec()))),
    ];
    for metric in 0..rows[0].len() {
        let present = |row: &Vec<f64>| Some(row[metric]).filter(|x| !x.is_nan());
        let values: Float64Array = rows.iter().map(present).collect();
        columns.push((format!("m{}", metric + 1), Arc::new(values)));
    }
    let columns = columns.into_iter().map(|(name, values)| (name, values, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Appends the rows of a result to what is known of their components; rows of one component come in order.
fn read(
    batch: &RecordBatch,
    components: &[Component],
    metrics: usize,
    all: &mut [Verdicts],
) -> BoxResult<()> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no {name}"));
    let names = column("component")?.as_string::<i32>();
    let scores = column("score")?.as_primitive::<Float64Type>();
    let raised = column("is_anomaly")?.as_boolean();
    let detail = column("detail")?.as_struct();
    let lists = detail.column_by_name("attribution").ok_or("no attribution")?.as_list::<i32>();
    for row in 0..batch.num_rows() {
        let name = names.value(row);
        let place = components.iter().position(|component| component.name == name);
        let verdicts = &mut all[place.ok_or("a component that was never pushed")?];
        verdicts.said.scores.push(if scores.is_valid(row) { scores.value(row) } else { f64::NAN });
        verdicts.said.raised.push(raised.is_valid(row) && raised.value(row));
        let mut shares = vec![0.0; metrics];
        if lists.is_valid(row) {
            let entries = lists.value(row);
            let entries = entries.as_struct();
            let features = entries.column(0).as_string::<i32>();
            let values = entries.column(1).as_primitive::<Float64Type>();
            for entry in (0..entries.len()).filter(|entry| values.is_valid(*entry)) {
                let number = features.value(entry).trim_start_matches('m').parse::<usize>()?;
                shares[number - 1] = values.value(entry);
            }
        }
        verdicts.shares.push(shares);
    }
    Ok(())
}
