//! Replaying a recorded series through the same kind of pipeline, and printing what it finds.

use driftline::arrow::array::{Array, AsArray, RecordBatch};
use driftline::arrow::compute::{cast, concat_batches};
use driftline::arrow::datatypes::{DataType, Float64Type, TimeUnit};
use driftline::arrow::util::display::array_value_to_string;
use driftline::detectors::Anomaly;
use driftline::{Engine, FileReadOptions, infer_schema};

use crate::options::Replay;
use crate::{BoxResult, plot};

/// Anomalies printed in full.
const PRINTED_MAX: usize = 20;

pub fn run(options: &Replay) -> BoxResult<()> {
    let mut builder = Engine::builder();
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let engine = builder.build()?;
    engine.execute(&pipeline(options)?)?;
    let results = engine.subscribe("odd")?;
    let schema = results.schema();
    engine.start()?;

    let mut batches: Vec<RecordBatch> = Vec::new();
    for batch in results {
        batches.push(batch?);
    }
    let metrics = engine.metrics();
    engine.shutdown()?;
    let rows = concat_batches(&schema, &batches)?;
    let anomalies = Anomaly::from_batch(&rows)?;
    let source = metrics.source("replay").map_or((0, 0), |s| (s.rows, s.rows_malformed));
    println!(
        "{} rows read, {} skipped as malformed, {} judged",
        source.0,
        source.1,
        rows.num_rows()
    );
    println!("{} rows are anomalous", anomalies.len());
    for anomaly in anomalies.iter().take(PRINTED_MAX) {
        println!("  {}  {anomaly}", time_text(anomaly.time.0));
    }
    if anomalies.len() > PRINTED_MAX {
        println!("  ... and {} more", anomalies.len() - PRINTED_MAX);
    }
    if let Some(path) = &options.plot {
        plot::draw(path, &options.value, &series(&rows)?)?;
        println!("drawn to {}", path.display());
    }
    Ok(())
}

/// The pipeline for the columns that were named. Their types come from the file.
fn pipeline(options: &Replay) -> BoxResult<String> {
    let schema = infer_schema(&options.path, &FileReadOptions::default())?;
    let type_of = |column: &str| {
        schema.field_with_name(column).map(|field| field.data_type().clone()).map_err(|_| {
            let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            format!("the file has no column \"{column}\"; it has: {}", known.join(", "))
        })
    };
    type_of(&options.value)?;
    if !matches!(type_of(&options.time)?, DataType::Timestamp(..) | DataType::Int64) {
        return Err(format!("column \"{}\" does not hold timestamps", options.time).into());
    }
    let path = quoted(&options.path.display().to_string());
    let (mut columns, mut mapping) = (String::new(), String::new());
    let (mut partition, mut selected) = (String::new(), String::new());
    if let Some(key) = &options.key {
        type_of(key)?;
        columns = ", series TEXT".into();
        mapping = format!(", series={key}");
        partition = "PARTITION BY series ".into();
        selected = "series, ".into();
    }
    Ok(format!(
        "CREATE SOURCE replay (ts TIMESTAMP(3), value DOUBLE{columns}, WATERMARK FOR ts AS ts)
           WITH (path = {path}, order = 'event_time', columns = {});
         CREATE DETECTOR odd USING {} {partition}AS SELECT ts, {selected}value FROM replay",
        quoted(&format!("ts={}, value={}{mapping}", options.time, options.value)),
        options.detector,
    ))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn time_text(ns: i64) -> String {
    let times = driftline::arrow::array::TimestampNanosecondArray::from(vec![ns]);
    array_value_to_string(&times, 0).unwrap_or_else(|_| ns.to_string())
}

/// What is drawn: one point a row.
fn series(rows: &RecordBatch) -> BoxResult<Vec<plot::Point>> {
    let seconds = DataType::Timestamp(TimeUnit::Millisecond, None);
    let times =
        cast(&cast(rows.column_by_name("ts").ok_or("no ts")?, &seconds)?, &DataType::Int64)?;
    let times = times.as_primitive::<driftline::arrow::datatypes::Int64Type>();
    let values = rows.column_by_name("value").ok_or("no value")?.as_primitive::<Float64Type>();
    let detail = rows.column_by_name("detail").ok_or("no detail")?.as_struct();
    let bound = |name| -> BoxResult<_> {
        Ok(detail.column_by_name(name).ok_or("no bounds")?.as_primitive::<Float64Type>().clone())
    };
    let (lower, upper) = (bound("lower")?, bound("upper")?);
    let flags = rows.column_by_name("is_anomaly").ok_or("no is_anomaly")?.as_boolean();
    let optional = |array: &driftline::arrow::array::Float64Array, row: usize| {
        array.is_valid(row).then(|| array.value(row)).filter(|value| value.is_finite())
    };
    Ok((0..rows.num_rows())
        .filter_map(|row| {
            Some(plot::Point {
                time_ms: times.value(row),
                value: optional(values, row)?,
                bounds: optional(&lower, row).zip(optional(&upper, row)),
                is_anomaly: flags.is_valid(row) && flags.value(row),
            })
        })
        .collect())
}
