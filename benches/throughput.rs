//! Rows per second of whole queries, beside DataFusion computing the same once, in one batch, in the same run.
//!
//! ```text
//! cargo bench --bench throughput
//! ```
//!
//! Rows are generated before the clock starts. Both sides use one core: the engine one worker, DataFusion one
//! partition. Rounds alternate between the two and the median is taken, because machines are noisy. Results are
//! compared before any figure is printed.

// A bench prints and reads the clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use driftline::Engine;
use driftline::arrow::array::{
    AsArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType,
};

type BoxResult<T> = Result<T, Box<dyn Error>>;

const ROWS: usize = 5_000_000;
const BATCH_ROWS: usize = 8192;
const KEYS: u64 = 1_000;
const ROUNDS: usize = 5;
const SECOND: i64 = 1_000_000_000;
/// Event time that the rows cover: 10 windows of 10 s.
const SPAN_NS: i64 = 100 * SECOND;
const DISORDER_NS: i64 = 2 * SECOND;

const CREATE: &str =
    "CREATE SOURCE load (ts TIMESTAMP NOT NULL, host TEXT NOT NULL, value DOUBLE NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";

const AGGREGATES: &str = "count(*) AS n, avg(value) AS mean, stddev(value) AS deviation, min(value) AS least, max(value) AS most";

fn main() -> BoxResult<()> {
    let schema = schema();
    let batches = generate(&schema)?;
    println!(
        "filtered tumble of 10 s, five aggregates: {ROWS} rows, {KEYS} keys, {} s of disorder, batches of {BATCH_ROWS}",
        DISORDER_NS / SECOND
    );
    let streaming = format!(
        "SELECT host, window_start, {AGGREGATES} FROM TUMBLE(load, ts, INTERVAL '10 seconds')
         WHERE value > 0.1 GROUP BY host, window_start, window_end"
    );
    let batch = format!(
        "SELECT host, date_bin(INTERVAL '10 seconds', ts) AS window_start, {AGGREGATES} FROM load
         WHERE value > 0.1 GROUP BY host, date_bin(INTERVAL '10 seconds', ts)"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (mut ours, mut cores, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (found, seconds, busy) = stream(&streaming, &batches)?;
        let (expected, batch_seconds) = runtime.block_on(one_shot(&batch, &schema, &batches))?;
        check(&found, &expected)?;
        let rate = |seconds: f64| ROWS as f64 / seconds;
        println!(
            "round {}: driftline {:.2} M rows/s ({:.2} M per busy core), datafusion {:.2} M rows/s",
            round + 1,
            rate(seconds) / 1e6,
            rate(busy) / 1e6,
            rate(batch_seconds) / 1e6
        );
        ours.push(rate(seconds));
        cores.push(rate(busy));
        theirs.push(rate(batch_seconds));
    }
    println!("figure: tumble_rows_per_core = {:.0} rows/s", median(&mut cores));
    println!(
        "figure: tumble_share_of_batch = {:.2} ratio",
        median(&mut ours) / median(&mut theirs)
    );
    Ok(())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("host", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

/// Rows in order of arrival: event times advance evenly, each moved back by up to the disorder.
fn generate(schema: &SchemaRef) -> BoxResult<Vec<RecordBatch>> {
    let mut state = 42u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let hosts: Vec<String> = (0..KEYS).map(|key| format!("host-{key:04}")).collect();
    let mut batches = Vec::new();
    for start in (0..ROWS).step_by(BATCH_ROWS) {
        let rows = start..(start + BATCH_ROWS).min(ROWS);
        let (mut times, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let due = (row as i128 * i128::from(SPAN_NS) / ROWS as i128) as i64;
            times.push(due - (random() % DISORDER_NS as u64) as i64);
            keys.push(hosts[(random() % KEYS) as usize].as_str());
            values.push((random() >> 11) as f64 / (1u64 << 53) as f64);
        }
        batches.push(RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(TimestampNanosecondArray::from(times)),
                Arc::new(StringArray::from(keys)),
                Arc::new(Float64Array::from(values)),
            ],
        )?);
    }
    Ok(batches)
}

/// The engine's results, the seconds they took, and the seconds of processor time of the whole process.
fn stream(query: &str, batches: &[RecordBatch]) -> BoxResult<(Vec<RecordBatch>, f64, f64)> {
    let engine = Engine::builder().workers(1).build()?;
    engine.execute(CREATE)?;
    let results = engine.subscribe(query)?;
    let source = engine.source("load")?;
    let (begin, busy) = (Instant::now(), processor_seconds());
    for batch in batches {
        source.push(batch.clone())?;
    }
    engine.shutdown()?;
    let seconds = begin.elapsed().as_secs_f64();
    let busy = processor_seconds().zip(busy).map_or(seconds, |(after, before)| after - before);
    Ok((results.collect::<driftline::Result<_>>()?, seconds, busy.max(seconds)))
}

async fn one_shot(
    query: &str,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> BoxResult<(Vec<RecordBatch>, f64)> {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    let table = MemTable::try_new(schema.clone(), vec![batches.to_vec()])?;
    context.register_table("load", Arc::new(table))?;
    let begin = Instant::now();
    let results = context.sql(query).await?.collect().await?;
    Ok((results, begin.elapsed().as_secs_f64()))
}

/// Processor time of this process so far, where the system tells it (Linux).
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields after the command's closing parenthesis; user and system time are the 12th and 13th, in 1/100 s.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

type Rows = BTreeMap<(String, i64), (i64, f64, f64)>;

/// Count, mean and deviation by key and window.
fn rows(batches: &[RecordBatch]) -> Rows {
    let mut rows = Rows::new();
    for batch in batches {
        let hosts =
            driftline::arrow::compute::cast(batch.column(0), &DataType::Utf8).expect("text");
        let hosts = hosts.as_string::<i32>();
        let starts = batch.column(1).as_primitive::<TimestampNanosecondType>();
        let counts = batch.column(2).as_primitive::<Int64Type>();
        let means = batch.column(3).as_primitive::<Float64Type>();
        let deviations = batch.column(4).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let key = (hosts.value(row).to_owned(), starts.value(row));
            rows.insert(key, (counts.value(row), means.value(row), deviations.value(row)));
        }
    }
    rows
}

fn check(found: &[RecordBatch], expected: &[RecordBatch]) -> BoxResult<()> {
    let (found, expected) = (rows(found), rows(expected));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
    let same = found.len() == expected.len()
        && found.iter().zip(&expected).all(|(f, e)| {
            f.0 == e.0 && f.1.0 == e.1.0 && close(f.1.1, e.1.1) && close(f.1.2, e.1.2)
        });
    if same { Ok(()) } else { Err("the stream's results are not the batch's".into()) }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
